package fleet

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// usualRoll is a pool's roll as the language has it by default.
var usualRoll = Rolling{
	Wait: time.Minute, Smoke: 1, Canary: []Canary{{Jobs: 5, AtOnce: 1}, {Jobs: 20, Percent: 25}}, Bake: 24 * time.Hour,
	MaxFailures: 2, MaxSlower: 50, Deadline: 2 * time.Hour,
}

// lot draws what becomes of the boots of one roll.
type lot struct {
	*rand.Rand
	now    time.Time
	n      int
	before float64 // share of boots of the version before that fail
	fails  float64 // and of the candidate's
	slower float64 // how much slower the candidate's are
}

// boot is the end of one boot of a version.
func (l *lot) boot(ref Ref, smoke bool) Runner {
	l.n++
	l.now = l.now.Add(10 * time.Second)
	r := Runner{Name: fmt.Sprint("r", l.n), Pool: "a", Scope: "acme", Node: "n1", Template: ref, Container: Stopped, Created: l.now, Cloned: l.now}
	fails := l.before
	if ref.Version == "2" {
		fails = l.fails
	}
	failed := l.Float64() < fails
	took := time.Duration(float64(8*time.Second) * math.Exp(0.25*l.NormFloat64()))
	if ref.Version == "2" {
		took = time.Duration(float64(took) * l.slower)
	}
	if smoke {
		r.Smoked = l.now
	} else {
		r.Launched = l.now.Add(-took)
	}
	r.Started, r.Ended = l.now, l.now
	switch {
	case failed:
		r.Failed, r.Fault = l.now, "it did not come up"
	case smoke:
		r.Passed = l.now
	default:
		r.Listened, r.Took, r.Job = l.now, l.now, JobID(l.n)
	}
	return r
}

// play lets one roll from ubuntu@1 to ubuntu@2 go to its end, and reports
// whether the new version became the stable one.
func (l *lot) play() bool {
	one, two := Ref{"ubuntu", "1"}, Ref{"ubuntu", "2"}
	want := Desired{Pools: []Pool{{Name: "a", Scope: "acme", Template: Ref{Family: "ubuntu"}, Max: 10, Roll: usualRoll}}}
	have := Observed{
		Nodes:     []Node{{Name: "n1", Online: true}},
		Templates: []Template{{Ref: one, Node: "n1", VMID: 1}, {Ref: two, Node: "n1", VMID: 2}},
		Rollouts:  []Rollout{{Pool: "a", Stable: one, Mark: l.now}},
	}
	for range remembered {
		have.Rollouts[0].Usual = append(have.Rollouts[0].Usual, time.Duration(float64(8*time.Second)*math.Exp(0.25*l.NormFloat64())))
	}
	for range 2000 {
		have.Rollouts, _ = Roll(want, have, l.now)
		r := have.Rollouts[0]
		switch r.Stage {
		case Settled:
			if r.Stable == two || len(r.Bad) > 0 {
				return r.Stable == two
			}
			l.now = l.now.Add(time.Minute)
			have.Runners = nil
		case Smoking:
			have.Runners = []Runner{l.boot(two, true)}
		case Canarying, Full, Baking:
			have.Runners = []Runner{l.boot(two, false), l.boot(one, false)}
		case Inconclusive, Paused:
			have.Rollouts[0], _ = r.Continue(l.now, "asked for")
			have.Runners = nil
		default:
			l.now = l.now.Add(time.Minute)
			have.Runners = nil
		}
	}
	return false
}

// TestGoodVersionIsRarelyRolledBack plays 10,000 rolls of a version that fails
// as rarely as the one before, one boot in 200.
func TestGoodVersionIsRarelyRolledBack(t *testing.T) {
	t.Parallel()
	runs, back := 10_000, 0
	if testing.Short() {
		runs = 1000
	}
	for seed := range uint64(runs) {
		l := &lot{Rand: rand.New(rand.NewPCG(seed, 7)), now: noon, before: 0.005, fails: 0.005, slower: 1}
		if !l.play() {
			back++
		}
	}
	t.Logf("of %d rolls of a good version at a base failure rate of 0.5 %%, %d (%.2f %%) were rolled back", runs, back, 100*float64(back)/float64(runs))
	if back > runs*2/100 {
		t.Errorf("%d of %d good versions were rolled back, more than 2 %%", back, runs)
	}
}

// TestBadVersionsAreFound: one that fails each other boot, one boot in five, or
// takes twice as long.
func TestBadVersionsAreFound(t *testing.T) {
	t.Parallel()
	const runs = 1000
	for _, c := range []struct {
		what   string
		fails  float64
		slower float64
		least  int // per cent found
	}{{"fails each other boot", 0.5, 1, 99}, {"fails one boot in five", 0.2, 1, 97}, {"boots twice as slowly", 0, 2, 97}} {
		found := 0
		for seed := range uint64(runs) {
			l := &lot{Rand: rand.New(rand.NewPCG(seed, 11)), now: noon, fails: c.fails, slower: c.slower}
			if !l.play() {
				found++
			}
		}
		t.Logf("a version that %s: found in %.1f %% of rolls", c.what, 100*float64(found)/runs)
		if found < runs*c.least/100 {
			t.Errorf("a version that %s is found in %d of %d rolls, want %d %%", c.what, found, runs, c.least)
		}
	}
}

// TestRollOutsInRandomWorlds lets versions come, good and broken ones, while
// jobs do: no job waits longer than for one boot and a runner of the stable
// version, none is killed, not all places are of what is not proven, and what is
// broken is never stable.
func TestRollOutsInRandomWorlds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { newVoyage(t).run() })
}

// voyage is a world with roll-outs in which nothing fails but templates.
type voyage struct {
	*world
	t      *rapid.T
	d      dice
	bad    map[string]bool // versions that are broken
	queued int
	tight  bool // it has few places
}

