//go:build linux

package host

import (
	"fmt"
	"slices"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// slot is what is kept of one container. One look into it happens at a time:
// should a container find a way to hang it, that is one thread and no more.
type slot struct {
	turn chan struct{}
	grip *grip
	last *Evidence // of the last boot that ended
}

// spoolMost bounds the evidence that nobody has asked for.
const spoolMost = 64

func errStuck(id fleet.VMID) error {
	return fmt.Errorf("container %d: a look into it does not end: %w", id, fleet.ErrUnavailable)
}

func (sl *slot) unlock() { <-sl.turn }

// lock takes the turn of a container, or gives up.
func (s *Server) lock(id fleet.VMID) (*slot, bool) {
	s.mu.Lock()
	sl := s.slots[id]
	if sl == nil {
		sl = &slot{turn: make(chan struct{}, 1)}
		s.slots[id] = sl
	}
	s.mu.Unlock()
	timer := time.NewTimer(slotBound)
	defer timer.Stop()
	select {
	case sl.turn <- struct{}{}:
		return sl, true
	case <-timer.C:
		return nil, false
	}
}

// grip takes the turn of a container and a hold on the boot that runs now. It
// keeps both until letGo, and the hold until the boot ends.
func (s *Server) grip(id fleet.VMID, name string) (*grip, error) {
	sl, ok := s.lock(id)
	if !ok {
		return nil, errStuck(id)
	}
	if g := sl.grip; g != nil && (g.boot != s.boot(id) || !g.alive() || g.name != name) {
		s.finish(sl)
	}
	if sl.grip == nil {
		g, err := s.hold(id, name)
		if err != nil {
			sl.unlock()
			return nil, err
		}
		sl.grip = g
	}
	return sl.grip, nil
}

func (s *Server) letGo(g *grip) {
	s.mu.Lock()
	sl := s.slots[g.id]
	s.mu.Unlock()
	sl.unlock()
}

// finish keeps what a boot that ended has left, and lets the container go.
func (s *Server) finish(sl *slot) {
	g := sl.grip
	sl.grip = nil
	g.over(100 * time.Millisecond) // what it writes last is in then
	e := s.evidence(g)
	e.Over = true
	g.close()
	sl.last = &e
	s.log.Info("boot ended", "vmid", int(g.id), "runner", g.name, "exit", e.Exit, "files", len(e.Files))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spool = append(slices.DeleteFunc(s.spool, func(id fleet.VMID) bool { return id == g.id }), g.id)
	if len(s.spool) > spoolMost {
		if old := s.slots[s.spool[0]]; old != nil && old != sl {
			delete(s.slots, s.spool[0]) // whoever has its turn keeps what it has
		}
		s.spool = s.spool[1:]
	}
}

// ended is told by the watcher that a container runs no longer as it did.
func (s *Server) ended(id fleet.VMID) {
	s.mu.Lock()
	known := s.slots[id]
	s.mu.Unlock()
	if known == nil {
		return
	}
	sl, ok := s.lock(id)
	if !ok {
		s.log.Warn("boot ended", "vmid", int(id), "err", errStuck(id))
		return
	}
	defer sl.unlock()
	if sl.grip != nil && (sl.grip.boot != s.boot(id) || !sl.grip.alive()) {
		s.finish(sl)
	}
}
