package lxc

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// builderToken is the token's id that pve.LabBuilder makes.
const builderToken = "packer@pve!build"

func TestBadWorldIsOneClearErrorAndLeavesNothing(t *testing.T) {
	tests := []struct {
		name  string
		world func(*world)
		want  string
	}{
		{"a wrong token", func(w *world) { w.sim.SetTokenSecret(builderToken, "another") }, "does not know packer@pve!build or its secret"},
		{"no server", func(w *world) { w.server.Close() }, "no answer from Proxmox at"},
		{"no such node", func(w *world) { w.set("node", "nope") }, "there is no node nope; hint: the cluster has pve"},
		{"a missing privilege on the resource pool", func(w *world) {
			w.sim.RevokeACL("/pool/"+pve.LabTemplates, "DayflyBuilder", builderToken)
		}, "has no VM.Allocate on /pool/dayfly-templates"},
		{"no privilege for the network and the firewall", func(w *world) {
			w.sim.AddRole("DayflyBuilder", "VM.Allocate,VM.Audit,VM.Clone,VM.PowerMgmt,VM.Config.Disk,VM.Config.CPU,VM.Config.Memory,VM.Config.Options,Pool.Audit")
		}, "has no VM.Config.Network on /pool/dayfly-templates"},
		{"a missing privilege on the storage", func(w *world) {
			w.sim.RevokeACL("/storage/"+pve.LabStorage, "DayflyUpload", builderToken)
		}, "has no Datastore.AllocateSpace on /storage/local-zfs"},
		{"a missing privilege on the bridge", func(w *world) {
			w.sim.RevokeACL("/sdn/zones/localnetwork/"+pve.LabBridge, "DayflyNet", builderToken)
		}, "pveum acl modify /sdn/zones/localnetwork/vmbr0 --users 'packer@pve' --tokens 'packer@pve!build' --roles DayflyNet"},
		{"a full storage", func(w *world) {
			w.sim.AddStorage(pve.Storage{ID: pve.LabStorage, Type: "zfspool", Size: 10 << 30, Used: 9 << 30})
		}, "storage local-zfs is full: 1024 MiB are free, rootfs.size is 4G"},
		{"a storage that makes no templates", func(w *world) {
			w.sim.AddStorage(pve.Storage{ID: pve.LabStorage, Type: "lvm"})
		}, "of type lvm, which makes no templates"},
		{"a storage that holds no containers", func(w *world) { w.set("rootfs", map[string]any{"storage": "local"}) }, "holds no containers (rootdir)"},
		{"no such storage", func(w *world) { w.set("rootfs", map[string]any{"storage": "nope"}) }, "has no Datastore.AllocateSpace on /storage/nope"},
		{"no such base image", func(w *world) { w.set("ostemplate", "local:vztmpl/none.tar.zst") }, "has no local:vztmpl/none.tar.zst; hint: it has " + pve.LabBase},
		{"a VMID that is taken", func(w *world) {
			w.set("vm_id", 777)
			w.sim.AddContainer(pve.Container{VMID: 777, Storage: pve.LabStorage})
		}, "vm_id: VMID 777 is taken"},
		{"a range that is taken", func(w *world) {
			w.set("vm_id_range", "777-777")
			w.sim.AddContainer(pve.Container{VMID: 777, Storage: pve.LabStorage})
		}, "vm_id_range 777-777: every VMID is taken"},
		{"a version that is there", func(w *world) { w.mustBuild() }, "template debian-13@1.0.0-1 exists already: 100 on node pve"},
		{"no source", func(w *world) {
			w.set("ostemplate", nil)
			w.set("source_template", map[string]any{"family": "debian-13"})
		}, "has no finished template debian-13"},
		{"a checksum that is wrong", func(w *world) {
			w.sim.SetACL("/nodes/pve", "DayflyDownload", true, "packer@pve", builderToken)
			w.set("ostemplate_url", "https://images.example.org/debian.tar.zst")
			w.set("ostemplate_checksum", "sha256:"+strings.Repeat("0", 64))
			w.sim.FailNext("download", "checksum mismatch: got 'x' != expect 'y'")
		}, "look at ostemplate_url and ostemplate_checksum"},
		{"a create task that fails", func(w *world) { w.sim.FailNext("vzcreate", "unable to create CT 100 - no space left") }, "no space left"},
		{"a conversion that fails", func(w *world) { w.sim.FailNext("vztemplate", "zfs error: dataset is busy") }, "dataset is busy"},
		{"a smoke clone that fails", func(w *world) { w.sim.FailNext("vzclone", "clone failed: zfs error") }, "smoke test: clone failed: zfs error"},
		{"a template that does not start", func(w *world) { w.sim.FailNext("vzstart", "startup for container failed") }, "startup for container failed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, pve.Config{})
			w.sim.AddRole("DayflyDownload", "Sys.AccessNetwork,Sys.Audit,Sys.Modify")
			test.world(w)
			w.fails(test.want)
		})
	}
}

