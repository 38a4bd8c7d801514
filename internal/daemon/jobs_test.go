package daemon_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/github"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

func TestLostWebhookCostsAtMostAPoll(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.w.GitHub.NextWebhook(hub.Lose)
		id := p.job("acme/app", 10*time.Second)
		if took := p.began(id, 2*time.Minute); took > 75*time.Second {
			p.t.Errorf("the job began after %s, want within the poll's minute", took)
		}
		p.served(time.Minute)
		p.succeeded(id)
		p.made(1, 1)
	})
}

func TestFailedDeliveryIsFetched(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.govern(func(r *http.Request) fate { // the poll sees nothing
			if strings.HasSuffix(r.URL.Path, "/actions/runs") {
				return refuse
			}
			return arrive
		})
		p.w.GitHub.NextWebhook(hub.Fail)
		id := p.job("acme/app", 10*time.Second)
		p.began(id, 6*time.Minute)
		p.govern(nil)
		p.served(time.Minute)
		p.succeeded(id)
		p.made(1, 1)
	})
}

func TestDoubledDeliveryMakesOneContainer(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.w.GitHub.NextWebhook(hub.Double, hub.Double, hub.Double)
		id := p.job("acme/app", 10*time.Second)
		p.served(time.Minute)
		p.succeeded(id)
		p.made(1, 1)
		delivered := 0
		for _, e := range admin[[]daemon.Event](p, "GET", "/v1/events?after=0&limit=1000") {
			if e.What == "delivered" && e.Job == int64(id) {
				delivered++
			}
		}
		if delivered != 3 {
			p.t.Errorf("%d deliveries of the job in the journal, want 3: queued, in_progress, completed, each once", delivered)
		}
	})
}

func TestCompletedBeforeQueuedSpendsNoContainer(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.w.GitHub.NextWebhook(hub.Late(20 * time.Second))
		id := p.job("acme/app", time.Minute)
		time.Sleep(time.Second)
		p.w.GitHub.CancelJob(id)
		time.Sleep(5 * time.Minute)
		p.made(0, 0)
		if n := p.status().Queued; n != 0 {
			p.t.Errorf("%d jobs count as queued, want none", n)
		}
	})
}

func TestWaitingIsNoDemandUntilApproved(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		id := p.w.GitHub.QueueJob(hub.NewJob{Repo: "acme/app", Labels: []string{"linux"}, Duration: time.Second, Waiting: true})
		time.Sleep(5 * time.Minute)
		p.made(0, 0)
		p.w.GitHub.Approve(id)
		p.served(time.Minute)
		p.succeeded(id)
		p.made(1, 1)
	})
}

func TestRunnerOfACancelledJobServesTheNext(t *testing.T) {
	slow := usual
	slow.Guest.Boot = 20 * time.Second
	story(t, slow, one(4), func(p *play) {
		first := p.job("acme/app", 10*time.Second)
		p.until(time.Minute, "its container boots", func() bool { return len(p.running()) == 1 })
		p.w.GitHub.CancelJob(first)
		time.Sleep(25 * time.Second)
		second := p.job("acme/lib", 10*time.Second)
		if took := p.began(second, time.Minute); took > time.Second {
			p.t.Errorf("the second job waited %s for a runner that was there", took)
		}
		p.served(time.Minute)
		p.succeeded(second)
		p.made(1, 1)
	})
}

func TestSurplusRunnerIsRetiredAfterItsIdleTime(t *testing.T) {
	slow := usual
	slow.Guest.Boot = 20 * time.Second
	story(t, slow, one(4), func(p *play) {
		id := p.job("acme/app", 10*time.Second)
		p.until(time.Minute, "its container boots", func() bool { return len(p.running()) == 1 })
		p.w.GitHub.CancelJob(id)
		time.Sleep(5 * time.Minute)
		if n := len(p.running()); n != 1 {
			p.t.Errorf("%d runners before the idle time is over, want 1", n)
		}
		p.gone(3 * time.Minute)
		p.made(1, 1)
	})
}

// intruder is a runner of another program; it takes one job and runs it.
func (p *play) intruder(labels ...string) {
	p.t.Helper()
	app := p.w.GitHub.App()
	gh, err := github.New(github.Config{
		URL: "https://github.test/", App: fmt.Sprint(app.ID), Key: fleet.NewSecret(string(app.PEM)),
		Transport: stage.Transport{Handler: p.w.GitHubAPI()},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	_, jit, err := gh.JIT(p.t.Context(), "acme", "mac-mini", labels, "")
	if err != nil {
		p.t.Fatal(err)
	}
	session, err := p.w.GitHub.Connect(jit.Reveal(), "2.335.1")
	if err != nil {
		p.t.Fatal(err)
	}
	err = session.Listen(hub.Listener{Assigned: func(a hub.JobAssignment) {
		p.w.Clock.AfterFunc(100*time.Millisecond, func() {
			if session.Start(a.ID) == nil {
				p.w.Clock.AfterFunc(a.Duration, func() { _ = session.Finish(a.ID, hub.Success) })
			}
		})
	}})
	if err != nil {
		p.t.Fatal(err)
	}
}

func TestJobStolenByAnotherProgramLeavesASurplus(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.intruder("self-hosted", "linux")
		id := p.job("acme/app", 30*time.Second)
		p.served(time.Minute)
		p.succeeded(id)
		if p.look(id).Runner != "mac-mini" {
			p.t.Fatalf("the job ran on %s: the story tells nothing", p.look(id).Runner)
		}
		if s := p.w.Summary(); s.Clones > 1 {
			p.t.Errorf("%d containers for a job that somebody else ran, want 1 at most", s.Clones)
		}
	})
}

