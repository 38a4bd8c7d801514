package fleet

import (
	"fmt"
	"time"
)

// fallback are the deadlines of runners whose pool is no longer desired.
var fallback = Timeouts{
	Clone: 5 * time.Minute, Launch: time.Minute, Register: time.Minute,
	Idle: 5 * time.Minute, Job: 6 * time.Hour,
}

func (p *pass) timeouts(r *Runner) Timeouts {
	if q := p.byName[r.Pool]; q != nil {
		return q.Timeouts
	}
	return fallback
}

// ready reports whether an action on the runner may be decided now.
func (p *pass) ready(r *Runner) bool {
	return r.Pending == None && r.Container != Unseen && p.passed(r.Retry)
}

func (p *pass) on(k Kind, r *Runner, format string, args ...any) {
	p.do(Action{Kind: k, Pool: r.Pool, Runner: r.Name, Node: r.Node, Reason: fmt.Sprintf(format, args...)})
}

// cloning waits for a clone, or gives up one that nobody works on any more.
func (p *pass) cloning(q *pool, r *Runner) {
	if q != nil && !q.Drained && (r.Pending == Clone || !p.expired(r.Created, p.timeouts(r).Clone)) {
		q.coming++
	}
	if p.ready(r) && p.passed(r.Created.Add(p.timeouts(r).Clone)) {
		p.destroy(r, "not cloned within %s", p.timeouts(r).Clone)
	}
}

func (p *pass) expired(since time.Time, limit time.Duration) bool {
	return !p.now.Before(since.Add(limit))
}

// spare offers a stopped container to demand, or clears it away.
func (p *pass) spare(q *pool, r *Runner) {
	switch {
	case r.Container == Unseen || r.Pending != None:
	case q == nil:
		p.destroyReady(r, "pool %s is gone", r.Pool)
	case q.Drained:
		p.destroyReady(r, "pool %s is drained", r.Pool)
	case r.Container == Running:
		p.destroyReady(r, "runs without a JIT config")
	case r.Container == Creating:
		// Its clone task has not released it yet.
	case r.Registration != Unregistered:
		// A mint that was thought to have failed did not: never use the name again.
		p.abandon(r, r.Created, "registered before its launch")
	case !p.passed(r.Retry):
	case q.ref.Version != "" && r.Template != q.ref:
		q.stale = append(q.stale, r)
	default:
		q.spares = append(q.spares, r)
	}
}

func (p *pass) destroyReady(r *Runner, format string, args ...any) {
	if p.ready(r) {
		p.destroy(r, format, args...)
	}
}

// launching waits until the runner listens, or gives it up.
func (p *pass) launching(q *pool, r *Runner) {
	t := p.timeouts(r)
	deadline := r.Launched.Add(t.Launch + t.Register)
	if !r.Started.IsZero() {
		deadline = r.Started.Add(t.Register)
	}
	if p.now.Before(deadline) || r.Pending == Launch {
		p.at(deadline)
		if q != nil && r.Pending != Deregister {
			q.listen++
		}
		return
	}
	p.abandon(r, deadline, "not listening %s after its start", t.Register)
}

// idling offers a listening runner to demand. One that GitHub no longer knows
// gets no job any more, though its listener may go on for ever
// (actions/runner#4617).
func (p *pass) idling(q *pool, r *Runner) {
	if r.Pending != None {
		return
	}
	ev := p.have.Evidence[r.Scope]
	if r.Registration == Unregistered && ev.Registrations.After(r.Listened) {
		p.abandon(r, r.Listened, "GitHub removed its registration")
		return
	}
	if q == nil {
		p.abandon(r, r.Listened, "pool %s is gone", r.Pool)
		return
	}
	stuck := r.Listened.Add(2 * q.Timeouts.Idle)
	if p.expired(r.Listened, 2*q.Timeouts.Idle) {
		p.abandon(r, stuck, "no job taken in %s of listening", 2*q.Timeouts.Idle)
		return
	}
	p.at(stuck)
	q.idle = append(q.idle, r)
	q.listen++
}

// busy leaves a runner alone until its job's hard limit.
func (p *pass) busy(r *Runner) {
	limit := p.timeouts(r).Job
	since := r.Took
	if since.IsZero() {
		since = later(r.Listened, r.Launched)
	}
	if p.ready(r) && p.passed(since.Add(limit)) {
		p.destroy(r, "its job ran longer than %s", limit)
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
	if why == "" {
		why = "its job is over"
	}
	cleared := r.cleared(p.have.Evidence[r.Scope])
	switch {
	case r.Container == Absent && r.Registration != Unregistered:
		p.on(Deregister, r, "%s, and its container is gone", why)
	case r.Container == Absent:
		// Gone once a listing of registrations shows nothing of it.
	case !r.Ended.IsZero() && r.Container == Running:
		if p.passed(r.Ended.Add(ExitGrace)) {
			p.destroy(r, "%s, and it has not powered off", why)
		}
	case r.Ended.IsZero() && !cleared:
		p.on(Deregister, r, "%s", why)
	default:
		p.destroy(r, "%s", why)
	}
}

// abandon gives up a runner that should have no job: deregister first, for
// GitHub refuses it if one has just arrived (422), destroy after. Before that,
// a look at all jobs and registrations that began after deadline must have
// shown nothing on it: GitHub's busy flag alone lies (actions/runner#4422).
func (p *pass) abandon(r *Runner, deadline time.Time, format string, args ...any) {
	ev := p.have.Evidence[r.Scope]
	if !ev.Jobs.After(deadline) || !ev.Registrations.After(deadline) || !p.ready(r) {
		return
	}
	p.on(Deregister, r, format, args...)
}

// destroy decides to remove a container if its node has room for one more task.
func (p *pass) destroy(r *Runner, format string, args ...any) {
	if p.room.task(r.Node, r.Storage) {
		p.on(Destroy, r, format, args...)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
