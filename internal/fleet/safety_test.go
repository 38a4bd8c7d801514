package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// TestPlanIsSafe holds one pass over any world, possible or not, to every rule
// that must never be broken.
func TestPlanIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := throw(t)
		c := check{t: t, want: d.desired(), have: d.observed()}
		want, have := c.want, clone(c.have)
		want.Pools = slices.Clone(want.Pools)
		var next time.Time
		c.actions, next = Plan(c.want, c.have, noon)
		if diff := cmp.Diff(have, c.have, cmpopts.EquateEmpty()) + cmp.Diff(want, c.want, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("Plan changed its input (-before +after):\n%s", diff)
		}
		if !next.IsZero() && !next.After(noon) {
			t.Fatalf("next pass at %s, which is not after %s", next, noon)
		}
		c.eachAction()
		c.containers()
		c.tasks()
		c.demand()
		c.again()
	})
}

// check is one pass and what it was made from.
type check struct {
	t       *rapid.T
	want    Desired
	have    Observed
	actions []Action
}

func (c check) fail(a Action, format string, args ...any) {
	c.t.Fatalf("%s: %s\nrunner %+v", a, fmt.Sprintf(format, args...), c.runner(a.Runner))
}

func (c check) runner(name string) *Runner {
	for i := range c.have.Runners {
		if c.have.Runners[i].Name == name {
			return &c.have.Runners[i]
		}
	}
	return nil
}

func (c check) pool(name string) *Pool {
	for i := range c.want.Pools {
		if c.want.Pools[i].Name == name {
			return &c.want.Pools[i]
		}
	}
	return nil
}

func (c check) online(node string) bool {
	return slices.ContainsFunc(c.have.Nodes, func(n Node) bool { return n.Name == node && n.Online })
}

// reachable reports whether a node's root half can reach what runs there.
func (c check) reachable(node string) bool {
	return slices.ContainsFunc(c.have.Nodes, func(n Node) bool { return n.Name == node && n.Host })
}

func (c check) eachAction() {
	acted := map[string]bool{}
	for _, a := range c.actions {
		if a.Reason == "" || strings.Contains(a.Reason, "%!") {
			c.fail(a, "has no reason")
		}
		if q := c.pool(a.Pool); (q == nil || q.Drained) && (a.Kind == Clone || a.Kind == Launch || a.Kind == Boot) {
			c.fail(a, "the pool is gone or drained")
		}
		if a.Kind == Clone {
			c.clone(a)
			continue
		}
		r := c.runner(a.Runner)
		switch {
		case acted[a.Runner]:
			c.fail(a, "a second action on one runner")
		case r == nil:
			c.fail(a, "no such runner")
		case r.Pending != None:
			c.fail(a, "an action is under way")
		case r.Container == Unseen:
			c.fail(a, "the container is not seen")
		case r.Container != Absent && !c.online(r.Node), a.Kind != Deregister && !c.online(r.Node):
			c.fail(a, "the node is offline")
		case noon.Before(r.Retry):
			c.fail(a, "not before %s", r.Retry)
		}
		acted[a.Runner] = true
		switch a.Kind {
		case Launch:
			c.launch(a, r)
			if q := c.pool(a.Pool); q != nil && r.Booted.IsZero() && q.Egress.Policy != Everything && noon.Sub(r.Cloned) < 10*time.Second {
				c.fail(a, "the firewall's rules may not be in force: made %s ago", noon.Sub(r.Cloned))
			}
		case Deregister, Destroy:
			c.remove(a, r)
		case Smoke:
			c.smoke(a, r)
		case Boot:
			c.boot(a, r)
		default:
			c.fail(a, "no such kind")
		}
	}
}

// clone checks the replica, which must be there for the taking.
func (c check) clone(a Action) {
	q := c.pool(a.Pool)
	i := slices.IndexFunc(c.have.Templates, func(t Template) bool { return t.VMID == a.Template })
	switch t := c.have.Templates; {
	case i < 0 || t[i].Node != a.Node || !c.online(a.Node):
		c.fail(a, "no such replica")
	case !c.allowed(a, q, t[i].Ref):
		c.fail(a, "not the template of the pool")
	case len(q.Nodes) > 0 && !slices.Contains(q.Nodes, a.Node):
		c.fail(a, "not a node of the pool")
	case t[i].Locked:
		c.fail(a, "the replica is locked")
	}
	clones := 0
	for _, b := range c.actions {
		if b.Kind == Clone && b.Template == a.Template {
			clones++
		}
	}
	for _, r := range c.have.Runners {
		if r.Pending == Clone && r.Source == a.Template {
			clones++
		}
	}
	if clones > 1 {
		c.fail(a, "%d clones of one replica", clones)
	}
	c.held(a, Clone)
	for _, h := range c.have.Holds {
		if h.Kind == Launch && h.Node == a.Node && h.Pool == a.Pool && h.Scope == "" && h.Until.After(noon) {
			if !slices.ContainsFunc(c.have.Holds, func(o Hold) bool { return o.Node == "" && o.Until.After(noon) }) {
				c.fail(a, "it could not be launched there: %+v", h)
			}
		}
	}
}

