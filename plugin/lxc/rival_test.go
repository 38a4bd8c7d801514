package lxc

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

func creates(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Path == "/api2/json/nodes/pve/lxc"
}

// TestOneOfTwoBuildsAtOnceGivesWay lets neither create anything before both
// have looked for the other.
func TestOneOfTwoBuildsAtOnceGivesWay(t *testing.T) {
	w := newWorld(t, pve.Config{})
	var n atomic.Int32
	both := make(chan struct{})
	w.fault = func(r *http.Request) stage.Fault {
		if creates(r) {
			if n.Add(1) == 2 {
				close(both)
			}
			<-both
		}
		return stage.Fault{}
	}
	var errs [2]error
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			b := new(Builder)
			if _, _, errs[i] = b.Prepare(w.conf); errs[i] != nil {
				return
			}
			var out bytes.Buffer
			_, errs[i] = b.Run(t.Context(), &packersdk.BasicUi{Reader: strings.NewReader(""), Writer: &out, ErrorWriter: &out}, &w.hook)
		})
	}
	all.Wait()
	lost := errs[0]
	if lost == nil {
		lost = errs[1]
	}
	if (errs[0] == nil) == (errs[1] == nil) || !strings.Contains(lost.Error(), "debian-13@1.0.0-1") || !strings.Contains(lost.Error(), "another build") {
		t.Errorf("the builds ended with %v and %v, want one that gives way to the other", errs[0], errs[1])
	}
	w.left(1)
	if got := len(w.templates()); got != 1 {
		t.Errorf("%d finished templates, want 1", got)
	}
}

// A build that is still at work counts too, if it began before: it would find
// this one's template at its own end.
func TestBuildThatBeganBeforeGoesFirst(t *testing.T) {
	for age, lost := range map[time.Duration]bool{time.Minute: true, -time.Minute: false} {
		w := newWorld(t, pve.Config{})
		rival := proxmox.TemplateInfo{Schema: 1, Family: "debian-13", Version: "1.0.0-1", State: "building", Build: "another", By: thisProcess(),
			Started: time.Now().Add(-age)}
		w.hook.run = func(context.Context, packersdk.Communicator) error {
			w.sim.AddContainer(pve.Container{VMID: 700, Storage: pve.LabStorage, ResourcePool: pve.LabTemplates,
				Config: map[string]string{"description": rival.Describe(), "tags": proxmox.BuildingTag}})
			return nil
		}
		_, err := w.build(t.Context())
		switch {
		case lost && (err == nil || !strings.Contains(err.Error(), "another build is making debian-13@1.0.0-1: 700 on node pve")):
			t.Errorf("a rival that began %s before: %v, want it to go first", age, err)
		case lost:
			w.left(1)
		case err != nil:
			t.Errorf("a rival that began %s after: %v", -age, err)
		}
	}
}

// rival is another build with the same token: what it makes, a request of the
// build that matches loses its answer over, and has no effect.
func (w *world) rival(pattern string, begin func(*proxmox.Builder, string) (proxmox.Task, error)) (end func() error) {
	w.Helper()
	b, err := proxmox.NewBuilder(proxmox.BuilderConfig{URL: w.server.URL, User: w.conf["username"].(string), Token: fleet.NewSecret(w.conf["token"].(string))})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(b.Close)
	theirs := proxmox.TemplateInfo{Schema: 1, Family: "theirs", Version: "1", State: "building", Build: "another", By: thisProcess()}
	var n atomic.Int32
	var task proxmox.Task
	w.fault = func(r *http.Request) stage.Fault {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, pattern) || n.Add(1) != 1 {
			return stage.Fault{}
		}
		if task, err = begin(b, theirs.Describe()); err != nil {
			w.Errorf("the other build: %v", err)
		}
		return stage.Fault{Code: 596, Reason: "Broken pipe"}
	}
	return func() error { return b.Wait(w.Context(), task) }
}

