package github

import (
	"context"
	"fmt"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Contents makes tokens that read the files of a repository, and nothing else
// of any.
func (c *Client) Contents(repo string) *Contents { return &Contents{c, fleet.Scope(repo)} }

// Contents is made by Client.Contents.
type Contents struct {
	c    *Client
	repo fleet.Scope
}

// Token is a token that is good for half a minute at least.
func (t *Contents) Token(ctx context.Context) (fleet.Secret, error) {
	if err := checkScope(t.repo); err != nil {
		return fleet.Secret{}, err
	}
	if !t.repo.Repo() {
		return fleet.Secret{}, fmt.Errorf("repository %q: want owner/name: %w", t.repo, fleet.ErrInvalid)
	}
	_, text, err := t.c.tokens.token(ctx, t.repo, readContents)
	return fleet.NewSecret(text), err
}
