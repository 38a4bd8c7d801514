package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/host"
)

const hostTestConfig = `
proxmox {
  url           = "https://127.0.0.1:8006"
  template_pool = "templates"
  runner_pool   = "runners"
  vmids         = "20000-20999"
}
github {
  app = 1
}
pools {
  dir = "pools"
}
daemon {
  state_dir = "."
}
host {
  user       = "root"
  name       = "pve7"
  socket     = %q
  pve_dir    = %q
  cgroup_dir = %q
  %s
}
`

// startHalf runs a root half as "dayfly host" does, until the test ends.
func startHalf(t *testing.T, more string) (socket string, said *bytes.Buffer) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: a root half opens its socket to another user's group")
	}
	dir, err := os.MkdirTemp("", "dayfly-half-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	config := filepath.Join(dir, "dayfly.hcl")
	key := strings.Repeat("ab", keyBytes)
	if err := errors.Join(
		os.WriteFile(config, fmt.Appendf(nil, hostTestConfig, socket, dir, dir, more), 0o600),
		os.WriteFile(filepath.Join(dir, "instance.key"), []byte(key), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	said = &bytes.Buffer{}
	go func() { done <- (&program{out: said, err: said}).serveHost(ctx, config) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("root half ended: %v\n%s", err, said)
		}
	})
	return socket, said
}

// greeted waits until a root half says hello.
func greeted(t *testing.T, c *host.Client) host.Hello {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(10 * time.Millisecond) {
		hello, err := c.Hello(t.Context())
		if err == nil {
			return hello
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestRootHalfRunsFromTheDaemonsConfiguration(t *testing.T) {
	socket, _ := startHalf(t, "")
	c := host.Local(socket)
	want := host.Hello{Contract: host.Contract, Version: thisVersion().Version, Node: "pve7", First: 20000, Last: 20999, Cores: runtime.NumCPU()}
	if got := greeted(t, c); got != want {
		t.Errorf("hello is %+v, want %+v", got, want)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket: %v, %v", info, err)
	}
	if _, err := c.Busy(t.Context(), 19999); !errors.Is(err, fleet.ErrDenied) {
		t.Errorf("outside the range: %v", err)
	}
}

// TestRootHalfOfAnotherNodeIsAskedWithTheKeysThatOneCommandMakes goes the whole
// way: keys, both configurations, and a question over TLS.
func TestRootHalfOfAnotherNodeIsAskedWithTheKeysThatOneCommandMakes(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "instance.key")
	if err := os.WriteFile(key, []byte(strings.Repeat("cd", keyBytes)), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	p := &program{out: &said, err: &said}
	if err := p.makeHostKeys(filepath.Join(dir, "keys"), key, []string{"pve7"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	startHalf(t, fmt.Sprintf("listen = %q\n keys_file = %q", address, filepath.Join(dir, "keys", "node-pve7.pem")))
	text, err := readSecretFile(filepath.Join(dir, "keys", "daemon.pem"), true)
	if err != nil {
		t.Fatal(err)
	}
	c := &hostConfig{Socket: filepath.Join(dir, "none"), Keys: fleet.NewSecret(text), Nodes: []hostNode{{Name: "pve7", Address: address}}}
	clients, err := c.clients()
	if err != nil || len(clients) != 1 {
		t.Fatalf("%d clients, %v", len(clients), err)
	}
	if got := greeted(t, clients[0]); got.Node != "pve7" {
		t.Errorf("hello is %+v", got)
	}
}
