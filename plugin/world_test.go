package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/test/nodetools"
	"github.com/dayfly-ci/dayfly/test/packertool"
)

// world is a real packer, with this plugin, and a simulated Proxmox.
type world struct {
	*testing.T
	sim    *pve.Cluster
	server *httptest.Server
	home   *packertool.Home
	dir    string
	token  string
	node   string
}

func newWorld(t *testing.T, conf pve.Config) *world {
	t.Helper()
	w := &world{T: t, home: homeOf(t), sim: pve.New(conf), dir: t.TempDir(), node: "pve"}
	if len(conf.Nodes) > 0 {
		w.node = conf.Nodes[0]
	}
	pve.Lab(w.sim)
	w.token = pve.LabBuilder(w.sim)
	w.server = httptest.NewServer(w.sim)
	t.Cleanup(w.server.Close)
	return w
}

// source is a source block; more is added to it.
func (w *world) source(name, more string) string {
	id, secret, _ := strings.Cut(w.token, "=")
	return fmt.Sprintf(`
source "dayfly-lxc" %q {
  proxmox_url = "%s/api2/json"
  username    = %q
  token       = %q
  node        = %q
  pool        = %q
  ostemplate  = %q
  rootfs {
    storage = %q
    size    = "4G"
  }
  network_adapters {
    bridge = %q
  }
  template_family  = %q
  template_version = "1.0.0-1"
  template_commit  = "0123abc"
  %s
}
`, name, w.server.URL, id, secret, w.node, pve.LabTemplates, pve.LabBase, pve.LabStorage, pve.LabBridge, name, more)
}

const required = `
packer {
  required_plugins {
    dayfly = {
      version = ">= 0.1.0"
      source  = "github.com/dayfly-ci/dayfly"
    }
  }
}
`

// write makes the template file.
func (w *world) write(parts ...string) {
	w.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, "build.pkr.hcl"), []byte(required+strings.Join(parts, "")), 0o600); err != nil {
		w.Fatal(err)
	}
}

// packer prepares a run in a process group of its own, with Packer's log in a
// file.
func (w *world) packer(args ...string) (*exec.Cmd, *bytes.Buffer) {
	out := new(bytes.Buffer)
	cmd := w.home.Command(context.Background(), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, out, out
	cmd.Env = append(cmd.Env, "PACKER_LOG=1", "PACKER_LOG_PATH="+filepath.Join(w.dir, "packer.log"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	return cmd, out
}

// run runs packer to its end.
func (w *world) run(args ...string) (string, error) {
	w.Helper()
	cmd, out := w.packer(args...)
	err := cmd.Run()
	return out.String(), err
}

func (w *world) must(args ...string) string {
	w.Helper()
	out, err := w.run(args...)
	if err != nil {
		w.Fatalf("packer %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// ready counts the finished templates, and others all else.
func (w *world) ready() (ready, others int) {
	for _, c := range w.sim.Containers() {
		info, err := proxmox.ReadTemplate(c.Config["description"])
		if err == nil && c.Template() && info.State == "ready" {
			ready++
		} else {
			others++
		}
	}
	return ready, others
}

func (w *world) count(ready, others int) {
	w.Helper()
	if r, o := w.ready(); r != ready || o != others {
		w.Errorf("%d finished templates and %d other containers are there, want %d and %d", r, o, ready, others)
	}
}

// until waits for something that happens in another process.
func (w *world) until(what string, happened func() bool) {
	w.Helper()
	late := time.After(60 * time.Second)
	for tick := time.NewTicker(20 * time.Millisecond); !happened(); {
		select {
		case <-tick.C:
		case <-late:
			log, _ := os.ReadFile(filepath.Join(w.dir, "packer.log"))
			w.Fatalf("not seen within a minute: %s\n%s", what, log[max(0, len(log)-4000):])
		}
	}
}

func exists(file string) func() bool {
	return func() bool { _, err := os.Stat(file); return err == nil }
}

// local makes a world whose node is this machine. Its containers are this
// machine too, so that nothing is sealed and files go below a folder of the
// test.
func local(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the communicator pct is local only for root; run the test as root")
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, pve.Config{Nodes: []string{host}})
	t.Setenv("PATH", w.tools()+":"+os.Getenv("PATH"))
	return w
}

// tools is a folder with the node's programs.
func (w *world) tools() string {
	w.Helper()
	bin := w.TempDir()
	keep, err := nodetools.Write(bin, w.node)
	if err != nil {
		w.Fatal(err)
	}
	w.sim.PublishTo(keep)
	return bin
}

// processes are those whose executable suits.
func processes(suits func(pid int, exe string) bool) []int {
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, d := range dirs {
		exe, err := os.Readlink(d)
		pid, err2 := strconv.Atoi(strings.Split(d, "/")[2])
		if err == nil && err2 == nil && suits(pid, exe) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// plugins are the processes of this world's plugin.
func (w *world) plugins() []int {
	return processes(func(_ int, exe string) bool { return strings.HasPrefix(exe, w.home.Plugins()) })
}

// cores are packer itself: it runs as two processes, one of which waits for
// the other.
func (w *world) cores(group int) []int {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", group))
	if err != nil {
		w.Fatal(err)
	}
	return processes(func(pid int, exe string) bool {
		g, err := syscall.Getpgid(pid)
		return err == nil && g == group && exe == own
	})
}

func (w *world) kill(pids []int) {
	w.Helper()
	if len(pids) == 0 {
		w.Fatal("no process to kill")
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
