package fleet

import (
	"strings"
	"testing"
	"time"
)

func TestLostIsWhatDiedLongBeforeGitHubGaveItUp(t *testing.T) {
	gaveUp := noon
	job := Job{ID: 1, Status: Completed, Conclusion: "failure", Ended: gaveUp}
	dead := Runner{Name: "a1", Node: "n1", VMID: 20001, Job: 1, Container: Stopped, Ended: gaveUp.Add(-9 * time.Minute)}
	for name, c := range map[string]struct {
		change func(*Runner, *Job)
		down   time.Time
		want   string
	}{
		"its container died":            {func(*Runner, *Job) {}, time.Time{}, "container 20001 on n1 had stopped 9m0s"},
		"its container went afterwards": {func(r *Runner, _ *Job) { r.Spent = gaveUp.Add(-8 * time.Minute) }, time.Time{}, "had stopped"},
		"it told of its failure":        {func(r *Runner, _ *Job) { r.Ended = gaveUp.Add(time.Second) }, time.Time{}, ""},
		"it was shut down, and told":    {func(r *Runner, _ *Job) { r.Ended = gaveUp.Add(-20 * time.Second) }, time.Time{}, ""},
		"it was cancelled":              {func(_ *Runner, j *Job) { j.Conclusion = "cancelled" }, time.Time{}, ""},
		"it succeeded":                  {func(_ *Runner, j *Job) { j.Conclusion = "success" }, time.Time{}, ""},
		"it is not over":                {func(_ *Runner, j *Job) { j.Status = InProgress }, time.Time{}, ""},
		"another's job":                 {func(r *Runner, _ *Job) { r.Job = 2 }, time.Time{}, ""},
		"we gave it up": {func(r *Runner, _ *Job) {
			r.Spent, r.Ended = gaveUp.Add(-10*time.Minute), gaveUp.Add(-9*time.Minute)
		}, time.Time{}, ""},
		"its node is down": {func(r *Runner, _ *Job) { r.Ended, r.Container = time.Time{}, Unseen }, gaveUp.Add(-9 * time.Minute), "node n1 had been down for 9m0s"},
		"its node is down, and its registration was seen to go first": {func(r *Runner, _ *Job) { r.Ended, r.Container = gaveUp, Unseen }, gaveUp.Add(-9 * time.Minute), "node n1 had been down for 9m0s"},
		"it told of its failure, and its node went down":              {func(r *Runner, _ *Job) { r.Ended, r.Container = gaveUp.Add(-time.Second), Unseen }, gaveUp.Add(time.Second), ""},
		"its node went down late":                                     {func(r *Runner, _ *Job) { r.Ended, r.Container = time.Time{}, Unseen }, gaveUp.Add(-time.Minute), ""},
		"GitHub heard nothing of it": {func(r *Runner, _ *Job) {
			r.Ended, r.Container, r.Silent = time.Time{}, Running, gaveUp.Add(-8*time.Minute)
		}, time.Time{}, "GitHub had heard nothing of container 20001 on n1 for 8m0s when it gave the job up: it has lost its network"},
		"GitHub heard nothing of it for a moment": {func(r *Runner, _ *Job) {
			r.Ended, r.Container, r.Silent = time.Time{}, Running, gaveUp.Add(-time.Minute)
		}, time.Time{}, ""},
		"its node is only silent": {func(r *Runner, _ *Job) { r.Ended, r.Container = time.Time{}, Unseen }, time.Time{}, ""},
	} {
		r, j := dead, job
		c.change(&r, &j)
		if got := r.Lost(&j, c.down); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestOnlyLostJobsAreRunAgain(t *testing.T) {
	of := func(id JobID, conclusion string) Job { return Job{ID: id, Status: Completed, Conclusion: conclusion} }
	one, two := Rerun{Attempt: 1, Jobs: []JobID{1}}, Rerun{Attempt: 1, Jobs: []JobID{1, 2}}
	for name, c := range map[string]struct {
		r     Rerun
		s     RunState
		asked bool
		want  Choice
	}{
		"the run goes on":            {one, RunState{Attempt: 1, Jobs: []Job{of(1, "failure")}}, false, RerunLater},
		"one, and nothing else":      {one, RunState{true, 1, []Job{of(1, "failure"), of(3, "success")}}, false, RerunJob},
		"one, and another failed":    {one, RunState{true, 1, []Job{of(1, "failure"), of(3, "failure")}}, false, RerunJob},
		"two, and others went well":  {two, RunState{true, 1, []Job{of(1, "failure"), of(2, "failure"), of(3, "skipped")}}, false, RerunAll},
		"two, and another failed":    {two, RunState{true, 1, []Job{of(1, "failure"), of(2, "failure"), of(3, "failure")}}, false, RerunNever},
		"two, and one was cancelled": {two, RunState{true, 1, []Job{of(1, "failure"), of(2, "failure"), of(3, "cancelled")}}, false, RerunNever},
		"a person was faster":        {one, RunState{true, 2, nil}, false, RerunNever},
		"the answer was lost":        {one, RunState{false, 2, nil}, true, RerunDone},
	} {
		if got, why := c.r.Choose(c.s, c.asked); got != c.want {
			t.Errorf("%s: got %d (%s), want %d", name, got, why, c.want)
		}
	}
}

func TestBudgetIsPerRun(t *testing.T) {
	want := Desired{Pools: []Pool{{Name: "a", Reruns: 1}, {Name: "b"}}}
	loss := Loss{Job: 3, Repo: "acme/app", Run: 7, Attempt: 2, Pool: "a", At: noon}
	before := Loss{Job: 1, Repo: "acme/app", Run: 7, Attempt: 1, Pool: "a", State: LossRerun}
	other := before
	other.Run = 8
	for name, c := range map[string]struct {
		l      Loss
		losses []Loss
		want   string
	}{
		"the first":           {loss, []Loss{loss, other}, ""},
		"the second":          {loss, []Loss{before, loss}, "were run again 1 times"},
		"a pool without":      {Loss{Pool: "b"}, nil, "runs no lost jobs again"},
		"a pool that is gone": {Loss{Pool: "c"}, nil, "is gone"},
	} {
		if got := c.l.Budget(want, c.losses); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	old := loss.Look(noon, "its run goes on")
	if old.State != LossSeen || old.Next.Sub(noon) < 40*time.Second {
		t.Errorf("after a look: %+v", old)
	}
	old.At = noon.Add(-lossFor)
	if old = old.Look(noon, "its run goes on"); old.State != LossLeft {
		t.Errorf("after three days: %+v, want it left", old)
	}
}
