package journal

import (
	"context"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// whole is the plan of a query that goes through all rows of a table that grows
// with every job. An index of few rows is not meant: of the jobs that are open,
// for example.
var whole = regexp.MustCompile(`^SCAN (deliveries|jobs|runners|intents|events)$`)

// What is asked and written for each job takes as long after a year as on the
// first day. SQLite uses a partial index only where the query repeats what the
// index asks of its rows (sqlite.org/partialindex.html §3).
func TestNothingOnAJobsWayReadsAWholeTable(t *testing.T) {
	ctx := context.Background()
	j, err := Open(ctx, filepath.Join(t.TempDir(), "journal"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r := fleet.Runner{Name: "dayfly-linux-1", Pool: "linux", VMID: 90001, Job: 1}
	_, err = j.Accept(ctx, Delivery{GUID: "a", Event: "workflow_job", Job: &fleet.Job{ID: 1, Status: fleet.Queued}})
	must(err)
	id, err := j.Begin(ctx, fleet.Action{Kind: fleet.Clone}, r)
	must(err)
	must(j.End(ctx, id, r, OK))
	must(j.Save(ctx, r))
	must(j.Forget(ctx, r.Name, second, Event{What: Destroyed, Runner: r.Name}))
	_, err = j.Timeline(ctx, 1)
	must(err)
	_, err = j.Events(ctx, 0, 0)
	must(err)
	_, _, err = j.Job(ctx, 1)
	must(err)
	_, err = j.Runners(ctx)
	must(err)
	_, err = j.Cooling(ctx, time.Time{})
	must(err)
	_, err = j.Unfinished(ctx)
	must(err)

	asked := 0
	for _, s := range []*session{j.w, j.r} {
		for query := range s.stmts {
			if strings.HasPrefix(query, "PRAGMA") {
				continue
			}
			asked++
			for _, step := range plan(t, s, query) {
				if whole.MatchString(step) {
					t.Errorf("%q of\n%s", step, query)
				}
			}
		}
	}
	if asked < 15 {
		t.Errorf("%d queries, want those of all that was called", asked)
	}
}

// plan is how SQLite goes about a query.
func plan(t *testing.T, s *session, query string) (steps []string) {
	t.Helper()
	rows, err := s.conn.QueryContext(context.Background(), "EXPLAIN QUERY PLAN "+query, make([]any, 64)...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	return steps
}
