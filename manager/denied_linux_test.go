package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// unprivileged runs do without root's rights to read what its mode forbids and to
// open the low ports, in a thread that ends with it.
func unprivileged(t *testing.T, do func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var rights [2]unix.CapUserData
		err := unix.Capget(&header, &rights[0])
		rights[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_NET_BIND_SERVICE
		if err = errors.Join(err, unix.Capset(&header, &rights[0])); err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestFilesThatMayNotBeReadSayWhoseTheyMustBe: the usual cause is that root
// made them.
func TestFilesThatMayNotBeReadSayWhoseTheyMustBe(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"token", "state/journal.db.lock"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("hush"), 0); err != nil {
			t.Fatal(err)
		}
	}
	c, diags := parseConfig(filepath.Join(dir, "dayfly.hcl"), []byte(good))
	c.Daemon.StateDir = filepath.Join(dir, "state")
	var err error
	unprivileged(t, func() {
		c.readSecrets(diags, "", true)
		_, err = c.open(context.Background(), slog.New(slog.DiscardHandler))
	})
	var b bytes.Buffer
	if err := diags.write(&b, false); err != nil {
		t.Fatal(err)
	}
	if want := `permission denied: the user that the daemon runs as must own it. Run "chown USER ` + filepath.Join(dir, "token"); !strings.Contains(b.String(), want) {
		t.Errorf("got\n%s\nwant %q", b.String(), want)
	}
	if want := "chown -R USER " + c.Daemon.StateDir; err == nil || !strings.Contains(err.Error(), "permission denied") || !strings.HasSuffix(hintOf(err), want) {
		t.Errorf("open: got %v, hint %q, want %q", err, hintOf(err), want)
	}
}

// TestLowPortIsRefusedWithWhatToDo: below what the kernel leaves to everybody.
func TestLowPortIsRefusedWithWhatToDo(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		t.Fatal(err)
	}
	if first := strings.TrimSpace(string(text)); first == "0" || first == "1" {
		t.Skip("every port is for everybody here: ip_unprivileged_port_start is " + first)
	}
	unprivileged(t, func() {
		var l net.Listener
		if l, err = listenPublic("127.0.0.1:1"); err == nil {
			_ = l.Close()
		}
	})
	if want := "daemon.listen to a higher one"; err == nil || !strings.Contains(err.Error(), "permission denied") || !strings.Contains(hintOf(err), want) {
		t.Errorf("got %v, hint %q, want %q", err, hintOf(err), want)
	}
}
