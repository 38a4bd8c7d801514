package journal_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
	"pgregory.net/rapid"
)

// life is one job, its runner and its intent, as old as it says.
type life struct {
	age        time.Duration
	completed  bool
	forgotten  bool
	unfinished bool
}

func (l life) write(t *rapid.T, j *journal.Journal, n int, now *time.Time) {
	ctx := context.Background()
	at := now.Add(-l.age)
	today, name := *now, fmt.Sprint("runner-", n)
	*now = at
	defer func() { *now = today }()
	job := queued(fleet.JobID(n + 1))
	if l.completed {
		job.Status = fleet.Completed
	}
	r := fleet.Runner{Name: name, VMID: fleet.VMID(n + 1), Created: at}
	_, err := j.Accept(ctx, journal.Delivery{GUID: fmt.Sprint(n), Received: at, Job: job})
	if err != nil {
		t.Fatal(err)
	}
	id, err := j.Begin(ctx, fleet.Action{Kind: fleet.Clone}, r)
	if err == nil && !l.unfinished {
		err = j.End(ctx, id, r, journal.OK)
	}
	if err == nil && l.forgotten {
		err = j.Forget(ctx, name, at)
	}
	if err != nil {
		t.Fatal(err)
	}
}

const (
	keep     = 10 * time.Hour
	keepJobs = 5
)

// Prune keeps what is in use and what is young, and no more than it should of
// the rest.
func TestPruneKeepsWhatIsInUse(t *testing.T) {
	dir := scratch(t)
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		now := noon
		path := filepath.Join(dir, fmt.Sprint(runs))
		j, err := journal.Open(context.Background(), path, journal.Options{
			Now: func() time.Time { return now }, Keep: keep, KeepJobs: keepJobs})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { j.Close() }()
		lives := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) life {
			return life{time.Duration(rapid.IntRange(0, 20*60).Draw(t, "age")) * time.Minute,
				rapid.Bool().Draw(t, "completed"), rapid.Bool().Draw(t, "forgotten"), rapid.Bool().Draw(t, "unfinished")}
		}), 0, 25).Draw(t, "lives")
		slices.SortFunc(lives, func(a, b life) int { return int(b.age - a.age) })
		for n, l := range lives {
			l.write(t, j, n, &now)
		}
		if err := j.Prune(context.Background()); err != nil {
			t.Fatal(err)
		}
		checkPruned(t, j, lives)
	})
}

func checkPruned(t *rapid.T, j *journal.Journal, lives []life) {
	ctx := context.Background()
	unfinished, live := 0, 0
	for n, l := range lives {
		_, known, err := j.Job(ctx, fleet.JobID(n+1))
		if err != nil {
			t.Fatal(err)
		}
		if want := !l.completed || kept(l.age, lives); known != want {
			t.Fatalf("job %d of %+v: kept %v, want %v", n, l, known, want)
		}
		if !l.forgotten {
			live++
		}
		if l.unfinished {
			unfinished++
		}
	}
	intents, err := j.Unfinished(ctx)
	if err != nil || len(intents) != unfinished {
		t.Fatalf("%d unfinished intents, error %v; want %d", len(intents), err, unfinished)
	}
	runners, err := j.Runners(ctx)
	if err != nil || len(runners) != live {
		t.Fatalf("%d runners, error %v; want %d", len(runners), err, live)
	}
	cooling, err := j.Cooling(ctx, noon.Add(-2*time.Hour))
	for n, l := range lives {
		if at := cooling[fleet.VMID(n+1)]; l.forgotten && l.age < 2*time.Hour && at.IsZero() {
			t.Fatalf("vmid of %+v does not cool down (error %v)", l, err)
		}
	}
	checkLogs(t, j, lives)
}

// kept reports whether a completed job is: young, or among the newest and not
// too old. Jobs of one age stay or go together.
func kept(age time.Duration, lives []life) bool {
	younger := 0
	for _, o := range lives {
		if o.completed && o.age < age {
			younger++
		}
	}
	return age <= 2*time.Hour || age <= keep && younger < keepJobs
}

// checkLogs checks what is pruned by its place in the table: deliveries.
func checkLogs(t *rapid.T, j *journal.Journal, lives []life) {
	for n, l := range lives {
		fresh, err := j.Accept(context.Background(), journal.Delivery{GUID: fmt.Sprint(n), Received: noon})
		if err != nil || fresh != (l.age > keep) {
			t.Fatalf("delivery of %+v again: fresh %v, error %v", l, fresh, err)
		}
	}
}

// A journal that has seen many jobs is as large as what it keeps.
func TestSizeIsBounded(t *testing.T) {
	now := noon
	path := filepath.Join(scratch(t), "journal")
	ctx := context.Background()
	var sizes []int64
	for round := range 4 {
		j := open(t, path, journal.Options{Now: func() time.Time { return now }, KeepJobs: 20})
		var jobs []fleet.Job
		for i := range 3000 {
			job := queued(fleet.JobID(round*10000 + i + 1))
			job.Status = fleet.Completed
			jobs = append(jobs, *job)
		}
		if _, err := j.Record(ctx, "poll", now, jobs); err != nil {
			t.Fatal(err)
		}
		now = now.Add(24 * time.Hour)
		if err := j.Prune(ctx); err != nil {
			t.Fatal(err)
		}
		s := j.Stats()
		rows, err := j.Rows(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if most := int64(17 << 20); s.LogBytes > most {
			t.Errorf("round %d: the log has %d bytes, want at most %d", round, s.LogBytes, most)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		file, err := os.Stat(path) // which has all of the log now
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, file.Size())
		// The jobs of one poll are of one age and stay or go together.
		if rows.Jobs > 3000 || rows.Events > 20*24+500 {
			t.Errorf("round %d: %+v, want at most 3000 jobs and 480 events", round, rows)
		}
	}
	if sizes[3] > sizes[1]*11/10 { // from the second round on, room is used again
		t.Errorf("sizes %d grow", sizes)
	}
}

// After a burst the file gets small again.
func TestRoomIsGivenBackAfterABurst(t *testing.T) {
	now := noon
	j := open(t, filepath.Join(scratch(t), "journal"), journal.Options{Now: func() time.Time { return now }})
	ctx := context.Background()
	jobs := make([]fleet.Job, 15000)
	for i := range jobs {
		jobs[i] = *queued(fleet.JobID(i + 1))
		jobs[i].Status, jobs[i].Name = fleet.Completed, strings.Repeat("x", 500)
	}
	if _, err := j.Record(ctx, "poll", now, jobs); err != nil {
		t.Fatal(err)
	}
	before := j.Stats()
	now = now.Add(15 * 24 * time.Hour)
	if err := j.Prune(ctx); err != nil {
		t.Fatal(err)
	}
	if err := j.Put(ctx, "pages", make([]byte, 8<<20)); err != nil { // a checkpoint, which truncates the file
		t.Fatal(err)
	}
	rows, err := j.Rows(ctx)
	if after := j.Stats(); err != nil || rows.Jobs != 0 || after.Bytes > before.Bytes*3/4+8<<20 {
		t.Errorf("%+v, then %+v and %+v, error %v; want no jobs and a smaller file", before, after, rows, err)
	}
}
