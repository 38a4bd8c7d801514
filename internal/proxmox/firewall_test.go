package proxmox

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// guarded is an egress with peers of every kind.
func guarded(p fleet.Policy) fleet.Egress {
	return fleet.Egress{Policy: p, Allow: []fleet.Peer{
		{To: "10.20.0.1", Protocol: "udp", Port: 53},
		{To: "fd00:20::/64"},
	}}
}

// rules are a container's, as "out REJECT dest …".
func (w *world) rules(id int) string {
	_, rules := w.sim.Firewall(id)
	var b strings.Builder
	for _, r := range rules {
		b.WriteString(r["type"] + " " + r["action"])
		for _, key := range []string{"dest", "proto", "dport", "comment"} {
			if r[key] != "" {
				b.WriteString(" " + key + "=" + r[key])
			}
		}
		if r["enable"] != "1" {
			b.WriteString(" off")
		}
		b.WriteString("\n")
	}
	return b.String()
}

const allowed = `out ACCEPT dest=10.20.0.1 proto=udp dport=53 comment=dayfly egress
out ACCEPT dest=fd00:20::/64 comment=dayfly egress
`

const ownRule = "in ACCEPT comment=dayfly\n"

// templateFirewall is one that a build has set, and then somebody has switched
// off.
func (w *world) templateFirewall() {
	w.sim.SetFirewall(thin, map[string]string{"enable": "0", "policy_in": "DROP"},
		map[string]string{"type": "in", "action": "ACCEPT", "enable": "1", "comment": "dayfly"})
}

func TestEgressIsBeforeTheTemplatesRules(t *testing.T) {
	for policy, want := range map[fleet.Policy]string{
		fleet.Everything: ownRule,
		fleet.Nothing:    allowed + "out REJECT comment=dayfly egress\n" + ownRule,
		fleet.Internet: allowed +
			"out REJECT dest=0.0.0.0/8,10.0.0.0/8,100.64.0.0/10,127.0.0.0/8,169.254.0.0/16,172.16.0.0/12,192.0.0.0/24,192.168.0.0/16,198.18.0.0/15,224.0.0.0/4,240.0.0.0/4 comment=dayfly egress\n" +
			"out REJECT dest=fc00::/7,fe80::/10,fec0::/10,2002::/16,64:ff9b:1::/48,64:ff9b::/104,64:ff9b::a00:0/104,64:ff9b::6440:0/106,64:ff9b::7f00:0/104,64:ff9b::a9fe:0/112,64:ff9b::ac10:0/108,64:ff9b::c000:0/120,64:ff9b::c0a8:0/112,64:ff9b::c612:0/111,64:ff9b::e000:0/100,64:ff9b::f000:0/100 comment=dayfly egress\n" +
			"out REJECT dest=ff00::/8 proto=udp comment=dayfly egress\n" + ownRule,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, pve.Config{})
			w.templateFirewall()
			s := spec(20001)
			s.Pool.Egress = guarded(policy)
			if err := w.client.Clone(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if got := w.rules(20001); got != want {
				t.Errorf("%s: got rules\n%swant\n%s", policy, got, want)
			}
			on := map[bool]string{true: "1", false: "0"}[policy != fleet.Everything]
			if o, _ := w.sim.Firewall(20001); o["enable"] != on || o["policy_in"] != "DROP" {
				t.Errorf("%s: options %v", policy, o)
			}
			before := w.sentLike(".*/firewall/.*")
			for range 3 {
				if drift := w.list().Drift(20001, s.Pool); drift != "" {
					t.Errorf("%s: drift from the start: %s", policy, drift)
				}
			}
			if n := w.sentLike(".*/firewall/.*"); n != before {
				t.Errorf("%s: the listings asked %d times for a firewall that is known", policy, n-before)
			}
		})
	}
}

// TestEgressGuardsEveryInterface: a template may have more than the one that
// the pool plugs in.
func TestEgressGuardsEveryInterface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.sim.SetOption(thin, "net1", "name=eth1,bridge=vmbr0,hwaddr=BC:24:11:D4:AF:9D,type=veth")
		s := spec(20001)
		s.Pool.Egress = guarded(fleet.Nothing)
		if err := w.client.Clone(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"net0", "net1"} {
			if net := parseNet(w.real(20001).Config[key]); net["firewall"] != "1" || net["bridge"] != "vmbr0" {
				t.Errorf("%s is %v", key, net)
			}
		}
	})
}

// TestEgressSurvivesLostAnswers loses each request about the firewall in turn.
func TestEgressSurvivesLostAnswers(t *testing.T) {
	for name, fault := range map[string]stage.Fault{
		"lost": {Lose: true}, "refused": {Refuse: true}, "596": {Code: 596, Reason: "Connection timed out", Applied: true},
	} {
		for n := range 9 {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, pve.Config{})
				w.templateFirewall()
				seen := 0
				w.always(func(r *http.Request) stage.Fault {
					if !strings.Contains(r.URL.Path, "/firewall/") {
						return stage.Fault{}
					}
					if seen++; seen == n+1 {
						return fault
					}
					return stage.Fault{}
				})
				s := spec(20001)
				s.Pool.Egress = guarded(fleet.Nothing)
				if err := w.client.Clone(t.Context(), s); err != nil {
					t.Fatalf("%s, request %d: %v", name, n, err)
				}
				if got, want := w.rules(20001), allowed+"out REJECT comment=dayfly egress\n"+ownRule; got != want {
					t.Errorf("%s, request %d: got rules\n%swant\n%s", name, n, got, want)
				}
			})
		}
	}
}

