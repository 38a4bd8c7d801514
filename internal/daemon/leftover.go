package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

const (
	// doubtEvery is how often it is asked whether the VMID of a runner that is
	// gone is free. What a cut-off clone or destroy leaves is in no resource
	// pool, so the token cannot see it in a listing, nor remove it (a clone
	// joins its resource pool last, and a destroy leaves it before the
	// configuration is gone: pve-container, API2/LXC.pm).
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
	gone, err := ask(ctx, d, (*state).gone)
	if err != nil {
		return err
	}
	for _, r := range gone {
		bound, cancel := context.WithTimeout(ctx, lookBound)
		taken, err := d.cfg.Proxmox.Taken(bound, r.VMID)
		if err == nil && taken {
			d.mend(ctx, r)
		}
		cancel()
		if err != nil {
			return err
		}
		d.inbox.post(func(s *state) { d.probed(s, r.Name, taken) })
	}
	return nil
}

// gone lists the runners of which only the VMID is left.
func (s *state) gone() []fleet.Runner {
	var list []fleet.Runner
	for _, r := range s.inOrder() {
		if r.left() {
			list = append(list, r.Runner)
		}
	}
	return list
}

// left reports whether only the VMID of the runner is left.
func (r *runner) left() bool { return !r.gone.IsZero() }

// probed applies whether the VMID of a runner that is gone is taken.
func (d *Daemon) probed(s *state, name string, taken bool) {
	r := s.runners[name]
	switch {
	case r == nil || r.gone.IsZero():
	case !taken:
		r.free = true
	case time.Since(r.gone) > doubtAfter:
		d.trouble("runner "+name, fmt.Sprintf("VMID %d on node %s is still taken: by what a cut-off task of runner %s left, or by somebody else's container; dayfly may not see or remove it", r.VMID, r.Node, name),
			fmt.Sprintf(`look at "pct config %d" on node %s; only if that is nobody's container, run "pct unlock %d; pct destroy %d" there`, r.VMID, r.Node, r.VMID, r.VMID))
	}
}

// watchLocks tells of templates that stay locked though no clone of ours holds
// them: a worker that was killed leaves its source locked for ever. Other locks
// end, and jobs may wait for that: it is looked for soon, and then ever later.
func (d *Daemon) watchLocks(s *state, name string) {
	n := s.nodes[name]
	busy := map[fleet.VMID]bool{}
	for _, r := range s.runners {
		if r.Pending == fleet.Clone {
			busy[r.Source] = true
		}
	}
	now, again := time.Now(), d.cfg.Every.Containers
	there := map[fleet.VMID]bool{}
	for _, t := range n.templates {
		there[t.VMID] = true
	}
	for id := range n.locked {
		if !there[id] { // removed, locked as it was
			delete(n.locked, id)
			d.fine(fmt.Sprintf("template %d", id))
		}
	}
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
		again = min(again, max(time.Second, now.Sub(n.locked[t.VMID])))
		if now.Sub(n.locked[t.VMID]) >= lockedAfter {
			d.trouble(key, fmt.Sprintf("template %d (%s) on node %s is locked, and no clone of ours is under way", t.VMID, t.Ref, name),
				fmt.Sprintf(`if nothing works on it, run "pct unlock %d" on node %s`, t.VMID, name))
		}
	}
	if n.again != nil {
		n.again.Stop() // one at a time, however many locks and listings there are
	}
	if again < d.cfg.Every.Containers {
		n.again = time.AfterFunc(again, func() { d.looks.containers.poke(name) })
	}
}

// stuck tells of a runner whose clean-up fails again and again.
func (d *Daemon) stuck(a fleet.Action, r *runner, err error) {
	if (a.Kind == fleet.Destroy || a.Kind == fleet.Deregister && r.Registration != fleet.BusyFlag) && r.attempts >= stuckAfter {
		side := proxmoxAway
		if a.Kind == fleet.Deregister {
			side = githubAway
		}
		d.partOf(outage(err, side), "runner "+r.Name, fmt.Sprintf("runner %s: %s fails: %v", r.Name, a.Kind, err), hint(err))
	}
}
