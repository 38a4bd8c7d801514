package hub

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// queue queues a job for acme/app.
func (f *fixture) queue(d time.Duration, labels ...string) JobID {
	return f.h.QueueJob(NewJob{Repo: "acme/app", Labels: labels, Duration: d})
}

func (f *fixture) want(id JobID, s Status, c Conclusion) Job {
	f.t.Helper()
	job, ok := f.h.Job(id)
	if !ok || job.Status != s || job.Conclusion != c {
		f.t.Errorf("job %d: got %s %q, want %s %q", id, job.Status, job.Conclusion, s, c)
	}
	return job
}

func TestJobsGoWhereLabelsAndGroupsAllow(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		f.h.AddRepository(Repository{Name: "acme/other", Private: true})
		big := f.h.AddGroup("acme", Group{Name: "big", Repositories: []string{"acme/other"}})
		never := []NewJob{
			{Repo: "acme/app", Labels: []string{"linux", "gpu"}},        // a label too many
			{Repo: "acme/app", Labels: []string{"self-hosted"}},         // not implied
			{Repo: "acme/site", Labels: []string{"linux"}},              // public, the default group says no
			{Repo: "acme/app", Labels: []string{"linux"}, Group: "big"}, // another group
			{Repo: "acme/other", Labels: []string{"small"}},             // a repository's runner
		}
		for _, n := range never {
			f.h.QueueJob(n)
		}
		f.guest(f.jit("acme", "org", "linux").Config)
		f.guest(f.jit("acme/app", "repo", "small").Config)
		for _, j := range f.h.Jobs() {
			if j.Status != StatusQueued {
				t.Errorf("job %v of %s: got %s, want it queued for ever", j.Labels, j.Repo, j.Status)
			}
		}
		taken := f.queue(time.Hour, "LINUX")
		if job := f.want(taken, StatusInProgress, ""); job.Runner != "org" {
			t.Errorf("job: got it on %s, want org", job.Runner)
		}
		code, got := f.do(http.MethodPost, "/orgs/acme/actions/runners/generate-jitconfig",
			map[string]any{"name": "big", "runner_group_id": big, "labels": []string{"linux"}})
		var reply jitReply
		f.decode(got, &reply)
		if code != 201 {
			t.Fatalf("JIT config in group big: got %d %s, want 201", code, got)
		}
		f.guest(reply.Config)
		byGroup := f.h.QueueJob(NewJob{Repo: "acme/other", Group: "big"})
		if job, _ := f.h.Job(byGroup); job.Runner != "big" {
			t.Errorf("job by group: got runner %q, want big", job.Runner)
		}
		f.guest(f.jit("acme", "another", "linux").Config)
		f.h.AllowPublic("acme")
		if job := f.h.Jobs()[2]; job.Runner != "another" {
			t.Errorf("public repository's job after AllowPublic: got runner %q, want another", job.Runner)
		}
	})
}

func TestOldestJobFirst(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		first, second := f.queue(time.Minute, "linux"), f.queue(time.Minute, "linux")
		f.guest(f.jit("acme", "one", "linux").Config)
		f.want(first, StatusInProgress, "")
		f.want(second, StatusQueued, "")
	})
}

func TestJobThatIsNotPickedUpGoesBack(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		id := f.queue(time.Minute, "linux")
		s, err := f.h.Connect(f.jit("acme", "deaf", "linux").Config, "2.335.1")
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Listen(Listener{Assigned: func(JobAssignment) { s.Lost() }})
		settle(59 * time.Second)
		good := f.guest(f.jit("acme", "good", "linux").Config)
		if len(good.ran()) != 0 {
			t.Errorf("before a minute: got %v, want the job still assigned to deaf", good.ran())
		}
		settle(time.Second + time.Minute)
		job := f.want(id, StatusCompleted, Success)
		if job.Runner != "good" || job.Attempts != 2 {
			t.Errorf("job: got %+v, want it served by good at the second attempt", job)
		}
	})
}

