package journal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// scratch is a directory in memory where there is one: the properties run
// thousands of commits.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "journal")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// model is the journal as simply as it can be said.
type model struct {
	now       time.Time
	guids     map[string]bool
	jobs      map[fleet.JobID]fleet.Job
	told      map[string]bool // "7 queued": events told of a job
	runners   map[string]fleet.Runner
	forgotten map[string]time.Time
	intents   map[int64]journal.Intent // unfinished
	ended     map[int64]bool
	facts     map[string]string
	events    []journal.Event
}

// machine drives the journal and the model together.
type machine struct {
	model
	path  string
	j     *journal.Journal
	steps int
}

func (m *machine) open(t *rapid.T) {
	j, err := journal.Open(context.Background(), m.path, journal.Options{Now: func() time.Time { return m.now }})
	if err != nil {
		t.Fatal(err)
	}
	m.j = j
}

func (m *model) tell(e journal.Event) {
	e.ID = int64(len(m.events) + 1)
	if e.At.IsZero() {
		e.At = m.now
	}
	m.events = append(m.events, e)
}

// tellOnce tells a job's step the first time that is is true.
func (m *model) tellOnce(is bool, what journal.Stage, id fleet.JobID, when time.Time, detail string) {
	key := fmt.Sprint(id, what)
	if !is || m.told[key] {
		return
	}
	m.told[key] = true
	if when.IsZero() {
		when = m.now
	}
	m.tell(journal.Event{At: when, What: what, Job: id, Detail: detail})
}

func (m *model) merge(seen fleet.Job, source string) bool {
	old, known := m.jobs[seen.ID]
	job, changed := old.Merge(seen)
	if known && !changed {
		return false
	}
	m.jobs[seen.ID] = job
	m.tellOnce(job.Status == fleet.Waiting, journal.Waiting, job.ID, job.Created, "seen by "+source)
	when := job.Created
	if m.told[fmt.Sprint(job.ID, journal.Waiting)] {
		when = m.now
	}
	m.tellOnce(job.Status >= fleet.Queued, journal.Queued, job.ID, when, strings.Join(job.Labels, ", "))
	m.tellOnce(job.Runner != "", journal.Running, job.ID, job.Started, "on "+job.Runner)
	m.tellOnce(job.Status == fleet.Completed, journal.Done, job.ID, job.Ended, job.Conclusion)
	return true
}

func anyTime(t *rapid.T, name string) time.Time {
	if n := rapid.IntRange(0, 50).Draw(t, name); n > 0 {
		return noon.Add(time.Duration(n) * time.Minute).Add(time.Duration(n))
	}
	return time.Time{}
}

var (
	texts   = rapid.OneOf(rapid.SampledFrom([]string{"", "success", "it's \"so\"", "%;--"}), rapid.String())
	names   = rapid.SampledFrom([]string{"dayfly-a-1", "dayfly-a-2", "dayfly-b-3"})
	noNames = rapid.SampledFrom([]string{"", "dayfly-a-1", "dayfly-a-2", "dayfly-b-3"})
)

func anyJob(t *rapid.T) fleet.Job {
	return fleet.Job{
		ID:         fleet.JobID(rapid.IntRange(1, 4).Draw(t, "job")),
		Repo:       rapid.SampledFrom([]string{"", "acme/app", "acme/lib"}).Draw(t, "repo"),
		Run:        rapid.Int64Range(0, 3).Draw(t, "run"),
		Attempt:    rapid.IntRange(0, 2).Draw(t, "attempt"),
		Name:       texts.Draw(t, "name"),
		Labels:     rapid.SampledFrom([][]string{nil, {"self-hosted"}, {"linux", "größe, x"}}).Draw(t, "labels"),
		Status:     fleet.Status(rapid.IntRange(0, 4).Draw(t, "status")),
		Conclusion: texts.Draw(t, "conclusion"),
		Runner:     noNames.Draw(t, "runner"),
		Created:    anyTime(t, "created"),
		Started:    anyTime(t, "started"),
		Ended:      anyTime(t, "ended"),
	}
}

