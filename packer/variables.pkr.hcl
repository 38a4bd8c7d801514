variable "runner_version" {
  type        = string
  description = "Version of actions/runner. GitHub serves a version until about two months after the next one."
}

variable "runner_sha256" {
  type        = string
  description = "sha256 of its tarball for Linux x64."
  default     = ""
}

variable "family" {
  type        = string
  description = "Family of the template, as the pool files name it."
}

variable "ostemplate" {
  type        = string
  description = "Base image on the node: pveam available --section system, then pveam download."
}

variable "ostemplate_checksum" {
  type        = string
  description = "Its checksum, \"sha512:...\": of /var/lib/vz/template/cache/FILE by sha512sum on a node that you trust; pveam download checks it against Proxmox's signed list. Needs ostemplate_url, host_ssh in the source, or a build on the node. Empty: whatever is called so is built on."
  default     = ""
}

variable "ostemplate_url" {
  type        = string
  description = "Where Proxmox fetches it from when it is not there, and checks it: takes Sys.AccessNetwork on the node. Empty: it is there."
  default     = ""
}

variable "smoke_commands" {
  type        = list(string)
  description = "Commands that must succeed in a clone. They take Proxmox VE 9.1, or host_ssh in the source before; without either, [] leaves them out."
  default     = ["/usr/lib/dayfly/docker-proof"]
}

variable "node" {
  type        = string
  description = "Node to build on."
}

variable "storage" {
  type        = string
  description = "Storage of the template and its clones."
}

variable "bridge" {
  type        = string
  description = "Bridge of the build's container, with DHCP and a way to the packages."
  default     = "vmbr0"
}

variable "vlan" {
  type        = string
  description = "VLAN of the build's container; empty is none."
  default     = ""
}

variable "denied_networks" {
  type        = list(string)
  description = "Networks that no job may reach, [\"10.0.0.0/8\"]: those of Proxmox's own interface first."
  default     = []
}

variable "allowed_networks" {
  type        = list(string)
  description = "What may be reached in them all the same: DNS servers, mirrors."
  default     = []
}

variable "template_pool" {
  type        = string
  description = "Resource pool of the templates."
  default     = "dayfly-templates"
}

variable "runner_pool" {
  type        = string
  description = "Resource pool of the runners' containers."
  default     = "dayfly-runners"
}

variable "cores" {
  type        = number
  description = "Cores of the build's container, and of runners whose pool names none."
  default     = 2
}

variable "memory" {
  type        = number
  description = "Memory of the build's container in MiB, and of runners whose pool names none."
  default     = 4096
}

variable "disk" {
  type        = string
  description = "Size of the root file system: what a job may fill."
  default     = "16G"
}

variable "fuse" {
  type        = bool
  description = "Give containers /dev/fuse, for fuse-overlayfs. Root on the node only."
  default     = false
}

variable "storage_driver" {
  type        = string
  description = "Docker's storage driver: auto, overlay2, fuse-overlayfs or vfs."
  default     = "auto"
}

variable "registry_mirror" {
  type        = string
  description = "Mirror of Docker Hub; empty is none."
  default     = ""
}

variable "packages" {
  type        = list(string)
  description = "Packages that jobs expect beyond the usual ones."
  default     = []
}

variable "replicas" {
  type        = number
  description = "Copies of the template: Proxmox makes one clone of a template at a time."
  default     = 1
}

variable "keep_releases" {
  type        = number
  description = "Versions to keep beside those that pools pin or that have clones."
  default     = 3
}

variable "pools_repository" {
  type        = string
  description = "Git repository of the pool files. Not needed with -except=promote,prune."
  default     = ""
}

variable "pools_branch" {
  type        = string
  description = "Branch that the daemon follows."
  default     = "main"
}

variable "pools_path" {
  type        = string
  description = "Directory of the pool files in the repository."
  default     = ""
}
