package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	scripts "github.com/dayfly-ci/dayfly/scripts/guest"
	"github.com/dayfly-ci/dayfly/test/packertool"
	"github.com/dayfly-ci/dayfly/test/programs"
)

// Runner is the version that the stub runner says it has.
const Runner = "2.340.0"

const bakeText = `
packer {
  required_plugins {
    dayfly = {
      version = ">= 0.1.0"
      source  = "` + packertool.Source + `"
    }
  }
}

source "dayfly-lxc" "runner" {
  proxmox_url      = %q
  username         = %q
  token            = %q
  node             = "` + lab.Host + `"
  pool             = "` + pve.LabTemplates + `"
  vm_id            = 9000
  ostemplate       = "` + BaseImage + `"
  communicator     = "pct"
  template_family  = "debian-13"
  template_version = "` + Runner + `-1"
  template_commit  = "test"
  rootfs {
    storage = "` + pve.LabStorage + `"
    size    = "8G"
  }
  network_adapters {
    bridge = "` + lab.Bridge + `"
  }
  smoke_test {
    skip = true
  }
}

build {
  sources = ["source.dayfly-lxc.runner"]

  provisioner "dayfly-runner" {
    version  = "` + Runner + `"
    file     = %q
    sha256   = %q
    packages = ["busybox-static", "iputils-arping", "fuse-overlayfs"]
  }
}
`

// Oven bakes templates. Its folder holds the stub runner's tarball.
type Oven struct {
	dir     string
	plugin  string // the program
	archive string // of the base system with all that is baked into it
	sum     string // of the tarball
}

// NewOven makes an oven in a folder.
func NewOven(ctx context.Context, dir string) (*Oven, error) {
	plugin, err := programs.Build(ctx, programs.Plugin)
	if err != nil {
		return nil, err
	}
	stub, err := programs.Build(ctx, programs.Stub)
	if err != nil {
		return nil, err
	}
	data, sum, err := lab.Tarball(stub, Runner)
	if err != nil {
		return nil, err
	}
	o := &Oven{dir: dir, plugin: plugin, sum: sum}
	if err := os.WriteFile(o.tarball(), data, 0o600); err != nil {
		return nil, err
	}
	key, err := o.key(ctx)
	o.archive = "baked-" + key + ".tar"
	return o, err
}

func (o *Oven) tarball() string { return filepath.Join(o.dir, "runner.tar.gz") }

// key names what goes into a baked template, as far as this module decides it.
func (o *Oven) key(ctx context.Context) (string, error) {
	hash := sha256.New()
	image, err := lab.Debian()
	if err != nil {
		return "", err
	}
	_, _ = io.WriteString(hash, bakeText+o.sum+filepath.Base(image)) // never fails (hash.Hash)
	err = fs.WalkDir(scripts.Files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := scripts.Files.ReadFile(path)
		_, _ = fmt.Fprintf(hash, "%s %d\n%s", path, len(text), text)
		return err
	})
	if err != nil {
		return "", err
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	seal, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "plugin/lxc/seal.sh"))
	hash.Write(seal)
	return hex.EncodeToString(hash.Sum(nil)[:6]), err
}

// Archive is the baked template as a base image on a world's storage. It is
// kept between runs for as long as nothing that goes into it changes: what
// bakes is tested by the chain. Without a packer it is packertool.ErrNone,
// unless it was baked before.
func (o *Oven) Archive(ctx context.Context, w *World) (string, error) {
	file := func() (string, error) {
		return lab.Cached(o.archive, func(to string) error {
			if err := o.bake(ctx, w); err != nil {
				return err
			}
			k, _ := w.Proxmox.Container(9000)
			return lab.Export(lab.Rootfs(k.Config["rootfs"]), to)
		})
	}
	return "local:vztmpl/" + o.archive, w.Archives(map[string]func() (string, error){o.archive: file})
}

// bake makes template 9000 with a real packer.
func (o *Oven) bake(ctx context.Context, w *World) error {
	packer, err := packertool.Find(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "bake-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	home := packertool.In(dir, packer)
	if err := home.Add(ctx, o.plugin); err != nil {
		return err
	}
	user, secret, _ := strings.Cut(w.Builder, "=")
	file := filepath.Join(dir, "bake.pkr.hcl")
	if err := os.WriteFile(file, fmt.Appendf(nil, bakeText, w.API, user, secret, o.tarball(), o.sum), 0o600); err != nil {
		return err
	}
	if out, err := home.Command(ctx, "build", "-color=false", file).CombinedOutput(); err != nil {
		return fmt.Errorf("packer build: %w\n%s", err, out)
	}
	return nil
}

// MakeTemplate makes a template of an archive. Options are added to those that
// a template has, or replace them.
func (w *World) MakeTemplate(vmid int, archive, storage string, options map[string]string) error {
	params := map[string]string{
		"vmid": strconv.Itoa(vmid), "ostemplate": archive, "hostname": "template", "rootfs": storage + ":8", "unprivileged": "1",
		"features": "nesting=1", "memory": "2048", "swap": "0", "net0": "name=eth0,bridge=" + lab.Bridge + ",ip=dhcp",
	}
	for k, v := range options {
		params[k] = v
	}
	if err := w.Task(http.MethodPost, "/nodes/"+lab.Host+"/lxc", params); err != nil {
		return err
	}
	if _, err := w.Call(http.MethodPost, LXC(vmid, "/template"), nil); err != nil {
		return err
	}
	w.Proxmox.Settle()
	return nil
}
