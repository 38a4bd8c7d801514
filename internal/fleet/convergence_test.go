package fleet

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestPlanConverges lets a random world run with faults, then without: every
// job that fits is run, nothing live is killed, and what is not wanted is gone.
func TestPlanConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { newTrial(t).run() })
}

// trial is a world in which chance plays GitHub, Proxmox and the executor.
type trial struct {
	*world
	t      *rapid.T
	d      dice
	calm   bool           // no more faults
	bad    int            // faults so far
	queued int            // jobs so far
	given  map[JobID]bool // to a runner
}

func newTrial(t *rapid.T) *trial {
	w := &trial{world: newWorld(), t: t, d: throw(t), given: map[JobID]bool{}}
	w.nodes = []Node{{Name: "n1", Online: true, Host: w.d("root half", 2) == 0}, {Name: "n2", Online: true, Host: true}}
	for i, n := range []string{"n1", "n2", "n1"}[:1+w.d("replicas", 3)] {
		w.templates = append(w.templates, Template{Ref: Ref{"ubuntu", "1"}, Node: n, VMID: VMID(9001 + i), Storage: "zfs"})
	}
	for i, name := range []string{"a", "b", "c"}[:1+w.d("pools", 3)] {
		w.want.Pools = append(w.want.Pools, Pool{
			Name: name, Scope: "acme", Labels: [][]string{{"linux"}, {"linux", "gpu"}, {"arm"}}[i], Template: Ref{Family: "ubuntu"},
			Spare: w.d("spare", 3), Warm: max(0, w.d("warm", 4)-1), Max: 1 + w.d("max", 5),
			Timeouts: Timeouts{time.Minute, 30 * time.Second, 30 * time.Second, time.Minute, time.Hour, 0},
		})
	}
	w.want.Limits = Limits{Max: 4 + w.d("limit", 5), PerNode: 4 + w.d("node limit", 3), NodeTasks: 1 + w.d("node tasks", 3), StoreTasks: 1 + w.d("store tasks", 2)}
	w.looks = time.Duration(5+w.d("looks", 30)) * time.Second
	w.fate = w.chance
	w.routed = func(*Runner) { w.route() }
	w.log = func(s string) { t.Log(s) }
	w.look()
	w.keepLooking()
	return w
}

// chance is well, but for one in five as long as there are faults.
func (w *trial) chance(k Kind, _ *Runner) fate {
	if w.calm || w.d.mostly("fault", 5) {
		return well
	}
	w.bad++
	if k == Launch {
		return one(w.d, "fate", fails, halves, hangs, refused)
	}
	return one(w.d, "fate", fails, halves)
}

// route gives queued jobs to listening runners, as GitHub does: any that fits.
func (w *trial) route() {
	for id := JobID(1); int(id) <= w.queued; id++ {
		j := w.jobs[id]
		if j.Status != Queued || w.given[id] {
			continue
		}
		for _, r := range w.observed().Runners {
			r := w.runners[r.Name]
			q := w.pool(r.Pool)
			if r.Registration == Online && r.Container == Running && w.running[r.Name] == 0 && q != nil && q.Serves(j.Repo, j.Labels) {
				w.give(r, j)
				break
			}
		}
	}
}

func (w *trial) pool(name string) *Pool {
	for i := range w.want.Pools {
		if w.want.Pools[i].Name == name {
			return &w.want.Pools[i]
		}
	}
	return nil
}

// give makes a runner run a job, which is heard of at once or a little later.
func (w *trial) give(r *Runner, j *Job) {
	w.running[r.Name] = j.ID
	w.given[j.ID] = true
	began := w.now
	late := time.Duration(0)
	if !w.calm {
		late = time.Duration(w.d("late", 4)) * time.Second
	}
	w.after(late, func() {
		if j.Status != Queued { // cancelled just now: the runner exits without having run it
			delete(w.running, r.Name)
			w.powersOff(r)
			return
		}
		w.takes(r, j)
		w.say("job %d runs on %s since %s", j.ID, r.Name, began.Sub(w.begin))
	})
	w.after(late+time.Duration(1+w.d("length", 120))*time.Second, func() {
		if j.Status == InProgress && w.running[r.Name] == j.ID {
			w.say("job %d is over", j.ID)
			w.ends(j, "success")
		}
	})
}

// burst queues a few jobs.
func (w *trial) burst() {
	for range 1 + w.d("jobs", 4) {
		w.queued++
		id := JobID(w.queued)
		w.jobs[id] = &Job{
			ID: id, Repo: "acme/app", Status: Queued, Created: w.now,
			Labels: one(w.d, "labels", []string{"linux"}, []string{"linux"}, []string{"gpu"}, []string{"arm"}, []string{"nobody"}),
		}
		w.say("job %d is queued %v", id, w.jobs[id].Labels)
	}
	w.route()
}

