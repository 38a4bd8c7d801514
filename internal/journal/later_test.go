package journal

import (
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
		commits := func() int64 {
			stats, err := j.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return int64(stats.Commits.Count)
		}
		before, r := commits(), fleet.Runner{Name: "dayfly-a-1", Pool: "a", VMID: 20001}
		later.Save(r)
		time.Sleep(company / 2)
		later.Save(r)
		synctest.Wait()
		if got := commits() - before; got != 0 {
			t.Errorf("%d commits before company is over, want none", got)
		}
		time.Sleep(company / 2)
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
