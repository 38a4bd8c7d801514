# The daemon's configuration: copy it to /etc/dayfly/dayfly.hcl, fill in your
# names and check it with "dayfly validate --config /etc/dayfly/dayfly.hcl".
# Every key that may be left out is shown with its default, commented out.

proxmox {
  url           = "https://127.0.0.1:8006"
  template_pool = "dayfly-templates" # resource pool of the templates
  runner_pool   = "dayfly-runners"   # resource pool of the runners' containers
  vmids         = "20000-20999"      # for runners only

  # USER@REALM!ID=SECRET, in a systemd credential (see dayfly.service) or in a
  # file that only its owner can read.
  token_credential = "pve-token"
  # token_file     = "/etc/dayfly/credentials/pve-token"

  # ca_file     = "" # the system's; a node's own is /etc/pve/pve-root-ca.pem
  # server_name = "" # in the certificate; the host of url
}

github {
  app                       = 12345 # the App's number or client id
  key_credential            = "github-app.pem"
  webhook_secret_credential = "webhook-secret"
  # key_file, webhook_secret_file: as with token_file
  # url  = "https://api.github.com"
  # poll = "1m" # how often queued jobs are asked for, besides deliveries

  # What GitHub allows a minute and endpoint: a read is one point, a write five.
  # A GitHub Enterprise Server may allow more.
  # points = 900
}

pools {
  git {
    url = "https://github.com/acme/pools"
    # branch   = "" # the repository's own
    # path     = "" # the top
    # interval = "1m"
    # ca_file  = "" # the system's

    # A private repository: with https a token, which the App makes itself where
    # it may read the contents of the repository; with ssh a deploy key.
    # github_app = false
    # token_credential, token_file
    # ssh_key_credential, ssh_key_file and known_hosts_file

    # A new commit must follow the one in force, so that a force push is noticed.
    # allow_rewrite = false

    # Whose commits are obeyed; without this block, everybody's who may push. What
    # GitHub's own buttons commit is signed by GitHub (https://github.com/web-flow.gpg).
    # verify {
    #   mode                 = "head" # "strict": every commit since the one in force
    #   allowed_signers_file = "/etc/dayfly/allowed_signers" # as of ssh-keygen -Y
    #   gpg_keyring_file     = "/etc/dayfly/keyring.asc"
    # }
  }
  # dir = "/etc/dayfly/pools" # instead of git
}

daemon {
  # GitHub's deliveries arrive at /webhook, over a proxy that speaks TLS.
  # listen       = "127.0.0.1:8484"
  # admin_socket = "/run/dayfly/dayfly.sock"
  # state_dir    = "/var/lib/dayfly"
  # log_level    = "info" # debug, info, warn or error
  # log_format   = "json" # text on a terminal
}

# The root half on this node ("dayfly host", dayfly-host.service): JIT configs
# reach containers that run, and ends and evidence are told. Without this block
# it is used if its socket is there.
host {
  # socket = "/run/dayfly-host.sock"
  # user   = "dayfly" # who may ask it, beside root
  # name   = ""       # of this node, as Proxmox calls it; the host's name

  # A root half on a node that the daemon is not on listens for it, and the
  # daemon names each such node. "dayfly host keys" makes the keys of both sides.
  # listen    = "" # "10.0.0.2:8485"
  # keys_file = "" # or keys_credential
  # node "pve2" {
  #   address = "10.0.0.2:8485"
  # }

  # Where things are that Proxmox has in one place.
  # pve_dir    = "/etc/pve"
  # cgroup_dir = "/sys/fs/cgroup"
  # pct        = ["/usr/sbin/pct"] # under systemd-run, outside of the root half's confinement
}
