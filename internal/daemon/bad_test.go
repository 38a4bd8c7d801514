package daemon_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// off is a pool that is switched off: what was there for it goes.
func off(files string) string {
	return strings.Replace(files, "scale {", "enabled = false\n scale {", 1)
}

// debianPool is the simplest configuration with another template.
var debianPool = strings.Replace(one(4), "ubuntu-24.04", "debian-13", 1)

// badStory is a story on a node with a root half, of a pool whose only template
// was bad before the daemon saw it first.
func badStory(t *testing.T, prepare, tell func(*play)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPlay(t, usual, debianPool)
		p.halves = []string{"pve"}
		prepare(p)
		p.start()
		defer p.stop()
		time.Sleep(10 * time.Second)
		tell(p)
		p.check()
		if t.Failed() {
			t.Log(p.w.Summary())
			t.Log(p.logs.String())
		}
	})
}

// TestContainerThatIsNoGoodIsSaidAndNothingIsLeft has every container suffer
// from the same, in the way of a template that is broken: the job waits, hears
// why from "dayfly explain", and nothing is left when it is called off.
func TestContainerThatIsNoGoodIsSaidAndNothingIsLeft(t *testing.T) {
	for ailment, want := range map[sim.Ailment]string{
		sim.HangsAtBoot:    "after 20s: it is not far enough",
		sim.CrashesAtBoot:  "after 20s: it is not far enough",
		sim.NeverRegisters: "not listening 1m0s after its start",
		sim.Mute:           "not listening 1m0s after its start",
		sim.NoSpace:        "has no space for a JIT config on /run: no space left on device",
	} {
		t.Run(string(ailment), func(t *testing.T) {
			t.Parallel()
			badStory(t, func(p *play) { p.family("debian-13", 9100, ailment) }, func(p *play) {
				id := p.job("acme/app", 10*time.Second, "linux")
				p.until(5*time.Minute, "the job is told why it waits", func() bool { return strings.Contains(p.why(id), want) })
				if _, ok := p.troubled(want); !ok {
					p.t.Errorf("nobody is told: %+v", p.status().Troubles)
				}
				if p.logged("node pve: ") != 0 {
					p.t.Error("the node gets the blame")
				}
				p.w.GitHub.CancelJob(id)
				p.setPools(off(debianPool))
				p.gone(30 * time.Minute)
			})
		})
	}
}

// TestRunnerThatLosesItsNetworkIsGivenUp has it lost before a job: another
// container serves the job, and nothing is left.
func TestRunnerThatLosesItsNetworkIsGivenUp(t *testing.T) {
	halfStory(t, usual, one(2), func(p *play) {
		p.family("debian-13", 9100, sim.LosesNetwork)
		p.setPools(brokenPool)
		time.Sleep(2 * time.Minute)
		id := p.job("acme/app", 10*time.Second, "linux")
		p.until(time.Hour, "the job ends", p.over)
		if j := p.look(id); j.Status != hub.StatusCompleted {
			p.t.Errorf("the job is %s", j.Status)
		}
		p.setPools(off(brokenPool))
		p.gone(time.Hour)
	})
}

// TestLossOfTheNetworkIsNamed has a container lose it while its job runs: the
// job's explanation says so, its timeline and the log do, and once GitHub has
// given the job up, what became of it does.
func TestLossOfTheNetworkIsNamed(t *testing.T) {
	const cutOff = "it has lost its network, or its runner hangs"
	badStory(t, func(p *play) { p.family("debian-13", 9100, sim.LosesNetwork) }, func(p *play) {
		id := p.job("acme/app", 30*time.Minute)
		p.began(id, time.Minute)
		if why := p.why(id); strings.Contains(why, "heard nothing") {
			p.t.Errorf("at once it is explained as %q", why)
		}
		p.until(6*time.Minute, "its explanation names it", func() bool {
			why := p.why(id)
			return strings.Contains(why, "it runs on ") && strings.Contains(why, "; GitHub has heard nothing of it for 1m") && strings.HasSuffix(why, cutOff)
		})
		if _, details := p.timeline(id); details["silent"] != "GitHub hears nothing of it, and its container runs: "+cutOff {
			p.t.Errorf("the timeline says %q", details["silent"])
		}
		p.until(15*time.Minute, "GitHub gives the job up", p.over)
		p.until(time.Minute, "its fate names it", func() bool {
			why := p.why(id)
			return strings.Contains(why, "infrastructure lost it: GitHub had heard nothing of container 20000 on pve for ") && strings.Contains(why, cutOff)
		})
		if n := p.logged(`msg="runner is silent"`); n != 1 {
			p.t.Errorf("%d lines of the log tell of it, want one", n)
		}
		p.setPools(off(debianPool))
		p.gone(time.Hour)
	})
}

