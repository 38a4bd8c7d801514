# ZFS: clones are linked to the template, which stays as long as they do.
#
# Docker's overlay2 works on OpenZFS 2.2 and later; the provisioner tries it
# with a mount. On an older one it stops and says so: then set fuse = true,
# which takes root on the node (host_ssh in the source), and fuse-overlayfs is
# chosen, at a quarter of the speed.
node       = "pve"
storage    = "local-zfs"
family     = "ubuntu-24.04"
ostemplate = "local:vztmpl/ubuntu-24.04-standard_24.04-2_amd64.tar.zst"

# Pin it: on a node, after "pveam download local ubuntu-24.04-standard_24.04-2_amd64.tar.zst",
#   sha512sum /var/lib/vz/template/cache/ubuntu-24.04-standard_24.04-2_amd64.tar.zst
# ostemplate_checksum = "sha512:..."

storage_driver = "auto"
replicas       = 2

pools_repository = "https://github.com/acme/pools.git"
pools_path       = "pools"
