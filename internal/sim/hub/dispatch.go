package hub

import (
	"slices"
	"strings"
	"time"
)

// JobAssignment is a job on its way to a runner.
type JobAssignment struct {
	ID         JobID
	Repo       string
	Name       string
	Labels     []string
	Duration   time.Duration // how long it runs
	Conclusion Conclusion    // how it ends when nothing comes between
	Steps      []Step        // what a real runner is to run
}

// dispatch gives queued jobs to idle runners, the oldest job first. Which of
// several matching runners gets it is nobody's business: it is drawn.
func (h *Hub) dispatch() {
	for i := 0; i < len(h.queued) && len(h.idle) > 0; {
		j := h.queued[i]
		r := h.match(j)
		if r == nil {
			i++
			continue
		}
		h.unqueue(j)
		h.assign(j, r)
	}
}

// match draws one of the idle runners that may run the job.
func (h *Hub) match(j *job) *registration {
	var able []*registration
	for _, r := range h.idle {
		if r.mayRun(j) {
			able = append(able, r)
		}
	}
	if len(able) == 0 {
		return nil
	}
	return able[h.rng.IntN(len(able))]
}

// mayRun: the runner's labels contain the job's, and its group or repository
// admits the job's repository. Nothing implies "self-hosted".
func (r *registration) mayRun(j *job) bool {
	if r.repo != nil && r.repo != j.run.repo || r.repo == nil && !r.group.admits(j.run.repo) {
		return false
	}
	if j.group != "" && (r.repo != nil || !strings.EqualFold(r.group.name, j.group)) {
		return false
	}
	if len(j.want) == 0 && j.group == "" {
		return false
	}
	return !slices.ContainsFunc(j.want, func(l string) bool { return !r.has[l] })
}

// available puts a listening runner on the list of those that get jobs.
func (h *Hub) available(r *registration) {
	s := r.session
	if !r.removed.IsZero() || s == nil || !s.listening || r.job != nil || s.starved {
		return
	}
	if !slices.Contains(h.idle, r) {
		h.idle = append(h.idle, r)
	}
}

// assign reserves the runner for the job and tells it after the routing time.
// A runner that does not start it in time loses it.
func (h *Hub) assign(j *job, r *registration) {
	h.retire(r)
	j.runner, r.job = r, j
	j.attempts++
	h.note(Assigned, r, j, "")
	j.pickup = h.in(h.timing.Route+pickupWithin, func() {
		if j.runner != r || j.status != StatusQueued {
			return
		}
		j.runner, r.job = nil, nil
		h.note(Requeued, r, j, "")
		h.queue(j)
		h.available(r)
		h.dispatch()
	})
	tell := func() {
		s := r.session
		if j.runner != r || s == nil || !s.heard() {
			return
		}
		a := JobAssignment{
			ID: j.id, Repo: j.run.repo.full, Name: j.name, Labels: slices.Clone(j.labels),
			Duration: j.duration, Conclusion: j.plan, Steps: j.work,
		}
		h.afterLock(func() { s.listener.Assigned(a) })
	}
	if h.timing.Route > 0 {
		h.in(h.timing.Route, tell)
		return
	}
	tell()
}
