package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// limited asserts that err is a rate limit and returns how long it lasts.
func rateLimit(t *testing.T, err error) (time.Duration, *fleet.RateLimit) {
	t.Helper()
	var limit *fleet.RateLimit
	if !errors.As(err, &limit) || !errors.Is(err, fleet.ErrUnavailable) || errors.Is(err, fleet.ErrUnknownOutcome) {
		t.Fatalf("got %v, want a rate limit", err)
	}
	return time.Until(limit.Until), limit
}

func (f *fixture) list() error {
	_, err := f.c.Registrations(f.t.Context(), "acme")
	return err
}

func (f *fixture) tryMint(name string) error {
	_, _, err := f.c.JIT(f.t.Context(), "acme", name, []string{"x"}, "")
	return err
}

// go-github takes 429 for an error like any other.
func TestA429IsARateLimit(t *testing.T) {
	story(t, hub.Config{Limits: hub.Limits{Secondary: 429}}, func(t *testing.T, f *fixture) {
		f.mint("acme", "n0")
		f.hub.Throttle(90 * time.Second)
		wait, limit := rateLimit(t, f.tryMint("n1"))
		if wait < 89*time.Second || wait > 91*time.Second || !strings.Contains(limit.Reason, "secondary") {
			t.Errorf("got %v (%s), want 90 s for the secondary limit", wait, limit.Reason)
		}
		pass(wait)
		f.mint("acme", "n1")
	})
}

// GitHub sends the reset of the primary limit with every answer, up to an hour
// away; go-github takes it for the end of the secondary limit.
func TestSecondaryLimitWithoutRetryAfterDoesNotLastUntilThePrimaryReset(t *testing.T) {
	for _, status := range []int{http.StatusForbidden, http.StatusTooManyRequests} {
		story(t, hub.Config{Limits: hub.Limits{NoRetryAfter: true, Secondary: status}}, func(t *testing.T, f *fixture) {
			f.mint("acme", "n0")
			f.hub.Throttle(3 * time.Minute)
			start := f.rec.Count("POST", jitPath)
			for _, want := range []time.Duration{time.Minute, 2 * time.Minute} {
				wait, _ := rateLimit(t, f.tryMint("n1"))
				if wait != want {
					t.Fatalf("%d: got a wait of %v, want %v: twice as long each time", status, wait, want)
				}
				again, _ := rateLimit(t, f.tryMint("n1"))
				if n := f.rec.Count("POST", jitPath) - start; again != want || n > 2 {
					t.Errorf("%d: got %v after %d requests, want no request while it lasts", status, again, n)
				}
				pass(wait)
			}
			f.mint("acme", "n1")
			f.hub.Throttle(time.Minute)
			if wait, _ := rateLimit(t, f.tryMint("n2")); wait != time.Minute {
				t.Errorf("%d: after a success: got %v, want a minute again", status, wait)
			}
		})
	}
}

// go-github refuses all calls by itself after one secondary limit.
func TestSecondaryLimitOnOneKindOfCallDoesNotStopTheOthers(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		reg, _ := f.mint("acme", "n0")
		fault := refuse(403, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.")
		for k, v := range quota(4000, time.Hour) {
			fault.Header[k] = v
		}
		f.faults(on("POST", jitPath, fault))
		rateLimit(t, f.tryMint("n1"))
		if err := f.list(); err != nil {
			t.Errorf("list: %v", err)
		}
		if err := f.c.Deregister(t.Context(), "acme", reg.ID); err != nil {
			t.Errorf("deregister: %v", err)
		}
		if _, err := f.c.Deliveries(t.Context(), time.Now()); err != nil {
			t.Errorf("deliveries: %v", err)
		}
		f.faults(on("GET", "/actions/runners", fault))
		rateLimit(t, f.list())
		pass(time.Minute)
		f.mint("acme", "n1")
	})
}

func TestPrimaryLimitHoldsUntilItsReset(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.mint("acme", "n0")
		f.hub.Exhaust(20 * time.Minute)
		wait, limit := rateLimit(t, f.list())
		if wait < 19*time.Minute || wait > 20*time.Minute || !strings.Contains(limit.Reason, "5000") {
			t.Errorf("got %v (%s), want 20 min for 5000 requests", wait, limit.Reason)
		}
		before := f.rec.Count("POST", jitPath)
		rateLimit(t, f.tryMint("n1")) // counts against the same limit
		if n := f.rec.Count("POST", jitPath); n != before {
			t.Errorf("got %d requests under a limit that is known, want none", n-before)
		}
		pass(wait + time.Second)
		if err := f.list(); err != nil {
			t.Errorf("after the reset: %v", err)
		}
	})
}

// The last request of the hour may be refused for another reason; go-github
// takes every 403 without remainder for a limit.
func TestARefusalOfTheLastRequestIsNotALimit(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.mint("acme", "n0")
		fault := refuse(403, "Resource not accessible by integration")
		fault.Header = quota(0, time.Hour)
		f.faults(on("GET", "/actions/runners", fault))
		err := f.list()
		var limit *fleet.RateLimit
		if !errors.Is(err, fleet.ErrDenied) || errors.As(err, &limit) {
			t.Errorf("got %v, want %v", err, fleet.ErrDenied)
		}
		rateLimit(t, f.list()) // nothing is left now
	})
}

