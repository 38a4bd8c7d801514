package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

const (
	// SmokeLimit is how long a smoke boot may take beyond a pool's launch and
	// register timeouts: it starts Docker and reaches for GitHub.
	SmokeLimit = time.Minute
	// smokeTries is how many smoke boots may fail in one stage.
	smokeTries = 2
	// window is the number of boots in which a roll's budget of failures holds.
	// Two failures in 25 are seen with 97 % certainty of a template that fails
	// one boot in five, and by accident in 0.7 % of rolls at a base rate of
	// 0.5 % (binomial). Each further 50 boots allow one more, or a long bake
	// would find two by accident.
	window, further = 25, 50
	// bakeJobs end a bake early.
	bakeJobs = 50
	// remembered bounds what a rollout keeps of boots, versions and verdicts.
	remembered = 50
	keptGood   = 10
)

// Roll decides how far each pool's roll-out is now, and when to decide again at
// the latest. Like Plan it is pure; what it returns is to be seen by the next
// Plan and the next Roll as Observed.Rollouts.
func Roll(want Desired, have Observed, now time.Time) ([]Rollout, time.Time) {
	if want.Unread {
		return have.Rollouts, time.Time{}
	}
	m := &mover{have: &have, now: now, runners: map[string][]*Runner{}, online: map[string]bool{}}
	for i := range have.Runners {
		r := &have.Runners[i]
		m.runners[r.Pool] = append(m.runners[r.Pool], r)
	}
	for _, n := range have.Nodes {
		m.online[n.Name] = n.Online
	}
	var out []Rollout
	done := map[string]bool{}
	for _, q := range want.Pools {
		if done[q.Name] {
			continue
		}
		done[q.Name] = true
		i := slices.IndexFunc(have.Rollouts, func(r Rollout) bool { return r.Pool == q.Name })
		r := Rollout{Pool: q.Name, Mark: now}
		if i >= 0 {
			r = have.Rollouts[i]
		}
		q.Timeouts = q.Timeouts.orFallback()
		out = append(out, m.advance(q, r))
	}
	slices.SortFunc(out, func(a, b Rollout) int { return cmp.Compare(a.Pool, b.Pool) })
	return out, m.next
}

// mover is one run of Roll.
type mover struct {
	have    *Observed
	now     time.Time
	runners map[string][]*Runner // by pool
	online  map[string]bool
	next    time.Time
}

// passed reports whether deadline is over, and else asks for a run then.
func (m *mover) passed(deadline time.Time) bool {
	if !m.now.Before(deadline) {
		return true
	}
	if m.next.IsZero() || deadline.Before(m.next) {
		m.next = deadline
	}
	return false
}

// roll is one pool's roll-out while it is decided on.
type roll struct {
	*Rollout
	m  *mover
	q  Pool
	at shelf
}

// advance counts what happened and goes as far as that allows.
func (m *mover) advance(q Pool, r Rollout) Rollout {
	v := roll{Rollout: &r, m: m, q: q}
	v.Good, v.Bad, v.Boots, v.Usual = slices.Clone(r.Good), slices.Clone(r.Bad), slices.Clone(r.Boots), slices.Clone(r.Usual)
	v.at = m.shelve(q)
	v.Note = v.at.note(v.Rollout)
	v.count()
	if m.have.Partial {
		return r // what seems gone may be on a node that nobody has looked at
	}
	v.Opens = time.Time{}
	v.quarantine()
	for range len(stageNames) + len(q.Roll.Canary) {
		stage, step, candidate := v.Stage, v.Step, v.Candidate
		v.move()
		if stage == v.Stage && step == v.Step && candidate == v.Candidate {
			break
		}
	}
	return r
}