func TestOfflineNode(t *testing.T) {
	w := newWorld(t, pve.Config{Nodes: []string{"pve", "two"}})
	w.set("node", "two")
	w.sim.StopNode("two")
	w.fails("node two is offline")
}

func TestFailedProvisionerLeavesNothing(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.hook.run = func(context.Context, packersdk.Communicator) error {
		return errors.New("Script exited with non-zero exit status: 3")
	}
	w.fails("exit status: 3")
}

// TestAnyLostAnswerIsSurvived loses the answer of each request that changes
// something, once its effect has happened, and once before.
func TestAnyLostAnswerIsSurvived(t *testing.T) {
	requests := []string{"POST /nodes/pve/lxc", "PUT /nodes/pve/lxc/[0-9]+/config", "POST /nodes/pve/lxc/[0-9]+/template",
		"POST /nodes/pve/lxc/[0-9]+/clone", "POST /nodes/pve/lxc/[0-9]+/status/start", "DELETE /nodes/pve/lxc/[0-9]+"}
	for _, request := range requests {
		for name, fault := range map[string]stage.Fault{"after": {Code: 596, Reason: "Broken pipe", Applied: true}, "cut": {Lose: true}, "before": {Code: 595, Reason: "Connection refused"}} {
			t.Run(request+" "+name, func(t *testing.T) {
				w := newWorld(t, pve.Config{})
				w.on(request, 1, fault)
				_, err := w.build(t.Context())
				want := 0
				if err == nil {
					want = 1
				}
				w.left(want)
				if name != "before" && err != nil {
					t.Errorf("build failed though the effect was there: %v", err)
				}
			})
		}
	}
}

// TestCancelAtEveryStep cancels the build when each kind of request is sent.
func TestCancelAtEveryStep(t *testing.T) {
	requests := []string{"GET /version", "GET /nodes/pve/lxc", "POST /nodes/pve/lxc", "GET /nodes/pve/tasks/.*vzcreate.*/status", "PUT /nodes/pve/lxc/100/config",
		"POST /nodes/pve/lxc/100/template", "POST /nodes/pve/lxc/100/clone", "GET /nodes/pve/tasks/.*vzclone.*/status",
		"POST /nodes/pve/lxc/101/status/start", "GET /nodes/pve/lxc/101/interfaces", "DELETE /nodes/pve/lxc/101"}
	for _, request := range requests {
		t.Run(request, func(t *testing.T) {
			w := newWorld(t, pve.Config{Timing: pve.Timing{Create: 300 * time.Millisecond, Clone: 300 * time.Millisecond, Start: 100 * time.Millisecond, Template: 50 * time.Millisecond}})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w.seen(request, cancel)
			if _, err := w.build(ctx); err == nil {
				t.Error("build succeeded, want it cancelled")
			}
			w.left(0)
		})
	}
}

func TestUnreachableDuringCleanupIsRetried(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.hook.run = func(context.Context, packersdk.Communicator) error {
		w.sim.StopProxy("pve")
		time.AfterFunc(time.Second, func() { w.sim.StartProxy("pve") })
		return errors.New("provisioner failed")
	}
	w.fails("provisioner failed")
}

