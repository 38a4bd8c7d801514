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

  # A new template version: a boot without a job, five jobs one at a time, then
  # everything; for a day it is rolled back by itself if its runners fail.
  rollout {
    smoke = 1
    wait  = "60s"
    bake  = "24h"

    canary {
      jobs           = 5
      max_concurrent = 1
    }
  }
}

# Without a version, a pool follows the newest one.
template "ubuntu-24" {
  family = "ubuntu-24.04"
}
