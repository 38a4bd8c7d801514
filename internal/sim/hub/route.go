package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"strings"
	"time"
)

// auth is the credential an endpoint takes.
type auth int

const (
	byNone  auth = iota // anyone may ask
	byApp               // the App's JWT
	byToken             // an installation token
)

// endpoint is one method and path of the REST API.
type endpoint struct {
	method, path string // the path as in the OpenAPI description
	auth         auth
	needs        string // e.g. "administration=write"
	points       int    // what it costs under the secondary limit; 0 is GET's 1
	free         bool   // costs no quota
	do           func(*Hub, *call) answer
}

// call is one request on its way through an endpoint.
type call struct {
	r     *http.Request
	body  []byte
	end   *endpoint
	token *token
	repo  *repository // of a path with {owner}/{repo}
	org   *account    // of a path with {org}
}

// Most endpoints exist for a repository and for an organisation.
func both(method, tail, repoNeeds, orgNeeds string, do func(*Hub, *call) answer) []endpoint {
	points := 0
	if method != http.MethodGet {
		points = 5
	}
	return []endpoint{
		{method: method, path: "/repos/{owner}/{repo}" + tail, auth: byToken, needs: repoNeeds, points: points, do: do},
		{method: method, path: "/orgs/{org}" + tail, auth: byToken, needs: orgNeeds, points: points, do: do},
	}
}

// endpoints is the whole simulated API.
func endpoints() []endpoint {
	const (
		get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
		adminRead, adminWrite = "administration=read", "administration=write"
		orgRead, orgWrite     = "organization_self_hosted_runners=read", "organization_self_hosted_runners=write"
		runs                  = "/repos/{owner}/{repo}/actions/runs"
		hook                  = "/app/hook/deliveries"
	)
	list := []endpoint{
		{method: get, path: "/app", auth: byApp, do: (*Hub).showApp},
		{method: get, path: "/app/installations", auth: byApp, do: (*Hub).listInstallations},
		{method: get, path: "/app/installations/{installation_id}", auth: byApp, do: (*Hub).showInstallation},
		{method: post, path: "/app/installations/{installation_id}/access_tokens", auth: byApp, points: 5, do: (*Hub).createToken},
		{method: get, path: "/repos/{owner}/{repo}/installation", auth: byApp, do: (*Hub).findInstallation},
		{method: get, path: "/orgs/{org}/installation", auth: byApp, do: (*Hub).findInstallation},
		{method: get, path: "/users/{username}/installation", auth: byApp, do: (*Hub).findInstallation},
		{method: get, path: "/installation/repositories", auth: byToken, needs: "metadata=read", do: (*Hub).listInstallationRepositories},
		{method: del, path: "/installation/token", auth: byToken, points: 5, do: (*Hub).deleteToken},

		{method: get, path: "/app/hook/config", auth: byApp, do: (*Hub).showHookConfig},
		{method: patch, path: "/app/hook/config", auth: byApp, points: 5, do: (*Hub).changeHookConfig},
		{method: get, path: hook, auth: byApp, do: (*Hub).listDeliveries},
		{method: get, path: hook + "/{delivery_id}", auth: byApp, do: (*Hub).showDelivery},
		{method: post, path: hook + "/{delivery_id}/attempts", auth: byApp, points: 5, do: (*Hub).redeliver},

		{method: get, path: runs, auth: byToken, needs: "actions=read", do: (*Hub).listRuns},
		{method: get, path: runs + "/{run_id}", auth: byToken, needs: "actions=read", do: (*Hub).showRun},
		{method: get, path: runs + "/{run_id}/jobs", auth: byToken, needs: "actions=read", do: (*Hub).listRunJobs},
		{method: post, path: runs + "/{run_id}/rerun-failed-jobs", auth: byToken, needs: "actions=write", points: 5, do: (*Hub).rerunFailed},
		{method: post, path: "/repos/{owner}/{repo}/actions/jobs/{job_id}/rerun", auth: byToken, needs: "actions=write", points: 5, do: (*Hub).rerunJob},
		{method: get, path: "/repos/{owner}/{repo}/actions/jobs/{job_id}", auth: byToken, needs: "actions=read", do: (*Hub).showJob},

		{method: get, path: "/orgs/{org}/actions/runner-groups", auth: byToken, needs: orgRead, do: (*Hub).listGroups},
		{method: get, path: "/orgs/{org}/actions/runner-groups/{runner_group_id}", auth: byToken, needs: orgRead, do: (*Hub).showGroup},
		{method: get, path: "/orgs/{org}/actions/runner-groups/{runner_group_id}/runners", auth: byToken, needs: orgRead, do: (*Hub).listRunners},

		{method: post, path: "/repos/{owner}/{repo}/statuses/{sha}", auth: byToken, needs: "statuses=write", points: 5, do: (*Hub).createStatus},
		{method: post, path: "/repos/{owner}/{repo}/check-runs", auth: byToken, needs: "checks=write", points: 5, do: (*Hub).createCheck},

		{method: get, path: "/rate_limit", auth: byToken, free: true, do: (*Hub).showRateLimit},
		{method: get, path: "/meta", auth: byNone, do: (*Hub).showMeta},
	}
	list = append(list, both(post, "/actions/runners/generate-jitconfig", adminWrite, orgWrite, (*Hub).generateJIT)...)
	list = append(list, both(get, "/actions/runners", adminRead, orgRead, (*Hub).listRunners)...)
	list = append(list, both(get, "/actions/runners/{runner_id}", adminRead, orgRead, (*Hub).showRunner)...)
	list = append(list, both(del, "/actions/runners/{runner_id}", adminWrite, orgWrite, (*Hub).deleteRunner)...)
	list = append(list, both(get, "/actions/runners/deprecations/{version}", adminRead, orgRead, (*Hub).showDeprecation)...)
	return list
}

