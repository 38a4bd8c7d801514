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
	"github.com/dayfly-ci/dayfly/test/packertool"
)

// TestMain makes the test binary the plugin when Packer starts it as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "describe" || os.Args[1] == "start") {
		main()
		return
	}
	os.Exit(m.Run())
}

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
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, home: packertool.Install(t, self), sim: pve.New(conf), dir: t.TempDir(), node: "pve"}
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

func TestValidateAndBuildInParallel(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.write(w.source("one", `communicator = "none"`), w.source("two", `communicator = "none"`), w.source("three", `communicator = "none"`), `
build {
  sources = ["source.dayfly-lxc.one", "source.dayfly-lxc.two", "source.dayfly-lxc.three"]
  provisioner "shell-local" {
    inline = ["echo VMID=${build.TemplateVMID} FAMILY=${build.TemplateFamily} ID=${build.ID}"]
  }
  post-processor "manifest" {
    output = "manifest.json"
  }
}
`)
	w.must("validate", ".")
	out := w.must("build", ".")
	w.count(3, 0)
	for _, want := range []string{"FAMILY=one", "FAMILY=two", "FAMILY=three", "template one@1.0.0-1 is "} {
		if !strings.Contains(out, want) {
			t.Errorf("output has no %q:\n%s", want, out)
		}
	}
	manifest, err := os.ReadFile(filepath.Join(w.dir, "manifest.json"))
	if err != nil || !strings.Contains(string(manifest), `"artifact_id": "pve:one@1.0.0-1#`) {
		t.Errorf("manifest (%v) is %s", err, manifest)
	}
	w.secretFree(out, string(manifest))
	if out, err := w.run("build", "."); err == nil || !strings.Contains(out, "exists already") {
		t.Errorf("the same version again: %v\n%s", err, out)
	}
	w.must("build", "-force", ".")
	w.count(3, 0)
}

// secretFree looks for the token's secret in everything that a build writes.
func (w *world) secretFree(texts ...string) {
	w.Helper()
	_, secret, _ := strings.Cut(w.token, "=")
	log, err := os.ReadFile(filepath.Join(w.dir, "packer.log"))
	if err != nil {
		w.Fatal(err)
	}
	texts = append(texts, string(log))
	for _, c := range w.sim.Containers() {
		for _, v := range c.Config {
			texts = append(texts, v)
		}
	}
	for _, text := range texts {
		if strings.Contains(text, secret) {
			w.Errorf("the token's secret is in %.2000s", text)
		}
	}
}

func TestGob(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.write(w.source("one", `communicator = "none"`), `build { sources = ["source.dayfly-lxc.one"] }`)
	cmd, out := w.packer("build", ".")
	cmd.Env = append(cmd.Env, "PACKER_FORCE_GOB=1")
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.count(1, 0)
}

func TestEnvironmentIsAsked(t *testing.T) {
	w := newWorld(t, pve.Config{})
	text := w.source("one", `communicator = "none"`)
	id, secret, _ := strings.Cut(w.token, "=")
	for _, line := range []string{fmt.Sprintf("proxmox_url = \"%s/api2/json\"", w.server.URL), fmt.Sprintf("username    = %q", id), fmt.Sprintf("token       = %q", secret)} {
		text = strings.Replace(text, line, "", 1)
	}
	w.write(text, `build { sources = ["source.dayfly-lxc.one"] }`)
	cmd, out := w.packer("build", ".")
	cmd.Env = append(cmd.Env, "PROXMOX_URL="+w.server.URL+"/api2/json", "PROXMOX_USERNAME="+id, "PROXMOX_TOKEN="+secret)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.count(1, 0)
	w.secretFree(out.String())
}

func TestAllConfigurationErrorsAtOnce(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.write(strings.Replace(w.source("one", `
  communicator = "carrier-pigeon"
  memory       = 3
  devices      = ["/dev/net/tun"]
  replicas     = -1
`), `template_version = "1.0.0-1"`, `template_version = "not a version"`, 1), `build { sources = ["source.dayfly-lxc.one"] }`)
	out, err := w.run("validate", ".")
	if err == nil {
		t.Error("validate succeeded")
	}
	for _, want := range []string{"communicator: ", "memory: 3", "devices[0]: only root@pam", "replicas: -1", "template_version: "} {
		if !strings.Contains(out, want) {
			t.Errorf("output has no %q:\n%s", want, out)
		}
	}
}

