# Runners of one repository, on a template version that changes by commit only.
template "ubuntu-24-pinned" {
  family  = "ubuntu-24.04"
  version = "2.335.1-1"
}

pool "release" {
  description = "Signs and publishes releases of acme/app"
  labels      = ["self-hosted", "release"]
  template    = template.ubuntu-24-pinned

  github {
    repo = "acme/app" # a pool that names its own scope takes none from defaults
  }

  scale {
    max = 1
  }

  network {
    vlan = 250 # a network of its own; the bridge is as in defaults
  }

  retry {
    attempts = 3
    backoff  = "5s..2m"
  }
}