func (c check) held(a Action, k Kind) {
	for _, h := range c.have.Holds {
		if h.Until.After(noon) && (h.Kind == k || h.Kind == None) && (h.Pool == "" || h.Pool == a.Pool) &&
			(h.Node == "" || h.Node == a.Node) && (h.Scope == "" || h.Scope == c.pool(a.Pool).Scope) && h.Ref == (Ref{}) {
			c.fail(a, "held by %+v", h)
		}
	}
}

// boot checks that what is to be warm can be reached then, and that no more of
// it is warm than the pool asks for.
func (c check) boot(a Action, r *Runner) {
	q := c.pool(a.Pool)
	if !c.reachable(a.Node) {
		c.fail(a, "nothing could bring a JIT config into it")
	}
	n := 0
	for i := range c.have.Runners {
		if o := &c.have.Runners[i]; o.Pool == a.Pool && o.warm() && (o.Pending == Boot || o.Pending == None && o.Container == Running) && !slices.ContainsFunc(c.actions, func(b Action) bool { return b.Runner == o.Name }) {
			n++
		}
	}
	for _, b := range c.actions {
		if b.Kind == Boot && b.Pool == a.Pool {
			n++
		}
	}
	if n > max(q.Warm, 0)+c.queued() {
		c.fail(a, "%d warm containers of %d", n, q.Warm)
	}
	c.spare(a, r, q, Stopped)
	c.held(a, Boot)
}

func (c check) queued() (n int) {
	for _, j := range c.have.Jobs {
		if j.Status == Queued {
			n++
		}
	}
	return n
}

// launch checks that the runner is a clean spare, or a warm one that can be
// reached: it never had a registration.
func (c check) launch(a Action, r *Runner) {
	if q := c.pool(a.Pool); r.warm() {
		if !c.reachable(a.Node) {
			c.fail(a, "nothing can bring a JIT config into it")
		}
		c.spare(a, r, q, Running)
	} else {
		c.spare(a, r, q, Stopped)
	}
	for _, j := range c.have.Jobs {
		if j.Status == InProgress && j.Runner == r.Name {
			c.fail(a, "job %d runs on it", j.ID)
		}
	}
	c.held(a, Launch)
}

// spare checks that the runner never had a registration, and is as it is said
// to be.
func (c check) spare(a Action, r *Runner, q *Pool, is Container) {
	clean := Runner{
		Name: r.Name, Pool: r.Pool, Scope: r.Scope, Node: r.Node, VMID: r.VMID, Template: r.Template, Source: r.Source,
		Storage: r.Storage, Container: is, Created: r.Created, Cloned: r.Cloned, Retry: r.Retry, Removed: r.Removed,
	}
	if is == Running {
		clean.Booted = r.Booted
	}
	if r.Scope != q.Scope || *r != clean || r.Cloned.IsZero() {
		c.fail(a, "not a clean spare")
	}
	if r.Template.Family != "" && !c.allowed(a, q, r.Template) {
		c.fail(a, "not of the pool's template %s", q.Template)
	}
}

// remove checks that nothing that may run a job is removed, and that what may
// get one is deregistered first.
func (c check) remove(a Action, r *Runner) {
	started := first(r.Took, c.started(r), later(r.Listened, r.Launched), r.Started, r.Created)
	if c.live(r) {
		if a.Kind != Destroy || started.IsZero() || noon.Before(started.Add(c.jobLimit(r))) {
			c.fail(a, "it runs a job since %s", started)
		}
		return
	}
	if a.Kind == Destroy && r.Container == Running && r.Ended.IsZero() && !r.smoked() && !r.warm() {
		seen := c.have.Evidence[r.Scope].Registrations.After(r.Spent)
		if r.Registration != Unregistered || r.Spent.IsZero() || r.Removed.IsZero() && !seen {
			c.fail(a, "not deregistered before")
		}
	}
	if a.Kind == Destroy && r.Container == Running && !r.Ended.IsZero() && noon.Sub(r.Ended) < ExitGrace {
		c.fail(a, "no time to exit")
	}
	if a.Kind == Deregister && r.Container == Running && r.Spent.IsZero() {
		if ev := c.have.Evidence[r.Scope]; ev.Jobs.IsZero() || ev.Registrations.IsZero() {
			c.fail(a, "nobody has looked for its job")
		}
	}
}

