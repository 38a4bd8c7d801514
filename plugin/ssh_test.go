package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/test/root"
	"github.com/dayfly-ci/dayfly/test/sshd"
)

// inside is the inside of a world's containers, all of which are one throw-away
// root file system behind one SSH server: the default bake, which has a token
// and no root, is played on it to the end, sealing included.
type inside struct {
	*world
	root   *root.Root
	server *sshd.Server
	addr   string // settings of the source

	mu     sync.Mutex
	sealed string // authorized_keys at the conversion
}

const keysFile = "/root/.ssh/authorized_keys"

func newInside(t *testing.T) *inside {
	t.Helper()
	if _, err := exec.LookPath("scp"); err != nil {
		t.Skipf("the communicator ssh uploads with scp, which a container has and this machine does not: %v", err)
	}
	g := &inside{world: newWorld(t, pve.Config{}), root: root.New(t)}
	g.root.Must("rm -rf /root/.ssh /etc/ssh; mkdir -p /etc/ssh; echo host >/etc/ssh/ssh_host_ed25519_key")
	g.server = sshd.New(t, "", g.admits)
	g.server.Shell = g.root.Command
	g.server.Key = g.hostKey
	_, name, _ := strings.Cut(pve.LabBase, ":")
	g.sim.AddStorage(pve.Storage{ID: "local", Type: "dir", Path: "/var/lib/vz", Content: []string{"vztmpl"},
		Files: []pve.Archive{{Name: name, Size: 130 << 20, HostKey: ssh.FingerprintSHA256(g.server.HostKey())}}})
	api := httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(api.Close)
	g.addr = api.URL
	return g
}

// source is a source block with the default communicator.
func (g *inside) source(name, more string) string {
	text := g.world.source(name, "ssh_port = "+strings.TrimPrefix(g.server.Addr, "127.0.0.1:")+"\n  ssh_timeout = \"30s\"\n  "+more)
	text = strings.Replace(text, g.world.server.URL, g.addr, 1)
	return regexp.MustCompile(`bridge = ".*"`).ReplaceAllString(text, "$0\n    ip     = \"127.0.0.1/8\"")
}

// admits is what an SSH server does with a key.
func (g *inside) admits(key ssh.PublicKey) bool {
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	keys, _ := g.root.Run("cat " + keysFile + " 2>/dev/null")
	return strings.Contains(keys, line)
}

// hostKey is the one that an SSH server would find, if there is a real one.
func (g *inside) hostKey() ssh.Signer {
	text, _ := g.root.Run("cat /etc/ssh/ssh_host_ed25519_key 2>/dev/null")
	key, err := ssh.ParsePrivateKey([]byte(text + "\n"))
	if err != nil {
		return nil
	}
	return key
}

var (
	create  = regexp.MustCompile(`^/api2/json/nodes/pve/lxc$`)
	convert = regexp.MustCompile(`^/api2/json/nodes/pve/lxc/\d+/template$`)
	config  = regexp.MustCompile(`^/api2/json/nodes/pve/lxc/\d+/config$`)
)