func TestPostProcessorFailureKeepsTheTemplate(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.write(w.source("one", `communicator = "none"`), `
build {
  sources = ["source.dayfly-lxc.one"]
  post-processor "shell-local" {
    inline = ["exit 7"]
  }
}
`)
	if out, err := w.run("build", "."); err == nil {
		t.Errorf("build succeeded:\n%s", out)
	}
	w.count(1, 0)
}

func TestProvisionerFailureLeavesNothing(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.write(w.source("one", `communicator = "none"`), `
build {
  sources = ["source.dayfly-lxc.one"]
  provisioner "shell-local" {
    inline = ["exit 7"]
  }
}
`)
	out, err := w.run("build", ".")
	if err == nil || !strings.Contains(out, "7") {
		t.Errorf("build: %v\n%s", err, out)
	}
	w.count(0, 0)
}

// waiting is a build of two sources that hang in their provisioners.
func (w *world) waiting() (*exec.Cmd, *bytes.Buffer) {
	w.Helper()
	w.write(w.source("one", `communicator = "none"`), w.source("two", `communicator = "none"`), `
build {
  sources = ["source.dayfly-lxc.one", "source.dayfly-lxc.two"]
  provisioner "shell-local" {
    inline = ["touch started-${build.TemplateFamily}", "exec sleep 300"]
  }
}
`)
	cmd, out := w.packer("build", ".")
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // what sleeps
	w.until("both provisioners", func() bool {
		return exists(filepath.Join(w.dir, "started-one"))() && exists(filepath.Join(w.dir, "started-two"))()
	})
	w.count(0, 2)
	return cmd, out
}

func TestSignalsLeaveNothing(t *testing.T) {
	tests := []struct {
		name string
		send func(*world, *exec.Cmd)
	}{
		{"Ctrl-C", func(_ *world, cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }},
		{"SIGTERM", func(_ *world, cmd *exec.Cmd) { _ = cmd.Process.Signal(syscall.SIGTERM) }},
		{"packer is killed", func(w *world, cmd *exec.Cmd) { w.kill(w.cores(cmd.Process.Pid)) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, pve.Config{})
			cmd, out := w.waiting()
			test.send(w, cmd)
			w.until("the removal of both containers", func() bool { r, o := w.ready(); return r+o == 0 })
			w.until("the end of the plugin", func() bool { return len(w.plugins()) == 0 })
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			if err := cmd.Wait(); err == nil {
				t.Errorf("packer succeeded:\n%s", out)
			}
			w.count(0, 0)
		})
	}
}

// TestKilledPluginIsFoundByTheNextBuild kills what nothing survives.
func TestKilledPluginIsFoundByTheNextBuild(t *testing.T) {
	w := newWorld(t, pve.Config{})
	cmd, _ := w.waiting()
	w.kill(w.plugins())
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	_ = cmd.Wait()
	w.until("the end of the plugin", func() bool { return len(w.plugins()) == 0 })
	w.count(0, 2)
	w.write(w.source("one", `communicator = "none"`), `build { sources = ["source.dayfly-lxc.one"] }`)
	out := w.must("build", ".")
	w.count(1, 0)
	if !strings.Contains(out, "which a build of two@1.0.0-1 left") {
		t.Errorf("output does not tell of the remains:\n%s", out)
	}
}

