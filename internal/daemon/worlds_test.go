package daemon_test

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

var (
	worldCount = flag.Int("worlds", 1000, "random worlds to run")
	worldSeed  = flag.Uint64("world", 0, "run the world of this seed only, and keep its log")
	worldFirst = flag.Uint64("first", 1, "seed of the first random world")
)

// TestRandomWorldsKeepEveryPromise runs the whole daemon, with its real
// clients and its real journal, in worlds where chance decides what goes
// wrong and when the daemon is killed. In none of them may a live job be
// killed, a JIT config be used twice, a foreign container be touched or a
// secret be logged; and once the faults end, every job must have run and
// nothing may be left.
func TestRandomWorldsKeepEveryPromise(t *testing.T) {
	if *worldSeed != 0 {
		synctest.Test(t, func(t *testing.T) { randomWorld(t, *worldSeed, true) })
		return
	}
	for i := range uint64(*worldCount) {
		seed := *worldFirst + i
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { randomWorld(t, seed, false) })
		})
	}
}

// worldPools has two pools that share labels, one with spares, under a common
// limit.
const worldPools = `
dayfly { schema = 1 }
template "ubuntu" { family = "ubuntu-24.04" }
limits { max = %d }
defaults {
  template = template.ubuntu
  github { org = "acme" }
  timeouts {
    clone    = "2m"
    launch   = "90s"
    register = "45s"
    idle     = "2m"
    job      = "20m"
  }
}
pool "linux" {
  labels = ["self-hosted", "linux", "x64"]
  scale {
    max   = %d
    spare = %d
  }
}
pool "large" {
  labels = ["self-hosted", "linux", "x64", "large"]
  scale {
    max   = %d
    spare = %d
  }
}
`

// worldRolls has new template versions rolled out within a day of minutes.
const worldRolls = `
  rollout {
    smoke              = 1
    wait               = "5s"
    bake               = "2m"
    max_infra_failures = 1
    progress_deadline  = "3m"
    canary {
      jobs           = 2
      max_concurrent = 1
    }
  }
`

// newVersions brings two template versions while the day goes on, good ones or
// with what a template may suffer from.
func (p *play) newVersions(rng *rand.Rand) {
	ails := []sim.Ailment{sim.Well, sim.Well, sim.Slow, sim.BrokenDocker, sim.Mute, sim.NeverRegisters, sim.CrashesAtBoot, sim.HangsAtBoot}
	for i := range 2 {
		ail := ails[rng.IntN(len(ails))]
		time.AfterFunc(time.Duration(rng.Int64N(int64(4*time.Minute))), func() {
			p.template(9100+i, fmt.Sprintf("2.335.1-%d", 2+i), string(ail))
		})
	}
}

