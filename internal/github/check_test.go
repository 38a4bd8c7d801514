package github

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

func TestEveryProblemSaysWhatToDo(t *testing.T) {
	read := hub.Permissions{"metadata": "read", "actions": "read"}
	tests := []struct {
		name    string
		prepare func(*fixture)
		scope   fleet.Scope
		want    []string // one for each problem
	}{
		{"none for an organisation", nil, "acme", nil},
		{"none for a repository", nil, "acme/app", nil},
		{"not installed", nil, "other", []string{"other: the App is not installed on it: open https://github.com/apps/"}},
		{"not a scope", nil, "a/b/c", []string{"it cannot be a scope"}},
		{"suspended", func(f *fixture) { f.hub.Suspend(f.in, true) }, "acme", []string{"is suspended: unsuspend it at https://"}},
		{"may not register with the organisation", func(f *fixture) { f.hub.Grant(f.in, read) }, "acme",
			[]string{"lacks the permission organization_self_hosted_runners: write: accept the App's new permissions at https://"}},
		{"may not register with the repository", func(f *fixture) { f.hub.Grant(f.in, read) }, "acme/app",
			[]string{"lacks the permission administration: write"}},
		{"may not read jobs", func(f *fixture) {
			f.hub.Grant(f.in, hub.Permissions{"metadata": "read", "administration": "write"})
		}, "acme/app", []string{"lacks the permission actions: read"}},
		{"public repository", func(f *fixture) { f.hub.AddRepository(hub.Repository{Name: "acme/site"}) }, "acme",
			[]string{`runner group "Default" does not allow public repositories; jobs of acme/site wait for ever`}},
		{"public repository that is allowed", func(f *fixture) {
			f.hub.AddRepository(hub.Repository{Name: "acme/site"})
			f.hub.AllowPublic("acme")
		}, "acme", nil},
		{"GitHub is down", func(f *fixture) {
			f.faults(func(*http.Request) stage.Fault { return refuse(503, "Unavailable") })
		}, "acme", []string{"GitHub is out of order: GitHub answered 503 Unavailable: see https://www.githubstatus.com"}},
		{"GitHub is out of reach", func(f *fixture) { f.faults(func(*http.Request) stage.Fault { return stage.Fault{Refuse: true} }) }, "acme",
			[]string{"GitHub is out of reach: unavailable: no answer from GitHub: "}},
		{"the App's quota is used up", func(f *fixture) {
			fault := refuse(403, "API rate limit exceeded for installation ID 1")
			fault.Header = quota(0, time.Hour)
			f.faults(on("GET", "/app", fault))
		}, "acme", []string{"GitHub cannot be asked about the App: rate limit until "}},
		{"groups cannot be read", func(f *fixture) { f.faults(on("GET", "/runner-groups", refuse(500, "oops"))) }, "acme",
			[]string{"cannot list runner groups: GitHub answered 500 oops"}},
		{"installation cannot be read", func(f *fixture) { f.faults(on("GET", "/installation", refuse(500, "oops"))) }, "acme",
			[]string{"cannot look for the App's installation: GitHub answered 500 oops"}},
		{"webhook sends forms without secret", func(f *fixture) {
			fault := refuse(200, "")
			fault.Body = `{"url":"https://x","content_type":"form","insecure_ssl":"1"}`
			f.faults(on("GET", "/app/hook/config", fault))
		}, "acme", []string{"webhook sends forms: set its content type", "has no secret: set one", "does not verify our certificate"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			story(t, hub.Config{}, func(t *testing.T, f *fixture) {
				if test.prepare != nil {
					test.prepare(f)
				}
				got := f.c.Check(t.Context(), []fleet.Scope{test.scope})
				if len(got) != len(test.want) {
					t.Fatalf("got %d problems %v, want %d", len(got), got, len(test.want))
				}
				for i, want := range test.want {
					if !strings.Contains(got[i].String(), want) {
						t.Errorf("got %q, want %q in it", got[i], want)
					}
				}
				f.clean("a problem", fmt.Sprint(got))
			})
		})
	}
}

func TestAnotherAppsKeyIsNamed(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		c, err := New(Config{URL: "https://api.github.example", App: f.hub.App().ClientID, Key: fleet.NewSecret(testKeys()["pkcs1"]), Transport: f.rec})
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(c.Check(t.Context(), []fleet.Scope{"acme"}))
		if !strings.Contains(got, "could not be decoded") || !strings.Contains(got, "the private key is not one of this App's") {
			t.Errorf("got %s, want that the key is another App's", got)
		}
	})
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		got := fmt.Sprint(f.client("99").Check(t.Context(), []fleet.Scope{"acme"}))
		if !strings.Contains(got, "Integration not found") || !strings.Contains(got, "check the App id") {
			t.Errorf("got %s, want that the App id is wrong", got)
		}
	})
}

func TestTheGroupOfAPoolIsChecked(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.hub.AddGroup("acme", hub.Group{Name: "Big"})
		f.hub.AddGroup("acme", hub.Group{Name: "strict", OnlyWorkflows: true, AllowsPublic: true})
		for i := range 5 {
			f.hub.AddRepository(hub.Repository{Name: fmt.Sprintf("acme/public-%d", i)})
		}
		tests := []struct{ group, want string }{
			{"none", `there is no runner group "none", only "Default", `},
			{"big", `"Big" does not allow public repositories; jobs of acme/public-0, acme/public-1, acme/public-2 and 2 more`},
			{"strict", "restricted to some workflows"},
		}
		for _, test := range tests {
			got := f.c.CheckGroup(t.Context(), "acme", test.group)
			if len(got) != 1 || !strings.Contains(got[0].String(), test.want) {
				t.Errorf("%s: got %v, want one problem: %s", test.group, got, test.want)
			}
		}
	})
}
