package daemon_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

func TestFailedCloneIsTriedAgain(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.w.Proxmox.FailNext("vzclone", "command failed: exit code 5")
		p.w.Proxmox.FailNext("vzclone", "command failed: exit code 5")
		id := p.job("acme/app", 10*time.Second)
		p.until(time.Minute, "the failure is shown", func() bool { _, ok := p.troubled("exit code 5"); return ok })
		p.served(2 * time.Minute)
		p.succeeded(id)
		time.Sleep(5 * time.Minute)
		stages := map[string]int{}
		for _, e := range admin[[]daemon.Event](p, http.MethodGet, "/v1/events?after=0&limit=1000") {
			stages[e.What]++
		}
		if stages["cloned"] != 1 || stages["destroyed"] != 1 {
			p.t.Errorf("of three clones, two of which failed, %d are told and %d ends", stages["cloned"], stages["destroyed"])
		}
		if tr, ok := p.troubled("exit code 5"); ok {
			p.t.Errorf("a trouble that is over is still shown: %+v", tr)
		}
	})
}

func TestLockedTemplateIsWaitedFor(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.w.Proxmox.SetOption(9000, "lock", "disk")
		id := p.job("acme/app", 10*time.Second)
		time.Sleep(7 * time.Minute)
		p.made(0, 0)
		tr, ok := p.troubled("template 9000 (ubuntu-24.04@2.335.1-1)")
		if !ok || !strings.Contains(tr.Hint, "pct unlock 9000") {
			p.t.Errorf("nobody is told of the lock: %+v", p.status().Troubles)
		}
		p.w.Proxmox.Unlock(9000)
		p.served(3 * time.Minute)
		p.succeeded(id)
		if _, ok := p.troubled("template 9000"); ok {
			p.t.Error("the trouble with the lock is still shown")
		}
	})
}

// A template's lock ends when nobody tells: it is looked for before the next
// listing is due.
func TestLockThatEndsIsSeenSoon(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.stop()
		p.w.Proxmox.SetOption(9000, "lock", "disk")
		p.start()
		id := p.job("acme/app", 10*time.Second)
		time.Sleep(3 * time.Second)
		p.w.Proxmox.Unlock(9000)
		if took := p.began(id, time.Minute); took > 8*time.Second {
			p.t.Errorf("the job began %s after the lock had ended, want 8 s at most", took)
		}
		p.served(2 * time.Minute)
		p.succeeded(id)
	})
}

// TestLocksThatStayCostLittle has four templates locked for good: what looks
// whether they still are must not add up.
func TestLocksThatStayCostLittle(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		for i := range 4 {
			p.template(9001+i, fmt.Sprintf("2.335.1-%d", 2+i), "")
		}
		id := p.job("acme/app", 10*time.Minute)
		p.began(id, time.Minute) // while it runs, the node is looked at often
		var asked atomic.Int64
		p.govern(func(r *http.Request) fate {
			if r.Method == http.MethodGet && r.URL.Path == "/api2/json/nodes/pve/lxc" {
				asked.Add(1)
			}
			return arrive
		})
		count := func() int64 {
			before := asked.Load()
			time.Sleep(25 * time.Second)
			return asked.Load() - before
		}
		usual := count()
		for i := range 5 {
			p.w.Proxmox.SetOption(9000+i, "lock", "disk")
			time.Sleep(1300 * time.Millisecond)
		}
		if locked := count(); usual == 0 || locked > 2*usual {
			p.t.Errorf("%d listings in 25 s, and %d while templates are locked, want twice as many at most", usual, locked)
		}
		for i := range 5 {
			p.w.Proxmox.Unlock(9000 + i)
		}
		p.served(15 * time.Minute)
		p.succeeded(id)
	})
}

// foreign puts containers of somebody else into our range: one that the token
// cannot see, and one in our resource pool without a manifest of ours.
func (p *play) foreign() []int {
	p.w.Proxmox.AddContainer(pve.Container{VMID: firstVMID, Storage: pve.LabStorage, Running: true})
	p.w.Proxmox.AddContainer(pve.Container{VMID: firstVMID + 1, Storage: pve.LabStorage, ResourcePool: pve.LabRunners, Running: true})
	p.others = []int{firstVMID, firstVMID + 1}
	return p.others
}

