//go:build linux

package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

const testJIT = "canary+JIT/config=="

func (n *node) inject(id fleet.VMID) error {
	_, err := n.c.Inject(n.t.Context(), id, testName, fleet.NewSecret(testJIT), nil, nil)
	return err
}

func TestConfigReachesTheGuestInOneStep(t *testing.T) {
	n := newNode(t, nil)
	n.made(testID)
	j := n.boot(testID)
	done, err := n.c.Inject(t.Context(), testID, testName, fleet.NewSecret(testJIT),
		map[string]string{"DAYFLY_POOL": "linux", "DAYFLY_NODE": "pve1", "DAYFLY_TEMPLATE": "ubuntu 24.04"},
		fleet.Env{"NO_PROXY": "localhost, 'a'; #b", "HTTP_PROXY": "http://10.20.0.5:3128"})
	if err != nil || done.Boot == "" {
		t.Fatalf("inject: %+v, %v", done, err)
	}
	want := "ACTIONS_RUNNER_INPUT_JITCONFIG=" + testJIT + "\nDAYFLY_NODE=pve1\nDAYFLY_POOL=linux\nDAYFLY_TEMPLATE=\"ubuntu 24.04\"" +
		"\nHTTP_PROXY=\"http://10.20.0.5:3128\"\nNO_PROXY=\"localhost, 'a'; #b\""
	if got := j.sh("cat /run/dayfly/jit"); got != want {
		t.Errorf("the file holds %q, want %q", got, want)
	}
	if got := j.sh("stat -c '%a %u %g' /run/dayfly /run/dayfly/jit; ls -A /run/dayfly"); got != "711 0 0\n600 0 0\njit" {
		t.Errorf("the files are %q", got)
	}
	if err := n.inject(testID); !errors.Is(err, fleet.ErrExists) {
		t.Errorf("a second config: %v", err)
	}
	j.sh("rm /run/dayfly/jit; touch /var/lib/dayfly/started")
	if err := n.inject(testID); !errors.Is(err, fleet.ErrExists) {
		t.Errorf("a config after the first was used: %v", err)
	}
}

// A guest that waits is told, and nothing in its place holds the host up.
func TestGuestThatWaitsIsTold(t *testing.T) {
	for name, place := range map[string]string{
		"it waits":       "mkfifo .come; exec 3<>.come; (read -r line <&3; echo told >told) >/dev/null 2>&1 &",
		"nobody waits":   "mkfifo .come",
		"a full pipe":    "mkfifo .come; exec 3<>.come; dd if=/dev/zero bs=65536 count=1 >&3 2>/dev/null; sleep 60 >/dev/null 2>&1 &",
		"a file":         "touch .come; ln -s .come wrote",
		"a link outside": "mkfifo /run/elsewhere; ln -s ../elsewhere .come; (read -r line <../elsewhere; echo fooled >wrote) >/dev/null 2>&1 &",
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, nil)
			n.made(testID)
			j := n.boot(testID)
			j.sh("mkdir -m 711 /run/dayfly; cd /run/dayfly; " + place)
			if err := n.inject(testID); err != nil {
				t.Fatal(err)
			}
			for late := time.After(10 * time.Second); name == "it waits" && j.sh("cat /run/dayfly/told 2>/dev/null || true") != "told"; {
				select {
				case <-late:
					t.Fatal("the guest was not told")
				case <-time.After(20 * time.Millisecond):
				}
			}
			if got := j.sh("od -c /run/dayfly/wrote 2>/dev/null | grep -v '^0000000$' || true"); got != "" {
				t.Errorf("written to what is no pipe of the guest's: %s", got)
			}
		})
	}
}