func (v *roll) move() {
	target := v.target()
	v.replace(target)
	switch {
	case v.Stage <= Preflight || v.Stage == RollingBack:
	case !v.q.wants(v.Candidate):
		v.leave("the pool does not ask for %s any more", v.Candidate)
		return
	case (v.Stage < Paused || v.leads()) && !v.at.has(v.Candidate):
		v.leave("template %s is no longer there", v.Candidate)
		return
	}
	switch v.Stage {
	case Settled:
		v.settled(target)
	case Preflight:
		v.preflight(target)
	case Smoking:
		v.smoking(target)
	case Canarying:
		v.canary(target)
	case Full:
		v.full()
	case Baking:
		v.baking(target)
	case RollingBack:
		v.rollingBack()
	}
}

// enter begins a stage.
func (v *roll) enter(s Stage, format string, args ...any) {
	v.Stage, v.Since, v.Now = s, v.m.now, Tally{}
	v.Reason = fmt.Sprintf(format, args...)
}

// dead says why no runner of a version can serve a job.
func (v *roll) dead(ref Ref) string {
	if b := v.bad(ref); b != nil {
		return fmt.Sprintf("%s is bad: %s", ref, b.Reason)
	}
	if !v.at.has(ref) {
		return fmt.Sprintf("template %s is no longer there", ref)
	}
	return v.at.outdated(ref)
}

// replace finds another stable version for one that serves no jobs: the last
// good one that is there, or else, if the templates themselves are gone and
// none is on its way, what there is.
func (v *roll) replace(target Ref) {
	why := v.dead(v.Stable)
	if v.Stable.Family == "" || why == "" || v.leads() {
		return
	}
	for i, ref := range v.Good {
		if v.dead(ref) == "" && v.q.wants(ref) {
			v.Good = slices.Delete(v.Good, i, i+1)
			v.Stable, v.Usual, v.Reason = ref, nil, "back to "+ref.String()+": "+why
			return
		}
	}
	if v.Stage == Settled && !v.at.has(v.Stable) && target.Family != "" {
		v.Stable, v.Usual = target, nil
		v.enter(Settled, "%s, and nothing that was stable before is", why)
	}
}

func (v *roll) settled(target Ref) {
	switch {
	case target.Family == "" || target == v.Stable:
	case v.Stable.Family == "":
		v.adopt(target)
	default:
		v.begin(target)
	}
}

// adopt takes a version for stable that nobody remembers to be: the oldest one
// that our containers are of, or else the oldest there is, for that has been in
// use for longest. A newer one has to prove itself, as ever.
func (v *roll) adopt(target Ref) {
	inUse := func(ref Ref) bool {
		return slices.ContainsFunc(v.m.runners[v.Pool], func(r *Runner) bool { return r.Template == ref && r.Container != Absent })
	}
	v.Stable = target
	for _, t := range v.at.list {
		if !v.q.wants(t.Ref) || v.at.refuses(v.Rollout, t) != "" {
			continue
		}
		used, known := inUse(t.Ref), inUse(v.Stable)
		if used && !known || used == known && Newer(v.Stable.Version, t.Version) {
			v.Stable = t.Ref
		}
	}
	if v.Stable == target {
		v.enter(Settled, "%s is the first version of the pool", target)
		return
	}
	v.begin(target)
}

// begin takes up a candidate.
func (v *roll) begin(target Ref) {
	why := "the pool asks for " + target.String()
	if v.q.Template.Version == "" && target.Family == v.Stable.Family && Newer(target.Version, v.Stable.Version) {
		why = target.String() + " is newer than " + v.Stable.Version
	}
	v.Candidate, v.Began, v.Step, v.Resume = target, v.m.now, 0, Settled
	v.Trial, v.Control, v.Boots, v.Answer, v.Fault, v.Avoid = Tally{}, Tally{}, nil, time.Time{}, "", ""
	v.enter(Preflight, "%s", why)
}

// drop gives a candidate up before anything was done with it.
func (v *roll) drop(format string, args ...any) {
	v.Candidate = Ref{}
	v.enter(Settled, format, args...)
}

