package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/test/lxc/node"
)

// Templates in the sandbox.
const (
	bakedTemplate = 9100
	stockTemplate = 9200
	realFamily    = "debian-13"
)

// realPools has a pool for each thing that is measured. There is no smoke boot:
// the sandbox's GitHub cannot be reached from containers by the name that the
// daemon knows.
const realPools = `dayfly { schema = 1 }
template "debian" { family = "` + realFamily + `" }
defaults {
  template = template.debian
  github { org = "` + node.Org + `" }
  network { bridge = "` + lab.Bridge + `" }
  rollout {
    smoke = 0
    wait  = "0s"
    bake  = "10s"
    canary { jobs = 0 }
  }
}
pool "spare" {
  labels = ["self-hosted", "linux", "x64", "spare"]
  scale {
    max   = 2
    spare = 1
  }
}
pool "warm" {
  labels = ["self-hosted", "linux", "x64", "warm"]
  scale {
    max  = 2
    warm = 1
  }
}
pool "storm" {
  labels = ["self-hosted", "linux", "x64", "storm"]
  scale { max = %d }
}
`

// site is a node with real containers, a root half and a daemon.
type site struct {
	*world
	node  *node.World
	d     *child
	half  *child
	admin *daemon.Client
}

// real measures on real containers, in the sandbox.
func (b *bench) real(ctx context.Context, o order) (found results, err error) {
	s, err := b.site(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	ctx = s.d.alive(ctx)
	found = results{}
	for _, part := range []struct {
		rounds  int
		measure func(context.Context, *site, order) (results, error)
	}{{o.Rounds, b.boots}, {o.Storms, b.storm}} {
		if part.rounds == 0 {
			continue
		}
		some, err := part.measure(ctx, s, o)
		if err != nil {
			return nil, s.half.lastWords(s.d.lastWords(err))
		}
		maps.Copy(found, some)
	}
	return found, nil
}

func (b *bench) site(ctx context.Context, o order) (s *site, err error) {
	limits := hub.Limits{Primary: 1_000_000, Points: points, Registrations: 1_000_000}
	n, err := node.New(sim.Config{Seed: 1, Hub: hub.Config{Limits: limits}})
	if err != nil {
		return nil, err
	}
	if err := templates(ctx, n, b.dir); err != nil {
		return nil, err
	}
	socket := filepath.Join(b.sockets, "half")
	w := &world{World: n.World, meter: newMeter(), token: n.Token, installation: n.Installation,
		vmids: "30000-39999", half: fmt.Sprintf(halfConfig, lab.Host, socket)}
	if err := w.open(); err != nil {
		return nil, err
	}
	s = &site{world: w, node: n}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if s.d, err = b.daemon(ctx, w, fmt.Sprintf(realPools, o.Storm)); err != nil {
		return nil, err
	}
	dir := filepath.Dir(s.d.log)
	s.admin = daemon.Dial(filepath.Join(b.sockets, filepath.Base(dir)))
	halfDir, err := b.folder("half")
	if err != nil {
		return nil, err
	}
	if s.half, err = spawn(halfDir, "", b.program, "host", "--config", filepath.Join(dir, "dayfly.hcl")); err != nil {
		return nil, err
	}
	err = wait(s.half.alive(ctx), "the root half listens", func() bool { _, err := os.Stat(socket); return err == nil })
	return s, err
}

func (s *site) stop() {
	for _, c := range []*child{s.d, s.half} {
		if c != nil {
			c.stop()
		}
	}
	s.close()
}

// templates makes the baked template and one of the unmodified base image.
func templates(ctx context.Context, n *node.World, dir string) error {
	oven, err := node.NewOven(ctx, dir)
	if err != nil {
		return err
	}
	archive, err := oven.Archive(ctx, n)
	if err != nil {
		return err
	}
	info := proxmox.TemplateInfo{Schema: 1, Family: realFamily, Version: node.Runner + "-1", State: "ready", Runner: node.Runner, OS: "Debian 13"}
	err = n.MakeTemplate(bakedTemplate, archive, pve.LabStorage, map[string]string{
		"pool": pve.LabTemplates, "description": info.Describe(), "tags": proxmox.TemplateTag + ";" + proxmox.ReadyTag,
		"net0": "name=eth0,bridge=" + lab.Bridge + ",ip=dhcp,firewall=1",
	})
	if err != nil {
		return err
	}
	// As the builder makes it by default.
	firewall := map[string]string{"enable": "1", "policy_in": "DROP", "policy_out": "ACCEPT", "macfilter": "1", "dhcp": "1", "ipfilter": "0"}
	if _, err := n.Call(http.MethodPut, node.LXC(bakedTemplate, "/firewall/options"), firewall); err != nil {
		return err
	}
	return n.MakeTemplate(stockTemplate, node.BaseImage, pve.LabStorage, nil)
}

// tellTimes is a job's one step: the guest's own systemd says when things were,
// and the runner when its program began, by the clock that all containers share
// with the machine.
const tellTimes = `at() { echo "AT $1 $(sudo -n systemctl show --value --property "$2" $3)"; }
at init UserspaceTimestampMonotonic ""
at waiting ActiveEnterTimestampMonotonic dayfly-runner.service
echo "AT runner $(` + node.TellBegin + `)"`

var toldTime = regexp.MustCompile(`(?m)^AT (\w+) ([0-9]+)\r?$`)

// told reads what the step has said.
func (s *site) told(id hub.JobID) (map[string]time.Duration, error) {
	text := s.GitHub.JobLog(id)
	times := map[string]time.Duration{}
	for _, m := range toldTime.FindAllStringSubmatch(text, -1) {
		micros, err := strconv.ParseInt(m[2], 10, 64)
		if err != nil {
			return nil, err
		}
		times[m[1]] = time.Duration(micros) * time.Microsecond
	}
	if len(times) != 3 || times["runner"] == 0 {
		return nil, fmt.Errorf("job %d does not say when its runner was started: %s", id, text)
	}
	return times, nil
}

// job queues a job that tells its times, for a pool's runners.
func (s *site) job(pool string) hub.JobID {
	return s.GitHub.QueueJob(hub.NewJob{Repo: node.Scope, Labels: append(labels[:3:3], pool), Steps: []hub.Step{{Name: "times", Run: tellTimes}}})
}

// over waits until a job has ended well.
func (s *site) over(ctx context.Context, id hub.JobID) error {
	err := wait(ctx, "the job is over", func() bool { j, _ := s.GitHub.Job(id); return j.Status == hub.StatusCompleted })
	if j, _ := s.GitHub.Job(id); err == nil && j.Conclusion != hub.Success {
		err = fmt.Errorf("job %d ended with %s: %s", id, j.Conclusion, s.GitHub.JobLog(id))
	}
	return err
}
