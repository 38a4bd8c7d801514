package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/test/nodetools"
	"github.com/dayfly-ci/dayfly/test/packertool"
	"github.com/dayfly-ci/dayfly/test/programs"
	"github.com/dayfly-ci/dayfly/test/sshd"
)

// baking is what one bake takes by itself.
type baking struct {
	timing   pve.Timing
	commands []time.Duration // of the provisioners, one after the other
}

// oven is a fast machine's times: what they make of a Debian container with
// Docker and a runner takes minutes elsewhere, where what the builder adds
// weighs less. The commands only wait.
var oven = baking{
	timing: pve.Timing{Create: 4 * time.Second, Start: 300 * time.Millisecond, Shutdown: time.Second, Template: 200 * time.Millisecond,
		Clone: fast.Clone, Stop: 150 * time.Millisecond, Destroy: fast.Destroy},
	commands: []time.Duration{2 * time.Second, 8 * time.Second, 4 * time.Second},
}

const (
	nodePassword = "bench-node-password"
	bakedFamily  = "bench"
)

// kitchen is a simulated Proxmox with a way to its node, whose containers are
// this machine.
type kitchen struct {
	*hand
	node   *sshd.Server
	home   *packertool.Home
	dir    string
	rounds int
}

// bake measures a bake by a real packer with the plugin, from the builder's
// first word until packer has ended, against the same requests and commands
// made by hand: a container is made and started, provisioned through the node,
// given a firewall, shut down, converted, tried on a clone and stamped. Packer's own start is
// told beside it. Sealing is left out on both sides: its script would seal this
// machine.
func (b *bench) bake(ctx context.Context) (results, error) {
	k, err := b.kitchen(ctx)
	if err != nil {
		return nil, err
	}
	defer k.close()
	var ours, starts, bare sample
	for i, began := 0, time.Now(); again(i, b.size.rounds, began); i++ {
		start, took, err := k.byPacker(ctx, b.size.baking)
		if err != nil {
			return nil, err
		}
		ours, starts = append(ours, took), append(starts, start)
		if took, err = k.byHand(ctx, b.size.baking); err != nil {
			return nil, err
		}
		bare = append(bare, took)
	}
	return results{"bake_over_bare": {ours.median() / bare.median(), 1,
		fmt.Sprintf("%.1f s; by hand %.1f s; packer's own start %.1f s", ours.median()/1000, bare.median()/1000, starts.median()/1000)}}, nil
}

func (b *bench) kitchen(ctx context.Context) (*kitchen, error) {
	packer, err := packertool.Find(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := b.folder("bake")
	if err != nil {
		return nil, err
	}
	plugin, err := programs.Build(ctx, programs.Plugin)
	if err != nil {
		return nil, err
	}
	k := &kitchen{dir: dir, home: packertool.In(dir, packer)}
	if err := k.home.Add(ctx, plugin); err != nil {
		return nil, err
	}
	keep, err := nodetools.Write(dir, "pve1")
	if err != nil {
		return nil, err
	}
	if k.node, err = sshd.Start(nodePassword, nil); err != nil {
		return nil, err
	}
	k.node.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	w, err := newWorld(setting{timing: b.size.baking.timing})
	if err != nil {
		k.node.Close()
		return nil, err
	}
	w.Proxmox.PublishTo(keep)
	w.token = pve.LabBuilder(w.Proxmox)
	k.hand = &hand{w: w, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: patience}, next: 200}
	return k, nil
}

func (k *kitchen) close() {
	k.hand.close()
	k.node.Close()
}