func (v *roll) preflight(target Ref) {
	switch {
	case target.Family == "" || target == v.Stable:
		v.drop("template %s is not wanted any more", v.Candidate)
	case target != v.Candidate:
		v.begin(target)
	case !v.m.passed(v.Since.Add(v.q.Roll.Wait)):
	default:
		if v.Note = v.at.unfit(v.q, v.Candidate); v.Note != "" {
			return
		}
		if slices.Contains(v.Good, v.Candidate) {
			v.enter(Full, "%s was stable before", v.Candidate)
			return
		}
		if v.closed() {
			return
		}
		v.smokeOr(0, "preflight passed")
	}
}

// smokeOr begins the smoke boots, or what comes after them if there are none.
func (v *roll) smokeOr(step int, why string) {
	v.Step = step
	if v.q.Roll.Smoke > 0 {
		v.enter(Smoking, "%s", why)
		return
	}
	v.next(why)
}

// next begins the canary step that Step says, or all there is after the last.
func (v *roll) next(why string) {
	if v.Step >= len(v.q.Roll.Canary) {
		v.enter(Full, "%s", why)
		return
	}
	if v.dead(v.Stable) != "" {
		v.enter(Full, "%s, and there is no other version: %s", why, v.dead(v.Stable))
		return
	}
	v.enter(Canarying, "%s", why)
}

func (v *roll) smoking(target Ref) {
	switch {
	case v.Now.Failures >= smokeTries:
		v.fail("smoke boots failed: %s", v.Fault)
	case v.Now.Boots >= v.q.Roll.Smoke && v.superseded(target):
		v.begin(target)
	case v.Now.Boots >= v.q.Roll.Smoke && v.closed():
	case v.Now.Boots >= v.q.Roll.Smoke:
		v.next("smoke boots passed")
	case v.late():
		v.pause("no smoke boot was possible within %s", v.q.Roll.Deadline)
	}
}

// closed reports whether the next step waits for the pool's window. What takes a
// version back never does, nor what a person promotes; and without a version
// that can do a job, there is nothing to wait with.
func (v *roll) closed() bool {
	at := v.q.Roll.Opens(v.m.now)
	if at.IsZero() || v.dead(v.Stable) != "" {
		return false
	}
	v.m.passed(at)
	v.Opens = at
	return true
}

func (v *roll) late() bool {
	return v.q.Roll.Deadline > 0 && v.m.passed(v.Since.Add(v.q.Roll.Deadline))
}

func (v *roll) canary(target Ref) {
	step := v.q.step(v.Rollout)
	switch {
	case v.spent():
		v.fail("%d of %d boots failed, the last one: %s", v.Trial.Failures, v.Trial.Boots+v.Trial.Failures, v.Fault)
	case v.dead(v.Stable) != "":
		v.next("the canaries end") // the jobs that none is for would find nothing
	case v.Step >= len(v.q.Roll.Canary) && v.closed():
	case v.Step >= len(v.q.Roll.Canary):
		v.next("no canary step is left")
	case v.Now.Failures > 0:
		// Not enough to condemn it: jobs stay on the stable version while it is
		// looked at again.
		v.smokeOr(v.Step, "a canary failed: "+v.Fault)
	case v.Now.Jobs >= step.Jobs:
		v.done(target, fmt.Sprintf("canary step %d: %d jobs ran", v.Step+1, v.Now.Jobs))
	case v.late() && v.untried(target):
	case v.late():
		v.done(target, fmt.Sprintf("canary step %d: %d of %d jobs within %s, none failed", v.Step+1, v.Now.Jobs, step.Jobs, v.q.Roll.Deadline))
	}
}

// untried holds a candidate that no job's runner was of, however long that takes:
// smoke boots cannot show that one reaches GitHub. The next job shows it, and must
// find a stable version if it does not. A newer candidate may take its place.
func (v *roll) untried(target Ref) bool {
	if v.Trial.Boots > 0 || slices.Contains(v.Good, v.Candidate) || v.dead(v.Stable) != "" {
		return false
	}
	v.Note = cmp.Or(v.Note, fmt.Sprintf("no runner of %s has listened yet: there was no job for one", v.Candidate))
	if v.superseded(target) && !v.closed() {
		v.begin(target)
	}
	return true
}

