package daemon_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// TestFullStorageGetsNoContainer: nothing is cloned where less is free than the
// pool reserves, the job is told why, and it runs once there is room.
func TestFullStorageGetsNoContainer(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.w.Proxmox.FillStorage(pve.LabStorage, 99<<30)
		time.Sleep(2 * time.Minute)
		id := p.job("acme/app", 10*time.Second)
		time.Sleep(2 * time.Minute)
		p.made(0, 0)
		const want = "storage local-zfs of node pve has 1024 MiB free, less than pool linux reserves: 2048"
		if why := p.why(id); !strings.Contains(why, want) {
			p.t.Errorf("explained as %q, want %q", why, want)
		}
		if n := p.status().Nodes; len(n) != 1 || len(n[0].Stores) != 1 || n[0].Stores[0].FreeMiB != 1024 {
			p.t.Errorf("nodes in the status: %+v, want 1024 MiB free", n)
		}
		p.w.Proxmox.FillStorage(pve.LabStorage, 50<<30)
		p.served(3 * time.Minute)
		p.succeeded(id)
	})
}