// TestNobodyElsesContainerIsTouched names each part of the rule.
func TestNobodyElsesContainerIsTouched(t *testing.T) {
	n := newNode(t, nil)
	good := fleet.Manifest{Schema: 1, Name: testName, Pool: "linux", VMID: 20001}
	other := good
	other.VMID = 20002
	for name, c := range map[string]struct {
		id          fleet.VMID
		description string
		host        string
		more        string
		members     []fleet.VMID
		kind        error
		says        string
	}{
		"outside the range": {19999, good.Sign(testKey), testName, "", []fleet.VMID{19999}, fleet.ErrDenied, "not in the range"},
		"not there":         {20050, "", "", "", []fleet.VMID{20050}, fleet.ErrNotFound, "not on this node"},
		"no member":         {20001, good.Sign(testKey), testName, "", nil, fleet.ErrDenied, "not in resource pool"},
		"no manifest":       {20001, "somebody's", testName, "", []fleet.VMID{20001}, fleet.ErrDenied, "no line"},
		"another's key":     {20001, good.Sign(fleet.NewSecret("another key of 32 bytes in length")), testName, "", []fleet.VMID{20001}, fleet.ErrDenied, "not signed"},
		"another's VMID":    {20001, other.Sign(testKey), testName, "", []fleet.VMID{20001}, fleet.ErrDenied, "VMID 20002"},
		"another name":      {20001, good.Sign(testKey), "renamed", "", []fleet.VMID{20001}, fleet.ErrDenied, "that of"},
		"template":          {20001, good.Sign(testKey), testName, "template: 1", []fleet.VMID{20001}, fleet.ErrDenied, "template"},
	} {
		_ = os.Remove(filepath.Join(n.dir, "pve/nodes/pve1/lxc/20001.conf"))
		n.members(c.members...)
		if c.host != "" {
			n.write(c.id, c.host, c.description, c.more)
		}
		_, busy := n.c.Busy(t.Context(), c.id)
		_, stats := n.c.Stats(t.Context(), c.id)
		_, collect := n.c.Collect(t.Context(), c.id)
		for verb, err := range map[string]error{"inject": n.inject(c.id), "busy": busy, "stats": stats, "collect": collect} {
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %s: %v, want %v with %q", name, verb, err, c.kind, c.says)
			}
		}
	}
}

func TestConfigIsForTheRunnerThatItWasMintedFor(t *testing.T) {
	n := newNode(t, nil)
	n.made(testID)
	n.boot(testID)
	_, err := n.c.Inject(t.Context(), testID, "dayfly-linux-another", fleet.NewSecret(testJIT), nil, nil)
	if !errors.Is(err, fleet.ErrDenied) {
		t.Errorf("the config of another runner: %v", err)
	}
	for _, jit := range []string{"", "two\nlines", "spa ces", strings.Repeat("x", 70000), "quote\"", "$HOME"} {
		if _, err := n.c.Inject(t.Context(), testID, testName, fleet.NewSecret(jit), nil, nil); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("config %.20q: %v", jit, err)
		}
	}
	for name, value := range map[string]string{"PATH": "x", "DAYFLY_X": "a\nb", "DAYFLY_Y": `"`, "LD_PRELOAD": "x"} {
		if _, err := n.c.Inject(t.Context(), testID, testName, fleet.NewSecret(testJIT), map[string]string{name: value}, nil); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("fact %s=%q: %v", name, value, err)
		}
	}
	for name, value := range map[string]string{"PATH": "x", "A": "a\nb", "B": `"`, "C": "$HOME", "LD_PRELOAD": "x", "DAYFLY_POOL": "x", "D": "", "E-F": "x"} {
		if _, err := n.c.Inject(t.Context(), testID, testName, fleet.NewSecret(testJIT), nil, fleet.Env{name: value}); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("variable %s=%q: %v", name, value, err)
		}
	}
}

