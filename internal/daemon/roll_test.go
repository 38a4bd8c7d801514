package daemon_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// rolling is the pool of onePool with a roll-out in few and short stages.
func rolling(more string) string {
	return one(6, `rollout {
    smoke = 1
    bake  = "10m"
    canary {
      jobs           = 2
      max_concurrent = 1
    }
    `+more+`
  }`)
}

// rollout is how far the roll-out of the only pool is.
func (p *play) rollout() fleet.Rollout {
	p.t.Helper()
	list, err := p.now.journal.Rollouts(context.Background())
	if err != nil || len(list) != 1 {
		p.t.Fatalf("roll-outs %v, %v; want one", list, err)
	}
	return list[0]
}

// comes waits until the roll-out is at a stage.
func (p *play) comes(s fleet.Stage, limit time.Duration) {
	p.t.Helper()
	p.until(limit, "the roll-out is "+s.String(), func() bool { return p.rollout().Stage == s })
}

// serves queues jobs one after the other and waits for each; it returns how
// long the longest waited.
func (p *play) serves(jobs int) time.Duration {
	p.t.Helper()
	longest := time.Duration(0)
	for range jobs {
		id := p.job("acme/app", 20*time.Second)
		longest = max(longest, p.began(id, 10*time.Minute))
		p.until(5*time.Minute, "the job ends", p.over)
		p.succeeded(id)
	}
	return longest
}

const next = "2.335.1-2"

func TestNewVersionIsRolledOutInStages(t *testing.T) {
	story(t, usual, rolling(""), func(p *play) {
		p.template(9001, next, "")
		p.comes(fleet.Canarying, 5*time.Minute)
		if n := p.w.Summary().Smoked; n != 1 {
			t.Errorf("%d smoke boots, want 1", n)
		}
		p.serves(2)
		p.comes(fleet.Baking, time.Minute)
		p.comes(fleet.Settled, 15*time.Minute)
		if r := p.rollout(); r.Stable.Version != next || len(r.Bad) > 0 {
			t.Errorf("stable is %s, bad %v; want %s", r.Stable, r.Bad, next)
		}
		p.gone(10 * time.Minute)
	})
}

func TestBrokenTemplateNeverMeetsAJob(t *testing.T) {
	for _, ailment := range []sim.Ailment{sim.BrokenDocker, sim.NeverRegisters, sim.CrashesAtBoot, sim.HangsAtBoot} {
		t.Run(string(ailment), func(t *testing.T) {
			story(t, usual, rolling(""), func(p *play) {
				p.template(9001, next, string(ailment))
				p.until(20*time.Minute, "the version is bad", func() bool { return len(p.rollout().Bad) == 1 })
				p.comes(fleet.Settled, 5*time.Minute)
				if longest := p.serves(3); longest > 30*time.Second {
					t.Errorf("a job waited %s", longest)
				}
				if r := p.rollout(); r.Stable.Version == next || r.Trial.Jobs != 0 {
					t.Errorf("%s is stable, %d jobs ran on the broken one", r.Stable, r.Trial.Jobs)
				}
				p.gone(10 * time.Minute)
			})
		})
	}
}

// TestFailedCanaryCostsAJobOneBoot: what passes its smoke checks and serves no
// job is found by the first jobs, and none of these waits longer than for one
// boot and a runner of the stable version.
func TestFailedCanaryCostsAJobOneBoot(t *testing.T) {
	for _, ailment := range []sim.Ailment{sim.Mute, sim.ExitsEarly} {
		t.Run(string(ailment), func(t *testing.T) {
			story(t, usual, rolling(""), func(p *play) {
				p.template(9001, next, string(ailment))
				p.comes(fleet.Canarying, 5*time.Minute)
				if longest := p.serves(6); longest > time.Minute+30*time.Second {
					t.Errorf("a job waited %s", longest)
				}
				if ailment == sim.Mute && len(p.rollout().Bad) != 1 {
					t.Errorf("the version is not bad: %+v", p.rollout())
				}
				p.gone(20 * time.Minute)
			})
		})
	}
}

func TestRollOutSurvivesCrashes(t *testing.T) {
	story(t, usual, rolling(""), func(p *play) {
		p.template(9001, next, "")
		for i := range 40 {
			time.Sleep(time.Duration(3+i%5) * time.Second)
			p.crash()
			p.start()
		}
		p.comes(fleet.Canarying, 5*time.Minute)
		p.serves(1)
		p.crash()
		p.start()
		p.serves(1)
		p.comes(fleet.Baking, 2*time.Minute)
		p.crash()
		p.start()
		p.comes(fleet.Settled, 15*time.Minute)
		if r := p.rollout(); r.Stable.Version != next {
			t.Errorf("stable is %s, want %s", r.Stable, next)
		}
		p.gone(10 * time.Minute)
	})
}

