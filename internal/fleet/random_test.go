package fleet

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"pgregory.net/rapid"
)

// noon is when the random worlds are.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// dice returns a number below n. What it is for helps to read a failure.
type dice func(what string, n int) int

// throw gives dice that rapid can shrink to a small world, or, as often, dice
// from a seed: these make fuller worlds, and more of them in a second.
func throw(t *rapid.T) dice {
	if rapid.Bool().Draw(t, "full") {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		return func(_ string, n int) int { return r.IntN(n) }
	}
	return func(what string, n int) int { return rapid.IntRange(0, n-1).Draw(t, what) }
}

func one[T any](d dice, what string, of ...T) T { return of[d(what, len(of))] }

// mostly is true but once in n times.
func (d dice) mostly(what string, n int) bool { return d(what, n) < n-1 }

func (d dice) pool() string { return one(d, "pool", "a", "b", "c", "a", "b", "c", "gone") }
func (d dice) scope() Scope {
	return one[Scope](d, "scope", "acme", "acme", "acme", "acme/app", "other")
}
func (d dice) node() string    { return one(d, "node", "n1", "n1", "n1", "n2", "n2", "n3", "n4") }
func (d dice) storage() string { return one(d, "storage", "zfs", "zfs", "lvm", "") }
func (d dice) version() string { return one(d, "version", "1", "1", "1", "1", "2", "") }
func (d dice) family() string {
	return one(d, "family", "ubuntu", "ubuntu", "ubuntu", "ubuntu", "ubuntu", "debian", "")
}

func (d dice) labels() []string {
	return one(d, "labels", []string{"linux"}, []string{"linux"}, []string{"Linux", "gpu"}, []string{"gpu", "linux", "x64"}, []string{"x64"}, nil)
}

// time is mostly before noon, sometimes after it, often not at all.
func (d dice) time(what string) time.Time {
	if d(what+" known", 2) == 0 {
		return time.Time{}
	}
	return noon.Add(time.Duration(d(what, 7260)-7200) * time.Second)
}

func (d dice) span(what string) time.Duration {
	return time.Duration(one(d, what, 0, 1, 60, 300, 3600)) * time.Second
}

func (d dice) aPool() Pool {
	q := Pool{
		Name: d.pool(), Scope: d.scope(), Labels: d.labels(), Template: Ref{d.family(), d.version()}, Max: d("max", 8) - 1, Spare: d("spare", 6) - 1,
		PerNode: max(0, d("per node", 6)-3), Drained: !d.mostly("drained", 8),
		Timeouts: Timeouts{d.span("clone"), d.span("launch"), d.span("register"), d.span("idle"), d.span("job"), d.span("warm")},
	}
	q.Roll = d.rolling()
	q.Warm = d("warm", 5) - 2
	q.Egress.Policy = Policy(max(0, d("egress", 6)-3))
	if d("some nodes", 3) == 0 {
		q.Nodes = []string{d.node(), d.node()}
	}
	return q
}

func (d dice) desired() Desired {
	w := Desired{Limits: Limits{max(0, d("limit", 16)-4), max(0, d("limit per node", 10)-4), max(0, d("node tasks", 6)-2), max(0, d("store tasks", 5)-2)}}
	for range d("pools", 5) {
		w.Pools = append(w.Pools, d.aPool())
	}
	return w
}

// aRunner is in any state, possible or not. More than half of them are what a
// healthy world has, so that rules meet often enough.
func (d dice) aRunner(i int) Runner {
	r := Runner{
		Name: fmt.Sprintf("r%d", i), Pool: d.pool(), Scope: d.scope(), Node: d.node(), VMID: VMID(20000 + i),
		Template: Ref{d.family(), d.version()}, Source: VMID(9000 + d("source", 6)), Storage: d.storage(),
	}
	if d.mostly("healthy", 3) {
		d.healthy(&r)
		return r
	}
	r.Container = Container(d("container", 5))
	r.Registration = Registration(d("registration", 4))
	r.Pending = Kind(max(0, d("pending", 11)-4))
	r.Job = JobID(max(0, d("job", 20)-10))
	r.Created, r.Cloned, r.Launched = d.time("created"), d.time("cloned"), d.time("launched")
	r.Started, r.Listened, r.Took = d.time("started"), d.time("listened"), d.time("took")
	if !d.mostly("smoked", 4) {
		r.Smoked, r.Passed = d.time("smoked"), d.time("passed")
	}
	if !d.mostly("booted", 4) {
		r.Booted = d.time("booted")
	}
	r.Failed = d.time("failed")
	r.Ended, r.Spent, r.Removed, r.Retry = d.time("ended"), d.time("spent"), d.time("removed"), d.time("retry")
	return r
}