// TestLinksLeadTheConfigNowhere has the container's root in the way before the
// config comes.
func TestLinksLeadTheConfigNowhere(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "out")
	for name, trap := range map[string]string{
		"the folder is a link":        "ln -s /var /run/dayfly",
		"the folder is a link out":    "ln -s " + filepath.Dir(secret) + " /run/dayfly",
		"the folder is a file":        "touch /run/dayfly",
		"the folder is a pipe":        "mkfifo /run/dayfly",
		"the file is a link":          "mkdir /run/dayfly; ln -s " + secret + " /run/dayfly/jit",
		"the file is a pipe":          "mkdir /run/dayfly; mkfifo /run/dayfly/jit",
		"another file system is over": "mkdir /run/dayfly; mount -t tmpfs tmpfs /run/dayfly",
		"the disk is over":            "mkdir /run/dayfly; mount --bind /var /run/dayfly",
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, nil)
			n.made(testID)
			j := n.boot(testID)
			j.sh(trap)
			if err := n.inject(testID); err == nil {
				t.Errorf("delivered: %s", j.sh("find /run /var -newer /proc/1/comm; ls -la /run/dayfly/"))
			}
			if got := j.sh("grep -rl canary /run/dayfly/ /var 2>/dev/null || true"); got != "" {
				t.Errorf("the config is in %s", got)
			}
			if _, err := os.Stat(secret); err == nil {
				t.Error("a file was made outside of the container")
			}
		})
	}
}

func TestFullRunIsSaidAndLeavesNothing(t *testing.T) {
	n := newNode(t, nil)
	n.made(testID)
	j := n.boot(testID)
	j.sh("mkdir /run/dayfly; dd if=/dev/zero of=/run/fill bs=64k 2>/dev/null || true")
	if err := n.inject(testID); !errors.Is(err, ErrUnready) || !strings.Contains(err.Error(), "no space for a JIT config") {
		t.Errorf("inject: %v", err)
	}
	if got := j.sh("ls -A /run/dayfly"); got != "" {
		t.Errorf("left: %s", got)
	}
}

