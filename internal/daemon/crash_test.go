package daemon_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// effect reports whether a request changes something; tokens do not count.
func effect(r *http.Request) bool {
	return r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, "/access_tokens")
}

// TestCrashAtEveryEffectOfAJobLosesNothing kills the daemon before and after
// each of its effects in the life of one job, the first, the second and so on,
// until there are no more. Whatever it had just done, the job must be served
// by the daemon that is started after it, nothing may be left, nothing may be
// used twice, and the job's timeline must be whole.
func TestCrashAtEveryEffectOfAJobLosesNothing(t *testing.T) {
	for name, does := range map[string]fate{"before": kill, "after": doom} {
		struck := 0
		for n := 1; ; n++ {
			more := false
			t.Run(fmt.Sprintf("%s effect %d", name, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { more = crashAt(t, int64(n), does) })
			})
			if !more {
				break
			}
			struck++
		}
		// clone, config, JIT config, environment, start, destroy
		if struck < 6 {
			t.Errorf("only %d effects were struck %s they happened, want 6 at least", struck, name)
		}
	}
}

// crashAt kills the daemon at its nth effect, and reports whether it had one.
func crashAt(t *testing.T, n int64, does fate) (struck bool) {
	p := newPlay(t, usual, one(4))
	var seen atomic.Int64
	p.govern(func(r *http.Request) fate {
		if effect(r) && seen.Add(1) == n {
			return does
		}
		return arrive
	})
	p.start()
	defer func() { p.stop() }()
	time.Sleep(10 * time.Second)
	id := p.job("acme/app", 10*time.Second)
	p.until(5*time.Minute, "the daemon dies, or all is done", func() bool {
		return p.now.dead.Load() || p.over() && p.w.Left().Empty()
	})
	if struck = p.now.dead.Load(); struck {
		p.crash()
		time.Sleep(time.Second)
		p.start()
	}
	p.served(15 * time.Minute)
	p.succeeded(id)
	// A container is gone a moment before its story is whole.
	var told string
	p.until(time.Minute, "the end of its container is told", func() bool {
		told, _ = p.timeline(id)
		return strings.Contains(told, "destroyed ")
	})
	if n := strings.Count(told, "destroyed "); n != 1 {
		p.t.Errorf("the end of its container is told %d times: %s", n, told)
	}
	for _, want := range []string{"queued", "minted", "started", "listening", "running", "done"} {
		if !strings.Contains(told, want+" ") {
			p.t.Errorf("the job's timeline lacks %q: %s", want, told)
		}
	}
	if s := p.w.Summary(); s.JITMinted > 2 {
		p.t.Errorf("%d JIT configs for one job and one crash, want 2 at most", s.JITMinted)
	}
	p.check()
	if t.Failed() {
		t.Log(p.logs.String())
	}
	return struck
}

// TestWhatWasKnownBeforeAKillIsServedWithinSeconds kills the daemon when it is
// about to register the runners of two jobs that it was told of; nobody tells
// it again.
func TestWhatWasKnownBeforeAKillIsServedWithinSeconds(t *testing.T) {
	quick := usual
	quick.PVE.Timing.Clone = 500 * time.Millisecond // both spares may be used up, and one is cloned after the other
	story(t, quick, spares(4, 2), func(p *play) {
		p.until(3*time.Minute, "two spares are there", func() bool { return p.status().Pools[0].Phases["spare"] == 2 })
		p.govern(once(calls("POST", "/generate-jitconfig"), kill))
		ids := []hub.JobID{p.job("acme/app", 10*time.Second), p.job("acme/lib", 10*time.Second)}
		p.until(time.Minute, "the daemon dies", func() bool { return p.now.dead.Load() })
		p.crash()
		p.govern(func(r *http.Request) fate {
			if strings.Contains(r.URL.Path, "/actions/runs") {
				return refuse // no poll finds them
			}
			return arrive
		})
		p.start()
		for _, id := range ids {
			if took := p.began(id, time.Minute); took > 5*time.Second {
				p.t.Errorf("job %d began %s after the start, want 5 s at most", id, took)
			}
		}
		p.govern(nil)
		p.setPools(off(spares(4, 2)))
		p.served(10 * time.Minute)
		p.succeeded(ids...)
	})
}

// TestJournalLostKillsNothingAndLeaksNothing deletes the journal while runners
// live: what exists proves itself ours.
func TestJournalLostKillsNothingAndLeaksNothing(t *testing.T) {
	story(t, usual, spares(4, 1), func(p *play) {
		busy := p.job("acme/app", 10*time.Minute)
		p.began(busy, time.Minute)
		time.Sleep(10 * time.Second)
		booting := p.job("acme/lib", time.Minute)
		p.until(time.Minute, "the second one boots", func() bool { return len(p.running()) == 2 })
		p.crash()
		p.loseJournal()
		time.Sleep(5 * time.Second)
		p.start()
		p.until(20*time.Minute, "both jobs end", p.over)
		p.succeeded(busy, booting)
		p.setPools(strings.Replace(spares(4, 1), "scale {", "enabled = false\n scale {", 1))
		p.gone(10 * time.Minute)
	})
}