// TestIdleRunnerThatLosesItsNetworkIsNamed has no job on it.
func TestIdleRunnerThatLosesItsNetworkIsNamed(t *testing.T) {
	badStory(t, func(p *play) { p.family("debian-13", 9100, sim.LosesNetwork) }, func(p *play) {
		id := p.job("acme/app", 10*time.Second)
		p.until(time.Minute, "its container boots", func() bool { return len(p.running()) == 1 })
		p.w.GitHub.CancelJob(id)
		p.gone(30 * time.Minute)
		told := map[string]string{}
		for _, e := range admin[[]daemon.Event](p, "GET", "/v1/events?after=0&limit=1000") {
			told[e.What] += e.Detail + "\n"
		}
		for what, want := range map[string]string{"silent": "it has lost its network, or its runner hangs", "decided": "offline at GitHub, no job within 5m0s"} {
			if !strings.Contains(told[what], want) {
				p.t.Errorf("the journal says %q of %s, want %q", told[what], what, want)
			}
		}
		if n := p.logged(`msg="runner is silent"`); n != 1 {
			p.t.Errorf("%d lines of the log tell of it, want one", n)
		}
	})
}

// TestStrangerIsNoRootHalf: it hangs up on a user that is not its daemon's.
func TestStrangerIsNoRootHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlay(t, usual, one(2))
		p.halves, p.user = []string{"pve"}, "another"
		p.start()
		defer p.stop()
		p.until(time.Minute, "it is told", func() bool {
			tr, ok := p.troubled("the root half and this daemon do not know each other")
			return ok && strings.Contains(tr.Hint, "host.user") && p.status().Delivery == "env"
		})
		id := p.job("acme/app", 10*time.Second)
		p.served(5 * time.Minute)
		p.succeeded(id)
		p.check()
	})
}

// TestRootHalfOfASmallerRangeIsNotUsed: it would refuse some of our containers.
func TestRootHalfOfASmallerRangeIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlay(t, usual, one(2))
		p.halves, p.least = []string{"pve"}, firstVMID+1
		p.start()
		defer p.stop()
		p.until(time.Minute, "it is told", func() bool {
			_, ok := p.troubled("it touches VMIDs 20001 to 20199 only, the range is 20000 to 20199")
			return ok && p.status().Delivery == "env"
		})
		id := p.job("acme/app", 10*time.Second)
		p.served(5 * time.Minute)
		p.succeeded(id)
		p.check()
	})
}

// TestTemplateOfAnotherContractIsNotUsed: its guest would look for its config
// elsewhere, or leave its evidence where nobody looks. One that says nothing is
// used.
func TestTemplateOfAnotherContractIsNotUsed(t *testing.T) {
	for contract, want := range map[string]string{
		"0":   `its guest keeps contract "0", this dayfly 2: it was baked by an older plugin`,
		"3":   "its guest keeps contract 3, which this dayfly does not know",
		"one": `its guest keeps contract "one", this dayfly 2`,
	} {
		t.Run(contract, func(t *testing.T) {
			t.Parallel()
			badStory(t, func(p *play) {
				info := proxmox.TemplateInfo{
					Schema: 1, Family: "debian-13", Version: "2.335.1-1", State: "ready", Runner: "2.335.1", Contract: contract,
				}
				p.w.Proxmox.AddTemplate(pve.Template{
					VMID: 9100, ResourcePool: pve.LabTemplates, Storage: pve.LabStorage,
					Config: map[string]string{"hostname": "debian", "description": info.Describe(), "features": "nesting=1"},
				})
			}, func(p *play) {
				id := p.job("acme/app", 10*time.Second)
				time.Sleep(10 * time.Minute)
				if why := p.why(id); !strings.Contains(why, "debian-13@2.335.1-1") || !strings.Contains(why, want) {
					p.t.Errorf("the job waits because %q, want %q", why, want)
				}
				if n := p.logged(`hint="bake it again with the plugin of this dayfly's release"`); n != 1 {
					p.t.Errorf("%d lines of the log tell of it, want one: %+v", n, p.status().Troubles)
				}
				p.made(0, 0)
				p.setPools(one(1)) // a template that says nothing
				p.served(10 * time.Minute)
				p.succeeded(id)
			})
		})
	}
}

// TestEvidenceThatIsNoGoodIsSaid has the root half answer with what is none: the
// job's timeline says so, and the container is gone all the same.
func TestEvidenceThatIsNoGoodIsSaid(t *testing.T) {
	for name, c := range map[string]struct{ answer, want string }{
		"cut off":    {`{"vmid":20000,"files":[{"path":"/x","data":"aGFsZg`, "nothing: root half at pve: collect from container"},
		"no JSON":    {"<html>", "nothing: root half at pve: collect from container"},
		"too much":   {`{"exit":"` + strings.Repeat("x", 5<<20) + `"}`, "answer is longer than"},
		"unreadable": {`{"vmid":20000,"exit":"unreadable: the file exit.json is not what the guest writes"}`, "the runner unreadable: the file exit.json is not what the guest writes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			halfStory(t, usual, one(1), func(p *play) {
				p.answer = c.answer
				id := p.job("acme/app", 10*time.Second)
				p.served(5 * time.Minute)
				p.succeeded(id)
				if _, details := p.timeline(id); !strings.Contains(details["collected"], c.want) {
					p.t.Errorf("collected: %.300q, want %q", details["collected"], c.want)
				}
			})
		})
	}
}
