package daemon_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// reruns is the pool of onePool whose lost jobs are run again so often.
func reruns(most string) string { return one(4, "retry {\n lost_jobs = "+most+"\n }") }

// lossStory plays with an App that may run jobs again.
func lossStory(t *testing.T, cfg sim.Config, files string, tell func(*play)) {
	story(t, cfg, files, func(p *play) {
		p.mayRerun()
		tell(p)
	})
}

func (p *play) mayRerun() {
	granted := hub.DefaultPermissions()
	granted["actions"] = "write"
	p.w.GitHub.Grant(p.in, granted)
}

// dies has the container of the only running job die under it.
func (p *play) dies(id hub.JobID) {
	p.t.Helper()
	p.began(id, time.Minute)
	time.Sleep(30 * time.Second)
	for _, vmid := range p.running() {
		p.w.Proxmox.PowerOff(vmid)
	}
	p.until(12*time.Minute, "GitHub gives the job up", func() bool { return p.look(id).Status == hub.StatusCompleted })
	if j := p.look(id); j.Conclusion != hub.Failure || !j.Lost {
		p.t.Fatalf("the job ended as %s, lost %t; want a lost one", j.Conclusion, j.Lost)
	}
}

// attempts are the jobs there are beside the first one.
func (p *play) attempts() []hub.Job { return p.w.GitHub.Jobs()[1:] }

func TestLostJobIsRunAgainOnce(t *testing.T) {
	lossStory(t, usual, reruns("1"), func(p *play) {
		id := p.job("acme/app", 5*time.Minute)
		p.dies(id)
		p.until(5*time.Minute, "it is run again", func() bool { return len(p.attempts()) == 1 })
		again := p.attempts()[0].ID
		if why := p.why(id); !strings.Contains(why, "infrastructure lost it: container 20000 on pve had stopped") || !strings.Contains(why, "GitHub was asked to run it again") {
			p.t.Errorf("explained as %q", why)
		}
		p.dies(again) // the budget of its run is used up
		time.Sleep(30 * time.Minute)
		if n := len(p.attempts()); n != 1 {
			p.t.Errorf("%d attempts beside the first, want one", n)
		}
		if why := p.why(again); !strings.Contains(why, "it is not run again: lost jobs of this run were run again 1 times") {
			p.t.Errorf("explained as %q", why)
		}
		p.gone(10 * time.Minute)
	})
}

// TestRerunIsAskedOnceWhateverHappens has the daemon die around the request, or
// its answer be lost.
func TestRerunIsAskedOnceWhateverHappens(t *testing.T) {
	for name, does := range map[string]fate{"killed before": kill, "killed after": doom, "answer lost": lose, "not sent": refuse} {
		t.Run(name, func(t *testing.T) {
			lossStory(t, usual, reruns("3"), func(p *play) {
				id := p.job("acme/app", 5*time.Minute)
				done := false
				var r rule = func(r *http.Request) fate {
					if done || !strings.HasSuffix(r.URL.Path, "/rerun") {
						return arrive
					}
					done = true
					return does
				}
				p.rule.Store(&r)
				p.dies(id)
				time.Sleep(5 * time.Minute)
				if p.now.dead.Load() {
					p.crash()
					p.start()
				}
				p.until(15*time.Minute, "every job ends", func() bool { return len(p.attempts()) > 0 && p.over() })
				time.Sleep(30 * time.Minute)
				if n := len(p.attempts()); n != 1 || !done {
					p.t.Errorf("%d attempts beside the first, want one", n)
				}
				p.succeeded(p.attempts()[0].ID)
				if why := p.why(id); !strings.Contains(why, "GitHub was asked to run it again") {
					p.t.Errorf("explained as %q", why)
				}
				p.gone(10 * time.Minute)
			})
		})
	}
}

func TestJobsOfADeadNodeAreRunAgainTogether(t *testing.T) {
	two := usual
	two.PVE.Nodes = []string{"a", "b"}
	files := strings.Replace(reruns("1"), "scale {", "placement { nodes = [\"b\"] }\nscale {", 1)
	lossStory(t, two, files, func(p *play) {
		p.templateOf("ubuntu-24.04", "b", 9001, "2.335.1-1", "")
		time.Sleep(2 * time.Minute)
		first := p.job("acme/app", 5*time.Minute)
		second := p.w.GitHub.QueueJob(hub.NewJob{Repo: "acme/app", Run: p.look(first).Run, Name: "test", Labels: []string{"linux"}, Duration: 5 * time.Minute})
		p.began(first, time.Minute)
		p.began(second, time.Minute)
		p.setPools(reruns("1"))
		p.w.Proxmox.StopNode("b")
		p.until(12*time.Minute, "GitHub gives them up", p.over)
		p.until(10*time.Minute, "both are run again", func() bool { return len(p.w.GitHub.Jobs()) == 4 })
		p.until(10*time.Minute, "both end", p.over)
		for _, j := range p.w.GitHub.Jobs()[2:] {
			p.succeeded(j.ID)
		}
		p.w.Proxmox.StartNode("b")
		p.gone(20 * time.Minute)
	})
}

// TestNothingElseIsRunAgain: not what failed or was cancelled, nothing of a
// pool that does not say so, and not what somebody else ran again.
func TestNothingElseIsRunAgain(t *testing.T) {
	lossStory(t, usual, reruns("1"), func(p *play) {
		failed := p.w.GitHub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"linux"}, Duration: 10 * time.Second, Conclusion: hub.Failure})
		cancelled := p.job("acme/app", 10*time.Minute)
		p.began(cancelled, time.Minute)
		p.w.GitHub.CancelJob(cancelled)
		p.until(15*time.Minute, "both end", p.over)
		time.Sleep(30 * time.Minute)
		if n := len(p.w.GitHub.Jobs()); n != 2 {
			p.t.Errorf("%d jobs, want no attempt beside the two", n)
		}
		if why := p.why(failed); why != "it is over: failure" {
			p.t.Errorf("explained as %q", why)
		}
		p.gone(10 * time.Minute)
	})
	lossStory(t, usual, one(4), func(p *play) {
		id := p.job("acme/app", 5*time.Minute)
		p.dies(id)
		time.Sleep(30 * time.Minute)
		if n := len(p.attempts()); n != 0 {
			p.t.Errorf("%d attempts beside the first, want none", n)
		}
		if why := p.why(id); !strings.Contains(why, "pool linux runs no lost jobs again (retry.lost_jobs)") {
			p.t.Errorf("explained as %q", why)
		}
	})
}

func TestRerunWithoutThePermissionIsToldAndMadeUpFor(t *testing.T) {
	story(t, usual, reruns("1"), func(p *play) {
		p.until(time.Minute, "the check tells", func() bool {
			tr, ok := p.troubled("lacks the permission actions: write: lost jobs are not run again")
			return ok && strings.Contains(tr.Hint, "grant it")
		})
		id := p.job("acme/app", 5*time.Minute)
		p.dies(id)
		p.until(10*time.Minute, "the refusal is told", func() bool { _, ok := p.troubled("run job"); return ok })
		p.mayRerun()
		p.until(30*time.Minute, "it is run again", func() bool { return len(p.attempts()) == 1 })
		p.until(15*time.Minute, "every job ends", p.over)
		p.until(15*time.Minute, "the troubles end", func() bool {
			return !slices.ContainsFunc(p.status().Troubles, func(tr daemon.Trouble) bool { return strings.Contains(tr.What, "again") })
		})
		p.succeeded(p.attempts()[0].ID)
		p.gone(10 * time.Minute)
	})
}
