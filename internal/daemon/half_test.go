package daemon_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// halfStory is a story on a node with a root half.
func halfStory(t *testing.T, cfg sim.Config, files string, tell func(*play)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPlay(t, cfg, files)
		p.halves = []string{"pve"}
		p.start()
		defer func() { p.stop() }()
		time.Sleep(10 * time.Second)
		tell(p)
		p.check()
		if t.Failed() {
			t.Log(p.w.Summary())
			t.Log(p.logs.String())
		}
	})
}

// timeline is what the journal tells of a job, by stage.
func (p *play) timeline(id hub.JobID) (stages string, details map[string]string) {
	p.t.Helper()
	details = map[string]string{}
	for _, e := range admin[daemon.JobDetail](p, http.MethodGet, fmt.Sprintf("/v1/jobs/%d", id)).Timeline {
		stages += e.What + " "
		details[e.What] += e.Detail
	}
	return stages, details
}

// between is how long after one stage of a job another began.
func (p *play) between(id hub.JobID, from, to string) time.Duration {
	p.t.Helper()
	at := map[string]time.Time{}
	for _, e := range admin[daemon.JobDetail](p, http.MethodGet, fmt.Sprintf("/v1/jobs/%d", id)).Timeline {
		at[e.What] = e.At
	}
	return at[to].Sub(at[from])
}

// Proxmox tells a token of the daemon's no cores: its root half does.
func TestRootHalfTellsTheCores(t *testing.T) {
	pool := strings.Replace(one(4), "scale {", "size {\n cores = 128\n }\n placement {\n reserve {\n cores = 1\n }\n }\n scale {", 1)
	halfStory(t, usual, pool, func(p *play) {
		id := p.job("acme/app", time.Minute)
		p.until(time.Minute, "it is told what the job waits for", func() bool {
			return slices.ContainsFunc(admin[daemon.PlanStatus](p, http.MethodGet, "/v1/plan").Blocked, func(b daemon.BlockedPlan) bool {
				return b.Job == int64(id) && strings.Contains(b.Reason, "no cores for one more")
			})
		})
		p.w.GitHub.CancelJob(id)
	})
}

func TestRootHalfDeliversAndCollects(t *testing.T) {
	halfStory(t, usual, spares(3, 1), func(p *play) {
		if s := p.status(); s.Delivery != "host" || s.Nodes[0].Delivery != "host" {
			p.t.Errorf("delivery is %q, nodes %+v", s.Delivery, s.Nodes)
		}
		id := p.job("acme/app", time.Minute)
		p.until(3*time.Minute, "the job ends", p.over)
		p.until(30*time.Second, "its container is gone", func() bool { return len(p.running()) == 0 })
		p.succeeded(id)
		stages, details := p.timeline(id)
		for _, want := range []string{"started", "collected", "destroyed"} {
			if !strings.Contains(stages, want) {
				p.t.Errorf("the timeline has no %s: %s", want, stages)
			}
		}
		if !strings.Contains(details["collected"], "its work was over") {
			p.t.Errorf("collected: %s", details["collected"])
		}
		files, _ := filepath.Glob(filepath.Join(p.dir, "evidence", "*", "*"))
		if len(files) != 2 {
			p.t.Errorf("kept: %q", files)
		}
		for _, f := range files {
			if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
				p.t.Errorf("%s: %v, %v", f, info.Mode(), err)
			}
		}
	})
}

// TestStartAndMintRunAtOnce has each take two seconds.
func TestStartAndMintRunAtOnce(t *testing.T) {
	slow := usual
	slow.PVE.Timing.Start = 2 * time.Second
	slow.Hub.Timing.JIT = 2 * time.Second
	wait := map[bool]time.Duration{}
	for _, half := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlay(t, slow, spares(2, 1))
			if half {
				p.halves = []string{"pve"}
			}
			p.start()
			defer p.stop()
			time.Sleep(20 * time.Second)
			wait[half] = p.began(p.job("acme/app", time.Minute), time.Minute)
			p.until(3*time.Minute, "the job ends", p.over)
		})
	}
	if saved := wait[false] - wait[true]; saved < time.Second {
		t.Errorf("%s with a root half, %s without: want a second less at least", wait[true], wait[false])
	}
}

// TestExitIsToldNotLookedFor makes the listing useless while a job ends.
func TestExitIsToldNotLookedFor(t *testing.T) {
	halfStory(t, usual, one(1), func(p *play) {
		id := p.job("acme/app", time.Minute)
		p.began(id, time.Minute)
		p.govern(func(r *http.Request) fate {
			if calls("GET", "/lxc")(r) {
				return hang
			}
			return arrive
		})
		p.until(2*time.Minute, "the job ends", p.over)
		p.until(5*time.Second, "its container is gone", func() bool { return len(p.containers()) == 0 })
		p.govern(nil)
	})
}

