package github

import (
	"context"
	"fmt"

	"github.com/google/go-github/v62/github"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Run tells how far a workflow run is, with the jobs of its latest attempt.
func (c *Client) Run(ctx context.Context, repo string, run int64) (state fleet.RunState, err error) {
	err = c.asReader(ctx, repo, read, func(ctx context.Context, owner, name string) error {
		got, _, err := c.gh.Actions.GetWorkflowRunByID(ctx, owner, name, run)
		if err != nil {
			return err
		}
		jobs, err := c.runJobs(ctx, owner, name, run)
		if err != nil {
			return err
		}
		state = fleet.RunState{Over: got.GetStatus() == "completed", Attempt: got.GetRunAttempt()}
		for _, j := range jobs {
			job, err := fleetJob(j, repo)
			if err != nil {
				return err
			}
			state.Jobs = append(state.Jobs, job)
		}
		return nil
	})
	if err != nil {
		return fleet.RunState{}, fmt.Errorf("get run %d of %s: %w", run, repo, err)
	}
	return state, nil
}

// RerunJob asks for one job to be run again, and those that need it. It needs
// the permission actions: write; fleet.ErrDenied also says that the run is not
// over, or is older than a month. When the answer is lost, Run shows by its
// attempt whether it had its effect.
func (c *Client) RerunJob(ctx context.Context, repo string, job fleet.JobID) error {
	return c.rerun(ctx, fmt.Sprintf("run job %d of %s again", job, repo), repo, func(ctx context.Context, owner, name string) error {
		return accepted(c.gh.Actions.RerunJobByID(ctx, owner, name, int64(job)))
	})
}

// RerunFailed is RerunJob for all failed jobs of a run.
func (c *Client) RerunFailed(ctx context.Context, repo string, run int64) error {
	return c.rerun(ctx, fmt.Sprintf("run failed jobs of run %d of %s again", run, repo), repo, func(ctx context.Context, owner, name string) error {
		return accepted(c.gh.Actions.RerunFailedJobsByID(ctx, owner, name, run))
	})
}

func accepted(_ *github.Response, err error) error { return err }

func (c *Client) rerun(ctx context.Context, what, repo string, use func(ctx context.Context, owner, name string) error) error {
	if err := c.tell(ctx, repo, writeJobs, use); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
