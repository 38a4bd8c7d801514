# What holds for all pools. Files of one directory are one configuration: split
# it as you like, the order does not matter.

dayfly {
  schema = 1
}

locals {
  linux = ["self-hosted", "linux", "x64"]
}

limits {
  max      = 40 # containers of all pools together
  per_node = 30
}

# Merged under every pool; a pool's own value wins.
defaults {
  template = template.ubuntu-24

  github {
    org   = "acme"
    group = "proxmox"
  }

  network {
    bridge = "vmbr0"
    vlan   = 240
  }

  timeouts {
    idle = "5m"
    job  = "6h"
  }
}

# Without a version, a pool follows the newest one.
template "ubuntu-24" {
  family = "ubuntu-24.04"
}
