// Package half holds the root half against real containers of LXC: cgroups,
// namespaces and packet filter are what they are on a node.
package half

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/host"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m.Run)) }

const (
	vmid = 20001
	name = "dayfly-linux-0badcafe01234567"
)

// groups is where the lab's containers have their cgroups, as on a node.
const groups = "/sys/fs/cgroup"

var key = fleet.NewSecret("0123456789abcdef0123456789abcdef")

// node is a root half and one container that is not started yet.
type node struct {
	t       *testing.T
	client  *host.Client
	machine *lab.Machine
	root    pve.Volume
	net     string
	ended   <-chan struct{}
}

// newNode makes one whose root half runs in this process.
func newNode(t *testing.T, net string) *node {
	t.Helper()
	n := newContainer(t, net)
	cfg := host.Node()
	cfg.Node, cfg.Version, cfg.First, cfg.Last, cfg.Pool, cfg.Key = lab.Host, "test", 20000, 20099, "dayfly-runners", key
	cfg.Cgroup = groups
	s, err := host.New(cfg)
	n.must(err)
	srv := httptest.NewServer(s.Handler())
	n.client = host.Over("test", srv.URL, srv.Client().Transport)
	done := make(chan error, 1)
	ctx := t.Context()
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		n.must(<-done)
		srv.CloseClientConnections()
		srv.Close()
	})
	return n
}

