package fleet

import (
	"slices"
	"time"
)

// JobID is GitHub's number of a workflow_job; each attempt has its own.
type JobID int64

// Status is how far a job is. A later status is never overwritten by an
// earlier one, so events may come in any order.
type Status int

// The statuses, in rank order.
const (
	Waiting    Status = iota + 1 // held for an approval: not demand
	Queued                       // wants a runner
	InProgress                   // runs
	Completed                    // over, however it ended
)

var statusNames = [...]string{"unknown", "waiting", "queued", "in_progress", "completed"}

func (s Status) String() string {
	if s < 0 || int(s) >= len(statusNames) {
		return statusNames[0]
	}
	return statusNames[s]
}

// ParseStatus reads GitHub's word for a job's status. GitHub also knows
// "requested" and "pending", which are not demand yet.
func ParseStatus(s string) (Status, bool) {
	for i, name := range statusNames {
		if i > 0 && name == s {
			return Status(i), true
		}
	}
	if s == "requested" || s == "pending" {
		return Waiting, true
	}
	return 0, false
}

// Job is one workflow_job as last heard of.
type Job struct {
	ID         JobID
	Repo       string // "acme/app"
	Run        int64
	Attempt    int
	Name       string
	Workflow   string
	URL        string
	Labels     []string // exactly as in runs-on
	Status     Status
	Conclusion string // "success", "cancelled", …; only when completed
	Runner     string // name of the runner that took it
	Origin     Origin
	Created    time.Time
	Started    time.Time
	Ended      time.Time
}

// Merge adds what another observation says of the same job and reports whether
// anything changed. Observations may be doubled and out of order, so the result
// depends only on which there were: the highest status wins, and of each other
// field the value that is known; of two that differ, the earlier time or the
// greater text.
func (j Job) Merge(seen Job) (Job, bool) {
	seen = seen.sane()
	if j.ID == 0 {
		return seen, seen.ID != 0
	}
	if seen.ID != j.ID {
		return j, false
	}
	m := j.sane()
	m.Status = max(m.Status, seen.Status)
	m.Run, m.Attempt = max(m.Run, seen.Run), max(m.Attempt, seen.Attempt)
	m.Repo, m.Name, m.Workflow = max(m.Repo, seen.Repo), max(m.Name, seen.Name), max(m.Workflow, seen.Workflow)
	m.URL, m.Conclusion, m.Runner = max(m.URL, seen.URL), max(m.Conclusion, seen.Conclusion), max(m.Runner, seen.Runner)
	if slices.Compare(m.Labels, seen.Labels) < 0 {
		m.Labels = seen.Labels
	}
	m.Origin = m.Origin.merge(seen.Origin)
	m.Created, m.Started, m.Ended = earlier(m.Created, seen.Created), earlier(m.Started, seen.Started), earlier(m.Ended, seen.Ended)
	return m, !m.same(j)
}

// sane leaves out what an observation says of a later status than its own:
// GitHub's queued events carry a start time, and some the name of a runner
// (workflow_job.queued.5 of its webhook examples).
func (j Job) sane() Job {
	if j.Status < InProgress {
		j.Runner, j.Started = "", time.Time{}
	}
	if j.Status < Completed {
		j.Conclusion, j.Ended = "", time.Time{}
	}
	return j
}

func (j Job) same(o Job) bool {
	return j.Status == o.Status && j.Repo == o.Repo && j.Name == o.Name &&
		j.Workflow == o.Workflow && j.URL == o.URL && j.Conclusion == o.Conclusion &&
		j.Runner == o.Runner && j.Origin == o.Origin && j.Run == o.Run && j.Attempt == o.Attempt &&
		slices.Equal(j.Labels, o.Labels) && j.Created.Equal(o.Created) &&
		j.Started.Equal(o.Started) && j.Ended.Equal(o.Ended)
}

// earlier returns the earlier of two times, of which the zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
