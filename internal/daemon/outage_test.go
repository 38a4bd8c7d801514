package daemon_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/pools"
	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// GitHub says that the runner is not busy, and deletes its registration when
// asked to; the webhook that says otherwise is lost.
func TestBusyLieKillsNoLiveJob(t *testing.T) {
	liar := usual
	liar.Faults.Habits = hub.Habits{BusyLies: 1}
	files := strings.Replace(one(4), `idle     = "5m"`, `idle     = "30s"`, 1)
	story(t, liar, files, func(p *play) {
		var ids []hub.JobID
		for range 5 {
			p.w.GitHub.NextWebhook(hub.Deliver, hub.Lose)
			ids = append(ids, p.job("acme/app", 10*time.Minute))
			time.Sleep(47 * time.Second)
		}
		p.served(20 * time.Minute)
		p.succeeded(ids...)
		p.made(5, 5)
	})
}

func TestJobBeyondItsHardLimitIsEnded(t *testing.T) {
	story(t, usual, one(1), func(p *play) {
		p.family("debian-13", 9100, sim.NeverEnds)
		p.setPools(strings.Replace(one(1), "ubuntu-24.04", "debian-13", 1))
		time.Sleep(2 * time.Minute)
		id := p.job("acme/app", time.Minute)
		p.began(id, time.Minute)
		time.Sleep(jobTimeout - time.Minute)
		if len(p.running()) != 1 {
			p.t.Fatal("the container is gone before the limit")
		}
		p.until(2*time.Minute, "the container is gone", func() bool { return len(p.containers()) == 0 })
		p.served(15 * time.Minute) // GitHub takes 10 to give the job up
		if s := p.w.Summary(); s.TimedOut != 1 || s.Killed != 0 {
			p.t.Errorf("%d timed out, %d killed, want 1 and 0", s.TimedOut, s.Killed)
		}
	})
}

func TestContainerThatDiesMidJobIsClearedAndItsPlaceUsed(t *testing.T) {
	story(t, usual, one(1), func(p *play) {
		lost := p.job("acme/app", 10*time.Minute)
		p.began(lost, time.Minute)
		time.Sleep(10 * time.Second)
		p.w.Proxmox.PowerOff(p.running()[0])
		next := p.job("acme/app", 10*time.Second)
		if took := p.began(next, 3*time.Minute); took > time.Minute {
			p.t.Errorf("the next job waited %s for the place of a dead container", took)
		}
		p.served(15 * time.Minute)
		p.succeeded(next)
	})
}

// TestNodeThatGoesDownAndComesBack has jobs served by the other node, and
// nothing left on the one that was away.
func TestNodeThatGoesDownAndComesBack(t *testing.T) {
	two := usual
	two.PVE.Nodes = []string{"a", "b"}
	story(t, two, one(4), func(p *play) {
		p.templateOf("ubuntu-24.04", "b", 9001, "2.335.1-1", "")
		time.Sleep(time.Minute)
		first, second := p.job("acme/app", 30*time.Minute), p.job("acme/app", 30*time.Minute)
		p.began(first, time.Minute)
		p.began(second, time.Minute)
		on := map[string]int{}
		for _, id := range p.running() {
			c, _ := p.w.Proxmox.Container(id)
			on[c.Node]++
		}
		if on["a"] != 1 || on["b"] != 1 {
			p.t.Fatalf("runners by node: %v, want one on each", on)
		}
		p.w.Proxmox.StopNode("b")
		time.Sleep(2 * time.Minute)
		var ids []hub.JobID
		for range 3 {
			ids = append(ids, p.job("acme/lib", 10*time.Second))
		}
		for _, id := range ids {
			p.began(id, 5*time.Minute)
		}
		p.w.Proxmox.StartNode("b")
		p.served(40 * time.Minute)
		p.succeeded(ids...)
	})
}

