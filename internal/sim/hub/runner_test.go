package hub

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestJITRefusalsAreGitHubs(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		f.h.AddRepository(Repository{Name: "acme/closed", Private: true, RunnersDisabled: true})
		f.jit("acme", "taken", "linux")
		const org = "/orgs/acme"
		for _, c := range []struct {
			scope, body string
			code        int
			says        string
		}{
			{org, `{"name":"a","labels":["x"]}`, 422, "Invalid input: object is missing required key: runner_group_id"},
			{org, `{"runner_group_id":1,"labels":["x"]}`, 422, "missing required key: name"},
			{org, `{"name":"a","runner_group_id":1}`, 422, "missing required key: labels"},
			{org, `{"name":"a","runner_group_id":1,"labels":null}`, 422, "nil is not an array"},
			{org, `{"name":"a","runner_group_id":1,"labels":[]}`, 422, "properties/labels"},
			{org, `{"name":"a","runner_group_id":2,"labels":["x"]}`, 403, "managed by GitHub"},
			{org, `{"name":"a","runner_group_id":9,"labels":["x"]}`, 404, "Not Found"},
			{org, `{"name":"TAKEN","runner_group_id":1,"labels":["x"]}`, 409, "Already exists - A runner with the name *** already exists."},
			{org, `{"name":"` + strings.Repeat("x", 65) + `","runner_group_id":1,"labels":["x"]}`, 422, "name"},
			{org, `{`, 400, "Problems parsing JSON"},
			{"/repos/acme/app", `{"name":"a","runner_group_id":3,"labels":["x"]}`, 404, "Not Found"},
			{"/repos/acme/app", `{"name":"taken","runner_group_id":1,"labels":["x"]}`, 201, "encoded_jit_config"},
			{"/repos/acme/closed", `{"name":"a","runner_group_id":1,"labels":["x"]}`, 422, "Repository level self-hosted runners are disabled"},
		} {
			code, got := f.do(http.MethodPost, c.scope+"/actions/runners/generate-jitconfig", c.body)
			if code != c.code || !strings.Contains(string(got), c.says) {
				t.Errorf("%s: got %d %s, want %d and %q", c.body, code, got, c.code, c.says)
			}
		}
		if got := f.h.JITMinted(); got != 2 {
			t.Errorf("registrations made: got %d, want 2", got)
		}
	})
}

func TestJITConfigIsShapedLikeGitHubs(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		reply := f.jit("acme", "one", "linux")
		if n := len(reply.Config); n < 3000 || n > 5000 {
			t.Errorf("length: got %d, want about 4 KiB", n)
		}
		b, err := base64.StdEncoding.DecodeString(reply.Config)
		if err != nil {
			t.Fatal(err)
		}
		var files map[string][]byte
		f.decode(b, &files)
		var settings map[string]*string
		if err := json.Unmarshal(files[".runner"], &settings); err != nil {
			t.Fatalf("settings: %v, want text values only", err)
		}
		if got := *settings["AgentName"]; got != "one" {
			t.Errorf("AgentName: got %s, want one", got)
		}
		for _, name := range []string{".credentials", ".credentials_rsaparams"} {
			if !json.Valid(files[name]) {
				t.Errorf("%s: got %q, want JSON", name, files[name])
			}
		}
	})
}

func TestJITConfigWorksOnce(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		one := f.jit("acme", "one", "linux").Config
		g := f.guest(one)
		if _, err := f.h.Connect(one, "2.335.1"); !errors.Is(err, ErrConflict) {
			t.Errorf("second use: got %v, want a session conflict", err)
		}
		g.s.Close()
		if _, err := f.h.Connect(one, "2.335.1"); !errors.Is(err, ErrConflict) {
			t.Errorf("second use after the first ended: got %v, want a session conflict", err)
		}
		two := f.jit("acme", "two", "linux")
		f.do(http.MethodDelete, fmt.Sprintf("/orgs/acme/actions/runners/%d", two.Runner.ID), nil)
		if _, err := f.h.Connect(two.Config, "2.335.1"); !errors.Is(err, ErrGone) {
			t.Errorf("use after deletion: got %v, want it gone", err)
		}
		if _, err := f.h.Connect("bm9uc2Vuc2U=", "2.335.1"); !errors.Is(err, ErrBadConfig) {
			t.Errorf("nonsense: got %v, want a bad config", err)
		}
	})
}