func TestBadVersionIsRememberedOverARestart(t *testing.T) {
	story(t, usual, rolling(""), func(p *play) {
		p.template(9001, next, string(sim.BrokenDocker))
		p.until(20*time.Minute, "the version is bad", func() bool { return len(p.rollout().Bad) == 1 })
		p.crash()
		p.start()
		time.Sleep(20 * time.Minute)
		if r := p.rollout(); r.Stage != fleet.Settled || len(r.Bad) != 1 {
			t.Errorf("after a restart the roll-out is %s, bad %v", r.Stage, r.Bad)
		}
		turns, err := p.now.journal.Turns(context.Background(), "linux", 0)
		if err != nil || len(turns) < 4 {
			t.Errorf("history %v, %v; want every stage", turns, err)
		}
	})
}

// TestVersionThatGitHubEndsIsNotRolledTo: its runners would register and never
// get a job.
func TestVersionThatGitHubEndsIsNotRolledTo(t *testing.T) {
	story(t, usual, rolling(""), func(p *play) {
		p.w.GitHub.SetVersions(hub.Versions{Ends: map[string]time.Time{"2.330.0": time.Now().Add(-time.Hour)}})
		p.templateWith(9001, next, "", "2.330.0")
		time.Sleep(10 * time.Minute)
		r := p.rollout()
		if r.Stage != fleet.Settled || r.Note == "" {
			t.Errorf("the roll-out is %s, note %q", r.Stage, r.Note)
		}
		p.serves(1)
		p.gone(10 * time.Minute)
	})
}

func TestSlowVersionIsGivenUp(t *testing.T) {
	cfg := usual
	cfg.Guest.Connect = 3 * time.Second
	story(t, cfg, one(6, `rollout {
    smoke = 0
    bake  = "10m"
    canary {
      jobs           = 5
      max_concurrent = 1
    }
  }`), func(p *play) {
		p.serves(6)
		p.template(9001, next, string(sim.Slow))
		p.comes(fleet.Canarying, 5*time.Minute)
		p.serves(5)
		if r := p.rollout(); len(r.Bad) != 1 {
			t.Errorf("boots of %v, with the version before %v: not bad", r.Boots, r.Usual)
		}
		p.gone(10 * time.Minute)
	})
}

func (p *play) templateWith(vmid int, version, ailment, runner string) {
	p.runner = runner
	p.template(vmid, version, ailment)
	p.runner = ""
}

// ordered gives an order as the command line does, and returns the answer.
func (p *play) ordered(what string) (code int, body string) {
	p.t.Helper()
	answer := httptest.NewRecorder()
	p.now.d.Admin().ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "http://dayfly/v1/rollouts/"+what, nil))
	return answer.Code, answer.Body.String()
}

func TestOrdersSteerARollOutAndSurviveACrash(t *testing.T) {
	story(t, usual, rolling(""), func(p *play) {
		if code, body := p.ordered("linux/pause"); code != http.StatusConflict || !strings.Contains(body, "is stable") {
			t.Errorf("pausing what is stable: %d %s", code, body)
		}
		if code, _ := p.ordered("other/pause"); code != http.StatusNotFound {
			t.Errorf("an order to no pool: %d", code)
		}
		if code, _ := p.ordered("linux/wind"); code != http.StatusBadRequest {
			t.Errorf("no order: %d", code)
		}
		p.template(9001, next, "")
		p.comes(fleet.Canarying, 5*time.Minute)
		if code, body := p.ordered("linux/pause"); code != http.StatusOK || !strings.Contains(body, `"stage":"paused"`) {
			t.Errorf("pause: %d %s", code, body)
		}
		p.crash()
		p.start()
		time.Sleep(time.Minute)
		p.comes(fleet.Paused, time.Second)
		if code, body := p.ordered("linux/abort"); code != http.StatusOK {
			t.Errorf("abort: %d %s", code, body)
		}
		p.comes(fleet.Settled, time.Minute)
		if code, body := p.ordered("linux/retry?version=" + next); code != http.StatusOK {
			t.Errorf("retry: %d %s", code, body)
		}
		p.comes(fleet.Canarying, 5*time.Minute)
		if code, body := p.ordered("linux/promote"); code != http.StatusOK {
			t.Errorf("promote: %d %s", code, body)
		}
		p.comes(fleet.Baking, time.Minute)
		p.ordered("linux/promote")
		if r := p.rollout(); r.Stable.Version != next {
			t.Errorf("stable is %s, want %s", r.Stable, next)
		}
		p.gone(10 * time.Minute)
	})
}

