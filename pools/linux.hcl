# General purpose runners. Three containers are kept cloned and stopped, so
# that a job waits for a start only.
pool "linux-x64" {
  description = "General purpose runners"
  labels      = concat(local.linux, ["dayfly"])

  scale {
    max   = 24
    spare = 3
  }

  size {
    cores  = 4
    memory = "8GiB"
    swap   = "0"
  }
}

# Builds of code that nobody has reviewed: no private network may be reached but
# the name server and the cache.
pool "linux-guarded" {
  description = "Builds of proposed changes"
  labels      = concat(local.linux, ["dayfly", "guarded"])

  scale {
    max = 4
  }

  network {
    egress = "internet"
    allow  = ["10.20.0.1:53/udp", "10.20.0.5:3128"]
  }

  env = {
    HTTP_PROXY  = "http://10.20.0.5:3128"
    HTTPS_PROXY = "http://10.20.0.5:3128"
    NO_PROXY    = "localhost,127.0.0.1"
  }
}

# Few and large, for builds that want a machine to themselves.
pool "linux-large" {
  description = "Builds that need memory"
  labels      = concat(local.linux, ["dayfly", "large"])

  scale {
    max = 4
  }

  placement {
    nodes        = ["pve1", "pve2"]
    max_per_node = 2
  }

  size {
    cores  = 16
    memory = "64GiB"
    swap   = "0"
    disk   = "100GiB"

    cpu_units = 50 # give way to the small runners where processors are short
  }

  timeouts {
    job = "12h"
  }
}