func TestRunnersAreListedInPagesAndByName(t *testing.T) {
	story(t, Config{}, func(t *testing.T, f *fixture) {
		for i := range 5 {
			f.jit("acme", fmt.Sprintf("r%d", i), "linux")
		}
		_, header, got := f.call(f.auth(), http.MethodGet, "/orgs/acme/actions/runners?per_page=2&page=2", nil)
		var page struct {
			Total   int `json:"total_count"`
			Runners []runnerJSON
		}
		f.decode(got, &page)
		if page.Total != 5 || len(page.Runners) != 2 || page.Runners[0].Name != "r2" {
			t.Errorf("second page: got %+v, want r2 and r3 of 5", page)
		}
		for _, rel := range []string{`rel="next"`, `rel="prev"`, `rel="last"`, `rel="first"`, "page=3"} {
			if !strings.Contains(header.Get("Link"), rel) {
				t.Errorf("Link: got %s, want %s in it", header.Get("Link"), rel)
			}
		}
		_, got = f.do(http.MethodGet, "/orgs/acme/actions/runners?name=r3", nil)
		f.decode(got, &page)
		if page.Total != 1 || page.Runners[0].Name != "r3" {
			t.Errorf("by name: got %+v, want r3 alone", page)
		}
	})
}

func TestRegistrationsGoAway(t *testing.T) {
	story(t, Config{Habits: Habits{RemoveIdle: 1}}, func(t *testing.T, f *fixture) {
		f.jit("acme", "unused", "linux")
		idle := f.guest(f.jit("acme", "idle", "linux").Config)
		left := f.guest(f.jit("acme", "left", "linux").Config)
		left.s.Close()
		settle(6 * time.Minute)
		if !errors.Is(idle.closed, ErrGone) {
			t.Errorf("idle listener after 6 min: got %v, want it removed", idle.closed)
		}
		if got := len(f.h.Runners("acme")); got != 2 {
			t.Errorf("registrations after 6 min: got %d, want 2", got)
		}
		settle(24 * time.Hour)
		if got := f.h.Runners("acme"); len(got) != 0 {
			t.Errorf("registrations after a day: got %v, want none", got)
		}
	})
}

func TestVersionFloor(t *testing.T) {
	for policy, c := range map[VersionPolicy]struct{ connect, closed error }{
		RefuseMessages: {nil, ErrDeprecated}, RefuseSession: {ErrDeprecated, nil}, Starve: {nil, nil},
	} {
		story(t, Config{Versions: Versions{Policy: policy}}, func(t *testing.T, f *fixture) {
			id := f.h.QueueJob(NewJob{Repo: "acme/app", Labels: []string{"linux"}})
			s, err := f.h.Connect(f.jit("acme", "old", "linux").Config, "2.300.0")
			if !errors.Is(err, c.connect) {
				t.Errorf("policy %d: connect: got %v, want %v", policy, err, c.connect)
			}
			if err != nil {
				return
			}
			var closed error
			_ = s.Listen(Listener{
				Assigned: func(JobAssignment) { t.Errorf("policy %d: an old runner got a job", policy) },
				Closed:   func(err error) { closed = err },
			})
			if !errors.Is(closed, c.closed) {
				t.Errorf("policy %d: closed: got %v, want %v", policy, closed, c.closed)
			}
			if job, _ := f.h.Job(id); job.Status != StatusQueued {
				t.Errorf("policy %d: job: got %s, want queued", policy, job.Status)
			}
		})
	}
}

func TestDeprecationsShowAnnouncedEnds(t *testing.T) {
	end := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	story(t, Config{Versions: Versions{Ends: map[string]time.Time{"2.333.1": end}}}, func(t *testing.T, f *fixture) {
		_, got := f.do(http.MethodGet, "/orgs/acme/actions/runners/deprecations/2.333.1", nil)
		if !strings.Contains(string(got), `"runtime_deprecates_at":"2026-12-01T00:00:00Z"`) {
			t.Errorf("announced end: got %s, want 2026-12-01", got)
		}
		f.h.SetVersions(Versions{NoDeprecations: true})
		if code, got := f.do(http.MethodGet, "/orgs/acme/actions/runners/deprecations/2.333.1", nil); code != 404 {
			t.Errorf("older server: got %d %s, want 404", code, got)
		}
	})
}

func TestListsMayBeStale(t *testing.T) {
	story(t, Config{Habits: Habits{StaleLists: 1}}, func(t *testing.T, f *fixture) {
		count := func() int {
			_, got := f.do(http.MethodGet, "/orgs/acme/actions/runners", nil)
			var page struct {
				Total int `json:"total_count"`
			}
			f.decode(got, &page)
			return page.Total
		}
		f.jit("acme", "one", "linux")
		if got := count(); got != 0 {
			t.Errorf("at once: got %d runners, want none yet", got)
		}
		settle(staleBy)
		if got := count(); got != 1 {
			t.Errorf("5 s later: got %d runners, want 1", got)
		}
		f.do(http.MethodDelete, "/orgs/acme/actions/runners/1", nil)
		if got := count(); got != 1 {
			t.Errorf("just after deletion: got %d runners, want 1 still", got)
		}
	})
}
