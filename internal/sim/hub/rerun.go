package hub

import (
	"net/http"
	"slices"
	"time"
)

// rerunWithin is how old a run may be whose jobs are run again.
const rerunWithin = 30 * 24 * time.Hour

// refuses says why nothing of a run can be run again now. GitHub answers 403
// while the run is not over and when it is older than a month; the words are
// believed.
func (h *Hub) refuses(r *run) (answer, bool) {
	status, _ := r.status()
	switch {
	case status != StatusCompleted:
		return fail(http.StatusForbidden, "This workflow run is already running"), true
	case h.clock.Now().Sub(r.created) > rerunWithin:
		return fail(http.StatusForbidden, "Unable to retry this workflow run because it was created over a month ago"), true
	}
	return answer{}, false
}

// rerunJob is POST …/actions/jobs/{job_id}/rerun. Jobs that need it are not
// modelled. That a job with a later attempt is refused is believed.
func (h *Hub) rerunJob(c *call) answer {
	j := h.job(JobID(pathID(c.r, "job_id")))
	if j == nil || j.run.repo != c.repo {
		return notFound()
	}
	if a, no := h.refuses(j.run); no {
		return a
	}
	if slices.ContainsFunc(j.run.jobs, func(o *job) bool { return o.name == j.name && o.attempt > j.attempt }) {
		return fail(http.StatusForbidden, "This job is not of the latest attempt")
	}
	h.again(j, j.run.attempt+1)
	h.dispatch()
	return created(map[string]any{})
}

// rerunFailed is POST …/actions/runs/{run_id}/rerun-failed-jobs: those of the
// latest attempt that failed or were cancelled (believed). A run that succeeded
// has none and is refused.
func (h *Hub) rerunFailed(c *call) answer {
	r := h.runOf(c)
	if r == nil {
		return notFound()
	}
	if a, no := h.refuses(r); no {
		return a
	}
	latest := map[string]*job{}
	for _, j := range r.jobs {
		if have := latest[j.name]; have == nil || j.attempt >= have.attempt {
			latest[j.name] = j
		}
	}
	var failed []*job
	for _, j := range r.jobs {
		if latest[j.name] == j && j.conclusion != Success && j.conclusion != Skipped {
			failed = append(failed, j)
		}
	}
	if len(failed) == 0 {
		return fail(http.StatusForbidden, "This workflow run cannot be retried")
	}
	next := r.attempt + 1
	for _, j := range failed {
		h.again(j, next)
	}
	h.dispatch()
	return created(map[string]any{})
}