// theirs are rivals that get a VMID which the build has asked for, by the last
// part of the request: the template's, or that of the smoke test's clone.
func theirs(w *world) map[string]func(*proxmox.Builder, string) (proxmox.Task, error) {
	return map[string]func(*proxmox.Builder, string) (proxmox.Task, error){
		"/lxc": func(b *proxmox.Builder, description string) (proxmox.Task, error) {
			return b.Create(w.Context(), "pve", 100, proxmox.Options{"ostemplate": pve.LabBase, "rootfs": pve.LabStorage + ":4", "unprivileged": 1,
				"pool": pve.LabTemplates, "description": description})
		},
		"/clone": func(b *proxmox.Builder, description string) (proxmox.Task, error) {
			return b.Copy(w.Context(), "pve", 100, 101, proxmox.Options{"pool": pve.LabTemplates, "description": description})
		},
	}
}

// A request whose answer is lost had no effect, but another build with the same
// token got the VMID meanwhile: its task looks like the build's own.
func TestAnotherBuildsContainerIsNotAdopted(t *testing.T) {
	for request := range theirs(nil) {
		t.Run(request, func(t *testing.T) {
			w := newWorld(t, pve.Config{})
			end := w.rival(request, theirs(w)[request])
			a := w.mustBuild()
			id := map[string]int{"/lxc": 100, "/clone": 101}[request]
			if err := end(); err != nil || int(a.VMID) == id || w.manifest(id).Build != "another" {
				t.Errorf("the template is %d, container %d is %+v (%v); want it left to the other build", a.VMID, id, w.manifest(id), err)
			}
			w.left(2)
		})
	}
}

// A build that is cancelled while it waits for such a task does not stop it.
func TestAnotherBuildsTaskIsNotStopped(t *testing.T) {
	for request, kind := range map[string]string{"/lxc": ":vzcreate:", "/clone": ":vzclone:"} {
		t.Run(request, func(t *testing.T) {
			const takes = 300 * time.Millisecond
			w := newWorld(t, pve.Config{Timing: pve.Timing{Create: takes, Clone: takes}})
			w.set("cleanup_timeout", "1s") // the other's clone keeps the template
			end := w.rival(request, theirs(w)[request])
			loses := w.fault
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var begun atomic.Bool
			w.fault = func(r *http.Request) stage.Fault {
				f := loses(r)
				if f.Code != 0 {
					begun.Store(true)
				} else if begun.Load() && strings.Contains(r.URL.Path, kind) && strings.HasSuffix(r.URL.Path, "/status") {
					cancel()
				}
				return f
			}
			if _, err := w.build(ctx); err == nil || ctx.Err() == nil {
				t.Errorf("the build ended with %v (%v), want it cancelled while it waits", err, ctx.Err())
			}
			id := map[string]int{"/lxc": 100, "/clone": 101}[request]
			if err := end(); err != nil || w.manifest(id).Build != "another" {
				t.Errorf("the other build's task ended with %v, container %d is %+v", err, id, w.manifest(id))
			}
			for _, line := range w.lines {
				if strings.HasPrefix(line, "DELETE ") && strings.Contains(line, kind) {
					t.Errorf("the build sent %s", line)
				}
			}
		})
	}
}

// Whoever is told to remove something by hand is told to look first, where it
// may be another build's.
func TestWhatMayBeAnothersIsLookedAtFirst(t *testing.T) {
	w := newWorld(t, pve.Config{})
	b := new(Builder)
	if _, _, err := b.Prepare(w.conf); err != nil {
		t.Fatal(err)
	}
	run, err := b.begin(t.Context(), &packersdk.BasicUi{Writer: &w.out, ErrorWriter: &w.out})
	if err != nil {
		t.Fatal(err)
	}
	defer run.end()
	const plain = "pct unlock 100; pct destroy 100 --force --purge"
	looks := "pct config 100 | grep -q " + run.info.Build + " && { " + plain + "; }"
	for _, test := range []struct {
		made made
		want string
	}{{made{vmid: 100, task: "UPID", ended: true}, plain}, {made{vmid: 100, task: "UPID"}, plain}, {made{vmid: 100, unknown: true}, looks}} {
		if got := run.byHand(&test.made); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.made, got, test.want)
		}
	}
}