const bakeTemplate = `
packer {
  required_plugins {
    dayfly = {
      version = ">= 0.1.0"
      source  = %[1]q
    }
  }
}

source "dayfly-lxc" "bench" {
  proxmox_url  = "%[2]s/api2/json"
  username     = %[3]q
  token        = %[4]q
  node         = "pve1"
  pool         = %[5]q
  ostemplate   = %[6]q
  communicator = "pct"
  seal         = false
  rootfs {
    storage = %[7]q
    size    = "4G"
  }
  network_adapters {
    bridge = %[8]q
  }
  host_ssh {
    host                 = "127.0.0.1"
    port                 = %[9]d
    password             = %[10]q
    host_key_fingerprint = %[11]q
  }
  template_family  = %[12]q
  template_version = "%[13]d"
  template_commit  = "bench"
}

build {
  sources = ["source.dayfly-lxc.bench"]
  %[14]s
}
`

// voice is what a program prints, and when it first told what it does.
type voice struct {
	text  bytes.Buffer
	first time.Time
}

// Write implements io.Writer.
func (v *voice) Write(p []byte) (int, error) {
	if v.first.IsZero() && bytes.Contains(p, []byte("==> ")) {
		v.first = time.Now()
	}
	return v.text.Write(p)
}

// byPacker is one bake with packer: how long packer takes to start the builder,
// and all the rest.
func (k *kitchen) byPacker(ctx context.Context, what baking) (start, took time.Duration, err error) {
	k.rounds++
	var provisioners strings.Builder
	for _, d := range what.commands {
		fmt.Fprintf(&provisioners, "provisioner \"shell\" {\n    inline        = [\"sleep %.3f\"]\n    remote_folder = %q\n  }\n  ", d.Seconds(), k.dir)
	}
	user, secret, _ := strings.Cut(k.w.token, "=")
	text := fmt.Sprintf(bakeTemplate, packertool.Source, k.w.proxmoxURL, user, secret, pve.LabTemplates, pve.LabBase, pve.LabStorage, pve.LabBridge,
		k.node.Port(), nodePassword, ssh.FingerprintSHA256(k.node.HostKey()), bakedFamily, k.rounds, provisioners.String())
	file := filepath.Join(k.dir, "bake.pkr.hcl")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return 0, 0, err
	}
	out := new(voice)
	cmd := k.home.Command(ctx, "build", file)
	cmd.Stdout, cmd.Stderr = out, out
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, 0, fmt.Errorf("packer build: %w: %s", err, &out.text)
	}
	return out.first.Sub(began), time.Since(out.first), k.baked(fmt.Sprint(k.rounds))
}

// baked makes sure that a bake made what it is measured for.
func (k *kitchen) baked(version string) error {
	for _, c := range k.w.Proxmox.Containers() {
		info, err := proxmox.ReadTemplate(c.Config["description"])
		if err == nil && c.Template() && info.Family == bakedFamily && info.Version == version && info.State == "ready" {
			return nil
		}
	}
	return errors.New("the bake left no template")
}

// byHand is one bake by requests and commands alone.
func (k *kitchen) byHand(ctx context.Context, what baking) (time.Duration, error) {
	k.rounds++
	began := time.Now()
	conf := &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.Password(nodePassword)}, HostKeyCallback: ssh.FixedHostKey(k.node.HostKey())}
	node, err := ssh.Dial("tcp", k.node.Addr, conf)
	if err != nil {
		return 0, err
	}
	defer node.Close()
	info := proxmox.TemplateInfo{Schema: 1, Family: bakedFamily, Version: fmt.Sprint(k.rounds), State: "building"}
	vmid, err := k.make(ctx, info)
	if err != nil {
		return 0, err
	}
	for _, d := range what.commands {
		if err := attach(node, vmid, fmt.Sprintf("sleep %.3f", d.Seconds())); err != nil {
			return 0, err
		}
	}
	shield := url.Values{"enable": {"1"}, "policy_in": {"DROP"}, "policy_out": {"ACCEPT"}, "macfilter": {"1"}, "dhcp": {"1"}, "ipfilter": {"0"}}
	if err := k.proxmox(ctx, http.MethodPut, fmt.Sprintf("/lxc/%d/firewall/options", vmid), shield, nil); err != nil {
		return 0, err
	}
	if err := k.finish(ctx, vmid); err != nil {
		return 0, err
	}
	info.State = "ready"
	stamp := url.Values{"tags": {proxmox.TemplateTag + ";" + proxmox.ReadyTag}, "description": {info.Describe()}}
	if err := k.proxmox(ctx, http.MethodPut, fmt.Sprintf("/lxc/%d/config", vmid), stamp, nil); err != nil {
		return 0, err
	}
	return time.Since(began), k.baked(info.Version)
}

