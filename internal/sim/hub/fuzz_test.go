package hub

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzServe: whatever is sent, the hub answers JSON or nothing, and no 5xx.
func FuzzServe(f *testing.F) {
	for _, e := range endpoints() {
		f.Add(e.method, strings.NewReplacer("{owner}", "acme", "{repo}", "app", "{org}", "acme").Replace(e.path), `{"name":"a"}`, true)
	}
	f.Add("POST", "/orgs/acme/actions/runners/generate-jitconfig", `{"name":"a","runner_group_id":1,"labels":["x"]}`, true)
	f.Add("GET", "/orgs/acme/actions/runners?per_page=-1&page=99999999999", "", true)
	f.Fuzz(func(t *testing.T, method, path, body string, known bool) {
		x := newFixture(t, Config{Seed: 1})
		x.check = nil
		u, err := url.ParseRequestURI(path)
		if err != nil || !strings.HasPrefix(path, "/") {
			t.Skip("not a request")
		}
		r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(body))
		r.Method, r.URL = method, u
		r.Header.Set("Authorization", "Bearer "+body)
		if known {
			r.Header.Set("Authorization", "Bearer "+x.auth())
		}
		w := httptest.NewRecorder()
		x.h.ServeHTTP(w, r)
		if w.Code >= 500 || w.Body.Len() > 0 && !json.Valid(w.Body.Bytes()) && w.Code != http.StatusMovedPermanently &&
			w.Code != http.StatusTemporaryRedirect {
			t.Errorf("%s %s: got %d %s", method, path, w.Code, w.Body)
		}
	})
}

// FuzzConnect: no JIT config but a minted one opens a session.
func FuzzConnect(f *testing.F) {
	f.Add("")
	f.Add("eyIucnVubmVyIjoiZTMwPSJ9")
	f.Fuzz(func(t *testing.T, config string) {
		if s, err := New(Config{}).Connect(config, "2.335.1"); err == nil {
			t.Errorf("connect with %q: got a session %v", config, s)
		}
	})
}
