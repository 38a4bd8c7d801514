//go:build linux

package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// grip holds one boot of a container by its root and its /run, so that what it
// leaves can be read though it powers off at once. It must be let go soon after
// the end: Proxmox cannot give a volume back while it is held.
type grip struct {
	id    fleet.VMID
	name  string
	boot  string
	pid   int
	init  int      // pidfd of the container's first process
	root  *os.File // its root directory, O_PATH
	run   *os.File // its /run, which is in memory; nil: not mounted yet
	uid   int      // the container's root, seen from the node
	gid   int
	taken bool  // a JIT config is, or was, in it: whatever its root removes
	last  Stats // measured last
}

func (g *grip) close() {
	for _, f := range []*os.File{g.root, g.run} {
		if f != nil {
			_ = f.Close()
		}
	}
	if g.init >= 0 {
		_ = unix.Close(g.init)
	}
}

// alive reports whether the boot's first process lives. A pidfd is of one
// process for ever, whoever gets its number afterwards, and readable once that
// has ended (pidfd_open(2)).
func (g *grip) alive() bool { return !g.over(0) }

// over waits a while for the boot's first process to end.
func (g *grip) over(wait time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(g.init), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(wait.Milliseconds()))
	return n != 0 && !errors.Is(err, unix.EINTR)
}

// hold takes a grip on the boot of a container that runs now.
func (s *Server) hold(id fleet.VMID, name string) (*grip, error) {
	boot := s.boot(id)
	if boot == "" {
		return nil, fmt.Errorf("container %d does not run: %w", id, fleet.ErrNotFound)
	}
	g := &grip{id: id, name: name, boot: boot, init: -1}
	err := s.findInit(g)
	if err == nil {
		err = s.openRoot(g)
	}
	if err == nil && s.boot(id) != boot {
		err = fmt.Errorf("container %d has just started anew: %w", id, fleet.ErrUnavailable)
	}
	if err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// findInit finds the container's first process, and holds it. That it is in the
// container's cgroup is asked after it is held and before it is known to live
// still, so that the number cannot be another process's.
func (s *Server) findInit(g *grip) error {
	found := false
	err := s.eachPID(g.id, initHomes, func(pid int, file string) bool {
		if !s.isInit(pid) {
			return false
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return false
		}
		g.pid, g.init = pid, fd
		found = slices.Contains(readPIDs(file), pid) && s.isInit(pid) && g.alive()
		if !found {
			_ = unix.Close(fd)
			g.init = -1
		}
		return found
	})
	if err == nil && !found {
		err = fmt.Errorf("container %d has no first process yet: %w", g.id, fleet.ErrUnavailable)
	}
	return err
}

// openRoot opens the root directory of the held process and finds out which
// user of the node is root in there.
func (s *Server) openRoot(g *grip) error {
	proc := filepath.Join(s.cfg.Proc, strconv.Itoa(g.pid))
	fd, err := unix.Open(filepath.Join(proc, "root"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open root of container %d: %w: %w", g.id, err, fleet.ErrUnavailable)
	}
	g.root = os.NewFile(uintptr(fd), "root")
	for _, m := range []struct {
		file string
		into *int
	}{{"uid_map", &g.uid}, {"gid_map", &g.gid}} {
		if *m.into, err = outside(filepath.Join(proc, m.file)); err != nil {
			return fmt.Errorf("container %d: %w", g.id, err)
		}
	}
	var own, theirs unix.Stat_t
	if unix.Stat("/", &own) == nil && unix.Fstat(fd, &theirs) == nil && own.Dev == theirs.Dev && own.Ino == theirs.Ino {
		return fmt.Errorf("container %d has not entered its root yet: %w", g.id, fleet.ErrUnavailable)
	}
	if !g.alive() {
		return fmt.Errorf("container %d has just ended: %w", g.id, fleet.ErrNotFound)
	}
	g.findRun()
	return nil
}

// findRun opens /run once something in memory is mounted there.
func (g *grip) findRun() {
	if g.run != nil {
		return
	}
	f, err := openAt(g.root, "run", unix.O_PATH|unix.O_DIRECTORY, crossing)
	if err != nil {
		return
	}
	if fsType(f) != unix.TMPFS_MAGIC || sameDevice(f, g.root) {
		_ = f.Close()
		return
	}
	g.run = f
}

// outside reads which id of the node is 0 in the container: user_namespaces(7).
func outside(file string) (int, error) {
	text, err := readBounded(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "0" {
			return strconv.Atoi(f[1])
		}
	}
	return 0, errors.New("nobody is root in it")
}

func microseconds(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
