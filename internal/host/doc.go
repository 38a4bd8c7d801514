// Package host is the root half: the small service on a Proxmox node that
// does for the daemon what only root can do there, and the client that asks
// it.
//
// It brings a JIT config into a running container, tells at once when a
// container starts or ends, sees the runner's worker process, keeps what a job
// has left when its container goes, and mends what Proxmox left half-done.
// Each is refused unless the VMID is in our range, in our resource pool and
// carries a manifest that the instance's key signed.
//
// What runs in a container is hostile. The root half never runs anything in
// it, opens only regular files of file systems that were there before a job
// was, and follows no link; it bounds what it reads and how long it takes. No
// argument of a caller reaches a command line but a VMID, as digits.
//
// The package decides nothing: without it, dayfly loses speed and evidence.
package host
