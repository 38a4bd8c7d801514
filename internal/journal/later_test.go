package journal

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

func TestLaterWritesKeepTheirOrder(t *testing.T) {
	ctx := t.Context()
	j, err := Open(ctx, filepath.Join(t.TempDir(), "journal.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	errs := make(chan error, 100)
	later := j.Later(func(err error) { errs <- err })
	launched := time.Unix(1000, 0)
	r := fleet.Runner{Name: "dayfly-a-1", Pool: "a", VMID: 20001, Created: time.Unix(900, 0)}
	for range 50 {
		later.Save(r)
	}
	r.Launched = launched
	id, err := j.Begin(ctx, fleet.Action{Kind: fleet.Launch, Pool: "a", Runner: r.Name, Reason: "test"}, r)
	if err != nil {
		t.Fatal(err)
	}
	later.End(id, r, OK)
	later.Forget("dayfly-b-2", launched)
	if _, err := j.Begin(ctx, fleet.Action{Kind: fleet.Destroy, Pool: "a", Runner: r.Name, Reason: "test"}, r); err != nil {
		t.Fatal(err)
	}
	got, err := j.Runners(ctx)
	if err != nil || len(got) != 1 || !got[0].Launched.Equal(launched) {
		t.Errorf("runners after saves, a launch and its end: %+v, %v; want one, launched at %s", got, err, launched)
	}
	later.End(id, r, OK)
	if err := <-errs; err == nil {
		t.Error("a second end of an intent was not reported")
	}
	j.Close()
	later.Save(r)
	if err := <-errs; err == nil {
		t.Error("a save after the close was not reported")
	}
}

func TestLaterWritesShareACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, err := Open(t.Context(), memory, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		later := j.Later(func(err error) { t.Error(err) })
		commits := func() int64 { return j.Stats().Commits.Count }
		before, r := commits(), fleet.Runner{Name: "dayfly-a-1", Pool: "a", VMID: 20001}
		later.Save(r)
		time.Sleep(idle / 2)
		later.Save(r)
		synctest.Wait()
		if got := commits() - before; got != 0 {
			t.Errorf("%d commits while it may wait, want none", got)
		}
		time.Sleep(idle / 2)
		synctest.Wait()
		if got := commits() - before; got != 1 {
			t.Errorf("%d commits for two writes, want 1", got)
		}
		later.Save(r)
		if err := j.Put(t.Context(), "a fact", nil); err != nil {
			t.Fatal(err)
		}
		if got := commits() - before; got != 2 {
			t.Errorf("%d commits after a write that is waited for, want 2: the earlier one goes with it", got)
		}
	})
}

// What a job waits for is written at once; what only has to come before an
// effect waits a moment for company, and goes with the first that does not.
func TestOnlyAJobIsInAHurry(t *testing.T) {
	queued, running, over := fleet.Job{ID: 1, Status: fleet.Queued}, fleet.Job{ID: 2, Status: fleet.InProgress}, fleet.Job{ID: 3, Status: fleet.Completed}
	accept := func(job fleet.Job) func(*Journal) error {
		return func(j *Journal) error {
			_, err := j.Accept(context.Background(), Delivery{GUID: job.Status.String(), Job: &job})
			return err
		}
	}
	begin := func(kind fleet.Kind) func(*Journal) error {
		return func(j *Journal) error {
			_, err := j.Begin(context.Background(), fleet.Action{Kind: kind}, fleet.Runner{Name: "dayfly-a-" + kind.String()})
			return err
		}
	}
	for name, c := range map[string]struct {
		write func(*Journal) error
		took  time.Duration
	}{
		"a job is queued": {accept(queued), urgent},
		"a job runs":      {accept(running), patient},
		"a job is over":   {accept(over), patient},
		"launch":          {begin(fleet.Launch), urgent},
		"clone":           {begin(fleet.Clone), brief},
		"boot":            {begin(fleet.Boot), brief},
		"destroy":         {begin(fleet.Destroy), patient},
	} {
		synctest.Test(t, func(t *testing.T) {
			j, err := Open(context.Background(), memory, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			began := time.Now()
			if err := c.write(j); err != nil || time.Since(began) != c.took {
				t.Errorf("%s: %v after %s, want success after %s", name, err, time.Since(began), c.took)
			}
			done := make(chan error, 1)
			go func() { done <- begin(fleet.Destroy)(j) }()
			synctest.Wait()
			began = time.Now()
			if err := j.Put(context.Background(), "a fact", nil); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil || time.Since(began) != 0 {
				t.Errorf("%s: a begin beside an urgent write: %v after %s, want at once", name, err, time.Since(began))
			}
		})
	}
}

// What is patient waits for company, not for more than enough of it; what
// nobody waits for is no company to hurry for.
func TestEnoughWritesWaitForNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, err := Open(t.Context(), memory, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		later := j.Later(func(err error) { t.Error(err) })
		for range enough {
			later.Put("a fact", nil)
		}
		synctest.Wait()
		if got := j.took.read().Count; got != 0 {
			t.Errorf("%d commits of what nobody waits for, want none yet", got)
		}
		began := time.Now()
		done := make(chan error, enough)
		for i := range enough {
			go func() {
				job := fleet.Job{ID: fleet.JobID(i + 1), Status: fleet.Completed}
				_, err := j.Accept(context.Background(), Delivery{GUID: fmt.Sprint(i), Job: &job})
				done <- err
			}()
			synctest.Wait()
			if got := len(done); i < enough-1 && got != 0 {
				t.Errorf("%d of %d patient writes are done at once, want none of so few", got, i+1)
			}
		}
		for range enough {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("%d patient writes took %s, want no wait for more", enough, took)
		}
	})
}
