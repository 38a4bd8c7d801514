package proxmox

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

const (
	startPost = "POST /nodes/pve/lxc/20001/status/start"
	destroyIt = "DELETE /nodes/pve/lxc/20001"
)

func TestStartOfARunningContainerIsTheCallersBusiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.clone(20001)
		if err := w.client.Start(t.Context(), "pve", 20001); err != nil {
			t.Fatal(err)
		}
		err := w.client.Start(t.Context(), "pve", 20001)
		if !errors.Is(err, ErrRunning) || !errors.Is(err, fleet.ErrExists) || err.Error() != "start container 20001: CT 20001 already running" {
			t.Errorf("got %v, want %v", err, ErrRunning)
		}
	})
}

func TestStartWithWarningsIsSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{TaskFault: func(kind string, _ int) string {
			if kind == "vzstart" {
				return "WARNINGS: 1"
			}
			return ""
		}})
		w.clone(20001)
		if err := w.client.Start(t.Context(), "pve", 20001); err != nil {
			t.Errorf("got %v, want success", err)
		}
	})
}

func TestFailedStartSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.clone(20001)
		w.sim.FailNext("vzstart", "startup for container '20001' failed")
		err := w.client.Start(t.Context(), "pve", 20001)
		if err == nil || !strings.HasPrefix(err.Error(), "start container 20001: startup for container '20001' failed") {
			t.Errorf("got %v, want Proxmox's reason", err)
		}
		w.sim.SetOption(20001, "lock", "backup")
		err = w.client.Start(t.Context(), "pve", 20001)
		if !errors.Is(err, fleet.ErrLocked) || !strings.Contains(err.Error(), "CT is locked (backup)") {
			t.Errorf("locked: got %v, want %v", err, fleet.ErrLocked)
		}
	})
}

func TestLostStartAnswerIsLookedUp(t *testing.T) {
	for name, c := range map[string]struct {
		fault stage.Fault
		want  error
	}{
		"answer lost":            {stage.Fault{Lose: true}, nil},
		"596, it happened":       {stage.Fault{Code: 596, Reason: "Connection timed out", Applied: true}, nil},
		"596, it did not happen": {stage.Fault{Code: 596, Reason: "Broken pipe"}, fleet.ErrUnknownOutcome},
		"595, it did not happen": {stage.Fault{Code: 595, Reason: "Connection refused"}, fleet.ErrUnavailable},
	} {
		for _, timing := range []pve.Timing{{}, slow} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, pve.Config{Timing: timing})
				w.clone(20001)
				w.once(startPost, c.fault)
				err := w.client.Start(t.Context(), "pve", 20001)
				if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%s: got %v, want %v", name, err, c.want)
				}
				if n := w.sentLike(startPost); n != 1 {
					t.Errorf("%s: got %d start calls, want 1", name, n)
				}
				if got := w.real(20001).Running; got != (c.want == nil) {
					t.Errorf("%s: running is %v", name, got)
				}
			})
		}
	}
}

func TestOldTaskIsNotTakenForALostOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.clone(20001)
		w.sim.FailNext("vzstart", "startup for container '20001' failed")
		if err := w.client.Start(t.Context(), "pve", 20001); err == nil {
			t.Fatal("the first start succeeded")
		}
		w.once(startPost, stage.Fault{Code: 596, Reason: "Broken pipe"})
		err := w.client.Start(t.Context(), "pve", 20001)
		if !errors.Is(err, fleet.ErrUnknownOutcome) || strings.Contains(err.Error(), "startup for container") {
			t.Errorf("got %v, want an unknown outcome", err)
		}
	})
}

func TestOnlyTheTaskIsAskedWhileAContainerStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{Timing: slow})
		w.clone(20001)
		before := w.sentLike("GET /nodes/pve/lxc.*")
		if err := w.client.Start(t.Context(), "pve", 20001); err != nil {
			t.Fatal(err)
		}
		if n := w.sentLike("GET /nodes/pve/lxc.*") - before; n != 0 {
			t.Errorf("got %d reads of containers during the start, want none", n)
		}
	})
}

func TestFailedStartOfARunningContainerIsSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{Timing: slow})
		w.clone(20001)
		// The worker is killed when init already runs, or is about to.
		time.AfterFunc(1900*time.Millisecond, func() {
			for _, id := range w.sim.Tasks("pve") {
				if strings.Contains(id, ":vzstart:") {
					w.sim.KillWorker(id)
				}
			}
		})
		if err := w.client.Start(t.Context(), "pve", 20001); err != nil {
			t.Errorf("got %v, want success: the container runs", err)
		}
		if !w.real(20001).Running {
			t.Error("the container does not run")
		}
	})
}

func TestGoneContainerIsNotFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		for name, err := range map[string]error{
			"start": w.client.Start(t.Context(), "pve", 20001),
			"env":   w.client.DeliverEnv(t.Context(), "pve", 20001, "A", fleet.NewSecret("b")),
		} { // Proxmox answers 403
			if !errors.Is(err, fleet.ErrNotFound) || errors.Is(err, fleet.ErrDenied) {
				t.Errorf("%s: got %v, want %v", name, err, fleet.ErrNotFound)
			}
		}
		if err := w.destroy(t.Context(), 20001); err != nil {
			t.Errorf("destroy: got %v, want success", err)
		}
	})
}

func TestDeniedIsNotGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.clone(20001)
		w.sim.AddRole("ReadOnly", "VM.Audit,Pool.Audit")
		w.sim.SetACL("/pool/"+pve.LabRunners, "ReadOnly", true, pve.LabToken)
		w.sim.RevokeACL("/pool/"+pve.LabRunners, "DayflyRunners", pve.LabToken)
		for name, err := range map[string]error{
			"start":   w.client.Start(t.Context(), "pve", 20001),
			"destroy": w.destroy(t.Context(), 20001),
		} {
			if !errors.Is(err, fleet.ErrDenied) || !strings.Contains(err.Error(), "Permission check failed (/vms/20001, VM.") {
				t.Errorf("%s: got %v, want %v", name, err, fleet.ErrDenied)
			}
		}
	})
}

func TestDestroyOfALockedContainerNamesTheCure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.clone(20001)
		w.sim.SetOption(20001, "lock", "destroyed")
		err := w.destroy(t.Context(), 20001)
		if !errors.Is(err, fleet.ErrLocked) || !strings.Contains(err.Error(), `run "pct unlock 20001" on node pve`) {
			t.Errorf("got %v, want %v with a hint", err, fleet.ErrLocked)
		}
		w.sim.Unlock(20001)
		if err := w.destroy(t.Context(), 20001); err != nil || w.there(20001) {
			t.Errorf("after the unlock: got %v", err)
		}
	})
}

func TestTwoDestroysAtOnceBothSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{Timing: slow})
		w.clone(20001)
		if err := w.client.Start(t.Context(), "pve", 20001); err != nil {
			t.Fatal(err)
		}
		results := make(chan error)
		for range 2 {
			go func() { results <- w.destroy(t.Context(), 20001) }()
		}
		for range 2 {
			if err := <-results; err != nil {
				t.Errorf("got %v, want success", err)
			}
		}
		if w.there(20001) {
			t.Error("the container is there")
		}
	})
}

func TestLostDestroyAnswerIsLookedUp(t *testing.T) {
	for name, c := range map[string]struct {
		fault stage.Fault
		want  error
	}{
		"answer lost":            {stage.Fault{Lose: true}, nil},
		"596, it happened":       {stage.Fault{Code: 596, Reason: "Connection timed out", Applied: true}, nil},
		"596, it did not happen": {stage.Fault{Code: 596, Reason: "Broken pipe"}, fleet.ErrUnknownOutcome},
		"595, it did not happen": {stage.Fault{Code: 595, Reason: "Connection refused"}, fleet.ErrUnavailable},
	} {
		for _, timing := range []pve.Timing{{}, slow} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, pve.Config{Timing: timing})
				w.clone(20001)
				w.once(destroyIt, c.fault)
				err := w.destroy(t.Context(), 20001)
				if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%s: got %v, want %v", name, err, c.want)
				}
				if n := w.sentLike(destroyIt); n != 1 {
					t.Errorf("%s: got %d destroy calls, want 1", name, n)
				}
				if w.there(20001) != (c.want != nil) {
					t.Errorf("%s: there is %v", name, w.there(20001))
				}
			})
		}
	}
}

func TestFailedDestroySaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.clone(20001)
		w.sim.FailNext("vzdestroy", "lvremove 'vg/vm-20001-disk-0' error: in use")
		err := w.destroy(t.Context(), 20001)
		if err == nil || !strings.Contains(err.Error(), "destroy container 20001: lvremove 'vg/vm-20001-disk-0' error: in use") {
			t.Errorf("got %v, want Proxmox's reason", err)
		}
	})
}

func TestEndedContextLeavesTheOutcomeOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{Timing: slow})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := w.client.Clone(ctx, spec(20001))
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, fleet.ErrUnknownOutcome) {
			t.Errorf("got %v, want deadline exceeded with unknown outcome", err)
		}
		if err := w.client.Clone(ctx, spec(20002)); !errors.Is(err, context.DeadlineExceeded) || w.made("clone", 20002) != 0 {
			t.Errorf("with an ended context: got %v after %d clones, want none", err, w.made("clone", 20002))
		}
	})
}

func TestNodeAwayIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{Nodes: []string{"pve", "two"}, Timing: slow})
		w.sim.StopNode("two")
		if _, err := w.client.List(t.Context(), "two"); !errors.Is(err, fleet.ErrUnavailable) {
			t.Errorf("list: got %v, want %v", err, fleet.ErrUnavailable)
		}
		nodes, err := w.client.Nodes(t.Context())
		if err != nil || len(nodes) != 2 || !nodes[0].Online || nodes[1].Online {
			t.Errorf("nodes: got %v, %v, want two offline", nodes, err)
		}
		w.sim.StopDaemon("pve")
		if _, err := w.client.List(t.Context(), "pve"); !errors.Is(err, fleet.ErrUnavailable) {
			t.Errorf("list without the daemon: got %v, want %v", err, fleet.ErrUnavailable)
		}
	})
}

func TestEnvironmentIsCheckedBeforeItIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.clone(20001)
		for name, c := range map[string]struct{ name, value string }{
			"newline": {"A", "a\nlxc.mount.entry = / x"}, "carriage return": {"A", "a\rb"}, "NUL": {"A", "a\x00B=c"}, "tab": {"A", "a\tb"},
			"delete": {"A", "a\x7f"}, "C1 control": {"A", "a\u0085b"}, "no text": {"A", "a\xff"}, "empty": {"A", ""},
			"too long": {"A", strings.Repeat("x", maxEnv+1)}, "name with =": {"A=B", "c"}, "no name": {"", "c"}, "name with a newline": {"A\nB", "c"},
		} {
			err := w.client.DeliverEnv(t.Context(), "pve", 20001, c.name, fleet.NewSecret(c.value))
			if !errors.Is(err, fleet.ErrInvalid) {
				t.Errorf("%s: got %v, want %v", name, err, fleet.ErrInvalid)
			}
		}
		for _, fact := range []string{"", "NODE", "NODE=", "=pve", "NO DE=pve", "NODE=p\x00v", "NODE=p\nlxc.a: b"} {
			if err := w.client.DeliverEnv(t.Context(), "pve", 20001, "A", fleet.NewSecret("b"), "POOL=p", fact); !errors.Is(err, fleet.ErrInvalid) {
				t.Errorf("fact %q: got %v, want %v", fact, err, fleet.ErrInvalid)
			}
		}
		if n := w.sentLike("PUT .*"); n != 1 { // of the clone
			t.Errorf("got %d changes, want none", n-1)
		}
		if err := w.client.DeliverEnv(t.Context(), "pve", 20001, "A", fleet.NewSecret(strings.Repeat("x", maxEnv))); err != nil {
			t.Errorf("the longest: got %v", err)
		}
	})
}

func TestFactsGoWithTheEnvironment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{})
		w.clone(20001)
		if err := w.client.DeliverEnv(t.Context(), "pve", 20001, "JIT", fleet.NewSecret("config"), "DAYFLY_NODE=pve", "DAYFLY_POOL=two words"); err != nil {
			t.Fatal(err)
		}
		if err := w.client.Start(t.Context(), "pve", 20001); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"JIT": "config", "DAYFLY_NODE": "pve", "DAYFLY_POOL": "two words"}
		if got := w.guest.env[20001]; !maps.Equal(got, want) {
			t.Errorf("init has the environment %v, want %v", got, want)
		}
	})
}

func TestLostEnvironmentIsLookedUp(t *testing.T) {
	for name, fault := range map[string]stage.Fault{"it happened": {Lose: true}, "did not happen": {Code: 596, Reason: "Broken pipe"}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, pve.Config{})
			w.clone(20001)
			w.once("PUT /nodes/pve/lxc/20001/config", fault)
			if err := w.client.DeliverEnv(t.Context(), "pve", 20001, "A", fleet.NewSecret("jit-config")); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := w.real(20001).Config["env"]; got != "A=jit-config" {
				t.Errorf("%s: got %q, want A=jit-config", name, got)
			}
		})
	}
}

func TestOldProxmoxHasNoEnvironment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, pve.Config{Release: "8.4.21"})
		w.clone(20001)
		err := w.client.DeliverEnv(t.Context(), "pve", 20001, "A", fleet.NewSecret("b"))
		if !errors.Is(err, fleet.ErrInvalid) || !strings.Contains(err.Error(), "needs Proxmox VE 9.1") {
			t.Errorf("got %v, want a hint at 9.1", err)
		}
	})
}
