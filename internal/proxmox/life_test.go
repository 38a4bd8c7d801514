package proxmox

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/test/schema"
)

// live takes one container through its whole life and looks at it on the way.
func live(w *world) {
	ctx := w.Context()
	nodes, err := w.client.Nodes(ctx)
	if diff := cmp.Diff([]fleet.Node{{Name: "pve", Online: true}}, nodes); err != nil || diff != "" {
		w.Fatalf("nodes: %v (-want +got):\n%s", err, diff)
	}
	s := spec(20001)
	s.Pool.Size = fleet.Size{Cores: 4, MemoryMiB: 8192, SwapMiB: -1, CPUUnits: 200}
	s.Pool.Network = fleet.Network{Bridge: "vmbr0", VLAN: 30, Firewall: true}
	if err := w.client.Clone(ctx, s); err != nil {
		w.Fatal(err)
	}
	want := Container{Node: "pve", VMID: 20001, Name: s.Name, State: fleet.Stopped, Storage: pve.LabStorage, Manifest: s.Manifest}
	want.Manifest.Schema, want.Manifest.Name, want.Manifest.Node, want.Manifest.VMID, want.Manifest.Configured = 1, s.Name, "pve", 20001, true
	got, _ := w.owned(20001)
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("spare (-want +got):\n%s", diff)
	}
	set := w.real(20001).Config
	mac := parseNet(set["net0"])["hwaddr"]
	for key, want := range map[string]string{
		"cores": "4", "memory": "8192", "swap": "0", "cpuunits": "200", "hostname": s.Name, "tags": "dayfly;dayfly-pool-web",
		"net0": "name=eth0,bridge=vmbr0,firewall=1,hwaddr=" + mac + ",ip=dhcp,tag=30,type=veth",
	} {
		if set[key] != want {
			w.Errorf("%s: got %q, want %q", key, set[key], want)
		}
	}
	if mac == "" || mac == "BC:24:11:D4:AF:9C" {
		w.Errorf("MAC address: got %q, want a new one", mac)
	}

	if err := w.client.DeliverEnv(ctx, "pve", 20001, "DAYFLY_JIT", fleet.NewSecret("eyJhIjoiYiJ9")); err != nil {
		w.Fatal(err)
	}
	if err := w.client.Start(ctx, "pve", 20001); err != nil {
		w.Fatal(err)
	}
	l := w.list()
	want.State, want.Launched = fleet.Running, true
	want.Started = l.AsOf.Truncate(time.Second)
	got, _ = w.owned(20001)
	got.Started = got.Started.Truncate(time.Second)
	if got.Started.Sub(want.Started).Abs() > 2*time.Second {
		w.Errorf("started: got %v, want about %v", got.Started, want.Started)
	}
	got.Started = want.Started
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("launched (-want +got):\n%s", diff)
	}
	w.guest.mu.Lock()
	if env := w.guest.env[20001]["DAYFLY_JIT"]; env != "eyJhIjoiYiJ9" {
		w.Errorf("environment of the container: got %q, want the JIT config", env)
	}
	w.guest.mu.Unlock()

	for range 2 { // the second time it is gone
		if err := w.destroy(ctx, 20001); err != nil {
			w.Fatal(err)
		}
	}
	if w.there(20001) || w.made("destroy", 20001) != 1 {
		w.Errorf("container is there: %v, destroyed %d times, want it gone after one", w.there(20001), w.made("destroy", 20001))
	}
	if l := w.list(); len(l.Owned)+len(l.Foreign) != 0 {
		w.Errorf("listing: got %+v, want no container", l)
	}
}

func TestContainerLivesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{Timing: slow})
		w.grantVLAN()
		live(w)
	})
}

// grantVLAN lets the token use VLAN 30.
func (w *world) grantVLAN() {
	w.sim.SetACL("/sdn/zones/localnetwork/vmbr0/30", "DayflyNet", true, "dayfly@pve", pve.LabToken)
}

