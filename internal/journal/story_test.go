package journal_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Deliveries of one job in any order, some lost, some doubled: what is known at
// the end is the same, and a job that is over never becomes demand.
func TestAnyOrderOfDeliveriesIsTheSameJob(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j, err := journal.Open(context.Background(), ":memory:", journal.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		whole := []int{0, 1, 2}
		order := rapid.Permutation(append(whole, rapid.SliceOfN(rapid.IntRange(0, 2), 0, 3).Draw(t, "again")...)).Draw(t, "order")
		over := false
		for _, i := range order {
			if _, err := j.Accept(context.Background(), delivery(i)); err != nil {
				t.Fatal(err)
			}
			over = over || i == 2
			if over && len(j.OpenJobs()) != 0 {
				t.Fatalf("order %v: demand after the job was over", order)
			}
		}
		job, _, err := j.Job(context.Background(), 1)
		if diff := cmp.Diff(*delivery(2).Job, job); diff != "" || err != nil {
			t.Fatalf("order %v: %v\n%s", order, err, diff)
		}
		events, err := j.Timeline(context.Background(), 1)
		var told []string
		for _, e := range events {
			if e.What != journal.Delivered {
				told = append(told, string(e.What))
			}
		}
		slices.Sort(told)
		if got := strings.Join(told, " "); got != "done queued running" || err != nil {
			t.Fatalf("order %v: told %s, error %v", order, got, err)
		}
	})
}