// serve does to the inside what Proxmox does: a new container gets the keys
// that it is created with, and one with an entrypoint runs that.
func (g *inside) serve(w http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	_, _ = body.ReadFrom(r.Body)
	r.Body = http.NoBody
	if body.Len() > 0 {
		r.Body = readCloser{bytes.NewReader(body.Bytes())}
	}
	var sent struct {
		Keys  string `json:"ssh-public-keys"`
		Entry string `json:"entrypoint"`
	}
	_ = json.Unmarshal(body.Bytes(), &sent) // of requests that send something
	switch {
	case r.Method == http.MethodPost && create.MatchString(r.URL.Path):
		g.root.Write(keysFile, "# --- BEGIN PVE ---\n"+sent.Keys+"\n# --- END PVE ---\n", 0o600)
	case r.Method == http.MethodPost && convert.MatchString(r.URL.Path):
		g.mu.Lock()
		g.sealed, _ = g.root.Run("cat " + keysFile + " 2>/dev/null; ls /etc/ssh /tmp")
		g.mu.Unlock()
	case r.Method == http.MethodPut && config.MatchString(r.URL.Path) && sent.Entry != "":
		g.root.Must(strings.Replace(sent.Entry, "exec /sbin/init", "true", 1))
	}
	g.sim.ServeHTTP(w, r)
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

func TestDefaultBakeOverSSH(t *testing.T) {
	g := newInside(t)
	data := bytes.Repeat([]byte{0, '\n', 255, '\r'}, 10_000)
	if err := os.MkdirAll(filepath.Join(g.dir, "up/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"up/data": 0o640, "up/sub/run.sh": 0o755} {
		if err := os.WriteFile(filepath.Join(g.dir, name), data, mode); err != nil {
			t.Fatal(err)
		}
	}
	g.write(g.source("one", `
  smoke_test {
    commands = ["test -s /opt/up/data", "cat /opt/words"]
  }
`), `
build {
  sources = ["source.dayfly-lxc.one"]
  provisioner "shell" {
    environment_vars = ["WORDS=two words"]
    inline           = ["printf '%s' \"$WORDS\" >/opt/words", "id -u >/opt/id"]
  }
  provisioner "shell" {
    inline           = ["exit 5"]
    valid_exit_codes = [5]
  }
  provisioner "file" {
    source      = "up"
    destination = "/opt/"
  }
  provisioner "file" {
    direction   = "download"
    source      = "/opt/up/data"
    destination = "down"
  }
}
`)
	out := g.must("build", ".")
	g.count(1, 0)
	if got := g.root.Must("cat /opt/words /opt/id; stat -c ' %a' /opt/up/data /opt/up/sub/run.sh"); got != "two words0\n 640\n 755" {
		t.Errorf("the provisioners left %q\n%s", got, out)
	}
	if got, err := os.ReadFile(filepath.Join(g.dir, "down")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back (%v), want the %d that were sent", len(got), err, len(data))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if want := "/etc/ssh:\n\n/tmp:\n"; g.sealed != want {
		t.Errorf("the template's keys, /etc/ssh and /tmp are %q, want %q", g.sealed, want)
	}
	g.secretFree(out)
}

func TestFailuresOverSSHLeaveNothing(t *testing.T) {
	for name, test := range map[string]struct{ more, build, want string }{
		"a provisioner's exit code": {"", `provisioner "shell" { inline = ["exit 37"] }`, "Script exited with non-zero exit status: 37"},
		"an upload of what is not there": {"", `provisioner "file" {
    source      = "nothing"
    destination = "/opt/"
  }`, "nothing"},
		"a smoke test": {`smoke_test { commands = ["echo as it must; exit 6"] }`, "", `"echo as it must; exit 6": exit status 6`},
	} {
		t.Run(name, func(t *testing.T) {
			g := newInside(t)
			g.write(g.source("one", test.more), "build {\n  sources = [\"source.dayfly-lxc.one\"]\n  "+test.build+"\n}\n")
			out, err := g.run("build", ".")
			if err == nil || !strings.Contains(out, test.want) {
				t.Errorf("build: %v, want %q\n%s", err, test.want, out)
			}
			g.count(0, 0)
		})
	}
}

func TestSignalWhileACommandRunsOverSSH(t *testing.T) {
	for name, send := range map[string]func(*inside, *exec.Cmd){
		"Ctrl-C":           func(_ *inside, cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) },
		"SIGTERM":          func(_ *inside, cmd *exec.Cmd) { _ = cmd.Process.Signal(syscall.SIGTERM) },
		"packer is killed": func(g *inside, cmd *exec.Cmd) { g.kill(g.cores(cmd.Process.Pid)) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newInside(t)
			t.Cleanup(func() { g.root.Must("touch /opt/end") }) // of what the end of its connection does not end
			g.write(g.source("one", ""), `
build {
  sources = ["source.dayfly-lxc.one"]
  provisioner "shell" {
    inline = ["touch /opt/started", "until [ -e /opt/end ]; do sleep 1; done"]
  }
}
`)
			cmd, out := g.packer("build", ".")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
			g.until("the command", func() bool { _, code := g.root.Run("test -e /opt/started"); return code == 0 })
			send(g, cmd)
			g.until("the removal of the container", func() bool { r, o := g.ready(); return r+o == 0 })
			g.until("the end of the plugin", func() bool { return len(g.plugins()) == 0 })
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			if err := cmd.Wait(); err == nil {
				t.Errorf("packer succeeded:\n%s", out)
			}
			g.count(0, 0)
		})
	}
}