func TestContainerLivesOnceOverASocket(t *testing.T) {
	w := newWorld(t, pve.Config{Timing: pve.Timing{AuthDelay: -1}})
	w.grantVLAN()
	server := http.Server{Handler: http.HandlerFunc(w.serve)}
	l := listen(t)
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	conf := w.client.conf
	conf.URL = "http://" + l.Addr().String()
	w.sent = schema.Record(wire(nil, 4))
	conf.Transport = w.sent
	w.client = newClient(t, conf)
	live(w)
}

func TestRequestsFollowTheSchema(t *testing.T) {
	var sent *schema.Recorder
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.grantVLAN()
		live(w)
		if _, err := w.client.Check(t.Context(), nil, []string{"pve"}); err != nil {
			t.Fatal(err)
		}
		sent = w.sent
	})
	sent.Check(t, "env")
}

func TestListingReadsAConfigurationOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.clone(20001)
		w.clone(20002)
		const config = "GET /nodes/pve/lxc/20001/config"
		reads := func() int { w.list(); return w.sentLike(config) }
		first := reads()
		if again := reads(); again != first {
			t.Errorf("second listing: got %d reads, want none", again-first)
		}
		w.sim.SetOption(20001, "memory", "1024") // by a person
		if again := reads(); again != first+1 {
			t.Errorf("after a change that the listing shows: got %d reads, want 1", again-first)
		}
		err := w.client.DeliverEnv(t.Context(), "pve", 20001, "JIT", fleet.NewSecret("x"))
		if err != nil {
			t.Fatal(err)
		}
		ours := w.list()
		if n := w.sentLike(config) - first - 1; n != 0 {
			t.Errorf("after a change of ours: got %d reads, want none", n)
		}
		if c, _ := w.owned(20001); !c.Launched {
			t.Error("after a change of ours: the container is not seen to be launched")
		}
		w.client = newClient(t, w.client.conf)
		fresh := w.list()
		ours.AsOf, fresh.AsOf = time.Time{}, time.Time{}
		for _, s := range fresh.Settings {
			delete(s, "digest") // Proxmox makes a new one with each change
		}
		if diff := cmp.Diff(fresh, ours); diff != "" {
			t.Errorf("what is remembered is not what there is (-there +remembered):\n%s", diff)
		}
		for id, s := range w.client.guests.known {
			if s.settings["env"] == "JIT=x" {
				t.Errorf("the JIT config of %d is kept in memory", id.id)
			}
		}
		if err := w.destroy(t.Context(), 20001); err != nil {
			t.Fatal(err)
		}
		w.list()
		if n := len(w.client.guests.known); n != 3 {
			t.Errorf("known configurations: got %d, want those of 20002 and two templates", n)
		}
	})
}

func TestCloneOfOursIsListedWithoutAskingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.list()
		const asked = "GET (/pools|/nodes/pve/lxc/[0-9]+/config).*"
		w.clone(20001)
		before := w.sentLike(asked)
		if c, there := w.owned(20001); !there || c.State != fleet.Stopped {
			t.Errorf("got %+v, want a stopped container of ours", c)
		}
		if n := w.sentLike(asked) - before; n != 0 {
			t.Errorf("got %d requests for members and configurations, want none", n)
		}
	})
}

func TestOwnershipIsPoolRangeAndManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.sim.SetACL("/vms", "DayflyTemplates", true, "dayfly@pve", pve.LabToken) // it sees everything
		w.clone(20001)
		mine := w.real(20001).Config
		put := func(id int, pool string, config map[string]string) {
			w.sim.AddContainer(pve.Container{VMID: id, ResourcePool: pool, Storage: pve.LabStorage, Config: config})
		}
		put(20002, pve.LabRunners, map[string]string{"hostname": mine["hostname"], "description": mine["description"]}) // a copy
		put(20003, pve.LabRunners, map[string]string{"hostname": "dayfly-web-1", "tags": "dayfly;dayfly-pool-web"})
		put(20004, "", map[string]string{"hostname": "mail"})
		put(20005, "", map[string]string{"hostname": "half", "lock": "create"})
		put(5000, pve.LabRunners, map[string]string{"hostname": "elsewhere"})
		put(5001, "", map[string]string{"hostname": "db"})
		got := map[fleet.VMID]string{}
		l := w.list()
		for _, f := range l.Foreign {
			got[f.VMID] = f.Why
		}
		want := map[fleet.VMID]string{
			20002: "manifest is that of VMID 20001",
			20003: `no line "dayfly-runner:" in the description`,
			20004: "not in resource pool dayfly-runners",
			20005: "half-made and not in resource pool dayfly-runners (lock create)",
			5000:  "in resource pool dayfly-runners, but outside the range 20000 to 20999",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("foreign (-want +got):\n%s", diff)
		}
		if len(l.Owned) != 1 || l.Owned[0].VMID != 20001 {
			t.Errorf("owned: got %+v, want 20001 alone", l.Owned)
		}
		for _, id := range []fleet.VMID{20002, 20003} {
			err := w.destroy(t.Context(), id)
			if !errors.Is(err, fleet.ErrInvalid) || !strings.Contains(err.Error(), "it is not ours") || !w.there(id) {
				t.Errorf("destroy %d: got %v, want a refusal", id, err)
			}
		}
	})
}

func TestNothingOutsideTheRangeIsTouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		ctx := t.Context()
		for name, err := range map[string]error{
			"clone":   w.client.Clone(ctx, spec(19999)),
			"env":     w.client.DeliverEnv(ctx, "pve", 21000, "A", fleet.NewSecret("b")),
			"start":   w.client.Start(ctx, "pve", 9000),
			"destroy": w.destroy(ctx, 9000),
		} {
			if !errors.Is(err, fleet.ErrInvalid) || !strings.Contains(err.Error(), "outside the range 20000 to 20999") {
				t.Errorf("%s: got %v, want a refusal", name, err)
			}
		}
		if n := w.sentLike(".*"); n != 0 {
			t.Errorf("got %d requests, want none", n)
		}
	})
}

func TestTemplatesAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.addTemplate(9002, pve.LabStorage, "3", map[string]string{"tags": "dayfly-state.building"})
		w.addTemplate(9003, pve.LabStorage, "4", map[string]string{"description": "by hand"})
		w.addTemplate(9004, pve.LabStorage, "5", map[string]string{"lock": "disk"})
		l := w.list()
		ref := func(v string) fleet.Ref { return fleet.Ref{Family: "ubuntu-24.04", Version: v} }
		want := []fleet.Template{
			{Ref: ref("2.335.1-1"), Node: "pve", VMID: thin, Storage: pve.LabStorage, DiskMiB: 4096},
			{Ref: ref("2.335.1-2"), Node: "pve", VMID: dir, Storage: "nas", Full: true, DiskMiB: 4096},
			{Ref: ref("5"), Node: "pve", VMID: 9004, Storage: pve.LabStorage, Locked: true, DiskMiB: 4096},
		}
		if diff := cmp.Diff(want, l.Templates); diff != "" {
			t.Errorf("templates (-want +got):\n%s", diff)
		}
		unusable := []Foreign{
			{9002, "ubuntu-9002", "", "it is being built (tag dayfly-state.building)"},
			{9003, "ubuntu-9003", "", `no line "dayfly:" in the description`},
		}
		if diff := cmp.Diff(unusable, l.Unusable); diff != "" {
			t.Errorf("unusable (-want +got):\n%s", diff)
		}
		if l.Info[thin].Version != "2.335.1-1" || len(l.Info) != 4 {
			t.Errorf("info: got %+v", l.Info)
		}
	})
}

func TestTrap7FractionalLimitsDoNotBreakTheListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.clone(20001)
		w.sim.SetOption(20001, "cpulimit", "0.5")
		if c, ok := w.owned(20001); !ok || c.State != fleet.Stopped {
			t.Errorf("got %+v, %v, want the container", c, ok)
		}
	})
}
