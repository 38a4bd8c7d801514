// Package lxc tests the guest, the daemon and the whole chain on real
// containers, in the sandbox of internal/sim/lab.
package lxc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/test/lxc/node"
	"github.com/dayfly-ci/dayfly/test/packertool"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m.Run)) }

const (
	scope     = node.Scope
	firstVMID = node.FirstVMID
)

var labels = []string{"self-hosted", "linux"}

// world is one node with real containers, and a GitHub. All tests share it:
// root file systems are unpacked once.
type world struct {
	*node.World
	oven   *node.Oven
	baking sync.Mutex
	tool   sync.Once // the node's pct
}

var sharedWorld = sync.OnceValues(func() (*world, error) {
	w, err := node.New(sim.Config{})
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "programs")
	if err != nil {
		return nil, err
	}
	oven, err := node.NewOven(context.Background(), dir)
	return &world{World: w, oven: oven}, err
})

// inLab gives the world, or skips the test where there can be no lab.
func inLab(t testing.TB) *world {
	t.Helper()
	if err := lab.Missing(); err != nil {
		t.Skip(err)
	}
	w, err := sharedWorld()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// bakedID is the template that the tests of the guest clone.
const bakedID = 9100

// template is a baked template.
func (w *world) template(t testing.TB) int {
	t.Helper()
	w.baking.Lock()
	defer w.baking.Unlock()
	if _, there := w.Proxmox.Container(bakedID); !there {
		w.makeTemplate(t, bakedID, pve.LabStorage)
	}
	return bakedID
}

// makeTemplate makes another one of what was baked, on a storage.
func (w *world) makeTemplate(t testing.TB, vmid int, storage string) {
	t.Helper()
	archive, err := w.oven.Archive(t.Context(), w.World)
	if errors.Is(err, packertool.ErrNone) {
		lab.Lacking(t, err)
	}
	if err == nil {
		err = w.MakeTemplate(vmid, archive, storage, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// guest is one container.
type guest struct {
	testing.TB
	*node.Guest
	w    *world
	vmid int
	name string
}

func (w *world) guest(t testing.TB, g *node.Guest) *guest { return &guest{t, g, w, g.VMID, g.Name} }

// clone makes a container of a template. It is gone after the test.
func (w *world) clone(t testing.TB, template int) *guest {
	t.Helper()
	made, err := w.Clone(template)
	if err != nil {
		t.Fatal(err)
	}
	g := w.guest(t, made)
	t.Cleanup(g.destroy)
	return g
}

func (g *guest) destroy() {
	g.Helper()
	if err := g.Destroy(); err != nil {
		g.Errorf("destroy container %d: %v", g.vmid, err)
	}
}

// set changes options of the container.
func (g *guest) set(options map[string]string) {
	g.Helper()
	if err := g.Set(options); err != nil {
		g.Fatal(err)
	}
}

func (g *guest) start() {
	g.Helper()
	if err := g.Start(); err != nil {
		g.Fatalf("%v\n%s", err, g.log())
	}
}

// launch mints a config, gives it to the container in its environment, as the
// daemon does without a root half, and starts it.
func (g *guest) launch() {
	g.Helper()
	config := g.mint()
	g.set(map[string]string{"env": sim.JITVariable + "=" + config})
	g.start()
}

func (g *guest) read(name string) string {
	text, err := os.ReadFile(g.Path(name))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// write puts a file into the container before it starts.
func (g *guest) write(name, text string) {
	g.Helper()
	if err := os.MkdirAll(filepath.Dir(g.Path(name)), 0o755); err != nil {
		g.Fatal(err)
	}
	if err := os.WriteFile(g.Path(name), []byte(text), 0o644); err != nil {
		g.Fatal(err)
	}
}

// log is what there is to say when something went wrong.
func (g *guest) log() string {
	var b strings.Builder
	for _, f := range []string{"exit.json", "journal.txt", "evidence/disk", "evidence/limits"} {
		fmt.Fprintf(&b, "%s: %s\n", f, g.read("/var/lib/dayfly/"+f))
	}
	return b.String()
}

// patience bounds every wait: a machine may be busy.
const patience = 2 * time.Minute

// until waits for something that happens elsewhere.
func (g *guest) until(what string, happened func() bool) {
	g.Helper()
	late := time.After(patience)
	for tick := time.NewTicker(10 * time.Millisecond); !happened(); {
		select {
		case <-tick.C:
		case <-late:
			out, _ := g.exec("journalctl --no-pager --boot | tail -n 50; ip address; ip route; systemctl --failed")
			g.Fatalf("container %d: %s: not within %s\n%s\n%s", g.vmid, what, patience, g.log(), out)
		}
	}
}

// ended waits until the container has gone down by itself.
func (g *guest) ended() {
	g.Helper()
	g.until("it powers itself off", func() bool {
		k, _ := g.w.Proxmox.Container(g.vmid)
		return !k.Running
	})
}

// mint makes a JIT config for the container: its runner has a label of its own.
func (g *guest) mint() string { return g.w.GitHub.Mint(scope, g.name, append(labels, g.name)...) }

// job queues a job of bash steps that only this container's runner may take:
// others run beside it.
func (g *guest) job(steps ...string) hub.JobID {
	n := hub.NewJob{Repo: scope, Labels: append(labels, g.name)}
	for i, s := range steps {
		n.Steps = append(n.Steps, hub.Step{Name: fmt.Sprint("step ", i+1), Run: s})
	}
	return g.w.GitHub.QueueJob(n)
}

// runs runs a job in the container and waits until both have ended.
func (g *guest) runs(steps ...string) (hub.Job, string) {
	g.Helper()
	id := g.job(steps...)
	g.launch()
	g.until("its job ends", func() bool {
		j, _ := g.w.GitHub.Job(id)
		return j.Status == hub.StatusCompleted
	})
	j, _ := g.w.GitHub.Job(id)
	return j, g.w.GitHub.JobLog(id)
}

// exec runs a shell command as root in the running container.
func (g *guest) exec(command string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return g.Exec(ctx, command)
}
