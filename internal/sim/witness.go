package sim

import (
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// witness stands in for the simulated guests where containers are real: it
// sees them come and go, and judges the same promises. A runner is known by
// its name, which is its container's host name.
type witness struct{ w *World }

// Boot implements pve.Guest.
func (o *witness) Boot(run pve.Running) {
	o.w.count(func(t *Tally) { t.Boots++ })
	if config := run.Env[JITVariable]; config != "" {
		o.w.watchJIT(config, run)
	}
}

// Halt implements pve.Guest: a live job may not have been in it, unless the
// container went down by itself.
func (o *witness) Halt(_ string, vmid int) {
	who := o.w.stoppedBy(vmid)
	k, there := o.w.Proxmox.Container(vmid)
	if who == "" || !there {
		return
	}
	host := k.Config["hostname"]
	for _, j := range o.w.GitHub.Jobs() {
		if j.Runner == host && j.Status == hub.StatusInProgress {
			o.w.judgeKill(j.ID, vmid, host, who, time.Since(j.Started))
		}
	}
}
