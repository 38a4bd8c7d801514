package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// world is a small model of Proxmox, GitHub and an ideal executor, driven by
// Plan under its own clock. What is seen of it is what is, unless a fate or a
// story says otherwise.
type world struct {
	begin, now time.Time
	want       Desired
	runners    map[string]*Runner
	jobs       map[JobID]*Job
	templates  []Template
	nodes      []Node
	holds      []Hold
	evidence   map[Scope]Evidence

	took     durations
	looks    time.Duration // between looks at GitHub; zero: only when told
	fate     func(Kind, *Runner) fate
	log      func(string)
	agenda   []event
	wake     time.Time // as the last plan asked
	rolls    rolled
	rollWake time.Time
	named    map[string]int
	running  map[string]JobID // what really runs in a container, by runner

	clones, killed, evicted int
	routed                  func(*Runner) // called when a runner starts to listen
}

// durations are how long the parts of a runner's life take.
type durations struct{ clone, launch, listen, deregister, destroy, exit time.Duration }

var ideal = durations{2 * time.Second, time.Second, 3 * time.Second, time.Second, time.Second, time.Second}

// fate is what becomes of one action.
type fate int

const (
	well    fate = iota
	fails        // no effect, and that is known
	halves       // something of the effect is there, though it failed
	hangs        // done, but nothing comes of it: a launched runner never listens
	refused      // no effect and nothing used up: a rate limit
)

type event struct {
	at time.Time
	do func()
}

func newWorld() *world {
	begin := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	return &world{
		begin: begin, now: begin, runners: map[string]*Runner{}, jobs: map[JobID]*Job{}, evidence: map[Scope]Evidence{},
		took: ideal, named: map[string]int{}, running: map[string]JobID{},
		fate: func(Kind, *Runner) fate { return well }, log: func(string) {}, routed: func(*Runner) {},
	}
}

func (w *world) say(format string, args ...any) {
	w.log(fmt.Sprintf("%s %s", w.now.Sub(w.begin), fmt.Sprintf(format, args...)))
}

// after puts something on the agenda.
func (w *world) after(d time.Duration, do func()) {
	e := event{w.now.Add(d), do}
	i, _ := slices.BinarySearchFunc(w.agenda, e, func(a, b event) int { return cmp.Or(a.at.Compare(b.at), -1) })
	w.agenda = slices.Insert(w.agenda, i, e)
}

func (w *world) observed() Observed {
	o := Observed{Templates: w.templates, Nodes: w.nodes, Holds: w.holds, Evidence: w.evidence, Rollouts: w.rolls.state}
	for _, id := range slices.Sorted(maps.Keys(w.jobs)) {
		if w.jobs[id].Status != Completed {
			o.Jobs = append(o.Jobs, *w.jobs[id])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.runners)) {
		o.Runners = append(o.Runners, *w.runners[name])
	}
	return o
}

// pass plans and starts what is planned, until there is nothing more to do now.
func (w *world) pass() error {
	for range 10 {
		w.roll()
		maps.DeleteFunc(w.runners, func(_ string, r *Runner) bool { return r.Forgettable(w.evidence[r.Scope]) })
		actions, next := Plan(w.want, w.observed(), w.now)
		w.wake = earlier(next, w.rollWake)
		if len(actions) == 0 {
			return nil
		}
		for _, a := range actions {
			w.start(a)
		}
	}
	return fmt.Errorf("at %s: ten plans in a row with actions", w.now.Sub(w.begin))
}

// until lets the world go on to a time.
func (w *world) until(end time.Time) error {
	for {
		at := end
		var do func()
		if len(w.agenda) > 0 && !w.agenda[0].at.After(at) {
			at, do = w.agenda[0].at, w.agenda[0].do
		}
		if !w.wake.IsZero() && w.wake.Before(at) {
			at, do = w.wake, func() {}
		}
		if do == nil {
			w.now = end
			return nil
		}
		if len(w.agenda) > 0 && w.agenda[0].at.Equal(at) {
			w.agenda = w.agenda[1:]
		}
		w.now, w.wake = at, time.Time{}
		do()
		if err := w.pass(); err != nil {
			return err
		}
	}
}

// start does what the executor does with an action.
func (w *world) start(a Action) {
	r := w.runners[a.Runner]
	if a.Kind == Clone {
		r = w.newRunner(a)
		a.Runner = r.Name
		w.say("clone %s from %d on %s: %s", r.Name, a.Template, a.Node, a.Reason)
	} else {
		w.say("%s %s: %s", a.Kind, a.Runner, a.Reason)
	}
	r.Pending = a.Kind
	how, set := w.versioned(a.Kind, r)
	if !set {
		how = w.fate(a.Kind, r)
	}
	if strings.HasPrefix(a.Reason, "makes room") {
		w.evicted++
	}
	end := map[Kind]func(){
		Clone: func() { w.cloned(r, how) }, Launch: func() { w.launched(r, how) },
		Deregister: func() { w.deregistered(r, a, how) }, Destroy: func() { w.destroyed(r, a, how) },
		Smoke: func() { w.smoked(r, how) }, Boot: func() { w.booted(r, how) },
	}[a.Kind]
	if a.Kind == Launch {
		r.Launched = w.now
	}
	if a.Kind == Smoke {
		r.Smoked = w.now
	}
	if a.Kind == Boot {
		r.Booted = w.now
	}
	w.after(map[Kind]time.Duration{
		Clone: w.took.clone, Launch: w.took.launch, Deregister: w.took.deregister, Destroy: w.took.destroy, Smoke: w.took.launch, Boot: w.took.launch,
	}[a.Kind], func() {
		if r.Pending == a.Kind { // else a story made it forgotten
			r.Pending = None
			end()
		}
	})
}

