package github

import (
	"context"
	"fmt"

	"github.com/google/go-github/v62/github"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// liveRuns are the statuses of runs that may hold a queued or running job. A
// run counts as in_progress, waiting or pending while one of its jobs is
// queued and another runs, waits for an approval or for a concurrency group.
// "queued" comes again at the end, because a run may go from in_progress back
// to queued between the two reads; an unchanged answer costs nothing.
var liveRuns = [...]string{"queued", "in_progress", "waiting", "pending", "requested", "queued"}

// maxRuns is GitHub's limit on lists of runs with a status.
const maxRuns = 1000

// Jobs lists the jobs of repo that are not completed. Each run with such jobs
// takes a request, and requests are spread over time, so that with a thousand
// runs it takes more than a minute. With an error comes what was read before
// it.
func (c *Client) Jobs(ctx context.Context, repo string) ([]fleet.Job, error) {
	var jobs []fleet.Job
	err := c.asReader(ctx, repo, poll, func(ctx context.Context, owner, name string) error {
		jobs = nil
		runs, err := c.liveRuns(ctx, owner, name)
		if err != nil {
			return err
		}
		for _, live := range runs {
			run := live.GetID()
			found, err := c.runJobs(ctx, owner, name, run)
			if err != nil {
				return err
			}
			for _, j := range found {
				job, err := fleetJob(j, repo)
				if err != nil {
					return fmt.Errorf("run %d: %w", run, err)
				}
				job.Origin = originOf(live, repo)
				if job.Status < fleet.Completed {
					jobs = append(jobs, job)
				}
			}
		}
		return nil
	})
	if err != nil {
		return jobs, fmt.Errorf("list jobs of %s: %w", repo, err)
	}
	return jobs, nil
}

// Job asks for one job.
func (c *Client) Job(ctx context.Context, repo string, id fleet.JobID) (job fleet.Job, err error) {
	err = c.asReader(ctx, repo, read, func(ctx context.Context, owner, name string) error {
		got, _, err := c.gh.Actions.GetWorkflowJobByID(ctx, owner, name, int64(id))
		if err != nil {
			return err
		}
		job, err = fleetJob(got, repo)
		job.Origin = fleet.Origin{Doubt: true, Branch: got.GetHeadBranch(), Commit: got.GetHeadSHA()}
		return err
	})
	if err != nil {
		return fleet.Job{}, fmt.Errorf("get job %d of %s: %w", id, repo, err)
	}
	return job, nil
}

func (c *Client) asReader(ctx context.Context, repo string, kind class, use func(ctx context.Context, owner, name string) error) error {
	scope := fleet.Scope(repo)
	if !scope.Repo() {
		return fmt.Errorf("repository %q: want owner/name: %w", repo, fleet.ErrInvalid)
	}
	owner, name := split(scope)
	return c.as(ctx, scope, kind, readJobs, func(ctx context.Context) error {
		return use(ctx, owner, name)
	})
}

func (c *Client) liveRuns(ctx context.Context, owner, name string) ([]*github.WorkflowRun, error) {
	var live []*github.WorkflowRun
	known := map[int64]bool{}
	for _, status := range liveRuns {
		runs, err := walk((*github.WorkflowRun).GetID, func(page github.ListOptions) ([]*github.WorkflowRun, int, *github.Response, error) {
			opts := &github.ListWorkflowRunsOptions{Status: status, ExcludePullRequests: true, ListOptions: page}
			got, resp, err := c.gh.Actions.ListRepositoryWorkflowRuns(ctx, owner, name, opts)
			if err != nil {
				return nil, 0, nil, err
			}
			return got.WorkflowRuns, min(got.GetTotalCount(), maxRuns), resp, nil
		})
		if err != nil {
			return nil, err
		}
		for _, run := range runs {
			if !known[run.GetID()] {
				known[run.GetID()] = true
				live = append(live, run)
			}
		}
	}
	return live, nil
}

func (c *Client) runJobs(ctx context.Context, owner, name string, run int64) ([]*github.WorkflowJob, error) {
	return walk((*github.WorkflowJob).GetID, func(page github.ListOptions) ([]*github.WorkflowJob, int, *github.Response, error) {
		opts := &github.ListWorkflowJobsOptions{Filter: "latest", ListOptions: page}
		got, resp, err := c.gh.Actions.ListWorkflowJobs(ctx, owner, name, run, opts)
		if gone(err) {
			return nil, 0, &github.Response{}, nil // the run was deleted since it was listed
		}
		if err != nil {
			return nil, 0, nil, err
		}
		return got.Jobs, got.GetTotalCount(), resp, nil
	})
}

// fleetJob reads a workflow_job of the API or of a webhook. Three of its
// fields are true only from some status on: GitHub names a runner for jobs
// that are still queued, gives them a start, and does so for jobs that were
// cancelled before they had a runner.
func fleetJob(j *github.WorkflowJob, repo string) (fleet.Job, error) {
	status, ok := fleet.ParseStatus(j.GetStatus())
	switch {
	case j.GetID() <= 0:
		return fleet.Job{}, fmt.Errorf("workflow_job.id: missing, or not positive: %w", ErrMalformed)
	case !ok:
		return fleet.Job{}, fmt.Errorf("workflow_job.status: unknown word %q: %w", clean(j.GetStatus(), ""), ErrMalformed)
	}
	job := fleet.Job{
		ID: fleet.JobID(j.GetID()), Repo: repo, Run: j.GetRunID(), Attempt: int(j.GetRunAttempt()),
		Name: j.GetName(), Workflow: j.GetWorkflowName(), URL: j.GetHTMLURL(),
		Labels: j.Labels, Status: status, Created: j.GetCreatedAt().Time,
	}
	if status >= fleet.InProgress && j.GetRunnerID() != 0 {
		job.Runner = j.GetRunnerName()
		job.Started = j.GetStartedAt().Time
	}
	if status == fleet.Completed {
		job.Conclusion = j.GetConclusion()
		job.Ended = j.GetCompletedAt().Time
	}
	return job, nil
}

// Repositories lists the repositories whose jobs may reach runners of scope,
// as GitHub spells them: those of the installation that covers it, without the
// archived and disabled ones, which run no jobs.
func (c *Client) Repositories(ctx context.Context, scope fleet.Scope) ([]string, error) {
	found, err := c.repositories(ctx, scope)
	if err != nil {
		return nil, fmt.Errorf("list repositories of %s: %w", scope, err)
	}
	var names []string
	for _, r := range found {
		if !r.GetArchived() && !r.GetDisabled() && scope.Covers(r.GetFullName()) {
			names = append(names, r.GetFullName())
		}
	}
	if scope.Repo() && len(names) == 0 {
		return nil, fmt.Errorf("list repositories of %s: it is archived, disabled or renamed: %w", scope, fleet.ErrNotFound)
	}
	return names, nil
}

// repositories lists what the token for the runners of scope reaches: for a
// repository that is itself alone.
func (c *Client) repositories(ctx context.Context, scope fleet.Scope) (found []*github.Repository, err error) {
	err = c.as(ctx, scope, read, runners(scope), func(ctx context.Context) (err error) {
		found, err = walk((*github.Repository).GetID, func(page github.ListOptions) ([]*github.Repository, int, *github.Response, error) {
			got, resp, err := c.gh.Apps.ListRepos(ctx, &page)
			if err != nil {
				return nil, 0, nil, err
			}
			return got.Repositories, got.GetTotalCount(), resp, nil
		})
		return err
	})
	return found, err
}
