package lxc

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sealWorld runs a command in a mount namespace whose /etc, /var, /root, /tmp
// and /run are those of a container in a folder.
const sealWorld = `set -e
mount --make-rprivate /
for d in etc var root run tmp; do mount --bind "$ROOTFS/$d" "/$d"; done
exec /bin/sh -c "$SCRIPT"`

func TestSeal(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("sealing is tried in a mount namespace; run the test as root")
	}
	if out, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("sealing is tried in a mount namespace, which this machine does not allow: %v %s", err, out)
	}
	rootfs := t.TempDir()
	const key = "AAAAC3NzaC1lZDI1NTE5AAAAITEMPORARY"
	files := map[string]string{
		"etc/machine-id":               "0123456789abcdef0123456789abcdef\n",
		"etc/passwd":                   "root:x:0:0::/root:/bin/sh\n",
		"etc/ssh/ssh_host_ed25519_key": "secret", "etc/ssh/ssh_host_ed25519_key.pub": "public", "etc/ssh/sshd_config": "keep",
		"etc/resolv.conf":             "nameserver 10.0.0.1\n",
		"var/lib/dbus/machine-id":     "0123456789abcdef0123456789abcdef\n",
		"var/lib/apt/lists/some_list": "x",
		"var/lib/keep":                "keep",
		"var/log/syslog":              "what happened",
		"var/log/syslog.1.gz":         "x",
		"var/log/apt/history.log":     "x",
		"var/log/journal/abc/x":       "x",
		"root/.ssh/authorized_keys":   "# --- BEGIN PVE ---\nssh-ed25519 " + key + " packer\n# --- END PVE ---\n",
		"root/.bash_history":          "echo password",
		"tmp/.hidden/file":            "x",
		"run/keep":                    "",
	}
	write(t, rootfs, files)
	seal(t, rootfs, "'"+key+"'")
	for name, want := range map[string]string{
		"etc/machine-id": "", "etc/resolv.conf": "", "var/log/syslog": "", "var/log/apt/history.log": "", "etc/ssh/sshd_config": "keep", "var/lib/keep": "keep",
	} {
		if got, err := os.ReadFile(filepath.Join(rootfs, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
		}
	}
	for _, gone := range []string{"etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub", "var/lib/dbus/machine-id", "var/lib/apt/lists/some_list",
		"var/log/syslog.1.gz", "var/log/journal/abc", "root/.ssh/authorized_keys", "root/.bash_history", "tmp/.hidden"} {
		if _, err := os.Lstat(filepath.Join(rootfs, gone)); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}

	// A key of the user's stays, and sealing twice does no harm.
	write(t, rootfs, map[string]string{"root/.ssh/authorized_keys": "ssh-ed25519 " + key + " packer\nssh-ed25519 AAAAUSER me\n"})
	seal(t, rootfs, "'"+key+"'")
	seal(t, rootfs, "''")
	if got, err := os.ReadFile(filepath.Join(rootfs, "root/.ssh/authorized_keys")); err != nil || string(got) != "ssh-ed25519 AAAAUSER me\n" {
		t.Errorf("authorized_keys holds %q (%v)", got, err)
	}
}

func write(t *testing.T, rootfs string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(rootfs, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func seal(t *testing.T, rootfs, key string) {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", "--", "/bin/sh", "-c", sealWorld)
	cmd.Env = append(os.Environ(), "ROOTFS="+rootfs, "SCRIPT=key="+key+"\n"+sealScript)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("seal: %v\n%s", err, out)
	}
}

func TestSealIsCleanShell(t *testing.T) {
	check, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("there is no shellcheck; run apt-get install shellcheck")
	}
	cmd := exec.Command(check, "--shell=sh", "-")
	cmd.Stdin = strings.NewReader("key=\n" + sealScript)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s", out)
	}
}