func TestCleanupThatCannotSucceedSaysWhatToDo(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.set("cleanup_timeout", "1s")
	w.hook.run = func(context.Context, packersdk.Communicator) error {
		w.sim.StopProxy("pve")
		return errors.New("provisioner failed")
	}
	if _, err := w.build(t.Context()); err == nil {
		t.Fatal("build succeeded")
	}
	for _, want := range []string{"Container 100 on node pve is left", "pct unlock 100; pct destroy 100 --force --purge"} {
		if !strings.Contains(w.out.String(), want) {
			t.Errorf("output has no %q:\n%s", want, w.out.String())
		}
	}
	// Another build finds it, once it is sure that this one is dead.
	w.sim.StartProxy("pve")
	w.hook.run = nil
	w.set("template_version", "1.0.0-2")
	w.mustBuild()
	w.left(2) // of a build of this process, which runs
	w.forge(100, func(i *proxmox.TemplateInfo) { i.By = strings.Replace(i.By, ":", ":1", 1) + "1" })
	w.set("template_version", "1.0.0-3")
	w.mustBuild()
	if got := w.manifest(100).Version; got != "1.0.0-3" { // the VMID is free again, and used
		t.Errorf("container 100 of a dead build is still there, as %s", got)
	}
	w.left(2)
}

// remains leaves what a build leaves whose plugin was killed.
func (w *world) remains() {
	w.Helper()
	w.mustBuild()
	for _, c := range w.sim.Containers() {
		w.forge(c.VMID, func(i *proxmox.TemplateInfo) {
			i.State, i.By = "building", strings.Replace(thisProcess(), ":", ":1", 1)+"1"
		})
		w.sim.SetOption(c.VMID, "tags", proxmox.BuildingTag)
	}
	w.out.Reset()
}

// What a dead build has left stands in nobody's way, whatever it has taken.
func TestRemainsAreRemovedBeforeTheyAreInTheWay(t *testing.T) {
	for name, world := range map[string]func(*world){
		"a fixed VMID": func(w *world) { w.set("vm_id", 777) },
		"a small storage": func(w *world) {
			w.sim.AddStorage(pve.Storage{ID: pve.LabStorage, Type: "dir", Size: 4<<30 + 1<<20}) // room for the size, once
			w.set("replicas", 2)
		},
		"the same version": func(*world) {},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, pve.Config{})
			world(w)
			w.set("smoke_test", map[string]any{"skip": true})
			w.remains()
			before := len(w.sim.Containers())
			w.mustBuild()
			w.left(before)
			if got := len(w.templates()); got != before || !strings.Contains(w.out.String(), "which a build of debian-13@1.0.0-1 left") {
				t.Errorf("%d finished templates, want %d\n%s", got, before, w.out.String())
			}
		})
	}
}

// A build that has run for days is no remains: its process is there.
func TestLiveBuildIsNotSweptForItsAge(t *testing.T) {
	if startOf(1) == "" {
		t.Skip("there is no /proc to tell processes by")
	}
	w := newWorld(t, pve.Config{})
	a := w.mustBuild()
	w.forge(int(a.VMID), func(i *proxmox.TemplateInfo) {
		i.State, i.By, i.Started = "building", thisProcess(), time.Now().Add(-72*time.Hour)
	})
	w.sim.SetOption(int(a.VMID), "tags", proxmox.BuildingTag)
	w.fails("another build is making debian-13@1.0.0-1: 100 on node pve")
}

func TestForeignContainersAreNeverTouched(t *testing.T) {
	w := newWorld(t, pve.Config{})
	w.sim.AddContainer(pve.Container{VMID: 100, Storage: pve.LabStorage, ResourcePool: pve.LabTemplates})
	w.sim.AddContainer(pve.Container{VMID: 101, Storage: pve.LabStorage, ResourcePool: pve.LabTemplates, Config: map[string]string{
		"description": "dayfly:{\"schema\":1", "tags": proxmox.BuildingTag}})
	w.hook.run = func(context.Context, packersdk.Communicator) error { return errors.New("no") }
	w.fails("no")
}

// forge rewrites a manifest as root would.
func (w *world) forge(vmid int, change func(*proxmox.TemplateInfo)) {
	info := w.manifest(vmid)
	change(&info)
	w.sim.SetOption(vmid, "description", info.Describe())
}

// seen calls do when a request is first seen.
func (w *world) seen(pattern string, do func()) {
	re := regexp.MustCompile("^" + pattern + "$")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = func(r *http.Request) stage.Fault {
		if re.MatchString(r.Method + " " + strings.TrimPrefix(r.URL.Path, "/api2/json")) {
			do()
		}
		return stage.Fault{}
	}
}
