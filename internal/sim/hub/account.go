package hub

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// GroupID is a runner group's id; 1 is the default group.
type GroupID int64

type account struct {
	id     int64
	login  string
	user   bool
	groups []*group
	json   json.RawMessage // as simple-user
	// organization is the form in which webhooks carry it too, nil for a user.
	organization json.RawMessage
}

// RepositoryID is a repository's id.
type RepositoryID int64

// Repository describes a repository.
type Repository struct {
	Name    string // owner and name, e.g. acme/app
	Private bool
	Fork    bool
	Forks   int // how many forks it has
	// RunnersDisabled: repository level self-hosted runners are forbidden.
	RunnersDisabled bool
}

type repository struct {
	id       RepositoryID
	owner    *account
	name     string
	full     string
	private  bool
	fork     bool
	forks    int
	disabled bool
	created  time.Time
	whole    json.RawMessage // as in a webhook and in /installation/repositories
	minimal  json.RawMessage // as in a workflow run
	runs     []*run
}

// AddRepository creates a repository, and its owner if need be.
func (h *Hub) AddRepository(r Repository) RepositoryID {
	h.enter()
	defer h.leave()
	return h.addRepository(r).id
}

func (h *Hub) addRepository(r Repository) *repository {
	if have := h.repository(r.Name); have != nil {
		return have
	}
	owner, name, ok := strings.Cut(r.Name, "/")
	if !ok {
		panic(fmt.Sprintf("hub: repository %q is not owner/name", r.Name))
	}
	repo := &repository{
		id: RepositoryID(700_000_000 + h.number()), owner: h.addAccount(owner, false), name: name,
		full: r.Name, private: r.Private, fork: r.Fork, forks: r.Forks, disabled: r.RunnersDisabled,
		created: h.clock.Now(),
	}
	repo.render(repo.created)
	h.repositories = append(h.repositories, repo)
	return repo
}

func (h *Hub) addAccount(login string, user bool) *account {
	for _, a := range h.accounts {
		if strings.EqualFold(a.login, login) {
			return a
		}
	}
	a := &account{id: 20_000_000 + h.number(), login: login, user: user}
	a.groups = []*group{{
		id: defaultGroup, name: "Default", byDefault: true, visibility: "all", account: a,
	}}
	a.render()
	h.accounts = append(h.accounts, a)
	return a
}

func (h *Hub) account(login string) *account {
	for _, a := range h.accounts {
		if strings.EqualFold(a.login, login) {
			return a
		}
	}
	return nil
}

// repository finds one by its full name; GitHub ignores case.
func (h *Hub) repository(full string) *repository {
	for _, r := range h.repositories {
		if strings.EqualFold(r.full, full) {
			return r
		}
	}
	return nil
}

const apiURL = "https://api.github.com"

func (a *account) kind() string {
	if a.user {
		return "User"
	}
	return "Organization"
}

// render writes the account in GitHub's forms, once.
func (a *account) render() {
	u := apiURL + "/users/" + a.login
	a.json = must(map[string]any{
		"login": a.login, "id": a.id, "node_id": nodeID("U", a.id), "gravatar_id": "",
		"avatar_url":          fmt.Sprintf("https://avatars.githubusercontent.com/u/%d?v=4", a.id),
		"url":                 u,
		"html_url":            "https://github.com/" + a.login,
		"followers_url":       u + "/followers",
		"following_url":       u + "/following{/other_user}",
		"gists_url":           u + "/gists{/gist_id}",
		"starred_url":         u + "/starred{/owner}{/repo}",
		"subscriptions_url":   u + "/subscriptions",
		"organizations_url":   u + "/orgs",
		"repos_url":           u + "/repos",
		"events_url":          u + "/events{/privacy}",
		"received_events_url": u + "/received_events",
		"type":                a.kind(), "site_admin": false,
	})
	if a.user {
		return
	}
	u = apiURL + "/orgs/" + a.login
	a.organization = must(map[string]any{
		"login": a.login, "id": a.id, "node_id": nodeID("O", a.id), "url": u,
		"repos_url": u + "/repos", "events_url": u + "/events", "hooks_url": u + "/hooks",
		"issues_url": u + "/issues", "members_url": u + "/members{/member}",
		"public_members_url": u + "/public_members{/member}",
		"avatar_url":         fmt.Sprintf("https://avatars.githubusercontent.com/u/%d?v=4", a.id),
		"description":        "",
	})
}

// repositoryURLs are the hypermedia links of a repository, below its API URL.
var repositoryURLs = map[string]string{
	"forks_url": "/forks", "keys_url": "/keys{/key_id}", "teams_url": "/teams", "hooks_url": "/hooks",
	"collaborators_url": "/collaborators{/collaborator}", "issue_events_url": "/issues/events{/number}",
	"events_url": "/events", "assignees_url": "/assignees{/user}", "branches_url": "/branches{/branch}",
	"tags_url": "/tags", "blobs_url": "/git/blobs{/sha}", "git_tags_url": "/git/tags{/sha}",
	"git_refs_url": "/git/refs{/sha}", "trees_url": "/git/trees{/sha}", "statuses_url": "/statuses/{sha}",
	"languages_url": "/languages", "stargazers_url": "/stargazers", "contributors_url": "/contributors",
	"subscribers_url": "/subscribers", "subscription_url": "/subscription", "commits_url": "/commits{/sha}",
	"git_commits_url": "/git/commits{/sha}", "comments_url": "/comments{/number}",
	"issue_comment_url": "/issues/comments{/number}", "contents_url": "/contents/{+path}",
	"compare_url": "/compare/{base}...{head}", "merges_url": "/merges",
	"archive_url": "/{archive_format}{/ref}", "downloads_url": "/downloads",
	"issues_url": "/issues{/number}", "pulls_url": "/pulls{/number}",
	"milestones_url":    "/milestones{/number}",
	"notifications_url": "/notifications{?since,all,participating}", "labels_url": "/labels{/name}",
	"releases_url": "/releases{/id}", "deployments_url": "/deployments",
}

// render writes the repository in GitHub's two forms, once.
func (r *repository) render(created time.Time) {
	url := apiURL + "/repos/" + r.full
	web := "https://github.com/" + r.full
	m := map[string]any{
		"id": r.id, "node_id": nodeID("R", int64(r.id)), "name": r.name, "full_name": r.full,
		"private": r.private, "owner": r.owner.json, "html_url": web, "description": nil,
		"fork": r.fork, "url": url,
	}
	for k, suffix := range repositoryURLs {
		m[k] = url + suffix
	}
	r.minimal = must(m)
	visibility := "public"
	if r.private {
		visibility = "private"
	}
	for k, v := range map[string]any{
		"created_at": stamp(created), "updated_at": stamp(created), "pushed_at": stamp(created),
		"git_url": "git://github.com/" + r.full + ".git", "ssh_url": "git@github.com:" + r.full + ".git",
		"clone_url": web + ".git", "svn_url": web, "homepage": nil, "size": 108,
		"stargazers_count": 0, "watchers_count": 0, "language": nil, "has_issues": true,
		"has_projects": true, "has_downloads": true, "has_wiki": true, "has_pages": false,
		"has_discussions": false, "forks_count": r.forks, "mirror_url": nil, "archived": false,
		"disabled": false, "open_issues_count": 0, "license": nil, "allow_forking": true,
		"is_template": false, "web_commit_signoff_required": false, "topics": []string{},
		"visibility": visibility, "forks": r.forks, "open_issues": 0, "watchers": 0,
		"default_branch": "main", "custom_properties": map[string]any{},
	} {
		m[k] = v
	}
	r.whole = must(m)
}
