package lxc

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/test/sshd"
)

// sealed stands for the container's own SSH server: it knows the build's key
// in the container that is built, and elsewhere only what the container's
// entrypoint has put there.
func (w *world) sealed(admitted *atomic.Int32) {
	w.Helper()
	s := sshd.New(w, "", func(key ssh.PublicKey) bool {
		line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
		for _, c := range w.sim.Containers() {
			if !c.Running {
				continue
			}
			if c.Config["hostname"] == "debian-13-1.0.0-1" {
				return true
			}
			if strings.Contains(c.Config["entrypoint"], line) {
				admitted.Add(1)
				return true
			}
		}
		return false
	})
	w.hostKey(ssh.FingerprintSHA256(s.HostKey()))
	w.set("communicator", nil) // ssh
	w.set("ssh_port", s.Port())
	w.set("ssh_timeout", "20s")
	w.set("network_adapters", []map[string]any{{"bridge": pve.LabBridge, "ip": "127.0.0.1/8"}})
	w.set("seal", false) // it would seal this machine
}

func TestSmokeCommandsTakeNoMoreThanAToken(t *testing.T) {
	w := newWorld(t, pve.Config{})
	var admitted atomic.Int32
	w.sealed(&admitted)
	w.set("smoke_test", map[string]any{"commands": []string{"test 1 = 1", "echo smoke"}})
	a := w.mustBuild()
	if admitted.Load() == 0 {
		t.Error("nobody came into the clone")
	}
	if got := w.manifest(int(a.VMID)).Smoke; got != "passed: 2 commands" {
		t.Errorf("smoke is %q", got)
	}
	w.left(1)
	for key, value := range w.sim.Containers()[0].Config {
		if key == "entrypoint" || strings.Contains(value, "ssh-ed25519") {
			t.Errorf("the template's %s is %q", key, value)
		}
	}
	w.set("template_version", "1.0.0-2")
	w.set("vm_name", "debian-13-1.0.0-1")
	w.set("smoke_test", map[string]any{"commands": []string{"echo nope; exit 9"}})
	w.fails("smoke test: \"echo nope; exit 9\": exit status 9\nnope")
}

func TestSmokeCommandsOnAnOldProxmoxAreRefused(t *testing.T) {
	w := newWorld(t, pve.Config{Release: "8.4.21"})
	w.set("communicator", nil)
	w.set("smoke_test", map[string]any{"commands": []string{"true"}})
	w.fails("smoke_test.commands: Proxmox VE 8.4.21 lets no token bring the build's SSH key into the clone, 9.1 does: give host_ssh")
}

// TestAdmission runs the entrypoint as liblxc takes it apart: quotes are
// around whole words and there are no escapes.
func TestAdmission(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB+/x= packer 0123"
	words := strings.Split(admission(key), "'")
	if len(words) != 3 || words[0] != "/bin/sh -c " || words[2] != "" {
		t.Fatalf("entrypoint is %q, want three words with quotes around the last", admission(key))
	}
	root := t.TempDir()
	script := strings.NewReplacer("/root/", root+"/", "exec /sbin/init", "exec echo the init is $$").Replace(words[1])
	out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "the init is ") {
		t.Errorf("it ended with %v: %s", err, out)
	}
	file := filepath.Join(root, ".ssh", "authorized_keys")
	got, err := os.ReadFile(file)
	if want := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB+/x=\n"; err != nil || string(got) != want {
		t.Errorf("%s holds %q (%v), want %q", file, got, err, want)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v (%v), want 0600", file, info.Mode(), err)
	}
}

func TestTailOfLongOutput(t *testing.T) {
	var out tailBuffer
	for range 3 {
		if _, err := io.Copy(&out, strings.NewReader(strings.Repeat("x", tailSize-1)+"\n")); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = out.Write([]byte("end\n"))
	if got := out.String(); len(got) != tailSize-1 || !strings.HasSuffix(got, "x\nend") {
		t.Errorf("%d bytes are kept, that end with %q; want the last %d", len(got), got[max(0, len(got)-10):], tailSize-1)
	}
}
