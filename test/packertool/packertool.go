// Package packertool provides the real packer to tests: one that is installed,
// or one built from the module cache. It is a tool like git: nothing of it is
// linked into our programs, and none of its binaries is ever shipped.
package packertool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/mod/semver"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/sys/unix"
)

const (
	module  = "github.com/hashicorp/packer"
	version = "v1.12.0"
	// sum is the module's h1 hash, as go.sum would hold it. The module is not
	// in our go.mod, whose versions it would change.
	sum   = "h1:OF+RPZnW5XJU7i6TWTqDsjHvcXxnaIabvGua8dYR+7Q="
	least = "v1.11.0" // of an installed one: the first that knows plugins install --path as we use it
)

// ErrNone says that there is no packer yet.
var ErrNone = errors.New(`there is no packer: install version 1.11 or later, or run "make packer"`)

// built is where Build puts its packer: in the module that the working
// directory is in, which is ours for its tests and for "go run".
func built() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, look := os.Stat(filepath.Join(dir, "go.mod")); look == nil {
			return filepath.Join(dir, "build", "tools", "packer-"+version[1:]), nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("no go.mod above the working directory")
		}
	}
	return "", fmt.Errorf("find build folder: %w", err)
}

// Find returns the path of an installed packer that is new enough, else of the
// one that Build made, else ErrNone.
func Find(ctx context.Context) (string, error) {
	ours, err := built()
	if err != nil {
		return "", err
	}
	for _, name := range []string{"packer", ours} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if v, err := versionOf(ctx, path); err == nil && semver.Compare(v, least) >= 0 {
			return path, nil
		}
	}
	return "", ErrNone
}

var versionLine = regexp.MustCompile(`(?m)^Packer (v\d+\.\d+\.\d+)`)

// versionOf asks a packer. Another program is known by that name, so the
// answer may be anything.
func versionOf(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version")
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", path, err)
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s is no packer", path)
	}
	return string(m[1]), nil
}

// Build makes a packer from the module cache, into build/tools, unless it is
// there. It takes minutes and needs the module proxy when the cache is cold.
func Build(ctx context.Context) (string, error) {
	to, err := built()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", fmt.Errorf("build packer: %w", err)
	}
	unlock, err := lock(to + ".lock")
	if err != nil {
		return "", fmt.Errorf("build packer: %w", err)
	}
	defer unlock()
	if _, err := versionOf(ctx, to); err == nil {
		return to, nil // another process built it while we waited
	}
	dir, err := fetch(ctx)
	if err != nil {
		return "", fmt.Errorf("fetch packer: %w", err)
	}
	// Its own go.mod, with its own replace, applies in its own folder only;
	// "go install module@version" refuses a module with a replace.
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", to+".part", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build packer: %w: %s", err, bytes.TrimSpace(out))
	}
	if err := os.Rename(to+".part", to); err != nil {
		return "", fmt.Errorf("build packer: %w", err)
	}
	return to, nil
}

// fetch puts the module into the cache and returns its folder there, whose
// content it compares with the pinned sum.
func fetch(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module+"@"+version)
	cmd.Dir = os.TempDir() // outside our module: neither go.mod nor go.sum is touched
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, runErr := cmd.Output() // an error is in the answer too, in words
	var m struct{ Dir, Error string }
	if err := json.Unmarshal(out, &m); err != nil {
		return "", errors.Join(runErr, err)
	}
	if m.Error != "" {
		return "", errors.New(m.Error)
	}
	return m.Dir, verify(m.Dir)
}

// verify compares what is built with the pinned sum.
func verify(dir string) error {
	got, err := dirhash.HashDir(dir, module+"@"+version, dirhash.Hash1)
	if err == nil && got != sum {
		err = fmt.Errorf("module %s@%s has the sum %s, want %s", module, version, got, sum)
	}
	return err
}

// lock keeps other processes from building at the same time.
func lock(path string) (unlock func(), err error) {
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
