package hub

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// RunID is a workflow run's id.
type RunID int64

type run struct {
	id      RunID
	number  int
	attempt int
	repo    *repository
	jobs    []*job
	sha     string
	created time.Time
	updated time.Time

	event, branch, file string
	head                *repository // where the code is from
}

func (h *Hub) newRun(repo *repository, n NewJob) *run {
	now := h.clock.Now()
	r := &run{
		id: RunID(22_000_000_000 + h.number()), number: len(repo.runs) + 1, attempt: 1, repo: repo,
		sha: fmt.Sprintf("%x", h.noise(20)), created: now, updated: now,
		event: cmp.Or(n.Event, "push"), branch: cmp.Or(n.Branch, "main"), file: cmp.Or(n.File, ".github/workflows/ci.yml"), head: repo,
	}
	if n.Fork != "" {
		r.event, r.head = cmp.Or(n.Event, "pull_request"), h.forkOf(repo, n.Fork)
	}
	h.runs = append(h.runs, r)
	repo.runs = append(repo.runs, r)
	return r
}

// forkOf is a fork of repo, made if there is none of that name.
func (h *Hub) forkOf(repo *repository, name string) *repository {
	if have := h.repository(name); have != nil {
		return have
	}
	repo.forks++
	repo.render(repo.created)
	return h.addRepository(Repository{Name: name, Private: repo.private, Fork: true})
}

// runByID finds a run; ids rise with their place in the list.
func (h *Hub) runByID(id RunID) *run {
	i, found := slices.BinarySearchFunc(h.runs, id, func(r *run, id RunID) int { return cmp.Compare(r.id, id) })
	if !found {
		return nil
	}
	return h.runs[i]
}

func (r *run) touch(t time.Time) { r.updated = t }

// status is drawn from the run's jobs: one that runs, or some ended and some
// not, make it in_progress, so a run in progress can have queued jobs.
func (r *run) status() (Status, Conclusion) {
	completed, running, queued := 0, 0, 0
	conclusion := Success
	for _, j := range r.jobs {
		switch j.status {
		case StatusCompleted:
			completed++
			if j.attempt == r.attempt && j.conclusion != Success && conclusion != Failure {
				conclusion = j.conclusion
			}
		case StatusInProgress:
			running++
		case StatusQueued:
			queued++
		}
	}
	switch {
	case completed == len(r.jobs):
		return StatusCompleted, conclusion
	case running > 0 || completed > 0 && r.attempt == 1:
		return StatusInProgress, ""
	case queued > 0:
		return StatusQueued, ""
	}
	return StatusWaiting, ""
}

func (r *run) json() map[string]any {
	status, conclusion := r.status()
	url := fmt.Sprintf("%s/repos/%s/actions/runs/%d", apiURL, r.repo.full, r.id)
	workflow := fmt.Sprintf("%s/repos/%s/actions/workflows/%d", apiURL, r.repo.full, workflowID)
	m := map[string]any{
		"id": r.id, "name": workflowName, "node_id": nodeID("WFR", int64(r.id)), "head_branch": r.branch,
		"head_sha": r.sha, "path": r.file, "display_title": "Change the world",
		"run_number": r.number, "run_attempt": r.attempt, "event": r.event, "status": status,
		"conclusion": nil, "workflow_id": workflowID, "check_suite_id": int64(r.id) + 1,
		"check_suite_node_id": nodeID("CS", int64(r.id)+1), "url": url,
		"html_url":      fmt.Sprintf("https://github.com/%s/actions/runs/%d", r.repo.full, r.id),
		"pull_requests": []any{}, "created_at": stamp(r.created), "updated_at": stamp(r.updated),
		"actor": r.repo.owner.json, "triggering_actor": r.repo.owner.json,
		"run_started_at": stamp(r.created), "jobs_url": url + "/jobs", "logs_url": url + "/logs",
		"check_suite_url": fmt.Sprintf("%s/repos/%s/check-suites/%d", apiURL, r.repo.full, int64(r.id)+1),
		"artifacts_url":   url + "/artifacts", "cancel_url": url + "/cancel", "rerun_url": url + "/rerun",
		"previous_attempt_url": nil, "workflow_url": workflow, "referenced_workflows": []any{},
		"head_commit": map[string]any{
			"id": r.sha, "tree_id": r.sha, "message": "Change the world", "timestamp": stamp(r.created),
			"author":    map[string]string{"name": "Ada", "email": "ada@example.com"},
			"committer": map[string]string{"name": "Ada", "email": "ada@example.com"},
		},
		"repository": r.repo.minimal, "head_repository": r.head.minimal,
	}
	if conclusion != "" {
		m["conclusion"] = conclusion
	}
	return m
}

const (
	workflowID   = 5_100_001
	workflowName = "CI"
)