// For JIT configs GitHub's documents and its answers name different limits.
func TestALimitConcernsTheResourceThatGitHubNames(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.mint("acme", "n0")
		fault := refuse(403, "API rate limit exceeded for installation ID 1.")
		fault.Header = quota(0, 10*time.Minute)
		fault.Header.Set("X-RateLimit-Resource", "actions_runner_registration")
		f.faults(on("POST", jitPath, fault))
		if wait, _ := rateLimit(t, f.tryMint("n1")); wait != 10*time.Minute {
			t.Errorf("got %v, want 10 min", wait)
		}
		if err := f.list(); err != nil {
			t.Errorf("list counts against another limit: got %v, want none", err)
		}
		var named []string
		for _, l := range f.c.Limits() {
			named = append(named, fmt.Sprintf("%d %s %d", l.Installation, l.Resource, l.Remaining))
		}
		want := fmt.Sprintf("[0 core 4998 %[1]d actions_runner_registration 0 %[1]d core 4998]", f.in)
		if got := fmt.Sprint(named); got != want {
			t.Errorf("got limits %s, want %s", got, want)
		}
	})
}

func TestAMinuteHas150JITConfigsAtMost(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.mint("acme", "first")
		pass(10 * time.Second)
		for i := 1; i < 150; i++ {
			f.mint("acme", fmt.Sprintf("n%d", i))
		}
		wait, limit := rateLimit(t, f.tryMint("over"))
		if wait != 50*time.Second || f.hub.JITMinted() != 150 {
			t.Errorf("got %v (%s) after %d, want 50 s after %d", wait, limit.Reason, f.hub.JITMinted(), 150)
		}
		if err := f.list(); err != nil {
			t.Errorf("list: %v", err)
		}
		pass(wait)
		f.mint("acme", "later")
		if wait, _ := rateLimit(t, f.tryMint("over")); wait != 10*time.Second {
			t.Errorf("got %v, want 10 s: the window slides", wait)
		}
	})
}

func TestRetryAfterMayBeADate(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.mint("acme", "n0")
		fault := refuse(429, "")
		fault.Header.Set("Retry-After", time.Now().Add(7*time.Minute).UTC().Format(http.TimeFormat))
		f.faults(on("POST", jitPath, fault))
		if wait, _ := rateLimit(t, f.tryMint("n1")); wait.Round(time.Second) != 7*time.Minute {
			t.Errorf("got %v, want 7 min", wait)
		}
	})
}

// go-github files every call under one limit, and after the last call of any
// it refuses all.
func TestTheLastJITConfigOfAnHourDoesNotStopReads(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.mint("acme", "n0")
		last := stage.Fault{Code: 201, Reason: "Created", Header: quota(0, time.Hour),
			Body: `{"runner":{"id":7,"name":"n1","os":"unknown","status":"offline","busy":false,"labels":[]},"encoded_jit_config":"x"}`}
		last.Header.Set("X-RateLimit-Resource", "actions_runner_registration")
		f.faults(on("POST", jitPath, last))
		if err := f.tryMint("n1"); err != nil {
			t.Fatal(err)
		}
		if err := f.list(); err != nil {
			t.Errorf("list: got %v, want none", err)
		}
		if wait, _ := rateLimit(t, f.tryMint("n2")); wait != time.Hour {
			t.Errorf("got %v, want an hour", wait)
		}
	})
}

// GitHub counts a point for each of a thousand runs; a poll that ran into the
// limit would never see the last of them.
func TestAPollOfManyRunsIsSpread(t *testing.T) {
	// A tenth of everything.
	story(t, hub.Config{Limits: hub.Limits{Points: 90}}, func(t *testing.T, f *fixture) {
		for range 100 {
			f.hub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"x"}})
		}
		for range 2 {
			if got := f.jobs(); len(got) != 100 {
				t.Errorf("got %d jobs, want 100", len(got))
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		some, err := f.c.Jobs(ctx, "acme/app")
		if !errors.Is(err, fleet.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %d jobs and %v, want some and the deadline", len(some), err)
		}
		if err := f.list(); err != nil {
			t.Errorf("list: %v", err)
		}
	})
}

// GitHub's resets are in GitHub's time.
func TestAWrongClockDoesNotLengthenALimit(t *testing.T) {
	clock := &stage.Clock{}
	story(t, hub.Config{Clock: clock}, func(t *testing.T, f *fixture) {
		clock.Skew(30 * time.Minute)
		f.mint("acme", "n0")
		f.hub.Exhaust(10 * time.Minute)
		if wait, _ := rateLimit(t, f.list()); wait < 9*time.Minute || wait > 11*time.Minute {
			t.Errorf("got %v, want 10 min", wait)
		}
	})
}

func TestQuotaIsThatOfTheScopesInstallation(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		if q, seen := f.c.Quota("acme"); seen {
			t.Errorf("got %+v before anything was asked", q)
		}
		if _, err := f.c.Jobs(t.Context(), "acme/app"); err != nil {
			t.Fatal(err)
		}
		for _, scope := range []fleet.Scope{"acme", "ACME/app"} {
			q, seen := f.c.Quota(scope)
			if !seen || q.Installation != int64(f.in) || q.Limit != 5000 || q.Remaining >= q.Limit || q.Resource != "core" {
				t.Errorf("%s: got %+v (seen %t), want core of installation %d", scope, q, seen, f.in)
			}
		}
		if q, seen := f.c.Quota("globex"); seen {
			t.Errorf("got %+v of an account without an installation", q)
		}
	})
}