func TestForeignContainersInOurRangeAreNeverTouched(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		theirs := p.foreign()
		time.Sleep(time.Minute)
		ids := []hub.JobID{p.job("acme/app", 10*time.Second), p.job("acme/app", 10*time.Second)}
		p.served(2 * time.Minute)
		p.succeeded(ids...)
		time.Sleep(3 * time.Minute)
		for _, tr := range p.status().Troubles {
			if strings.Contains(tr.Hint, "destroy") {
				p.t.Errorf("somebody else's container is told to be destroyed: %+v", tr)
			}
		}
		for _, vmid := range theirs {
			if c, ok := p.w.Proxmox.Container(vmid); !ok || !c.Running || c.Boots != 1 {
				p.t.Errorf("container %d of somebody else: there %t, running %t", vmid, ok, c.Running)
			}
		}
		if f := p.status().Foreign; len(f) != 1 || f[0].VMID != firstVMID+1 {
			p.t.Errorf("foreign containers in the status: %+v, want %d", f, firstVMID+1)
		}
	})
}

func TestExhaustedRangeIsToldAndRecovers(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.stop()
		p.last = firstVMID + 1
		p.start()
		var ids []hub.JobID
		for range 3 {
			ids = append(ids, p.job("acme/app", 30*time.Second))
		}
		p.until(time.Minute, "the range is told to be used up", func() bool { _, ok := p.troubled("every VMID from 20000 to 20001"); return ok })
		p.served(20 * time.Minute) // numbers cool down for 10
		p.succeeded(ids...)
		if _, ok := p.troubled("every VMID"); ok {
			p.t.Error("the trouble with the range is still shown")
		}
	})
}

// TestRangeThatOthersUseIsToldAndNotHammered has every number taken by guests
// that the token cannot see.
func TestRangeThatOthersUseIsToldAndNotHammered(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.stop()
		p.last = firstVMID + 1
		for id := firstVMID; id <= p.last; id++ {
			p.w.Proxmox.AddContainer(pve.Container{VMID: id, Storage: pve.LabStorage})
		}
		clones := 0
		p.govern(func(r *http.Request) fate {
			if calls("POST", "/clone")(r) {
				clones++
			}
			return arrive
		})
		p.start()
		id := p.job("acme/app", 10*time.Second)
		time.Sleep(5 * time.Minute)
		if clones != 2 {
			p.t.Errorf("%d clones were asked for, want one for each number", clones)
		}
		if tr, ok := p.troubled("every VMID from 20000 to 20001"); !ok || !strings.Contains(tr.What, "proxmox.vmids") {
			p.t.Errorf("nobody is told, with the key to change: %+v", p.status().Troubles)
		}
		p.w.Proxmox.Remove(firstVMID)
		p.served(15 * time.Minute)
		p.succeeded(id)
	})
}

// twoScopes has a pool for each of two organisations.
const twoScopes = `
dayfly { schema = 1 }
template "ubuntu" { family = "ubuntu-24.04" }
defaults {
  template = template.ubuntu
  scale { max = 2 }
}
pool "acme" {
  labels = ["linux"]
  github { org = "acme" }
}
pool "globex" {
  labels = ["linux"]
  github { org = "globex" }
}
`

// globex installs the App on a second organisation and has a pool for each.
func (p *play) globex() hub.InstallationID {
	in := p.w.GitHub.AddInstallation(hub.Installation{Account: "globex", Repositories: []string{"web", "api", "doc"}})
	p.setPools(twoScopes)
	time.Sleep(2 * time.Minute)
	return in
}

// GitHub refuses further registrations of one organisation; the other one does
// not wait for it, and the refused one is not asked again and again.
func TestSecondaryLimitHoldsOnlyItsScope(t *testing.T) {
	story(t, usual, one(1), func(p *play) {
		p.globex()
		first := p.job("acme/app", time.Second, "linux")
		p.served(time.Minute)
		p.w.GitHub.SetLimits(hub.Limits{Registrations: 1}) // in 5 minutes and scope
		mints := 0
		p.govern(func(r *http.Request) fate {
			if calls("POST", "/generate-jitconfig")(r) && strings.Contains(r.URL.Path, "acme") {
				mints++
			}
			return arrive
		})
		held := p.job("acme/app", time.Second, "linux")
		other := p.job("globex/web", time.Second, "linux")
		if took := p.began(other, 2*time.Minute); took > 20*time.Second {
			p.t.Errorf("a job of another organisation waited %s", took)
		}
		if j := p.look(held); j.Status != hub.StatusQueued {
			p.t.Fatalf("the limit held nothing: %s", j.Status)
		}
		if tr, ok := p.troubled("rate limit"); !ok {
			p.t.Errorf("nobody is told of the limit: %+v", tr)
		}
		p.served(10 * time.Minute)
		p.succeeded(first, held, other)
		if mints > 2 {
			p.t.Errorf("%d mints in a scope that was limited, want 2: one refused, one when it was over", mints)
		}
	})
}

