package hub

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// JobID is a workflow job's id; each attempt has its own.
type JobID int64

// Status is a job's or run's state.
type Status string

// The states of a job, in the order it goes through them.
const (
	StatusWaiting    Status = "waiting" // for an approval
	StatusQueued     Status = "queued"
	StatusInProgress Status = "in_progress"
	StatusCompleted  Status = "completed"
)

// Conclusion is how a job ended.
type Conclusion string

// The conclusions that the hub itself draws, and those a guest reports.
const (
	Success   Conclusion = "success"
	Failure   Conclusion = "failure"
	Cancelled Conclusion = "cancelled"
	Skipped   Conclusion = "skipped"
)

// NewJob describes a job to queue.
type NewJob struct {
	Repo       string // full name, e.g. acme/app
	Labels     []string
	Group      string        // runs-on: group, by name
	Name       string        // default build
	Duration   time.Duration // how long it runs
	Conclusion Conclusion    // how it ends when nothing comes between; default success
	Waiting    bool          // it waits for an approval, see Approve
	Run        RunID         // the run it belongs to; 0 makes a new one
	Steps      []Step        // what a real runner runs; a simulated one waits for Duration

	// Of a new run:
	Event  string // default push; pull_request with Fork
	Fork   string // full name of the fork whose code it is; made if need be
	Branch string // default main
	File   string // of the workflow; default .github/workflows/ci.yml
}

// Step is one step of a job, a script for bash.
type Step struct {
	Name string `json:"name"`
	Run  string `json:"run"`
}

// Job is what a test may know of a job.
type Job struct {
	ID         JobID
	Run        RunID
	Repo       string
	Name       string
	Labels     []string
	Status     Status
	Conclusion Conclusion // empty until it is completed
	Created    time.Time
	Started    time.Time // zero until it is in progress
	Completed  time.Time // zero until it is completed
	Runner     string    // the name of the registration that ran it
	RunnerID   RunnerID
	Attempts   int  // how often it was assigned to a runner
	Lost       bool // it ended because its runner was lost or shut down
}

// What GitHub waits for (docs limits page, facts measured by others).
const (
	pickupWithin = 60 * time.Second               // assigned but not picked up: back to the queue
	lostAfter    = 9*time.Minute + 30*time.Second // no word from a running job's runner
	queuedAtMost = 24 * time.Hour                 // queued without a runner: cancelled
	silentFor    = time.Minute                    // a dead runner still counts as online (believed)
)

type job struct {
	id         JobID
	run        *run
	name       string
	labels     []string
	want       []string // lower-cased
	group      string
	status     Status
	conclusion Conclusion
	plan       Conclusion
	duration   time.Duration
	created    time.Time
	started    time.Time
	completed  time.Time
	runner     *registration // assigned or running
	ran        *registration // the one it started on
	attempt    int           // run_attempt
	attempts   int
	zeroes     bool // "no runner" is 0 and "" rather than null
	cancelling bool
	lost       bool
	work       []Step
	log        strings.Builder // what a real runner has sent
	expiry     *stage.Entry
	pickup     *stage.Entry
	silence    *stage.Entry
}

// QueueJob creates a job, and its run unless it names one, and sends its
// webhook: `queued`, or `waiting`.
func (h *Hub) QueueJob(n NewJob) JobID {
	h.enter()
	defer h.leave()
	repo := h.repository(n.Repo)
	if repo == nil {
		panic(fmt.Sprintf("hub: queue job: no repository %q", n.Repo))
	}
	r := h.runByID(n.Run)
	if r == nil {
		r = h.newRun(repo, n)
	}
	j := h.newJob(r, n)
	if n.Waiting {
		j.status = StatusWaiting
		h.sendJob(j, string(StatusWaiting))
		return j.id
	}
	h.enqueue(j)
	h.dispatch()
	return j.id
}

func (h *Hub) newJob(r *run, n NewJob) *job {
	j := &job{
		id: JobID(28_900_000_000 + h.number()), run: r, name: cmp.Or(n.Name, "build"), labels: slices.Clone(n.Labels),
		group: n.Group, plan: cmp.Or(n.Conclusion, Success), duration: n.Duration, created: h.clock.Now(),
		attempt: 1, zeroes: h.rng.IntN(2) == 0, work: slices.Clone(n.Steps),
	}
	if j.labels == nil {
		j.labels = []string{}
	}
	for _, l := range n.Labels {
		j.want = append(j.want, strings.ToLower(l))
	}
	h.jobs = append(h.jobs, j)
	r.jobs = append(r.jobs, j)
	return j
}

// enqueue makes the job available to runners and says so.
func (h *Hub) enqueue(j *job) {
	j.status = StatusQueued
	j.run.touch(h.clock.Now())
	h.queue(j)
	h.note(Queued, nil, j, "")
	h.sendJob(j, string(StatusQueued))
	j.expiry = h.in(queuedAtMost, func() {
		if j.status == StatusQueued {
			h.complete(j, Cancelled)
		}
	})
}

