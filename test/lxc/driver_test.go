package lxc

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/lab"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/test/lxc/node"
)

// A clone may be on another kind of storage than its template was baked on:
// Docker works there, or says why not.
func TestDockerOnEveryFileSystem(t *testing.T) {
	w := inLab(t)
	t.Parallel()
	const template = 9200
	w.makeTemplate(t, template, pve.LabStorage)
	var cloning sync.Mutex // Proxmox locks the template
	for _, c := range []struct{ name, kind, features, driver string }{
		{"ext4", "ext4", "nesting=1", "overlay2"}, {"xfs", "xfs", "nesting=1", "overlay2"}, {"tmpfs", "tmpfs", "nesting=1", "overlay2"},
		{"btrfs", "btrfs", "nesting=1", "overlay2"}, {"overlay", "overlay", "nesting=1", ""},
		{"overlay-with-fuse", "overlay", "nesting=1,fuse=1", "fuse-overlayfs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			storage := "on-" + c.name
			mount(t, c.kind, filepath.Join("/mnt", storage))
			w.Proxmox.AddStorage(pve.Storage{ID: storage, Type: "zfspool"})
			g := w.guest(t, &node.Guest{W: w.World, VMID: w.NextVMID(), Name: "r-" + c.name})
			t.Cleanup(g.destroy)
			cloning.Lock()
			err := w.Task(http.MethodPost, node.LXC(template, "/clone"), map[string]string{
				"newid": strconv.Itoa(g.vmid), "hostname": g.name, "full": "1", "storage": storage,
			})
			cloning.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			w.Proxmox.SetOption(g.vmid, "features", c.features)
			j, log := g.runs("docker info --format 'driver {{.Driver}}'\n" + dockerStep)
			g.ended()
			if c.driver != "" && (j.Conclusion != hub.Success || !strings.Contains(log, "driver "+c.driver)) {
				t.Errorf("the job ended with %q:\n%s\n%s", j.Conclusion, log, g.log())
			}
			if c.driver == "" && (j.Conclusion != hub.Failure || !strings.Contains(g.read("var/lib/dayfly/journal.txt"), "overlay2: ")) {
				t.Errorf("the job ended with %q and the journal does not say why:\n%s", j.Conclusion, g.log())
			}
		})
	}
}

// mount puts a file system of a kind somewhere, or skips the test where the
// machine has none.
func mount(t *testing.T, kind, at string) {
	t.Helper()
	known, _ := os.ReadFile("/proc/filesystems")
	if !strings.Contains(string(known), "\t"+kind+"\n") {
		t.Skip("the kernel has no " + kind)
	}
	if _, err := exec.LookPath("mkfs." + kind); err != nil && (kind == "ext4" || kind == "xfs") {
		lab.Lacking(t, err)
	}
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	image := filepath.Join(dir, "disk")
	script := `set -e; truncate -s 6G "$1"; mkfs.` + kind + ` -q "$1"; mount -o loop "$1" "$2"`
	switch kind {
	case "tmpfs":
		script = `mount -t tmpfs -o size=6G tmpfs "$2"`
	case "overlay": // stands for a file system that takes no overlay on top
		script = `mkdir "$1" "$1/l" "$1/u" "$1/w"; mount -t overlay overlay -o "lowerdir=$1/l,upperdir=$1/u,workdir=$1/w" "$2"`
	}
	if out, err := exec.Command("/bin/sh", "-c", script+`; chmod 755 "$2"`, "sh", image, at).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount %s: %v: %s", at, err, out)
		}
	})
}
