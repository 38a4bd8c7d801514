package github

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-github/v62/github"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// repository is what a webhook says of one.
type repository struct {
	FullName     string `json:"full_name"`
	Private      *bool  `json:"private"` // true of internal ones as well
	ForksCount   *int   `json:"forks_count"`
	AllowForking *bool  `json:"allow_forking"`
}

// origin is what a workflow_job event says of where the job's code comes from.
// It names neither event nor head repository; but where there is no fork, it
// is none's. A repository that is not said to be private counts as public.
// That forks_count has private forks in it is believed.
func (r repository) origin(j *github.WorkflowJob) fleet.Origin {
	private := r.Private != nil && *r.Private
	noForks := r.ForksCount != nil && *r.ForksCount == 0 || private && r.AllowForking != nil && !*r.AllowForking
	return fleet.Origin{Public: !private, Doubt: !noForks, Branch: j.GetHeadBranch(), Commit: j.GetHeadSHA()}
}

// originOf is what a run says of where the code of its jobs comes from. The
// head repository of a run is null when the fork was deleted since.
func originOf(run *github.WorkflowRun, repo string) fleet.Origin {
	return fleet.Origin{
		Public: !run.GetRepository().GetPrivate(),
		Fork:   !strings.EqualFold(run.GetHeadRepository().GetFullName(), repo),
		Event:  run.GetEvent(), Branch: run.GetHeadBranch(), Commit: run.GetHeadSHA(),
	}
}

// Origin asks where the code of a run's jobs comes from.
func (c *Client) Origin(ctx context.Context, repo string, run int64) (origin fleet.Origin, err error) {
	err = c.asReader(ctx, repo, read, func(ctx context.Context, owner, name string) error {
		req, err := c.gh.NewRequest(http.MethodGet, fmt.Sprintf("repos/%s/%s/actions/runs/%d", owner, name, run), nil)
		if err != nil {
			return err
		}
		var got struct {
			github.WorkflowRun
			Path string `json:"path"` // go-github leaves it out
		}
		if _, err := c.gh.Do(ctx, req, &got); err != nil {
			return err
		}
		origin = originOf(&got.WorkflowRun, repo)
		origin.File, _, _ = strings.Cut(got.Path, "@") // a required workflow's has its ref
		return nil
	})
	if err != nil {
		return fleet.Origin{}, fmt.Errorf("get run %d of %s: %w", run, repo, err)
	}
	return origin, nil
}