// TestExitCodeSevenCondemnsAVersionAtOnce: the root half tells how a runner's
// process ended, and every further one would end so.
func TestExitCodeSevenCondemnsAVersionAtOnce(t *testing.T) {
	story(t, usual, rolling(""), func(p *play) {
		p.stop()
		p.halves = []string{"pve"}
		p.start()
		time.Sleep(10 * time.Second)
		p.templateWith(9001, next, "", "2.320.0") // below GitHub's floor, which it does not announce
		p.comes(fleet.Canarying, 5*time.Minute)
		if longest := p.serves(2); longest > time.Minute+30*time.Second {
			t.Errorf("a job waited %s", longest)
		}
		r := p.rollout()
		if len(r.Bad) != 1 || !strings.Contains(r.Bad[0].Reason, "exit code 7") || r.Stable.Version == next {
			t.Errorf("stable is %s, bad %v; want %s to be bad for its exit code", r.Stable, r.Bad, next)
		}
		p.gone(10 * time.Minute)
	})
}

// TestVersionThatGetsNoJobIsNotTriedForEver: its runners register, listen and are
// never given a job, and GitHub says nothing. After three in a row none is made
// for an hour, and a newer version serves what waits.
func TestVersionThatGetsNoJobIsNotTriedForEver(t *testing.T) {
	story(t, usual, rolling(""), func(p *play) {
		p.w.GitHub.SetVersions(hub.Versions{Floor: "2.340.0", Policy: hub.Starve, NoDeprecations: true})
		id := p.job("acme/app", 10*time.Second)
		const told = "runners of ubuntu-24.04@2.335.1-1 listen and get no job"
		p.until(time.Hour, "it is told", func() bool { _, ok := p.troubled(told); return ok })
		before := p.w.Summary().JITMinted
		time.Sleep(50 * time.Minute)
		if n := p.w.Summary().JITMinted; before > 4 || n != before { // the fourth is made while the third is given up
			p.t.Errorf("%d runners were made until it was told, %d in the next 50 minutes; want at most 4 and none", before, n-before)
		}
		if why := p.why(id); !strings.Contains(why, "GitHub may serve their version no longer") {
			p.t.Errorf("the job waits because %q", why)
		}
		p.templateWith(9001, next, "", "2.340.0")
		p.served(30 * time.Minute)
		p.succeeded(id)
	})
}

// TestRollOutWaitsForItsWindow from midnight until two, over a restart; a plan
// says so beforehand, and the status while it waits.
func TestRollOutWaitsForItsWindow(t *testing.T) {
	windowed := rolling("window {\n from = \"02:00\"\n for = \"1h\"\n }")
	pinned := strings.Replace(windowed, `{ family = "ubuntu-24.04" }`, "{\n family = \"ubuntu-24.04\"\n version = \"2.335.1-1\"\n }", 1)
	two := time.Date(2000, 1, 1, 2, 0, 0, 0, time.UTC)
	story(t, usual, pinned, func(p *play) {
		p.template(9001, next, "")
		time.Sleep(10 * time.Minute)
		v, _ := p.preview(files(windowed))
		if len(v.Rolls) != 1 || !v.Rolls[0].Opens.Equal(two) || v.Rolls[0].Wait() != "; its window opens 2000-01-01 02:00Z" || !strings.HasPrefix(v.Rolls[0].Steps, "smoke boots: 1; canary: 2 jobs, 1 at a time; ") {
			t.Errorf("the plan is %+v", v.Rolls)
		}
		p.setPools(windowed)
		p.until(5*time.Minute, "it waits", func() bool {
			r := admin[[]daemon.RolloutStatus](p, http.MethodGet, "/v1/rollouts")[0]
			return r.Stage == "preflight" && r.Opens.Equal(two)
		})
		if _, told := p.troubled("pool linux"); told || p.logged("roll-out waits for its window") != 1 {
			t.Errorf("a wait is no trouble, and said once: %+v", p.status().Troubles)
		}
		p.crash()
		p.start()
		time.Sleep(time.Until(two) - time.Minute)
		if r := p.rollout(); r.Stage != fleet.Preflight {
			t.Errorf("a minute before the window it is %s", r.Stage)
		}
		p.comes(fleet.Canarying, 5*time.Minute)
		p.serves(1)
		time.Sleep(time.Until(two.Add(61 * time.Minute)))
		p.serves(1)
		time.Sleep(10 * time.Minute)
		if r := p.rollout(); r.Stage != fleet.Canarying {
			t.Errorf("after the window the roll-out is %s", r.Stage)
		}
		admin[daemon.RolloutStatus](p, http.MethodPost, "/v1/rollouts/linux/promote")
		p.comes(fleet.Baking, 5*time.Minute)
		p.gone(10 * time.Minute)
	})
}
