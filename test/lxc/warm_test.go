package lxc

import (
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// A container that waits for its JIT config has booted and does nothing, and what
// it has done shows the root half that it had none; when the config appears, as
// one file in memory, the runner starts at once.
func TestWaitingContainerTakesItsConfigFromAFile(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	g := w.clone(t, w.template(t))
	w.Proxmox.SetFirewall(g.vmid, map[string]string{"enable": "1", "policy_in": "DROP", "policy_out": "ACCEPT", "macfilter": "1", "dhcp": "1"})
	g.set(map[string]string{"net0": "name=eth0,bridge=vmbr0,ip=dhcp,firewall=1"})
	g.adopt()
	g.start()
	g.until("it waits", func() bool {
		out, _ := g.exec("systemctl is-active dayfly-runner.service multi-user.target; ls -d /run/dayfly")
		return out == "active\nactive\n/run/dayfly"
	})
	half := w.half(t)
	used := func() time.Duration {
		s, err := half.Stats(t.Context(), fleet.VMID(g.vmid))
		if err != nil {
			t.Fatal(err)
		}
		return s.CPU
	}
	g.until("nothing in it works", func() bool {
		before := used()
		<-time.After(500 * time.Millisecond)
		return used()-before < 2*time.Millisecond
	})
	id := g.job("echo hello")
	config := g.mint()
	facts := map[string]string{"DAYFLY_POOL": "linux", "DAYFLY_NODE": "pve"}
	if _, err := half.Inject(t.Context(), fleet.VMID(g.vmid), g.name, fleet.NewSecret(config), facts, nil); err != nil {
		t.Fatal(err)
	}
	g.ended()
	j, _ := w.GitHub.Job(id)
	if log := w.GitHub.JobLog(id); j.Conclusion != hub.Success || !strings.Contains(log, "Pool: linux\nNode: pve\nContainer: "+g.name) {
		t.Errorf("the job ended with %q:\n%s", j.Conclusion, log)
	}
}
