package half

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-ci/dayfly/internal/host"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/test/programs"
)

// TestRootHalfWorksConfinedAsItsUnitSays has a real systemd start the root half
// from its socket, under all that its unit forbids, for a real container.
func TestRootHalfWorksConfinedAsItsUnitSays(t *testing.T) {
	n := newContainer(t, openNet+",firewall=1")
	rules := fmt.Sprintf("firewall/%d.fw", vmid)
	n.machine.Publish(rules, "[OPTIONS]\n\nenable: 1\n")
	t.Cleanup(func() { n.machine.Publish(rules, "") })
	n.install()
	s := startSystemd(t)
	n.must(s.control("start", "dayfly-host.socket"))
	n.client = host.Local("/run/dayfly-host.sock")
	hello, err := n.client.Hello(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s%s", err, s.said("status", "dayfly-host.service"), n.read(unitLog))
	}
	t.Logf("%+v", hello)
	n.live()
	if got := s.said("show", "--property=NRestarts,ActiveState", "dayfly-host.service"); got != "NRestarts=0\nActiveState=active\n" {
		t.Errorf("in the end:\n%s", got)
	}
}

// TestDaemonWorksConfinedAsItsUnitSays has such a systemd start the daemon, which
// has only the root half to talk to: it greets it, says what is out of reach,
// and waits.
func TestDaemonWorksConfinedAsItsUnitSays(t *testing.T) {
	n := newContainer(t, openNet)
	n.install()
	app, err := rsa.GenerateKey(rand.Reader, 2048)
	n.must(err)
	for name, text := range map[string]string{
		"pve-token": "dayfly@pve!daemon=00000000-0000-0000-0000-000000000000", "webhook-secret": "0123456789abcdef0123",
		"github-app.pem": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(app)})),
	} {
		n.write("/etc/dayfly/credentials/"+name, text, 0o600)
	}
	s := startSystemd(t)
	n.must(s.control("start", "dayfly-host.socket"))
	if err := s.control("start", "dayfly.service"); err != nil {
		t.Fatalf("%v\n%s%s", err, s.said("status", "dayfly.service"), n.read(unitLog))
	}
	resp, err := http.Get("http://127.0.0.1:8484/healthz")
	n.must(err)
	n.must(resp.Body.Close())
	if resp.StatusCode != http.StatusOK {
		t.Errorf("healthz: %s", resp.Status)
	}
	for began := time.Now(); !strings.Contains(n.read(unitLog), "root half starts"); <-time.After(20 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("the daemon has not called the root half:\n%s", n.read(unitLog))
		}
	}
	_, err = host.Local("/run/dayfly-host.sock").Hello(t.Context()) // after the daemon
	n.must(err)
	out, err := exec.Command(dayflyPath, "status", "--socket", managerDir+"/dayfly/dayfly.sock").CombinedOutput()
	if code := new(exec.ExitError); err != nil && (!errors.As(err, &code) || code.ExitCode() != 2) { // 2: something is wrong, as it is
		t.Fatalf("status: %v: %s", err, out)
	}
	for text, want := range map[string]bool{"list nodes of Proxmox at https://127.0.0.1:8006": true, "GitHub is out of reach": true, "root half at": false} {
		if strings.Contains(string(out), text) != want {
			t.Errorf("status: %q is there: %t, want %t:\n%s%s", text, !want, want, out, n.read(unitLog))
		}
	}
}

// Places in the sandbox: the program, and where it says what it does, for there
// is no journald.
const (
	dayflyPath = "/run/dayfly-test/dayfly"
	unitLog    = "/run/dayfly-test/log"
)

