//go:build linux

package host

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// looksAnyway is how often the cgroups are looked at though nothing was told.
const looksAnyway = 10 * time.Second

// epoch tells the marks of one life of the root half from those of another.
var epoch = func() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}()

func (s *Server) nextMark(n int) string { return epoch + "-" + strconv.Itoa(n) }

// watch waits until the view is not the one with that mark.
func (s *Server) watch(ctx context.Context, mark string) View {
	timer := time.NewTimer(watchBound)
	defer timer.Stop()
	for {
		s.mu.Lock()
		view, changed := s.view, s.changed
		s.mu.Unlock()
		if view.Mark != mark {
			return view
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return view
		case <-timer.C:
			return view
		}
	}
}

// Run follows the containers until ctx ends. The kernel tells of each cgroup
// that comes and goes, and of each that becomes empty: cgroup.events says so
// whatever becomes of LXC's monitor.
func (s *Server) Run(ctx context.Context) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch cgroups: %w", err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Now()) })
	w := watcher{s: s, fd: fd}
	buffer := make([]byte, 16<<10)
	for count := 1; ctx.Err() == nil; count++ {
		s.publish(ctx, w.look(), count)
		_ = events.SetReadDeadline(time.Now().Add(looksAnyway))
		if ctx.Err() != nil {
			break
		}
		if _, err := events.Read(buffer); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("watch cgroups: %w", err)
		}
	}
	s.finishAll()
	return nil
}

// watcher asks the kernel to tell, and looks.
type watcher struct {
	s  *Server
	fd int
}

// look lists what runs. It asks to be told of a change first and looks after,
// so that none is missed in between; asking again changes nothing.
func (w *watcher) look() []Running {
	top := filepath.Join(w.s.cfg.Cgroup, "lxc")
	const comes = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_TO | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(w.fd, top, comes); err != nil {
		// Until the node has started its first container there is no lxc.
		_, _ = unix.InotifyAddWatch(w.fd, w.s.cfg.Cgroup, comes)
	}
	list, _ := os.ReadDir(top)
	running := []Running{}
	for _, d := range list {
		id, err := strconv.Atoi(d.Name())
		if err != nil || !d.IsDir() || fleet.VMID(id) < w.s.cfg.First || fleet.VMID(id) > w.s.cfg.Last {
			continue
		}
		_, _ = unix.InotifyAddWatch(w.fd, filepath.Join(top, d.Name(), "cgroup.events"), unix.IN_MODIFY)
		if boot := w.s.boot(fleet.VMID(id)); boot != "" {
			running = append(running, Running{fleet.VMID(id), boot})
		}
	}
	slices.SortFunc(running, func(a, b Running) int { return int(a.VMID - b.VMID) })
	return running
}

// publish makes what runs known, if it is something new, and has what ended
// looked at.
func (s *Server) publish(ctx context.Context, running []Running, count int) {
	s.mu.Lock()
	old := s.view.Running
	if slices.Equal(old, running) {
		s.mu.Unlock()
		return
	}
	s.view = View{Mark: s.nextMark(count), Running: running}
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	for _, r := range old {
		if !slices.Contains(running, r) {
			go func() {
				s.ended(r.VMID)
				s.forget(r.Boot)
			}()
		}
	}
	for _, r := range running {
		if !slices.Contains(old, r) {
			go s.lookAhead(ctx, r)
		}
	}
}

// finishAll lets every container go, at the end.
func (s *Server) finishAll() {
	s.mu.Lock()
	ids := slices.Sorted(maps.Keys(s.slots))
	s.mu.Unlock()
	for _, id := range ids {
		if sl, ok := s.lock(id); ok {
			if sl.grip != nil {
				sl.grip.close()
				sl.grip = nil
			}
			sl.unlock()
		}
	}
}

// taskOf names a task of Proxmox that works on a container, or may: a clone is
// listed under its template's VMID. The list is PVE::RESTEnvironment's, a line
// each: "UPID:NODE:PID:PSTART:STARTED:TYPE:ID:USER: SAVED [ENDED STATUS]", in hex.
func (s *Server) taskOf(id fleet.VMID) string {
	text, err := readBounded(s.cfg.Tasks)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || len(words) > 2 { // those that ended say when
			continue
		}
		f := strings.Split(words[0], ":")
		if len(f) < 8 || f[0] != "UPID" || f[6] != strconv.Itoa(int(id)) && f[5] != "vzclone" {
			continue
		}
		pid, err := strconv.ParseInt(f[2], 16, 32)
		if _, gone := os.Stat(filepath.Join(s.cfg.Proc, strconv.FormatInt(pid, 10))); err == nil && gone == nil {
			return words[0]
		}
	}
	return ""
}