// A runner is made for the job that was heard of, and takes another that was
// not. The first job must not wait for a runner that is busy.
func TestJobWhoseRunnerTookAnotherGetsOneAtOnce(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.w.GitHub.NextWebhook(hub.Lose)
		unheard := p.job("acme/lib", 10*time.Minute)
		heard := p.job("acme/app", 10*time.Second)
		if took := p.began(heard, 2*time.Minute); took > 15*time.Second {
			p.t.Errorf("the job whose runner was taken waited %s", took)
		}
		p.served(15 * time.Minute)
		p.succeeded(heard, unheard)
		p.made(2, 2)
	})
}

func TestBurstKeepsToItsMaximumAndOneCloneAReplica(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.template(9001, "2.335.1-1", "") // a second replica
		time.Sleep(time.Minute)
		most, clones, both := 0, 0, false
		stop := p.watch(func() {
			most = max(most, len(p.containers()))
			n := 0
			for _, task := range p.w.Proxmox.Tasks("pve") {
				if strings.Contains(task, ":vzclone:") {
					n++
				}
			}
			clones, both = max(clones, n), both || n == 2
		})
		var ids []hub.JobID
		for range 10 {
			ids = append(ids, p.job("acme/app", 20*time.Second))
		}
		p.served(5 * time.Minute)
		stop()
		p.succeeded(ids...)
		p.made(10, 10)
		if most != 4 || clones > 2 || !both {
			p.t.Errorf("at most %d containers and %d clones at once (two replicas at once: %t), want 4, 2 and true", most, clones, both)
		}
		if n := p.w.Summary().Collisions; n != 0 {
			p.t.Errorf("%d clones of a replica that was being cloned", n)
		}
	})
}

func TestSpareIsLaunchedAtOnceAndReplaced(t *testing.T) {
	slow := usual
	slow.PVE.Timing.Clone = 30 * time.Second
	story(t, slow, spares(4, 2), func(p *play) {
		stopped := func() bool { return len(p.containers()) == 2 && len(p.running()) == 0 && idle(p.status()) }
		p.until(3*time.Minute, "two spares are there", stopped)
		if n := len(p.w.GitHub.Runners("")); n != 0 {
			p.t.Errorf("%d registrations of spares, want none", n)
		}
		id := p.job("acme/app", 10*time.Second)
		if took := p.began(id, time.Minute); took > 3*time.Second {
			p.t.Errorf("the job began after %s, want start, boot and connect: 2 s", took)
		}
		p.until(2*time.Minute, "the spare is replaced", func() bool { return p.over() && stopped() })
		p.succeeded(id)
		p.made(3, 1)
		p.setPools(strings.Replace(spares(4, 2), "scale {", "enabled = false\n scale {", 1))
		p.gone(5 * time.Minute)
	})
}

func TestDrainedPoolFinishesItsJobsAndTakesNoOthers(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		busy := p.job("acme/app", 5*time.Minute)
		p.began(busy, time.Minute)
		p.setPools(one(4, "enabled = false"))
		time.Sleep(90 * time.Second)
		late := p.job("acme/app", time.Second)
		p.until(10*time.Minute, "the busy runner ends", func() bool { return p.look(busy).Status == hub.StatusCompleted })
		p.succeeded(busy)
		p.gone(2 * time.Minute)
		if j := p.look(late); j.Status != hub.StatusQueued {
			p.t.Errorf("a drained pool served a job: %s", j.Status)
		}
		p.setPools(one(4))
		p.served(3 * time.Minute)
		p.succeeded(late)
	})
}

func TestRemovedPoolFinishesItsJobs(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		busy := p.job("acme/app", 5*time.Minute)
		p.began(busy, time.Minute)
		p.setPools(strings.ReplaceAll(one(4), `"acme"`, `"globex"`))
		p.served(10 * time.Minute)
		p.succeeded(busy)
		p.made(1, 1)
	})
}

func TestUnknownLabelMakesNothingAndIsExplained(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		id := p.job("acme/app", time.Second, "self-hosted", "gpu")
		time.Sleep(2 * time.Minute)
		p.made(0, 0)
		d := admin[daemon.JobDetail](p, "GET", fmt.Sprintf("/v1/jobs/%d", id))
		if !strings.Contains(d.Explanation, "gpu") {
			p.t.Errorf("the explanation does not name the label: %q", d.Explanation)
		}
		if !slices.ContainsFunc(d.Timeline, func(e daemon.Event) bool { return e.What == "queued" }) {
			p.t.Errorf("no queued in the timeline: %+v", d.Timeline)
		}
	})
}
