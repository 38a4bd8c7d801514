package hub

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestAppJWTIsCheckedForReal(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		now := f.h.clock.Now()
		id := fmt.Sprint(f.h.appID)
		stranger, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		claims := func(iss any, iat, exp time.Duration) map[string]any {
			return map[string]any{"iss": iss, "iat": now.Add(iat).Unix(), "exp": now.Add(exp).Unix()}
		}
		for name, c := range map[string]struct {
			credential string
			code       int
			says       string
		}{
			"app id as text":     {jwt(f.h.appKey, rs256, claims(id, -time.Minute, 9*time.Minute)), 200, `"slug"`},
			"app id as number":   {jwt(f.h.appKey, rs256, claims(f.h.appID, 0, 10*time.Minute)), 200, `"slug"`},
			"client id":          {jwt(f.h.appKey, rs256, claims(f.h.clientID, -time.Minute, time.Minute)), 200, `"slug"`},
			"another app":        {jwt(f.h.appKey, rs256, claims("77", -time.Minute, time.Minute)), 404, jwtNoApp},
			"another key":        {jwt(stranger, rs256, claims(id, -time.Minute, time.Minute)), 401, jwtUndecodable},
			"another algorithm":  {jwt(f.h.appKey, `{"alg":"none"}`, claims(id, -time.Minute, time.Minute)), 401, jwtUndecodable},
			"clock ahead":        {jwt(f.h.appKey, rs256, claims(id, 2*time.Minute, 9*time.Minute)), 401, jwtBadIssued},
			"clock behind":       {jwt(f.h.appKey, rs256, claims(id, -time.Hour, -50*time.Minute)), 401, jwtBadExpiry},
			"too long":           {jwt(f.h.appKey, rs256, claims(id, 0, 11*time.Minute)), 401, jwtFarExpiry},
			"no iat":             {jwt(f.h.appKey, rs256, map[string]any{"iss": id, "exp": now.Add(time.Minute).Unix()}), 401, jwtBadIssued},
			"rubbish":            {"rubbish", 401, jwtUndecodable},
			"installation token": {f.auth(), 401, jwtUndecodable},
		} {
			code, _, got := f.call(c.credential, http.MethodGet, "/app", nil)
			if code != c.code || !strings.Contains(string(got), c.says) {
				t.Errorf("%s: got %d %s, want %d and %q", name, code, got, c.code, c.says)
			}
		}
	})
}

func TestTokensAreNarrowedAndEnd(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		f.h.AddRepository(Repository{Name: "acme/secret", Private: true})
		app := f.h.repository("acme/app").id
		narrow := f.mint(map[string]any{
			"repository_ids": []RepositoryID{app}, "permissions": map[string]string{"actions": "read"},
		})
		if !strings.HasPrefix(narrow, fmt.Sprintf("ghs_%d_", f.h.appID)) || len(narrow) < 300 {
			t.Errorf("token: got %q, want the long form ghs_APPID_JWT", narrow)
		}
		wide := f.mint(nil)
		for _, c := range []struct {
			token, path string
			code        int
		}{
			{narrow, "/repos/acme/app/actions/runs", 200},
			{narrow, "/repos/acme/secret/actions/runs", 404}, // private: its existence is not told
			{narrow, "/repos/acme/site/actions/runs", 403},
			{narrow, "/repos/acme/app/actions/runners", 403},
			{narrow, "/orgs/acme/actions/runners", 403},
			{wide, "/repos/acme/secret/actions/runs", 200},
			{wide, "/orgs/acme/actions/runners", 200},
			{wide, "/orgs/umbrella/actions/runners", 404},
			{wide, "/repos/acme/none/actions/runners", 404},
			{f.appJWT(), "/repos/acme/app/actions/runs", 403},
		} {
			code, header, got := f.call(c.token, http.MethodGet, c.path, nil)
			if code != c.code {
				t.Errorf("GET %s: got %d %s, want %d", c.path, code, got, c.code)
			}
			if code == 403 && strings.HasSuffix(c.path, "app/actions/runners") &&
				header.Get("X-Accepted-GitHub-Permissions") != "administration=read" {
				t.Errorf("GET %s: got header %q, want the permission that is missing",
					c.path, header.Get("X-Accepted-GitHub-Permissions"))
			}
		}
		settle(time.Hour)
		if code, _, got := f.call(wide, http.MethodGet, "/orgs/acme/actions/runners", nil); code != 401 {
			t.Errorf("after an hour: got %d %s, want 401", code, got)
		}
	})
}

func TestSuspensionStopsTokens(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		f.auth()
		f.h.Suspend(f.in, true)
		if code, got := f.do(http.MethodGet, "/orgs/acme/actions/runners", nil); code != 403 {
			t.Errorf("token of a suspended installation: got %d %s, want 403", code, got)
		}
		path := fmt.Sprintf("/app/installations/%d/access_tokens", f.in)
		if code, _, got := f.call(f.appJWT(), http.MethodPost, path, nil); code != 403 {
			t.Errorf("mint for a suspended installation: got %d %s, want 403", code, got)
		}
		f.h.Suspend(f.in, false)
		if code, got := f.do(http.MethodGet, "/orgs/acme/actions/runners", nil); code != 200 {
			t.Errorf("after the suspension: got %d %s, want 200", code, got)
		}
		f.h.Uninstall(f.in)
		if code, got := f.do(http.MethodGet, "/orgs/acme/actions/runners", nil); code != 401 {
			t.Errorf("after the installation is gone: got %d %s, want 401", code, got)
		}
	})
}

func TestServesOverASocketAndUnderTheEnterprisePrefix(t *testing.T) {
	f := newFixture(t, Config{})
	token := f.mint(nil)
	s := httptest.NewServer(f.h)
	defer s.Close()
	for path, want := range map[string]int{
		"/orgs/acme/actions/runners": 200, "/api/v3/orgs/acme/actions/runners": 200,
		"/api/v3/nowhere": 404, "/nowhere": 404,
	} {
		req, err := http.NewRequest(http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "token "+token)
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
			t.Errorf("GET %s: got %d %s, want %d and JSON", path, resp.StatusCode, resp.Header.Get("Content-Type"), want)
		}
	}
	if code, got := f.do(http.MethodPut, "/orgs/acme/actions/runners", nil); code != 404 {
		t.Errorf("wrong method: got %d %s, want 404", code, got)
	}
}