// TestNothingIsDecidedBeforeThePoolsAreRead starts without a journal while the
// pools cannot be read: what the daemon finds is not of pools that are gone.
func TestNothingIsDecidedBeforeThePoolsAreRead(t *testing.T) {
	story(t, usual, spares(4, 1), func(p *play) {
		p.until(5*time.Minute, "there is a spare", func() bool { return len(p.containers()) == 1 })
		spare := p.containers()
		p.crash()
		p.loseJournal()
		away := p.poolsDir() + ".away"
		if err := os.Rename(p.poolsDir(), away); err != nil {
			t.Fatal(err)
		}
		p.start()
		id := p.job("acme/app", time.Minute)
		time.Sleep(30 * time.Minute)
		if now := p.containers(); !slices.Equal(now, spare) {
			t.Errorf("containers %v, want the spare %v", now, spare)
		}
		if why := p.why(id); why != "the pools have not been read yet" {
			t.Errorf("the job waits because %q", why)
		}
		if err := os.Rename(away, p.poolsDir()); err != nil {
			t.Fatal(err)
		}
		p.until(10*time.Minute, "the job ends", p.over)
		p.succeeded(id)
		p.until(time.Minute, "another spare takes the place of the one that took the job", func() bool {
			return p.w.Summary().Clones == 2 && len(p.containers()) == 1
		})
	})
}

// TestRegistrationWithoutContainerIsRemoved loses journal and container, so
// that GitHub alone knows of the runner.
func TestRegistrationWithoutContainerIsRemoved(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		id := p.job("acme/app", 10*time.Minute)
		p.until(time.Minute, "it is registered", func() bool { return len(p.w.GitHub.Runners("")) == 1 })
		p.crash()
		p.loseJournal()
		for _, vmid := range p.containers() {
			p.w.Proxmox.PowerOff(vmid)
			time.Sleep(time.Second)
			p.w.Proxmox.Remove(vmid)
		}
		old := p.w.GitHub.Runners("")[0].Name
		p.start()
		p.until(10*time.Minute, "the registration is removed", func() bool {
			for _, r := range p.w.GitHub.Runners("") {
				if r.Name == old {
					return false
				}
			}
			return true
		})
		p.served(20 * time.Minute)
		p.succeeded(id)
	})
}

// TestStopWithWorkUnderWayTakesTwoSeconds stops the daemon in the middle of a
// clone of a minute.
func TestStopWithWorkUnderWayTakesTwoSeconds(t *testing.T) {
	slow := usual
	slow.PVE.Timing.Clone = time.Minute
	story(t, slow, one(4), func(p *play) {
		id := p.job("acme/app", 10*time.Second)
		p.until(time.Minute, "the clone is under way", func() bool { return len(p.w.Proxmox.Tasks("pve")) == 1 })
		began := time.Now()
		p.stop()
		if took := time.Since(began); took > 2*time.Second {
			p.t.Errorf("the stop took %s, want 2 s at most", took)
		}
		p.start()
		p.served(10 * time.Minute)
		p.succeeded(id)
	})
}

// TestStoryOfAJobIsToldOnce stops the daemon when a job's container is gone and
// its registration may not be.
func TestStoryOfAJobIsToldOnce(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		id := p.job("acme/app", 10*time.Second)
		p.until(2*time.Minute, "its container is gone", func() bool {
			told, _ := p.timeline(id)
			return strings.Contains(told, "destroyed ")
		})
		p.stop()
		p.start()
		p.served(2 * time.Minute)
		time.Sleep(2 * time.Minute)
		if told, _ := p.timeline(id); strings.Count(told, "destroyed ") != 1 {
			p.t.Errorf("the end of its container is told otherwise than once: %s", told)
		}
	})
}

// TestStopAndStartTakesUpALiveJob stops the daemon while a job runs, lets the
// job end meanwhile, and starts it again.
func TestStopAndStartTakesUpALiveJob(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		id := p.job("acme/app", 2*time.Minute)
		p.began(id, time.Minute)
		p.stop()
		time.Sleep(3 * time.Minute)
		late := p.job("acme/lib", time.Second) // nobody hears of it
		if p.look(id).Status != hub.StatusCompleted || len(p.containers()) != 1 {
			p.t.Fatal("the job should have ended, with its container left")
		}
		p.start()
		p.served(2 * time.Minute)
		p.succeeded(id, late)
		p.made(2, 2)
	})
}
