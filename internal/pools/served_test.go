package pools

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// overHTTP serves the repository with git's own http-backend, TLS and basic
// authentication.
func (r *testRepo) overHTTP() GitConfig {
	r.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	backend := filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
	if _, statErr := os.Stat(backend); err != nil || statErr != nil {
		r.Skip("needs git with git-http-backend")
	}
	handler := &cgi.Handler{Path: backend, Logger: log.New(io.Discard, "", 0), Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(r.dir), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=2",
			"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", "GIT_CONFIG_KEY_1=http.receivepack", "GIT_CONFIG_VALUE_1=true"}}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if user, token, _ := q.BasicAuth(); user != "x-access-token" || token != "right" {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "<html>\nno entry\n</html>", http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, q)
	}))
	r.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return GitConfig{URL: server.URL + "/pools.git", Branch: "main", Path: "pools",
		Token: fleet.NewSecret("right"), CA: writeFile(r.T, "ca.pem", 0o644, ca)}
}

// overSSH serves the repository with git's own services behind an SSH server.
func (r *testRepo) overSSH() GitConfig {
	r.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		r.Skip("needs git")
	}
	hostKey, _ := newKey(r.T)
	clientKey, clientPEM := newKey(r.T)
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(clientKey.PublicKey().Marshal()) {
			return nil, errors.New("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(hostKey)
	addr := serve(r.T, func(conn net.Conn) { serveSSH(conn, config) })
	known := knownhosts.Line([]string{addr}, hostKey.PublicKey()) + "\n"
	return GitConfig{URL: "ssh://git@" + addr + r.dir, Branch: "main", Path: "pools",
		SSHKey: writeFile(r.T, "key", 0o600, clientPEM), KnownHosts: writeFile(r.T, "known_hosts", 0o644, []byte(known))}
}

func newKey(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

// serve accepts connections until the test ends, and waits for their ends.
func serve(t *testing.T, each func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer conn.Close()
				each(conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		open.Wait()
	})
	return listener.Addr().String()
}

func serveSSH(conn net.Conn, config *ssh.ServerConfig) {
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for incoming := range channels {
		channel, requests, err := incoming.Accept()
		if err != nil {
			return
		}
		for req := range requests {
			if req.Type != "exec" {
				_ = req.Reply(false, nil)
				continue
			}
			_ = req.Reply(true, nil)
			code := runService(channel, string(req.Payload[4:]))
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{code}))
			channel.Close()
		}
	}
}

func runService(channel ssh.Channel, command string) uint32 {
	service, path, _ := strings.Cut(strings.TrimPrefix(command, "git-"), " ")
	if service != "upload-pack" && service != "receive-pack" {
		fmt.Fprintln(channel.Stderr(), "not allowed")
		return 1
	}
	cmd := exec.Command("git", "-c", "safe.directory=*", service, strings.Trim(path, "'"))
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	in, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		return 1
	}
	go func() {
		_, _ = io.Copy(in, channel)
		in.Close()
	}()
	if cmd.Wait() != nil {
		return 1
	}
	return 0
}

// appTokens are those of a GitHub App, of which each is good for one Load.
type appTokens struct{ left []string }

func (a *appTokens) Token(context.Context) (fleet.Secret, error) {
	if len(a.left) == 0 {
		return fleet.Secret{}, fmt.Errorf("no token: %w", fleet.ErrDenied)
	}
	token := a.left[0]
	a.left = a.left[1:]
	return fleet.NewSecret(token), nil
}

func TestTokensOfAnAppAreAskedForEachTime(t *testing.T) {
	r := newRepo(t)
	r.commit("main", r.files(minimal("3")))
	c := r.overHTTP()
	c.Token, c.App = fleet.Secret{}, &appTokens{left: []string{"right", "stale"}}
	source := Git(c)
	if _, err := source.Load(t.Context(), Known{}); err != nil {
		t.Errorf("a good token: got %v", err)
	}
	for _, what := range []string{"a token that has ended", "no token"} {
		if _, err := source.Load(t.Context(), Known{}); !errors.Is(err, fleet.ErrDenied) || strings.Contains(err.Error(), "stale") {
			t.Errorf("%s: got %v, want ErrDenied", what, err)
		}
	}
	c.URL = "http://git.lan/pools.git"
	if err := c.Validate(); err == nil {
		t.Error("a token would travel over http")
	}
}
