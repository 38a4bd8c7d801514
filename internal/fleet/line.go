package fleet

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// A pool in a roll has two lines: what most new containers are, and the other
// version. The other line is a pool of its own to all that clones and launches,
// but has the name and so the limits of the first.

// resolve finds out which template versions a pool clones.
func (p *pass) resolve(q *pool, roll *Rollout) {
	if roll == nil || roll.Stable.Family == "" {
		q.ref, q.replicas = p.room.replicas(&q.Pool, p.have.Templates)
		q.mute = q.muted()
		if q.full = q.outdated(); q.full != "" {
			q.replicas = nil
		}
		return
	}
	main, other := roll.lines()
	q.roll = roll
	q.ref, q.replicas = main, p.room.of(&q.Pool, main, p.have.Templates)
	q.mute = q.muted()
	q.full = p.barren(q)
	if q.full != "" {
		q.replicas = nil
	}
	if other.Family == "" {
		return
	}
	o := &pool{Pool: q.Pool, ref: other, roll: roll, avoid: roll.Avoid}
	o.Spare = 0
	o.replicas = p.room.of(&q.Pool, other, p.have.Templates)
	if o.full = p.barren(o); o.full != "" {
		o.replicas = nil
	}
	q.other = o
}

// barren says why no runner of a line's version would get a job: each would be
// made in vain, one after the other.
func (p *pass) barren(q *pool) string {
	if v := q.roll.bad(q.ref); v != nil {
		return fmt.Sprintf("pool %s: template %s is bad: %s", q.Name, q.ref, v.Reason)
	}
	if q.ref == q.roll.Stable && !q.roll.Rest.IsZero() && !p.passed(q.roll.Rest) {
		return fmt.Sprintf("pool %s: runners of %s listen and get no job, though jobs that fit them wait: GitHub may serve their version no longer; tried again at %s",
			q.Name, q.ref, clock(q.roll.Rest))
	}
	return q.outdated()
}

// outdated says why runners of the line's version could do no job, by its age.
func (q *pool) outdated() string {
	for _, t := range q.replicas {
		if t.Outdated != "" {
			return fmt.Sprintf("pool %s: template %s is not used: %s", q.Name, q.ref, t.Outdated)
		}
	}
	return ""
}

// asked is the version that the pool's roll-out says, if there is one.
func (q *pool) asked() Ref {
	if q.roll == nil {
		return Ref{}
	}
	return q.ref
}

// of lists the replicas of one version on the nodes that the pool may use.
func (m *room) of(q *Pool, ref Ref, all []Template) []Template {
	n := 0
	suits := func(t *Template) bool { return t.Ref == ref && q.mayUse(t.Node) }
	for i := range all {
		if suits(&all[i]) {
			n++
		}
	}
	found := make([]Template, 0, n)
	for i := range all {
		if suits(&all[i]) {
			found = append(found, q.seen(all[i]))
		}
	}
	slices.SortFunc(found, byReplica)
	return found
}

// line is the one that a runner belongs to.
func (q *pool) line(r *Runner) *pool {
	if q.other != nil && r.Template == q.other.ref && (r.Scope == q.Scope || r.Scope == "") {
		return q.other
	}
	return q
}

// quotas counts how many jobs the candidates of a canary step may still take.
func (p *pass) quotas() {
	for _, q := range p.pools {
		if o := q.other; o != nil && q.roll.Stage == Canarying {
			step := q.Pool.step(q.roll)
			o.percent, o.quota = step.Percent, step.Jobs-q.roll.Now.Jobs-o.untaken
			if step.AtOnce > 0 {
				o.quota = min(o.quota, step.AtOnce-o.live)
			}
			// Whatever the step says, one place is for a version that is proven.
			o.quota = min(o.quota, max(1, q.Max-1)-o.live)
		} else if o != nil && q.roll.leads() {
			o.quota = math.MaxInt
		}
	}
}

// tries books a runner of the other line.
func (q *pool) tries(r *Runner, phase Phase) {
	o := q.line(r)
	if o == q || phase < Launching || phase > Busy {
		return
	}
	o.live++
	if r.Took.IsZero() && r.Job == 0 {
		o.untaken++
	}
}

// side is the line that a job's runner is to be of, if it is the other one. A
// job that waited while a candidate failed is never made to try another, nor
// that of another pool: they may well be of one template.
func (p *pass) side(q *pool, g *group, j *Job) *pool {
	o := q.other
	if o == nil || o.quota <= 0 || len(o.replicas)+len(o.spares) == 0 || p.hold(Launch, o, "") != nil {
		return nil
	}
	burnt := slices.ContainsFunc(g.pools, func(q *pool) bool { return q.roll != nil && !j.Created.After(q.roll.Answer) })
	switch {
	case q.roll.leads() && (burnt || p.hold(Launch, q, "") != nil):
	case q.roll.Stage == Canarying && !burnt && q.roll.picks(j.ID, o.percent):
	default:
		return nil
	}
	return o
}

