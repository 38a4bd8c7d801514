package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// What the day with real containers is made of.
const (
	lxcFamily = "debian-13"
	lxcRunner = "2.340.0" // version that the stub runner says it has
	lxcBase   = "vztmpl/debian-13-lab_amd64.tar"
	stubName  = "dayfly-stub-runner"
	lxcLimit  = 15 * time.Minute
)

// errLab is that the day in the sandbox ended badly; it has said why.
var errLab = errors.New("the day with real containers did not end as it must")

// demoLXC plays the day in a sandbox: this program starts itself in it.
func (p *program) demoLXC(ctx context.Context, o demoOptions) error {
	if !lab.Inside() {
		if err := lab.Missing(); err != nil {
			return hinted{fmt.Errorf("real containers: %w", err), "without --containers lxc, the containers are simulated"}
		}
	}
	if o.packer == "" {
		return usageError{errors.New("--containers lxc needs --packer: the day begins with a bake")}
	}
	var err error
	code := lab.Main(func() int {
		if err = p.playDay(ctx, o, lxcLimit); err != nil {
			return 1
		}
		return 0
	})
	switch {
	case err != nil:
		return err // inside: how it ended
	case code != 0:
		return errLab // outside: the reason is said already
	}
	return nil
}

const lxcPools = `dayfly {
  schema = 1
}

defaults {
  github {
    org   = "acme"
    group = "proxmox"
  }

  network {
    bridge = "` + lab.Bridge + `"
  }

  # A runner whose launch was cut off is given up sooner than by default.
  timeouts {
    register = "40s"
  }

  # No smoke boot: a container cannot reach what stands for GitHub's API here,
  # which the daemon speaks to without TLS, and so on the loopback only.
  rollout {
    smoke = 0
    wait  = "0s"
    bake  = "10s"

    canary {
      jobs = 0
    }
  }
}

template "debian-13" {
  family = "` + lxcFamily + `"
}

pool "linux-x64" {
  template = template.debian-13
  labels   = ["self-hosted", "linux", "x64"]

  scale {
    max   = 3
    spare = 1
  }

  size {
    cores  = 2
    memory = "2GiB"
    swap   = "0"
  }
}
`

// lxcHost makes the sandbox a node with a root half, which mends with the
// sandbox's pct.
func (d *demo) lxcHost() string {
	return fmt.Sprintf(`
host {
  name   = "`+lab.Host+`"
  user   = "root"
  socket = %q
  pct    = ["`+lab.ToolPath+`"]
}
`, d.half())
}

const lxcBake = `packer {
  required_plugins {
    dayfly = {
      version = ">= 0.1.0"
      source  = "` + pluginFrom + `"
    }
  }
}

data "dayfly-template" "given" {
  family       = "` + lxcFamily + `"
  base_version = "` + lxcRunner + `"
}

source "dayfly-lxc" "runner" {
  node             = "` + lab.Host + `"
  pool             = "` + pve.LabTemplates + `"
  ostemplate       = "local:` + lxcBase + `"
  communicator     = "pct"
  template_family  = "` + lxcFamily + `"
  template_version = data.dayfly-template.given.next_version
  template_commit  = "demo"
  rootfs {
    storage = "` + pve.LabStorage + `"
    size    = "8G"
  }
  network_adapters {
    bridge = "` + lab.Bridge + `"
  }
  # Of private networks, jobs reach only what stands for GitHub.
  firewall {
    allow_out = ["` + lab.Gateway + `"]
    deny_out  = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
  }
  smoke_test {
    commands = ["runuser -u runner -- docker info --format '{{.Driver}}'"]
  }
}

build {
  sources = ["source.dayfly-lxc.runner"]

  provisioner "dayfly-runner" {
    version  = "` + lxcRunner + `"
    file     = %q
    sha256   = %q
    packages = ["busybox-static"]
  }

  post-processor "dayfly-promote" {
    repository = %q
    templates  = ["debian-13"]
  }
}
`

