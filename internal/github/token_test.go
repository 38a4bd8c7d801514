package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

const tokenPath = "/access_tokens"

func TestOneTokenServesManyCallersForAnHour(t *testing.T) {
	story(t, hub.Config{Timing: hub.Timing{API: 100 * time.Millisecond}}, func(t *testing.T, f *fixture) {
		all := func() {
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					if err := f.list(); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		all()
		pass(50 * time.Minute)
		all()
		if n := f.rec.Count("POST", tokenPath); n != 1 {
			t.Errorf("got %d tokens, want one", n)
		}
		if n := f.rec.Count("GET", "/installation"); n != 1 {
			t.Errorf("got %d look-ups of the installation, want one", n)
		}
		pass(6 * time.Minute) // less than five minutes are left
		all()
		if n := f.rec.Count("POST", tokenPath); n != 2 {
			t.Errorf("got %d tokens, want a second one before the first ends", n)
		}
	})
}

// ghinstallation refreshes under a mutex with the first caller's context.
func TestWaitersForATokenHaveTheirOwnContexts(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.faults(on("POST", tokenPath, stage.Fault{Delay: 5 * time.Second}))
		type result struct {
			err  error
			took time.Duration
		}
		start, results := time.Now(), make([]result, 3)
		bounds := []time.Duration{time.Second, 2 * time.Second, time.Minute}
		var wg sync.WaitGroup
		for i, bound := range bounds {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), bound)
				defer cancel()
				_, err := f.c.Registrations(ctx, "acme")
				results[i] = result{err, time.Since(start)}
			})
			synctest.Wait() // the one with the shortest bound asks first
		}
		wg.Wait()
		for i := range 2 {
			if r := results[i]; !errors.Is(r.err, context.DeadlineExceeded) || r.took != bounds[i] {
				t.Errorf("waiter %d: got %v after %v, want its deadline after %v", i, r.err, r.took, bounds[i])
			}
		}
		if r := results[2]; r.err != nil || r.took != 5*time.Second {
			t.Errorf("patient waiter: got %v after %v, want the token after 5 s", r.err, r.took)
		}
		if n := f.rec.Count("POST", tokenPath); n != 1 {
			t.Errorf("got %d tokens, want one", n)
		}
	})
}

func TestARefusedTokenIsReplaced(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		if err := f.list(); err != nil {
			t.Fatal(err)
		}
		f.hub.RevokeTokens()
		if err := f.list(); err != nil {
			t.Errorf("a read: got %v, want a second try with a new token", err)
		}
		reg, _ := f.mint("acme", "n0")
		f.hub.RevokeTokens()
		if err := f.c.Deregister(t.Context(), "acme", reg.ID); err != nil {
			t.Errorf("deregister: got %v, want a second try with a new token", err)
		}
		f.hub.RevokeTokens()
		sent := f.rec.Count("POST", jitPath)
		if err := f.tryMint("n1"); !errors.Is(err, fleet.ErrUnavailable) || errors.Is(err, fleet.ErrUnknownOutcome) {
			t.Errorf("JIT: got %v, want %v", err, fleet.ErrUnavailable)
		}
		if n := f.rec.Count("POST", jitPath) - sent; n != 1 {
			t.Errorf("JIT: got %d requests, want one", n)
		}
		f.mint("acme", "n1")
	})
}

func TestAnOldTokenServesWhenNoNewOneComes(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		if err := f.list(); err != nil {
			t.Fatal(err)
		}
		f.faults(on("POST", tokenPath, refuse(503, "Service unavailable")))
		pass(57 * time.Minute)
		if err := f.list(); err != nil {
			t.Errorf("three minutes before its end: %v", err)
		}
		pass(3 * time.Minute)
		if err := f.list(); !errors.Is(err, fleet.ErrUnavailable) || !strings.Contains(err.Error(), "get installation token for acme") {
			t.Errorf("after its end: got %v, want %v that says what for", err, fleet.ErrUnavailable)
		}
	})
}

func TestTokensAreNarrowed(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		// The App may do more than one pool needs.
		f.hub.Grant(f.in, hub.Permissions{"actions": "read", "metadata": "read", "administration": "write"})
		f.mint("acme/app", "n0")
		if _, err := f.c.Jobs(t.Context(), "acme/app"); err != nil {
			t.Error(err)
		}
		f.hub.Grant(f.in, hub.Permissions{"actions": "read", "metadata": "read"})
		pass(time.Hour)
		if _, err := f.c.Jobs(t.Context(), "acme/app"); err != nil {
			t.Errorf("jobs need nothing that registers runners: got %v", err)
		}
		if _, err := f.c.Registrations(t.Context(), "acme/app"); !errors.Is(err, fleet.ErrDenied) || !strings.Contains(err.Error(), "administration: write") {
			t.Errorf("got %v, want %v that names the permission", err, fleet.ErrDenied)
		}
	})
}

