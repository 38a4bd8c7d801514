package daemon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// doubt is a VMID of ours that was given up, but not yet seen to be free. What
// a cut-off clone or destroy leaves is in no resource pool: the token cannot
// see it in a listing, nor remove it (pve-container, API2/LXC.pm: a clone joins
// its resource pool last, and a destroy leaves it before the configuration is
// gone).
type doubt struct {
	node  string
	since time.Time
}

const (
	doubtEvery = 30 * time.Second
	// doubtAfter is how long something may be left before a person is told.
	doubtAfter = 2 * time.Minute
	// lockedAfter is how long a template may be locked with no clone of ours
	// under way before a person is told: no call of the API removes a lock.
	lockedAfter = 5 * time.Minute
	// stuckAfter is how many failures in a row of an action are a trouble.
	stuckAfter = 4
)

// lookAtLeftovers asks whether the VMIDs of runners that are gone are free.
func (d *Daemon) lookAtLeftovers(ctx context.Context) error {
	ids, err := ask(ctx, d, func(s *state) []fleet.VMID { return slices.Sorted(maps.Keys(s.doubts)) })
	if err != nil {
		return err
	}
	for _, id := range ids {
		bound, cancel := context.WithTimeout(ctx, lookBound)
		taken, err := d.cfg.Proxmox.Taken(bound, id)
		cancel()
		if err != nil {
			return err
		}
		d.inbox.post(func(s *state) { d.probed(s, id, taken) })
	}
	return nil
}

// probed applies whether a doubtful VMID is taken.
func (d *Daemon) probed(s *state, id fleet.VMID, taken bool) {
	doubt, known := s.doubts[id]
	key, node := fmt.Sprintf("vmid %d", id), cmp.Or(doubt.node, "its node")
	switch {
	case !known:
	case !taken || s.owner(id):
		delete(s.doubts, id)
		d.fine(key)
	case time.Since(doubt.since) > doubtAfter:
		d.trouble(key, fmt.Sprintf("VMID %d on %s is still taken by what a cut-off task left, which dayfly may not see or remove", id, node),
			fmt.Sprintf(`run "pct unlock %d; pct destroy %d" on %s`, id, id, node))
	}
}

// owner reports whether a runner has the VMID.
func (s *state) owner(id fleet.VMID) bool {
	for _, r := range s.runners {
		if r.VMID == id {
			return true
		}
	}
	return false
}

// watchLocks tells of templates that stay locked though no clone of ours holds
// them: a worker that was killed leaves its source locked for ever.
func (d *Daemon) watchLocks(s *state, name string) {
	n := s.nodes[name]
	busy := map[fleet.VMID]bool{}
	for _, r := range s.runners {
		if r.Pending == fleet.Clone {
			busy[r.Source] = true
		}
	}
	now := time.Now()
	for _, t := range n.templates {
		key := fmt.Sprintf("template %d", t.VMID)
		if !t.Locked || busy[t.VMID] {
			delete(n.locked, t.VMID)
			d.fine(key)
			continue
		}
		if n.locked[t.VMID].IsZero() {
			n.locked[t.VMID] = now
		}
		if now.Sub(n.locked[t.VMID]) >= lockedAfter {
			d.trouble(key, fmt.Sprintf("template %d (%s) on node %s is locked, and no clone of ours is under way", t.VMID, t.Ref, name),
				fmt.Sprintf(`if nothing works on it, run "pct unlock %d" on node %s`, t.VMID, name))
		}
	}
}

// stuck tells of a runner whose clean-up fails again and again.
func (d *Daemon) stuck(a fleet.Action, r *runner, err error) {
	if (a.Kind == fleet.Destroy || a.Kind == fleet.Deregister && r.Registration != fleet.BusyFlag) && r.attempts >= stuckAfter {
		d.trouble("runner "+r.Name, fmt.Sprintf("runner %s: %s fails: %v", r.Name, a.Kind, err), hint(err))
	}
}