// routes builds the mux. Its catch-all makes a known path with a wrong method
// 404 too, as GitHub does, not 405.
func (h *Hub) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for _, e := range endpoints() {
		mux.HandleFunc(e.method+" "+e.path, func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, &e) })
	}
	unknown := &endpoint{do: func(*Hub, *call) answer { return notFound() }}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, unknown) })
	return mux
}

// ServeHTTP serves the REST API at / (api.github.com) and at /api/v3/ (where a
// GitHub Enterprise Server has it, and where clients with an own base URL look).
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rest, ok := strings.CutPrefix(r.URL.Path, "/api/v3"); ok && strings.HasPrefix(rest, "/") {
		u := *r.URL
		u.Path, u.RawPath = rest, ""
		r2 := *r
		r2.URL = &u
		r = &r2
	}
	h.mux.ServeHTTP(w, r)
}

// maxBody is more than any request to these endpoints needs.
const maxBody = 1 << 20

func (h *Hub) serve(w http.ResponseWriter, r *http.Request, e *endpoint) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return // the client went away before it had sent its request
	}
	c := &call{r: r, body: body, end: e}
	h.enter()
	a, delay, done := h.answer(c)
	h.leave()
	// The effect comes before the wait: a client that gives up early has
	// caused it all the same.
	time.Sleep(delay)
	done()
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.WriteHeader(a.code)
	if raw, ok := a.body.([]byte); ok && a.code != http.StatusNotModified {
		_, _ = w.Write(raw)
	}
}