// TestUnfencedCloneIsNoSpare: what could not be guarded must never run.
func TestUnfencedCloneIsNoSpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.always(func(r *http.Request) stage.Fault {
			if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/firewall/rules") {
				return stage.Fault{Code: 403, Reason: "Permission check failed (/vms/20001, VM.Config.Network)"}
			}
			return stage.Fault{}
		})
		s := spec(20001)
		s.Pool.Egress = guarded(fleet.Internet)
		if err := w.client.Clone(t.Context(), s); err == nil || !strings.Contains(err.Error(), "VM.Config.Network") {
			t.Errorf("got %v, want the refusal", err)
		}
		if k, _ := w.owned(20001); k.State != fleet.Creating {
			t.Errorf("the container is %s, want it unfinished", k.State)
		}
	})
}

func TestFirewallThatWasChangedIsDrift(t *testing.T) {
	for name, c := range map[string]struct {
		change func(options map[string]string, rules []map[string]string) []map[string]string
		want   string
	}{
		"off":            {func(o map[string]string, r []map[string]string) []map[string]string { o["enable"] = "0"; return r }, `firewall option enable is "0", not "1"`},
		"all rules gone": {func(map[string]string, []map[string]string) []map[string]string { return nil }, "firewall rule 0 is not out ACCEPT dest 10.20.0.1 proto udp dport 53"},
		"one disabled": {func(_ map[string]string, r []map[string]string) []map[string]string { r[2]["enable"] = "0"; return r },
			"firewall rule 2 is not out REJECT"},
		"one narrowed": {func(_ map[string]string, r []map[string]string) []map[string]string { r[2]["iface"] = "net1"; return r },
			"firewall rule 2 is not out REJECT"},
		"one before": {func(_ map[string]string, r []map[string]string) []map[string]string {
			return append([]map[string]string{{"type": "out", "action": "ACCEPT", "enable": "1"}}, r...)
		}, "firewall rule 0 is not out ACCEPT dest 10.20.0.1 proto udp dport 53"},
		"one after": {func(_ map[string]string, r []map[string]string) []map[string]string {
			return append(r, map[string]string{"type": "in", "action": "ACCEPT", "enable": "1"})
		}, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, pve.Config{})
			s := spec(20001)
			s.Pool.Egress = guarded(fleet.Nothing)
			if err := w.client.Clone(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			o, rules := w.sim.Firewall(20001)
			rules = c.change(o, rules)
			w.sim.SetFirewall(20001, o, rules...)
			time.Sleep(fresh + time.Second)
			if got := w.list().Drift(20001, s.Pool); got != c.want {
				t.Errorf("%s: got %q, want %q", name, got, c.want)
			}
			s.Pool.Egress = fleet.Egress{}
			if got := w.list().Drift(20001, s.Pool); (got == "") != (name == "all rules gone") {
				t.Errorf("%s: a pool without egress says %q", name, got)
			}
		})
	}
}

// TestPrivateCoversWhatMustNotBeReached compares the list with Go's own idea.
func TestPrivateCoversWhatMustNotBeReached(t *testing.T) {
	in := func(a netip.Addr) bool {
		for _, p := range private {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	for _, s := range []string{"10.1.2.3", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.100.100.200", "192.0.0.192", "127.0.0.1", "255.255.255.255",
		"fd00:ec2::254", "fe80::1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b::192.168.255.1", "64:ff9b::172.20.0.1", "64:ff9b::100.127.0.1", "64:ff9b::0.1.2.3", "64:ff9b::127.0.0.1", "64:ff9b::192.0.0.8", "64:ff9b::198.19.0.1", "64:ff9b::224.0.0.1", "64:ff9b::255.255.255.255", "2002:a00:1::1"} {
		if !in(netip.MustParseAddr(s)) {
			t.Errorf("%s may be reached", s)
		}
	}
	for _, s := range []string{"140.82.112.3", "172.32.0.1", "100.128.0.1", "192.169.0.1", "2606:50c0::1", "64:ff9b::140.82.112.3"} {
		if in(netip.MustParseAddr(s)) {
			t.Errorf("%s is not let out", s)
		}
	}
	for i, p := range private {
		if p != p.Masked() {
			t.Errorf("%s is no network", p)
		}
		for _, q := range private[:i] {
			if p.Overlaps(q) {
				t.Errorf("%s overlaps %s", p, q)
			}
		}
	}
	for _, r := range wallFor(guarded(fleet.Internet)).rules {
		if n := len(fmt.Sprint(r["dest"])); n > 512 {
			t.Errorf("dest has %d characters, more than Proxmox VE takes", n)
		}
	}
}
