package lxc

import (
	"bytes"
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
	"sync"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	scripts "github.com/dayfly-ci/dayfly/scripts/guest"
	"github.com/dayfly-ci/dayfly/test/packertool"
)

// attach runs a shell command as root in a container, as Proxmox's own "pct
// exec" does.
func attach(ctx context.Context, vmid int, command string) (string, error) {
	cmd := exec.CommandContext(ctx, "lxc-attach", "-n", strconv.Itoa(vmid), "--clear-env", "--", "/bin/sh", "-c", command)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out // not a terminal, where it loses output
	err := cmd.Run()
	return strings.TrimSpace(out.String()), err
}

// built are this module's programs, built once.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "programs")
	if err != nil {
		return "", err
	}
	for name, folder := range map[string]string{
		"packer-plugin-dayfly": "plugin", "dayfly-stub-runner": "internal/sim/runner",
	} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, name), "../../"+folder)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w: %s", folder, err, out)
		}
	}
	return dir, nil
})

func programs(t testing.TB) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

const stubVersion = "2.340.0"

// tarball is the stub runner's.
func tarball(t testing.TB) (data []byte, sum string) {
	t.Helper()
	data, sum, err := lab.Tarball(filepath.Join(programs(t), "dayfly-stub-runner"), stubVersion)
	if err != nil {
		t.Fatal(err)
	}
	return data, sum
}

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
  ostemplate       = "local:` + baseImage + `"
  communicator     = "pct"
  template_family  = "debian-13"
  template_version = "` + stubVersion + `-1"
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
    version  = "` + stubVersion + `"
    file     = %q
    sha256   = %q
    packages = ["busybox-static", "iputils-arping", "fuse-overlayfs"]
  }
}
`

// bake makes template 9000 with a real packer.
func (w *world) bake(t testing.TB) error {
	home := packertool.Install(t, filepath.Join(programs(t), "packer-plugin-dayfly"))
	data, sum := tarball(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "runner.tar.gz")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return err
	}
	user, secret, _ := strings.Cut(w.builder, "=")
	text := fmt.Sprintf(bakeText, w.api, user, secret, file, sum)
	if err := os.WriteFile(filepath.Join(dir, "b.pkr.hcl"), []byte(text), 0o600); err != nil {
		return err
	}
	cmd := home.Command(t.Context(), "build", "-color=false", dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("packer build: %w\n%s", err, out)
	}
	return nil
}

// key names what goes into a baked template, as far as this module decides it.
func key(sum string) string {
	hash := sha256.New()
	image, _ := lab.Debian()
	_, _ = io.WriteString(hash, bakeText+sum+filepath.Base(image))
	_ = fs.WalkDir(scripts.Files, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			text, _ := scripts.Files.ReadFile(path)
			_, _ = fmt.Fprintf(hash, "%s %d\n%s", path, len(text), text)
		}
		return nil
	})
	seal, _ := os.ReadFile("../../plugin/lxc/seal.sh")
	hash.Write(seal)
	return hex.EncodeToString(hash.Sum(nil)[:6])
}

var templateOnce sync.Once

// bakedID is the template that the tests of the guest clone.
const bakedID = 9100

// template is a baked template. It is kept between runs for as long as nothing
// that goes into it changes: what bakes is tested by the chain.
func (w *world) template(t testing.TB) int {
	t.Helper()
	templateOnce.Do(func() {
		_, sum := tarball(t)
		name := "baked-" + key(sum) + ".tar"
		file := func() (string, error) {
			return lab.Cached(name, func(to string) error {
				if err := w.bake(t); err != nil {
					return err
				}
				k, _ := w.Proxmox.Container(9000)
				return lab.Export(lab.Rootfs(k.Config["rootfs"]), to)
			})
		}
		if err := w.archives(map[string]func() (string, error){name: file}); err != nil {
			t.Fatal(err)
		}
		w.makeTemplate(t, bakedID, "local:vztmpl/"+name, pve.LabStorage)
	})
	if k, there := w.Proxmox.Container(bakedID); !there || !k.Template() {
		t.Fatal("there is no template: see the test that ran first")
	}
	return bakedID
}

// makeTemplate makes a template of an archive.
func (w *world) makeTemplate(t testing.TB, vmid int, archive, storage string) {
	t.Helper()
	err := w.task(http.MethodPost, "/nodes/"+lab.Host+"/lxc", map[string]string{
		"vmid": strconv.Itoa(vmid), "ostemplate": archive, "hostname": "template", "rootfs": storage + ":8", "unprivileged": "1",
		"features": "nesting=1", "memory": "2048", "swap": "0", "net0": "name=eth0,bridge=" + lab.Bridge + ",ip=dhcp",
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.call(http.MethodPost, w.lxc(vmid, "/template"), nil); err != nil {
		t.Fatal(err)
	}
	w.Proxmox.Settle()
}
