package github

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/google/go-github/v62/github"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// defaultGroup is the id of an organisation's default group, and what
// repositories, which have no groups, want as well: leaving it out is a 422.
const defaultGroup = 1

// groupCache keeps the ids of runner groups by scope and lower-case name.
type groupCache struct {
	mu  sync.Mutex
	ids map[fleet.Scope]map[string]int64
}

func (g *groupCache) id(scope fleet.Scope, name string) (int64, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	id, ok := g.ids[scope][strings.ToLower(name)]
	return id, ok
}

func (g *groupCache) keep(scope fleet.Scope, groups []*github.RunnerGroup) {
	ids := map[string]int64{}
	for _, one := range groups {
		ids[strings.ToLower(one.GetName())] = one.GetID()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ids == nil {
		g.ids = map[fleet.Scope]map[string]int64{}
	}
	g.ids[scope] = ids
}

func (g *groupCache) forget(scope fleet.Scope) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.ids, scope)
}

func (c *Client) groupID(ctx context.Context, scope fleet.Scope, name string) (int64, error) {
	if name == "" {
		return defaultGroup, nil
	}
	if scope.Repo() {
		return 0, fmt.Errorf("runner group %q: only organisations have runner groups: %w", name, fleet.ErrInvalid)
	}
	if id, ok := c.groups.id(scope, name); ok {
		return id, nil
	}
	groups, err := c.listGroups(ctx, scope)
	if err != nil {
		return 0, fmt.Errorf("list runner groups of %s: %w", scope, err)
	}
	c.groups.keep(scope, groups)
	id, ok := c.groups.id(scope, name)
	if !ok {
		return 0, fmt.Errorf("runner group %q: %s has %s: %w", name, scope, groupNames(groups), fleet.ErrNotFound)
	}
	return id, nil
}

func groupNames(groups []*github.RunnerGroup) string {
	var names []string
	for _, g := range groups {
		names = append(names, fmt.Sprintf("%q", g.GetName()))
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (c *Client) listGroups(ctx context.Context, scope fleet.Scope) (found []*github.RunnerGroup, err error) {
	err = c.as(ctx, scope, read, orgRunners, func(ctx context.Context) (err error) {
		found, err = walk((*github.RunnerGroup).GetID, func(page github.ListOptions) ([]*github.RunnerGroup, int, *github.Response, error) {
			opts := &github.ListOrgRunnerGroupOptions{ListOptions: page}
			got, resp, err := c.gh.Actions.ListOrganizationRunnerGroups(ctx, scope.Owner(), opts)
			if err != nil {
				return nil, 0, nil, err
			}
			return got.RunnerGroups, got.TotalCount, resp, nil
		})
		return err
	})
	return found, err
}
