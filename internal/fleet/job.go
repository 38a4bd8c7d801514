package fleet

import "time"

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
	Created    time.Time
	Started    time.Time
	Ended      time.Time
}

// Merge adds what a later observation says of the same job and reports
// whether anything changed. Observations may be doubled and out of order: the
// rank decides, and what one of them leaves out is kept from the others.
func (j Job) Merge(seen Job) (Job, bool) {
	if j.ID == 0 {
		return seen, true
	}
	old, m := j, j
	if seen.Status > m.Status {
		m.Status = seen.Status
	}
	keep(&m.Repo, seen.Repo)
	keep(&m.Name, seen.Name)
	keep(&m.Workflow, seen.Workflow)
	keep(&m.URL, seen.URL)
	keep(&m.Conclusion, seen.Conclusion)
	keep(&m.Runner, seen.Runner)
	if m.Run == 0 {
		m.Run = seen.Run
	}
	if m.Attempt == 0 {
		m.Attempt = seen.Attempt
	}
	if len(m.Labels) == 0 {
		m.Labels = seen.Labels
	}
	keepTime(&m.Created, seen.Created)
	keepTime(&m.Started, seen.Started)
	keepTime(&m.Ended, seen.Ended)
	return m, !m.same(old)
}

func (j Job) same(o Job) bool {
	return j.Status == o.Status && j.Repo == o.Repo && j.Name == o.Name &&
		j.Workflow == o.Workflow && j.URL == o.URL && j.Conclusion == o.Conclusion &&
		j.Runner == o.Runner && j.Run == o.Run && j.Attempt == o.Attempt &&
		len(j.Labels) == len(o.Labels) && j.Created.Equal(o.Created) &&
		j.Started.Equal(o.Started) && j.Ended.Equal(o.Ended)
}

func keep(have *string, seen string) {
	if *have == "" {
		*have = seen
	}
}

func keepTime(have *time.Time, seen time.Time) {
	if have.IsZero() {
		*have = seen
	}
}
