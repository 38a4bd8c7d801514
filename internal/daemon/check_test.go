package daemon_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// told waits until a trouble contains what and its hint contains how, then
// until it is gone after mend.
func (p *play) told(what, how string, mend func()) {
	p.t.Helper()
	shown := func() bool {
		tr, ok := p.troubled(what)
		return ok && strings.Contains(tr.Hint, how)
	}
	if !p.until(12*time.Minute, what+" is told", shown) {
		p.t.Errorf("troubles: %+v", p.status().Troubles)
	}
	for _, tr := range p.status().Troubles {
		if tr.Hint != "" && strings.Contains(tr.What, tr.Hint) {
			p.t.Errorf("the hint is said twice: %+v", tr)
		}
	}
	mend()
	p.until(12*time.Minute, what+" is over", func() bool { return !shown() })
}

func TestClockThatIsWrongIsTold(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		if tr, ok := p.troubled("clock"); ok {
			p.t.Errorf("a clock that is right is told: %+v", tr)
		}
		p.w.Clock.Skew(90 * time.Second)
		p.told("s behind GitHub's", "timedatectl", func() { p.w.Clock.Skew(-90 * time.Second) })
		id := p.job("acme/app", 10*time.Second)
		p.served(2 * time.Minute)
		p.succeeded(id)
	})
}

func TestPrivilegeThatIsMissingIsToldWithTheCommandThatGrantsIt(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		grant := func(set func(path, role string, who ...string)) func() {
			return func() { set("/sdn/zones/localnetwork/vmbr0", "DayflyNet", "dayfly@pve", pve.LabToken) }
		}
		grant(p.w.Proxmox.RevokeACL)()
		p.told("SDN.Use", "pveum acl modify", grant(func(path, role string, who ...string) { p.w.Proxmox.SetACL(path, role, true, who...) }))
	})
}

func TestRunnerGroupThatIsMissingIsTold(t *testing.T) {
	files := strings.Replace(one(2), `github { org = "acme" }`, "github {\n org = \"acme\"\n group = \"gold\"\n}", 1)
	story(t, usual, files, func(p *play) {
		p.told(`there is no runner group "gold"`, "create it", func() { p.w.GitHub.AddGroup("acme", hub.Group{Name: "gold"}) })
		id := p.job("acme/app", 10*time.Second)
		p.served(12 * time.Minute)
		p.succeeded(id)
	})
}

func TestAppThatIsNotInstalledIsTold(t *testing.T) {
	story(t, usual, strings.ReplaceAll(one(2), `"acme"`, `"globex"`), func(p *play) {
		p.w.GitHub.AddRepository(hub.Repository{Name: "globex/web", Private: true})
		p.told("globex: the App is not installed on it", "installations/new", func() {
			p.w.GitHub.AddInstallation(hub.Installation{Account: "globex", Repositories: []string{"web"}})
		})
		id := p.job("globex/web", 10*time.Second)
		p.served(2 * time.Minute)
		p.succeeded(id)
	})
}

// TestTroublesOfAScopeEndWithIt removes the pool of a scope that cannot be
// looked at.
func TestTroublesOfAScopeEndWithIt(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		p.setPools(strings.ReplaceAll(one(2), `"acme"`, `"nobody"`))
		p.told("nobody", "", func() { p.setPools(one(2)) })
		time.Sleep(12 * time.Minute)
		if s := p.status(); len(s.Troubles) != 0 {
			p.t.Errorf("troubles: %+v", s.Troubles)
		}
	})
}

// TestLookThatHangsIsToldAndEnds has GitHub never answer the list of runners.
func TestLookThatHangsIsToldAndEnds(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		runners := calls("GET", "/actions/runners")
		p.govern(func(r *http.Request) fate {
			if runners(r) {
				return hang
			}
			return arrive
		})
		p.told("list registrations of acme", "", func() { p.govern(nil) })
	})
}

// TestNodeThatCannotBeListedHoldsNothingElse: its listing hangs, the other
// node serves.
func TestNodeThatCannotBeListedHoldsNothingElse(t *testing.T) {
	two := usual
	two.PVE.Nodes = []string{"a", "b"}
	story(t, two, one(2), func(p *play) {
		p.templateOf("ubuntu-24.04", "b", 9001, "2.335.1-1", "")
		time.Sleep(time.Minute)
		p.govern(func(r *http.Request) fate {
			if strings.HasSuffix(r.URL.Path, "/nodes/a/lxc") {
				return refuse
			}
			return arrive
		})
		p.told("node a", "", func() {
			for _, n := range p.status().Nodes {
				if n.Online != (n.Name == "b") {
					p.t.Errorf("node %s online: %t", n.Name, n.Online)
				}
			}
			ids := []hub.JobID{p.job("acme/app", 10*time.Second), p.job("acme/lib", 10*time.Second)}
			for _, id := range ids {
				p.began(id, time.Minute)
			}
			p.served(5 * time.Minute)
			p.succeeded(ids...)
			p.govern(nil)
		})
	})
}

// TestLimitsOfTheConfigurationHoldWhereThePoolsSetNone caps all pools together.
func TestLimitsOfTheConfigurationHoldWhereThePoolsSetNone(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.stop()
		p.limits.Max = 1
		p.start()
		time.Sleep(10 * time.Second)
		most := 0
		stop := p.watch(func() { most = max(most, len(p.containers())) })
		ids := []hub.JobID{p.job("acme/app", 10*time.Second), p.job("acme/app", 10*time.Second)}
		p.served(3 * time.Minute)
		stop()
		p.succeeded(ids...)
		if most != 1 {
			p.t.Errorf("%d containers at once, want 1", most)
		}
	})
}

func TestDaemonThatLacksAPartIsRefused(t *testing.T) {
	if _, err := daemon.New(daemon.Config{}); err == nil || !strings.Contains(err.Error(), "proxmox") {
		t.Errorf("made of nothing: %v", err)
	}
}