// TestSparesOfADeadNodeTakeNoPlace: what went with a node and had no job leaves
// its place to others, and is cleared away when the node is back.
func TestSparesOfADeadNodeTakeNoPlace(t *testing.T) {
	two := usual
	two.PVE.Nodes = []string{"a", "b"}
	onlyB := strings.Replace(spares(2, 2), "scale {", "placement { nodes = [\"b\"] }\nscale {", 1)
	story(t, two, onlyB, func(p *play) {
		p.templateOf("ubuntu-24.04", "b", 9001, "2.335.1-1", "")
		p.until(2*time.Minute, "two spares are there", func() bool { return p.status().Pools[0].Phases["spare"] == 2 })
		p.w.Proxmox.StopNode("b")
		p.setPools(spares(2, 0))
		time.Sleep(3 * time.Minute)
		ids := []hub.JobID{p.job("acme/app", 30*time.Second), p.job("acme/app", 30*time.Second)}
		for _, id := range ids {
			if took := p.began(id, 5*time.Minute); took > time.Minute {
				p.t.Errorf("a job waited %s for the place of a dead spare", took)
			}
		}
		p.w.Proxmox.StartNode("b")
		p.served(20 * time.Minute)
		p.succeeded(ids...)
	})
}

func TestProxmoxDownAtStartIsWaitedFor(t *testing.T) { downAtStart(t, "pve.test", "nodes") }

func TestGitHubDownAtStartIsWaitedFor(t *testing.T) {
	downAtStart(t, "github.test", "GitHub is out of reach")
}

// downAtStart starts the daemon while one side does not answer: it says so,
// takes deliveries, and serves the job when the side returns.
func downAtStart(t *testing.T, host, what string) {
	story(t, usual, one(2), func(p *play) {
		p.stop()
		p.govern(down(host))
		p.start()
		time.Sleep(time.Minute)
		if tr, ok := p.troubled(what); !ok || !strings.Contains(tr.Hint, "reaches") || len(p.status().Troubles) != 1 {
			p.t.Errorf("nobody is told once that %s is down, and what to do: %+v", host, p.status().Troubles)
		}
		if w := ask(p.now.d.Public(), "GET", "/healthz"); w.Code != http.StatusOK {
			p.t.Errorf("/healthz answers %d", w.Code)
		}
		id := p.job("acme/app", 10*time.Second)
		time.Sleep(3 * time.Minute)
		p.govern(nil)
		if p.began(id, 3*time.Minute); p.t.Failed() {
			return
		}
		p.served(3 * time.Minute)
		p.succeeded(id)
		time.Sleep(11 * time.Minute) // a whole round of every look
		if s := p.status(); len(s.Troubles) != 0 {
			p.t.Errorf("troubles that are over are still shown: %+v", s.Troubles)
		}
	})
}

func (p *play) poolsDir() string { return filepath.Join(p.dir, "pools") }

// TestLastGoodPoolsServeWhileTheirSourceIsAway starts without a source.
func TestLastGoodPoolsServeWhileTheirSourceIsAway(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		p.stop()
		if err := os.Rename(p.poolsDir(), p.poolsDir()+".away"); err != nil {
			p.t.Fatal(err)
		}
		p.start()
		time.Sleep(10 * time.Second)
		stays := "; until then revision " + p.status().Revision + " stays in force"
		if tr, ok := p.troubled("no such file or directory"); !ok || tr.Hint != "look at what the block pools of the daemon's configuration names"+stays {
			p.t.Errorf("nobody is told that the pools' source is away, what to do and what is in force: %+v", p.status().Troubles)
		}
		id := p.job("acme/app", 10*time.Second)
		p.served(2 * time.Minute)
		p.succeeded(id)
		if err := os.Rename(p.poolsDir()+".away", p.poolsDir()); err != nil {
			p.t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if tr, ok := p.troubled("pools"); ok {
			p.t.Errorf("the source is back, unchanged, and still told to be away: %+v", tr)
		}
	})
}

// refusing is a source of pools that takes nobody.
type refusing struct{ pools.Source }