func (c check) started(r *Runner) time.Time {
	for i := len(c.have.Jobs) - 1; i >= 0; i-- {
		if j := c.have.Jobs[i]; j.Status == InProgress && j.Runner == r.Name {
			return j.Started
		}
	}
	return time.Time{}
}

// live reports whether a job may run on the runner. A container that ran and is
// down, or is not there, runs none; one that seems down and was never started
// may have been started by somebody else.
func (c check) live(r *Runner) bool {
	down := r.Container == Absent || r.Container == Stopped && (!r.Started.IsZero() || !r.Spent.IsZero() || !r.Booted.IsZero())
	if down || !r.Ended.IsZero() {
		return false
	}
	named := slices.ContainsFunc(c.have.Jobs, func(j Job) bool { return j.Status == InProgress && j.Runner == r.Name })
	return named || r.Job != 0 || !r.Took.IsZero() || r.Registration == BusyFlag
}

func (c check) jobLimit(r *Runner) time.Duration {
	if q := c.pool(r.Pool); q != nil && q.Timeouts.Job > 0 {
		return q.Timeouts.Job
	}
	return 5 * 24 * time.Hour
}

// lost reports whether a container went with its node, and no job with it.
func (c check) lost(r Runner) bool {
	down := slices.ContainsFunc(c.have.Nodes, func(n Node) bool { return n.Name == r.Node && n.Down })
	may := r.Phase() == Launching || r.Phase() == Idle || r.Phase() == Busy
	return down && r.Container == Unseen && r.Pending == None && !may
}

// containers checks the limits on containers after the pass.
func (c check) containers() {
	count := map[string]int{}
	add := func(pool, node string) {
		for _, key := range []string{"all", "pool " + pool, "node " + node, "pool " + pool + " node " + node} {
			count[key]++
		}
	}
	for _, r := range c.have.Runners {
		if (r.Container != Absent || r.Pending == Clone) && !c.lost(r) {
			add(r.Pool, r.Node)
		}
	}
	for _, a := range c.actions {
		if a.Kind == Clone {
			add(a.Pool, a.Node)
		}
	}
	over := func(a Action, key string, limit int) {
		if limit > 0 && count[key] > limit {
			c.fail(a, "%s: %d of %d", key, count[key], limit)
		}
	}
	for _, a := range c.actions {
		if a.Kind == Clone {
			q := c.pool(a.Pool)
			over(a, "all", c.want.Limits.Max)
			over(a, "node "+a.Node, c.want.Limits.PerNode)
			over(a, "pool "+a.Pool, max(1, q.Max))
			over(a, "pool "+a.Pool+" node "+a.Node, q.PerNode)
		}
	}
}

// tasks checks the limits on tasks after the pass.
func (c check) tasks() {
	tasks, stores := map[string]int{}, map[string]int{}
	burdens := func(k Kind, warm bool) bool { // a warm container is launched without a task
		return k == Clone || k == Launch && !warm || k == Destroy || k == Smoke || k == Boot
	}
	warm := func(a Action) bool { return a.Kind == Launch && !c.runner(a.Runner).Booted.IsZero() }
	add := func(k Kind, node, storage string, warm bool) {
		if burdens(k, warm) {
			tasks[node]++
		}
		if k == Clone || k == Destroy {
			stores[node+" "+storage]++
		}
	}
	storage := func(a Action) string {
		for _, t := range c.have.Templates {
			if a.Kind == Clone && t.VMID == a.Template {
				return t.Storage
			}
		}
		return c.runner(a.Runner).Storage
	}
	for _, r := range c.have.Runners {
		add(r.Pending, r.Node, r.Storage, !r.Booted.IsZero())
	}
	for _, a := range c.actions {
		add(a.Kind, a.Node, storage(a), warm(a))
	}
	for _, a := range c.actions {
		if l := c.want.Limits.NodeTasks; l > 0 && burdens(a.Kind, warm(a)) && tasks[a.Node] > l {
			c.fail(a, "%d tasks of %d on the node", tasks[a.Node], l)
		}
		if l := c.want.Limits.StoreTasks; l > 0 && (a.Kind == Clone || a.Kind == Destroy) && stores[a.Node+" "+storage(a)] > l {
			c.fail(a, "%d tasks of %d on the storage", stores[a.Node+" "+storage(a)], l)
		}
	}
}

