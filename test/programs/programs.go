// Package programs builds this module's own programs for the tests that run
// them as people do. All tests share them, side by side in build/test as "make
// build" leaves them in build: each is linked once, not once a test.
package programs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Names of programs.
const (
	Dayfly = "dayfly"
	Plugin = "packer-plugin-dayfly"
	Stub   = "dayfly-stub-runner"
	Bare   = "bare" // of the benchmarks
)

// folders are where the programs' packages are.
var folders = map[string]string{Dayfly: "manager", Plugin: "plugin", Stub: "internal/sim/runner", Bare: "test/bench/bare"}

// Build makes a program as "make build" does, but without the commit in it, so
// that it stays the same where its source does. Where it is up to date nothing
// is done. It returns the program's path.
func Build(ctx context.Context, name string) (string, error) {
	folder, known := folders[name]
	if !known {
		return "", fmt.Errorf("build %s: no such program", name)
	}
	module, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("build %s: find the module: %w", name, err)
	}
	root := strings.TrimSpace(string(module))
	to := filepath.Join(root, "build", "test", name)
	unlock, err := lock(to + ".lock")
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	defer unlock()
	// The go command leaves a program alone that it would make just so again.
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", to, "./"+folder)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", name, err, out)
	}
	return to, nil
}

// Path makes a program, or fails the test.
func Path(t testing.TB, name string) string {
	t.Helper()
	path, err := Build(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// lock keeps other tests from building the program at the same time.
func lock(path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