func (w *world) newRunner(a Action) *Runner {
	w.clones++
	w.named[a.Pool]++
	r := &Runner{
		Name: fmt.Sprintf("%s%d", a.Pool, w.named[a.Pool]), Pool: a.Pool, Node: a.Node, VMID: VMID(20000 + w.clones), Created: w.now, Source: a.Template,
	}
	for _, q := range w.want.Pools {
		if q.Name == a.Pool {
			r.Scope = q.Scope
		}
	}
	for _, t := range w.templates {
		if t.VMID == a.Template {
			r.Template, r.Storage = t.Ref, t.Storage
		}
	}
	w.runners[r.Name] = r
	return r
}

func (w *world) spend(r *Runner, cause string) {
	if r.Spent.IsZero() {
		r.Spent, r.Cause = w.now, cause
	}
}

// holdFor is how long a failure keeps a pool from the same action.
const holdFor = 20 * time.Second

func (w *world) hold(k Kind, r *Runner, why string) {
	h := Hold{Kind: k, Pool: r.Pool, Until: w.now.Add(holdFor), Reason: why}
	if k == Clone {
		h.Node = r.Node
	}
	w.holds = append(w.holds, h)
}

func (w *world) cloned(r *Runner, how fate) {
	if how == well {
		r.Cloned, r.Container = w.now, Stopped
		w.say("%s is cloned", r.Name)
		return
	}
	if how == halves {
		r.Container = Creating
	}
	w.say("the clone of %s fails", r.Name)
	w.spend(r, "clone failed")
	w.hold(Clone, r, "clone failed")
}

func (w *world) launched(r *Runner, how fate) {
	switch how {
	case refused:
		w.say("the launch of %s is refused", r.Name)
		r.Launched = time.Time{}
		r.Retry = w.now.Add(holdFor)
		w.holds = append(w.holds, Hold{Kind: Launch, Scope: r.Scope, Until: w.now.Add(holdFor), Reason: "rate limit"})
	case fails, halves:
		w.say("the launch of %s fails", r.Name)
		if how == halves {
			r.Container, r.Registration = Running, Offline
		}
		w.spend(r, "launch failed")
		r.Failed, r.Fault = w.now, "launch failed"
		w.hold(Launch, r, "launch failed")
	default:
		r.Started, r.Container, r.Registration = w.now, Running, Offline
		w.say("%s is started", r.Name)
		if how == well {
			took := w.took.listen
			if d, ok := w.rolls.listen[r.Template]; ok {
				took = d
			}
			w.after(took, func() { w.listens(r) })
		}
	}
}

// booted plays the start of a container that is to wait.
func (w *world) booted(r *Runner, how fate) {
	if how == well || how == hangs {
		r.Container = Running
		w.say("%s is warm", r.Name)
		return
	}
	if how == halves {
		r.Container = Running
	}
	w.say("%s does not boot", r.Name)
	w.spend(r, "boot failed")
	w.hold(Boot, r, "boot failed")
}

func (w *world) listens(r *Runner) {
	if r.Container == Running && r.Registration == Offline && r.Listened.IsZero() {
		r.Registration, r.Listened = Online, w.now
		w.say("%s listens", r.Name)
		w.routed(r)
	}
}

func (w *world) deregistered(r *Runner, a Action, how fate) {
	switch {
	case w.running[r.Name] != 0:
		w.say("%s is busy", r.Name)
		r.Registration, r.Took, r.Retry = BusyFlag, first(r.Took, w.now), w.now.Add(holdFor)
	case how != well:
		w.say("%s is not deregistered", r.Name)
		r.Retry = w.now.Add(holdFor)
	default:
		r.Registration, r.Removed = Unregistered, w.now
		if strings.HasPrefix(a.Reason, Starved) {
			r.Failed, r.Fault = w.now, a.Reason
		}
		w.spend(r, a.Reason)
		w.say("%s is deregistered", r.Name)
	}
}

func (w *world) destroyed(r *Runner, a Action, how fate) {
	if how != well {
		w.say("%s is not destroyed", r.Name)
		r.Retry = w.now.Add(holdFor)
		return
	}
	if w.running[r.Name] != 0 {
		w.killed++
	}
	delete(w.running, r.Name)
	r.Container = Absent
	w.spend(r, a.Reason)
	w.say("%s is gone", r.Name)
}

// takes makes a runner run a job.
func (w *world) takes(r *Runner, j *Job) {
	j.Status, j.Runner, j.Started = InProgress, r.Name, w.now
	w.running[r.Name] = j.ID
	r.Registration = BusyFlag
	r.Job, r.Took, r.Listened = j.ID, w.now, first(r.Listened, w.now)
}

// ends makes a job end, and its runner power off.
func (w *world) ends(j *Job, conclusion string) {
	j.Status, j.Conclusion, j.Ended = Completed, conclusion, w.now
	r := w.runners[j.Runner]
	if r == nil {
		return
	}
	r.Ended, r.Registration = w.now, Unregistered
	delete(w.running, r.Name)
	if w.took.exit > 0 {
		w.after(w.took.exit, func() {
			if r.Container == Running {
				r.Container = Stopped
				w.say("%s has powered off", r.Name)
			}
		})
	}
}

// look asks GitHub for everything.
func (w *world) look() {
	for _, q := range w.want.Pools {
		w.evidence[q.Scope] = Evidence{w.now, w.now}
	}
	for _, r := range w.runners {
		w.evidence[r.Scope] = Evidence{w.now, w.now}
	}
}

// keepLooking looks again and again.
func (w *world) keepLooking() {
	w.after(w.looks, func() {
		w.look()
		w.keepLooking()
	})
}
