package daemon_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// retell changes what a template says of itself, as a person may in the web
// interface.
func (p *play) retell(vmid int, version, build string) {
	info := proxmox.TemplateInfo{Schema: 1, Family: "ubuntu-24.04", Version: version, State: "ready", Runner: "2.335.1", Build: build}
	p.w.Proxmox.SetOption(vmid, "description", info.Describe())
}

// TestTemplateThatIsChangedByHandIsToldAndNotUsed: a version that no build made
// is not rolled to, also after a new start, and what was good stays in use.
func TestTemplateThatIsChangedByHandIsToldAndNotUsed(t *testing.T) {
	story(t, usual, rolling(""), func(p *play) {
		p.template(9001, next, "")
		p.retell(9001, "2.335.1-0", "b1") // older than what is in use
		time.Sleep(15 * time.Minute)
		p.retell(9001, next, "b1")
		const told = "template 9001 on pve says that it is ubuntu-24.04@2.335.1-2 and was made as ubuntu-24.04@2.335.1-0: it is not used"
		p.until(15*time.Minute, "it is told", func() bool { _, ok := p.troubled(told); return ok })
		p.crash()
		p.start()
		time.Sleep(5 * time.Minute)
		if _, ok := p.troubled(told); !ok {
			p.t.Errorf("after a new start it is not told: %+v", p.status().Troubles)
		}
		if !p.strays(told) {
			p.t.Error("the plan does not say so")
		}
		if r := p.rollout(); r.Rolls() || r.Stable.Version != "2.335.1-1" {
			p.t.Errorf("the roll-out is %s of %s, stable %s: want it left alone", r.Stage, r.Candidate, r.Stable)
		}
		p.retell(9001, "2.335.1-0", "b1")
		p.until(15*time.Minute, "it is over", func() bool { _, ok := p.troubled("says that it is"); return !ok })
		if p.strays("template") {
			p.t.Error("the plan says so after it is over")
		}
		p.retell(9001, next, "b2") // another build
		p.comes(fleet.Canarying, 20*time.Minute)
	})
}

func TestTagsThatContradictATemplateAreTold(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		p.w.Proxmox.SetOption(9000, "tags", "dayfly-template;dayfly-state.ready;ver.2.335.1-9")
		p.until(15*time.Minute, "it is told", func() bool {
			tr, ok := p.troubled("template 9000 (ubuntu-24.04@2.335.1-1) on pve: its tag ver.2.335.1-9 is not of")
			return ok && strings.Contains(tr.Hint, "description")
		})
		id := p.job("acme/app", 10*time.Second)
		p.served(2 * time.Minute) // people's affair: it works all the same
		p.succeeded(id)
		p.w.Proxmox.SetOption(9000, "tags", "dayfly-template;dayfly-state.ready;ver.2.335.1-1")
		p.until(15*time.Minute, "it is over", func() bool { _, ok := p.troubled("its tag"); return !ok })
	})
}

func TestTemplateThatCannotBeReadAnyMoreIsTold(t *testing.T) {
	story(t, usual, one(2), func(p *play) {
		time.Sleep(time.Minute)
		p.w.Proxmox.SetOption(9000, "description", "my template")
		p.until(15*time.Minute, "it is told", func() bool {
			_, ok := p.troubled("template 9000 on pve was made as ubuntu-24.04@2.335.1-1 and cannot be used any more: no line")
			return ok
		})
		if u := p.status().Unused; len(u) != 1 || u[0].VMID != 9000 || !strings.Contains(u[0].Why, "no line") {
			p.t.Errorf("templates that are not used: %+v, want 9000 and why", u)
		}
	})
}
