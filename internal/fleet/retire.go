package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// fallback are the deadlines of runners whose pool is no longer desired. Its
// own hard limit of a job is not known any more: GitHub's is 5 days on a
// self-hosted runner.
var fallback = Timeouts{
	Clone: 5 * time.Minute, Launch: time.Minute, Register: time.Minute,
	Idle: 5 * time.Minute, Job: 5 * 24 * time.Hour,
}

// orFallback replaces what is not set: no deadline may pass at once.
func (t Timeouts) orFallback() Timeouts {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&t.Clone, fallback.Clone)
	set(&t.Launch, fallback.Launch)
	set(&t.Register, fallback.Register)
	set(&t.Idle, fallback.Idle)
	set(&t.Job, fallback.Job)
	set(&t.Warm, WarmLife)
	return t
}

func (p *pass) timeouts(r *Runner) Timeouts {
	if q := p.byName[r.Pool]; q != nil {
		return q.Timeouts
	}
	return fallback
}

// ready reports whether an action on the runner may be decided now: none is
// under way, and what is seen of its container is what is.
func (p *pass) ready(r *Runner) bool {
	return r.Pending == None && r.Container != Unseen &&
		(r.Container == Absent || p.room.online[r.Node]) && p.passed(r.Retry)
}

// expired reports whether a limit since a time is over, and else asks for a
// pass then. What began at a time that nobody knows does not expire.
func (p *pass) expired(since time.Time, limit time.Duration) bool {
	return !since.IsZero() && p.passed(since.Add(limit))
}

func (p *pass) on(k Kind, r *Runner, format string, args ...any) {
	p.do(Action{Kind: k, Pool: r.Pool, Runner: r.Name, Node: r.Node, Reason: fmt.Sprintf(format, args...)})
}

// doom is a clean-up that waits until the jobs have been served.
type doom struct {
	kind   Kind
	runner *Runner
	since  time.Time
	format string
	args   []any
}

func (p *pass) doom(k Kind, r *Runner, format string, args ...any) {
	p.doomed = append(p.doomed, doom{k, r, r.end(), format, args})
}

// clear decides the clean-up, what has waited longest first, as far as the
// nodes have room for tasks.
func (p *pass) clear() {
	slices.SortFunc(p.doomed, func(a, b doom) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.runner.Name, b.runner.Name))
	})
	for _, d := range p.doomed {
		if d.kind == Destroy {
			p.destroy(d.runner, d.format, d.args...)
		} else {
			p.on(d.kind, d.runner, d.format, d.args...)
		}
	}
}

// destroy decides to remove a container if its node has room for one more task.
func (p *pass) destroy(r *Runner, format string, args ...any) bool {
	p.room.leaves(r)
	ok := p.room.online[r.Node] && p.room.task(r.Node, r.Storage)
	if ok {
		p.on(Destroy, r, format, args...)
	}
	return ok
}

// cloning waits for a clone, or gives up one that nobody works on any more.
func (p *pass) cloning(q *pool, r *Runner) {
	limit := p.timeouts(r).Clone
	late := p.expired(r.Created, limit)
	switch {
	case late && p.ready(r):
		p.doom(Destroy, r, "not cloned within %s", limit)
	case late || r.Pending == Deregister || r.Pending == Destroy || q == nil || q.Drained:
	case q.stales(r), !p.room.online[r.Node], p.suspected(q, r.Node):
		q.replacing = true
	default:
		q.replacing = true
		q.line(r).coming++
	}
}

// stales reports whether the runner is of another template version, or signed
// for another scope.
func (q *pool) stales(r *Runner) bool {
	if q.line(r) != q {
		return false
	}
	known := r.Template.Family != ""
	return r.Drift != "" || q.mute || r.Scope != q.Scope && r.Scope != "" || known && (r.Template.Family != q.ref.Family || q.ref.Version != "" && r.Template.Version != q.ref.Version)
}

// spare offers a stopped container to demand, or clears it away.
func (p *pass) spare(q *pool, r *Runner) {
	if r.Pending != None || r.Container != Stopped {
		if q != nil && r.Pending == Destroy && (q.stales(r) || q.line(r) != q) {
			q.replacing = true
		}
		return // its clone task has not released it yet, or its node does not answer
	}
	ready := p.ready(r)
	switch {
	case q == nil && ready:
		p.doom(Destroy, r, "pool %s is gone", r.Pool)
	case q == nil || !p.room.online[r.Node]:
	case q.Drained && ready:
		p.doom(Destroy, r, "pool %s is drained", r.Pool)
	case r.Registration != Unregistered:
		// A mint that was thought to have failed did not: never use the name again.
		p.abandon(r, r.Created, "registered before its launch")
	case q.stales(r) && ready:
		q.stale = append(q.stale, r)
	case !ready, !p.shielded(q, r):
		l := q.line(r)
		l.rest = append(l.rest, r)
	default:
		l := q.line(r)
		l.spares = append(l.spares, r)
	}
}

