package daemon

import (
	"fmt"
	"maps"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/github"
	"github.com/dayfly-ci/dayfly/internal/journal"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// Stages that only the daemon has.
const (
	exited    journal.Stage = "exited"    // a launched container runs no longer
	worker    journal.Stage = "worker"    // the job's process was seen on its node
	collected journal.Stage = "collected" // what the container left is kept
	again     journal.Stage = "restarted" // its container booted a second time
	silent    journal.Stage = "silent"    // GitHub hears nothing of it any more
)

// listed applies a listing of a node's containers.
func (d *Daemon) listed(s *state, list proxmox.Listing) {
	n := s.nodes[list.Node]
	if n == nil || list.AsOf.Before(n.listed) {
		return
	}
	n.up, n.failures, n.listed, n.foreign = true, 0, list.AsOf, list.Foreign
	n.templates, n.unused = d.vet(s, list), list.Unusable
	maps.DeleteFunc(n.released, func(_ fleet.VMID, at time.Time) bool { return at.Before(n.listed) })
	d.watchLocks(s, list.Node)
	seen := map[string]bool{}
	for _, c := range list.Owned {
		seen[c.Name] = true
		r := s.runners[c.Name]
		if r == nil {
			r = d.discovered(s, c)
		}
		if r.Pending == fleet.None && !list.AsOf.Before(r.touched) {
			d.contained(r, c)
			d.drifted(s, r, list, c)
		}
	}
	for _, r := range s.inOrder() {
		if r.Node == list.Node && !seen[r.Name] && r.Pending == fleet.None && !list.AsOf.Before(r.touched) {
			d.vanished(r)
		}
	}
}

// discovered makes a runner of a container of ours that the journal does not
// know: what proves it ours is in the container.
func (d *Daemon) discovered(s *state, c proxmox.Container) *runner {
	now := time.Now()
	r := &runner{Runner: fleet.Runner{
		Name: c.Name, Pool: c.Manifest.Pool, Scope: fleet.Scope(c.Manifest.Scope), Node: c.Node, VMID: c.VMID,
		Template: c.Manifest.Template, Storage: c.Storage, Created: now,
	}}
	if c.State == fleet.Running {
		r.Launched, r.Started = now, now // a root half may have given it a config
	}
	s.add(r)
	d.log.Info("container found that the journal does not know", "runner", c.Name, "vmid", int(c.VMID), "node", c.Node)
	return r
}

// contained applies what a listing says of a runner's container.
func (d *Daemon) contained(r *runner, c proxmox.Container) {
	now := time.Now()
	was := r.Container
	r.Container, r.Storage, r.VMID, r.Node, r.destroyed = c.State, c.Storage, c.VMID, c.Node, false
	if c.State == fleet.Creating {
		if c.Lock == "" {
			spent("it was left half-made")(r) // nobody works on it any more
		}
		return
	}
	if r.absent && c.State == fleet.Running {
		// A listing had left it out, and it never ended: a job may run in it.
		r.Ended, r.Cause = time.Time{}, ""
		d.later.Save(r.Runner)
	}
	r.absent = false
	if r.Cloned.IsZero() {
		r.Cloned = now
	}
	if c.Launched && r.Launched.IsZero() && r.Smoked.IsZero() {
		r.Launched = now
	}
	switch {
	case c.State == fleet.Running && !r.Launched.IsZero() && r.Started.IsZero():
		d.foundRunning(r, c, now)
	case c.State == fleet.Stopped && !r.Launched.IsZero() && r.Started.IsZero() && r.Spent.IsZero():
		spent("its launch was cut off")(r)
	case c.State == fleet.Stopped && !r.Started.IsZero():
		d.poweredOff(r, was)
	case c.State == fleet.Stopped && was == fleet.Running && !r.Booted.IsZero() && r.Spent.IsZero():
		d.cooled(r, now)
	}
}

// foundRunning notes that a container runs whose launch did not end: its outcome
// is lost, so its story is told by what is seen.
func (d *Daemon) foundRunning(r *runner, c proxmox.Container, now time.Time) {
	r.Started = now
	if !r.Spent.IsZero() {
		return // its launch ended, and failed
	}
	tell := func(what journal.Stage, detail string) {
		e := event(r.Runner, what, detail)
		e.At = r.Launched // nobody knows better, and its job may run since
		d.later.Save(r.Runner, e)
	}
	if c.Launched {
		tell(journal.Minted, "its launch was cut off, with a JIT config for it")
	}
	tell(journal.Started, "found running")
}

// poweredOff notes that a launched container runs no longer.
func (d *Daemon) poweredOff(r *runner, was fleet.Container) {
	if !r.Ended.IsZero() {
		return
	}
	r.Ended = time.Now()
	if r.Cause == "" && r.Job == 0 {
		r.Cause = "it powered off without a job that we know of"
	}
	d.save(r, exited, fmt.Sprintf("was %s", was))
	if r.Spent.IsZero() {
		d.dud(r, "it powered off before it listened")
	}
}

// cooled counts a warm container that ended soon after its boot against its
// template: the next one would end as well, and so on without end. One that ends
// later went with its node, as a rule.
func (d *Daemon) cooled(r *runner, now time.Time) {
	p, ok := d.state.pool(r.Pool)
	if !ok || r.dud || now.Sub(r.Booted) >= p.Timeouts.Register {
		return
	}
	r.dud = true
	const why = "it ended soon after its boot, while it was warm"
	d.faulted(r, why)
	d.failed(subject{kind: fleet.Boot, pool: r.Pool, ref: r.Template}, fmt.Errorf("runner %s: %s", r.Name, why))
}

// vanished applies that a complete listing does not show a runner's container.
func (d *Daemon) vanished(r *runner) {
	was := r.Container
	r.Container = fleet.Absent
	switch {
	case was == fleet.Absent && r.Spent.IsZero() && r.Ended.IsZero() && !r.Cloned.IsZero():
		spent("its container is gone")(r)
	case was != fleet.Absent && !r.Launched.IsZero() && r.Spent.IsZero():
		r.absent = r.Ended.IsZero()
		d.poweredOff(r, was)
	case was != fleet.Absent:
		spent("its container is gone")(r)
	}
}

// registered applies a listing of a scope's registrations.
func (d *Daemon) registered(s *state, scope fleet.Scope, began time.Time, regs []github.Registration) {
	ev := s.evidence[scope]
	if began.Before(ev.Registrations) {
		return
	}
	ev.Registrations = began
	s.evidence[scope] = ev
	byName := map[string]github.Registration{}
	for _, g := range regs {
		byName[g.Name] = g
		pool, ours := fleet.OwnedPool(g.Name, []byte(d.cfg.Key.Reveal()))
		if ours && s.runners[g.Name] == nil && s.complete() {
			d.orphaned(s, scope, pool, g)
		}
	}
	for _, r := range s.inOrder() {
		g := byName[r.Name]
		switch {
		case r.Scope != scope:
		case r.Pending == fleet.None && !began.Before(r.touched):
			d.recorded(r, g)
		case g.State == fleet.BusyFlag && r.Took.IsZero():
			// A listing that an action overtook cannot be trusted to show too
			// little, but what it shows of a job is true: no runner gets a second.
			r.Took = time.Now()
		}
	}
}

// recorded applies what a listing says of a runner's registration; the zero
// value is that there is none.
func (d *Daemon) recorded(r *runner, g github.Registration) {
	r.Registration, r.RegistrationID = g.State, g.ID
	now := time.Now()
	if g.State >= fleet.Online {
		d.listened(r, now, "")
	}
	if g.State == fleet.BusyFlag && r.Took.IsZero() {
		r.Took = now
	}
	d.hears(r, g, now)
}

// listened notes that a runner listens, and how that was seen, and reports whether
// that is new.
func (d *Daemon) listened(r *runner, now time.Time, how string) bool {
	if !r.Listened.IsZero() {
		return false
	}
	r.heard(now)
	d.listens(r)
	d.save(r, journal.Listening, how)
	return true
}

// heard notes that a runner listens, and so that its container runs. If a stop cut
// its launch off, nobody saw the start, which may come late: an older listing that
// shows it stopped must not give it up, for it may have a job, whatever GitHub
// says of that. Of a registration without a container, no listing would ever say
// again that nothing runs.
func (r *runner) heard(now time.Time) {
	r.Listened = now
	if r.Started.IsZero() && !r.Launched.IsZero() && r.VMID != 0 {
		r.Spent, r.Cause = time.Time{}, ""
		r.Started, r.Container, r.touched = now, fleet.Running, now
	}
}

// silentAfter is how long GitHub must have shown a runner offline before that is
// told: one that ends is offline for a moment.
const silentAfter = 30 * time.Second

// hears notes that GitHub hears nothing of a runner any more, or hears it again.
func (d *Daemon) hears(r *runner, g github.Registration, now time.Time) {
	switch {
	case g.State == fleet.Unregistered: // and nothing is heard of who is not known
	case !g.Away:
		r.Silent, r.hushed = time.Time{}, false
	case r.Listened.IsZero() || !r.Ended.IsZero() || r.Container != fleet.Running:
	case r.Silent.IsZero():
		r.Silent = now
	case !r.hushed && now.Sub(r.Silent) >= silentAfter:
		r.hushed = true
		d.log.Warn("runner is silent", "runner", r.Name, "vmid", int(r.VMID), "node", r.Node, "pool", r.Pool, "reason", fleet.CutOff)
		d.save(r, silent, "GitHub hears nothing of it, and its container runs: "+fleet.CutOff)
	}
}

// orphaned makes a runner of a registration of ours without a container.
func (d *Daemon) orphaned(s *state, scope fleet.Scope, pool string, g github.Registration) {
	now := time.Now()
	s.add(&runner{Runner: fleet.Runner{
		Name: g.Name, Pool: pool, Scope: scope, Registration: g.State, RegistrationID: g.ID,
		Created: now, Launched: now, Spent: now, Cause: "a registration of ours without a container",
	}})
	d.log.Info("registration found without a container", "runner", g.Name)
}

// jobSeen tells the runner of a job what happened to it.
func (d *Daemon) jobSeen(s *state, j fleet.Job) {
	r := s.runners[j.Runner]
	if j.Runner == "" || r == nil {
		return
	}
	now := time.Now()
	switch j.Status {
	case fleet.InProgress:
		d.took(j, now)
	case fleet.Completed:
		d.took(j, now)
		d.lost(r, j, now)
		if r.Ended.IsZero() {
			d.ended(r, now)
		}
	}
}