// A token that may administer a repository could delete it, and no other.
func TestATokenForARepositoryIsGoodForItAlone(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.hub.AddRepository(hub.Repository{Name: "acme/other", Private: true})
		f.mint("acme/app", "n0")
		f.mint("Acme/App", "n1")
		if n := f.rec.Count("POST", tokenPath); n != 1 {
			t.Errorf("got %d tokens for one repository, want one", n)
		}
		_, token, err := f.c.tokens.token(t.Context(), "acme/app", repoRunners)
		if err != nil {
			t.Fatal(err)
		}
		err = f.c.do(t.Context(), &call{class: read, account: int64(f.in), secret: token}, func(ctx context.Context) error {
			_, _, err := f.c.gh.Actions.ListRunners(ctx, "acme", "other", nil)
			return err
		})
		if !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("another repository: got %v, want %v", err, fleet.ErrNotFound)
		}
		f.mint("acme/other", "n2")
		if _, _, err := f.c.JIT(t.Context(), "acme/none", "n3", []string{"x"}, ""); !errors.Is(err, fleet.ErrNotFound) ||
			!strings.Contains(err.Error(), "add the repository to the App's installation") {
			t.Errorf("no such repository: got %v, want %v and what to do", err, fleet.ErrNotFound)
		}
	})
}

func TestAnAppThatWasInstalledAgainIsFound(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		if err := f.list(); err != nil {
			t.Fatal(err)
		}
		f.hub.Uninstall(f.in)
		if err := f.list(); err == nil {
			t.Fatal("uninstalled: got no error")
		}
		f.in = f.hub.AddInstallation(hub.Installation{Account: "acme"})
		if err := f.list(); err != nil {
			t.Errorf("installed again: %v", err)
		}
	})
}

func TestAppIDAndClientIDAreBothAccepted(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.c = f.client(fmt.Sprint(f.hub.App().ID))
		if err := f.list(); err != nil {
			t.Error(err)
		}
	})
}

// With a clock that is wrong GitHub refuses the App; its answer says by how
// much, and the next request goes by that.
func TestAWrongClockIsReportedAndWorkedAround(t *testing.T) {
	for _, skew := range []time.Duration{-20 * time.Minute, -90 * time.Second, 0, 90 * time.Second, 20 * time.Minute} {
		clock := &stage.Clock{}
		story(t, hub.Config{Clock: clock}, func(t *testing.T, f *fixture) {
			clock.Skew(skew)
			if got := f.c.Clock(t.Context()); (got - skew).Abs() > time.Second {
				t.Errorf("got a skew of %v, want %v", got, skew)
			}
			f.mint("acme", "n0")
			pass(58 * time.Minute)
			f.mint("acme", "n1") // tokens end in GitHub's time
			problems := fmt.Sprint(f.c.Check(t.Context(), []fleet.Scope{"acme"}))
			if got, want := strings.Contains(problems, "timedatectl"), skew != 0; got != want {
				t.Errorf("skew %v: got problems %s, want one of the clock: %v", skew, problems, want)
			}
		})
	}
}

// Whatever GitHub repeats of our credentials stays out of errors.
func TestErrorsHoldNoCredentials(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		f.mint("acme", "n0")
		var sent []string
		f.faults(func(r *http.Request) stage.Fault {
			sent = append(sent, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
			return refuse(403, "no access with "+r.Header.Get("Authorization")+`\n\u001b[31mred`)
		})
		_, _, mintErr := f.c.JIT(t.Context(), "acme", "n1", []string{"x"}, "")
		_, deliveriesErr := f.c.Deliveries(t.Context(), time.Now())
		text := fmt.Sprintf("%v %+v %#v %v", mintErr, mintErr, deliveriesErr, deliveriesErr)
		if len(sent) != 2 || !strings.Contains(text, "no access with Bearer [secret]") || strings.ContainsAny(text, "\n\x1b") {
			t.Errorf("got %q after %d requests, want two with [secret], on one line", text, len(sent))
		}
		for _, s := range sent {
			if s == "" || strings.Contains(text, s) {
				t.Errorf("credential %q is in %q", s, text)
			}
		}
	})
}

func TestTokenForContentsReadsOneRepository(t *testing.T) {
	story(t, hub.Config{}, func(t *testing.T, f *fixture) {
		token, err := f.c.Contents("acme/app").Token(t.Context())
		if !errors.Is(err, fleet.ErrDenied) && !errors.Is(err, fleet.ErrInvalid) || !token.Empty() {
			t.Errorf("not granted: got %v", err)
		}
		f.hub.Grant(f.in, hub.Permissions{"metadata": "read", "contents": "read"})
		token, err = f.c.Contents("acme/app").Token(t.Context())
		if err != nil || token.Empty() {
			t.Fatalf("got %v, token empty: %v", err, token.Empty())
		}
		for _, not := range []string{"acme", "acme/../x", ""} {
			if _, err := f.c.Contents(not).Token(t.Context()); !errors.Is(err, fleet.ErrInvalid) {
				t.Errorf("%q: got %v, want ErrInvalid", not, err)
			}
		}
	})
}
