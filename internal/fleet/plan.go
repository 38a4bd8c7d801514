package fleet

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Plan decides what to do now to bring what is observed towards what is
// desired, and when to decide again at the latest if nothing new is seen
// before (zero: only when something is).
//
// Actions come in the order in which they should be started. An action that
// is under way (Runner.Pending) is never repeated.
func Plan(want Desired, have Observed, now time.Time) ([]Action, time.Time) {
	p := newPass(want, have, now)
	p.run()
	return p.actions, p.next
}

// ExitGrace is how long a runner's listener may take to exit after its job
// completed (actions/runner#4309: killed earlier, the job is reported lost).
const ExitGrace = 10 * time.Second

// pass is one run of Plan.
type pass struct {
	want Desired
	have Observed
	now  time.Time

	pools   []*pool // by name
	byName  map[string]*pool
	groups  []*group
	room    room
	actions []Action
	next    time.Time
	explain *verdict // of one job, when asked for
}

// pool is a desired pool and what there is of it.
type pool struct {
	Pool
	ref      Ref        // the template version it uses now
	replicas []Template // of that version, on its nodes
	listen   int        // launching or idle runners that a job could still take
	spares   []*Runner  // usable ones not promised yet, oldest first
	coming   int        // clones under way not promised yet
	idle     []*Runner
	stale    []*Runner // spares of another template version
}

func newPass(want Desired, have Observed, now time.Time) *pass {
	p := &pass{want: want, have: have, now: now, byName: make(map[string]*pool, len(want.Pools))}
	for _, w := range want.Pools {
		q := &pool{Pool: w}
		p.pools = append(p.pools, q)
		p.byName[w.Name] = q
	}
	slices.SortFunc(p.pools, func(a, b *pool) int { return cmp.Compare(a.Name, b.Name) })
	p.room = newRoom(want.Limits, have)
	for _, q := range p.pools {
		q.ref, q.replicas = p.room.replicas(q.Pool, have.Templates)
	}
	return p
}

func (p *pass) run() {
	for i := range p.have.Runners {
		p.sort(&p.have.Runners[i])
	}
	for _, q := range p.pools {
		slices.SortFunc(q.spares, olderSpare)
	}
	p.group()
	p.supply()
	p.serve()
	p.retireIdle()
	p.replaceStale()
	p.keepSpares()
	slices.SortStableFunc(p.actions, func(a, b Action) int { return cmp.Compare(urgency(a), urgency(b)) })
}

// urgency puts what a waiting job gains most from first.
func urgency(a Action) int {
	switch a.Kind {
	case Launch:
		return 0
	case Clone:
		return 1
	default:
		return 2
	}
}

// sort books one runner: as supply, or for its clean-up.
func (p *pass) sort(r *Runner) {
	q := p.byName[r.Pool]
	switch phase := r.Phase(); phase {
	case Cloning:
		p.cloning(q, r)
	case Spare:
		p.spare(q, r)
	case Launching:
		p.launching(q, r)
	case Idle:
		p.idling(q, r)
	case Busy:
		p.busy(r)
	case Done:
		p.clean(r)
	case Gone:
	}
}

func (p *pass) do(a Action) { p.actions = append(p.actions, a) }

// at asks for another pass at t.
func (p *pass) at(t time.Time) {
	if t.After(p.now) && (p.next.IsZero() || t.Before(p.next)) {
		p.next = t
	}
}

// passed reports whether deadline is over, and else asks for a pass then.
func (p *pass) passed(deadline time.Time) bool {
	if p.now.Before(deadline) {
		p.at(deadline)
		return false
	}
	return true
}

// held finds the hold that forbids a kind of action now.
func (p *pass) held(k Kind, pool, node string, scope Scope) (Hold, bool) {
	for _, h := range p.have.Holds {
		if (h.Kind == None || h.Kind == k) && (h.Pool == "" || h.Pool == pool) &&
			(h.Node == "" || h.Node == node) && (h.Scope == "" || h.Scope == scope) && !p.passed(h.Until) {
			return h, true
		}
	}
	return Hold{}, false
}

func olderSpare(a, b *Runner) int {
	return cmp.Or(a.Cloned.Compare(b.Cloned), cmp.Compare(a.VMID, b.VMID))
}

func labelText(labels []string) string { return "[" + strings.Join(labels, " ") + "]" }
