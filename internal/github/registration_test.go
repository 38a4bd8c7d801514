package github

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

func TestARunnerIsRegisteredFoundAndDeregistered(t *testing.T) {
	for _, scope := range []fleet.Scope{"acme", "acme/app"} {
		story(t, hub.Config{}, func(t *testing.T, f *fixture) {
			ctx := t.Context()
			reg, config := f.mint(scope, "dayfly-p-1")
			want := Registration{ID: reg.ID, Name: "dayfly-p-1", State: fleet.Offline, Away: true, Labels: []string{"self-hosted", "linux"}}
			if d := cmp.Diff(want, reg); d != "" || reg.ID == 0 {
				t.Errorf("registration (-want +got):\n%s", d)
			}
			f.guest(config.Reveal())
			want.State, want.Away = fleet.Online, false
			found, ok, err := f.c.Find(ctx, scope, "dayfly-p-1")
			if d := cmp.Diff(want, found); err != nil || !ok || d != "" {
				t.Errorf("find: got %v %v (-want +got):\n%s", ok, err, d)
			}
			if all, err := f.c.Registrations(ctx, scope); err != nil || cmp.Diff([]Registration{want}, all) != "" {
				t.Errorf("list: got %v %v, want %v", all, err, want)
			}
			if _, ok, err := f.c.Find(ctx, scope, "dayfly-p"); ok || err != nil {
				t.Errorf("find part of the name: got %v %v, want none", ok, err)
			}
			for range 2 { // the second time it is gone already
				if err := f.c.Deregister(ctx, scope, reg.ID); err != nil {
					t.Errorf("deregister: %v", err)
				}
			}
			if left := f.hub.Runners(""); len(left) != 0 {
				t.Errorf("got registrations %v left, want none", left)
			}
		})
	}
}

func TestARunnerWithAJobIsBusy(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		reg, config := f.mint("acme", "dayfly-p-1")
		f.guest(config.Reveal())
		f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"linux"}, Duration: time.Hour})
		synctest.Wait()
		got, _, err := f.c.Find(t.Context(), "acme", "dayfly-p-1")
		if err != nil || got.State != fleet.BusyFlag {
			t.Errorf("got %v %v, want busy", got.State, err)
		}
		if err := f.c.Deregister(t.Context(), "acme", reg.ID); !errors.Is(err, fleet.ErrBusy) {
			t.Errorf("deregister: got %v, want %v", err, fleet.ErrBusy)
		}
	})
}

func TestEveryPageOfRegistrationsIsRead(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		for i := range 250 {
			f.hub.AddOffline("acme", fmt.Sprintf("machine-%d", i), "linux")
		}
		all, err := f.c.Registrations(t.Context(), "acme")
		if err != nil || len(all) != 250 || f.rec.Count("GET", "/actions/runners") != 3 {
			t.Errorf("got %d, %v by %d requests, want 250 by 3", len(all), err, f.rec.Count("GET", "/actions/runners"))
		}
	})
}

