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

	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/sys/unix"
)

// module is a program that is built from the module proxy. It is not in our
// go.mod, whose versions it would change.
type module struct {
	name    string // of the program
	path    string
	version string
	sum     string // h1 hash, as go.sum would hold it
}

func (m module) String() string { return m.path + "@" + m.version }

// file is where build puts the program: in the module that the working
// directory is in, which is ours for its tests and for "go run".
func (m module) file() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, look := os.Stat(filepath.Join(dir, "go.mod")); look == nil {
			return filepath.Join(dir, "build", "tools", m.name+"-"+m.version[1:]), nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("no go.mod above the working directory")
		}
	}
	return "", fmt.Errorf("find build folder: %w", err)
}

// build makes the program, unless it is there, and returns its path. It takes
// minutes and needs the module proxy when the cache is cold.
func (m module) build(ctx context.Context) (string, error) {
	to, err := m.file()
	if err != nil {
		return "", err
	}
	if err := m.buildTo(ctx, to); err != nil {
		return "", fmt.Errorf("build %s: %w", m.name, err)
	}
	return to, nil
}

func (m module) buildTo(ctx context.Context, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	unlock, err := lock(to + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := exec.LookPath(to); err == nil {
		return nil // another process built it while we waited
	}
	dir, err := m.fetch(ctx)
	if err != nil {
		return err
	}
	// Its own go.mod, with its own replace, applies in its own folder only;
	// "go install module@version" refuses a module with a replace.
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", to+".part", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return os.Rename(to+".part", to)
}

// fetch puts the module into the cache and returns its folder there, whose
// content it compares with the pinned sum.
func (m module) fetch(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", m.String())
	cmd.Dir = os.TempDir() // outside our module: neither go.mod nor go.sum is touched
	// The checksum database does not know every version; the pinned sum, which
	// is compared below, says as much.
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GONOSUMDB="+m.path)
	out, runErr := cmd.Output() // an error is in the answer too, in words
	var got struct{ Dir, Error string }
	if err := json.Unmarshal(out, &got); err != nil {
		return "", errors.Join(runErr, err)
	}
	if got.Error != "" {
		return "", errors.New(got.Error)
	}
	return got.Dir, m.verify(got.Dir)
}

// verify compares what is built with the pinned sum.
func (m module) verify(dir string) error {
	got, err := dirhash.HashDir(dir, m.String(), dirhash.Hash1)
	if err == nil && got != m.sum {
		err = fmt.Errorf("module %s has the sum %s, want %s", m, got, m.sum)
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
