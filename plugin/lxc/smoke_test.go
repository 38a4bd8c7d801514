package lxc

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
func (w *world) sealed(admitted *atomic.Int32) *sshd.Server {
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
	s.Key = w.given
	w.hostKey(ssh.FingerprintSHA256(s.HostKey()))
	w.set("communicator", nil) // ssh
	w.set("ssh_port", s.Port())
	w.set("ssh_timeout", "20s")
	w.set("network_adapters", []map[string]any{{"bridge": pve.LabBridge, "ip": "127.0.0.1/8"}})
	w.set("seal", false) // it would seal this machine
	return s
}

var keyLines = regexp.MustCompile(`echo "(-----BEGIN [^"]+)"; echo "([^"]+)"; echo "(-----END [^"]+)"`)

// given is the SSH host key that the entrypoint of a running container has put
// there.
func (w *world) given() ssh.Signer {
	for _, c := range w.sim.Containers() {
		if m := keyLines.FindStringSubmatch(c.Config["entrypoint"]); c.Running && m != nil {
			signer, err := ssh.ParsePrivateKey([]byte(strings.Join(m[1:], "\n") + "\n"))
			if err != nil {
				w.Errorf("the host key of the entrypoint %s: %v", c.Config["entrypoint"], err)
			}
			return signer
		}
	}
	return nil
}

// Another machine that has the clone's address, or comes between, does not have
// the host key that the clone was given.
func TestAnotherMachineInTheClonesPlaceIsRefused(t *testing.T) {
	w := newWorld(t, pve.Config{})
	var admitted atomic.Int32
	w.sealed(&admitted).Key = nil
	w.set("smoke_test", map[string]any{"commands": []string{"true"}})
	w.fails("smoke test: the SSH host key SHA256:")
	if admitted.Load() != 0 {
		t.Error("it was logged in to")
	}
}

// A clone of a template makes its own host keys; the one that the build gives it
// is gone when it becomes a template.
func TestHostKeyOfASourceTemplatesCloneIsVerified(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.mustBuild()
	s := w.container()
	s.Key = w.given
	w.set("ssh_password", "canary-ssh-password")
	w.set("ostemplate", nil)
	w.set("rootfs", nil)
	w.set("source_template", map[string]any{"family": "debian-13"})
	w.set("template_version", "2")
	w.set("smoke_test", map[string]any{"commands": []string{"true"}})
	a := w.mustBuild()
	if c, _ := w.sim.Container(int(a.VMID)); c.Config["entrypoint"] != "" {
		t.Errorf("the template's entrypoint is %s", c.Config["entrypoint"])
	}
	w.set("template_version", "3")
	s.Key = nil
	w.fails("the SSH host key " + ssh.FingerprintSHA256(s.HostKey()) + " is none of the container's")
}

// Before entrypoint there was, nothing tells the key; the log says so.
func TestUnknownHostKeyIsSaid(t *testing.T) {
	w := newWorld(t, pve.Config{Release: "8.4.21"})
	w.container()
	w.set("ssh_password", "canary-ssh-password")
	w.set("smoke_test", map[string]any{"commands": []string{"true"}})
	w.mustBuild()
	if want := "The SSH host key of container 101 is not known"; !strings.Contains(w.out.String(), want) {
		t.Errorf("the output does not say %q:\n%s", want, w.out.String())
	}
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

// TestEntrypoint runs the entrypoint as liblxc takes it apart: quotes are around
// whole words and there are no escapes.
func TestEntrypoint(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB+/x= packer 0123"
	host, err := newHostKey()
	if err != nil {
		t.Fatal(err)
	}
	entry := entrypoint(host, key)
	words := strings.Split(entry, "'")
	if len(words) != 3 || words[0] != "/bin/sh -c " || words[2] != "" {
		t.Fatalf("entrypoint is %q, want three words with quotes around the last", entry)
	}
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc/ssh"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := strings.NewReplacer("/root/", root+"/root/", "/etc/", root+"/etc/", "exec /sbin/init", "exec echo the init is $$").Replace(words[1])
	out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "the init is ") {
		t.Errorf("it ended with %v: %s", err, out)
	}
	files := map[string]string{"root/.ssh/authorized_keys": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB+/x=\n",
		"etc/ssh/ssh_host_ed25519_key": opensshBegin + "\n" + host.private + "\n" + opensshEnd + "\n"}
	for name, want := range files {
		file := filepath.Join(root, name)
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", file, got, err, want)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, want mode 0600", file, err)
		}
	}
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skipf("OpenSSH is asked whether it reads the host key: %v", err)
	}
	out, err = exec.Command("ssh-keygen", "-l", "-f", filepath.Join(root, "etc/ssh/ssh_host_ed25519_key")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), host.fingerprint) {
		t.Errorf("ssh-keygen reads it as %s (%v), want %s", out, err, host.fingerprint)
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
