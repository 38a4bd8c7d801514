package hub

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// appOwner is the organisation that the App belongs to.
func appOwner() *account {
	a := &account{id: 1001, login: "dayfly-ci"}
	a.render()
	return a
}

// showApp is GET /app.
func (h *Hub) showApp(*call) answer {
	return ok(map[string]any{
		"id": h.appID, "slug": appSlug, "node_id": nodeID("A", h.appID), "client_id": h.clientID,
		"owner": appOwner().json, "name": "dayfly sim", "description": "",
		"external_url": "https://dayfly.example.com", "html_url": "https://github.com/apps/" + appSlug,
		"created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z",
		"permissions": DefaultPermissions(), "events": []string{"workflow_job"},
		"installations_count": len(h.installations),
	})
}

// json is the installation schema.
func (h *Hub) installationJSON(in *installation) map[string]any {
	m := map[string]any{
		"id": in.id, "account": in.account.json, "repository_selection": "selected",
		"access_tokens_url": fmt.Sprintf("%s/app/installations/%d/access_tokens", apiURL, in.id),
		"repositories_url":  apiURL + "/installation/repositories",
		"html_url":          fmt.Sprintf("https://github.com/organizations/%s/settings/installations/%d", in.account.login, in.id),
		"app_id":            h.appID, "app_slug": appSlug, "client_id": h.clientID, "target_id": in.account.id,
		"target_type": in.account.kind(), "permissions": in.permissions, "events": []string{"workflow_job"},
		"created_at": stamp(in.created), "updated_at": stamp(in.created), "single_file_name": nil,
		"has_multiple_single_files": false, "single_file_paths": []string{}, "suspended_by": nil, "suspended_at": nil,
	}
	if in.all {
		m["repository_selection"] = "all"
	}
	if !in.suspended.IsZero() {
		m["suspended_by"], m["suspended_at"] = in.account.json, stamp(in.suspended)
	}
	return m
}

// installationEvent is the installation as webhooks carry it: its times are
// numbers there.
func (h *Hub) installationEvent(in *installation) map[string]any {
	m := h.installationJSON(in)
	m["created_at"], m["updated_at"] = in.created.Unix(), in.created.Unix()
	delete(m, "client_id")
	return m
}

// listInstallations is GET /app/installations.
func (h *Hub) listInstallations(c *call) answer {
	var live []*installation
	for _, in := range h.installations {
		if !in.deleted {
			live = append(live, in)
		}
	}
	p := paginate(c.r.URL.Query(), len(live))
	list := []map[string]any{}
	for _, in := range live[p.from:p.to] {
		list = append(list, h.installationJSON(in))
	}
	return ok(list).paged(p, c.r)
}

// showInstallation is GET /app/installations/{installation_id}.
func (h *Hub) showInstallation(c *call) answer {
	if in := h.installationByID(pathID(c.r, "installation_id")); in != nil {
		return ok(h.installationJSON(in))
	}
	return notFound()
}

// findInstallation finds the one of a repository, organisation or user.
func (h *Hub) findInstallation(c *call) answer {
	for _, in := range h.installations {
		switch {
		case in.deleted:
		case c.repo != nil && in.covers(c.repo), c.org != nil && in.account == c.org,
			c.r.PathValue("username") != "" && in.account == h.account(c.r.PathValue("username")):
			return ok(h.installationJSON(in))
		}
	}
	return notFound()
}

func (h *Hub) hookConfig() map[string]any {
	m := map[string]any{"content_type": "json", "insecure_ssl": "0", "url": h.webhook.URL}
	if h.webhook.Secret != "" {
		m["secret"] = "********"
	}
	return m
}

// showHookConfig is GET /app/hook/config.
func (h *Hub) showHookConfig(*call) answer { return ok(h.hookConfig()) }

// changeHookConfig is PATCH /app/hook/config.
func (h *Hub) changeHookConfig(c *call) answer {
	var req struct {
		URL    *string `json:"url"`
		Secret *string `json:"secret"`
	}
	if json.Unmarshal(c.body, &req) != nil {
		return badJSON()
	}
	if req.URL != nil {
		h.webhook.URL = *req.URL
	}
	if req.Secret != nil {
		h.webhook.Secret = *req.Secret
		h.secrets = append(h.secrets, *req.Secret)
	}
	return ok(h.hookConfig())
}

// showMeta is GET /meta, the part an allow-list needs.
func (h *Hub) showMeta(*call) answer {
	return answer{code: http.StatusOK, body: map[string]any{
		"verifiable_password_authentication": false, "ssh_keys": []string{},
		"hooks": []string{"192.30.252.0/22", "140.82.112.0/20", "2606:50c0::/32"},
		"api":   []string{"140.82.112.0/20"}, "actions": []string{"4.148.0.0/16"},
		"git": []string{"140.82.112.0/20"}, "web": []string{"140.82.112.0/20"},
	}}
}

// ChangeRepositories adds and removes repositories of an installation that
// covers selected ones, and sends installation_repositories.
func (h *Hub) ChangeRepositories(id InstallationID, added, removed []string) {
	h.enter()
	defer h.leave()
	in := h.installationByID(int64(id))
	if in == nil || in.all {
		return
	}
	change := func(action string, names []string, covered bool) {
		stubs := []map[string]any{}
		for _, name := range names {
			r := h.addRepository(Repository{Name: in.account.login + "/" + name, Private: true})
			in.selected[r.id] = covered
			stubs = append(stubs, r.stub())
		}
		lists := map[bool][]map[string]any{covered: stubs, !covered: {}}
		h.send(0, &parcel{event: "installation_repositories", action: action, in: in.id, body: must(map[string]any{
			"action": action, "installation": h.installationEvent(in), "repository_selection": "selected",
			"repositories_added": lists[true], "repositories_removed": lists[false],
			"requester": nil, "sender": in.account.json,
		})})
	}
	if len(added) > 0 {
		change("added", added, true)
	}
	if len(removed) > 0 {
		change("removed", removed, false)
	}
}