// done ends a canary step. Only here may a newer candidate supersede: in the
// middle of a step, what was seen so far would be lost for nothing.
func (v *roll) done(target Ref, why string) {
	slow := v.slower()
	short := v.Now.Jobs < v.q.step(v.Rollout).Jobs
	switch {
	case slow != "":
		v.fail("%s", slow)
	case v.superseded(target):
		v.begin(target)
	case v.closed():
	case short:
		v.smokeOr(v.Step+1, why+": smoke boots stand in")
	default:
		v.Step++
		v.next(why)
	}
}

func (v *roll) superseded(target Ref) bool {
	return target.Family != "" && target != v.Candidate && target != v.Stable
}

func (v *roll) full() {
	switch {
	case v.spent():
		v.fail("%d of %d boots failed, the last one: %s", v.Trial.Failures, v.Trial.Boots+v.Trial.Failures, v.Fault)
	case !v.waiting(func(r *Runner) bool { return r.Template != v.Candidate }):
		v.enter(Baking, "every spare is of %s", v.Candidate)
	case v.late():
		v.enter(Baking, "some spares could not be replaced within %s", v.q.Roll.Deadline)
	}
}

// waiting reports whether a container that no job can be on is as asked for.
func (v *roll) waiting(is func(*Runner) bool) bool {
	return slices.ContainsFunc(v.m.runners[v.Pool], func(r *Runner) bool {
		return r.Phase() < Launching && r.Spent.IsZero() && r.Template.Family != "" && is(r)
	})
}

func (v *roll) baking(target Ref) {
	over := v.m.passed(v.Since.Add(v.q.Roll.Bake))
	switch {
	case v.spent():
		v.fail("%d of %d boots failed, the last one: %s", v.Trial.Failures, v.Trial.Boots+v.Trial.Failures, v.Fault)
	case !over && v.Now.Jobs < bakeJobs:
	case v.slower() != "":
		v.fail("%s", v.slower())
	case over && v.q.Roll.Bake > 0 && v.untried(target):
	case over:
		v.settle(fmt.Sprintf("nothing was wrong with it for %s", v.q.Roll.Bake))
	default:
		v.settle(fmt.Sprintf("%d jobs ran on it", v.Now.Jobs))
	}
}

// settle makes the candidate the stable version.
func (v *roll) settle(why string) {
	v.Good = slices.Insert(slices.DeleteFunc(v.Good, func(r Ref) bool { return r == v.Candidate }), 0, v.Stable)
	v.Good = v.Good[:min(len(v.Good), keptGood)]
	v.Stable, v.Candidate, v.Usual, v.Boots = v.Candidate, Ref{}, v.Boots, nil
	v.enter(Settled, "%s", why)
}

func (v *roll) rollingBack() {
	if !v.waiting(func(r *Runner) bool { return r.Template == v.Candidate && r.Container != Unseen }) {
		v.drop("%s", v.Reason)
	}
}

// leave goes back to the stable version without a verdict.
func (v *roll) leave(format string, args ...any) { v.enter(RollingBack, format, args...) }

// pause waits for a person. What failed starts over with smoke boots.
func (v *roll) pause(format string, args ...any) {
	v.Resume = Smoking
	v.enter(Paused, format, args...)
}

// fail ends a roll that used up its budget of failures.
func (v *roll) fail(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	switch {
	case v.common():
		v.Resume = Smoking
		v.enter(Inconclusive, "%s; with the stable version %d of %d: look at the nodes first",
			why, v.Control.Failures, v.Control.Boots+v.Control.Failures)
	case v.q.Roll.Pause:
		v.pause("%s", why)
	default:
		v.condemn(v.Candidate, why)
		v.leave("%s", why)
	}
}

// condemn remembers that a version is bad.
func (v *roll) condemn(ref Ref, why string) {
	if v.bad(ref) == nil {
		v.Bad = slices.Insert(v.Bad, 0, Verdict{ref, why, v.m.now})
		v.Bad = v.Bad[:min(len(v.Bad), remembered)]
	}
}
