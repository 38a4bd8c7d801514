package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Plan decides what to do now to bring what is observed towards what is
// desired, and when to decide again at the latest if nothing new is seen
// before (zero: only when something is).
//
// Actions come in the order in which they should be started: what a waiting
// job gains most from first. An action that is under way (Runner.Pending) is
// never repeated. Neither argument is changed.
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

	pools    []*pool // by name
	byName   map[string]*pool
	running  map[string]*Job // jobs in progress, by the name of their runner
	groups   []*group
	queue    []waiting // all queued jobs, oldest first
	blocked  []waiting // those that cannot be served now, oldest first
	doomed   []doom
	room     room
	holds    map[holdKey]*Hold // those found so far; nil: none
	suspects []string          // nodes that a smoke boot has to prove
	proving  map[string]bool   // nodes on which one is under way
	actions  []Action
	next     time.Time
	told     map[JobID]string // what is said of each queued job, when asked for
}

// pool is a desired pool and what there is of it.
type pool struct {
	Pool
	ref      Ref        // the template version it uses now
	replicas []Template // of that version, on its nodes
	roll     *Rollout   // nil: none is known
	other    *pool      // its other line, in a roll
	full     string     // why nothing more can be cloned now, once that is known
	mute     bool       // guests of its version would leave out what Env says
	listen   int        // idle runners that a job could still take
	soon     int        // runners that will listen shortly, or took a job we have not heard of
	takers   []*group   // that count on these
	idle     []*Runner

	spares []*Runner // usable ones not promised yet, oldest first
	later  []*Runner // those of them whose node has too many tasks just now
	parked []*Runner // those of them that cannot be launched for a while
	stuck  []*Runner // those of them that cannot be launched where they are
	barred string    // why they cannot
	rest   []*Runner // those that no action may touch before a time
	coming int       // clones under way not promised yet

	warm    int       // how many warm containers it is to have now
	warming int       // how many there are or are coming, of its template version
	warms   []*Runner // those of them not promised yet, oldest first
	dark    []*Runner // those of them whose node's root half is away
	booting int       // those of them that boot, not promised yet
	resting []*Runner // those of them that no action may touch before a time
	aged    []*Runner // those of them that have waited long

	stale     []*Runner // spares of another template version
	replacing bool      // a stale spare is leaving, or a clone is under way

	// Of an other line:
	quota   int    // jobs that may still get one of its runners
	percent int    // of the jobs that may
	live    int    // its runners that are registered
	untaken int    // those of them without a job yet
	avoid   string // a node that is its last choice
	proving int    // smoke boots under way, of the pool's first line
}

func newPass(want Desired, have Observed, now time.Time) *pass {
	p := &pass{
		want: want, have: have, now: now, byName: make(map[string]*pool, len(want.Pools)),
		running: map[string]*Job{}, holds: map[holdKey]*Hold{}, proving: map[string]bool{}, room: newRoom(want, have),
	}
	rolls := map[string]*Rollout{}
	for i := range have.Rollouts {
		rolls[have.Rollouts[i].Pool] = &have.Rollouts[i]
	}
	for _, w := range want.Pools {
		if p.byName[w.Name] != nil {
			continue // a second pool of the same name would undo what the first one does
		}
		w.Spare = max(0, min(w.Spare, w.Max))
		w.Timeouts = w.Timeouts.orFallback()
		q := &pool{Pool: w}
		p.resolve(q, rolls[w.Name])
		p.temperature(q)
		p.pools = append(p.pools, q)
		p.byName[w.Name] = q
	}
	slices.SortFunc(p.pools, func(a, b *pool) int { return cmp.Compare(a.Name, b.Name) })
	p.room.sized(p.pools)
	p.suspect()
	for i := range have.Jobs {
		if j := &have.Jobs[i]; j.Status == InProgress && j.Runner != "" {
			p.running[j.Runner] = j
		}
	}
	return p
}