// trouble is one of what happens to a world from outside.
func (w *trial) trouble() {
	w.bad++
	names := w.observed().Runners
	if len(names) == 0 {
		return
	}
	r := w.runners[names[w.d("whom", len(names))].Name]
	switch one(w.d, "trouble", "cancel", "off", "forget", "crash", "restart", "template", "removed", "drain", "half") {
	case "cancel":
		if j := w.jobs[JobID(1+w.d("which", max(1, w.queued)))]; j != nil && j.Status == Queued {
			w.say("job %d is cancelled", j.ID)
			j.Status, j.Conclusion = Completed, "cancelled"
		}
	case "off":
		w.powersOff(r)
	case "forget":
		if r.Registration == Online && w.running[r.Name] == 0 {
			w.say("GitHub forgets %s", r.Name)
			r.Registration = Unregistered
		}
	case "crash":
		w.say("the daemon starts anew")
		for _, r := range w.runners {
			r.Pending = None
		}
	case "restart":
		w.say("node n2 is away for a minute")
		w.nodes[1].Online = false
		w.after(time.Minute, func() { w.nodes[1].Online = true })
	case "template":
		w.say("a new template")
		t := w.templates[w.d("replica", len(w.templates))]
		t.VMID, t.Version = t.VMID+VMID(10*(1+len(w.templates))), fmt.Sprint(1+len(w.templates))
		w.templates = append(w.templates, t)
	case "removed":
		if r.Container == Stopped && r.Pending == None {
			w.say("somebody removes %s", r.Name)
			r.Container = Absent
		}
	case "half":
		w.say("the root half of n2 is away for two minutes")
		w.nodes[1].Host, w.nodes[1].Away = false, w.now
		w.after(2*time.Minute, func() { w.nodes[1].Host, w.nodes[1].Away = true, time.Time{} })
	case "drain":
		q := &w.want.Pools[w.d("pool", len(w.want.Pools))]
		q.Drained = true
		w.after(time.Minute, func() { q.Drained = false })
	}
}

// powersOff stops a container that runs, whatever it does.
func (w *trial) powersOff(r *Runner) {
	if r.Container != Running || r.Pending != None {
		return
	}
	w.say("%s powers off by itself", r.Name)
	if j := w.jobs[w.running[r.Name]]; j != nil {
		j.Status, j.Conclusion, j.Ended = Completed, "failure", w.now
	}
	delete(w.running, r.Name)
	r.Container, r.Ended = Stopped, w.now
	r.Registration = min(r.Registration, Offline)
}

func (w *trial) run() {
	w.lasts(time.Second)
	for range 1 + w.d("rounds", 6) {
		w.burst()
		w.lasts(time.Duration(w.d("pause", 60)) * time.Second)
		if w.d("trouble", 2) == 0 {
			w.trouble()
		}
		w.lasts(time.Duration(w.d("pause", 60)) * time.Second)
	}
	w.calm = true
	w.lasts(time.Hour)
	w.verify()
}

func (w *trial) lasts(d time.Duration) {
	err := w.pass()
	if err == nil {
		err = w.until(w.now.Add(d))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if w.killed > 0 {
		w.t.Fatalf("a job was killed")
	}
}

// verify checks what must be true an hour after the last fault.
func (w *trial) verify() {
	for _, j := range w.jobs {
		fits := false
		for _, q := range w.want.Pools {
			fits = fits || q.Serves(j.Repo, j.Labels)
		}
		if fits && j.Status != Completed {
			w.t.Errorf("job %d %v is %s: %s", j.ID, j.Labels, j.Status, Explain(w.want, w.observed(), w.now, j.ID))
		}
	}
	spares := 0
	for _, q := range w.want.Pools {
		spares += min(q.Spare+q.Warm, q.Max)
	}
	if most := 2*(w.queued+w.bad) + (1+w.bad)*spares + w.evicted; w.clones > most {
		w.t.Errorf("%d clones for %d jobs, %d faults, %d spares and %d evictions", w.clones, w.queued, w.bad, spares, w.evicted)
	}
	left := map[string]int{}
	for _, r := range w.runners {
		left[r.Pool]++
		if r.Phase() != Spare && r.Phase() != Warm || r.Pending != None {
			w.t.Errorf("%s is left, %s: %+v", r.Name, r.Phase(), *r)
		}
	}
	for _, q := range w.want.Pools {
		full := len(w.runners) >= w.want.Limits.Max
		keep := min(q.Spare+q.Warm, q.Max)
		if n := left[q.Name]; n > keep || n < keep && !full && !w.nodesFull() {
			w.t.Errorf("pool %s has %d spares of %d", q.Name, n, q.Spare)
		}
	}
}

func (w *trial) nodesFull() bool {
	on := map[string]int{}
	for _, r := range w.runners {
		on[r.Node]++
	}
	for _, t := range w.templates {
		if on[t.Node] >= w.want.Limits.PerNode {
			return true
		}
	}
	return false
}

// TestNoSurplus bounds what is cloned in a world without faults whose pools
// share no labels: a container for each job, and the spares. Where they share
// some, GitHub may give a job to the runner that another one has no choice of.
func TestNoSurplus(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newTrial(t)
		w.calm = true
		if len(w.want.Pools) > 1 {
			w.want.Pools[1].Labels = []string{"gpu"}
		}
		spares := 0
		for _, q := range w.want.Pools {
			spares += min(q.Spare+q.Warm, q.Max)
		}
		w.lasts(time.Second)
		for range 1 + w.d("rounds", 5) {
			w.burst()
			w.lasts(time.Duration(w.d("pause", 90)) * time.Second)
		}
		w.lasts(30 * time.Minute)
		fit := 0
		for _, j := range w.jobs {
			if j.Status == Completed {
				fit++
			}
		}
		if w.clones > fit+spares+w.evicted {
			t.Errorf("%d clones for %d jobs, %d spares and %d evictions", w.clones, fit, spares, w.evicted)
		}
		w.verify()
	})
}
