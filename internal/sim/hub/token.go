package hub

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tokenLife is how long an installation token works (OpenAPI description).
const tokenLife = time.Hour

type token struct {
	text        string
	in          *installation
	repos       map[RepositoryID]bool // nil means all of the installation's
	permissions Permissions
	expires     time.Time
}

func (t *token) covers(r *repository) bool {
	return t.in.covers(r) && (t.repos == nil || t.repos[r.id])
}

// tokenRequest may narrow the token.
type tokenRequest struct {
	Repositories  []string       `json:"repositories"`
	RepositoryIDs []RepositoryID `json:"repository_ids"`
	Permissions   Permissions    `json:"permissions"`
}

// createToken is POST /app/installations/{id}/access_tokens.
func (h *Hub) createToken(c *call) answer {
	in := h.installationByID(pathID(c.r, "installation_id"))
	if in == nil {
		return notFound()
	}
	if !in.suspended.IsZero() {
		return fail(http.StatusForbidden, "This installation has been suspended")
	}
	var req tokenRequest
	if len(c.body) > 0 {
		if json.Unmarshal(c.body, &req) != nil {
			return badJSON()
		}
	}
	repos, refusal, ok := h.narrow(in, req)
	if !ok {
		return refusal
	}
	permissions := in.permissions
	if req.Permissions != nil {
		for name, level := range req.Permissions {
			if !in.permissions.allows(name, level) {
				return fail(http.StatusUnprocessableEntity,
					"The permissions requested are not granted to this installation.")
			}
		}
		permissions = req.Permissions
		if permissions["metadata"] == "" && in.permissions["metadata"] != "" {
			permissions["metadata"] = "read" // comes with every repository permission
		}
	}
	t := h.mint(in, repos, permissions)
	body := map[string]any{
		"token": t.text, "expires_at": stamp(t.expires), "permissions": t.permissions,
		"repository_selection": "all",
	}
	if !in.all || repos != nil {
		body["repository_selection"] = "selected"
	}
	if repos != nil {
		body["repositories"] = h.wholeRepositories(t)
	}
	return created(body)
}

// narrow resolves the repositories a token is asked for; nil means all.
func (h *Hub) narrow(in *installation, req tokenRequest) (map[RepositoryID]bool, answer, bool) {
	if req.Repositories == nil && req.RepositoryIDs == nil {
		return nil, answer{}, true
	}
	refusal := fail(http.StatusUnprocessableEntity,
		"There is at least one repository that does not exist or is not accessible to the parent installation.")
	if len(req.Repositories)+len(req.RepositoryIDs) > 500 {
		return nil, fail(http.StatusUnprocessableEntity, "Too many repositories: at most 500 are allowed."), false
	}
	repos := map[RepositoryID]bool{}
	for _, name := range req.Repositories {
		r := h.repository(in.account.login + "/" + name)
		if r == nil || !in.covers(r) {
			return nil, refusal, false
		}
		repos[r.id] = true
	}
	for _, id := range req.RepositoryIDs {
		i := slices.IndexFunc(h.repositories, func(r *repository) bool { return r.id == id })
		if i < 0 || !in.covers(h.repositories[i]) {
			return nil, refusal, false
		}
		repos[id] = true
	}
	return repos, answer{}, true
}

// mint makes a token of the long form ghs_APPID_JWT that GitHub moves to since
// 2026-04-27; here it is only looked up, never verified.
func (h *Hub) mint(in *installation, repos map[RepositoryID]bool, p Permissions) *token {
	now := h.clock.Now()
	payload := fmt.Sprintf(`{"iat":%d,"exp":%d,"iid":%d,"jti":%q}`,
		now.Unix(), now.Add(tokenLife).Unix(), in.id, h.uuid())
	b64 := base64.RawURLEncoding.EncodeToString
	t := &token{
		text: fmt.Sprintf("ghs_%d_%s.%s.%s", h.appID, b64([]byte(`{"alg":"RS256","typ":"JWT"}`)),
			b64([]byte(payload)), b64(h.noise(256))),
		in: in, repos: repos, permissions: p, expires: now.Add(tokenLife),
	}
	h.tokens[t.text] = t
	h.secrets = append(h.secrets, t.text)
	return t
}

// noise is n bytes from the seed.
func (h *Hub) noise(n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		v := h.rng.Uint64()
		b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24),
			byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56))
	}
	return b[:n]
}

// authenticate finds the installation token of a request.
func (h *Hub) authenticate(r *http.Request) (*token, answer, bool) {
	credential, present := bearer(r)
	if !present {
		return nil, fail(http.StatusUnauthorized, "Requires authentication"), false
	}
	t := h.tokens[credential]
	switch {
	case t == nil && strings.Count(credential, ".") == 2:
		if _, err := verifyRS256(credential, &h.appKey.PublicKey); err == nil {
			return nil, fail(http.StatusForbidden, inaccessible), false // believed
		}
		return nil, fail(http.StatusUnauthorized, "Bad credentials"), false
	case t == nil, t.in.deleted, !h.clock.Now().Before(t.expires):
		return nil, fail(http.StatusUnauthorized, "Bad credentials"), false
	case !t.in.suspended.IsZero():
		return nil, fail(http.StatusForbidden, "This installation has been suspended"), false
	}
	return t, answer{}, true
}

const inaccessible = "Resource not accessible by integration"

// RevokeTokens makes every token minted so far worthless, before its hour.
func (h *Hub) RevokeTokens() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.tokens)
}

func (h *Hub) wholeRepositories(t *token) []json.RawMessage {
	list := []json.RawMessage{}
	for _, r := range h.repositories {
		if t.covers(r) {
			list = append(list, r.whole)
		}
	}
	return list
}

// listInstallationRepositories is GET /installation/repositories.
func (h *Hub) listInstallationRepositories(c *call) answer {
	all := h.wholeRepositories(c.token)
	p := paginate(c.r.URL.Query(), len(all))
	selection := "selected"
	if c.token.in.all && c.token.repos == nil {
		selection = "all"
	}
	return ok(map[string]any{
		"total_count": len(all), "repositories": all[p.from:p.to], "repository_selection": selection,
	}).paged(p, c.r)
}

// deleteToken is DELETE /installation/token.
func (h *Hub) deleteToken(c *call) answer {
	delete(h.tokens, c.token.text)
	return answer{code: http.StatusNoContent}
}

func badJSON() answer { return fail(http.StatusBadRequest, "Problems parsing JSON") }

func pathID(r *http.Request, name string) int64 {
	n, err := strconv.ParseInt(r.PathValue(name), 10, 64)
	if err != nil {
		return -1
	}
	return n
}