// healthy makes the runner a spare, a listening or a busy one, or one that is over.
func (d dice) healthy(r *Runner) {
	age := 10 + d("age", 5000)
	ago := func(s int) time.Time { return noon.Add(-time.Duration(s) * time.Second) }
	r.Created, r.Cloned, r.Container = ago(age), ago(age-1), Stopped
	kind := d("kind", 9)
	if kind == 8 {
		r.Booted, r.Container = ago(age-2), Running
		switch d("boots", 4) {
		case 0:
			r.Container, r.Pending = Stopped, Boot
		case 1:
			r.Retry = noon.Add(30 * time.Second) // an action on it failed
		}
		return
	}
	if kind == 7 {
		r.Smoked, r.Started, r.Container = ago(age-2), ago(age-3), Running
		return
	}
	if kind < 3 {
		if kind == 0 {
			r.Template = Ref{"ubuntu", "1"}
		}
		return
	}
	r.Launched, r.Started, r.Container, r.Registration = ago(age-2), ago(age-3), Running, Offline
	if kind == 3 {
		return
	}
	r.Listened, r.Registration = ago(age-4), Online
	if kind == 5 {
		r.Took, r.Job = ago(age-5), JobID(1+d("job", 10))
		r.Registration = one(d, "flag", Online, BusyFlag, Offline)
	}
	if kind == 6 {
		r.Ended, r.Registration = ago(age-6), Unregistered
	}
}

func (d dice) aJob(i int) Job {
	j := Job{
		ID: JobID(i), Repo: one(d, "repo", "acme/app", "acme/app", "acme/lib", "other/x", "none"),
		Labels: d.labels(), Status: Status(min(3, 1+d("status", 4))), Created: noon.Add(-time.Duration(d("age", 300)) * time.Second),
	}
	if d("queued", 2) == 0 {
		j.Status = Queued
	}
	if j.Status == InProgress {
		j.Runner, j.Started = fmt.Sprintf("r%d", d("runner", 16)), d.time("started")
	}
	return j
}

func (d dice) aHold() Hold {
	return Hold{
		Kind: Kind(d("kind", 3)), Pool: one(d, "pool", "", d.pool()), Node: one(d, "node", "", d.node()), Scope: one(d, "scope", "", d.scope()),
		Until: noon.Add(time.Duration(d("until", 120)-40) * time.Second), Reason: "broken",
	}
}

// aRollout is one at any stage, mostly from ubuntu@1 to ubuntu@2.
func (d dice) aRollout() Rollout {
	r := Rollout{
		Pool: d.pool(), Stable: Ref{"ubuntu", "1"}, Stage: Stage(d("stage", len(stageNames))), Step: d("step", 3),
		Resume: Stage(d("resume", 6)), Since: noon, Answer: d.time("answer"),
	}
	if r.Stage != Settled {
		r.Candidate = Ref{"ubuntu", "2"}
		r.Now = Tally{Boots: d("boots", 3), Jobs: d("jobs", 4)}
	}
	if !d.mostly("bad", 5) {
		r.Bad = []Verdict{{Version: Ref{"ubuntu", one(d, "which", "1", "2")}, Reason: "broken"}}
	}
	return r
}

func (d dice) rolling() Rolling {
	r := Rolling{Smoke: d("smoke", 3)}
	for range d("steps", 3) {
		r.Canary = append(r.Canary, Canary{1 + d("jobs", 5), one(d, "percent", 0, 0, 50), d("at once", 3)})
	}
	return r
}

func (d dice) observed() Observed {
	o := Observed{Evidence: map[Scope]Evidence{}}
	for i := range d("runners", 16) {
		o.Runners = append(o.Runners, d.aRunner(i))
	}
	for i := range d("jobs", 14) {
		o.Jobs = append(o.Jobs, d.aJob(i+1))
	}
	for i := range d("templates", 7) {
		o.Templates = append(o.Templates, Template{
			Ref: Ref{d.family(), d.version()}, Node: d.node(), VMID: VMID(9000 + i), Storage: d.storage(), Locked: !d.mostly("locked", 5),
		})
	}
	for _, n := range []string{"n1", "n2", "n3"} { // n4 is one that nobody has heard of
		node := Node{Name: n, Online: d.mostly("offline", 8), Host: d("root half", 2) == 0, Away: d.time("away")}
		node.Down = !node.Online && d.mostly("only unlisted", 3)
		node.Frail, node.Blind = !d.mostly("frail", 6), !d.mostly("blind", 4)
		if d("store", 3) == 0 {
			node.Stores = []Store{{Name: "zfs", FreeMiB: 1000 * d("free", 12), Shared: d("shared", 2) == 0, AsOf: d.time("as of")}}
		}
		o.Nodes = append(o.Nodes, node)
	}
	for range max(0, d("holds", 6)-3) {
		o.Holds = append(o.Holds, d.aHold())
	}
	for range max(0, d("rollouts", 6)-2) {
		o.Rollouts = append(o.Rollouts, d.aRollout())
	}
	for _, s := range []Scope{"acme", "acme/app", "other"} {
		o.Evidence[s] = Evidence{d.time("jobs"), d.time("registrations")}
	}
	return o
}

// clone copies what is observed, so that a change to it shows.
func clone(o Observed) Observed {
	o.Jobs, o.Runners, o.Templates = slices.Clone(o.Jobs), slices.Clone(o.Runners), slices.Clone(o.Templates)
	o.Nodes, o.Holds, o.Evidence = slices.Clone(o.Nodes), slices.Clone(o.Holds), maps.Clone(o.Evidence)
	for i := range o.Jobs {
		o.Jobs[i].Labels = slices.Clone(o.Jobs[i].Labels)
	}
	return o
}
