package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

const (
	demoFamily   = "ubuntu-24.04"
	givenVersion = "2.335.1-1" // of the template that is there from the beginning
	demoBase     = "vztmpl/ubuntu-24.04-standard_24.04-2_amd64.tar.zst"
	pluginName   = "packer-plugin-dayfly"
	pluginFrom   = "github.com/dayfly-ci/dayfly"
)

// bakeHead is the part of the demo's Packer template that both nodes share:
// the version is the one after the given template's.
const bakeHead = `packer {
  required_plugins {
    dayfly = {
      version = ">= 0.1.0"
      source  = "` + pluginFrom + `"
    }
  }
}

data "dayfly-template" "given" {
  family       = "` + demoFamily + `"
  base_version = "2.335.1"
}

build {
  sources = ["source.dayfly-lxc.pve1", "source.dayfly-lxc.pve2"]

  post-processor "dayfly-promote" {
    repository = %q
    templates  = ["ubuntu-24"]
  }
}
`

// bakeSource bakes on one node. The simulated guest has no shell, so nothing
// is provisioned: what it needs is there.
const bakeSource = `
source "dayfly-lxc" %[1]q {
  node             = %[1]q
  pool             = "` + pve.LabTemplates + `"
  ostemplate       = "local:` + demoBase + `"
  communicator     = "none"
  template_family  = "` + demoFamily + `"
  template_version = data.dayfly-template.given.next_version
  template_commit  = "demo"
  rootfs {
    storage = "` + pve.LabStorage + `"
    size    = "8G"
  }
  network_adapters {
    bridge = "` + pve.LabBridge + `"
  }
}
`

// bakeLimit bounds the bake: it takes seconds, with real containers minutes.
const bakeLimit = 10 * time.Minute

// bake makes a new version of the template on both nodes with a real packer,
// and lets its post-processor commit the version.
func (d *demo) bake(ctx context.Context) error {
	dir := filepath.Join(d.dir, "bake")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("bake: %w", err)
	}
	text := fmt.Sprintf(bakeHead, d.repo.dir) + fmt.Sprintf(bakeSource, "pve1") + fmt.Sprintf(bakeSource, "pve2")
	if d.real() {
		var err error
		if text, err = d.lxcTemplate(dir); err != nil {
			return fmt.Errorf("bake: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "runner.pkr.hcl"), []byte(text), 0o600); err != nil {
		return fmt.Errorf("bake: %w", err)
	}
	plugin, err := besideUs(pluginName)
	if err != nil {
		return err
	}
	if d.o.packer, err = locate(d.o.packer); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, bakeLimit)
	defer cancel()
	if err := d.packer(ctx, dir, "plugins", "install", "--path", plugin, pluginFrom); err != nil {
		return err
	}
	d.teller.say("packer build makes a new version of %s, on a simulated Proxmox like any other", d.family)
	if err := d.packer(ctx, dir, "build", "-color=false", "runner.pkr.hcl"); err != nil {
		return err
	}
	return d.learnBaked()
}

// besideUs is the path of a program in the folder of this one.
func besideUs(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", hinted{fmt.Errorf("find %s: %w", name, err), `"make build" puts it beside dayfly`}
	}
	return path, nil
}

// locate is the absolute path of a program: it is run in another folder.
func locate(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", fmt.Errorf("find packer: %w", err)
	}
	return path, nil
}

// packer runs packer with a home of its own and tells what it says. It gets a
// process group: Ctrl-C is for the demo, which ends it in good order.
func (d *demo) packer(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, d.o.packer, args...)
	out := new(spoken)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = d.packerEnv(dir)
	cmd.SysProcAttr = leash(syscall.SIGTERM)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start packer: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var err error
	waited := d.wait(context.WithoutCancel(ctx), bakeLimit+cmd.WaitDelay, "packer ends", func() bool {
		d.quote(out.next())
		select {
		case err = <-ended:
			return true
		default:
			return false
		}
	})
	d.quote(out.next())
	if waited != nil || err != nil {
		return hinted{fmt.Errorf("packer %s: %w", args[0], errors.Join(waited, context.Cause(ctx), err)), "packer's words end:\n" + out.end()}
	}
	return nil
}

// quote tells what packer says of a build as it goes on, without the summary of
// the same at the end.
func (d *demo) quote(lines []string) {
	for _, line := range lines {
		line = strings.TrimPrefix(strings.TrimSpace(line), "==> ")
		if strings.HasPrefix(line, "dayfly-lxc.") {
			d.teller.quote(strings.TrimPrefix(line, "dayfly-lxc."))
		}
	}
}

// packerEnv is the environment of a packer that knows nothing of the user's:
// neither plugins nor configuration nor credentials.
func (d *demo) packerEnv(dir string) []string {
	user, secret, _ := strings.Cut(d.apis["builder"], "=")
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "CHECKPOINT_DISABLE=1", "PACKER_NO_COLOR=1",
		"PACKER_PLUGIN_PATH=" + filepath.Join(dir, "plugins"), "PACKER_CONFIG_DIR=" + filepath.Join(dir, "config"),
		"PROXMOX_URL=" + d.apis["proxmox"], "PROXMOX_USERNAME=" + user, "PROXMOX_TOKEN=" + secret,
	}
}

// learnBaked finds the version that both nodes have now, and sees that the
// bake left nothing else.
func (d *demo) learnBaked() error {
	versions := map[string][]string{}
	for _, k := range d.world.Proxmox.Containers() {
		if k.ResourcePool != pve.LabTemplates {
			continue
		}
		if !k.Template() {
			return fmt.Errorf("the bake left container %d on node %s", k.VMID, k.Node)
		}
		info, err := proxmox.ReadTemplate(k.Config["description"])
		if err == nil && info.State == "ready" && info.Version != givenVersion {
			versions[info.Version] = append(versions[info.Version], k.Node)
		}
	}
	for version, nodes := range versions {
		if len(slices.Compact(slices.Sorted(slices.Values(nodes)))) == len(d.nodes) {
			d.rolls.good = d.family + "@" + version
			return nil
		}
	}
	return fmt.Errorf("the bake made no template on every node: there are %v", versions)
}

// spoken is what a program has printed, to be told line by line.
type spoken struct {
	mu   sync.Mutex
	text bytes.Buffer
	told int
}

// Write implements io.Writer.
func (s *spoken) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

// next are the whole lines since the last call, without empty ones.
func (s *spoken) next() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := s.text.Bytes()[s.told:]
	n := bytes.LastIndexByte(fresh, '\n') + 1
	s.told += n
	return slices.DeleteFunc(strings.Split(string(fresh[:n]), "\n"), func(line string) bool { return strings.TrimSpace(line) == "" })
}

// end are the last lines.
func (s *spoken) end() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(s.text.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