func randomWorld(t *testing.T, seed uint64, loud bool) {
	rng := rand.New(rand.NewPCG(seed, 1))
	upTo := func(d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d) + 1)) }
	cfg := sim.Config{
		Seed: seed, Faults: sim.Swarm(seed),
		PVE: pve.Config{Timing: pve.Timing{
			Clone: upTo(4 * time.Second), Start: upTo(2 * time.Second), Stop: upTo(time.Second),
			Destroy: upTo(3 * time.Second), StatusLag: 10 * time.Second,
		}},
		Guest: sim.GuestTiming{
			Boot: upTo(3 * time.Second), Connect: upTo(4 * time.Second), Pickup: upTo(2 * time.Second),
			Cancel: upTo(5 * time.Second), Exit: upTo(2 * time.Second),
		},
	}
	maxA, maxB := 1+rng.IntN(5), 1+rng.IntN(3)
	spareA, spareB := rng.IntN(maxA+1), rng.IntN(maxB+1)
	files := fmt.Sprintf(worldPools, 1+spareA+spareB+rng.IntN(4), maxA, spareA, maxB, spareB)
	if seed%2 == 0 && spareA < maxA {
		files = strings.Replace(files, fmt.Sprintf("spare = %d\n", spareA), fmt.Sprintf("spare = %d\n    warm  = 1\n", spareA), 1)
	}
	if seed%4 == 0 {
		cfg.Guest.Wait = 10 * time.Hour // as the guest of a template does; else warm ones go down by themselves
	}
	if seed%5 < 2 {
		cfg.PVE.CPUs = 2 // spares are replaced later
	}
	if seed%3 == 0 {
		files = strings.Replace(files, "defaults {", "defaults {"+worldRolls, 1)
	}
	p := newPlay(t, cfg, files)
	if rng.IntN(2) == 0 {
		p.template(9001, "2.335.1-1", "")
	}
	if seed%2 == 0 {
		p.halves = []string{"pve"}
	}
	if seed%4 != 0 && !loud {
		p.level = slog.LevelInfo // the debug log is a tenth of a world's cost
	}
	if seed%3 == 1 {
		p.strangers()
	}
	p.start()
	if seed%3 == 0 {
		p.newVersions(rand.New(rand.NewPCG(seed, 2)))
	}
	p.playDay(rng, upTo)
	p.w.Calm()
	if !p.until(6*time.Hour, "every job ends", p.over) {
		p.explain()
	}
	p.setPools(drained(files))
	p.until(time.Hour, "nothing is left", func() bool { return p.w.Left().Empty() })
	p.stop()
	p.w.Proxmox.Close()
	p.w.GitHub.Close()
	time.Sleep(5 * time.Minute) // what is still under way in the world comes to its end
	for _, j := range p.w.GitHub.Jobs() {
		if f := cfg.Faults; j.Lost && f.Guest == (sim.GuestFaults{}) && f.Tasks+f.Restarts+f.Reboots == 0 {
			t.Errorf("job %d was lost in a world whose guests are well", j.ID)
		}
	}
	for _, vmid := range p.others {
		// Those that run may end by themselves.
		if c, there := p.w.Proxmox.Container(vmid); !there || c.Lock != "" || vmid == firstVMID+2 && c.Boots > 0 {
			t.Errorf("container %d of somebody else: there %t, lock %q, %d boots", vmid, there, c.Lock, c.Boots)
		}
	}
	p.check()
	if t.Failed() || loud {
		for _, id := range p.w.Left().Containers {
			c, _ := p.w.Proxmox.Container(id)
			t.Logf("left: %d %s lock=%q pool=%q pending=%v", id, c.Status, c.Lock, c.ResourcePool, c.Config)
		}
		t.Logf("seed %d: %s\nfaults: %+v\nrepeat: go test ./internal/daemon -run RandomWorlds -world %d", seed, p.w.Summary(), cfg.Faults, seed)
		file := filepath.Join(t.ArtifactDir(), fmt.Sprintf("world-%d.log", seed))
		if err := os.WriteFile(file, []byte(p.logs.String()), 0o600); err != nil {
			t.Error(err)
		}
		t.Logf("log: %s (kept with -artifacts)", file)
	}
}

// strangers puts containers of somebody else beside ours. One of them is a spare of
// another dayfly, which has a pool of the same name in the same resource pool.
func (p *play) strangers() {
	const id, key = firstVMID + 2, "another-instance-key-0123456789abcdef"
	m := fleet.Manifest{
		Schema: fleet.ManifestSchema, Name: fleet.NewName("linux", [4]byte{1, 2, 3, 4}, []byte(key)), Pool: "linux", Scope: "acme",
		Template: fleet.Ref{Family: "ubuntu-24.04", Version: "2.335.1-1"}, Node: "pve", VMID: id, Configured: true,
	}
	p.w.Proxmox.AddContainer(pve.Container{
		VMID: id, Storage: pve.LabStorage, ResourcePool: pve.LabRunners,
		Config: map[string]string{"hostname": m.Name, "description": m.Sign(fleet.NewSecret(key))},
	})
	p.others = append(p.foreign(), id)
}

// explain logs what the daemon says of the jobs that have not ended.
func (p *play) explain() {
	for _, j := range p.w.GitHub.Jobs() {
		if j.Status != hub.StatusCompleted {
			p.t.Logf("job %d, %s: %+v", j.ID, j.Status, admin[daemon.JobDetail](p, http.MethodGet, fmt.Sprintf("/v1/jobs/%d", j.ID)))
		}
	}
	p.t.Logf("status: %+v", p.status())
}

// drained is pools that take no more jobs.
func drained(files string) string {
	return strings.ReplaceAll(files, "  scale {", "  enabled = false\n  scale {")
}

// playDay queues jobs at random, cancels some, and kills the daemon now and
// then.
func (p *play) playDay(rng *rand.Rand, upTo func(time.Duration) time.Duration) {
	jobs := 1 + rng.IntN(12)
	for range jobs {
		time.Sleep(upTo(45 * time.Second))
		labels := []string{"self-hosted", "linux"}
		if rng.IntN(4) == 0 {
			labels = append(labels, "Large")
		}
		repo := []string{"acme/app", "acme/lib"}[rng.IntN(2)]
		id := p.job(repo, upTo(2*time.Minute), labels...)
		switch rng.IntN(12) {
		case 0:
			time.Sleep(upTo(20 * time.Second))
			p.w.GitHub.CancelJob(id)
		case 1:
			p.crash()
			time.Sleep(upTo(2 * time.Minute))
			p.start()
		case 3:
			for _, node := range p.halves {
				p.w.SetHalf(node, false)
				time.Sleep(upTo(time.Minute))
				p.w.SetHalf(node, true)
			}
		case 2:
			p.stop()
			time.Sleep(upTo(10 * time.Second))
			p.start()
		}
	}
}