// demand checks that no more is launched or cloned than jobs and spares ask for.
func (c check) demand() {
	launches, clones := map[string]int{}, 0
	for _, a := range c.actions {
		if a.Kind == Launch {
			launches[a.Pool]++
		}
		if a.Kind == Clone && strings.HasPrefix(a.Reason, "job ") {
			clones++
		}
	}
	queued := 0
	for _, j := range c.have.Jobs {
		if j.Status == Queued {
			queued++
		}
	}
	total := clones
	for name, n := range launches {
		total += n
		fit := 0
		for _, j := range c.have.Jobs {
			if j.Status == Queued && c.pool(name).Serves(j.Repo, j.Labels) {
				fit++
			}
		}
		if n > fit {
			c.t.Fatalf("pool %s: %d launches for %d jobs", name, n, fit)
		}
	}
	if total > queued {
		c.t.Fatalf("%d launches and clones for %d queued jobs", total, queued)
	}
}

// again checks that the same world gives the same plan, in whatever order it
// is listed, and that nothing more is planned once it is under way.
func (c check) again() {
	actions, _ := Plan(c.want, c.have, noon)
	if diff := cmp.Diff(c.actions, actions); diff != "" {
		c.t.Fatalf("another plan of the same (-first +second):\n%s", diff)
	}
	mixed := clone(c.have)
	mix := rand.New(rand.NewPCG(rapid.Uint64().Draw(c.t, "mix"), 0))
	mix.Shuffle(len(mixed.Runners), func(i, j int) { mixed.Runners[i], mixed.Runners[j] = mixed.Runners[j], mixed.Runners[i] })
	mix.Shuffle(len(mixed.Templates), func(i, j int) { mixed.Templates[i], mixed.Templates[j] = mixed.Templates[j], mixed.Templates[i] })
	mix.Shuffle(len(mixed.Holds), func(i, j int) { mixed.Holds[i], mixed.Holds[j] = mixed.Holds[j], mixed.Holds[i] })
	actions, _ = Plan(c.want, mixed, noon)
	if diff := cmp.Diff(c.actions, actions); diff != "" {
		c.t.Fatalf("another plan of the same in another order (-first +second):\n%s", diff)
	}
	under := underWay(c, rapid.Bool().Draw(c.t, "launch known"))
	more, _ := Plan(c.want, under, noon)
	if len(more) > 0 && !c.overlaps() {
		c.t.Fatalf("while these are under way:\n%v\nmore is planned:\n%v", c.actions, more)
	}
}

// overlaps reports whether some of the pools that suit a queued job suit another
// one: then a runner just launched may be matched to another job than the one
// it was launched for, and the next pass finds better use for what is left.
func (c check) overlaps() bool {
	var suits [][]string
	for _, j := range c.have.Jobs {
		var names []string
		for _, q := range c.want.Pools {
			if j.Status == Queued && q.Serves(j.Repo, j.Labels) {
				names = append(names, q.Name)
			}
		}
		suits = append(suits, names)
	}
	for _, a := range suits {
		for _, b := range suits {
			shared := slices.ContainsFunc(a, func(name string) bool { return slices.Contains(b, name) })
			if shared && !slices.Equal(a, b) {
				return true
			}
		}
	}
	return false
}

// underWay is the world in which the actions have been started.
func underWay(c check, launchKnown bool) Observed {
	o := clone(c.have)
	for i, a := range c.actions {
		if a.Kind == Clone {
			r := Runner{Name: fmt.Sprintf("new%d", i), Pool: a.Pool, Scope: c.pool(a.Pool).Scope, Node: a.Node, Source: a.Template, Created: noon, Pending: Clone}
			for _, t := range o.Templates {
				if t.VMID == a.Template {
					r.Template, r.Storage = t.Ref, t.Storage
				}
			}
			o.Runners = append(o.Runners, r)
			continue
		}
		for k := range o.Runners {
			if r := &o.Runners[k]; r.Name == a.Runner {
				r.Pending = a.Kind
				if a.Kind == Launch && launchKnown {
					r.Launched = noon
				}
				if a.Kind == Boot {
					r.Booted = noon
				}
				if a.Kind == Smoke {
					r.Smoked = noon
				}
			}
		}
	}
	return o
}
