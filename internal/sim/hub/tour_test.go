package hub

import (
	"fmt"
	"net/http"
	"time"
)

func runPath(id RunID) string { return fmt.Sprintf("/repos/acme/app/actions/runs/%d", id) }
func jobPath(id JobID) string { return fmt.Sprintf("/repos/acme/app/actions/jobs/%d", id) }

// visit makes calls with the installation token: method, path, method, path …
func (f *fixture) visit(calls ...string) {
	f.t.Helper()
	for i := 0; i < len(calls); i += 2 {
		f.do(calls[i], calls[i+1], nil)
	}
}

// visitApp calls what takes the App's JWT.
func (f *fixture) visitApp() {
	f.t.Helper()
	one := fmt.Sprintf("/app/installations/%d", f.in)
	for _, path := range []string{
		"/app", "/app/installations?per_page=1", one, "/app/installations/1", "/repos/acme/app/installation",
		"/orgs/acme/installation", "/users/ada/installation", "/users/nobody/installation", "/app/hook/config",
	} {
		f.call(f.appJWT(), http.MethodGet, path, nil)
		f.call("rubbish", http.MethodGet, path, nil)
	}
	f.call(f.appJWT(), http.MethodPatch, "/app/hook/config", map[string]string{"url": "http://dayfly/webhook", "secret": "s3cret"})
	f.call(f.appJWT(), http.MethodPatch, "/app/hook/config", "{")
	tokens := one + "/access_tokens"
	for _, body := range []any{
		nil, map[string]any{"permissions": map[string]string{"actions": "read"}, "repositories": []string{"app"}},
		map[string]any{"repositories": []string{"nothing"}}, map[string]any{"permissions": map[string]string{"contents": "write"}},
	} {
		f.call(f.appJWT(), http.MethodPost, tokens, body)
	}
	f.call(f.appJWT(), http.MethodPost, "/app/installations/1/access_tokens", nil)
	f.call("rubbish", http.MethodPost, tokens, nil)
}

// visitDeliveries calls the deliveries API.
func (f *fixture) visitDeliveries() {
	f.t.Helper()
	settle(time.Second)
	const list = "/app/hook/deliveries"
	_, _, got := f.call(f.appJWT(), http.MethodGet, list+"?per_page=1", nil)
	var deliveries []struct{ ID int64 }
	f.decode(got, &deliveries)
	one := fmt.Sprintf("%s/%d", list, deliveries[0].ID)
	f.call(f.appJWT(), http.MethodGet, list+"?cursor=nonsense", nil)
	f.call(f.appJWT(), http.MethodGet, one, nil)
	f.call(f.appJWT(), http.MethodGet, list+"/1", nil)
	f.call(f.appJWT(), http.MethodPost, one+"/attempts", nil)
	f.call(f.appJWT(), http.MethodPost, list+"/1/attempts", nil)
}

// refuse makes every endpoint that takes an installation token fail for want of
// one.
func (f *fixture) refuse() {
	f.t.Helper()
	for _, path := range []string{
		"/orgs/acme/actions/runners", "/repos/acme/app/actions/runners", "/orgs/acme/actions/runner-groups",
		"/repos/acme/app/actions/runs", "/installation/repositories", "/rate_limit",
		"/orgs/acme/actions/runners/deprecations/2.335.1", "/repos/acme/app/actions/runners/deprecations/2.335.1",
	} {
		f.callWith(nil, http.MethodGet, path, nil)
		f.call("rubbish", http.MethodGet, path, nil)
	}
	f.h.Throttle(time.Minute)
	f.callWith(nil, http.MethodGet, "/meta", nil)
	settle(time.Minute)
}