// One job from GitHub's queue to the destroyed container, as people read it.
func TestTimelineTellsAJobsWay(t *testing.T) {
	now := noon
	tick := func() time.Time { now = now.Add(time.Second); return now }
	j := open(t, ":memory:", journal.Options{Now: func() time.Time { return now }})
	ctx := context.Background()
	r := fleet.Runner{Name: "dayfly-linux-1", Pool: "linux", VMID: 90001, Created: noon}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	hear := func(status fleet.Status) {
		job := queued(1)
		job.Status = status
		if status > fleet.Queued {
			job.Runner, job.Started = r.Name, tick()
		}
		if status == fleet.Completed {
			job.Conclusion, job.Ended = "success", tick()
		}
		_, err := j.Accept(ctx, journal.Delivery{GUID: status.String(), Event: "workflow_job", Action: status.String(),
			Source: "webhook", Received: tick(), Job: job})
		must(err)
	}
	act := func(kind fleet.Kind, reason string, outcome string, what journal.Stage) {
		tick()
		id, err := j.Begin(ctx, fleet.Action{Kind: kind, Pool: "linux", Reason: reason}, r)
		must(err)
		tick()
		must(j.End(ctx, id, r, outcome, journal.Event{At: now, What: what, Runner: r.Name}))
	}
	act(fleet.Clone, "spare 0 of 1", journal.OK, journal.Cloned)
	hear(fleet.Queued)
	act(fleet.Launch, "1 job waits", "CT 90001 is locked", journal.Minted)
	act(fleet.Launch, "1 job waits", journal.OK, journal.Started)
	must(j.Save(ctx, r, journal.Event{At: tick(), What: journal.Listening, Runner: r.Name}))
	hear(fleet.InProgress)
	r.Job = 1
	must(j.Save(ctx, r))
	hear(fleet.Completed)
	act(fleet.Destroy, "its job is over", journal.OK, journal.Destroyed)
	must(j.Forget(ctx, r.Name, tick()))

	events, err := j.Timeline(ctx, 1)
	must(err)
	var got []string
	for _, e := range events {
		got = append(got, strings.TrimRight(fmt.Sprintf("%+4.0fs %s %s", e.At.Sub(noon).Seconds(), e.What, e.Detail), " "))
	}
	want := []string{
		"  -1s queued self-hosted, linux",
		"  +1s decided clone: spare 0 of 1",
		"  +2s cloned",
		"  +3s delivered workflow_job queued by webhook",
		"  +4s decided launch: 1 job waits",
		"  +5s failed launch: CT 90001 is locked",
		"  +5s minted",
		"  +6s decided launch: 1 job waits",
		"  +7s started",
		"  +8s listening",
		"  +9s running on dayfly-linux-1",
		" +10s delivered workflow_job in_progress by webhook",
		" +12s done success",
		" +13s delivered workflow_job completed by webhook",
		" +14s decided destroy: its job is over",
		" +15s destroyed",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if events[0].ID < events[2].ID {
		t.Error("the events were in order by chance; the test shows nothing")
	}
	if all, err := j.Events(ctx, j.LastEvent()-2, 1); err != nil || len(all) != 1 || all[0].ID != j.LastEvent()-1 {
		t.Errorf("events after the third to last: %v, error %v", all, err)
	}
}

func TestPollThatSeesNothingNewWritesNothing(t *testing.T) {
	j := open(t, ":memory:", journal.Options{})
	ctx := context.Background()
	commits := func() int64 { return j.Stats().Commits.Count }
	jobs := []fleet.Job{*queued(1), *queued(2)}
	if n, err := j.Record(ctx, "poll", noon, jobs); n != 2 || err != nil {
		t.Fatalf("%d changed, error %v; want 2", n, err)
	}
	before, list := commits(), j.OpenJobs()
	if n, err := j.Record(ctx, "poll", noon.Add(time.Hour), jobs); n != 0 || err != nil {
		t.Fatalf("%d changed, error %v; want none", n, err)
	}
	if after := commits(); after != before {
		t.Errorf("%d commits, want none", after-before)
	}
	if again := j.OpenJobs(); &again[0] != &list[0] {
		t.Error("the list of open jobs was made anew without a change")
	}
	jobs[0].Status = fleet.Completed
	if n, err := j.Record(ctx, "poll", noon, jobs); n != 1 || err != nil {
		t.Fatalf("%d changed, error %v; want 1", n, err)
	}
	if now := j.OpenJobs(); len(now) != 1 || now[0].ID != 2 {
		t.Errorf("open jobs %v, want only job 2", now)
	}
	if len(list) != 2 || list[0].ID != 1 {
		t.Errorf("a list that was given out changed: %v", list)
	}
}

func TestJobsAreSelected(t *testing.T) {
	j := open(t, ":memory:", journal.Options{})
	ctx := context.Background()
	for i := range 9 {
		job := queued(fleet.JobID(i + 1))
		job.Status = fleet.Status(i%3 + 2)
		if _, err := j.Record(ctx, "poll", noon.Add(time.Duration(i)*time.Hour), []fleet.Job{*job}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		q    journal.Query
		want []fleet.JobID
	}{
		{journal.Query{Limit: 2}, []fleet.JobID{9, 8}},
		{journal.Query{Since: noon.Add(6 * time.Hour)}, []fleet.JobID{9, 8, 7}},
		{journal.Query{Status: []fleet.Status{fleet.Completed}, Limit: 2}, []fleet.JobID{9, 6}},
		{journal.Query{Status: []fleet.Status{fleet.Queued, fleet.InProgress}, Since: noon.Add(3 * time.Hour)}, []fleet.JobID{8, 7, 5, 4}},
		{journal.Query{Repo: "ACME/app", Limit: 1}, []fleet.JobID{9}},
		{journal.Query{Repo: "acme/other"}, nil},
	} {
		jobs, err := j.Jobs(ctx, c.q)
		var got []fleet.JobID
		for _, job := range jobs {
			got = append(got, job.ID)
		}
		if !slices.Equal(got, c.want) || err != nil {
			t.Errorf("%+v: %v, error %v; want %v", c.q, got, err, c.want)
		}
	}
}

func TestNamelessThingsAreRefused(t *testing.T) {
	j := open(t, ":memory:", journal.Options{})
	ctx := context.Background()
	_, guid := j.Accept(ctx, journal.Delivery{})
	_, job := j.Accept(ctx, journal.Delivery{GUID: "a", Job: &fleet.Job{Status: fleet.Queued}})
	_, poll := j.Record(ctx, "poll", noon, []fleet.Job{{Status: fleet.Queued}})
	_, begin := j.Begin(ctx, fleet.Action{Kind: fleet.Clone}, fleet.Runner{})
	save := j.Save(ctx, fleet.Runner{})
	for what, err := range map[string]error{"GUID": guid, "id": errors.Join(job, poll), "name": errors.Join(begin, save)} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("without a %s: %v", what, err)
		}
	}
	if fresh, err := j.Accept(ctx, journal.Delivery{GUID: "a", Job: queued(1)}); !fresh || err != nil {
		t.Errorf("the refused delivery left a trace: fresh %v, error %v", fresh, err)
	}
}