// listRuns is GET /repos/{owner}/{repo}/actions/runs; status takes a status or
// a conclusion. The newest run comes first.
func (h *Hub) listRuns(c *call) answer {
	want := c.r.URL.Query().Get("status")
	var list []*run
	for _, r := range slices.Backward(c.repo.runs) {
		status, conclusion := r.status()
		if want == "" || want == string(status) || want == string(conclusion) {
			list = append(list, r)
		}
	}
	p := paginate(c.r.URL.Query(), len(list))
	runs := []map[string]any{}
	for _, r := range list[p.from:p.to] {
		runs = append(runs, r.json())
	}
	return ok(map[string]any{"total_count": len(list), "workflow_runs": runs}).paged(p, c.r)
}

func (h *Hub) runOf(c *call) *run {
	r := h.runByID(RunID(pathID(c.r, "run_id")))
	if r == nil || r.repo != c.repo {
		return nil
	}
	return r
}

// showRun is GET /repos/{owner}/{repo}/actions/runs/{run_id}.
func (h *Hub) showRun(c *call) answer {
	if r := h.runOf(c); r != nil {
		return ok(r.json())
	}
	return notFound()
}

// listRunJobs is GET …/runs/{run_id}/jobs: those of the latest attempt, or all.
func (h *Hub) listRunJobs(c *call) answer {
	r := h.runOf(c)
	if r == nil {
		return notFound()
	}
	list := slices.Clone(r.jobs)
	if c.r.URL.Query().Get("filter") != "all" {
		latest := map[string]int{}
		for _, j := range r.jobs {
			latest[j.name] = max(latest[j.name], j.attempt)
		}
		list = slices.DeleteFunc(list, func(j *job) bool { return j.attempt < latest[j.name] })
	}
	p := paginate(c.r.URL.Query(), len(list))
	jobs := []map[string]any{}
	for _, j := range list[p.from:p.to] {
		jobs = append(jobs, j.json())
	}
	return ok(map[string]any{"total_count": len(list), "jobs": jobs}).paged(p, c.r)
}

// showJob is GET /repos/{owner}/{repo}/actions/jobs/{job_id}.
func (h *Hub) showJob(c *call) answer {
	j := h.job(JobID(pathID(c.r, "job_id")))
	if j == nil || j.run.repo != c.repo {
		return notFound()
	}
	return ok(j.json())
}

// json is the job as the API and webhooks show it.
func (j *job) json() map[string]any {
	repo := j.run.repo.full
	started := j.created // GitHub's started_at is the creation's until it starts
	if !j.started.IsZero() {
		started = j.started
	}
	m := map[string]any{
		"id": j.id, "run_id": j.run.id, "workflow_name": workflowName, "head_branch": j.run.branch,
		"run_url":     fmt.Sprintf("%s/repos/%s/actions/runs/%d", apiURL, repo, j.run.id),
		"run_attempt": j.attempt, "node_id": nodeID("CR", int64(j.id)), "head_sha": j.run.sha,
		"url":      fmt.Sprintf("%s/repos/%s/actions/jobs/%d", apiURL, repo, j.id),
		"html_url": fmt.Sprintf("https://github.com/%s/actions/runs/%d/job/%d", repo, j.run.id, j.id),
		"status":   j.status, "conclusion": nil, "created_at": stamp(j.created), "started_at": stamp(started),
		"completed_at": stampOrNil(j.completed), "name": j.name, "steps": j.steps(),
		"check_run_url": fmt.Sprintf("%s/repos/%s/check-runs/%d", apiURL, repo, j.id),
		"labels":        j.labels, "runner_id": nil, "runner_name": nil, "runner_group_id": nil,
		"runner_group_name": nil,
	}
	if j.conclusion != "" {
		m["conclusion"] = j.conclusion
	}
	switch {
	case j.ran != nil:
		m["runner_id"], m["runner_name"] = j.ran.id, j.ran.name
		m["runner_group_id"], m["runner_group_name"] = j.ran.group.id, j.ran.group.name
	case j.zeroes && j.status != StatusWaiting:
		m["runner_id"], m["runner_name"], m["runner_group_id"], m["runner_group_name"] = 0, "", 0, ""
	}
	return m
}

type step struct {
	Name       string      `json:"name"`
	Status     Status      `json:"status"`
	Conclusion *Conclusion `json:"conclusion"`
	Number     int         `json:"number"`
	Started    *string     `json:"started_at"`
	Completed  *string     `json:"completed_at"`
}

// steps is empty until the job starts, and stays so if it never does.
func (j *job) steps() []step {
	switch {
	case j.ran == nil:
		return []step{}
	case j.status == StatusInProgress:
		return []step{{Name: "Set up job", Status: StatusInProgress, Number: 1, Started: stampOrNil(j.started)}}
	}
	end := stampOrNil(j.completed)
	good := Success
	return []step{
		{Name: "Set up job", Status: StatusCompleted, Conclusion: &good, Number: 1, Started: stampOrNil(j.started), Completed: end},
		{Name: "Run make test", Status: StatusCompleted, Conclusion: &j.conclusion, Number: 2, Started: end, Completed: end},
		{Name: "Complete job", Status: StatusCompleted, Conclusion: &good, Number: 3, Started: end, Completed: end},
	}
}
