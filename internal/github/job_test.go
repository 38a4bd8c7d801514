package github

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	gogithub "github.com/google/go-github/v62/github"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

func (f *fixture) jobs() map[fleet.JobID]fleet.Job {
	f.t.Helper()
	found, err := f.c.Jobs(f.t.Context(), "acme/app")
	if err != nil {
		f.t.Fatal(err)
	}
	all := map[fleet.JobID]fleet.Job{}
	for _, j := range found {
		if _, twice := all[j.ID]; twice {
			f.t.Errorf("job %d is listed twice", j.ID)
		}
		all[j.ID] = j
	}
	return all
}

func TestJobsThatAreNotOverAreListed(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		_, config := f.mint("acme", "dayfly-p-1")
		f.guest(config.Reveal())
		runs := fleet.JobID(f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"linux"}, Duration: time.Hour}))
		synctest.Wait()
		running, _ := f.hub.Job(hub.JobID(runs))
		// A run in progress holds queued jobs too.
		queued := fleet.JobID(f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"Linux", "gpu"}, Run: running.Run, Name: "second"}))
		alone := fleet.JobID(f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"gpu"}}))
		held := fleet.JobID(f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"gpu"}, Waiting: true}))
		over := f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"gpu"}, Run: running.Run, Name: "third"})
		f.hub.CancelJob(over)

		all := f.jobs()
		got := map[fleet.JobID]fleet.Status{}
		for id, j := range all {
			got[id] = j.Status
		}
		want := map[fleet.JobID]fleet.Status{runs: fleet.InProgress, queued: fleet.Queued, alone: fleet.Queued, held: fleet.Waiting}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("statuses (-want +got):\n%s", d)
		}
		if j := all[queued]; cmp.Diff(j.Labels, []string{"Linux", "gpu"}) != "" || j.Repo != "acme/app" || j.Name != "second" ||
			j.Run != int64(running.Run) || j.Attempt != 1 || j.Created.IsZero() || !j.Started.IsZero() || j.Runner != "" || j.URL == "" || j.Workflow == "" {
			t.Errorf("got queued job %+v", j)
		}
		if j := all[runs]; j.Runner != "dayfly-p-1" || j.Started.IsZero() || !j.Ended.IsZero() {
			t.Errorf("got running job %+v", j)
		}
		one, err := f.c.Job(t.Context(), "acme/app", fleet.JobID(over))
		if err != nil || one.Status != fleet.Completed || one.Conclusion != "cancelled" || one.Runner != "" || one.Ended.IsZero() {
			t.Errorf("cancelled job: got %+v %v", one, err)
		}
		if _, err := f.c.Job(t.Context(), "acme/app", 1); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("unknown job: got %v, want %v", err, fleet.ErrNotFound)
		}
	})
}

// go-github sends no entity tags.
func TestAnUnchangedPollIsFree(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		for range 120 {
			f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"gpu"}})
		}
		want := f.jobs()
		used, _ := f.hub.Quota(f.in)
		for range 3 {
			if d := cmp.Diff(want, f.jobs()); d != "" {
				t.Fatalf("the same again (-want +got):\n%s", d)
			}
		}
		if now, _ := f.hub.Quota(f.in); now != used {
			t.Errorf("three unchanged polls of %d jobs: got %d requests used, want none", len(want), now-used)
		}
		f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"gpu"}})
		if got := f.jobs(); len(got) != 121 {
			t.Errorf("got %d jobs, want the new one too", len(got))
		}
	})
}

// An installation's answers are not another's, and a full memory forgets the
// oldest.
func TestTheMemoryOfAnswersIsBounded(t *testing.T) {
	c := newCache()
	req := func(i int) *http.Request {
		r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("https://api.github.example/%d", i), nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	tagged := http.Header{"Etag": {`"x"`}}
	body := make([]byte, maxCached/8)
	for i := range 20 {
		key, _ := c.prepare(req(i), 1)
		c.store(key, tagged, body)
		c.store(key, tagged, body) // again: no growth
	}
	if c.size > maxCached || len(c.entries) != 8 || c.order.Len() != 8 {
		t.Errorf("got %d bytes in %d entries, want at most %d in 8", c.size, len(c.entries), maxCached)
	}
	if _, have := c.prepare(req(19), 1); have == nil {
		t.Error("the newest answer is gone")
	}
	if _, have := c.prepare(req(0), 1); have != nil {
		t.Error("the oldest answer is still there")
	}
	if _, have := c.prepare(req(19), 2); have != nil {
		t.Error("an answer was shared between installations")
	}
	key, _ := c.prepare(req(50), 1)
	c.store(key, tagged, make([]byte, maxCached/2))
	if _, have := c.prepare(req(50), 1); have != nil {
		t.Error("an answer that fills half the memory was kept")
	}
}

func TestARunThatVanishesWhileItIsListedIsNoError(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"gpu"}})
		f.faults(on("GET", "/jobs", refuse(404, "Not Found")))
		if got := f.jobs(); len(got) != 0 {
			t.Errorf("got %v, want none", got)
		}
	})
}