func TestLostRunnerFailsItsJobLate(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		mail := f.receive()
		id := f.queue(time.Hour, "linux")
		g := f.guest(f.jit("acme", "one", "linux").Config)
		g.s.Lost()
		settle(9 * time.Minute)
		f.want(id, StatusInProgress, "")
		if code, got := f.do(http.MethodDelete, "/orgs/acme/actions/runners/1", nil); code != 422 {
			t.Errorf("delete a runner that GitHub believes busy: got %d %s, want 422", code, got)
		}
		settle(time.Minute)
		if job := f.want(id, StatusCompleted, Failure); !job.Lost {
			t.Errorf("job: got %+v, want it marked as lost", job)
		}
		if got := mail.actions(); !slices.Equal(got, []string{"queued", "in_progress", "completed"}) {
			t.Errorf("webhooks: got %v", got)
		}
		if got := f.h.Runners(""); len(got) != 0 {
			t.Errorf("registrations: got %v, want none", got)
		}
		if s := g.s.Finish(id, Success); s == nil {
			t.Error("finish after the loss: got no error")
		}
	})
}

func TestCancelAtEveryStage(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		queued := f.queue(time.Hour, "nobody")
		f.h.CancelJob(queued)
		if job := f.want(queued, StatusCompleted, Cancelled); job.Runner != "" {
			t.Errorf("queued job: got runner %q, want none", job.Runner)
		}
		running := f.queue(time.Hour, "linux")
		f.guest(f.jit("acme", "one", "linux").Config)
		f.h.CancelJob(running)
		f.want(running, StatusCompleted, Cancelled)

		f.h.SetTiming(Timing{Route: time.Second})
		g := f.guest(f.jit("acme", "two", "linux").Config)
		assigned := f.queue(time.Minute, "linux")
		f.h.CancelJob(assigned)
		next := f.queue(time.Minute, "linux")
		settle(2 * time.Second)
		f.want(assigned, StatusCompleted, Cancelled)
		if !slices.Equal(g.ran(), []JobID{next}) {
			t.Errorf("runner of a job cancelled on its way: got %v, want the next job %d", g.ran(), next)
		}
		waiting := f.h.QueueJob(NewJob{Repo: "acme/app", Labels: []string{"linux"}, Waiting: true})
		f.h.Skip(waiting)
		f.want(waiting, StatusCompleted, Skipped)
	})
}

func TestQueuedForADayIsCancelled(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		id := f.queue(time.Hour, "nobody")
		settle(24*time.Hour - time.Second)
		f.want(id, StatusQueued, "")
		settle(2 * time.Second)
		f.want(id, StatusCompleted, Cancelled)
	})
}

func TestShutdownOfABusyRunnerFailsItsJob(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		id := f.queue(time.Hour, "linux")
		f.guest(f.jit("acme", "one", "linux").Config).s.Close()
		if job := f.want(id, StatusCompleted, Failure); !job.Lost {
			t.Errorf("job: got %+v, want it marked as lost", job)
		}
	})
}

func TestBusyMayLie(t *testing.T) {
	story(t, Config{Habits: Habits{BusyLies: 1}}, func(t *testing.T, f *fixture) {
		id := f.queue(time.Minute, "linux")
		f.guest(f.jit("acme", "one", "linux").Config)
		_, got := f.do(http.MethodGet, "/orgs/acme/actions/runners/1", nil)
		var r runnerJSON
		f.decode(got, &r)
		if r.Busy || r.Status != "online" {
			t.Errorf("busy runner while REST lies: got %+v, want online and not busy", r)
		}
		if code, got := f.do(http.MethodDelete, "/orgs/acme/actions/runners/1", nil); code != 204 {
			t.Errorf("delete while REST lies: got %d %s, want 204", code, got)
		}
		settle(time.Minute)
		f.want(id, StatusCompleted, Success)
	})
}

func TestRerunIsANewJobBesideTheOldOne(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		mail := f.receive()
		id := f.h.QueueJob(NewJob{Repo: "acme/app", Labels: []string{"linux"}, Conclusion: Failure})
		f.guest(f.jit("acme", "one", "linux").Config)
		synctest.Wait()
		again := f.h.Rerun(id)
		synctest.Wait()
		if again == id {
			t.Fatalf("rerun: got the same id %d", id)
		}
		last := mail.got[len(mail.got)-2:]
		slices.SortFunc(last, func(a, b received) int { return int(a.event.Job.ID - b.event.Job.ID) })
		if last[0].event.Action != "completed" || last[1].event.Action != "queued" || last[1].event.Job.ID != again {
			t.Errorf("webhooks of a rerun: got %+v, want completed of the old and queued of the new", mail.actions())
		}
	})
}