func TestPrimaryLimitIsWaitedOut(t *testing.T) {
	story(t, usual, one(1), func(p *play) {
		p.w.GitHub.Exhaust(5 * time.Minute)
		mints := 0
		p.govern(func(r *http.Request) fate {
			if calls("POST", "/generate-jitconfig")(r) {
				mints++
			}
			return arrive
		})
		id := p.job("acme/app", time.Second)
		time.Sleep(3 * time.Minute)
		if n := p.w.GitHub.JITMinted(); n != 0 {
			p.t.Errorf("%d JIT configs while the quota is used up", n)
		}
		p.served(15 * time.Minute)
		p.succeeded(id)
		if mints > 3 {
			p.t.Errorf("%d mints, want no more than the quota's end takes", mints)
		}
	})
}

// The answer with the JIT config is lost: that config is never used, its
// registration is removed, and the job gets another container under a new name.
func TestLostJITAnswerIsNeverUsed(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		mints := 0
		var blind time.Time
		first := once(calls("POST", "/generate-jitconfig"), lose)
		p.govern(func(r *http.Request) fate {
			if calls("POST", "/generate-jitconfig")(r) {
				mints++
			}
			if calls("GET", "/actions/runners")(r) && !blind.IsZero() && time.Since(blind) < time.Minute {
				return refuse // what the lost answer made is not seen at once
			}
			if does := first(r); does != arrive {
				blind = time.Now()
				return does
			}
			return arrive
		})
		id := p.job("acme/app", 10*time.Second)
		p.served(3 * time.Minute)
		p.succeeded(id)
		p.made(2, 2)
		if mints != 2 {
			p.t.Errorf("%d mints were asked for, want 2: none again under the first name", mints)
		}
		all := p.w.GitHub.Registrations()
		if all[0].Name == all[1].Name || all[0].Used || !all[1].Used {
			p.t.Errorf("registrations: %+v, want the first unused, the second of another name", all)
		}
	})
}

func TestLostStartAnswerStartsOnce(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.govern(once(calls("POST", "/status/start"), lose))
		id := p.job("acme/app", 10*time.Second)
		p.served(3 * time.Minute)
		p.succeeded(id)
		p.made(1, 1)
	})
}

func TestLostCloneAnswerClonesOnce(t *testing.T) {
	story(t, usual, one(4), func(p *play) {
		p.govern(once(calls("POST", "/clone"), lose))
		id := p.job("acme/app", 10*time.Second)
		p.served(3 * time.Minute)
		p.succeeded(id)
		p.made(1, 1)
	})
}

// brokenPool is the closest fit of two pools; its template never registers.
const brokenPool = `
dayfly { schema = 1 }
template "good" { family = "ubuntu-24.04" }
template "bad" { family = "debian-13" }
defaults {
  github { org = "acme" }
  scale { max = 2 }
  timeouts { register = "60s" }
}
pool "bad" {
  template = template.bad
  labels   = ["linux"]
}
pool "good" {
  template = template.good
  labels   = ["linux", "x64"]
}
`

func TestRunnerThatNeverRegistersIsGivenUpAndItsPoolBacksOff(t *testing.T) {
	story(t, usual, one(1), func(p *play) {
		p.family("debian-13", 9100, sim.NeverRegisters)
		p.setPools(brokenPool)
		time.Sleep(2 * time.Minute)
		id := p.job("acme/app", 10*time.Second, "linux")
		if took := p.began(id, 10*time.Minute); took > 70*time.Second {
			p.t.Errorf("the job waited %s, want the time to register and that of another container", took)
		}
		if _, ok := p.troubled("not listening 1m0s after its start"); !ok {
			p.t.Errorf("nobody is told: %+v", p.status().Troubles)
		}
		p.served(10 * time.Minute)
		p.succeeded(id)
		if n := p.w.Summary().Ailing; n != 1 {
			p.t.Errorf("%d containers of the broken template were started, want 1", n)
		}
	})
}

// family adds a template of another family.
func (p *play) family(name string, vmid int, ailment sim.Ailment) {
	p.templateOf(name, "", vmid, "2.335.1-1", string(ailment))
}
