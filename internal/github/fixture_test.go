package github

import (
	"bytes"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
	"github.com/dayfly-ci/dayfly/test/openapi"
)

// fixture is a client of a simulated GitHub in which the App is installed on
// the organisation acme.
type fixture struct {
	t   testing.TB
	c   *Client
	hub *hub.Hub
	in  hub.InstallationID
	rec *openapi.Recorder
	log *journal

	points int // GitHub's, as configured

	mu    sync.Mutex
	fault func(*http.Request) stage.Fault
}

// journal is a log that may be read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// story runs one in a bubble, where time is virtual. Afterwards every request
// must be as GitHub's description says, and no secret may be in the log.
func story(t *testing.T, cfg hub.Config, tell func(*testing.T, *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, cfg)
		tell(t, f)
		time.Sleep(2 * time.Hour) // virtual: requests that hang come to their end
		f.hub.Close()
		if openapi.Missing() == nil {
			f.rec.CheckRequests(t)
		}
		f.clean("the log", f.log.String())
	})
}

func newFixture(t testing.TB, cfg hub.Config) *fixture {
	if cfg.Clock == nil {
		cfg.Clock = &stage.Clock{}
	}
	f := &fixture{t: t, hub: hub.New(cfg), log: &journal{}, points: cfg.Limits.Points}
	f.hub.AddRepository(hub.Repository{Name: "acme/app", Private: true})
	f.in = f.hub.AddInstallation(hub.Installation{Account: "acme"})
	faulty := stage.WithFaults(f.hub, cfg.Clock, func(r *http.Request) stage.Fault {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.fault == nil {
			return stage.Fault{}
		}
		return f.fault(r)
	})
	f.rec = openapi.Record(stage.Transport{Handler: faulty})
	f.c = f.client(f.hub.App().ClientID)
	return f
}

func (f *fixture) client(app string) *Client {
	f.t.Helper()
	c, err := New(Config{
		URL: "https://api.github.example", App: app, Key: fleet.NewSecret(string(f.hub.App().PEM)), Transport: f.rec, Points: f.points,
		Log: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// faults decides what goes wrong with the requests from now on.
func (f *fixture) faults(decide func(*http.Request) stage.Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = decide
}

// on gives a fault to requests of a method to paths that end so.
func on(method, suffix string, fault stage.Fault) func(*http.Request) stage.Fault {
	return func(r *http.Request) stage.Fault {
		if r.Method == method && strings.HasSuffix(r.URL.Path, suffix) {
			return fault
		}
		return stage.Fault{}
	}
}

// clean fails if one of the hub's secrets is in text.
func (f *fixture) clean(where, text string) {
	f.t.Helper()
	for _, secret := range f.hub.Secrets() {
		if secret != "" && strings.Contains(text, secret) {
			f.t.Errorf("%s holds a secret (%d bytes): %.200s…", where, len(secret), text)
		}
	}
}

// guest connects a runner with a JIT config and lets it take jobs.
func (f *fixture) guest(config string) *hub.Session {
	f.t.Helper()
	s, err := f.hub.Connect(config, "2.335.1")
	if err != nil {
		f.t.Fatal(err)
	}
	err = s.Listen(hub.Listener{
		Assigned:  func(j hub.JobAssignment) { _ = s.Start(j.ID) },
		Cancelled: func(id hub.JobID) { _ = s.Finish(id, hub.Cancelled) },
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// mint is JIT that must succeed.
func (f *fixture) mint(scope fleet.Scope, name string) (Registration, fleet.Secret) {
	f.t.Helper()
	reg, config, err := f.c.JIT(f.t.Context(), scope, name, []string{"self-hosted", "linux"}, "")
	if err != nil {
		f.t.Fatal(err)
	}
	return reg, config
}

const jitPath = "/actions/runners/generate-jitconfig"

// refuse is a fault that answers like GitHub.
func refuse(code int, message string) stage.Fault {
	return stage.Fault{
		Code: code, Reason: http.StatusText(code), Body: `{"message":"` + message + `","documentation_url":"https://docs.github.com/rest"}`,
		Header: http.Header{"Content-Type": {"application/json; charset=utf-8"}},
	}
}

// quota are the headers of a primary limit.
func quota(left int, in time.Duration) http.Header {
	return http.Header{
		"Content-Type":          {"application/json; charset=utf-8"},
		"X-Ratelimit-Limit":     {"5000"},
		"X-Ratelimit-Remaining": {strconv.Itoa(left)},
		"X-Ratelimit-Resource":  {"core"},
		"X-Ratelimit-Reset":     {strconv.FormatInt(time.Now().Add(in).Unix(), 10)},
	}
}

// pass lets virtual time pass.
func pass(d time.Duration) { time.Sleep(d) }