// answer runs the call and turns its answer into bytes and headers.
func (h *Hub) answer(c *call) (a answer, delay time.Duration, done func()) {
	delay = h.timing.API
	done = func() {}
	a, charged := h.admit(c)
	if charged != nil {
		done = h.begin(charged)
		a = c.end.do(h, c)
		if strings.HasSuffix(c.r.URL.Path, "/generate-jitconfig") {
			delay += h.timing.JIT
		}
	}
	if a.header == nil {
		a.header = http.Header{}
	}
	a.header.Set("Date", h.clock.Now().Format(http.TimeFormat))
	a.header.Set("X-GitHub-Request-Id", fmt.Sprintf("%04X:%X", h.rng.Uint32()&0xffff, h.rng.Uint64()))
	a.header.Set("X-GitHub-Media-Type", "github.v3; format=json")
	if c.end.needs != "" {
		a.header.Set("X-Accepted-GitHub-Permissions", c.end.needs)
	}
	a.marshal()
	if c.r.Method == http.MethodGet && a.code == http.StatusOK {
		a = a.conditional(c)
	}
	if charged != nil {
		charged.charge(a.code, c.end.free)
		charged.headers(a.header)
	}
	return a, delay, done
}

// admit checks who asks, for what, and whether there is quota left. The bucket
// it returns is nil when the request ends here.
func (h *Hub) admit(c *call) (answer, *bucket) {
	key := "anonymous"
	switch c.end.auth {
	case byApp:
		if a, ok := h.checkJWT(c.r); !ok {
			return a, nil
		}
		key = "app"
	case byToken:
		t, a, ok := h.authenticate(c.r)
		if !ok {
			return a, nil
		}
		c.token = t
		key = fmt.Sprint(t.in.id)
	}
	b := h.bucket(key)
	if a, ok := h.withinLimits(c, b); !ok {
		b.headers(a.header)
		return a, nil
	}
	if a, ok := h.resolve(c); !ok {
		b.charge(a.code, c.end.free)
		if a.header == nil {
			a.header = http.Header{}
		}
		b.headers(a.header)
		return a, nil
	}
	return answer{}, b
}

// resolve finds the repository or organisation of the path and checks that the
// token reaches it and carries the permission.
func (h *Hub) resolve(c *call) (answer, bool) {
	if owner := c.r.PathValue("owner"); owner != "" {
		c.repo = h.repository(owner + "/" + c.r.PathValue("repo"))
		if c.repo == nil {
			return notFound(), false
		}
	}
	if org := c.r.PathValue("org"); org != "" {
		c.org = h.account(org)
		if c.org == nil || c.org.user {
			return notFound(), false
		}
	}
	if c.token == nil {
		return answer{}, true
	}
	if c.repo != nil && !c.token.covers(c.repo) {
		if c.repo.private {
			return notFound(), false
		}
		return fail(http.StatusForbidden, inaccessible), false
	}
	if c.org != nil && c.token.in.account != c.org {
		return fail(http.StatusForbidden, inaccessible), false
	}
	name, level, need := strings.Cut(c.end.needs, "=")
	if need && !c.token.permissions.allows(name, level) {
		return fail(http.StatusForbidden, inaccessible), false
	}
	return answer{}, true
}

// marshal turns the body into bytes.
func (a *answer) marshal() {
	if a.body == nil {
		return
	}
	a.header.Set("Content-Type", "application/json; charset=utf-8")
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(a.body); err != nil {
		panic(fmt.Sprintf("hub: marshal answer: %v", err))
	}
	a.body = buf.Bytes()
}

// conditional sets the ETag and answers 304 when the client has it already. The
// tag depends on the credential too: GitHub varies by Authorization, so a
// client loses its cache with each new token.
func (a answer) conditional(c *call) answer {
	raw, _ := a.body.([]byte)
	sum := fnv.New64a()
	_, _ = io.WriteString(sum, c.r.Header.Get("Authorization"))
	_, _ = sum.Write(raw)
	tag := fmt.Sprintf(`W/"%016x"`, sum.Sum64())
	a.header.Set("ETag", tag)
	a.header.Set("Cache-Control", "private, max-age=60, s-maxage=60")
	a.header.Set("Vary", "Accept, Authorization, Cookie, X-GitHub-OTP")
	if strings.Contains(c.r.Header.Get("If-None-Match"), strings.TrimPrefix(tag, "W/")) {
		a.code = http.StatusNotModified
		a.header.Del("Content-Type")
	}
	return a
}
