package github

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// TestJobsAreRunAgain: one, or all that failed, once their run is over and the
// App may.
func TestJobsAreRunAgain(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		first := f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"linux"}, Waiting: true})
		j, _ := f.hub.Job(first)
		second := f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"linux"}, Run: j.Run, Name: "test"})
		again := func() error { return f.c.RerunJob(t.Context(), "acme/app", fleet.JobID(second)) }
		if err := again(); !errors.Is(err, fleet.ErrDenied) || !strings.Contains(err.Error(), "actions: write") {
			t.Errorf("not granted: got %v, want ErrDenied and the permission", err)
		}
		if p := f.c.CheckRerun(t.Context(), "acme"); len(p) != 1 || !strings.Contains(p[0].String(), "actions: write") {
			t.Errorf("the check says %v, want what is missing", p)
		}
		granted := hub.DefaultPermissions()
		granted["actions"] = "write"
		f.hub.Grant(f.in, granted)
		if p := f.c.CheckRerun(t.Context(), "acme"); len(p) != 0 {
			t.Errorf("the check says %v, want nothing", p)
		}
		if err := again(); !errors.Is(err, fleet.ErrDenied) || !strings.Contains(err.Error(), "already running") {
			t.Errorf("while it runs: got %v, want a refusal", err)
		}
		f.hub.CancelJob(first)
		f.hub.CancelJob(second)
		run, err := f.c.Run(t.Context(), "acme/app", int64(j.Run))
		if err != nil || !run.Over || run.Attempt != 1 || len(run.Jobs) != 2 || run.Jobs[0].Conclusion != "cancelled" {
			t.Fatalf("run %+v, %v; want it over, with two cancelled jobs", run, err)
		}
		if err := again(); err != nil {
			t.Fatal(err)
		}
		if run, err = f.c.Run(t.Context(), "acme/app", int64(j.Run)); err != nil || run.Over || run.Attempt != 2 {
			t.Errorf("run %+v, %v; want its second attempt under way", run, err)
		}
		for _, j := range f.hub.Jobs() {
			f.hub.CancelJob(j.ID)
		}
		if err := f.c.RerunFailed(t.Context(), "acme/app", int64(j.Run)); err != nil {
			t.Error(err)
		}
		if n := len(f.hub.Jobs()); n != 5 {
			t.Errorf("%d jobs, want two, one of them again, and both again", n)
		}
		for _, j := range f.hub.Jobs() {
			f.hub.CancelJob(j.ID)
		}
		time.Sleep(31 * 24 * time.Hour)
		if err := f.c.RerunFailed(t.Context(), "acme/app", int64(j.Run)); !errors.Is(err, fleet.ErrDenied) || !strings.Contains(err.Error(), "month") {
			t.Errorf("after a month: got %v, want a refusal", err)
		}
	})
}
