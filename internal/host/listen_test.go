//go:build linux

package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// plain is a root half that looks at nothing.
func plain(t *testing.T) *Server {
	cfg := Node()
	cfg.Node, cfg.Version, cfg.First, cfg.Last, cfg.Pool, cfg.Key = "pve1", "test", 20000, 20099, "dayfly-runners", testKey
	cfg.PVE, cfg.Cgroup = t.TempDir(), t.TempDir()
	s, err := New(cfg)
	must(t, err)
	return s
}

func serve(t *testing.T, l net.Listener, h http.Handler) {
	srv := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
}

// TestOnlyTheDaemonsUserIsServed has a process of another user try.
func TestOnlyTheDaemonsUserIsServed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it asks as another user")
	}
	const user, other = 64000, 64001
	dir, err := os.MkdirTemp("", "dayfly-peer-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	must(t, err)
	must(t, os.Chmod(dir, 0o755), os.Chmod(socket, 0o666))
	serve(t, Peers(l, slog.New(slog.DiscardHandler), 0, user), plain(t).Handler())
	ask := func(uid uint32) error {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{askMark + "=" + socket}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	for uid, served := range map[uint32]bool{0: true, user: true, other: false, 100000: false} {
		err := ask(uid)
		if (err == nil) != served {
			t.Errorf("user %d: %v", uid, err)
		}
		if err != nil && !strings.Contains(err.Error(), ErrPeer.Error()) {
			t.Errorf("user %d is not told that it is the wrong one: %v", uid, err)
		}
	}
}

// askMark has a process of this test greet a root half.
const askMark = "DAYFLY_TEST_ASK"

func greet(socket string) {
	if _, err := Local(socket).Hello(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// TestNodesTrustEachOtherByKeysAlone tries every wrong pair.
func TestNodesTrustEachOtherByKeysAlone(t *testing.T) {
	now := time.Now()
	ours, err := NewAuthority(now)
	must(t, err)
	theirs, err := NewAuthority(now)
	must(t, err)
	text, err := ours.PEM()
	must(t, err)
	again, err := ReadAuthority(text)
	must(t, err)
	keys := func(k Keys, err error) Keys { must(t, err); return k }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	secure, err := keys(ours.Node("pve2", now)).Listener(l)
	must(t, err)
	serve(t, secure, plain(t).Handler())
	for name, c := range map[string]struct {
		node string
		keys Keys
		good bool
	}{
		"the daemon":                    {"pve2", keys(again.Daemon(now)), true},
		"another node's name":           {"pve3", keys(ours.Daemon(now)), false},
		"another authority":             {"pve2", keys(theirs.Daemon(now)), false},
		"a node in the daemon's place":  {"pve2", keys(ours.Node("pve2", now)), false},
		"the keys of a time long ago":   {"pve2", keys(ours.Daemon(now.Add(-20 * 365 * 24 * time.Hour))), false},
		"the authority's own":           {"pve2", Keys{text}, false},
		"the daemon's before they hold": {"pve2", keys(ours.Daemon(now.Add(48 * time.Hour))), false},
	} {
		client, err := Remote(c.node, l.Addr().String(), c.keys)
		if err == nil {
			_, err = client.Hello(t.Context())
		}
		if (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && client != nil && !errors.Is(err, ErrPeer) {
			t.Errorf("%s: not told that it is a stranger: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "PRIVATE KEY") {
			t.Errorf("%s: the error shows a key", name)
		}
	}
	// No certificate at all, and no TLS at all.
	if _, err := Over("plain", "http://"+l.Addr().String(), http.DefaultTransport).Hello(t.Context()); err == nil {
		t.Error("served without TLS")
	}
}

// TestOtherContractsAreRefusedOnBothSides has each side speak another one.
func TestOtherContractsAreRefusedOnBothSides(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	serve(t, l, plain(t).Handler())
	base := "http://" + l.Addr().String()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/v1/hello", nil)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "this root half speaks 2") {
		t.Errorf("without a contract: %d %s", resp.StatusCode, body)
	}
	for name, answer := range map[string]func(http.ResponseWriter){
		"none":        func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{}`)) },
		"another one": func(w http.ResponseWriter) { w.Header().Set(contractHeader, "1"); _, _ = w.Write([]byte(`{}`)) },
	} {
		other, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		serve(t, other, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
		c := Over("test", "http://"+other.Addr().String(), http.DefaultTransport)
		if _, err := c.Hello(t.Context()); !errors.Is(err, ErrContract) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.Inject(t.Context(), testID, testName, fleet.NewSecret("x"), nil, nil); !errors.Is(err, fleet.ErrUnknownOutcome) {
			t.Errorf("%s: an effect that nobody knows: %v", name, err)
		}
	}
}

func TestRequestsAreBoundedAndStrict(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	serve(t, l, plain(t).Handler())
	for name, c := range map[string]struct {
		path, body string
		status     int
	}{
		"a VMID that is a path":  {"/v1/containers/..%2f1/inject", "{}", 400},
		"a VMID that is signed":  {"/v1/containers/-1/inject", "{}", 400},
		"a VMID that is huge":    {"/v1/containers/99999999999999999999/inject", "{}", 400},
		"an unknown field":       {"/v1/containers/20001/inject", `{"name":"x","jit":"x","shell":"sh"}`, 400},
		"two values":             {"/v1/containers/20001/inject", `{"name":"x","jit":"x"}{}`, 400},
		"no JSON":                {"/v1/containers/20001/repair", `do`, 400},
		"a body without end":     {"/v1/containers/20001/inject", `{"jit":"` + strings.Repeat("x", maxRequest) + `"}`, 400},
		"an unknown verb":        {"/v1/containers/20001/exec", `{}`, 404},
		"a verb of another kind": {"/v1/containers/20001/busy", `{}`, 405},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+l.Addr().String()+c.path, bytes.NewReader([]byte(c.body)))
		must(t, err)
		req.Header.Set(contractHeader, "2")
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		_ = resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d", name, resp.StatusCode, c.status)
		}
	}
}

func TestNobodyThereIsUnavailable(t *testing.T) {
	c := Local(filepath.Join(t.TempDir(), "none"))
	_, hello := c.Hello(t.Context())
	_, inject := c.Inject(t.Context(), testID, testName, fleet.NewSecret("x"), nil, nil)
	for _, err := range []error{hello, inject} {
		if !errors.Is(err, fleet.ErrUnavailable) {
			t.Errorf("got %v, want that it is unavailable", err)
		}
	}
}

func TestRootHalfThatLacksAPartIsRefused(t *testing.T) {
	good := Node()
	good.Node, good.First, good.Last, good.Pool, good.Key = "pve1", 20000, 20099, "p", testKey
	for name, change := range map[string]func(*Config){
		"no range": func(c *Config) { c.Last = 0 }, "no pool": func(c *Config) { c.Pool = "" }, "no node": func(c *Config) { c.Node = "" },
		"a short key": func(c *Config) { c.Key = fleet.NewSecret("short") }, "no tool": func(c *Config) { c.PCT = nil },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: made", name)
		}
	}
}
