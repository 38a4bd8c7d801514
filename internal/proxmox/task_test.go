package proxmox

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// task serves one task that runs for a while from now on.
func task(took time.Duration, exit, log string) http.HandlerFunc {
	begin := time.Now()
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/log"):
			answer(w, log)
		case time.Since(begin) < took:
			answer(w, `{"status":"running"}`)
		default:
			answer(w, `{"status":"stopped","exitstatus":"`+exit+`"}`)
		}
	}
}

func TestTrap3WarningsAreSuccess(t *testing.T) {
	for _, exit := range []string{"OK", "WARNINGS: 1", "WARNINGS: 12"} {
		cl := serve(t, task(0, exit, `[]`))
		if err := cl.wait(t.Context(), testUPID); err != nil {
			t.Errorf("exit status %s: got %v, want success", exit, err)
		}
	}
}

func TestTrap4FailedTaskIsAnErrorWithItsLog(t *testing.T) {
	const log = `[{"n":1,"t":"sync_wait: 34 An error occurred"},{"n":2,"t":"__lxc_start: 2127 Failed to spawn container \"20001\""},` +
		`{"n":3,"t":"TASK ERROR: startup for container '20001' failed"}]`
	for _, c := range []struct {
		exit, want string
		kind       error
	}{
		{"startup for container '20001' failed", `startup for container '20001' failed (task log: sync_wait: 34 An error occurred; ` +
			`__lxc_start: 2127 Failed to spawn container "20001")`, nil},
		{"CT is locked (backup)", "", fleet.ErrLocked},
		{"can't lock file '/run/lock/lxc/pve-config-1.lock' - got timeout", "", fleet.ErrLocked},
		{"clone failed: interrupted by signal", "", fleet.ErrUnavailable},
		{"unexpected status", "", fleet.ErrUnknownOutcome},
		{"", "", fleet.ErrUnknownOutcome},
	} {
		cl := serve(t, task(0, c.exit, log))
		err := cl.wait(t.Context(), testUPID)
		if _, ok := errors.AsType[*TaskError](err); !ok {
			t.Errorf("exit status %q: got %v, want a TaskError", c.exit, err)
			continue
		}
		if c.want != "" && err.Error() != c.want {
			t.Errorf("exit status %q: got %q, want %q", c.exit, err, c.want)
		}
		if c.kind != nil && !errors.Is(err, c.kind) {
			t.Errorf("exit status %q: got %v, want %v", c.exit, err, c.kind)
		}
	}
}

func TestTrap4ContextEndsTheWaitAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := within(t, task(time.Hour, "OK", `[]`))
		ctx, cancel := context.WithTimeout(t.Context(), 1234*time.Millisecond)
		defer cancel()
		begin := time.Now()
		err := cl.wait(ctx, testUPID)
		if took := time.Since(begin); took != 1234*time.Millisecond {
			t.Errorf("returned after %v, want 1.234s", took)
		}
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, fleet.ErrUnknownOutcome) {
			t.Errorf("got %v, want deadline exceeded with unknown outcome", err)
		}
	})
}

func TestTrap4WaitSurvivesTransientPollErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		polls, inner := 0, task(3*time.Second, "OK", `[]`)
		cl := within(t, func(w http.ResponseWriter, r *http.Request) {
			polls++
			switch polls % 5 {
			case 0:
				stage.Reply(w, 596, "Connection reset by peer", nil)
			case 1:
				stage.Reply(w, 595, "Connection refused", nil)
			case 2:
				stage.Reply(w, 599, "Too many redirections", nil)
			case 3:
				stage.Hangup()
			default:
				inner(w, r)
			}
		})
		if err := cl.wait(t.Context(), testUPID); err != nil {
			t.Errorf("got %v after %d polls, want success", err, polls)
		}
		if polls < 5 {
			t.Errorf("got %d polls, want every kind of error to have come", polls)
		}
	})
}

func TestUnknownTaskHasUnknownOutcome(t *testing.T) {
	cl := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		stage.Reply(w, 400, "Parameter verification failed.", []byte(`{"errors":{"upid":"no such task"}}`))
	})
	err := cl.wait(t.Context(), testUPID)
	if !errors.Is(err, fleet.ErrUnknownOutcome) || !strings.Contains(err.Error(), "no such task") {
		t.Errorf("got %v, want unknown outcome: no such task", err)
	}
}

func TestWaitLearnsHowLongTasksTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inner http.HandlerFunc
		polls := 0
		cl := within(t, func(w http.ResponseWriter, r *http.Request) { polls++; inner(w, r) })
		run := func(took time.Duration) (late time.Duration) {
			inner, polls = task(took, "OK", `[]`), 0
			begin := time.Now()
			if err := cl.wait(t.Context(), testUPID); err != nil {
				t.Fatal(err)
			}
			return time.Since(begin) - took
		}
		if late := run(time.Second); late > lastPoll {
			t.Errorf("first time: seen %v late, want at most %v", late, lastPoll)
		}
		for range 20 {
			run(time.Second)
		}
		if late := run(time.Second); late > 60*time.Millisecond || polls > 8 {
			t.Errorf("after 20 times: seen %v late after %d polls, want at most 60ms and 8 polls", late, polls)
		}
		if late := run(100 * time.Millisecond); late > time.Second {
			t.Errorf("a quick one among slow ones: seen %v late, want less than 1s", late)
		}
		run(10 * time.Minute)
		if first, _ := cl.paces.naps("vzstart"); first > longNap {
			t.Errorf("first poll after %v, want at most %v", first, longNap)
		}
	})
}

// follow lets tasks take as long as given, one after the other, and returns how
// often each was looked at and how late its end was seen.
func follow(t *testing.T, p *paces, tasks int, took time.Duration) (looks int, late time.Duration) {
	t.Helper()
	for range tasks {
		ran := time.Duration(0)
		at, next := p.naps("vzclone 9000")
		for looks++; at < took; looks++ {
			ran, at, next = at, at+next, min(next*5/4, lastPoll)
		}
		p.learn("vzclone 9000", ran, at)
		late += at - took
	}
	return looks, late
}

func TestTasksAreLookedAtWhenTheyEnd(t *testing.T) {
	for _, took := range []time.Duration{40 * time.Millisecond, 350 * time.Millisecond, 1700 * time.Millisecond} {
		var p paces
		follow(t, &p, 8, took)
		looks, late := follow(t, &p, 100, took)
		if looks > 250 || late/100 > max(took/25, firstPoll/2) {
			t.Errorf("%s: %d looks at 100 tasks, %s late on average", took, looks, late/100)
		}
		follow(t, &p, 1, 20*took) // an exception
		if _, late := follow(t, &p, 20, took); late/20 > took/4 {
			t.Errorf("%s: %s late on average after a slow one", took, late/20)
		}
		follow(t, &p, 20, took/5) // another storage
		if _, late := follow(t, &p, 20, took/5); late/20 > max(took/25, firstPoll) {
			t.Errorf("%s: %s late on average after tasks got quicker", took, late/20)
		}
	}
}