func TestOnErrorAbortIsFoundByTheNextBuild(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.write(w.source("one", `communicator = "none"`), `
build {
  sources = ["source.dayfly-lxc.one"]
  provisioner "shell-local" {
    inline = ["test -e ok"]
  }
}
`)
	if out, err := w.run("build", "-on-error=abort", "."); err == nil {
		t.Errorf("build succeeded:\n%s", out)
	}
	w.count(0, 1)
	if err := os.WriteFile(filepath.Join(w.dir, "ok"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.must("build", ".")
	w.count(1, 0)
}

// attachScript stands for lxc-attach: the container is this machine, so that
// nothing is sealed and files go below a folder of the test.
const attachScript = `#!/bin/sh
shift 4
exec /usr/bin/env -i "$@"
`

// local makes a world whose node is this machine, with an lxc-attach.
func local(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the communicator pct is local only for root; run the test as root")
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "lxc-attach"), []byte(attachScript), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return newWorld(t, pve.Config{Nodes: []string{host}})
}

func TestProvisionersThroughTheNode(t *testing.T) {
	w := local(t)
	data := make([]byte, 100_000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	if err := os.MkdirAll(filepath.Join(w.dir, "up/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"up/data": 0o640, "up/sub/run.sh": 0o755} {
		if err := os.WriteFile(filepath.Join(w.dir, name), data, mode); err != nil {
			t.Fatal(err)
		}
	}
	guest := t.TempDir()
	w.write(w.source("one", `
  communicator = "pct"
  seal         = false
  smoke_test {
    commands = ["test $(id -u) = 0"]
  }
`), strings.ReplaceAll(`
build {
  sources = ["source.dayfly-lxc.one"]
  provisioner "shell" {
    environment_vars = ["WORDS=two words"]
    inline           = ["printf '%s' \"$WORDS\" >GUEST/words", "cat >GUEST/stdin"]
    remote_folder    = "GUEST"
  }
  provisioner "shell" {
    inline           = ["exit 5"]
    valid_exit_codes = [5]
    remote_folder    = "GUEST"
  }
  provisioner "file" {
    source      = "up"
    destination = "GUEST/"
  }
  provisioner "file" {
    source      = "up/"
    destination = "GUEST/contents"
  }
  provisioner "file" {
    direction   = "download"
    source      = "GUEST/up/"
    destination = "down"
  }
  provisioner "file" {
    direction   = "download"
    source      = "GUEST/up/data"
    destination = "data"
  }
}
`, "GUEST", guest))
	out := w.must("build", ".")
	w.count(1, 0)
	if got, _ := os.ReadFile(filepath.Join(guest, "words")); string(got) != "two words" {
		t.Errorf("the script wrote %q\n%s", got, out)
	}
	for name, mode := range map[string]os.FileMode{guest + "/up/data": 0o640, guest + "/up/sub/run.sh": 0o755, guest + "/contents/sub/run.sh": 0o755,
		w.dir + "/down/data": 0o640, w.dir + "/down/sub/run.sh": 0o755, w.dir + "/data": 0} {
		got, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes (%v), want the %d that were sent", name, len(got), err, len(data))
			continue
		}
		if info, err := os.Stat(name); err == nil && mode != 0 && info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), mode)
		}
	}
	w.secretFree(out)
}

func TestSignalsWhileACommandRunsInTheContainer(t *testing.T) {
	for name, send := range map[string]func(*world, *exec.Cmd){
		"Ctrl-C":           func(_ *world, cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) },
		"SIGTERM":          func(_ *world, cmd *exec.Cmd) { _ = cmd.Process.Signal(syscall.SIGTERM) },
		"packer is killed": func(w *world, cmd *exec.Cmd) { w.kill(w.cores(cmd.Process.Pid)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := local(t)
			guest := t.TempDir()
			w.write(w.source("one", `communicator = "pct"`), strings.ReplaceAll(`
build {
  sources = ["source.dayfly-lxc.one"]
  provisioner "shell" {
    inline        = ["touch GUEST/started", "exec sleep 301"]
    remote_folder = "GUEST"
  }
}
`, "GUEST", guest))
			cmd, out := w.packer("build", ".")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
			w.until("the command", exists(filepath.Join(guest, "started")))
			send(w, cmd)
			w.until("the removal of the container", func() bool { r, o := w.ready(); return r+o == 0 })
			w.until("the end of the plugin", func() bool { return len(w.plugins()) == 0 })
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			if err := cmd.Wait(); err == nil {
				t.Errorf("packer succeeded:\n%s", out)
			}
		})
	}
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