// TestConfigWaitsForTheContainer injects before it runs.
func TestConfigWaitsForTheContainer(t *testing.T) {
	n := newNode(t, nil)
	n.made(testID)
	done := make(chan error, 1)
	go func() { done <- n.inject(testID) }()
	select {
	case err := <-done:
		t.Fatalf("inject into nothing: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	j := n.boot(testID)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	j.sh("test -s /run/dayfly/jit")
}

// TestConfigWaitsForMemory: before the guest has mounted its /run, what is there is
// on disk, where no config may be.
func TestConfigWaitsForMemory(t *testing.T) {
	for name, over := range map[string]string{"not mounted": "umount /run", "the disk": "mount --bind /var /run"} {
		n := newNode(t, nil)
		n.made(testID)
		j := n.boot(testID)
		j.sh(over)
		done := make(chan error, 1)
		go func() { done <- n.inject(testID) }()
		select {
		case err := <-done:
			t.Fatalf("%s: inject onto the disk: %v", name, err)
		case <-time.After(100 * time.Millisecond):
		}
		if got := j.sh("ls -A /run/dayfly /var/dayfly 2>/dev/null || true"); got != "" {
			t.Errorf("%s: on disk there is %s", name, got)
		}
		j.sh("mount -t tmpfs -o mode=755 tmpfs /run")
		if err := <-done; err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		j.sh("test -s /run/dayfly/jit && umount -l /run && ! test -e /run/dayfly")
	}
}

// TestConfigWaitsForTheFirewall has the rules come late.
func TestConfigWaitsForTheFirewall(t *testing.T) {
	var rules, asked string
	n := newNode(t, func(c *Config) {
		rules, asked = filepath.Join(c.PVE, "rules"), filepath.Join(c.PVE, "asked")
		c.Rules = [][]string{{"/bin/false"}, {"/bin/sh", "-c", "echo >>" + asked + "; cat " + rules}}
	})
	n.made(testID, "net0: name=eth0,bridge=vmbr0,firewall=1,type=veth", "net1: name=eth1,bridge=vmbr1,type=veth")
	must(t, os.WriteFile(rules, []byte("-A PVEFW-FWBR-OUT -m physdev --physdev-in veth200011i0 -j veth200010i0-OUT\n"), 0o644))
	j := n.boot(testID)
	done := make(chan error, 1)
	go func() { done <- n.inject(testID) }()
	for looks := 0; looks < 5; {
		select {
		case err := <-done:
			t.Fatalf("before the rules are there, after %d looks: %v", looks, err)
		case <-time.After(5 * time.Millisecond):
		}
		text, _ := os.ReadFile(asked)
		looks = len(text)
	}
	if _, err := j.try("test -e /run/dayfly/jit"); err == nil {
		t.Fatal("the config is there before the firewall's rules")
	}
	must(t, os.WriteFile(rules+".new", []byte(fmt.Sprintf("-A PVEFW-FWBR-OUT --physdev-in veth%di0 -j veth%[1]di0-OUT\n", testID)), 0o644), os.Rename(rules+".new", rules))
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Of the two firewalls one is at work; the other one's list is there, and empty.
func TestEitherFirewallIsEnough(t *testing.T) {
	named := []string{"/bin/echo", fmt.Sprintf("-A PVEFW-FWBR-OUT --physdev-in veth%di0 -j veth%[1]di0-OUT", testID)}
	for name, rules := range map[string][][]string{"the first": {named, {"/bin/true"}}, "the second": {{"/bin/true"}, named}} {
		n := newNode(t, func(c *Config) { c.Rules = rules })
		n.made(testID, "net0: name=eth0,bridge=vmbr0,firewall=1,type=veth")
		j := n.boot(testID)
		if err := n.inject(testID); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		j.sh("test -s /run/dayfly/jit")
	}
}

func TestFirewallThatCannotBeAskedDeliversNothing(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Rules = [][]string{{"/bin/false"}} })
	n.made(testID, "net0: name=eth0,bridge=vmbr0,firewall=1")
	n.boot(testID)
	if err := n.inject(testID); !errors.Is(err, fleet.ErrUnavailable) || errors.Is(err, ErrUnshielded) {
		t.Errorf("inject: %v", err)
	}
}

// What can be looked at before, a warm container's config does not wait for.
func TestFirewallOfAWaitingContainerWasSeenBefore(t *testing.T) {
	var rules, asked string
	n := newNode(t, func(c *Config) {
		rules, asked = filepath.Join(c.PVE, "rules"), filepath.Join(c.PVE, "asked")
		c.Rules = [][]string{{"/bin/sh", "-c", "cat " + rules + "; echo >>" + asked}}
	})
	named := fmt.Sprintf("-A PVEFW-FWBR-OUT --physdev-in veth%di0 -j veth%[1]di0-OUT\n", testID)
	must(t, os.WriteFile(rules, []byte(named), 0o644))
	n.made(testID, "net0: name=eth0,bridge=vmbr0,firewall=1,type=veth")
	j := n.boot(testID)
	for seen := 0; seen == 0; <-time.After(time.Millisecond) {
		n.s.guard.mu.Lock()
		seen = len(n.s.guard.seen)
		n.s.guard.mu.Unlock()
	}
	looks, err := os.ReadFile(asked)
	must(t, err, os.Remove(rules), n.inject(testID))
	if again, err := os.ReadFile(asked); len(again) != len(looks) {
		t.Errorf("they were looked at %d times before, and then %d times, %v", len(looks), len(again), err)
	}
	j.sh("test -s /run/dayfly/jit")
}

// What was seen long ago, or of another boot, says nothing.
func TestFirewallThatWasSeenLongAgoIsLookedAtAgain(t *testing.T) {
	var rules string
	n := newNode(t, func(c *Config) {
		rules = filepath.Join(c.PVE, "rules")
		c.Rules = [][]string{{"/bin/cat", rules}}
	})
	m := fleet.Manifest{Schema: 1, Name: testName, Pool: "linux", Scope: "acme", VMID: testID, Node: "pve1", Configured: true, Launched: true}
	n.write(testID, testName, m.Sign(testKey), "net0: name=eth0,bridge=vmbr0,firewall=1,type=veth") // nobody looks ahead
	j := n.boot(testID)
	n.s.guard.mu.Lock()
	n.s.guard.seen = map[string]time.Time{"another": time.Now(), n.s.boot(testID): time.Now().Add(-rulesKept)}
	n.s.guard.mu.Unlock()
	if err := n.inject(testID); !errors.Is(err, fleet.ErrUnavailable) {
		t.Errorf("inject: %v", err)
	}
	if _, err := j.try("test -e /run/dayfly/jit"); err == nil {
		t.Error("a config is there")
	}
}
