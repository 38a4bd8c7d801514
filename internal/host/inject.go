//go:build linux

package host

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Where things are in a container: below its root and below its /run.
const (
	guestRun  = "dayfly"       // of /run, made by the guest's units
	jitFile   = "dayfly/jit"   // of /run; the guest's program begin waits for it
	comePipe  = "dayfly/.come" // of /run; begin reads from it while it waits
	usedFile  = "var/lib/dayfly/started"
	jobDir    = "dayfly/job" // of /run; the job's hooks write there
	injectNap = 2 * time.Millisecond
	maxJIT    = 64 << 10
)

var (
	jitForm   = regexp.MustCompile(`^[A-Za-z0-9+/=_-]+$`)
	factName  = regexp.MustCompile(`^DAYFLY_[A-Z_]{1,32}$`)
	factValue = regexp.MustCompile(`^[A-Za-z0-9@:./+_ -]{0,128}$`)
)

// check refuses what could be more than one line of an environment file, or
// mean more than it says there (scripts/guest/files/begin; systemd.exec(5) in old
// guests).
func (in Injection) check() error {
	if !jitForm.MatchString(in.JIT) || len(in.JIT) > maxJIT {
		return fmt.Errorf("the JIT config is not base64, or longer than 64 KiB: %w", fleet.ErrInvalid)
	}
	if len(in.Facts) > 16 {
		return fmt.Errorf("%d facts: %w", len(in.Facts), fleet.ErrInvalid)
	}
	for name, value := range in.Facts {
		if !factName.MatchString(name) || !factValue.MatchString(value) {
			return fmt.Errorf("fact %.40q: %w", name, fleet.ErrInvalid)
		}
	}
	return in.Env.Check()
}

func (in Injection) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s=%s\n", JITVariable, in.JIT)
	for _, name := range slices.Sorted(maps.Keys(in.Facts)) {
		fmt.Fprintf(&b, "%s=%s\n", name, quoted(in.Facts[name]))
	}
	for _, line := range in.Env.Lines() {
		b.WriteString(line + "\n")
	}
	return b.Bytes()
}

// quoted keeps the spaces of a value, which the form above allows.
func quoted(s string) string {
	if strings.Contains(s, " ") {
		return `"` + s + `"`
	}
	return s
}

// inject waits until the container is far enough and its firewall's rules are
// in force, and delivers.
func (s *Server) inject(ctx context.Context, id fleet.VMID, in Injection) (Injected, error) {
	if err := in.check(); err != nil {
		return Injected{}, err
	}
	c, m, err := s.admit(id)
	if err != nil {
		return Injected{}, err
	}
	if m.Name != in.Name {
		return Injected{}, fmt.Errorf("container %d is %s, not %s: %w", id, m.Name, in.Name, fleet.ErrDenied)
	}
	ctx, cancel := context.WithTimeout(ctx, injectBound)
	defer cancel()
	if err := s.shielded(ctx, id, c.firewall); err != nil {
		return Injected{}, fmt.Errorf("container %d: %w", id, err)
	}
	for nap := injectNap; ; nap = min(nap*2, 50*time.Millisecond) {
		done, err := s.tryInject(id, in)
		if err == nil || !errors.Is(err, errEarly) {
			return done, err
		}
		select {
		case <-ctx.Done():
			return done, fmt.Errorf("container %d: after %s: %w", id, injectBound, err)
		case <-time.After(nap):
		}
	}
}

// errEarly says that the container may soon be far enough.
var errEarly = fmt.Errorf("it is not far enough: %w", ErrUnready)

func (s *Server) tryInject(id fleet.VMID, in Injection) (Injected, error) {
	g, err := s.grip(id, in.Name)
	switch {
	case errors.Is(err, fleet.ErrUnavailable), errors.Is(err, fleet.ErrNotFound):
		return Injected{}, fmt.Errorf("%w: %w", errEarly, err)
	case err != nil:
		return Injected{}, err
	}
	defer s.letGo(g)
	return Injected{g.boot}, g.inject(in)
}

// inject writes the file under a name of its own, in memory, and renames it.
func (g *grip) inject(in Injection) error {
	g.findRun()
	if g.run == nil {
		return fmt.Errorf("%w: nothing in memory is mounted on its /run", errEarly)
	}
	if exists(g.root, usedFile) || exists(g.run, jitFile) || exists(g.run, jobDir) {
		return fmt.Errorf("container %d has, or had, a JIT config: %w", g.id, fleet.ErrExists)
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	part := guestRun + "/.jit." + hex.EncodeToString(random[:])
	err := asRoot(g, func() error { return g.deliver(part, in.text()) })
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("container %d has no space for a JIT config on /run: %w: %w", g.id, err, ErrUnready)
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("container %d has a JIT config: %w", g.id, fleet.ErrExists)
	case err != nil:
		return fmt.Errorf("container %d: %w", g.id, err)
	}
	g.taken = true
	return nil
}

func (g *grip) deliver(part string, text []byte) (err error) {
	run := int(g.run.Fd())
	if err := unix.Mkdirat(run, guestRun, 0o711); err == nil { // before the guest's unit did
		dir, err := openAt(g.run, guestRun, unix.O_RDONLY|unix.O_DIRECTORY, staying)
		if err != nil {
			return err
		}
		err = dir.Chmod(0o711) // whatever our umask is
		_ = dir.Close()
		if err != nil {
			return err
		}
	} else if !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make /run/%s: %w", guestRun, err)
	}
	f, err := openAt(g.run, part, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, staying)
	if err != nil {
		return err
	}
	defer f.Close()
	defer func() {
		if err != nil {
			_ = unix.Unlinkat(run, part, 0)
		}
	}()
	if _, err := f.Write(text); err != nil {
		return fmt.Errorf("write the JIT config: %w", err)
	}
	if err := unix.Renameat2(run, part, run, jitFile, unix.RENAME_NOREPLACE); err != nil {
		return &os.PathError{Op: "rename", Path: jitFile, Err: err}
	}
	g.wake()
	return nil
}

// wake tells a guest that waits: it holds its pipe before it looks for the file, so
// that it sees one or the other. Older ones would see the file by themselves, later.
// It tries once: a pipe that is full has told already, and it may be something else.
func (g *grip) wake() {
	f, err := openAt(g.run, comePipe, unix.O_WRONLY|unix.O_NONBLOCK, staying)
	if err != nil {
		return // it does not wait
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		return
	}
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Write(func(fd uintptr) bool {
			_, _ = unix.Write(int(fd), []byte("\n"))
			return true
		})
	}
}

// asRoot runs f in a thread that is the container's root to every file system,
// and has none of our capabilities there. Our own root could not make a file on
// what a container has mounted: it is nobody there (EOVERFLOW, may_create of
// fs/namei.c).
func asRoot(g *grip, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with f
		if unix.Setfsgid(g.gid) != nil || unix.Setfsuid(g.uid) != nil {
			done <- errors.New("become the container's root: refused")
			return
		}
		if now, _ := unix.SetfsuidRetUid(-1); now != g.uid {
			done <- fmt.Errorf("become the container's root: still %d", now)
			return
		}
		done <- f()
	}()
	return <-done
}
