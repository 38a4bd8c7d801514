package lxc

import (
	"strings"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// A container that waits for its JIT config has booted and does nothing; when
// the config appears, as one file in memory, the runner starts at once.
func TestWaitingContainerTakesItsConfigFromAFile(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	g := w.clone(t, w.template(t))
	w.Proxmox.SetFirewall(g.vmid, map[string]string{"enable": "1", "policy_in": "DROP", "policy_out": "ACCEPT", "macfilter": "1", "dhcp": "1"})
	g.set(map[string]string{"net0": "name=eth0,bridge=vmbr0,ip=dhcp,firewall=1"})
	g.start()
	g.until("it waits", func() bool {
		out, _ := g.exec("systemctl is-active dayfly-runner.service multi-user.target; ls -d /run/dayfly")
		return out == "active\nactive\n/run/dayfly"
	})
	id := g.job("echo hello")
	config := g.mint()
	if out, err := g.exec("umask 077; cd /run/dayfly; printf '%s\nDAYFLY_POOL=linux\nDAYFLY_NODE=pve\n' '" +
		sim.JITVariable + "=" + config + "' >.jit; mv .jit jit"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	g.ended()
	j, _ := w.GitHub.Job(id)
	if log := w.GitHub.JobLog(id); j.Conclusion != hub.Success || !strings.Contains(log, "Pool: linux\nNode: pve\nContainer: "+g.name) {
		t.Errorf("the job ended with %q:\n%s", j.Conclusion, log)
	}
}