// lxcWorld sets up one node whose containers are real. What stands for GitHub
// is reached from them at the bridge's address.
func (d *demo) lxcWorld() error {
	d.nodes, d.family = []string{lab.Host}, lxcFamily
	listener, err := net.Listen("tcp", lab.Gateway+":0")
	if err != nil {
		return err
	}
	broker := "http://" + listener.Addr().String() + "/"
	d.world = sim.New(sim.Config{
		Seed: d.o.seed,
		PVE:  pve.Config{Nodes: []string{lab.Host}, CPUs: runtime.NumCPU(), Timing: pve.Timing{StatusLag: 10 * time.Second}, Machine: new(lab.Machine)},
		Hub: hub.Config{
			Webhook: hub.Webhook{URL: d.webhook, Secret: d.secret, Transport: http.DefaultTransport},
			Timing:  hub.Timing{API: 5 * time.Millisecond, JIT: 50 * time.Millisecond, Webhook: 10 * time.Millisecond}, Broker: broker,
		},
		JobTimeout: func(string) time.Duration { return 6 * time.Hour },
	})
	w := d.world
	if err := lab.Tool(w.Proxmox.PCT); err != nil {
		return fmt.Errorf("make the sandbox's pct: %w", err)
	}
	srv := &http.Server{Handler: w.GitHub.Broker(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(listener) }()
	d.closes = append(d.closes, srv.Close)
	d.apis["token"], d.apis["builder"] = pve.Lab(w.Proxmox), pve.LabBuilder(w.Proxmox)
	w.Proxmox.AddStorage(pve.Storage{ID: "local", Type: "dir", Path: lab.ArchiveDir, Content: []string{"vztmpl"},
		Files: []pve.Archive{{Name: lxcBase, Size: 200 << 20}}})
	w.Watch(pve.LabToken)
	w.GitHub.AddGroup("acme", hub.Group{Name: "proxmox"})
	w.GitHub.AddInstallation(hub.Installation{Account: "acme", Repositories: []string{"app", "lib", "site"}})
	return nil
}

// newLXCRepo makes a repository of pools for one node.
func newLXCRepo(_ context.Context, dir string) (*demoRepo, error) {
	write := func(desk string) error {
		return os.WriteFile(filepath.Join(desk, "pools.hcl"), []byte(lxcPools), 0o644)
	}
	if err := firstCommit(dir, write); err != nil {
		return nil, fmt.Errorf("make repository: %w", err)
	}
	return &demoRepo{dir}, nil
}

// lxcImage makes the base image, which takes a minute once on a machine.
func (d *demo) lxcImage() error {
	d.teller.say("a base image of Debian: made once, then kept in the cache")
	image, err := lab.Debian()
	if err != nil {
		return err
	}
	return lab.Archive(image, strings.TrimPrefix(lxcBase, "vztmpl/"))
}

// lxcTemplate is the Packer template of the day, with the runner's tarball.
func (d *demo) lxcTemplate(dir string) (string, error) {
	stub, err := besideUs(stubName)
	if err != nil {
		return "", err
	}
	data, sum, err := lab.Tarball(stub, lxcRunner)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "runner.tar.gz")
	return fmt.Sprintf(lxcBake, file, sum, d.repo.dir), os.WriteFile(file, data, 0o600)
}

// dockerStep runs a container in the container, of an image that is made on
// the spot.
var dockerStep = hub.Step{Name: "docker run", Run: `mkdir -p image
cp /bin/busybox image/
tar -C image -c . | docker import - local/busybox
docker run --rm --network none local/busybox /busybox echo "hello from a container in the container"`}

// lxcDay is the day with real containers.
func (d *demo) lxcDay(ctx context.Context) error {
	d.closes = append(d.closes, func() error { return d.stopHalf(syscall.SIGTERM) })
	if err := d.startHalf(ctx); err != nil {
		return err
	}
	if err := d.lxcImage(); err != nil {
		return err
	}
	if err := d.bake(ctx); err != nil {
		return err
	}
	d.teller.say("the daemon sees the commit: a spare is cloned from %s", d.rolls.good)
	if err := d.pushed(ctx); err != nil {
		return err
	}
	if err := d.admin.Sync(ctx); err != nil {
		return err
	}
	if err := d.spared(ctx, d.rolls.good, 1); err != nil {
		return err
	}
	d.teller.say("a job with a Docker step; a spare is waiting for it")
	if err := d.succeeds(ctx, "hello from a container in the container", dockerStep); err != nil {
		return err
	}
	d.teller.say("a burst of three jobs")
	for range 3 {
		d.world.GitHub.QueueJob(hub.NewJob{Repo: demoRepos[1], Labels: linuxJob, Steps: []hub.Step{{Name: "uname", Run: "uname -a; id"}}})
	}
	if err := d.finished(ctx); err != nil {
		return err
	}
	return d.strikes(ctx)
}

// succeeds runs a job that must succeed and say something.
func (d *demo) succeeds(ctx context.Context, says string, steps ...hub.Step) error {
	id := d.world.GitHub.QueueJob(hub.NewJob{Repo: demoRepos[0], Labels: linuxJob, Steps: steps})
	if err := d.ended(ctx, id); err != nil {
		return err
	}
	log := d.world.GitHub.JobLog(id)
	for line := range strings.Lines(log) {
		d.teller.quoteJob(line)
	}
	if j, _ := d.world.GitHub.Job(id); j.Conclusion != hub.Success || !strings.Contains(log, says) {
		return fmt.Errorf("job %d ended with %s and its log lacks %q", id, j.Conclusion, says)
	}
	return nil
}