func anyRunner(t *rapid.T) fleet.Runner {
	return fleet.Runner{
		Name: names.Draw(t, "name"), Pool: "a", Scope: "acme", Node: texts.Draw(t, "node"),
		VMID:     fleet.VMID(rapid.IntRange(0, 3).Draw(t, "vmid")),
		Template: fleet.Ref{Family: "ubuntu", Version: texts.Draw(t, "version")},
		Source:   90000, Storage: "fast", RegistrationID: rapid.Int64().Draw(t, "registration"),
		Job:     fleet.JobID(rapid.IntRange(0, 4).Draw(t, "job")),
		Created: anyTime(t, "created"), Cloned: anyTime(t, "cloned"), Launched: anyTime(t, "launched"),
		Started: anyTime(t, "started"), Listened: anyTime(t, "listened"), Took: anyTime(t, "took"),
		Ended: anyTime(t, "ended"), Spent: anyTime(t, "spent"), Removed: anyTime(t, "removed"), Retry: anyTime(t, "retry"),
		Smoked: anyTime(t, "smoked"), Passed: anyTime(t, "passed"), Failed: anyTime(t, "failed"), Fault: texts.Draw(t, "fault"), Exit: rapid.IntRange(0, 255).Draw(t, "exit"),
		Cause:     texts.Draw(t, "cause"),
		Container: fleet.Running, Registration: fleet.Online, Pending: fleet.Launch, // observed: not stored
	}
}

// asStored is the runner without what is only observed.
func asStored(r fleet.Runner) fleet.Runner {
	r.Container, r.Registration, r.Pending = fleet.Absent, fleet.Unregistered, fleet.None
	return r
}

func (m *machine) accept(t *rapid.T) {
	d := journal.Delivery{GUID: rapid.StringMatching(`[a-c][0-9]`).Draw(t, "guid"), Event: "workflow_job",
		Action: "queued", Source: "webhook", Received: m.now}
	var id fleet.JobID
	if rapid.Bool().Draw(t, "of a job") {
		job := anyJob(t)
		d.Job, id = &job, job.ID
	}
	fresh, err := m.j.Accept(context.Background(), d)
	if err != nil || fresh == m.guids[d.GUID] {
		t.Fatalf("accept %s: fresh %v, error %v", d.GUID, fresh, err)
	}
	if !fresh {
		return
	}
	m.guids[d.GUID] = true
	m.tell(journal.Event{At: m.now, What: journal.Delivered, Job: id, Detail: "workflow_job queued by webhook"})
	if d.Job != nil {
		m.merge(*d.Job, "webhook")
	}
}

func (m *machine) record(t *rapid.T) {
	jobs := rapid.SliceOfN(rapid.Custom(anyJob), 0, 4).Draw(t, "jobs")
	got, err := m.j.Record(context.Background(), "poll", m.now, jobs)
	want := 0
	for _, job := range jobs {
		if m.merge(job, "poll") {
			want++
		}
	}
	if err != nil || got != want {
		t.Fatalf("record: %d changed, error %v; want %d", got, err, want)
	}
}

func (m *machine) begin(t *rapid.T) {
	r := anyRunner(t)
	a := fleet.Action{Kind: fleet.Kind(rapid.IntRange(1, 4).Draw(t, "kind")), Pool: "a", Template: 90001,
		Node: "pve", Reason: texts.Draw(t, "reason")}
	id, err := m.j.Begin(context.Background(), a, r)
	if err != nil || m.ended[id] || m.intents[id].ID != 0 {
		t.Fatalf("begin: id %d, error %v", id, err)
	}
	a.Runner = r.Name
	m.intents[id] = journal.Intent{ID: id, Action: a, Begun: m.now}
	m.runners[r.Name] = asStored(r)
	delete(m.forgotten, r.Name)
	m.tell(journal.Event{At: m.now, What: journal.Decided, Runner: r.Name, Detail: a.Kind.String() + ": " + a.Reason})
}