// newContainer makes a node without a root half, or skips the test.
func newContainer(t *testing.T, net string) *node {
	t.Helper()
	if err := lab.Missing(); err != nil {
		t.Skip(err)
	}
	n := &node{t: t, machine: new(lab.Machine), net: net, root: pve.Volume{Storage: "store", Name: "subvol-20001-disk-0"}}
	archive, err := lab.Busybox()
	n.must(err)
	n.must(n.machine.Make(n.root))
	t.Cleanup(func() { n.must(n.machine.Remove(n.root)) })
	n.must(n.machine.Unpack(n.root, archive))
	n.publish()
	return n
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// publish writes the node's files of /etc/pve, as Proxmox does.
func (n *node) publish() {
	m := fleet.Manifest{Schema: 1, Name: name, Pool: "linux", Scope: "acme", VMID: vmid, Node: lab.Host, Configured: true}
	var text strings.Builder
	for line := range strings.Lines(m.Sign(key)) {
		text.WriteString("#" + strings.NewReplacer("%", "%25", ":", "%3A").Replace(line))
	}
	fmt.Fprintf(&text, "arch: amd64\nhostname: %s\nnet0: %s\n", name, n.net)
	n.machine.Publish("user.cfg", fmt.Sprintf("pool:dayfly-runners::%d::\n", vmid))
	n.machine.Publish(fmt.Sprintf("nodes/%s/lxc/%d.conf", lab.Host, vmid), text.String())
	n.t.Cleanup(func() { n.machine.Publish(fmt.Sprintf("nodes/%s/lxc/%d.conf", lab.Host, vmid), "") })
}

func (n *node) start() {
	n.t.Helper()
	ended, err := n.machine.Start(pve.Launch{
		VMID: vmid, Volumes: map[string]pve.Volume{"rootfs": n.root},
		Options: map[string]string{"hostname": name, "unprivileged": "1", "features": "nesting=1", "memory": "256", "net0": n.net},
		Raw:     [][2]string{{"lxc.mount.entry", "tmpfs run tmpfs rw,nosuid,nodev,mode=755,size=1m,create=dir 0 0"}},
	})
	n.must(err)
	n.ended = ended
	n.t.Cleanup(func() { _ = n.machine.Kill(vmid); <-ended })
}

func (n *node) watch(mark string, runs int) host.View {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	for {
		v, err := n.client.Watch(ctx, mark)
		n.must(err)
		if len(v.Running) == runs {
			return v
		}
		mark = v.Mark
	}
}

const openNet = "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:09,ip=10.77.0.9/24,host-managed=1,type=veth"

// TestRealContainerIsReachedWatchedAndCollectedFrom goes through a life.
func TestRealContainerIsReachedWatchedAndCollectedFrom(t *testing.T) { newNode(t, openNet).live() }

// live goes through a container's life by way of the root half.
func (n *node) live() {
	t := n.t
	t.Helper()
	v := n.watch("", 0)
	n.start()
	began := time.Now()
	done, err := n.client.Inject(t.Context(), vmid, name, fleet.NewSecret("canary"), map[string]string{"DAYFLY_POOL": "linux"}, fleet.Env{"HTTP_PROXY": "http://10.20.0.5:3128"})
	n.must(err)
	t.Logf("injected %s after the start", time.Since(began))
	v = n.watch(v.Mark, 1)
	if v.Running[0].Boot != done.Boot {
		t.Errorf("boot %q was injected, %+v is seen", done.Boot, v.Running)
	}
	w, err := n.client.Busy(t.Context(), vmid)
	n.must(err)
	if !w.Taken || w.Worker || w.Boot != done.Boot {
		t.Errorf("work: %+v", w)
	}
	if _, err := n.client.Inject(t.Context(), vmid, name, fleet.NewSecret("second"), nil, nil); !errors.Is(err, fleet.ErrExists) {
		t.Errorf("a second config: %v", err)
	}
	s, err := n.client.Stats(t.Context(), vmid)
	n.must(err)
	if s.Disk == 0 || s.CPU == 0 {
		t.Errorf("stats: %+v", s)
	}
	began = time.Now()
	n.must(n.machine.Kill(vmid))
	n.watch(v.Mark, 0)
	t.Logf("the end was told %s after the kill began", time.Since(began))
	e, err := n.client.Collect(t.Context(), vmid)
	n.must(err)
	if !e.Over || e.Boot != done.Boot {
		t.Errorf("evidence: %+v", e)
	}
}

// TestEndIsToldThoughLXCsMonitorWasKilled kills the monitor, and with it, as
// LXC has it, or after it, the container.
func TestEndIsToldThoughLXCsMonitorWasKilled(t *testing.T) {
	n := newNode(t, openNet)
	n.start()
	v := n.watch("", 1)
	procs, err := os.ReadFile(filepath.Join(groups, "lxc.monitor", strconv.Itoa(vmid), "cgroup.procs"))
	n.must(err)
	for _, word := range strings.Fields(string(procs)) {
		pid, err := strconv.Atoi(word)
		n.must(err)
		n.must(syscall.Kill(pid, syscall.SIGKILL))
	}
	if left, err := os.ReadFile(filepath.Join(groups, "lxc", strconv.Itoa(vmid), "cgroup.events")); err == nil && strings.Contains(string(left), "populated 1") {
		_ = os.WriteFile(filepath.Join(groups, "lxc", strconv.Itoa(vmid), "cgroup.kill"), []byte("1"), 0)
	}
	n.watch(v.Mark, 0)
	// What the monitor would have removed, Proxmox does before the next start.
	for _, part := range []string{"lxc.monitor", "lxc"} {
		n.sweep(filepath.Join(groups, part, strconv.Itoa(vmid)))
	}
}

// sweep removes a tree of cgroups, which the kernel lets go of a little after
// their last process.
func (n *node) sweep(top string) {
	for range 200 {
		_ = filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				_ = os.Remove(path)
			}
			return nil
		})
		if err := os.Remove(top); errors.Is(err, os.ErrNotExist) {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	n.t.Errorf("cgroup %s is left", top)
}

// TestNothingIsDeliveredBeforeThePacketFilterKnowsTheContainer has the firewall
// on: its rules are there once the lab has compiled them.
func TestNothingIsDeliveredBeforeThePacketFilterKnowsTheContainer(t *testing.T) {
	n := newNode(t, openNet+",firewall=1")
	n.start()
	done := make(chan error, 1)
	go func() {
		_, err := n.client.Inject(t.Context(), vmid, name, fleet.NewSecret("canary"), nil, nil)
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("before the rules are there: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if w, err := n.client.Busy(t.Context(), vmid); err != nil || w.Taken {
		t.Errorf("a config is in it: %+v, %v", w, err)
	}
	rules := fmt.Sprintf("firewall/%d.fw", vmid)
	n.machine.Publish(rules, "[OPTIONS]\n\nenable: 1\n")
	t.Cleanup(func() { n.machine.Publish(rules, "") })
	n.must(<-done)
}
