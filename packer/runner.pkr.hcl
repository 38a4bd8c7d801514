# A template of GitHub Actions runners, and its way to the pools:
#
#   packer init .
#   packer build -var-file=examples/lvm-thin.pkrvars.hcl .
#
# Where Proxmox is and who builds comes from the environment: PROXMOX_URL,
# PROXMOX_USERNAME (user@realm!tokenid) and PROXMOX_TOKEN. The build needs no
# root. To build and not promote: packer build -except=promote,prune ...

packer {
  required_version = ">= 1.11.0"

  required_plugins {
    dayfly = {
      version = ">= 0.1.0"
      source  = "github.com/dayfly-ci/dayfly"
    }
  }
}

# The runner: pinned in runner.auto.pkrvars.hcl. Without the sha256, the notes
# of the release are asked.
data "dayfly-runner-release" "runner" {
  version = var.runner_version
  sha256  = var.runner_sha256
}

# The next version of the family: the runner's, and a number.
data "dayfly-template" "runner" {
  family       = var.family
  base_version = var.runner_version
}

source "dayfly-lxc" "runner" {
  node = var.node
  pool = var.template_pool

  ostemplate          = var.ostemplate
  ostemplate_checksum = var.ostemplate_checksum
  ostemplate_url      = var.ostemplate_url
  cores               = var.cores
  memory              = var.memory

  rootfs {
    storage = var.storage
    size    = var.disk
  }

  network_adapters {
    bridge   = var.bridge
    vlan_tag = var.vlan
    ip       = "dhcp"
  }

  # Clones inherit it. The policies: nothing comes in, the rest goes out.
  firewall {
    allow_out = var.allowed_networks
    deny_out  = var.denied_networks
  }

  features {
    nesting = true # Docker needs it; a token may set it
    fuse    = var.fuse
  }

  communicator = "ssh"
  ssh_username = "root"

  template_family  = var.family
  template_version = data.dayfly-template.runner.next_version
  replicas         = var.replicas

  # A throw-away clone must boot, get an address and run these commands: Docker
  # runs a container there. A token alone gets them into the clone from Proxmox
  # VE 9.1 on; before, give host_ssh or build on the node.
  smoke_test {
    commands = var.smoke_commands
    timeout  = "3m"
  }
}

build {
  sources = ["source.dayfly-lxc.runner"]

  provisioner "dayfly-runner" {
    version  = data.dayfly-runner-release.runner.version
    url      = data.dayfly-runner-release.runner.url
    sha256   = data.dayfly-runner-release.runner.sha256
    packages = var.packages

    docker {
      storage_driver  = var.storage_driver
      registry_mirror = var.registry_mirror
    }
  }

  post-processors {
    # First, so that the manifest tells of a template that is not promoted.
    post-processor "manifest" {
      output     = "manifest.json"
      strip_path = true
    }

    # The commit that rolls the pools.
    post-processor "dayfly-promote" {
      name       = "promote"
      repository = var.pools_repository
      branch     = var.pools_branch
      path       = var.pools_path
    }

    post-processor "dayfly-prune" {
      name          = "prune"
      repository    = var.pools_repository
      branch        = var.pools_branch
      path          = var.pools_path
      runner_pool   = var.runner_pool
      keep_releases = var.keep_releases
    }
  }
}
