# For Packer's registry of integrations.
integration {
  name        = "dayfly"
  description = "Versioned Proxmox VE container templates, and what GitHub Actions runners need in them."
  identifier  = "packer/dayfly-ci/dayfly"
  flags       = ["hcp-ready"]
  docs {
    process_docs    = true
    readme_location = "./README.md"
    external_url    = "https://github.com/dayfly-ci/dayfly"
  }
  license {
    type = "Apache-2.0"
    url  = "https://github.com/dayfly-ci/dayfly/blob/main/LICENSE"
  }
  component {
    type = "builder"
    name = "dayfly-lxc"
    slug = "lxc"
  }
  component {
    type = "provisioner"
    name = "dayfly-runner"
    slug = "runner"
  }
  component {
    type = "data-source"
    name = "dayfly-runner-release"
    slug = "runner-release"
  }
  component {
    type = "data-source"
    name = "dayfly-template"
    slug = "template"
  }
  component {
    type = "post-processor"
    name = "dayfly-promote"
    slug = "promote"
  }
  component {
    type = "post-processor"
    name = "dayfly-prune"
    slug = "prune"
  }
}
