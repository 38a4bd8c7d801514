package lxc

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// shield is a container's firewall in one line.
func (w *world) shield(vmid int) string {
	options, rules := w.sim.Firewall(vmid)
	text := fmt.Sprint(options)
	for _, r := range rules {
		text += " " + strings.Join([]string{r["type"], r["action"], r["dest"] + r["dport"], r["enable"]}, ",")
	}
	return text
}

const defaultShield = "map[dhcp:1 enable:1 ipfilter:0 macfilter:1 policy_in:DROP policy_out:ACCEPT]"

func TestTemplateIsShielded(t *testing.T) {
	w := newWorld(t, pve.Config{})
	a := w.mustBuild()
	if got := w.shield(int(a.VMID)); got != defaultShield {
		t.Errorf("the firewall is %s, want %s", got, defaultShield)
	}
	if c, _ := w.sim.Container(int(a.VMID)); netOption(c.Config["net0"], "firewall") != "1" {
		t.Errorf("net0 is %s, want firewall=1 in it", c.Config["net0"])
	}
}

func TestFirewallIsAsConfigured(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.set("replicas", 2)
	w.set("firewall", map[string]any{"policy_in": "REJECT", "policy_out": "DROP", "macfilter": false,
		"allow_out": []string{"10.0.0.53"}, "deny_out": []string{"10.0.0.0/8", "fd00::/8"}, "security_groups": []string{"runners"}})
	// A rule whose answer is lost is not there twice.
	w.on(`POST .*/firewall/rules`, 2, stage.Fault{Lose: true})
	w.mustBuild()
	want := "map[dhcp:1 enable:1 ipfilter:0 macfilter:0 policy_in:REJECT policy_out:DROP]" +
		" out,ACCEPT,10.0.0.53,1 out,DROP,10.0.0.0/8,1 out,DROP,fd00::/8,1 group,runners,,1"
	for _, c := range w.templates() {
		if got := w.shield(c.VMID); got != want {
			t.Errorf("the firewall of %d is %s, want %s", c.VMID, got, want)
		}
	}
	w.left(2)
}

func TestNoFirewallIsLeftAlone(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.set("firewall", map[string]any{"enable": false})
	a := w.mustBuild()
	if options, rules := w.sim.Firewall(int(a.VMID)); options != nil || rules != nil {
		t.Errorf("the firewall is %v %v, want none", options, rules)
	}
	if c, _ := w.sim.Container(int(a.VMID)); strings.Contains(c.Config["net0"], "firewall") {
		t.Errorf("net0 is %s", c.Config["net0"])
	}
}

// A clone of a shielded template is open while it is provisioned, and shielded
// as its own configuration says in the end.
func TestSourceTemplatesFirewallIsReplaced(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.set("firewall", map[string]any{"deny_out": []string{"10.0.0.0/8"}})
	first := w.mustBuild()
	w.sim.SetFirewall(int(first.VMID), map[string]string{"enable": "1", "ipfilter": "1", "log_level_in": "info"},
		map[string]string{"type": "out", "action": "DROP", "dest": "10.0.0.0/8", "comment": "dayfly"},
		map[string]string{"type": "out", "action": "DROP", "dest": "10.1.2.3", "enable": "1", "comment": "of a person"})
	w.set("ostemplate", nil)
	w.set("rootfs", nil)
	w.set("network_adapters", nil)
	w.set("source_template", map[string]any{"family": "debian-13"})
	w.set("template_version", "2")
	w.set("firewall", nil)
	during := ""
	w.fault = func(r *http.Request) stage.Fault {
		if strings.HasSuffix(r.URL.Path, "/firewall/options") && during == "" {
			during = "begun"
		} else if during == "begun" {
			during = w.shield(int(first.VMID) + 1)
		}
		return stage.Fault{}
	}
	a := w.mustBuild()
	if !strings.Contains(during, "enable:0") {
		t.Errorf("while it was built its firewall was %q, want it off", during)
	}
	want := "map[dhcp:1 enable:1 ipfilter:0 log_level_in:info macfilter:1 policy_in:DROP policy_out:ACCEPT] out,DROP,10.1.2.3,1"
	if got := w.shield(int(a.VMID)); got != want {
		t.Errorf("the firewall is %s, want %s", got, want)
	}
}

// The smoke test's clone has the template's firewall, with one hole for Packer.
func TestSmokeCommandsGetThroughTheFirewall(t *testing.T) {
	w := newWorld(t, pve.Config{})
	var admitted atomic.Int32
	w.sealed(&admitted)
	w.set("smoke_test", map[string]any{"commands": []string{"true"}})
	clone := ""
	w.fault = func(r *http.Request) stage.Fault {
		if r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/lxc/101") {
			clone = w.shield(101)
		}
		return stage.Fault{}
	}
	a := w.mustBuild()
	if want := fmt.Sprintf("%s in,ACCEPT,%d,1", defaultShield, w.conf["ssh_port"]); clone != want {
		t.Errorf("the clone's firewall was %s, want %s", clone, want)
	}
	if got := w.shield(int(a.VMID)); got != defaultShield {
		t.Errorf("the template's is %s, want %s", got, defaultShield)
	}
}

// A firewall that lets no DHCP through is noticed by the smoke test: clones get
// no address.
func TestMuteCloneFailsTheSmokeTest(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.set("smoke_test", map[string]any{"timeout": "500ms"})
	w.fault = func(r *http.Request) stage.Fault {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/clone") {
			w.sim.SetFirewall(100, map[string]string{"enable": "1"})
		}
		return stage.Fault{}
	}
	w.fails("got no address on net0")
}