func (refusing) Load(context.Context, pools.Known) (pools.Set, error) {
	return pools.Set{}, fmt.Errorf("read pools: the server refuses the SSH key: %w", fleet.ErrDenied)
}

// TestSourceThatRefusesUsIsToldByItself: what to do about it is in the daemon's
// configuration, and no check of Proxmox or GitHub tells more.
func TestSourceThatRefusesUsIsToldByItself(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		p.stop()
		p.loseJournal()
		p.source = refusing{p.pools()}
		p.start()
		time.Sleep(2 * time.Minute)
		p.only("the server refuses the SSH key",
			"look at what the block pools of the daemon's configuration logs in with, and what that may read; until then there are no pools")
		p.stop()
		p.source = nil
		p.start()
	})
}

func TestInvalidRevisionIsRefusedAndShown(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		good := p.status().Revision
		p.setPools(one(2, "colour = 7"))
		time.Sleep(2 * time.Minute)
		s := p.status()
		if s.Revision != good || !strings.Contains(s.Refused, "pools.hcl:") || !strings.Contains(s.Refused, "colour") {
			p.t.Errorf("revision %q refused %q, want %q in force and the refusal to name colour", s.Revision, s.Refused, good)
		}
		tr, ok := p.troubled("colour")
		if !ok || !strings.Contains(tr.Hint, "revision "+good+" stays in force") {
			p.t.Errorf("nobody is told what to do, and what stays in force: %+v", s.Troubles)
		}
		id := p.job("acme/app", 10*time.Second)
		p.served(2 * time.Minute)
		p.succeeded(id)
		p.setPools(one(3))
		time.Sleep(2 * time.Minute)
		s = p.status()
		if s.Revision == good || s.Refused != "" || s.Pools[0].Max != 3 || len(s.Troubles) != 0 {
			p.t.Errorf("the good revision is not in force: %+v", s)
		}
	})
}

func TestInvalidRevisionIsStillShownAfterAStart(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		p.setPools(one(2, "colour = 7"))
		time.Sleep(2 * time.Minute)
		p.stop()
		p.start()
		time.Sleep(10 * time.Second)
		if s := p.status(); s.Pools[0].Max != 2 || !strings.Contains(s.Refused, "colour") {
			p.t.Errorf("after a start: %+v", s)
		}
	})
}

func TestRaisedMaximumIsUsedWithinAMinute(t *testing.T) {
	story(t, usual, one(1), func(p *play) {
		for range 3 {
			p.job("acme/app", 5*time.Minute)
		}
		time.Sleep(30 * time.Second)
		if n := len(p.running()); n != 1 {
			p.t.Fatalf("%d runners, want 1", n)
		}
		p.setPools(one(3))
		p.until(75*time.Second, "three run", func() bool { return len(p.running()) == 3 })
		p.served(10 * time.Minute)
	})
}

// TestRepositoryThatCannotBeReadStopsNoOther: what the poll finds in one
// repository counts, though another one is refused.
func TestRepositoryThatCannotBeReadStopsNoOther(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		p.govern(func(r *http.Request) fate {
			if strings.Contains(r.URL.Path, "/acme/app/actions/runs") {
				r.URL.Path = strings.Replace(r.URL.Path, "/acme/app/", "/acme/none/", 1)
			}
			return arrive
		})
		p.w.GitHub.NextWebhook(hub.Lose)
		id := p.job("acme/lib", 10*time.Second)
		p.began(id, 3*time.Minute)
		if _, ok := p.troubled("acme/app"); !ok {
			p.t.Errorf("nobody is told of the repository: %+v", p.status().Troubles)
		}
		p.govern(nil)
		p.served(3 * time.Minute)
		p.succeeded(id)
	})
}

