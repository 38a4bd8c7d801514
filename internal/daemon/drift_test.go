package daemon_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// sized is the pool of onePool with a size and spares.
func sized(cores string, n string) string {
	text := one(4, "size {\n cores = "+cores+"\n memory = \"2GiB\"\n cpu_units = 50\n }\n network {\n bridge = \"vmbr0\"\n }\n")
	return strings.Replace(text, "scale { max = 4 }", "scale {\n max = 4\n spare = "+n+"\n }", 1)
}

// strays reports whether the plan says that something is not as git and the
// journal say, in words that contain text.
func (p *play) strays(text string) bool {
	p.t.Helper()
	return slices.ContainsFunc(admin[daemon.PlanStatus](p, "GET", "/v1/plan").Drift, func(t daemon.Trouble) bool {
		return strings.Contains(t.What, text)
	})
}

func TestSparesThatWereChangedByHandAreReplaced(t *testing.T) {
	story(t, usual, sized("2", "1"), func(p *play) {
		p.until(time.Minute, "a spare", func() bool { return len(p.containers()) == 1 })
		time.Sleep(time.Minute)
		first := p.containers()
		for _, change := range [][2]string{{"cores", "8"}, {"cpuunits", "9"}, {"memory", "512"}, {"net0", "name=eth0,bridge=vmbr0,tag=99,type=veth"}, {"tags", "mine"}} {
			old := p.containers()
			p.w.Proxmox.SetOption(old[0], change[0], change[1])
			p.until(20*time.Minute, "another spare after "+change[0], func() bool {
				now := p.containers()
				return len(now) == 1 && !slices.Equal(now, old)
			})
			time.Sleep(time.Minute)
		}
		if slices.Equal(p.containers(), first) {
			p.t.Error("nothing was replaced")
		}
		if _, told := p.troubled("is not as pool linux says"); told {
			p.t.Error("the trouble stays after the container is gone")
		}
		before := p.containers()
		time.Sleep(30 * time.Minute)
		if !slices.Equal(p.containers(), before) {
			p.t.Errorf("spares change without a reason: %v, then %v", before, p.containers())
		}
	})
}

func TestSparesFollowTheSizeOfTheirPool(t *testing.T) {
	story(t, usual, sized("2", "2"), func(p *play) {
		p.until(time.Minute, "spares", func() bool { return len(p.containers()) == 2 })
		time.Sleep(time.Minute)
		p.setPools(sized("3", "2"))
		p.until(5*time.Minute, "spares of the new size", func() bool {
			vmids := p.containers()
			return len(vmids) == 2 && !slices.ContainsFunc(vmids, func(vmid int) bool {
				k, _ := p.w.Proxmox.Container(vmid)
				return k.Config["cores"] != "3"
			})
		})
		if _, told := p.troubled("is not as pool linux says"); told {
			p.t.Error("a change of the pool is told as one of a container")
		}
	})
}

func TestBusyContainerThatWasChangedIsToldAndLeft(t *testing.T) {
	story(t, usual, sized("2", "0"), func(p *play) {
		id := p.job("acme/app", 10*time.Minute)
		p.began(id, time.Minute)
		time.Sleep(time.Minute)
		busy := p.containers()
		p.w.Proxmox.SetOption(busy[0], "cores", "8")
		p.until(2*time.Minute, "the trouble", func() bool {
			t, told := p.troubled("is not as pool linux says: cores is \"8\", not \"2\"")
			return told && strings.Contains(t.Hint, "by a commit") && p.strays("is not as pool linux says: cores is \"8\", not \"2\"")
		})
		if p.look(id).Status != hub.StatusInProgress || !slices.Equal(p.containers(), busy) {
			p.t.Errorf("the job is %s, containers %v", p.look(id).Status, p.containers())
		}
		p.served(15 * time.Minute)
		p.succeeded(id)
		p.until(5*time.Minute, "the end of the trouble", func() bool { _, told := p.troubled("is not as pool linux says"); return !told })
	})
}

// guarded is the pool of onePool with an egress and spares.
func guarded(egress, n string) string {
	text := one(4, "network {\n egress = \""+egress+"\"\n allow = [\"10.0.0.53:53/udp\"]\n }\n")
	return strings.Replace(text, "scale { max = 4 }", "scale {\n max = 4\n spare = "+n+"\n }", 1)
}