func (m *machine) end(t *rapid.T) {
	id := rapid.Int64Range(1, 12).Draw(t, "intent")
	outcome := rapid.SampledFrom([]string{journal.OK, "timeout"}).Draw(t, "outcome")
	var r fleet.Runner
	if rapid.Bool().Draw(t, "with a runner") {
		r = anyRunner(t)
	}
	e := journal.Event{At: m.now, What: journal.Cloned, Runner: r.Name}
	err := m.j.End(context.Background(), id, r, outcome, e)
	intent, begun := m.intents[id]
	if !begun {
		want := fleet.ErrNotFound
		if m.ended[id] {
			want = fleet.ErrExists
		}
		if !errors.Is(err, want) {
			t.Fatalf("end %d: error %v, want %v", id, err, want)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	delete(m.intents, id)
	m.ended[id] = true
	if r.Name != "" {
		m.runners[r.Name] = asStored(r)
	}
	if outcome != journal.OK {
		m.tell(journal.Event{At: m.now, What: journal.Failed, Runner: intent.Action.Runner,
			Detail: intent.Action.Kind.String() + ": " + outcome})
	}
	m.tell(e)
}

func (m *machine) save(t *rapid.T) {
	r := anyRunner(t)
	e := journal.Event{At: anyTime(t, "at"), What: journal.Listening, Runner: r.Name}
	if err := m.j.Save(context.Background(), r, e); err != nil {
		t.Fatal(err)
	}
	m.runners[r.Name] = asStored(r)
	delete(m.forgotten, r.Name)
	m.tell(e)
}

func (m *machine) forget(t *rapid.T) {
	name := names.Draw(t, "name")
	e := journal.Event{At: m.now, What: journal.Destroyed, Runner: name}
	if err := m.j.Forget(context.Background(), name, m.now, e); err != nil {
		t.Fatal(err)
	}
	if _, known := m.runners[name]; known {
		m.forgotten[name] = m.now
	}
	if !slices.ContainsFunc(m.events, func(o journal.Event) bool { return o.Runner == name && o.What == e.What }) {
		m.tell(e)
	}
}

func (m *machine) put(t *rapid.T) {
	key, value := rapid.SampledFrom([]string{"id", "pools"}).Draw(t, "key"), rapid.String().Draw(t, "value")
	if err := m.j.Put(context.Background(), key, []byte(value)); err != nil {
		t.Fatal(err)
	}
	m.facts[key] = value
}

func (m *machine) reopen(t *rapid.T) {
	if err := m.j.Close(); err != nil {
		t.Fatal(err)
	}
	m.open(t)
}

// prune changes nothing: all of the history is young.
func (m *machine) prune(t *rapid.T) {
	if err := m.j.Prune(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// step is after every action; everything is compared now and then.
func (m *machine) step(t *rapid.T) {
	m.now = m.now.Add(time.Second)
	m.steps++
	if m.steps%4 == 0 {
		m.check(t)
	}
}

// check compares all that can be asked.
func (m *machine) check(t *rapid.T) {
	ctx := context.Background()
	m.checkJobs(t)
	m.checkRunners(t)
	events, err := m.j.Events(ctx, 0, 0)
	same(t, "events", m.events, events, err)
	if got, want := m.j.LastEvent(), int64(len(m.events)); got != want {
		t.Fatalf("last event %d, want %d", got, want)
	}
	for key, want := range m.facts {
		value, known, err := m.j.Get(ctx, key)
		same(t, "fact "+key, want, string(value), err)
		same(t, "fact "+key+" known", true, known, nil)
	}
}

func (m *machine) checkJobs(t *rapid.T) {
	ctx := context.Background()
	var open, all []fleet.Job
	for id, want := range m.jobs {
		all = append(all, want)
		if want.Status != fleet.Completed {
			open = append(open, want)
		}
		got, _, err := m.j.Job(ctx, id)
		same(t, "job", want, got, err)
		timeline, err := m.j.Timeline(ctx, id)
		if !slices.IsSortedFunc(timeline, func(a, b journal.Event) int { return a.At.Compare(b.At) }) {
			t.Fatalf("the timeline goes back in time: %v", timeline)
		}
		same(t, "timeline", known(m.timeline(want)), known(timeline), err)
	}
	slices.SortFunc(open, func(a, b fleet.Job) int {
		if n := a.Created.Compare(b.Created); n != 0 {
			return n
		}
		return int(a.ID - b.ID)
	})
	same(t, "open jobs", open, m.j.OpenJobs(), nil)
	slices.SortFunc(all, func(a, b fleet.Job) int { return int(b.ID - a.ID) })
	jobs, err := m.j.Jobs(ctx, journal.Query{})
	same(t, "jobs", all, jobs, err)
	running := slices.DeleteFunc(all, func(j fleet.Job) bool {
		return j.Repo != "acme/app" || j.Status != fleet.InProgress && j.Status != fleet.Completed
	})
	jobs, err = m.j.Jobs(ctx, journal.Query{Repo: "Acme/App", Status: []fleet.Status{fleet.InProgress, fleet.Completed}})
	same(t, "jobs of acme/app", running, jobs, err)
}

func (m *machine) timeline(job fleet.Job) []journal.Event {
	var events []journal.Event
	for _, e := range m.events {
		r := m.runners[e.Runner]
		its := e.Runner != "" && (e.Runner == job.Runner || r.Job == job.ID)
		if e.Job == job.ID || e.Job == 0 && its {
			events = append(events, e)
		}
	}
	return events
}

// known are events as they became known, without the times that a timeline
// moves: where it puts them is the affair of the tests of inOrder.
func known(events []journal.Event) []journal.Event {
	events = slices.Clone(events)
	for i := range events {
		switch e := &events[i]; e.What {
		case journal.Queued, journal.Listening, journal.Running, journal.Done:
			e.At = time.Time{}
		}
	}
	slices.SortFunc(events, func(a, b journal.Event) int { return int(a.ID - b.ID) })
	return events
}

func (m *machine) checkRunners(t *rapid.T) {
	ctx := context.Background()
	var live []fleet.Runner
	cooling := map[fleet.VMID]time.Time{}
	for _, name := range []string{"dayfly-a-1", "dayfly-a-2", "dayfly-b-3"} {
		r, known := m.runners[name]
		at, gone := m.forgotten[name]
		if known && !gone {
			live = append(live, r)
		}
		if gone && r.VMID != 0 && at.After(cooling[r.VMID]) {
			cooling[r.VMID] = at
		}
	}
	runners, err := m.j.Runners(ctx)
	same(t, "runners", live, runners, err)
	vmids, err := m.j.Cooling(ctx, time.Time{})
	same(t, "cooling", cooling, vmids, err)
	var unfinished []journal.Intent
	for id := range int64(len(m.intents) + len(m.ended) + 1) {
		if i, ok := m.intents[id]; ok {
			unfinished = append(unfinished, i)
		}
	}
	intents, err := m.j.Unfinished(ctx)
	same(t, "unfinished", unfinished, intents, err)
}

func same(t *rapid.T, what string, want, got any, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%s (- want, + got):\n%s", what, diff)
	}
}

func TestJournalIsItsModel(t *testing.T) {
	dir := scratch(t)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		m := &machine{path: filepath.Join(dir, fmt.Sprint(n)), model: model{now: noon,
			guids: map[string]bool{}, jobs: map[fleet.JobID]fleet.Job{}, told: map[string]bool{},
			runners: map[string]fleet.Runner{}, forgotten: map[string]time.Time{},
			intents: map[int64]journal.Intent{}, ended: map[int64]bool{}, facts: map[string]string{}}}
		m.open(t)
		defer func() { m.j.Close() }()
		t.Repeat(map[string]func(*rapid.T){"": m.step, "accept": m.accept, "record": m.record, "begin": m.begin,
			"end": m.end, "save": m.save, "forget": m.forget, "put": m.put, "reopen": m.reopen, "prune": m.prune})
		m.check(t)
	})
}
