package daemon_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// open adds a public repository.
func (p *play) open() {
	p.w.GitHub.AddRepository(hub.Repository{Name: "acme/open"})
	p.w.GitHub.AllowPublic("acme")
	p.w.GitHub.ChangeRepositories(p.in, []string{"open"}, nil)
}

// queue queues a job of an origin.
func (p *play) queue(n hub.NewJob) hub.JobID {
	n.Labels, n.Duration = []string{"linux"}, 10*time.Second
	return p.w.GitHub.QueueJob(n)
}

// why is what is said of a job.
func (p *play) why(id hub.JobID) string {
	return admin[daemon.JobDetail](p, "GET", fmt.Sprintf("/v1/jobs/%d", id)).Explanation
}

// asks counts the questions for runs.
func (p *play) asks() *int {
	n := new(int)
	p.govern(func(r *http.Request) fate {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/actions/runs/") && !strings.HasSuffix(r.URL.Path, "/jobs") {
			*n++
		}
		return arrive
	})
	return n
}

func TestForksAreRefusedAndOthersServed(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		asks := p.asks()
		own := p.job("acme/app", 10*time.Second)
		p.served(time.Minute)
		if *asks != 0 {
			p.t.Errorf("%d questions for the run of a repository without forks, want none", *asks)
		}
		fork := p.queue(hub.NewJob{Repo: "acme/app", Fork: "eve/app"})
		p.until(time.Minute, "the refusal", func() bool { return strings.Contains(p.why(fork), "does not run the code of forks") })
		p.w.GitHub.CancelJob(fork)
		again := p.job("acme/app", 10*time.Second) // the repository has a fork now
		p.served(time.Minute)
		if *asks != 2 {
			p.t.Errorf("%d questions for two runs of a repository with a fork, want two", *asks)
		}
		p.succeeded(own, again)
		p.made(2, 2)
	})
}

// GitHub gives a job to any runner that has its labels, also one that was
// started for another: nothing of ours can keep it from that, so it is said.
func TestRefusedJobThatGetsARunnerIsTold(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		fork := p.queue(hub.NewJob{Repo: "acme/app", Fork: "eve/app"})
		own := p.job("acme/app", 10*time.Second)
		p.until(time.Minute, "the trouble", func() bool {
			_, told := p.troubled("has got job " + fmt.Sprint(fork) + " of acme/app, though pool linux does not run the code of forks")
			return told
		})
		p.served(time.Minute)
		p.succeeded(own, fork)
		p.until(time.Minute, "the end of the trouble", func() bool { _, told := p.troubled("has got job"); return !told })
	})
}

func TestNothingStartsWhileOriginIsUnknown(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.w.GitHub.CancelJob(p.queue(hub.NewJob{Repo: "acme/app", Fork: "eve/app"}))
		p.govern(func(r *http.Request) fate {
			if strings.Contains(r.URL.Path, "/actions/runs") {
				return refuse
			}
			return arrive
		})
		id := p.job("acme/app", 10*time.Second)
		time.Sleep(10 * time.Minute)
		p.made(0, 0)
		if why := p.why(id); !strings.Contains(why, "waits to learn whether the code is a fork's") {
			p.t.Errorf("the job is explained as %q", why)
		}
		p.govern(nil)
		p.began(id, 3*time.Minute)
		p.served(time.Minute)
		p.succeeded(id)
	})
}

func TestPoolsOpenToThePublicSaySo(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.open()
		id := p.queue(hub.NewJob{Repo: "acme/open"})
		p.until(2*time.Minute, "the refusal", func() bool { return strings.Contains(p.why(id), "does not run jobs of public repositories") })
		p.made(0, 0)
		p.setPools(one(4) + "\n# open\n")
		p.setPools(strings.Replace(one(4), "timeouts {", "access {\n public = true\n events = [\"push\"]\n workflows = [\"ci.yml@main\"]\n }\n timeouts {", 1))
		p.began(id, 3*time.Minute)
		p.served(time.Minute)
		p.succeeded(id)
		p.made(1, 1)
	})
}
