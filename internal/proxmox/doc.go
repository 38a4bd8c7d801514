// Package proxmox is the adapter to Proxmox VE: it lists, clones, configures,
// starts and destroys containers, and finds templates.
//
// Every answer of the API becomes a value of package fleet or one of its error
// kinds, with Proxmox's own reason kept. What may have happened although the
// answer was lost is looked up, by task and by VMID, before anything is
// reported; no POST is ever sent twice.
//
// The package decides nothing, keeps nothing on disk, and never touches a VMID
// outside its range or a container whose manifest it did not sign. It is the
// only importer of go-proxmox, of which it uses authentication, encoding and
// decoding; transport errors, task waiting and response types are its own,
// because go-proxmox v0.8.2 takes 404, 502 and 595 to 599 for success, drops
// Proxmox's reasons, and fails to decode fractional cpulimits.
package proxmox