// make creates a container and starts it.
func (k *kitchen) make(ctx context.Context, info proxmox.TemplateInfo) (vmid int, err error) {
	k.next++
	err = k.task(ctx, http.MethodPost, "/lxc", url.Values{
		"vmid": {fmt.Sprint(k.next)}, "ostemplate": {pve.LabBase}, "hostname": {"byhand"}, "rootfs": {pve.LabStorage + ":4"}, "pool": {pve.LabTemplates},
		"unprivileged": {"1"}, "features": {"nesting=1"}, "memory": {"2048"}, "net0": {"name=eth0,bridge=" + pve.LabBridge + ",ip=dhcp,firewall=1,type=veth"},
		"description": {info.Describe()},
	})
	if err == nil {
		err = k.proxmox(ctx, http.MethodPut, fmt.Sprintf("/lxc/%d/config", k.next), url.Values{"tags": {proxmox.TemplateTag + ";" + proxmox.BuildingTag}}, nil)
	}
	if err == nil {
		err = k.up(ctx, fmt.Sprintf("/lxc/%d", k.next))
	}
	return k.next, err
}

// up starts a container and waits for its address.
func (k *kitchen) up(ctx context.Context, path string) error {
	if err := k.task(ctx, http.MethodPost, path+"/status/start", nil); err != nil {
		return err
	}
	return wait(ctx, "the container has an address", func() bool {
		var list []struct {
			Name string `json:"name"`
			Inet string `json:"inet"`
		}
		if k.proxmox(ctx, http.MethodGet, path+"/interfaces", nil, &list) != nil {
			return false
		}
		for _, i := range list {
			if i.Name == "eth0" && i.Inet != "" {
				return true
			}
		}
		return false
	})
}

// attach runs a command in a container.
func attach(node *ssh.Client, vmid int, command string) error {
	session, err := node.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	if out, err := session.CombinedOutput(fmt.Sprintf("lxc-attach -n %d --clear-env -- /bin/sh -c '%s'", vmid, command)); err != nil {
		return fmt.Errorf("run %s: %w: %s", command, err, bytes.TrimSpace(out))
	}
	return nil
}

// finish makes a template of a container and tries it on a clone.
func (k *kitchen) finish(ctx context.Context, vmid int) error {
	path := fmt.Sprintf("/lxc/%d", vmid)
	if err := k.task(ctx, http.MethodPost, path+"/status/shutdown", url.Values{"timeout": {"60"}}); err != nil {
		return err
	}
	if err := k.proxmox(ctx, http.MethodPost, path+"/template", nil, nil); err != nil {
		return err
	}
	err := wait(ctx, "the container is a template", func() bool {
		var conf struct {
			Template int `json:"template"`
		}
		return k.proxmox(ctx, http.MethodGet, path+"/config", nil, &conf) == nil && conf.Template == 1
	})
	if err != nil {
		return err
	}
	k.next++
	clone := fmt.Sprintf("/lxc/%d", k.next)
	if err := k.task(ctx, http.MethodPost, path+"/clone", url.Values{"newid": {fmt.Sprint(k.next)}, "pool": {pve.LabTemplates}}); err != nil {
		return err
	}
	if err := k.up(ctx, clone); err != nil {
		return err
	}
	return k.task(ctx, http.MethodDelete, clone, url.Values{"force": {"1"}, "purge": {"1"}})
}
