package hub

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

const (
	defaultGroup GroupID = 1
	hostedGroup  GroupID = 2 // GitHub's own runners; nobody can register there
)

// Group describes an organisation's runner group.
type Group struct {
	Name          string
	Repositories  []string // full names that may use it; nil means all
	AllowsPublic  bool     // public repositories may use it; GitHub's default is no
	OnlyWorkflows bool     // restricted_to_workflows
}

type group struct {
	id         GroupID
	name       string
	byDefault  bool
	visibility string // all or selected
	selected   map[string]bool
	public     bool
	workflows  bool
	account    *account
}

// AddGroup creates a runner group in the organisation.
func (h *Hub) AddGroup(org string, g Group) GroupID {
	h.enter()
	defer h.leave()
	acc := h.addAccount(org, false)
	n := &group{
		id: max(hostedGroup, acc.groups[len(acc.groups)-1].id) + 1, name: g.Name, visibility: "all",
		public: g.AllowsPublic, workflows: g.OnlyWorkflows, account: acc,
	}
	if g.Repositories != nil {
		n.visibility, n.selected = "selected", map[string]bool{}
		for _, r := range g.Repositories {
			n.selected[strings.ToLower(r)] = true
		}
	}
	acc.groups = append(acc.groups, n)
	return n.id
}

// AllowPublic lets public repositories use the organisation's default group.
func (h *Hub) AllowPublic(org string) {
	h.enter()
	defer h.leave()
	h.addAccount(org, false).groups[0].public = true
	h.dispatch()
}

func (a *account) group(id GroupID) *group {
	for _, g := range a.groups {
		if g.id == id {
			return g
		}
	}
	return nil
}

// admits reports whether jobs of the repository may use the group's runners.
func (g *group) admits(r *repository) bool {
	return r.owner == g.account && (r.private || g.public) &&
		(g.visibility == "all" || g.selected[strings.ToLower(r.full)])
}

func (g *group) json() map[string]any {
	url := fmt.Sprintf("%s/orgs/%s/actions/runner-groups/%d", apiURL, g.account.login, g.id)
	m := map[string]any{
		"id": g.id, "name": g.name, "visibility": g.visibility, "default": g.byDefault,
		"runners_url": url + "/runners", "hosted_runners_url": url + "/hosted-runners", "inherited": false,
		"allows_public_repositories": g.public, "restricted_to_workflows": g.workflows,
		"selected_workflows": []string{}, "workflow_restrictions_read_only": false,
	}
	if g.visibility == "selected" {
		m["selected_repositories_url"] = url + "/repositories"
	}
	return m
}

// listGroups is GET /orgs/{org}/actions/runner-groups.
func (h *Hub) listGroups(c *call) answer {
	list := slices.Clone(c.org.groups)
	if q := c.r.URL.Query(); q.Has("visible_to_repository") {
		repo := h.repository(c.org.login + "/" + q.Get("visible_to_repository"))
		if repo == nil {
			return notFound()
		}
		list = slices.DeleteFunc(list, func(g *group) bool { return !g.admits(repo) })
	}
	p := paginate(c.r.URL.Query(), len(list))
	groups := []map[string]any{}
	for _, g := range list[p.from:p.to] {
		groups = append(groups, g.json())
	}
	return ok(map[string]any{"total_count": len(list), "runner_groups": groups}).paged(p, c.r)
}

// showGroup is GET /orgs/{org}/actions/runner-groups/{runner_group_id}.
func (h *Hub) showGroup(c *call) answer {
	if g := c.org.group(GroupID(pathID(c.r, "runner_group_id"))); g != nil {
		return ok(g.json())
	}
	return fail(http.StatusNotFound, "Not Found")
}