func TestReadsWithoutAnAnswerAreUnavailable(t *testing.T) {
	tests := map[string]stage.Fault{
		"hung up":      {Refuse: true},
		"502":          {Code: 502, Reason: "Bad Gateway", Body: "<html>"},
		"not JSON":     {Code: 200, Reason: "OK", Body: "<html>"},
		"half":         {Code: 200, Reason: "OK", Body: `{"total_count":1,"workflow_runs":[`},
		"never in 30s": {Delay: time.Hour},
	}
	for name, fault := range tests {
		t.Run(name, func(t *testing.T) {
			story(t, hub.Config{}, func(t *testing.T, f *fixture) {
				f.faults(on("GET", "/actions/runs", fault))
				start := time.Now()
				_, err := f.c.Jobs(t.Context(), "acme/app")
				if !errors.Is(err, fleet.ErrUnavailable) || !strings.Contains(err.Error(), "list jobs of acme/app") {
					t.Errorf("got %v, want %v that says what for", err, fleet.ErrUnavailable)
				}
				if took := time.Since(start); took > readBound {
					t.Errorf("took %v, want at most %v", took, readBound)
				}
			})
		})
	}
}

func TestRepositoriesOfAnInstallationAreListed(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		want := []string{"acme/app"}
		for i := range 150 {
			name := fmt.Sprintf("acme/r%03d", i)
			f.hub.AddRepository(hub.Repository{Name: name, Private: true})
			want = append(want, name)
		}
		f.hub.AddRepository(hub.Repository{Name: "other/app"})
		got, err := f.c.Repositories(t.Context(), "acme")
		if slices.Sort(got); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("got %d %v %v, want %d", len(got), got, err, len(want))
		}
		requests := f.rec.Count("GET", "/installation/repositories")
		if got, err := f.c.Repositories(t.Context(), "Acme/App"); err != nil || cmp.Diff([]string{"acme/app"}, got) != "" {
			t.Errorf("got %v %v, want the repository itself as GitHub spells it", got, err)
		}
		if n := f.rec.Count("GET", "/installation/repositories") - requests; n != 1 {
			t.Errorf("one repository took %d requests, want one", n)
		}
		fault := stage.Fault{Code: 200, Reason: "OK", Header: http.Header{"Content-Type": {"application/json"}},
			Body: `{"total_count":1,"repositories":[{"id":1,"full_name":"acme/app","archived":true}]}`}
		f.faults(on("GET", "/installation/repositories", fault))
		if got, err := f.c.Repositories(t.Context(), "acme/app"); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("archived: got %v %v, want %v", got, err, fleet.ErrNotFound)
		}
	})
}

// A list that loses an entry while it is read shifts the rest to pages that
// were read already.
func TestAListThatShrinksWhileItIsReadMissesNothing(t *testing.T) {
	list := []int64{1, 2, 3, 4, 5, 6}
	calls := 0
	got, err := walk(func(n int64) int64 { return n }, func(o gogithub.ListOptions) ([]int64, int, *gogithub.Response, error) {
		if calls++; calls == 2 {
			list = list[1:] // 4 is on the first page now
		}
		from := max(o.Page-1, 0) * 3
		page, resp := list[from:min(from+3, len(list))], &gogithub.Response{}
		if from+3 < len(list) {
			resp.NextPage = max(o.Page, 1) + 1
		}
		return page, len(list), resp, nil
	})
	if slices.Sort(got); err != nil || !slices.Equal(got, []int64{1, 2, 3, 4, 5, 6}) {
		t.Errorf("got %v %v, want all six", got, err)
	}
	if calls != 4 {
		t.Errorf("got %d pages, want two walks of two", calls)
	}
}

func TestAListThatNeverAgreesWithItsCountEnds(t *testing.T) {
	calls := 0
	got, err := walk(func(n int64) int64 { return n }, func(gogithub.ListOptions) ([]int64, int, *gogithub.Response, error) {
		calls++
		return []int64{7}, 9, &gogithub.Response{}, nil
	})
	if err != nil || !slices.Equal(got, []int64{7}) || calls != maxWalks {
		t.Errorf("got %v %v in %d walks, want 7 in %d", got, err, calls, maxWalks)
	}
}