// TestEgressReachesEveryContainer: nothing is launched before pve-firewall has
// compiled the rules, spares follow the pool, and a firewall that somebody has
// changed is noticed.
func TestEgressReachesEveryContainer(t *testing.T) {
	story(t, usual, guarded("internet", "0"), func(p *play) {
		id := p.job("acme/app", 18*time.Minute)
		wait := p.began(id, 2*time.Minute)
		if wait < 10*time.Second {
			p.t.Errorf("the job began %s after it was queued, before the rules of its container were in force", wait)
		}
		busy := p.containers()[0]
		options, rules := p.w.Proxmox.Firewall(busy)
		if len(rules) != 4 || rules[1]["action"] != "REJECT" || options["enable"] != "1" {
			p.t.Errorf("the firewall of the container is %v, %v", options, rules)
		}
		p.w.Proxmox.SetFirewall(busy, options)
		p.until(20*time.Minute, "the trouble", func() bool { return p.strays("firewall rule 0 is not out ACCEPT") })
		if p.look(id).Status == hub.StatusQueued {
			p.t.Error("the job lost its runner")
		}
		p.served(40 * time.Minute)
		p.succeeded(id)
	})
}

func TestSparesFollowTheEgressOfTheirPool(t *testing.T) {
	story(t, usual, guarded("internet", "2"), func(p *play) {
		all := func(n int) func() bool {
			return func() bool {
				vmids := p.containers()
				return len(vmids) == 2 && !slices.ContainsFunc(vmids, func(vmid int) bool {
					_, rules := p.w.Proxmox.Firewall(vmid)
					return len(rules) != n
				})
			}
		}
		p.until(time.Minute, "spares", all(4))
		for egress, n := range map[string]int{"none": 2, "all": 0} {
			p.setPools(guarded(egress, "2"))
			p.until(5*time.Minute, "spares of egress "+egress, all(n))
		}
		vmids := p.containers()
		options, rules := p.w.Proxmox.Firewall(vmids[0])
		p.w.Proxmox.SetFirewall(vmids[0], options, append(rules, map[string]string{"type": "out", "action": "ACCEPT", "enable": "1", "comment": "dayfly egress"})...)
		p.until(20*time.Minute, "another spare", func() bool { return !slices.Contains(p.containers(), vmids[0]) && len(p.containers()) == 2 })
	})
}

// roomy is the pool of onePool with a disk and spares.
func roomy(disk, n string) string {
	return strings.Replace(one(4, "size {\n disk = \""+disk+"\"\n }\n"), "scale { max = 4 }", "scale {\n max = 4\n spare = "+n+"\n }", 1)
}

// TestSparesFollowTheDiskOfTheirPool: one that is smaller than before cannot be
// made of a spare, and one that is smaller than the template's not at all, which
// the plan says before it is in force.
func TestSparesFollowTheDiskOfTheirPool(t *testing.T) {
	story(t, usual, roomy("20GiB", "2"), func(p *play) {
		sized := func(size string) func() bool {
			return func() bool {
				vmids := p.containers()
				return len(vmids) == 2 && !slices.ContainsFunc(vmids, func(vmid int) bool {
					k, _ := p.w.Proxmox.Container(vmid)
					return !strings.Contains(k.Config["rootfs"], "size="+size)
				})
			}
		}
		p.until(2*time.Minute, "the trouble", func() bool {
			t, told := p.troubled("VM.Config.Disk")
			return told && strings.Contains(t.Hint, "pveum role modify DayflyRunners --append 1 --privs VM.Config.Disk")
		})
		p.w.Proxmox.AddRole("Disk", "VM.Config.Disk")
		p.w.Proxmox.SetACL("/pool/"+pve.LabRunners, "Disk", true, "dayfly@pve", pve.LabToken)
		p.until(10*time.Minute, "spares", sized("20G"))
		p.setPools(roomy("30GiB", "2"))
		p.until(10*time.Minute, "larger spares", sized("30G"))
		id := p.job("acme/app", 10*time.Minute)
		p.began(id, time.Minute)
		p.setPools(roomy("8GiB", "0"))
		p.served(20 * time.Minute)
		p.succeeded(id)
		v, _ := p.preview(files(roomy("1GiB", "2")))
		if len(v.Pools) != 1 || len(v.Pools[0].Misfits) != 1 || !strings.Contains(v.Pools[0].Misfits[0], "its disk has 4096 MiB, more than size.disk of the pool, 1024") {
			p.t.Errorf("the plan says %+v", v.Pools)
		}
		p.setPools(roomy("1GiB", "2"))
		time.Sleep(2 * time.Minute) // it is in force
		id = p.job("acme/app", 10*time.Minute)
		time.Sleep(5 * time.Minute)
		if why := p.why(id); !strings.Contains(why, "more than size.disk of the pool") {
			p.t.Errorf("the job waits because %q", why)
		}
		p.setPools(one(4))
		p.served(20 * time.Minute)
		p.succeeded(id)
	})
}
