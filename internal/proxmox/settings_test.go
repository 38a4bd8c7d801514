package proxmox

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

func decode(t *testing.T, s string) settings {
	t.Helper()
	var out settings
	if err := json.Unmarshal([]byte(s), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTrap7AnyScalarIsRead(t *testing.T) {
	s := decode(t, `{"cpulimit":"0.5","cores":"2","memory":512,"onboot":true,"protection":1,"swap":null,"lxc":[["lxc.a","b"]],"hostname":7}`)
	want := settings{"cpulimit": "0.5", "cores": "2", "memory": "512", "onboot": "true", "protection": "1", "swap": "",
		"lxc": `[["lxc.a","b"]]`, "hostname": "7"}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	var g guest
	const line = `{"vmid":"20001","name":5,"status":"running","cpus":0.5,"uptime":-7,"template":"","maxmem":5.36870912e+08,"tags":null}`
	if err := json.Unmarshal([]byte(line), &g); err != nil {
		t.Fatal(err)
	}
	if g.id() != 20001 || g.CPUs != "0.5" || g.Uptime != -7 || bool(g.Template) || g.Name != "5" {
		t.Errorf("guest: got %+v", g)
	}
	for in, want := range map[string]integer{`3`: 3, `"3"`: 3, `3.9`: 3, `1e3`: 1000, `null`: 0, `"x"`: 0, `true`: 0} {
		var got integer
		if err := json.Unmarshal([]byte(in), &got); err != nil || got != want {
			t.Errorf("integer %s: got %d, %v, want %d", in, got, err, want)
		}
	}
}

func TestOnlyWhatDiffersIsChanged(t *testing.T) {
	const template = `{"cores":2,"memory":"1024","swap":512,"tags":"dayfly-state.ready;dayfly-template","description":"d\n",
		"net0":"name=eth0,bridge=vmbr0,firewall=1,hwaddr=BC:24:11:D4:AF:9C,ip=dhcp,tag=20,type=veth"}`
	for name, c := range map[string]struct {
		settings string
		want     wanted
		put      map[string]any
	}{
		"nothing":        {template, wanted{description: "d"}, map[string]any{}},
		"same size":      {template, wanted{description: "d", size: fleet.Size{Cores: 2, MemoryMiB: 1024, SwapMiB: 512}}, map[string]any{}},
		"size":           {template, wanted{description: "d", size: fleet.Size{Cores: 4, MemoryMiB: 2048, SwapMiB: -1}}, map[string]any{"cores": 4, "memory": 2048, "swap": 0}},
		"unset weight":   {template, wanted{description: "d", size: fleet.Size{CPUUnits: 200}}, map[string]any{"cpuunits": 200}},
		"same weight":    {`{"cpuunits":"200"}`, wanted{size: fleet.Size{CPUUnits: 200}}, map[string]any{}},
		"no swap yet":    {`{"swap":0}`, wanted{size: fleet.Size{SwapMiB: -1}}, map[string]any{}},
		"unset cores":    {`{}`, wanted{size: fleet.Size{Cores: 1}}, map[string]any{"cores": 1}},
		"same network":   {template, wanted{description: "d", network: fleet.Network{Bridge: "vmbr0", VLAN: 20, Firewall: true}}, map[string]any{}},
		"other VLAN":     {template, wanted{description: "d", network: fleet.Network{Bridge: "vmbr0", VLAN: 30, Firewall: true}}, map[string]any{"net0": "name=eth0,bridge=vmbr0,firewall=1,hwaddr=BC:24:11:D4:AF:9C,ip=dhcp,tag=30,type=veth"}},
		"untagged":       {template, wanted{description: "d", network: fleet.Network{Bridge: "vmbr1"}}, map[string]any{"net0": "name=eth0,bridge=vmbr1,hwaddr=BC:24:11:D4:AF:9C,ip=dhcp,type=veth"}},
		"own bridge":     {template, wanted{description: "d", network: fleet.Network{VLAN: 30, Firewall: true}}, map[string]any{"net0": "name=eth0,bridge=vmbr0,firewall=1,hwaddr=BC:24:11:D4:AF:9C,ip=dhcp,tag=30,type=veth"}},
		"no network":     {`{}`, wanted{network: fleet.Network{Bridge: "vmbr0"}}, map[string]any{"net0": "name=eth0,bridge=vmbr0,ip=dhcp,type=veth"}},
		"protected":      {`{"protection":"1","onboot":1}`, wanted{}, map[string]any{"protection": 0, "onboot": 0}},
		"description":    {template, wanted{description: "e\n"}, map[string]any{"description": "e\n"}},
		"tags":           {template, wanted{description: "d", tags: []string{"dayfly", "dayfly-pool-Web"}}, map[string]any{"tags": "dayfly;dayfly-pool-Web"}},
		"tags as stored": {`{"tags":"dayfly dayfly-pool-web"}`, wanted{tags: []string{"dayfly-pool-Web", "dayfly"}}, map[string]any{}},
	} {
		if diff := cmp.Diff(c.put, c.want.changes(decode(t, c.settings))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestStorageOfTheRootFileSystem(t *testing.T) {
	for rootfs, want := range map[text]string{
		"thin:vm-101-disk-0,size=4G":                "thin",
		"volume=local-zfs:subvol-101-disk-0,size=8": "local-zfs",
		"xfsdir:9002/base-9002-disk-0.raw":          "xfsdir",
		"/srv/rootfs":                               "",
		"":                                          "",
	} {
		if got := (settings{"rootfs": rootfs}).storage(); got != want {
			t.Errorf("rootfs %q: got %q, want %q", rootfs, got, want)
		}
	}
}

func TestVersionsAreCompared(t *testing.T) {
	for s, want := range map[string]struct {
		v         Version
		env, safe bool
	}{
		"9.2.11": {Version{9, 2, 11, "9.2.11"}, true, true},
		"9.1-1":  {Version{9, 1, 1, "9.1-1"}, true, false},
		"9.0.3":  {Version{9, 0, 3, "9.0.3"}, false, false},
		"8.4":    {Version{8, 4, 0, "8.4"}, false, false},
		"10.0":   {Version{10, 0, 0, "10.0"}, true, true},
		"":       {Version{}, false, false},
	} {
		if got := parseVersion(s); got != want.v || got.Env() != want.env || got.SafeEnv() != want.safe {
			t.Errorf("%q: got %+v, env %v, safe %v", s, got, got.Env(), got.SafeEnv())
		}
	}
}

func FuzzNetworkKeepsWhatItDoesNotKnow(f *testing.F) {
	f.Add("name=eth0,bridge=vmbr0,hwaddr=BC:24:11:D4:AF:9C,ip=dhcp,type=veth", "vmbr1", 30, true)
	f.Add("", "", 0, false)
	f.Fuzz(func(t *testing.T, value, bridge string, vlan int, firewall bool) {
		before := parseNet(value)
		kept := maps.Clone(before)
		after := before.plug(fleet.Network{Bridge: bridge, VLAN: vlan, Firewall: firewall})
		if !maps.Equal(before, kept) {
			t.Errorf("plug changed what it was given: %v, was %v", before, kept)
		}
		for key, v := range before {
			if key != "bridge" && key != "tag" && key != "firewall" && after[key] != v {
				t.Errorf("%s: got %q, want %q", key, after[key], v)
			}
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`[{"vmid":"1","cpus":0.5}]`))
	f.Add([]byte(`{"cores":2,"lxc":[["a","b"]]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var guests []guest
		_ = json.Unmarshal(body, &guests)
		var s settings
		if json.Unmarshal(body, &s) == nil {
			_, _ = s.storage(), s.disk()
			_ = wanted{network: fleet.Network{Bridge: "b"}}.changes(s)
		}
		var id upid
		if json.Unmarshal(body, &id) == nil && upidForm.MatchString(string(id)) && id.node() == "" {
			t.Errorf("a task of no node: %q", id)
		}
	})
}
