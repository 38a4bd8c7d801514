package journal

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// openJobs are the jobs that are not completed, as they are on disk: the
// journal is the only writer.
type openJobs struct {
	mu   sync.Mutex
	jobs map[fleet.JobID]fleet.Job
	list []fleet.Job // sorted; never changed once given out
	old  bool        // list is older than jobs
}

// OpenJobs returns the jobs that are not completed, oldest first. The list is
// shared and must not be changed; it is made anew only after a change.
func (j *Journal) OpenJobs() []fleet.Job { return j.open.sorted() }

func (o *openJobs) sorted() []fleet.Job {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.old {
		o.list = slices.AppendSeq(make([]fleet.Job, 0, len(o.jobs)), maps.Values(o.jobs))
		slices.SortFunc(o.list, older)
		o.old = false
	}
	return o.list
}

func older(a, b fleet.Job) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
}

// put takes over jobs that are now on disk.
func (o *openJobs) put(jobs []fleet.Job) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.jobs == nil {
		o.jobs = map[fleet.JobID]fleet.Job{}
	}
	for _, job := range jobs {
		if job.Status == fleet.Completed {
			delete(o.jobs, job.ID)
		} else {
			o.jobs[job.ID] = job
		}
		o.old = true
	}
}

// knows reports whether an observation says nothing new of an open job. Later
// changes only add to a job, so the answer stays true.
func (o *openJobs) knows(seen fleet.Job) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	job, ok := o.jobs[seen.ID]
	if !ok {
		return false
	}
	_, changed := job.Merge(stored(seen))
	return !changed
}
