package main

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/dayfly-ci/dayfly/test/sshd"
)

// gitCmds are the script commands about a git server.
var gitCmds = map[string]func(*testscript.TestScript, bool, []string){
	"gitssh":   serveGitSSH,
	"githttps": serveGitHTTPS,
	"githost":  gitHost,
	"until":    until,
}

// gitToken is what the HTTPS server wants to hear.
const gitToken = "right-and-secret"

// relay is the address of a git server, which may be down and come up again
// under the same one.
type relay struct {
	addr, to string
	mu       sync.Mutex
	listen   net.Listener // nil: down
	open     map[net.Conn]bool
	work     sync.WaitGroup
}

type relayKey struct{}

// newRelay brings up an address in front of a server.
func newRelay(ts *testscript.TestScript, to string) *relay {
	r := &relay{addr: "127.0.0.1:0", to: to, open: map[net.Conn]bool{}}
	r.up(ts)
	ts.Defer(func() {
		r.down()
		r.work.Wait()
	})
	*ts.Value(relayKey{}).(**relay) = r
	return r
}

func (r *relay) up(ts *testscript.TestScript) {
	l, err := net.Listen("tcp", r.addr)
	ts.Check(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addr, r.listen = l.Addr().String(), l
	r.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.work.Go(func() { r.pass(c) })
		}
	})
}

// pass lets a connection through to the server.
func (r *relay) pass(c net.Conn) {
	defer c.Close()
	s, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer s.Close()
	r.mu.Lock()
	if r.listen == nil {
		r.mu.Unlock()
		return
	}
	r.open[c], r.open[s] = true, true
	r.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(c, s)
		c.Close()
	})
	_, _ = io.Copy(s, c)
	s.Close()
	back.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
	delete(r.open, s)
}

func (r *relay) down() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listen != nil {
		r.listen.Close()
		r.listen = nil
	}
	for c := range r.open {
		c.Close()
	}
}

// gitHost takes the server away and brings it back: "githost down".
func gitHost(ts *testscript.TestScript, _ bool, args []string) {
	r := *ts.Value(relayKey{}).(**relay)
	switch strings.Join(args, " ") {
	case "down":
		r.down()
	case "up":
		r.up(ts)
	default:
		ts.Fatalf("usage: githost up|down")
	}
}

// safeGit lets git serve a repository whoever owns it.
var safeGit = []string{
	"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
	"GIT_CONFIG_KEY_1=http.receivepack", "GIT_CONFIG_VALUE_1=true",
}

// serveGitSSH serves a folder by SSH to whoever has a key, and writes the host's
// key as known: "gitssh KEY KNOWN_HOSTS". GIT_URL is then the folder's address.
func serveGitSSH(ts *testscript.TestScript, _ bool, args []string) {
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(ts.ReadFile(args[0] + ".pub")))
	ts.Check(err)
	server, err := sshd.Start("", func(k ssh.PublicKey) bool { return string(k.Marshal()) == string(pub.Marshal()) })
	ts.Check(err)
	server.Env = safeGit
	ts.Defer(server.Close)
	r := newRelay(ts, server.Addr)
	line := knownhosts.Line([]string{r.addr}, server.HostKey()) + "\n"
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(line), 0o644))
	ts.Setenv("GIT_URL", "ssh://git@"+r.addr+ts.MkAbs("."))
}

// serveGitHTTPS serves a folder by git's own smart HTTP behind TLS to whoever
// has the token, and writes the authority of its certificate: "githttps CA".
func serveGitHTTPS(ts *testscript.TestScript, _ bool, args []string) {
	out, err := exec.Command("git", "--exec-path").Output()
	ts.Check(err)
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"), Logger: log.New(io.Discard, "", 0), Stderr: io.Discard,
		Env: append([]string{"GIT_PROJECT_ROOT=" + ts.MkAbs("."), "GIT_HTTP_EXPORT_ALL=1"}, safeGit...),
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if user, token, _ := q.BasicAuth(); user != "x-access-token" || token != gitToken {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "no entry", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, q)
	}))
	ts.Defer(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), ca, 0o644))
	r := newRelay(ts, strings.TrimPrefix(server.URL, "https://"))
	ts.Setenv("GIT_URL", "https://"+r.addr)
}

// until repeats a command until its output matches, whatever its exit code; it
// is there for "stdout" then: "until 'max 5' dayfly status".
func until(ts *testscript.TestScript, _ bool, args []string) {
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for deadline := time.After(patience); ; {
		_ = ts.Exec(args[1], args[2:]...)
		said := ts.ReadFile("stdout")
		if want.MatchString(said) {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			ts.Fatalf("%s does not come to say %q: %s%s", strings.Join(args[1:], " "), args[0], said, ts.ReadFile("stderr"))
		}
	}
}
