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

    cpu_units = 50 # give way to the small runners where processors are short
  }

  timeouts {
    job = "12h"
  }
}