func newVoyage(t *rapid.T) *voyage {
	v := &voyage{world: newWorld(), t: t, d: throw(t), bad: map[string]bool{}}
	v.rolls.on, v.rolls.broken = true, map[string]fate{}
	v.nodes = []Node{{Name: "n1", Online: true}, {Name: "n2", Online: true}}
	v.want.Pools = []Pool{{
		Name: "a", Scope: "acme", Labels: []string{"linux"}, Template: Ref{Family: "ubuntu"}, Spare: v.d("spare", 3), Max: 12,
		Timeouts: Timeouts{Clone: time.Minute, Launch: 30 * time.Second, Register: 30 * time.Second, Idle: 5 * time.Minute, Job: time.Hour, Warm: time.Hour},
		Roll:     v.d.rolling(),
	}}
	q := &v.want.Pools[0]
	if v.tight = v.d("tight", 3) == 0; v.tight {
		q.Max, q.Spare = 2+v.d("places", 3), v.d("spare", 2)
	}
	q.Roll.MaxFailures, q.Roll.Bake, q.Roll.Deadline = 1+v.d("failures", 2), 10*time.Minute, 30*time.Minute
	v.version("1", false)
	v.looks = 10 * time.Second
	v.look()
	v.keepLooking()
	v.routed = func(*Runner) { v.route() }
	v.rolls.turned = v.turned
	return v
}

// version puts a template version on both nodes, three replicas on each.
func (v *voyage) version(name string, broken bool) {
	for i := range 6 {
		v.templates = append(v.templates, Template{
			Ref: Ref{"ubuntu", name}, Node: v.nodes[i%2].Name, VMID: VMID(9000 + 10*len(v.templates)), Storage: "zfs", Copy: i > 1,
		})
	}
	if v.bad[name] = broken; broken {
		v.rolls.broken["ubuntu@"+name+" launch"] = hangs
	}
	if broken && v.d("smoke shows it", 2) == 0 {
		v.rolls.broken["ubuntu@"+name+" smoke"] = one(v.d, "how", fails, halves, hangs)
	}
}

// turned checks each change of stage.
func (v *voyage) turned(was, is Rollout) {
	if v.bad[is.Stable.Version] {
		v.t.Fatalf("broken version %s is stable: %s", is.Stable, is.Reason)
	}
}

// capacity checks that not all places are of a version that is not proven.
func (v *voyage) capacity() {
	if len(v.rolls.state) == 0 || v.rolls.state[0].Stage != Canarying {
		return
	}
	n, most := 0, v.want.Pools[0].Max
	for _, r := range v.runners {
		if p := r.Phase(); r.Template == v.rolls.state[0].Candidate && p >= Launching && p <= Busy {
			n++
		}
	}
	if n >= most {
		v.t.Fatalf("%d of %d places are of %s, which is not proven", n, most, v.rolls.state[0].Candidate)
	}
}

// route gives queued jobs to listening runners, as GitHub does.
func (v *voyage) route() {
	v.capacity()
	for _, r := range v.runners {
		if r.Registration != Online || r.Container != Running || v.running[r.Name] != 0 || !r.Spent.IsZero() {
			continue
		}
		var oldest *Job
		for _, j := range v.jobs {
			if j.Status == Queued && (oldest == nil || j.ID < oldest.ID) {
				oldest = j
			}
		}
		if oldest == nil {
			return
		}
		v.takes(r, oldest)
		// A candidate's boot that failed, a clone behind another one's, a stable boot.
		// Where there are few places, jobs wait for those before them.
		if waited := v.now.Sub(oldest.Created); waited > 30*time.Second+45*time.Second && !v.tight {
			v.t.Fatalf("job %d waited %s", oldest.ID, waited)
		}
		v.after(time.Duration(20+v.d("job lasts", 60))*time.Second, func() { v.ends(oldest, "success") })
	}
}

func (v *voyage) burst() {
	for range 1 + v.d("burst", 3) {
		v.queued++
		id := JobID(v.queued)
		v.jobs[id] = &Job{ID: id, Repo: "acme/app", Labels: []string{"linux"}, Status: Queued, Created: v.now}
	}
	v.route()
}

func (v *voyage) lasts(d time.Duration) {
	err := v.pass()
	if err == nil {
		err = v.until(v.now.Add(d))
	}
	if err != nil {
		v.t.Fatal(err)
	}
	if v.killed > 0 {
		v.t.Fatal("a job was killed")
	}
}

func (v *voyage) run() {
	v.lasts(time.Minute)
	for n := range 1 + v.d("versions", 3) {
		v.version(fmt.Sprint(n+2), v.d("broken", 2) == 0)
		if v.d("idle", 3) == 0 { // nobody queues a job for as long as a roll may take
			v.lasts(3 * time.Hour)
		}
		for range 2 + v.d("rounds", 10) {
			v.burst()
			v.lasts(time.Duration(30+v.d("pause", 120)) * time.Second)
		}
	}
	for range 40 { // what is under way comes to its end
		v.burst()
		v.lasts(3 * time.Minute)
	}
	v.lasts(2 * time.Hour)
	r := v.rolls.state[0]
	if r.Rolls() {
		v.t.Fatalf("the roll-out has not ended: %s", stageText(r))
	}
	for _, j := range v.jobs {
		if j.Status != Completed {
			v.t.Errorf("job %d is %s", j.ID, j.Status)
		}
	}
	newest := "1"
	for name, bad := range v.bad {
		if !bad && Newer(name, newest) {
			newest = name
		}
	}
	if r.Stable.Version != newest {
		v.t.Errorf("stable is %s, the newest good one is %s: %+v", r.Stable, newest, r)
	}
}