// sided is the other line of the first pool for which a job is to have it. No job
// waits for the firewall of a pool that fits it worse only to try something there.
func (p *pass) sided(g *group, j *Job) *pool {
	for i, q := range g.pools {
		if i > 0 && q.Egress.Policy != Everything {
			continue
		}
		if o := p.side(q, g, j); o != nil {
			return o
		}
	}
	return nil
}

// offer promises a job a container of the other line that exists or is being
// cloned.
func (p *pass) offer(o *pool, j *Job) bool {
	switch {
	case p.launch(o, j):
	case len(o.later) > 0:
		o.later = o.later[1:]
		p.tell(j, "a spare is there for it, but its node has as many tasks at work as it may")
	case p.rests(o, j), p.soonWarm(o, j):
	case take(&o.coming, 1) == 1:
		p.tell(j, fmt.Sprintf("a container of %s is being cloned for it", o.ref))
	default:
		return false
	}
	return true
}

// clones clones a container of the other line for a job.
func (p *pass) clones(o *pool, j *Job) bool {
	t, why := p.pick(o)
	if why != "" {
		return false
	}
	p.clone(o, t, jobText(j))
	p.tell(j, fmt.Sprintf("a container of %s is being cloned for it", o.ref))
	return true
}

// waitsFor keeps a job that met a failed candidate from another one while only a
// task is in the way of a container of the stable version.
func (p *pass) waitsFor(o *pool, j *Job) bool {
	if o.ref != o.roll.Stable || !p.clonable(o) {
		return false
	}
	_, why := p.pick(o)
	p.tell(j, why)
	return true
}

// gather puts what the other lines have left where it is kept or replaced.
func (p *pass) gather() {
	for _, q := range p.pools {
		o := q.other
		if o == nil {
			continue
		}
		o.settle()
		if q.roll.leads() {
			q.stale = append(append(q.stale, o.spares...), o.warms...)
			o.warming -= len(o.warms)
			o.spares, o.warms = nil, nil
			slices.SortFunc(q.stale, olderSpare)
		}
	}
}

// smoke boots candidates without a job, as many as the pool asks for.
func (p *pass) smoke() {
	for _, q := range p.pools {
		if q.other == nil || q.roll.Stage != Smoking || q.Drained {
			continue
		}
		for n := q.proving + q.roll.Now.Boots; n < q.Roll.Smoke; n++ {
			if !p.smokeOne(q.other) {
				break
			}
		}
	}
}

func (p *pass) smokeOne(o *pool) bool {
	free := func(r *Runner) bool {
		h := p.hold(Launch, o, r.Node)
		return h == nil || h.Node == ""
	}
	if i := slices.IndexFunc(o.spares, free); i >= 0 {
		r := o.spares[i]
		ok := p.room.start(r.Node)
		if ok {
			o.spares = slices.Delete(o.spares, i, i+1)
			p.on(Smoke, r, "smoke boot of %s", o.ref)
		}
		return ok
	}
	if len(o.rest) > 0 { // it can be booted soon
		o.rest = o.rest[1:]
		return true
	}
	if take(&o.coming, 1) == 1 {
		return true
	}
	t, why := p.pick(o)
	if why != "" || p.room.lacks(&p.room.soon, o, &t) != nil {
		return false
	}
	p.clone(o, t, fmt.Sprintf("smoke boot of %s", o.ref))
	return true
}

// SmokeTimeout is how long a smoke boot may take from its decision on.
func (t Timeouts) SmokeTimeout() time.Duration { return t.Launch + t.Register + SmokeLimit }

// prove waits for what a smoke boot shows.
func (p *pass) prove(q *pool, r *Runner) {
	rolls := q != nil && q.roll != nil && q.roll.Stage == Smoking && r.Template == q.roll.Candidate
	limit := p.timeouts(r).SmokeTimeout()
	var why string
	switch {
	case !r.Passed.IsZero():
		why = "its smoke boot passed"
	case !r.Failed.IsZero():
		why = "its smoke boot failed: " + r.Fault
	case !rolls && !p.suspected(q, r.Node):
		why = "its smoke boot is not wanted any more"
	case p.expired(r.Smoked, limit):
		why = fmt.Sprintf("its smoke boot was not done %s after its start", limit)
	default:
		if p.proving[r.Node] = true; rolls {
			q.proving++
		}
		return
	}
	if p.ready(r) {
		p.doom(Destroy, r, "%s", why)
	}
}
