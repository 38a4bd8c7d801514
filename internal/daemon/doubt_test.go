package daemon_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// Proxmox's proxy says that it got no answer, and the effect has happened: it
// is looked for, never repeated blindly.
func TestEffectBehindAGatewayTimeoutIsNotRepeated(t *testing.T) {
	for name, request := range map[string]func(*http.Request) bool{
		"clone":       calls("POST", "/clone"),
		"size":        calls("PUT", "/config"),
		"start":       calls("POST", "/status/start"),
		"destruction": func(r *http.Request) bool { return r.Method == http.MethodDelete && r.URL.Hostname() == "pve.test" },
	} {
		t.Run(name, func(t *testing.T) {
			story(t, usual, one(4), func(p *play) {
				p.govern(once(request, gateway))
				id := p.job("acme/app", 10*time.Second)
				p.served(3 * time.Minute)
				p.succeeded(id)
				p.made(1, 1)
			})
		})
	}
}

// A job is assigned to an idle runner in the very moment in which it is given
// up: GitHub refuses to delete its registration, and the runner is kept.
func TestJobThatComesAtTheLastMomentIsKept(t *testing.T) {
	cfg := usual
	cfg.Guest.Pickup = 5 * time.Second
	story(t, cfg, one(4), func(p *play) {
		first := p.job("acme/app", 10*time.Second)
		p.until(time.Minute, "its container boots", func() bool { return len(p.running()) == 1 })
		p.w.GitHub.CancelJob(first)
		var late hub.JobID
		var once sync.Once
		p.govern(func(r *http.Request) fate {
			if r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "/actions/runners/") {
				once.Do(func() {
					p.w.GitHub.NextWebhook(hub.Lose, hub.Lose)
					late = p.job("acme/app", 5*time.Minute)
				})
			}
			return arrive
		})
		p.until(10*time.Minute, "the idle runner is given up", func() bool { return late != 0 })
		p.served(10 * time.Minute)
		p.succeeded(late)
		p.made(1, 1)
	})
}

// GitHub's busy flag lies, no webhook tells of the job, and the jobs cannot be
// asked for: without that look no runner is given up, however long it idles.
// (Others are made, for the job seems to wait.)
func TestRunnerIsNotGivenUpWithoutALookAtTheJobs(t *testing.T) {
	liar := usual
	liar.Faults.Habits = hub.Habits{BusyLies: 1}
	files := strings.Replace(one(4), `idle     = "5m"`, `idle     = "30s"`, 1)
	story(t, liar, files, func(p *play) {
		p.w.GitHub.NextWebhook(hub.Deliver, hub.Lose, hub.Lose)
		id := p.job("acme/app", 10*time.Minute)
		p.began(id, time.Minute)
		p.govern(func(r *http.Request) fate {
			if strings.HasSuffix(r.URL.Path, "/acme/app/actions/runs") {
				return refuse
			}
			return arrive
		})
		time.Sleep(5 * time.Minute)
		p.govern(nil)
		p.served(15 * time.Minute)
		p.succeeded(id)
	})
}

// GitHub answers 404 for a job that runs, as it does to who may not see it.
func TestLiveJobIsNotGivenUpForANotFound(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		id := p.job("acme/app", 10*time.Minute)
		p.began(id, time.Minute)
		p.govern(func(r *http.Request) fate {
			switch {
			case strings.HasSuffix(r.URL.Path, "/acme/app/actions/runs"):
				r.URL.Path = strings.Replace(r.URL.Path, "/app/", "/lib/", 1) // where nothing runs
			case strings.Contains(r.URL.Path, "/acme/app/actions/jobs/"):
				r.URL.Path = strings.Replace(r.URL.Path, "/app/", "/none/", 1)
			}
			return arrive
		})
		time.Sleep(5 * time.Minute)
		if n := len(p.running()); n != 1 {
			p.t.Errorf("%d containers run, want the one of the live job", n)
		}
		p.govern(nil)
		p.served(10 * time.Minute)
		p.succeeded(id)
	})
}

// A listing that was made before a container was there comes when it is.
func TestListingThatAnActionOvertookSaysNothing(t *testing.T) {
	cfg := usual
	cfg.PVE.Timing.Clone = 5 * time.Second
	story(t, cfg, one(4), func(p *play) {
		ids := []hub.JobID{}
		p.govern(func(r *http.Request) fate {
			if calls("GET", "/nodes/pve/lxc")(r) {
				return lag
			}
			return arrive
		})
		for range 6 {
			ids = append(ids, p.job("acme/app", 5*time.Minute))
			time.Sleep(17 * time.Second)
		}
		p.served(25 * time.Minute)
		p.succeeded(ids...)
		p.made(6, 6)
		if strings.Contains(p.logs.String(), `what=exited detail="was running"`) {
			p.t.Error("a container that ran was taken for gone")
		}
	})
}

// The journal fails before the intent is written: then there is no effect.
func TestNothingIsDoneWithoutItsIntent(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.w.Proxmox.SetOption(9000, "lock", "disk")
		time.Sleep(time.Minute)
		id := p.job("acme/app", 10*time.Second)
		time.Sleep(10 * time.Second)
		if n := p.status().Queued; n != 1 {
			p.t.Fatalf("%d jobs are queued, want 1", n)
		}
		if err := p.now.journal.Close(); err != nil {
			p.t.Fatal(err)
		}
		p.w.Proxmox.Unlock(9000)
		time.Sleep(5 * time.Minute)
		p.made(0, 0)
		if tr, ok := p.troubled("journal"); !ok {
			p.t.Errorf("nobody is told: %+v", tr)
		}
		p.stop()
		p.start()
		p.served(5 * time.Minute)
		p.succeeded(id)
	})
}