// TestRootHalfThatIsAwayIsSaidAndCostsNothingElse takes it away and back.
func TestRootHalfThatIsAwayIsSaidAndCostsNothingElse(t *testing.T) {
	halfStory(t, usual, one(2), func(p *play) {
		p.w.SetHalf("pve", false)
		p.until(time.Minute, "it is told", func() bool {
			tr, ok := p.troubled("root half")
			return ok && strings.Contains(tr.Hint, "systemctl status dayfly-host") && p.status().Delivery == "env"
		})
		id := p.job("acme/app", 10*time.Second)
		p.served(5 * time.Minute)
		p.succeeded(id)
		if lag := p.between(id, "cloned", "minted"); lag < fleet.RulesLag {
			p.t.Errorf("nobody looked for the rules of its container's firewall, and its config came %v after it was made", lag)
		}
		time.Sleep(time.Minute)
		if tr, ok := p.troubled("root half"); !ok || !strings.Contains(tr.Hint, "systemctl status dayfly-host") {
			p.t.Errorf("a minute later: %+v", tr)
		}
		p.w.SetHalf("pve", true)
		p.until(time.Minute, "it is well again", func() bool {
			_, ok := p.troubled("root half")
			return !ok && p.status().Delivery == "host"
		})
		id = p.job("acme/app", 10*time.Second)
		p.began(id, time.Minute)
		p.w.SetHalf("pve", false) // with a job at work
		p.served(5 * time.Minute)
		p.succeeded(id)
	})
}

// TestRootHalfOfAnotherContractIsNotUsed speaks contract 1, which knows no
// environment of pools.
func TestRootHalfOfAnotherContractIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlay(t, usual, one(2))
		p.halves, p.contract = []string{"pve"}, "1"
		p.start()
		defer p.stop()
		p.until(time.Minute, "it is told", func() bool {
			tr, ok := p.troubled("speaks another contract")
			return ok && strings.Contains(tr.Hint, "same release")
		})
		id := p.job("acme/app", 10*time.Second)
		p.served(5 * time.Minute)
		p.succeeded(id)
	})
}

// TestUsedContainerIsNeverASpare loses the journal between the end of a job and
// its clean-up: nothing but the manifest says that the container was used.
func TestUsedContainerIsNeverASpare(t *testing.T) {
	slow := usual
	slow.PVE.Timing.Destroy = time.Hour
	halfStory(t, usual, one(1), func(p *play) {
		id := p.job("acme/app", 10*time.Second)
		p.began(id, time.Minute)
		p.crash()
		p.until(time.Minute, "its container is down", func() bool { return len(p.running()) == 0 })
		if len(p.containers()) != 1 {
			p.t.Fatalf("containers: %v", p.containers())
		}
		p.loseJournal()
		list := calls("GET", "/nodes/pve/lxc")
		p.govern(func(r *http.Request) fate {
			if list(r) {
				return refuse
			}
			return arrive
		})
		p.start()
		time.Sleep(time.Second) // the pools are in force before the container is found
		p.govern(nil)
		second := p.job("acme/app", 10*time.Second)
		p.served(10 * time.Minute)
		p.succeeded(id, second)
		if s := p.w.Summary(); s.Restarts != 0 {
			p.t.Errorf("a used container was started again: %s", s)
		}
	})
}

// TestContainerThatIsStartedAgainIsSaid has somebody start the container of a
// job that is over, before it is removed.
func TestContainerThatIsStartedAgainIsSaid(t *testing.T) {
	halfStory(t, usual, one(1), func(p *play) {
		p.govern(func(r *http.Request) fate {
			if r.Method == http.MethodDelete && r.URL.Hostname() == "pve.test" {
				return refuse
			}
			return arrive
		})
		id := p.job("acme/app", 10*time.Second)
		p.began(id, time.Minute)
		vmid := p.running()[0]
		p.until(2*time.Minute, "its container is down", func() bool { return len(p.running()) == 0 })
		time.Sleep(time.Second) // and that was told
		r := httptest.NewRequest(http.MethodPost, fmt.Sprintf("/api2/json/nodes/pve/lxc/%d/status/start", vmid), nil)
		r.Header.Set("Authorization", "PVEAPIToken=root@pam!hand="+p.w.Proxmox.AddToken("root@pam!hand", false))
		w := httptest.NewRecorder()
		if p.w.ProxmoxAPI().ServeHTTP(w, r); w.Code != http.StatusOK {
			p.t.Fatalf("start it by hand: %d %s", w.Code, w.Body)
		}
		p.until(time.Minute, "the timeline tells", func() bool {
			_, details := p.timeline(id)
			return details["restarted"] == "its container was started again, and not by dayfly: a guest that has run uses no JIT config again, and goes down"
		})
		p.govern(nil)
		p.served(10 * time.Minute)
		p.succeeded(id)
		if n := p.logged(`msg="container was started again"`); n != 1 || p.w.Summary().Restarts != 1 {
			p.t.Errorf("%d lines of the log tell of it, want one: %s", n, p.w.Summary())
		}
	})
}