func (p *pass) run() {
	if p.want.Unread { // else every container would be of a pool that is gone
		p.puzzle()
		return
	}
	for i := range p.have.Runners {
		p.sort(&p.have.Runners[i])
	}
	for _, q := range p.pools {
		slices.SortFunc(q.spares, olderSpare)
		slices.SortFunc(q.warms, olderSpare)
		slices.SortFunc(q.stale, olderSpare)
		if q.other != nil {
			slices.SortFunc(q.other.spares, olderSpare)
			slices.SortFunc(q.other.warms, olderSpare)
		}
	}
	p.quotas()
	p.group()
	p.supply()
	p.serve()
	p.retireIdle()
	p.clear()
	p.gather()
	p.makeRoom()
	p.replaceStale()
	p.renew()
	p.smoke()
	p.probe()
	p.keepWarm()
	p.keepSpares()
}

// sort books one runner: as supply, or for its clean-up.
func (p *pass) sort(r *Runner) {
	q := p.byName[r.Pool]
	phase := r.Phase()
	if p.running[r.Name] != nil && r.mayRun() {
		// The job table heard of it before the runner did.
		phase = Busy
	}
	if phase == Done || r.Pending == Destroy {
		p.room.leaves(r)
	}
	if q != nil && q.other != nil {
		q.tries(r, phase)
	}
	switch phase {
	case Cloning:
		p.cloning(q, r)
	case Spare:
		p.spare(q, r)
	case Proving:
		p.prove(q, r)
	case Warm:
		p.waits(q, r)
	case Launching:
		p.launching(q, r)
	case Idle:
		p.idling(q, r)
	case Busy:
		p.busy(q, r)
	case Done:
		p.clean(r)
	case Gone:
	}
}

func (p *pass) do(a Action) {
	p.actions = append(p.actions, a)
	if a.Kind == Launch {
		p.room.launched(a.Node, p.now)
	}
}

// passed reports whether deadline is over, and else asks for a pass then.
func (p *pass) passed(deadline time.Time) bool {
	if !p.now.Before(deadline) {
		return true
	}
	if p.next.IsZero() || deadline.Before(p.next) {
		p.next = deadline
	}
	return false
}

type holdKey struct {
	kind Kind
	line *pool
	node string
}

// hold finds what forbids a kind of action of a pool on a node now. Of several
// it takes one for all nodes first, then the longest.
func (p *pass) hold(k Kind, q *pool, node string) *Hold {
	if len(p.have.Holds) == 0 {
		return nil
	}
	key := holdKey{k, q, node}
	if h, known := p.holds[key]; known {
		return h
	}
	var best *Hold
	for i := range p.have.Holds {
		h := &p.have.Holds[i]
		if h.forbids(k, q, node) && (h.Proof || !p.passed(h.Until)) && (best == nil || h.outweighs(best)) {
			best = h
		}
	}
	p.holds[key] = best
	return best
}

func (h *Hold) forbids(k Kind, q *pool, node string) bool {
	return (h.Kind == None || h.Kind == k) && (h.Pool == "" || h.Pool == q.Name) &&
		(h.Node == "" || h.Node == node) && (h.Scope == "" || h.Scope == q.Scope) && (h.Ref == Ref{} || h.Ref == q.ref)
}

// launches says what a hold on launches means.
func (h *Hold) launches(q *pool) string {
	on := ""
	if h.Node != "" {
		on = " on " + h.Node
	}
	return fmt.Sprintf("pool %s launches nothing%s until %s: %s", q.Name, on, h.until(), h.Reason)
}

// until says when a hold ends.
func (h *Hold) until() string {
	if h.Proof {
		return "a smoke boot has passed there"
	}
	return clock(h.Until)
}

func (h *Hold) outweighs(o *Hold) bool {
	if (h.Node == "") != (o.Node == "") {
		return h.Node == ""
	}
	return h.Until.After(o.Until)
}

func olderSpare(a, b *Runner) int {
	return cmp.Or(a.Cloned.Compare(b.Cloned), cmp.Compare(a.VMID, b.VMID), cmp.Compare(a.Name, b.Name))
}

func labelText(labels []string) string { return "[" + strings.Join(labels, " ") + "]" }

// first returns the first time that is known.
func first(times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