// TestJobOfARepositoryThatIsOutOfReachIsNoDemand: the installation loses a
// repository while one of its jobs is queued.
func TestJobOfARepositoryThatIsOutOfReachIsNoDemand(t *testing.T) {
	cfg := usual
	cfg.PVE = pve.Config{Timing: usual.PVE.Timing}
	story(t, cfg, one(1), func(p *play) {
		in := p.w.GitHub.AddInstallation(hub.Installation{Account: "globex", Repositories: []string{"web", "api"}})
		p.setPools(strings.ReplaceAll(one(1), `"acme"`, `"globex"`))
		time.Sleep(2 * time.Minute)
		busy := p.job("globex/api", 5*time.Minute)
		p.began(busy, time.Minute)
		p.job("globex/web", time.Minute) // waits for the place
		time.Sleep(10 * time.Second)
		p.w.GitHub.ChangeRepositories(in, nil, []string{"web"})
		p.until(10*time.Minute, "the job counts no more", func() bool { return p.status().Queued == 0 })
		p.until(10*time.Minute, "the other one ends", func() bool { return p.look(busy).Status == hub.StatusCompleted })
		p.succeeded(busy)
	})
}

// TestSlowScopeHoldsUpNoOther has GitHub answer one organisation's lists late.
func TestSlowScopeHoldsUpNoOther(t *testing.T) {
	story(t, usual, one(1), func(p *play) {
		p.globex()
		p.govern(func(r *http.Request) fate {
			if strings.Contains(r.URL.Path, "/acme") && r.Method == http.MethodGet {
				return lag
			}
			return arrive
		})
		time.Sleep(time.Minute)
		p.w.GitHub.NextWebhook(hub.Lose)
		id := p.job("globex/web", 10*time.Second, "linux")
		if took := p.began(id, 10*time.Minute); took > 75*time.Second {
			p.t.Errorf("the poll of another organisation found the job after %s", took)
		}
		p.govern(nil)
		p.served(10 * time.Minute)
		p.succeeded(id)
	})
}

// TestQuotaThatRunsOutStopsThePollsOfItsScopeOnly gives one organisation's
// installation very few requests.
func TestQuotaThatRunsOutStopsThePollsOfItsScopeOnly(t *testing.T) {
	story(t, usual, one(1), func(p *play) {
		p.w.GitHub.SetLimits(hub.Limits{Primary: 19}) // from an installation's next hour on
		if used, limit := p.w.GitHub.Quota(p.globex()); used != 18 || limit != 19 {
			p.t.Fatalf("%d of %d requests are used, the story needs 18 of 19", used, limit)
		}
		if _, ok := p.troubled("jobs of globex: less than a tenth"); !ok {
			p.t.Errorf("nobody is told of the quota: %+v", p.status().Troubles)
		}
		p.w.GitHub.NextWebhook(hub.Lose)
		id := p.job("acme/app", 10*time.Second, "linux")
		if took := p.began(id, 10*time.Minute); took > 75*time.Second {
			p.t.Errorf("the poll of another organisation found the job after %s", took)
		}
		p.until(time.Minute, "the job ends", p.over)
		p.succeeded(id)
	})
}

// TestDeliveryFetchedBeforeAFailureCounts has two deliveries fail, and GitHub
// gives the payload of the first job's only.
func TestDeliveryFetchedBeforeAFailureCounts(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		fetched := map[string]bool{}
		p.govern(func(r *http.Request) fate {
			_, id, payload := strings.Cut(r.URL.Path, "/app/hook/deliveries/")
			if payload && len(fetched) < 2 { // that of the installation, before the start, is one
				fetched[id] = true
			}
			if payload && !fetched[id] || strings.HasSuffix(r.URL.Path, "/actions/runs") {
				return refuse
			}
			return arrive
		})
		p.w.GitHub.NextWebhook(hub.Fail, hub.Fail)
		first := p.job("acme/app", 10*time.Second)
		time.Sleep(time.Second)
		second := p.job("acme/lib", 10*time.Second)
		p.began(first, 7*time.Minute)
		if !p.look(second).Started.IsZero() {
			p.t.Fatal("the second delivery came through: the story tells nothing")
		}
		p.govern(nil)
		p.served(7 * time.Minute)
		p.succeeded(first, second)
	})
}
