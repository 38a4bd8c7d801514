package github

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-github/v62/github"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Registration is GitHub's record of a self-hosted runner. It carries no time
// of creation.
type Registration struct {
	ID     int64
	Name   string
	State  fleet.Registration
	Away   bool // GitHub hears nothing of it, though it may say that it is busy
	Labels []string
}

// JIT registers a runner of that name and returns its JIT config. It is one
// request with a bound of 10 s, never repeated, because GitHub gives no way to
// tell a repetition from a second runner (actions/runner, runs-on#546): after
// fleet.ErrUnknownOutcome look with Find, and try again under another name.
// Labels are sent exactly as they are; GitHub adds none. An empty group is the
// default one.
func (c *Client) JIT(ctx context.Context, scope fleet.Scope, name string, labels []string, group string) (Registration, fleet.Secret, error) {
	reg, config, err := c.jit(ctx, scope, name, labels, group)
	if err != nil {
		return Registration{}, fleet.Secret{}, fmt.Errorf("mint JIT config for %s in %s: %w", name, scope, err)
	}
	return reg, fleet.NewSecret(config), nil
}

func (c *Client) jit(ctx context.Context, scope fleet.Scope, name string, labels []string, group string) (Registration, string, error) {
	switch {
	case name == "":
		return Registration{}, "", fmt.Errorf("empty name: %w", fleet.ErrInvalid)
	case len(labels) == 0 || len(labels) > 100:
		// go-github sends nil as null, which GitHub refuses.
		return Registration{}, "", fmt.Errorf("%d labels: want 1 to 100: %w", len(labels), fleet.ErrInvalid)
	}
	id, err := c.groupID(ctx, scope, group)
	if err != nil {
		return Registration{}, "", err
	}
	want := &github.GenerateJITConfigRequest{Name: name, RunnerGroupID: id, Labels: labels}
	owner, repo := split(scope)
	var got *github.JITRunnerConfig
	err = c.as(ctx, scope, mint, runners(scope), func(ctx context.Context) (err error) {
		if scope.Repo() {
			got, _, err = c.gh.Actions.GenerateRepoJITConfig(ctx, owner, repo, want)
		} else {
			got, _, err = c.gh.Actions.GenerateOrgJITConfig(ctx, owner, want)
		}
		return err
	})
	if err != nil {
		if errors.Is(err, fleet.ErrDenied) || errors.Is(err, fleet.ErrNotFound) {
			c.groups.forget(scope) // what GitHub says of a group that was deleted
		}
		return Registration{}, "", err
	}
	if got.GetEncodedJITConfig() == "" || got.GetRunner().GetID() == 0 {
		return Registration{}, "", fmt.Errorf("%w: the answer lacks runner or encoded_jit_config", fleet.ErrUnknownOutcome)
	}
	return registration(got.GetRunner()), got.GetEncodedJITConfig(), nil
}

// Registrations lists all runners registered with scope, ours and others'.
func (c *Client) Registrations(ctx context.Context, scope fleet.Scope) ([]Registration, error) {
	found, err := c.runners(ctx, scope, nil)
	if err != nil {
		return nil, fmt.Errorf("list registrations of %s: %w", scope, err)
	}
	all := make([]Registration, len(found))
	for i, r := range found {
		all[i] = registration(r)
	}
	return all, nil
}

// Find looks a registration up by its exact name.
func (c *Client) Find(ctx context.Context, scope fleet.Scope, name string) (Registration, bool, error) {
	found, err := c.runners(ctx, scope, &name)
	if err != nil {
		return Registration{}, false, fmt.Errorf("find registration %s in %s: %w", name, scope, err)
	}
	for _, r := range found {
		if r.GetName() == name {
			return registration(r), true, nil
		}
	}
	return Registration{}, false, nil
}

func (c *Client) runners(ctx context.Context, scope fleet.Scope, name *string) (found []*github.Runner, err error) {
	owner, repo := split(scope)
	err = c.as(ctx, scope, read, runners(scope), func(ctx context.Context) (err error) {
		found, err = walk((*github.Runner).GetID, func(page github.ListOptions) ([]*github.Runner, int, *github.Response, error) {
			opts := &github.ListRunnersOptions{Name: name, ListOptions: page}
			var got *github.Runners
			var resp *github.Response
			var err error
			if scope.Repo() {
				got, resp, err = c.gh.Actions.ListRunners(ctx, owner, repo, opts)
			} else {
				got, resp, err = c.gh.Actions.ListOrganizationRunners(ctx, owner, opts)
			}
			if err != nil {
				return nil, 0, nil, err
			}
			return got.Runners, got.TotalCount, resp, nil
		})
		return err
	})
	return found, err
}

// Deregister deletes a registration. One that is gone is no error; one that
// runs a job is fleet.ErrBusy.
func (c *Client) Deregister(ctx context.Context, scope fleet.Scope, id int64) error {
	owner, repo := split(scope)
	err := c.as(ctx, scope, remove, runners(scope), func(ctx context.Context) (err error) {
		if scope.Repo() {
			_, err = c.gh.Actions.RemoveRunner(ctx, owner, repo, id)
		} else {
			_, err = c.gh.Actions.RemoveOrganizationRunner(ctx, owner, id)
		}
		return err
	})
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deregister runner %d of %s: %w", id, scope, err)
	}
	return nil
}

// registration reads GitHub's record. Busy counts more than offline: a runner
// whose connection is lost runs its job all the same.
func registration(r *github.Runner) Registration {
	reg := Registration{ID: r.GetID(), Name: r.GetName(), State: fleet.Offline, Away: r.GetStatus() == "offline"}
	switch {
	case r.GetBusy():
		reg.State = fleet.BusyFlag
	case r.GetStatus() == "online":
		reg.State = fleet.Online
	}
	for _, l := range r.Labels {
		reg.Labels = append(reg.Labels, l.GetName())
	}
	return reg
}
