package github

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Deprecation tells from when on runners of a version of actions/runner get no
// jobs; zero: that is not announced. fleet.ErrNotFound: this server does not
// answer the question (changelog of 2026-09-03; not on Enterprise Server yet).
func (c *Client) Deprecation(ctx context.Context, scope fleet.Scope, version string) (time.Time, error) {
	kind := "orgs/"
	if scope.Repo() {
		kind = "repos/"
	}
	path := kind + string(scope) + "/actions/runners/deprecations/" + url.PathEscape(version)
	var answer struct {
		Runtime *time.Time `json:"runtime_deprecates_at"`
	}
	err := c.as(ctx, scope, read, runners(scope), func(ctx context.Context) error {
		req, err := c.gh.NewRequest("GET", path, nil)
		if err == nil {
			_, err = c.gh.Do(ctx, req, &answer)
		}
		return err
	})
	switch {
	case gone(err):
		return time.Time{}, fmt.Errorf("ask when runner %s ends: %w: %w", version, fleet.ErrNotFound, err)
	case err != nil:
		return time.Time{}, fmt.Errorf("ask when runner %s ends: %w", version, err)
	case answer.Runtime == nil:
		return time.Time{}, nil
	}
	return *answer.Runtime, nil
}

// URL is the address of the API.
func (c *Client) URL() string { return c.gh.BaseURL.String() }
