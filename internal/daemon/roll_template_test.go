package daemon_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim"
)

// TestTemplateThatVanishesMidRollLeavesTheGoodOne: a template that is removed by
// hand while it is tried is given up without a verdict, that is said, and jobs
// go on with the stable version. (While it is cloned, Proxmox removes none.)
func TestTemplateThatVanishesMidRollLeavesTheGoodOne(t *testing.T) {
	story(t, usual, rolling(""), func(p *play) {
		p.template(9001, next, "")
		p.comes(fleet.Canarying, 5*time.Minute)
		p.until(time.Minute, "its smoke boot is gone", func() bool { return p.w.Left().Empty() })
		p.w.Proxmox.Remove(9001)
		id := p.job("acme/app", 10*time.Second)
		p.comes(fleet.Settled, 5*time.Minute)
		r := p.rollout()
		if r.Stable.Version != "2.335.1-1" || len(r.Bad) != 0 || !strings.Contains(r.Reason, next+" is no longer there") {
			t.Errorf("stable is %s, bad %v, because %q", r.Stable, r.Bad, r.Reason)
		}
		p.began(id, 2*time.Minute)
		p.served(5 * time.Minute)
		p.succeeded(id)
		p.template(9002, next, "") // it comes back, and is tried anew
		p.comes(fleet.Canarying, 10*time.Minute)
	})
}

// TestTwoTemplatesOfOneVersionAreToldAndNotUsed: nobody knows which of two builds
// is meant, so that neither is rolled to until one is gone.
func TestTwoTemplatesOfOneVersionAreToldAndNotUsed(t *testing.T) {
	story(t, usual, rolling(""), func(p *play) {
		for vmid, build := range map[int]string{9001: "b1", 9002: "b2"} {
			p.template(vmid, next, "")
			p.retell(vmid, next, build)
		}
		const told = "templates 9001 and 9002 on pve both claim to be ubuntu-24.04@" + next
		p.until(5*time.Minute, "it is told", func() bool { _, ok := p.troubled(told); return ok })
		time.Sleep(10 * time.Minute)
		if r := p.rollout(); r.Rolls() || r.Stable.Version != "2.335.1-1" {
			t.Errorf("the roll-out is %s of %s, stable %s: want it left alone", r.Stage, r.Candidate, r.Stable)
		}
		p.serves(1)
		p.w.Proxmox.Remove(9002)
		p.comes(fleet.Canarying, 10*time.Minute)
		if _, ok := p.troubled("both claim"); ok {
			t.Error("it is still told when one is gone")
		}
	})
}

// TestAnotherBuildOfTheVersionInUseIsToldAndNotUsed: nobody has tried it, and
// jobs would get it unseen. What was there first stays in use, also after a
// start, and what was changed by hand is in the plan.
func TestAnotherBuildOfTheVersionInUseIsToldAndNotUsed(t *testing.T) {
	story(t, usual, rolling(""), func(p *play) {
		p.retell(9000, "2.335.1-1", "b1")
		time.Sleep(15 * time.Minute)
		p.template(9001, "2.335.1-1", string(sim.NeverRegisters)) // in one move: no listing sees it without its build
		p.retell(9001, "2.335.1-1", "b2")
		const told = "template 9001 on pve says that it is ubuntu-24.04@2.335.1-1, which template 9000 is, of another build: it is not used"
		p.until(5*time.Minute, "it is told", func() bool { _, ok := p.troubled(told); return ok && p.strays(told) })
		p.serves(3)
		p.crash()
		p.start()
		time.Sleep(5 * time.Minute)
		if _, ok := p.troubled(told); !ok {
			p.t.Errorf("after a new start it is not told: %+v", p.status().Troubles)
		}
		p.serves(2)
		if n := p.w.Summary().Ailing; n != 0 {
			p.t.Errorf("%d runners were of the build that nobody has tried", n)
		}
		p.w.Proxmox.Remove(9001)
		p.until(15*time.Minute, "it is over", func() bool { _, ok := p.troubled(told); return !ok })
	})
}
