package lxc

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// apart is a world of three nodes that share no storage, whose token may
// migrate.
func apart(t *testing.T, timing pve.Timing) *world {
	t.Helper()
	w := newWorld(t, pve.Config{Nodes: []string{"pve", "three", "two"}, Timing: timing})
	w.sim.AddRole("DayflyReplicas", "VM.Migrate")
	w.sim.SetACL("/pool/"+pve.LabTemplates, "DayflyReplicas", true, "packer@pve", builderToken)
	w.set("nodes", []string{"pve", "two", "three"})
	return w
}

func TestReplicasOnNodesThatShareNoStorage(t *testing.T) {
	for _, kind := range []string{"zfspool", "lvmthin", "dir"} {
		t.Run(kind, func(t *testing.T) {
			w := apart(t, pve.Timing{})
			w.sim.AddStorage(pve.Storage{ID: pve.LabStorage, Type: kind, Pool: "pve/data"})
			w.set("replicas", 2)
			w.mustBuild()
			if got, want := w.places(), "pve pve three three two two"; got != want {
				t.Errorf("templates are on %s, want %s", got, want)
			}
			moved := 0
			for _, e := range w.sim.History() {
				if e.Kind == "migrate" {
					moved++
				}
			}
			if moved != 2 {
				t.Errorf("%d copies were moved, want one to each of the two other nodes", moved)
			}
			w.left(6)
			for _, c := range w.templates() {
				if c.ResourcePool != pve.LabTemplates || c.Lock != "" || w.shield(c.VMID) != defaultShield {
					t.Errorf("container %d is in resource pool %q with lock %q and firewall %s", c.VMID, c.ResourcePool, c.Lock, w.shield(c.VMID))
				}
			}
		})
	}
}

func TestReplicaStorageIsChosen(t *testing.T) {
	w := apart(t, pve.Timing{})
	w.set("nodes", []string{"pve", "two"})
	w.sim.AddStorage(pve.Storage{ID: pve.LabStorage, Type: "dir", Nodes: []string{"pve"}})
	w.fails("nodes: node two has no storage local-zfs that packer@pve!build may see; hint: it has ")
	w.sim.AddStorage(pve.Storage{ID: "thin", Type: "lvmthin", Pool: "pve/data", Nodes: []string{"two"}})
	w.set("replica_storage", "thin")
	w.fails("has no Datastore.AllocateSpace on /storage/thin (for the container's volumes)")
	w.sim.SetACL("/storage/thin", "DayflyUpload", true, "packer@pve", builderToken)
	w.mustBuild()
	for _, c := range w.templates() {
		want := map[string]string{"pve": "dir", "two": "lvmthin"}[c.Node]
		if got := w.manifest(c.VMID).StorageType; got != want {
			t.Errorf("the template on node %s says that it is on storage type %q, want %q", c.Node, got, want)
		}
	}
	w.left(2)
}

func TestReplicasThatCannotMoveAreSaidBeforeAnythingIsMade(t *testing.T) {
	tests := []struct {
		name  string
		world func(*world)
		want  string
	}{
		{"no privilege", func(w *world) { w.sim.RevokeACL("/pool/"+pve.LabTemplates, "DayflyReplicas", builderToken) },
			"has no VM.Migrate on /pool/dayfly-templates"},
		{"a storage that is not moved from", func(w *world) { w.sim.AddStorage(pve.Storage{ID: pve.LabStorage, Type: "nfs"}) },
			"moves no container from a storage of type nfs"},
		{"another kind of storage", func(w *world) {
			w.sim.AddStorage(pve.Storage{ID: "other", Type: "dir", Content: []string{"rootdir"}})
			w.sim.SetACL("/storage/other", "DayflyUpload", true, "packer@pve", builderToken)
			w.set("replica_storage", "other")
		}, "ZFS goes to ZFS alone"},
		{"a storage without containers", func(w *world) { w.set("replica_storage", "local") }, "storage local on node two holds no containers"},
		{"a full storage", func(w *world) {
			w.sim.AddStorage(pve.Storage{ID: "other", Type: "zfspool", Size: 2 << 30, Used: 1 << 30})
			w.sim.SetACL("/storage/other", "DayflyUpload", true, "packer@pve", builderToken)
			w.set("replica_storage", "other")
		}, "storage other on node two is full: 1024 MiB are free, rootfs.size is 4G"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := apart(t, pve.Timing{})
			test.world(w)
			w.fails(test.want)
			if n := len(w.sim.History()); n != 0 {
				t.Errorf("%d things were made: %v", n, w.sim.History())
			}
		})
	}
}

func TestFailedMigrationLeavesNothing(t *testing.T) {
	w := apart(t, pve.Timing{})
	w.sim.FailNext("vzmigrate", "migration aborted")
	w.fails("make replica 1 on node two: migration aborted")
}

func TestMigrationWithoutAnswer(t *testing.T) {
	w := apart(t, pve.Timing{})
	w.on(`POST .*/migrate`, 1, stage.Fault{Lose: true})
	w.mustBuild()
	w.left(3)
}

// A copy that is being moved when the build is cancelled is on one node or the
// other.
func TestCancelledMigrationLeavesNothing(t *testing.T) {
	for _, at := range []string{"pve", "two"} {
		t.Run("on node "+at, func(t *testing.T) {
			w := apart(t, pve.Timing{FullClone: 300 * time.Millisecond, Clone: 3 * time.Second})
			w.set("nodes", []string{"pve", "two"})
			w.set("smoke_test", map[string]any{"skip": true})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			seen := false
			w.fault = func(r *http.Request) stage.Fault {
				if c, ok := w.sim.Container(101); ok && c.Lock == "migrate" && c.Node == at && strings.Contains(r.URL.Path, ":vzmigrate:") {
					seen = true
					cancel()
				}
				return stage.Fault{}
			}
			if _, err := w.build(ctx); err == nil || !seen {
				t.Errorf("the build ended with %v, its copy was seen on node %s: %v", err, at, seen)
			}
			w.left(0)
		})
	}
}