// queue puts the job in its place: the oldest comes first.
func (h *Hub) queue(j *job) {
	i, _ := slices.BinarySearchFunc(h.queued, j, func(a, b *job) int { return cmp.Compare(a.id, b.id) })
	h.queued = slices.Insert(h.queued, i, j)
}

func (h *Hub) unqueue(j *job) {
	if i := slices.Index(h.queued, j); i >= 0 {
		h.queued = slices.Delete(h.queued, i, i+1)
	}
}

// Approve lets a waiting job go on: it is queued.
func (h *Hub) Approve(id JobID) {
	h.enter()
	defer h.leave()
	if j := h.job(id); j != nil && j.status == StatusWaiting {
		h.enqueue(j)
		h.dispatch()
	}
}

// CancelJob cancels the job. One that runs ends when its runner says so.
func (h *Hub) CancelJob(id JobID) {
	h.enter()
	defer h.leave()
	j := h.job(id)
	if j == nil || j.status == StatusCompleted {
		return
	}
	if j.status != StatusInProgress {
		h.complete(j, Cancelled)
		h.dispatch()
		return
	}
	j.cancelling = true
	if s := j.runner.session; s != nil && s.heard() && s.listener.Cancelled != nil {
		h.afterLock(func() { s.listener.Cancelled(j.id) })
	}
}

// Skip ends a job that was not queued yet, as an `if:` does: only `completed`
// is sent.
func (h *Hub) Skip(id JobID) {
	h.enter()
	defer h.leave()
	if j := h.job(id); j != nil && j.status == StatusWaiting {
		h.complete(j, Skipped)
	}
}

// Rerun queues a new attempt of a completed job. As GitHub does, it sends
// `completed` of the earlier one again in the same second.
func (h *Hub) Rerun(id JobID) JobID {
	h.enter()
	defer h.leave()
	old := h.job(id)
	if old == nil || old.status != StatusCompleted {
		return 0
	}
	id = h.again(old, old.attempt+1)
	h.dispatch()
	return id
}

// again queues an attempt of a completed job.
func (h *Hub) again(old *job, attempt int) JobID {
	j := h.newJob(old.run, NewJob{
		Labels: old.labels, Group: old.group, Name: old.name, Duration: old.duration, Conclusion: old.plan, Steps: old.work,
	})
	j.attempt = attempt
	old.run.attempt = max(old.run.attempt, j.attempt)
	h.enqueue(j)
	h.sendJob(old, string(StatusCompleted))
	return j.id
}

// complete ends the job and frees what it held.
func (h *Hub) complete(j *job, c Conclusion) {
	if j.status == StatusCompleted {
		return
	}
	h.unqueue(j)
	r := j.runner
	j.status, j.conclusion, j.completed, j.runner = StatusCompleted, c, h.clock.Now(), nil
	j.expiry.Stop()
	j.pickup.Stop()
	j.silence.Stop()
	j.run.touch(j.completed)
	h.note(Ended, j.ran, j, string(c))
	h.sendJob(j, string(StatusCompleted))
	if r == nil {
		return
	}
	r.job = nil
	if j.ran == r {
		h.remove(r, "ran its job")
		return
	}
	h.available(r) // it was assigned the job and never started it
}

// job finds a job; ids rise with their place in the list.
func (h *Hub) job(id JobID) *job {
	i, found := slices.BinarySearchFunc(h.jobs, id, func(j *job, id JobID) int { return cmp.Compare(j.id, id) })
	if !found {
		return nil
	}
	return h.jobs[i]
}

func (j *job) public() Job {
	p := Job{
		ID: j.id, Run: j.run.id, Repo: j.run.repo.full, Name: j.name, Labels: slices.Clone(j.labels),
		Status: j.status, Conclusion: j.conclusion, Created: j.created, Started: j.started,
		Completed: j.completed, Attempts: j.attempts, Lost: j.lost,
	}
	if j.ran != nil {
		p.Runner, p.RunnerID = j.ran.name, j.ran.id
	}
	return p
}

// Job is the job of that id, if there is one.
func (h *Hub) Job(id JobID) (Job, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if j := h.job(id); j != nil {
		return j.public(), true
	}
	return Job{}, false
}

// Jobs is every job there ever was, by id.
func (h *Hub) Jobs() []Job {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]Job, len(h.jobs))
	for i, j := range h.jobs {
		list[i] = j.public()
	}
	return list
}

// Pending is how many jobs have not ended.
func (h *Hub) Pending() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, j := range h.jobs {
		if j.status != StatusCompleted {
			n++
		}
	}
	return n
}
