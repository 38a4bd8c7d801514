package journal

import (
	"cmp"
	"slices"
	"sync"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// openJobs are the jobs that are not completed, as they are on disk: the
// journal is the only writer.
type openJobs struct {
	mu   sync.Mutex
	jobs map[fleet.JobID]fleet.Job
	list []fleet.Job   // sorted; never changed once given out
	old  bool          // list is older than jobs
	more []fleet.JobID // in jobs, and perhaps not in list
}

// OpenJobs returns the jobs that are not completed, oldest first. The list is
// shared and must not be changed; it is made anew only after a change.
func (j *Journal) OpenJobs() []fleet.Job { return j.open.sorted() }

func (o *openJobs) sorted() []fleet.Job {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.old {
		o.list, o.more, o.old = o.merged(), nil, false
	}
	return o.list
}

// merged is the list as it should be now. Nearly all of it is in order as it
// was, and new jobs are the youngest: sorting that costs next to nothing.
func (o *openJobs) merged() []fleet.Job {
	list := make([]fleet.Job, 0, len(o.jobs)+len(o.more))
	for _, was := range o.list {
		if now, open := o.jobs[was.ID]; open {
			list = append(list, now)
		}
	}
	for _, id := range o.more {
		if now, open := o.jobs[id]; open {
			list = append(list, now)
		}
	}
	slices.SortFunc(list, older)
	return slices.CompactFunc(list, func(a, b fleet.Job) bool { return a.ID == b.ID })
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
		o.old = true
		if job.Status == fleet.Completed {
			delete(o.jobs, job.ID)
			continue
		}
		if _, known := o.jobs[job.ID]; !known {
			o.more = append(o.more, job.ID)
		}
		o.jobs[job.ID] = job
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