// The refusals of a JIT config: kind, GitHub's words, and what to do.
func TestEveryRefusalOfAJITConfigIsTypedAndExplained(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(*fixture)
		scope   fleet.Scope
		group   string
		kind    error
		says    []string
	}{
		{"name taken", func(f *fixture) { f.hub.AddOffline("acme", "dayfly-p-1", "x") }, "acme", "", fleet.ErrExists,
			[]string{"mint JIT config for dayfly-p-1 in acme", "409", "already exists"}},
		{"no such group", nil, "acme", "big", fleet.ErrNotFound, []string{`runner group "big"`, `"Default"`}},
		{"group of a repository", nil, "acme/app", "big", fleet.ErrInvalid, []string{"only organisations have runner groups"}},
		{"no installation", nil, "other", "", fleet.ErrNotFound, []string{"find installation for other", "404"}},
		{"repository that is not there", nil, "acme/none", "", fleet.ErrNotFound, []string{"acme/none", "404"}},
		{"not a scope", nil, "acme/app/../../x", "", fleet.ErrInvalid, []string{"want an organisation or owner/repository"}},
		{"runners disabled", func(f *fixture) {
			f.hub.AddRepository(hub.Repository{Name: "acme/closed", RunnersDisabled: true})
		}, "acme/closed", "", fleet.ErrDenied, []string{"Repository level self-hosted runners are disabled", "allow self-hosted runners"}},
		{"permission not granted", func(f *fixture) {
			f.hub.Grant(f.in, hub.Permissions{"actions": "read", "metadata": "read"})
		}, "acme", "", fleet.ErrDenied, []string{"organization_self_hosted_runners: write", "accept it on the installation"}},
		{"permission refused", func(f *fixture) {
			fault := refuse(403, "Resource not accessible by integration")
			fault.Header.Set("X-Accepted-GitHub-Permissions", "administration=write")
			f.faults(on("POST", jitPath, fault))
		}, "acme/app", "", fleet.ErrDenied, []string{"403", "(the call needs administration=write)", "grant the permission"}},
		{"address not allowed", func(f *fixture) {
			f.faults(on("POST", jitPath, refuse(403, "Although you appear to have the correct authorization credentials, the `acme` organization has an IP allow list enabled, and your IP address is not permitted to access this resource.")))
		}, "acme", "", fleet.ErrDenied, []string{"add this host's public address"}},
		{"suspended", func(f *fixture) { f.hub.Suspend(f.in, true) }, "acme", "", fleet.ErrDenied, []string{"suspended", "unsuspend"}},
		{"group full", func(f *fixture) {
			f.hub.AddOffline("acme", "x", "x")
			f.hub.SetLimits(hub.Limits{RunnersPerGroup: 1})
		}, "acme", "", fleet.ErrUnavailable, []string{"has reached max limit of 1 runners", "remove registrations"}},
		{"schema", func(f *fixture) {
			f.faults(on("POST", jitPath, refuse(422, "Invalid input: object is missing required key: runner_group_id")))
		}, "acme", "", fleet.ErrInvalid, []string{"422", "missing required key"}},
		{"moved", func(f *fixture) { f.faults(on("POST", jitPath, refuse(301, "Moved Permanently"))) },
			"acme/app", "", fleet.ErrNotFound, []string{"write its present name"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			story(t, hub.Config{}, func(t *testing.T, f *fixture) {
				if test.prepare != nil {
					test.prepare(f)
				}
				minted := f.hub.JITMinted()
				_, config, err := f.c.JIT(t.Context(), test.scope, "dayfly-p-1", []string{"linux"}, test.group)
				if !errors.Is(err, test.kind) || errors.Is(err, fleet.ErrUnknownOutcome) || !config.Empty() {
					t.Fatalf("got %v, want %v", err, test.kind)
				}
				for _, s := range test.says {
					if !strings.Contains(err.Error(), s) {
						t.Errorf("got %q, want %q in it", err, s)
					}
				}
				if n := f.rec.Count("POST", jitPath); n > 1 || f.hub.JITMinted() != minted {
					t.Errorf("got %d requests and %d configs, want at most one and none", n, f.hub.JITMinted()-minted)
				}
				f.clean("the error", err.Error())
			})
		})
	}
}

// A JIT request whose answer is lost may have registered a runner. It is never
// repeated; the name tells.
func TestALostAnswerToAJITRequestIsAnUnknownOutcome(t *testing.T) {
	tests := []struct {
		name  string
		fault stage.Fault
		took  time.Duration
	}{
		{"hung up after the effect", stage.Fault{Lose: true}, 0},
		{"hung up before it", stage.Fault{Refuse: true}, 0},
		{"502 after the effect", stage.Fault{Code: 502, Reason: "Bad Gateway", Body: "<html>", Applied: true}, 0},
		{"500 without it", refuse(500, "Server Error"), 0},
		{"504", stage.Fault{Code: 504, Reason: "Gateway Timeout", Applied: true}, 0},
		{"no answer in 10 s", stage.Fault{Delay: time.Minute}, 10 * time.Second},
		{"half an answer", stage.Fault{Code: 201, Reason: "Created", Body: `{"runner":{"id":1`, Applied: true}, 0},
		{"an answer without config", stage.Fault{Code: 201, Reason: "Created", Body: `{"runner":{"id":1}}`, Applied: true}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			story(t, hub.Config{}, func(t *testing.T, f *fixture) {
				f.faults(on("POST", jitPath, test.fault))
				start := time.Now()
				_, _, err := f.c.JIT(t.Context(), "acme", "dayfly-p-1", []string{"linux"}, "")
				if !errors.Is(err, fleet.ErrUnknownOutcome) || errors.Is(err, fleet.ErrUnavailable) {
					t.Fatalf("got %v, want %v", err, fleet.ErrUnknownOutcome)
				}
				if got := time.Since(start); got != test.took {
					t.Errorf("took %v, want %v", got, test.took)
				}
				if n := f.rec.Count("POST", jitPath); n != 1 {
					t.Errorf("got %d requests, want one", n)
				}
				f.faults(nil)
				synctest.Wait()
				_, ok, err := f.c.Find(t.Context(), "acme", "dayfly-p-1")
				if want := len(f.hub.Runners("")) == 1; err != nil || ok != want {
					t.Errorf("find: got %v %v, want %v", ok, err, want)
				}
			})
		})
	}
}

