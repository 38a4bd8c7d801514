package journal_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
)

// writeForever writes from several goroutines and prints a line for each call
// that returned, until it is killed. What it writes follows from a number that
// is never used twice.
func writeForever(path string) error {
	ctx := context.Background()
	j, err := journal.Open(ctx, path, journal.Options{})
	if err != nil {
		return err
	}
	base := j.LastEvent() * 100
	var group sync.WaitGroup
	errs := make(chan error, 4)
	for c := range int64(cap(errs)) {
		group.Go(func() {
			for n := base + c; ; n += int64(cap(errs)) {
				if err := writeOne(ctx, j, n); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	group.Wait()
	return <-errs
}

func writeOne(ctx context.Context, j *journal.Journal, n int64) error {
	ack := func(what string) { _, _ = os.Stdout.WriteString(fmt.Sprintln(what, n)) }
	job := queued(fleet.JobID(n + 1))
	job.Status = fleet.Queued + fleet.Status(n%3)
	d := journal.Delivery{GUID: fmt.Sprint("guid-", n), Event: "workflow_job", Source: "webhook", Received: noon, Job: job}
	if _, err := j.Accept(ctx, d); err != nil {
		return err
	}
	ack("accept")
	r := fleet.Runner{Name: fmt.Sprint("runner-", n), Pool: "a", VMID: fleet.VMID(n), Created: noon}
	id, err := j.Begin(ctx, fleet.Action{Kind: fleet.Clone, Pool: "a", Reason: "demand"}, r)
	if err != nil {
		return err
	}
	ack("begin")
	r.Cloned = noon
	if err := j.End(ctx, id, r, journal.OK, journal.Event{At: noon, What: journal.Cloned, Runner: r.Name}); err != nil {
		return err
	}
	ack("end")
	if err := j.Forget(ctx, r.Name, noon); err != nil {
		return err
	}
	ack("forget")
	return nil
}

// A SIGKILL at any point loses nothing that was acknowledged and leaves
// nothing half-done. (That a commit is on the disk and not only with the kernel
// is TestCommitIsInTheLogWhenItReturns' and SQLite's business.)
func TestKillLosesNothingAcknowledged(t *testing.T) {
	path := filepath.Join(scratch(t), "journal")
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	var acked []string
	for round := range rounds {
		acks := killAfter(t, path, rand.IntN(120))
		acked = append(acked, acks...)
		j, err := journal.Open(context.Background(), path, journal.Options{})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		world := look(t, j)
		for _, ack := range acked {
			world.holds(t, ack)
		}
		world.whole(t)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(acked) == 0 {
		t.Fatal("nothing was acknowledged in any round")
	}
}

// killAfter lets a child write until it has acknowledged n calls, kills it and
// returns all that it acknowledged.
func killAfter(t *testing.T, path string, n int) []string {
	t.Helper()
	cmd := spawn(t, "write", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acks []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		acks = append(acks, lines.Text())
		if len(acks) == n+1 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("child ended with %v after %d calls, want a kill", err, len(acks))
	}
	return acks
}

// state is all that a journal holds, by number.
type state struct {
	j          *journal.Journal
	events     map[string]bool // "delivered 7", "decided runner-7"
	runners    map[string]fleet.Runner
	unfinished map[string]bool
	cooling    map[fleet.VMID]bool
	jobs       map[fleet.JobID]fleet.Job
}

func look(t *testing.T, j *journal.Journal) state {
	t.Helper()
	ctx := context.Background()
	s := state{j, map[string]bool{}, map[string]fleet.Runner{}, map[string]bool{}, map[fleet.VMID]bool{}, map[fleet.JobID]fleet.Job{}}
	events, err := j.Events(ctx, 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		s.events[fmt.Sprint(e.What, " ", int64(e.Job), e.Runner)] = true
	}
	runners, err := j.Runners(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runners {
		s.runners[r.Name] = r
	}
	intents, err := j.Unfinished(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range intents {
		s.unfinished[i.Action.Runner] = true
	}
	cooling, err := j.Cooling(ctx, noon.Add(-1))
	if err != nil {
		t.Fatal(err)
	}
	for id := range cooling {
		s.cooling[id] = true
	}
	jobs, err := j.Jobs(ctx, journal.Query{Limit: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range jobs {
		s.jobs[job.ID] = job
	}
	return s
}

// holds checks one acknowledged call.
func (s state) holds(t *testing.T, ack string) {
	t.Helper()
	var what string
	var n int64
	if _, err := fmt.Sscan(ack, &what, &n); err != nil {
		return // the line was cut by the kill
	}
	name := fmt.Sprint("runner-", n)
	_, live := s.runners[name]
	ok := map[string]bool{
		"accept": s.jobs[fleet.JobID(n+1)].ID != 0,
		"begin":  s.events["decided 0"+name],
		"end":    s.events["cloned 0"+name] && !s.unfinished[name],
		"forget": !live && (n == 0 || s.cooling[fleet.VMID(n)]),
	}
	if !ok[what] {
		t.Errorf("acknowledged and lost: %s", ack)
	}
}

// whole checks that every transaction is there with all its parts or not at
// all.
func (s state) whole(t *testing.T) {
	t.Helper()
	for id := range s.jobs {
		if !s.events[fmt.Sprint("delivered ", int64(id))] || !s.events[fmt.Sprint("queued ", int64(id))] {
			t.Errorf("job %d without its events", id)
		}
	}
	for name := range s.unfinished {
		if _, live := s.runners[name]; !live || !s.events["decided 0"+name] || s.events["cloned 0"+name] {
			t.Errorf("intent for %s without its runner or event", name)
		}
	}
	open := 0
	for _, job := range s.jobs {
		if job.Status != fleet.Completed {
			open++
		}
	}
	if got := len(s.j.OpenJobs()); got != open {
		t.Errorf("%d open jobs in memory, %d on disk", got, open)
	}
}

// The log holds every commit by the time its call returns: whatever of it is
// torn off after that point, as by a power cut, the commit is there, and what
// comes after it is there as a whole or not at all.
func TestCommitIsInTheLogWhenItReturns(t *testing.T) {
	path := filepath.Join(scratch(t), "journal")
	j := open(t, path, journal.Options{})
	ctx := context.Background()
	type point struct {
		size   int64
		events int64
	}
	points := []point{{fileSize(t, path+"-wal"), 0}}
	for n := range int64(20) {
		if err := writeOneQuietly(ctx, j, n); err != nil {
			t.Fatal(err)
		}
		points = append(points, point{fileSize(t, path+"-wal"), j.LastEvent()})
	}
	file, log := readFile(t, path), readFile(t, path+"-wal")
	for i := range 60 {
		at := points[rand.IntN(len(points))]
		cut := at.size + rand.Int64N(int64(len(log))-at.size+1)
		torn := append([]byte(nil), log[:cut]...)
		if i%2 == 1 { // blocks that never reached the disk read as zeros
			torn = append(torn, make([]byte, len(log)-int(cut))...)
		}
		copied := filepath.Join(scratch(t), "journal")
		writeFile(t, copied, file)
		writeFile(t, copied+"-wal", torn)
		again := open(t, copied, journal.Options{})
		if got := again.LastEvent(); got < at.events {
			t.Fatalf("log cut at %d: last event %d, but %d was acknowledged at %d", cut, got, at.events, at.size)
		}
		look(t, again).whole(t)
	}
}

func writeOneQuietly(ctx context.Context, j *journal.Journal, n int64) error {
	job := queued(fleet.JobID(n + 1))
	_, err := j.Accept(ctx, journal.Delivery{GUID: fmt.Sprint(n), Source: "webhook", Received: noon, Job: job})
	return err
}

func fileSize(t *testing.T, name string) int64 {
	t.Helper()
	return int64(len(readFile(t, name)))
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
