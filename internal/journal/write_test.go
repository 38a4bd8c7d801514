package journal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

func openHere(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := Open(context.Background(), path, Options{})
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

// stall keeps transactions from beginning until the returned function is
// called, as a slow disk would.
func (j *Journal) stall() (resume func()) {
	j.w.mu.Lock()
	return j.w.mu.Unlock
}

// await returns once n writes wait and one batch, if any was to, was taken.
func (j *Journal) await(n int) {
	for queued := -1; queued != n; runtime.Gosched() {
		j.mu.Lock()
		queued = len(j.queue)
		j.mu.Unlock()
	}
}

func accept(j *Journal, ctx context.Context, id fleet.JobID) error {
	job := &fleet.Job{ID: id, Status: fleet.Queued}
	_, err := j.Accept(ctx, Delivery{GUID: fmt.Sprint(id), Job: job})
	return err
}

// A hundred callers that come during one commit share the next, and one of
// them that fails does not fail the others.
func TestCallersShareACommit(t *testing.T) {
	for name, bad := range map[string]fleet.JobID{"all good": -1, "one bad": 0} {
		t.Run(name, func(t *testing.T) {
			j := openHere(t, filepath.Join(t.TempDir(), "journal"))
			ctx := context.Background()
			resume := j.stall()
			errs := make([]error, 100)
			var group sync.WaitGroup
			group.Go(func() { errs[0] = accept(j, ctx, 1000) })
			for taken := false; !taken; runtime.Gosched() {
				j.mu.Lock()
				taken = j.writing && len(j.queue) == 0
				j.mu.Unlock()
			}
			for i := 1; i < len(errs); i++ {
				group.Go(func() {
					id := fleet.JobID(i)
					if i == 50 && bad == 0 {
						id = bad
					}
					errs[i] = accept(j, ctx, id)
				})
			}
			j.await(len(errs) - 1)
			resume()
			group.Wait()
			failed := 0
			for i, err := range errs {
				if err != nil {
					failed++
					if i != 50 {
						t.Errorf("write %d: %v", i, err)
					}
				}
			}
			commits := j.took.read()
			wantOpen, wantFailed, wantCommits := 100, 0, int64(2)
			if bad == 0 {
				wantOpen, wantFailed, wantCommits = 99, 1, 99 // each of the failed batch alone
			}
			if failed != wantFailed || len(j.OpenJobs()) != wantOpen || commits.Count != wantCommits {
				t.Errorf("%d failed, %d open jobs, %d commits; want %d, %d, %d",
					failed, len(j.OpenJobs()), commits.Count, wantFailed, wantOpen, wantCommits)
			}
		})
	}
}

// A caller that gives up is told whether its change may still happen.
func TestGivingUpIsHonest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := openHere(t, path)
	resume := j.stall()
	begun, giveUpBegun := context.WithCancel(context.Background())
	waiting, giveUpWaiting := context.WithCancel(context.Background())
	results := make(chan error, 1)
	go func() { results <- accept(j, begun, 1) }()
	for taken := false; !taken; runtime.Gosched() {
		j.mu.Lock()
		taken = j.writing && len(j.queue) == 0
		j.mu.Unlock()
	}
	giveUpBegun()
	if err := <-results; !errors.Is(err, fleet.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Errorf("given up after it was begun: %v, want ErrUnknownOutcome", err)
	}
	go func() { results <- accept(j, waiting, 2) }()
	j.await(1)
	giveUpWaiting()
	if err := <-results; !errors.Is(err, context.Canceled) || errors.Is(err, fleet.ErrUnknownOutcome) {
		t.Errorf("given up before it was begun: %v, want only context.Canceled", err)
	}
	if err := accept(j, waiting, 3); !errors.Is(err, context.Canceled) {
		t.Errorf("given up before the call: %v, want context.Canceled", err)
	}
	resume()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	again := openHere(t, path)
	if got := again.OpenJobs(); len(got) != 1 || got[0].ID != 1 {
		t.Errorf("open jobs %v, want only job 1", got)
	}
}

// Another program's lock fails all that wait at once, and only as long as it is
// held.
func TestForeignLockIsToldToAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := openHere(t, path)
	ctx := context.Background()
	if _, err := j.w.exec("PRAGMA busy_timeout = 0"); err != nil {
		t.Fatal(err)
	}
	other := bare(t, path)
	other.SetMaxOpenConns(1)
	if _, err := other.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	resume := j.stall()
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			if err := accept(j, ctx, fleet.JobID(i+1)); err == nil || !strings.Contains(err.Error(), "another program holds "+path) {
				t.Errorf("write %d: %v, want an error about another program", i, err)
			}
		})
	}
	resume()
	group.Wait()
	if _, err := other.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := accept(j, ctx, 1); err != nil || len(j.OpenJobs()) != 1 {
		t.Errorf("after the lock: %v, %d open jobs; want 1", err, len(j.OpenJobs()))
	}
}

func TestClosedJournalSaysSo(t *testing.T) {
	j := openHere(t, memory)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	_, _, read := j.Job(ctx, 1)
	for _, err := range []error{accept(j, ctx, 1), read, j.Prune(ctx)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%v, want ErrClosed", err)
		}
	}
	if err := j.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

// A commit is on disk when it returns: that rests on these two settings
// (sqlite.org/pragma.html, synchronous).
func TestCommitsAreSynced(t *testing.T) {
	j := openHere(t, filepath.Join(t.TempDir(), "journal"))
	for query, want := range map[string]string{"PRAGMA journal_mode": "wal", "PRAGMA synchronous": "2", "PRAGMA auto_vacuum": "2"} {
		var got string
		if _, err := j.w.one(context.Background(), []any{&got}, query); err != nil || got != want {
			t.Errorf("%s is %q, error %v; want %q", query, got, err, want)
		}
	}
}

func TestHangingCommitShows(t *testing.T) {
	var l latency
	l.start()
	l.began = l.began.Add(-time.Minute)
	if got := l.read().Running; got < time.Minute {
		t.Errorf("running for %v, want a minute", got)
	}
	l.stop(3, false)
	if c := l.read(); c.Running != 0 || c.Count != 1 || c.Writes != 3 || c.Longest < time.Minute || c.Buckets[len(Bounds)] != 1 {
		t.Errorf("after it: %+v", c)
	}
}