func TestACancelledJITRequestIsAnUnknownOutcome(t *testing.T) {
	story(t, hub.Config{Timing: hub.Timing{JIT: 5 * time.Second}}, func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err := f.c.JIT(ctx, "acme", "dayfly-p-1", []string{"linux"}, "")
		// go-github returns the bare error of the context.
		if !errors.Is(err, fleet.ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v and %v", err, fleet.ErrUnknownOutcome, context.DeadlineExceeded)
		}
		if n := len(f.hub.Runners("")); n != 1 {
			t.Errorf("got %d registrations, want the one whose answer was not awaited", n)
		}
	})
}

func TestAJITRequestThatNeverLeftHasNoEffect(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.faults(on("POST", "/access_tokens", stage.Fault{Delay: time.Hour}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err := f.c.JIT(ctx, "acme", "dayfly-p-1", []string{"linux"}, "")
		if !errors.Is(err, fleet.ErrUnavailable) || errors.Is(err, fleet.ErrUnknownOutcome) {
			t.Errorf("no token in time: got %v, want %v", err, fleet.ErrUnavailable)
		}
	})
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		w := &wire{base: dialError{}, clock: f.c.clock, limits: f.c.limits, cache: newCache(), log: f.c.log}
		_, err := w.exchange(httpRequest(t), &call{class: mint, bound: time.Second})
		if !errors.Is(err, fleet.ErrUnavailable) {
			t.Errorf("no connection: got %v, want %v", err, fleet.ErrUnavailable)
		}
	})
}

type dialError struct{}

func (dialError) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
}

func httpRequest(t *testing.T) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.github.example/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// go-github sends nil labels as null, which GitHub refuses.
func TestNoLabelsAreNeverSent(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		for _, labels := range [][]string{nil, {}, slices.Repeat([]string{"x"}, 101)} {
			if _, _, err := f.c.JIT(t.Context(), "acme", "n", labels, ""); !errors.Is(err, fleet.ErrInvalid) {
				t.Errorf("%d labels: got %v, want %v", len(labels), err, fleet.ErrInvalid)
			}
		}
		if _, _, err := f.c.JIT(t.Context(), "acme", "", []string{"x"}, ""); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("no name: got %v, want %v", err, fleet.ErrInvalid)
		}
		if n := f.rec.Count("POST", jitPath); n != 0 {
			t.Errorf("got %d requests, want none", n)
		}
	})
}

func TestARunnerGroupIsLookedUpOnce(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		id := f.hub.AddGroup("acme", hub.Group{Name: "Big Ones"})
		for i := range 3 {
			if _, _, err := f.c.JIT(t.Context(), "acme", fmt.Sprintf("n%d", i), []string{"x"}, "big ones"); err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range f.hub.Runners("") {
			if r.Group != id {
				t.Errorf("got group %d, want %d", r.Group, id)
			}
		}
		if n := f.rec.Count("GET", "/runner-groups"); n != 1 {
			t.Errorf("got %d look-ups, want one", n)
		}
		// Deleted and made again, the group has another id.
		f.faults(on("POST", jitPath, refuse(404, "Not Found")))
		if _, _, err := f.c.JIT(t.Context(), "acme", "n4", []string{"x"}, "big ones"); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("got %v, want %v", err, fleet.ErrNotFound)
		}
		f.faults(nil)
		if _, _, err := f.c.JIT(t.Context(), "acme", "n5", []string{"x"}, "big ones"); err != nil {
			t.Error(err)
		}
		if n := f.rec.Count("GET", "/runner-groups"); n != 2 {
			t.Errorf("after the 404: got %d look-ups, want two", n)
		}
	})
}