// install puts the root half on the node as the README says. Only what is
// outside of the sandbox is elsewhere: the program and the instance's key.
func (n *node) install() {
	n.t.Helper()
	credential := "/etc/dayfly/instance.key"
	n.write(dayflyPath, n.read(programs.Path(n.t, programs.Dayfly)), 0o755)
	n.write(credential, key.Reveal(), 0o600)
	places := strings.NewReplacer(`# admin_socket = "/run`, `admin_socket = "`+managerDir, `# state_dir    = "/var/lib`, `state_dir = "`+stateDir)
	n.write("/etc/dayfly/dayfly.hcl", places.Replace(n.read("../../scripts/dayfly.hcl")), 0o644)
	for file, entry := range map[string]string{"/etc/passwd": "dayfly:x:990:990::/:/bin/false\n", "/etc/group": "dayfly:x:990:\n"} {
		n.write(file, n.read(file)+entry, 0o644)
	}
	units := "/etc/systemd/user/"
	for _, name := range []string{"dayfly.service", "dayfly-host.service", "dayfly-host.socket"} {
		n.write(units+name, n.read("../../scripts/"+name), 0o644)
	}
	n.write(units+"dayfly.service.d/places.conf", fmt.Sprintf("[Service]\nExecStart=\nExecStart=%s run\nStandardError=append:%s\n", dayflyPath, unitLog), 0o644)
	n.write(units+"dayfly-host.service.d/places.conf", fmt.Sprintf("[Service]\nExecStart=\nExecStart=%s host\nLoadCredential=\nLoadCredential=instance.key:%s\nStandardError=append:%s\n",
		dayflyPath, credential, unitLog), 0o644)
}

func (n *node) read(path string) string {
	n.t.Helper()
	text, err := os.ReadFile(path)
	n.must(err)
	return string(text)
}

func (n *node) write(path, text string, mode os.FileMode) {
	n.t.Helper()
	n.must(os.MkdirAll(filepath.Dir(path), 0o755))
	n.must(os.WriteFile(path, []byte(text), mode))
}

// Where such a manager as we have has what is in /run and in /var/lib, and not
// below /run/user, which units with ProtectHome= do not see.
const (
	managerDir = "/run/manager"
	stateDir   = "/run/state"
)

// systemd is a real one: a manager of root's own user units. It confines them
// as the system's does, and need not be the first process.
type systemd struct{ t *testing.T }

// startSystemd starts one in a cgroup of its own, where it makes its units'.
func startSystemd(t *testing.T) *systemd {
	t.Helper()
	if _, err := exec.LookPath("systemctl"); err != nil && !lab.Required() {
		t.Skipf("the units are not tried: %v", err)
	}
	s := &systemd{t}
	own := filepath.Join(groups, "manager")
	// What a machine's first systemd makes at its start.
	for _, dir := range []string{managerDir, stateDir, own, "/run/systemd/system", "/run/systemd/inaccessible/dir"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(os.WriteFile("/run/systemd/inaccessible/reg", nil, 0), unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""))
	if err != nil {
		t.Fatal(err)
	}
	group, err := os.Open(own)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	cmd := exec.Command("/lib/systemd/systemd", "--user", "--unit=basic.target")
	cmd.Env = s.env()
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd()), Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.control("exit"); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("systemd: %v", err)
		}
		_ = os.RemoveAll("/run/systemd")
	})
	for deadline := time.Now().Add(time.Minute); ; <-time.After(20 * time.Millisecond) {
		err := s.control("is-active", "basic.target")
		if err == nil {
			// The system's own is open to the users of its units.
			if err := errors.Join(os.Chmod(managerDir+"/systemd", 0o755), os.Chmod(managerDir+"/systemd/notify", 0o777)); err != nil {
				t.Fatal(err)
			}
			return s
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func (s *systemd) env() []string {
	return []string{"XDG_RUNTIME_DIR=" + managerDir, "XDG_CONFIG_HOME=" + stateDir, "HOME=/root", "PATH=" + os.Getenv("PATH")}
}

func (s *systemd) control(args ...string) error {
	cmd := s.command(args)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// said is what a command of systemctl prints, and if it fails.
func (s *systemd) said(args ...string) string {
	out, _ := s.command(args).CombinedOutput()
	return string(out)
}

func (s *systemd) command(args []string) *exec.Cmd {
	cmd := exec.Command("systemctl", append([]string{"--user", "--no-pager"}, args...)...)
	cmd.Env = s.env()
	return cmd
}
