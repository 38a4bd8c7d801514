package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

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
	w.speaks("Using protobuf for communication with plugins")
	if out, err := w.run("build", "."); err == nil || !strings.Contains(out, "exists already") {
		t.Errorf("the same version again: %v\n%s", err, out)
	}
	w.must("build", "-force", ".")
	w.count(3, 0)
}

// secretFree looks for the token's secret, and for the key that is made for a
// build, in everything that a build writes.
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
		for _, canary := range []string{secret, "PRIVATE KEY"} {
			if i := strings.Index(text, canary); i >= 0 {
				w.Errorf("%s is in %.2000s", canary, text[max(0, i-200):])
			}
		}
	}
}

// speaks looks for a line in packer's log.
func (w *world) speaks(line string) {
	w.Helper()
	if log, err := os.ReadFile(filepath.Join(w.dir, "packer.log")); err != nil || !bytes.Contains(log, []byte(line)) {
		w.Errorf("packer's log has no %q (%v)", line, err)
	}
}

// One source for each node, built at the same time, or one for both, whose copy
// is moved: what nodes without shared storage take.
func TestOneVersionOnNodesThatShareNoStorage(t *testing.T) {
	w := newWorld(t, pve.Config{Nodes: []string{"pve", "two"}})
	first := strings.Replace(w.source("one", `communicator = "none"`), `template_family  = "one"`, `template_family  = "debian"`, 1)
	second := strings.NewReplacer(`"dayfly-lxc" "one"`, `"dayfly-lxc" "two"`, `node        = "pve"`, `node        = "two"`).Replace(first)
	w.write(first, second, `build { sources = ["source.dayfly-lxc.one", "source.dayfly-lxc.two"] }`)
	out := w.must("build", ".")
	w.count(2, 0)
	for _, want := range []string{"on node pve", "on node two"} {
		if !strings.Contains(out, "template debian@1.0.0-1 is ") || !strings.Contains(out, want) {
			t.Errorf("output has no template %s:\n%s", want, out)
		}
	}
	if out, err := w.run("build", "."); err == nil || strings.Count(out, "exists already") < 2 {
		t.Errorf("the same version again: %v\n%s", err, out)
	}
	w.count(2, 0)
	w.write(strings.NewReplacer("template_commit ", "nodes = [\"pve\", \"two\"]\n  template_commit ", "1.0.0-1", "2").Replace(first), `build { sources = ["source.dayfly-lxc.one"] }`)
	if out, err := w.run("build", "."); err == nil || !strings.Contains(out, "has no VM.Migrate on /pool/"+pve.LabTemplates) {
		t.Errorf("both nodes by one source, without the right to migrate: %v\n%s", err, out)
	}
	w.count(2, 0)
	w.sim.AddRole("DayflyReplicas", "VM.Migrate")
	w.sim.SetACL("/pool/"+pve.LabTemplates, "DayflyReplicas", true, "packer@pve", "packer@pve!build")
	if out := w.must("build", "."); !strings.Contains(out, "Moving it to node two") {
		t.Errorf("both nodes by one source:\n%s", out)
	}
	w.count(4, 0)
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

// waiting is a build of two sources that hang in their provisioners, and of one
// that is done.
func (w *world) waiting() (*exec.Cmd, *bytes.Buffer) {
	w.Helper()
	w.write(w.source("one", `communicator = "none"`), w.source("two", `communicator = "none"`), w.source("done", `communicator = "none"`), `
build {
  sources = ["source.dayfly-lxc.one", "source.dayfly-lxc.two", "source.dayfly-lxc.done"]
  provisioner "shell-local" {
    except = ["dayfly-lxc.done"]
    inline = ["touch started-${build.TemplateFamily}", "exec sleep 300"]
  }
}
`)
	cmd, out := w.packer("build", ".")
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // what sleeps
	w.until("both provisioners, and the end of the third source", func() bool {
		r, o := w.ready()
		return r == 1 && o == 2 && exists(filepath.Join(w.dir, "started-one"))() && exists(filepath.Join(w.dir, "started-two"))()
	})
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
		{"the terminal is closed", func(_ *world, cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGHUP) }},
		{"the plugin is told to die, packer killed", func(w *world, cmd *exec.Cmd) {
			for _, pid := range w.plugins() {
				_ = syscall.Kill(pid, syscall.SIGTERM)
			}
			w.kill(w.cores(cmd.Process.Pid))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, pve.Config{})
			cmd, out := w.waiting()
			test.send(w, cmd)
			w.until("the removal of both containers", func() bool { _, o := w.ready(); return o == 0 })
			w.until("the end of the plugin", func() bool { return len(w.plugins()) == 0 })
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			if err := cmd.Wait(); err == nil {
				t.Errorf("packer succeeded:\n%s", out)
			}
			w.count(1, 0) // what was done stays
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
	w.count(1, 2)
	w.write(w.source("one", `communicator = "none"`), `build { sources = ["source.dayfly-lxc.one"] }`)
	out := w.must("build", ".")
	w.count(2, 0)
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
    inline           = ["printf '%s' \"$WORDS\" >GUEST/words", "cat >GUEST/stdin", "sed -n 's/^SigIgn:[[:space:]]*//p' /proc/$$/status >GUEST/ignored"]
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
	text, _ := os.ReadFile(filepath.Join(guest, "ignored"))
	mask, err := strconv.ParseUint(strings.TrimSpace(string(text)), 16, 64)
	if bad := uint64(1<<(syscall.SIGHUP-1) | 1<<(syscall.SIGPIPE-1)); err != nil || mask&bad != 0 {
		t.Errorf("commands ignore the signals %s (%v), want neither SIGHUP nor SIGPIPE among them", text, err)
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
