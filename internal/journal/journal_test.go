package journal_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, path string, opts journal.Options) *journal.Journal {
	t.Helper()
	j, err := journal.Open(context.Background(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func queued(id fleet.JobID) *fleet.Job {
	return &fleet.Job{ID: id, Origin: fleet.Origin{Public: true, Doubt: true, Event: "push", Commit: "abc"}, Repo: "acme/app", Run: 7, Attempt: 1, Name: "build", Workflow: "ci",
		URL: "https://github.com/acme/app/actions/runs/7/job/1", Labels: []string{"self-hosted", "linux"},
		Status: fleet.Queued, Created: noon.Add(-time.Second)}
}

func TestDoubledDeliveryChangesNothing(t *testing.T) {
	for _, path := range []string{":memory:", filepath.Join(t.TempDir(), "journal")} {
		j := open(t, path, journal.Options{})
		ctx := context.Background()
		d := journal.Delivery{GUID: "a", Event: "workflow_job", Action: "queued", Source: "webhook", Received: noon, Job: queued(1)}
		for i, want := range []bool{true, false} {
			fresh, err := j.Accept(ctx, d)
			if err != nil || fresh != want {
				t.Fatalf("delivery %d: fresh %v, error %v; want %v", i, fresh, err, want)
			}
		}
		if diff := cmp.Diff([]fleet.Job{*queued(1)}, j.OpenJobs()); diff != "" {
			t.Fatal(diff)
		}
		events, err := j.Timeline(ctx, 1)
		if err != nil || len(events) != 2 || events[0].What != journal.Queued || events[1].What != journal.Delivered {
			t.Fatalf("timeline %v, error %v; want queued, delivered", events, err)
		}
		if err := j.Prune(ctx); err != nil {
			t.Fatal(err)
		}
	}
}
