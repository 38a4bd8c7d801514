package daemon

import (
	"slices"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Intervals while there is something to wait for.
const (
	exitEvery     = 250 * time.Millisecond // a job is over, its container not down yet
	liveEvery     = 2 * time.Second        // a runner may end at any time
	changeEvery   = 5 * time.Second        // a container is in some between-state
	launchEvery   = 3 * time.Second        // a runner is about to listen
	listenEvery   = 30 * time.Second
	clearingEvery = 10 * time.Second // a registration may be left
	writeEvery    = 5 * time.Second  // the journal could not be written
)

// pace chooses how often to look at containers and registrations, from what
// there is to wait for.
func (d *Daemon) pace(s *state) {
	every := d.cfg.Every
	nodes, scopes := map[string]time.Duration{}, map[string]time.Duration{}
	for _, r := range s.runners {
		containers, registrations := waitsFor(r)
		atMost(nodes, r.Node, containers)
		atMost(scopes, string(r.Scope), registrations)
	}
	for _, set := range []struct {
		round *round
		to    map[string]time.Duration
	}{{d.looks.containers, nodes}, {d.looks.registrations, scopes}} {
		for name := range set.to {
			atMost(set.to, name, set.round.interval)
		}
		set.round.set(set.to)
	}
	leftovers := every.Health
	if slices.ContainsFunc(s.inOrder(), (*runner).left) {
		leftovers = doubtEvery
	}
	d.looks.leftovers.set(leftovers)
	write := every.Prune
	if s.lasts(journalAway) {
		write = min(write, writeEvery)
	}
	d.looks.journal.set(write)
	d.looks.health.set(s.checkEvery(every.Health))
}

// atMost makes an interval no longer than d; 0 asks for nothing.
func atMost(intervals map[string]time.Duration, name string, d time.Duration) {
	have, ok := intervals[name]
	if d > 0 && (!ok || d < have) {
		intervals[name] = d
	}
}

// waitsFor says how often a runner wants its node's containers and its scope's
// registrations looked at; 0: it does not mind.
func waitsFor(r *runner) (containers, registrations time.Duration) {
	switch r.Phase() {
	case fleet.Cloning:
		return changeEvery, 0
	case fleet.Proving:
		return liveEvery, 0
	case fleet.Launching:
		return liveEvery, launchEvery
	case fleet.Idle, fleet.Busy:
		return liveEvery, listenEvery
	case fleet.Done:
		if r.Container == fleet.Running && !r.Ended.IsZero() {
			return exitEvery, clearingEvery
		}
		return changeEvery, clearingEvery
	case fleet.Gone:
		return 0, clearingEvery
	}
	return 0, 0
}
