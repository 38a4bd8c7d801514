package github

import (
	"errors"
	"testing"

	"github.com/google/go-github/v62/github"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

func TestOriginOfWebhooks(t *testing.T) {
	flag, count := func(b bool) *bool { return &b }, func(n int) *int { return &n }
	for name, tt := range map[string]struct {
		repo          repository
		public, doubt bool
	}{
		"private without forks":           {repository{Private: flag(true), ForksCount: count(0), AllowForking: flag(true)}, false, false},
		"private with a fork":             {repository{Private: flag(true), ForksCount: count(1), AllowForking: flag(true)}, false, true},
		"private, forking forbidden":      {repository{Private: flag(true), ForksCount: count(1), AllowForking: flag(false)}, false, false},
		"private, nothing said of forks":  {repository{Private: flag(true)}, false, true},
		"public without forks":            {repository{Private: flag(false), ForksCount: count(0)}, true, false},
		"public, forking forbidden":       {repository{Private: flag(false), ForksCount: count(3), AllowForking: flag(false)}, true, true},
		"nothing said":                    {repository{}, true, true},
		"nothing said of who can read it": {repository{ForksCount: count(0)}, true, false},
	} {
		job := &github.WorkflowJob{HeadBranch: github.String("main"), HeadSHA: github.String("abc")}
		want := fleet.Origin{Public: tt.public, Doubt: tt.doubt, Branch: "main", Commit: "abc"}
		if got := tt.repo.origin(job); got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

func TestOriginOfRuns(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.hub.AddRepository(hub.Repository{Name: "acme/open"})
		for name, tt := range map[string]struct {
			job  hub.NewJob
			want fleet.Origin
		}{
			"own":       {hub.NewJob{Repo: "acme/app"}, fleet.Origin{Event: "push", Branch: "main", File: ".github/workflows/ci.yml"}},
			"public":    {hub.NewJob{Repo: "acme/open", Event: "schedule"}, fleet.Origin{Public: true, Event: "schedule", Branch: "main", File: ".github/workflows/ci.yml"}},
			"of a fork": {hub.NewJob{Repo: "acme/open", Fork: "eve/open", File: ".github/workflows/x.yml", Branch: "patch"}, fleet.Origin{Public: true, Fork: true, Event: "pull_request", Branch: "patch", File: ".github/workflows/x.yml"}},
		} {
			tt.job.Labels = []string{"linux"}
			id := f.hub.QueueJob(tt.job)
			job, _ := f.hub.Job(id)
			got, err := f.c.Origin(t.Context(), tt.job.Repo, int64(job.Run))
			tt.want.Commit = got.Commit
			if err != nil || got != tt.want || len(got.Commit) != 40 {
				t.Errorf("%s: got %+v, %v, want %+v", name, got, err, tt.want)
			}
			jobs, err := f.c.Jobs(t.Context(), tt.job.Repo)
			tt.want.File = "" // a list of runs has no paths, as go-github reads it
			if err != nil || len(jobs) == 0 || jobs[0].Origin != tt.want {
				t.Errorf("%s, in a list: got %+v, %v, want %+v", name, jobs, err, tt.want)
			}
			one, err := f.c.Job(t.Context(), tt.job.Repo, fleet.JobID(id))
			if err != nil || one.Origin != (fleet.Origin{Doubt: true, Branch: tt.want.Branch, Commit: tt.want.Commit}) {
				t.Errorf("%s, alone: got %+v, %v", name, one.Origin, err)
			}
			f.hub.CancelJob(id)
		}
		if _, err := f.c.Origin(t.Context(), "acme/app", 1); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("no such run: got %v, want ErrNotFound", err)
		}
	})
}
