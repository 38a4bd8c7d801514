# LVM-thin, what Proxmox sets up on ext4: clones are snapshots and take no
# space of their own, and Docker's overlay2 works on the ext4 inside.
node       = "pve"
storage    = "local-lvm"
family     = "debian-13"
ostemplate = "local:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst"

# Pin it: on a node, after "pveam download local debian-13-standard_13.1-1_amd64.tar.zst",
#   sha512sum /var/lib/vz/template/cache/debian-13-standard_13.1-1_amd64.tar.zst
# ostemplate_checksum = "sha512:..."

# Jobs that start together need copies: a template is locked while it is cloned.
replicas = 2

pools_repository = "https://github.com/acme/pools.git"
pools_path       = "pools"