// The journal works under virtual time and leaves no goroutine: the bubble
// would not end.
func TestJournalLivesInABubble(t *testing.T) {
	path := filepath.Join(scratch(t), "journal")
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		for range 2 {
			j, err := journal.Open(context.Background(), path, journal.Options{})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			var group sync.WaitGroup
			for i := range 20 {
				group.Go(func() {
					time.Sleep(time.Duration(i%3) * time.Second)
					if _, err := j.Accept(ctx, delivery(3*i)); err != nil {
						t.Error(err)
					}
					if _, err := j.Runners(ctx); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			synctest.Wait()
			cancel()
			if got := len(j.OpenJobs()); got != 20 {
				t.Errorf("%d open jobs, want 20", got)
			}
			if err := j.Close(); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("%v passed in the bubble, want only the test's own 4s", took)
		}
	})
}

// No type that the journal takes has room for a secret, and one that is
// formatted into a text is not told.
func TestSecretsCannotBeStored(t *testing.T) {
	for _, v := range []any{journal.Delivery{}, journal.Event{}, journal.Intent{}, fleet.Job{}, fleet.Runner{}, fleet.Action{}} {
		if path := secretIn(reflect.TypeOf(v)); path != "" {
			t.Errorf("%T has a secret in%s", v, path)
		}
	}
	const canary = "canary-7f3a"
	secret := fleet.NewSecret(canary)
	file := filepath.Join(scratch(t), "journal")
	j := open(t, file, journal.Options{})
	ctx := context.Background()
	text := fmt.Sprintf("%v %s %q %#v", secret, secret, secret, struct{ S fleet.Secret }{secret})
	err := errors.Join(
		j.Save(ctx, fleet.Runner{Name: "a", Cause: text}, journal.Event{What: journal.Failed, Detail: text}),
		j.Put(ctx, "key", fmt.Append(nil, secret)))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, file + "-wal"} {
		if strings.Contains(string(readFile(t, name)), canary) {
			t.Errorf("%s holds the secret", filepath.Base(name))
		}
	}
}

func secretIn(t reflect.Type) string {
	if t == reflect.TypeFor[fleet.Secret]() {
		return " itself"
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return secretIn(t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			if path := secretIn(f.Type); path != "" {
				return " " + f.Name + path
			}
		}
	case reflect.Interface, reflect.Map:
		return " " + t.String() + ", which may hold anything"
	}
	return ""
}

// A field that is added to a runner or a job must be stored or be named here.
func TestEveryFieldIsStored(t *testing.T) {
	j := open(t, ":memory:", journal.Options{})
	ctx := context.Background()
	observed := map[string]bool{"Container": true, "Registration": true, "Pending": true, "Drift": true, "Silent": true}
	var r fleet.Runner
	fillIn(t, reflect.ValueOf(&r).Elem(), observed)
	if err := j.Save(ctx, r); err != nil {
		t.Fatal(err)
	}
	runners, err := j.Runners(ctx)
	if diff := cmp.Diff([]fleet.Runner{r}, runners); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	var job fleet.Job
	fillIn(t, reflect.ValueOf(&job).Elem(), nil)
	if _, err := j.Record(ctx, "poll", noon, []fleet.Job{job}); err != nil {
		t.Fatal(err)
	}
	got, _, err := j.Job(ctx, job.ID)
	if diff := cmp.Diff(job, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

// fillIn gives every field a value of its own.
func fillIn(t *testing.T, v reflect.Value, but map[string]bool) {
	t.Helper()
	for i := range v.NumField() {
		f := v.Field(i)
		name := v.Type().Field(i).Name
		switch {
		case but[name]:
		case f.Type() == reflect.TypeFor[time.Time]():
			f.Set(reflect.ValueOf(noon.Add(time.Duration(i))))
		case f.Kind() == reflect.Struct:
			fillIn(t, f, nil)
		case f.Kind() == reflect.String:
			f.SetString(name)
		case f.Kind() == reflect.Bool:
			f.SetBool(true)
		case f.CanInt():
			f.SetInt(int64(min(i+1, 4)))
		case f.Kind() == reflect.Slice:
			f.Set(reflect.ValueOf([]string{name, "b"}))
		default:
			t.Fatalf("field %s is of a new kind, %s: store it and fill it in here", name, f.Type())
		}
	}
}
