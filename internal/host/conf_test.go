//go:build linux

package host

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// written is a file as pve-container writes it.
const written = `#Runner of pool linux, made by dayfly, which knows it by these lines. Do not edit.
#
#dayfly-runner%3A{"schema"%3A1,"name"%3A"r"}
#dayfly-signature%3Aabc%25_-
arch: amd64
cores: 4
hostname: dayfly-linux-1
lock: create
net0: name=eth0,bridge=vmbr0,firewall=1,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth
net1: name=eth1,bridge=vmbr1,firewall=0,type=veth
net12: name=eth2,bridge=vmbr2,firewall=1,type=veth
rootfs: thin:vm-20001-disk-0,size=4G
lxc.environment.runtime: hostname=evil

[before]
hostname: another
lock: disk
template: 1
#not the description
`

func TestNodesFileIsReadAsProxmoxWritesIt(t *testing.T) {
	want := conf{
		name: "dayfly-linux-1", lock: "create", firewall: []string{"veth20001i0", "veth20001i12"},
		description: "Runner of pool linux, made by dayfly, which knows it by these lines. Do not edit.\n\n" +
			`dayfly-runner:{"schema":1,"name":"r"}` + "\ndayfly-signature:abc%_-",
	}
	if diff := cmp.Diff(want, parseConf(20001, written), cmp.AllowUnexported(conf{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMembersAreThoseOfTheNamedResourcePool(t *testing.T) {
	text := "user:root@pam:1:0:::a@b.c::\ntoken:d@pve!x:0:1::\npool:dayfly-runners::20001,20002;20003 20004:local,thin:\n" +
		"pool:dayfly-runners2::20005::\npool:dayfly-runners/nested::20006::\nacl:1:/pool/dayfly-runners:d@pve:R:\npool:dayfly-runners"
	var got []fleet.VMID
	for id := range parseMembers(text, "dayfly-runners") {
		got = append(got, id)
	}
	slices.Sort(got)
	if want := []fleet.VMID{20001, 20002, 20003, 20004}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestInterfacesAreNamedWhole(t *testing.T) {
	for rules, want := range map[string]string{
		"-A X -m physdev --physdev-in veth20001i0 -j veth20001i0-OUT": "",
		`iifname "veth20001i0" drop`:                                  "",
		"elements = { veth20001i0 : goto guest-20001-out }":           "",
		"veth20001i01 veth120001i0 xveth20001i0":                      "veth20001i0",
		"":                                                            "veth20001i0",
	} {
		if got := unnamed([]byte(rules), []string{"veth20001i0"}); got != want {
			t.Errorf("%q: %q is missing, want %q", rules, got, want)
		}
	}
}

func TestExitIsSaidInWords(t *testing.T) {
	for text, want := range map[string]string{
		`{"result":"success","code":"exited","status":"0"}`:          "exited 0: its work was over",
		`{"result":"exit-code","code":"exited","status":"7"}`:        "exited 7: GitHub serves this runner version no longer: bake a new template",
		`{"result":"exit-code","code":"exited","status":"17"}`:       "exited 17: its container was used up: it had run already, or could not take note of it",
		`{"result":"oom-kill","code":"killed","status":"KILL"}`:      "killed KILL (oom-kill)",
		`{"result":"timeout","code":"killed","status":"INT"}`:        "killed INT (timeout)",
		`{"result":"success","code":"\u001b[2J","status":"\u0007x"}`: "?[2J ?x",
		`[1]`: "unreadable: the file exit.json is not what the guest writes",
		"":    "unreadable: the file exit.json is not what the guest writes",
	} {
		e := Evidence{Files: []File{{Path: "/run/dayfly/exit.json", Data: []byte(text)}}}
		if got := e.exit(); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func FuzzConf(f *testing.F) {
	f.Add(written)
	f.Add("#%\n[\nnet: firewall=1\nnet99999999: firewall=1\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := parseConf(20001, text)
		for _, name := range c.firewall {
			if !strings.HasPrefix(name, "veth20001i") || len(name) > len("veth20001i99") {
				t.Errorf("interface %q", name)
			}
		}
		for id := range parseMembers(text, "p") {
			if !strings.Contains(text, "pool") {
				t.Errorf("member %d of no pool", id)
			}
		}
	})
}