// TestLeftoverIsRepaired has a clone's worker killed: what it leaves is in no
// resource pool, and locked.
func TestLeftoverIsRepaired(t *testing.T) {
	slow := usual
	slow.PVE.Timing.Clone = 20 * time.Second
	halfStory(t, slow, one(1), func(p *play) {
		id := p.job("acme/app", 10*time.Second)
		p.until(time.Minute, "a clone begins", func() bool { return len(p.w.Proxmox.Tasks("pve")) > 0 })
		time.Sleep(2 * time.Second)
		for _, task := range p.w.Proxmox.Tasks("pve") {
			p.w.Proxmox.KillWorker(task)
		}
		half := 0
		for _, k := range p.w.Proxmox.Containers() {
			if k.Lock == "create" {
				half = k.VMID
			}
		}
		if half == 0 {
			p.t.Fatal("nothing is half-made")
		}
		p.until(5*time.Minute, "it is removed", func() bool { _, there := p.w.Proxmox.Container(half); return !there })
		for _, k := range p.w.Proxmox.Containers() {
			if k.Template() && k.Lock != "" {
				p.w.Proxmox.Unlock(k.VMID)
			}
		}
		p.served(20 * time.Minute)
		p.succeeded(id)
	})
}

// warm is the pool of onePool with warm containers.
func warm(most, spare, n int) string {
	return fmt.Sprintf(onePool, fmt.Sprintf("scale {\n max = %d\n spare = %d\n warm = %d\n}", most, spare, n))
}

// phases counts the runners by phase.
func (p *play) phases() map[string]int {
	p.t.Helper()
	count := map[string]int{}
	for _, r := range p.status().Runners {
		count[r.Phase]++
	}
	return count
}

func (p *play) warmed(n int) {
	p.t.Helper()
	p.until(time.Minute, fmt.Sprintf("%d are warm", n), func() bool { return p.phases()["warm"] == n })
}

// TestWarmContainerTakesAJobWithoutAStart compares it with a spare.
func TestWarmContainerTakesAJobWithoutAStart(t *testing.T) {
	slow := usual
	slow.PVE.Timing.Start, slow.Guest.Boot = 3*time.Second, 3*time.Second
	halfStory(t, slow, warm(3, 0, 1), func(p *play) {
		p.warmed(1)
		if s := p.w.Summary(); s.JITMinted != 0 || len(p.running()) != 1 {
			p.t.Errorf("before a job: %s", s)
		}
		id := p.job("acme/app", 20*time.Second)
		if took := p.began(id, time.Minute); took > 4*time.Second {
			p.t.Errorf("the job waited %s, with a container that had booted", took)
		}
		p.warmed(1) // another one
		p.until(3*time.Minute, "the job ends", p.over)
		p.succeeded(id)
		if s := p.w.Summary(); s.JITMinted != 1 {
			p.t.Errorf("%d JIT configs for one job", s.JITMinted)
		}
	})
}

// TestWarmSurvivesARestart kills the daemon: the container is still warm.
func TestWarmSurvivesARestart(t *testing.T) {
	halfStory(t, usual, warm(2, 0, 1), func(p *play) {
		p.warmed(1)
		before := p.running()
		p.crash()
		time.Sleep(time.Minute)
		p.start()
		p.warmed(1)
		id := p.job("acme/app", 20*time.Second)
		p.began(id, 5*time.Second)
		if got := p.running(); len(got) == 0 || got[0] != before[0] {
			p.t.Errorf("running %v, before %v", got, before)
		}
		p.until(3*time.Minute, "the job ends", p.over)
		p.succeeded(id)
	})
}

// TestWarmWithoutMemoryIsNotTrusted loses the journal: nobody knows any more
// that no config is in it.
func TestWarmWithoutMemoryIsNotTrusted(t *testing.T) {
	halfStory(t, usual, warm(3, 0, 1), func(p *play) {
		p.warmed(1)
		old := p.running()[0]
		p.crash()
		p.loseJournal()
		p.start()
		p.until(10*time.Minute, "it is gone", func() bool { _, there := p.w.Proxmox.Container(old); return !there })
		p.warmed(1)
		id := p.job("acme/app", 20*time.Second)
		p.until(3*time.Minute, "the job ends", p.over)
		p.succeeded(id)
	})
}

func TestNothingIsWarmWithoutARootHalf(t *testing.T) {
	story(t, usual, warm(3, 1, 1), func(p *play) {
		p.until(time.Minute, "two spares", func() bool { return p.phases()["spare"] == 2 })
		time.Sleep(time.Minute)
		if got := p.phases(); got["warm"] != 0 || got["spare"] != 2 {
			p.t.Errorf("phases: %v", got)
		}
	})
}

// TestRefusedConfigLeavesAWarmContainerWarm has GitHub at its limit.
func TestRefusedConfigLeavesAWarmContainerWarm(t *testing.T) {
	halfStory(t, usual, warm(2, 0, 1), func(p *play) {
		p.warmed(1)
		before := p.running()
		p.w.GitHub.Throttle(30 * time.Second)
		id := p.job("acme/app", 20*time.Second)
		p.began(id, 5*time.Minute)
		runs := slices.IndexFunc(p.status().Runners, func(r daemon.RunnerStatus) bool { return r.VMID == before[0] && r.Phase == "busy" })
		if runs < 0 {
			p.t.Errorf("the job does not run on %d: %+v", before[0], p.status().Runners)
		}
		p.until(3*time.Minute, "the job ends", p.over)
		p.succeeded(id)
	})
}
