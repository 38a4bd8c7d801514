package pve

import (
	"fmt"
	"strconv"
)

// What a failed command of pct(1) exits with (PVE::CLIHandler: die).
const pctFailed = 255

// PCT is the node's own tool pct(1), run by root on the node that has the
// container: "unlock ID" and "destroy ID", as the root half calls them, said and
// refused as Proxmox does (pve-container, PVE/CLI/pct.pm and API2/LXC.pm). It
// returns the exit code and what it says.
func (c *Cluster) PCT(args ...string) (code int, said string) {
	if len(args) != 2 {
		return pctFailed, "400 not enough arguments"
	}
	vmid, err := strconv.Atoi(args[1])
	if err != nil {
		return pctFailed, "400 Parameter verification failed.\nvmid: type check ('integer') failed"
	}
	k, there := c.Container(vmid)
	if !there {
		return pctFailed, fmt.Sprintf("Configuration file 'nodes/NODE/lxc/%d.conf' does not exist", vmid)
	}
	switch args[0] {
	case "unlock":
		c.Unlock(vmid)
		return 0, ""
	case "destroy":
	default:
		return pctFailed, "ERROR: unknown command 'pct " + args[0] + "'"
	}
	switch {
	case k.Lock != "":
		return pctFailed, fmt.Sprintf("CT is locked (%s)", k.Lock)
	case k.Running:
		return pctFailed, fmt.Sprintf("unable to destroy CT %d - container is running", vmid)
	case !c.Remove(vmid):
		return pctFailed, fmt.Sprintf("unable to destroy CT %d: it has just changed", vmid)
	}
	return 0, ""
}