// launching waits until the runner listens, or gives it up. One that is
// stopped was not even started, and one that runs without our knowing why was
// launched before we lost our memory.
func (p *pass) launching(q *pool, r *Runner) {
	t := p.timeouts(r)
	since := first(r.Started, r.Launched)
	if since.IsZero() && r.Pending != Launch {
		since = first(r.Cloned, r.Created)
	}
	if p.now.Before(r.Launched.Add(headStart)) {
		p.room.launched(r.Node, r.Launched)
	}
	limit, what := t.Launch+t.Register, "not listening %s after its launch"
	switch {
	case !r.Started.IsZero():
		limit, what = t.Register, "not listening %s after its start"
	case r.Container == Stopped:
		limit, what = t.Launch, "not started %s after its launch"
	}
	if p.expired(since, limit) {
		if r.Pending != Launch {
			p.abandon(r, since.Add(limit), what, limit)
		}
		return
	}
	if q.supplies(r) && p.room.online[r.Node] { // else others are made for its job elsewhere
		q.soon++
	}
}

// supplies reports whether a registered runner can take a job of its pool.
func (q *pool) supplies(r *Runner) bool {
	return q != nil && r.Pending != Deregister && r.Pending != Destroy && (r.Scope == q.Scope || r.Scope == "")
}

// idling offers a listening runner to demand, unless it cannot get a job.
func (p *pass) idling(q *pool, r *Runner) {
	ev := p.have.Evidence[r.Scope]
	since := listening(r)
	limit := p.timeouts(r).Idle
	fresh := !ev.Registrations.After(since)
	switch {
	case r.Pending == Deregister || r.Pending == Destroy:
	case r.Registration == Unregistered && !fresh:
		// Its listener may go on for ever (actions/runner#4617).
		p.abandon(r, since, "GitHub removed its registration")
	case q == nil:
		p.abandon(r, since, "pool %s is gone", r.Pool)
	case !q.supplies(r):
		p.abandon(r, since, "registered with %s, but pool %s is of %s", r.Scope, q.Name, q.Scope)
	case r.Registration == Offline && !fresh:
		if p.expired(since, limit) {
			p.abandon(r, since.Add(limit), "offline at GitHub, no job within %s", limit)
		}
	case !p.room.online[r.Node]: // others are made for its job elsewhere
	case p.expired(since, 2*limit):
		// Queued jobs that fit it did not reach it: it may never get one.
		p.abandon(r, since.Add(2*limit), Starved+" %s of listening", 2*limit)
	default:
		q.idle = append(q.idle, r)
		q.listen++
	}
}

// listening is since when a runner listens, at the earliest that is known.
func listening(r *Runner) time.Time { return first(r.Listened, r.Started, r.Launched, r.Created) }

// retireIdle gives up listening runners that no queued job needs and whose
// time is over. What supply left over in listen is surplus.
func (p *pass) retireIdle() {
	for _, q := range p.pools {
		slices.SortFunc(q.idle, func(a, b *Runner) int {
			return cmp.Or(listening(a).Compare(listening(b)), cmp.Compare(a.Name, b.Name))
		})
		for _, r := range q.idle[:q.listen] {
			since := listening(r)
			if q.Drained {
				p.abandon(r, since, "pool %s is drained", q.Name)
			} else if limit := q.Timeouts.Idle; p.expired(since, limit) {
				p.abandon(r, since.Add(limit), "no job within %s", limit)
			}
		}
	}
}

// busy leaves a runner alone until its job's hard limit.
func (p *pass) busy(q *pool, r *Runner) {
	j := p.running[r.Name]
	started := r.Took
	if j != nil {
		started = first(r.Took, j.Started)
	}
	since := first(started, later(r.Listened, r.Launched), r.Started, r.Created)
	limit := p.timeouts(r).Job
	if p.expired(since, limit) {
		if p.ready(r) {
			p.doom(Destroy, r, "its job ran longer than %s", limit)
		}
		return
	}
	// Which job it took is not known until the next look at the jobs: until
	// then one that seems queued is the one it runs.
	if r.Job == 0 && j == nil && q.supplies(r) && !p.have.Evidence[r.Scope].Jobs.After(since) {
		q.soon++
	}
}

// clean removes what is left of a runner whose use is over. One that ran no
// job to its end is deregistered first: a job may just have arrived, and then
// GitHub refuses (422).
func (p *pass) clean(r *Runner) {
	if !p.ready(r) {
		return
	}
	why := r.Cause
	switch {
	case why != "":
	case !r.Booted.IsZero() && r.Launched.IsZero():
		why = "it ended while it was warm"
	default:
		why = "its job is over"
	}
	switch {
	case r.Container == Absent && r.Registration == Unregistered:
		// Gone once a listing of registrations shows nothing of it.
	case r.Container == Absent && !r.over():
		p.abandon(r, first(r.Started, r.Launched, r.Created), "a registration without a container")
	case r.Container == Absent:
		p.doom(Deregister, r, "%s, and its container is gone", why)
	case !r.Ended.IsZero() && r.Container == Running:
		if p.passed(r.Ended.Add(ExitGrace)) {
			p.doom(Destroy, r, "%s, and it has not powered off", why)
		}
	case r.Ended.IsZero() && !r.cleared(p.have.Evidence[r.Scope]):
		p.doom(Deregister, r, "%s", why)
	default:
		p.doom(Destroy, r, "%s", why)
	}
}

// abandon gives up a runner that should have no job: deregister first, for
// GitHub refuses it if one has just arrived (422), destroy after. Before that,
// a look at all jobs and registrations that began after deadline must have
// shown nothing on it: GitHub's busy flag alone lies (actions/runner#4422).
func (p *pass) abandon(r *Runner, deadline time.Time, format string, args ...any) {
	ev := p.have.Evidence[r.Scope]
	if ev.Jobs.After(deadline) && ev.Registrations.After(deadline) && p.ready(r) {
		p.doom(Deregister, r, format, args...)
	}
}
