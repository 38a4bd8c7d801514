package fleet

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// heard draws one observation of job 1: fields are known or not.
func heard(t *rapid.T, what string) Job {
	text := func(of ...string) string { return rapid.SampledFrom(append(of, "")).Draw(t, what) }
	at := func() time.Time {
		if n := rapid.IntRange(0, 3).Draw(t, what); n > 0 {
			return noon.Add(time.Duration(n) * time.Second)
		}
		return time.Time{}
	}
	return Job{
		ID: 1, Repo: text("acme/app"), Run: int64(rapid.IntRange(0, 1).Draw(t, what)), Attempt: rapid.IntRange(0, 2).Draw(t, what),
		Name: text("build", "test"), Workflow: text("ci"), URL: text("https://github.com/acme/app/1"),
		Labels: rapid.SampledFrom([][]string{nil, {"linux"}, {"linux", "x64"}}).Draw(t, what),
		Status: Status(rapid.IntRange(1, 4).Draw(t, what)), Conclusion: text("success", "cancelled"), Runner: text("a1", "a2"),
		Created: at(), Started: at(), Ended: at(),
		Origin: Origin{
			Public: rapid.Bool().Draw(t, what), Doubt: rapid.Bool().Draw(t, what), Fork: rapid.Bool().Draw(t, what),
			Event: text("push", "pull_request"), File: text("a.yml"), Branch: text("main"), Commit: text("abc"),
		},
	}
}

func merged(jobs ...Job) Job {
	var m Job
	for _, j := range jobs {
		m, _ = m.Merge(j)
	}
	return m
}

// TestMergeDoesNotDependOnOrder: events come doubled, late and out of order.
func TestMergeDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := heard(t, "a"), heard(t, "b"), heard(t, "c")
		want := merged(a, b, c)
		for _, got := range []Job{merged(a, c, b), merged(b, a, c), merged(b, c, a), merged(c, a, b), merged(c, b, a), merged(a, a, b, c, b, a)} {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("another order, another job (-a b c +other):\n%s", diff)
			}
		}
		for _, seen := range []Job{a, b, c, want} {
			if again, changed := want.Merge(seen); changed {
				t.Fatalf("what was heard before changed it:\n%s", cmp.Diff(want, again))
			}
		}
		if want.Status != max(a.Status, b.Status, c.Status) {
			t.Fatalf("status %s of %s, %s, %s", want.Status, a.Status, b.Status, c.Status)
		}
	})
}

func TestMerge(t *testing.T) {
	queued := Job{ID: 1, Repo: "acme/app", Labels: []string{"linux"}, Status: Queued, Created: noon}
	for name, tt := range map[string]struct {
		have, seen, want Job
		changed          bool
	}{
		"new":                    {Job{}, queued, queued, true},
		"doubled":                {queued, queued, queued, false},
		"late queued":            {Job{ID: 1, Status: Completed}, queued, Job{ID: 1, Repo: "acme/app", Labels: []string{"linux"}, Status: Completed, Created: noon}, true},
		"another job":            {queued, Job{ID: 2, Status: Completed}, queued, false},
		"nothing":                {Job{}, Job{}, Job{}, false},
		"queued with a runner":   {Job{}, Job{ID: 1, Status: Queued, Runner: "bogus", Started: noon}, Job{ID: 1, Status: Queued}, true},
		"then the true one":      {Job{ID: 1, Status: Queued}, Job{ID: 1, Status: InProgress, Runner: "a1"}, Job{ID: 1, Status: InProgress, Runner: "a1"}, true},
		"completed says no name": {Job{ID: 1, Status: InProgress, Runner: "a1"}, Job{ID: 1, Status: Completed, Conclusion: "success"}, Job{ID: 1, Status: Completed, Runner: "a1", Conclusion: "success"}, true},
		"labels change":          {queued, Job{ID: 1, Status: Queued, Labels: []string{"linux", "x64"}}, Job{ID: 1, Repo: "acme/app", Labels: []string{"linux", "x64"}, Status: Queued, Created: noon}, true},
	} {
		got, changed := tt.have.Merge(tt.seen)
		if diff := cmp.Diff(tt.want, got); diff != "" || changed != tt.changed {
			t.Errorf("%s: changed %t, want %t (-want +got):\n%s", name, changed, tt.changed, diff)
		}
	}
}

func TestParseStatus(t *testing.T) {
	for text, want := range map[string]Status{
		"waiting": Waiting, "requested": Waiting, "pending": Waiting, "queued": Queued, "in_progress": InProgress, "completed": Completed,
		"unknown": 0, "": 0, "Queued": 0,
	} {
		if got, ok := ParseStatus(text); got != want || ok != (want != 0) {
			t.Errorf("ParseStatus(%q) = %s, %t, want %s", text, got, ok, want)
		}
	}
}
