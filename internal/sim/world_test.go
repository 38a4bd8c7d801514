package sim

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

func TestAJobTravelsThroughTheWorld(t *testing.T) {
	cfg := Config{
		Guest: GuestTiming{Boot: 2 * time.Second, Connect: 3 * time.Second, Pickup: time.Second, Exit: time.Second},
		PVE:   pve.Config{Timing: pve.Timing{Clone: time.Second, Start: time.Second}},
	}
	play(t, cfg, nil, func(t *testing.T, h *hand) {
		job := h.queue(time.Minute)
		h.run(20000)
		settle(7 * time.Second)
		if !h.w.Busy(20000) {
			t.Error("after boot, connect and pick-up: the container is not busy")
		}
		settle(time.Minute + time.Second)
		j, _ := h.w.GitHub.Job(job)
		if j.Conclusion != hub.Success || j.Runner != name(20000) {
			t.Errorf("job: got %+v, want success on %s", j, name(20000))
		}
		if got := h.status(20000); got != "stopped" {
			t.Errorf("container after its job: got %q, want it powered off", got)
		}
		if got := h.w.Left(); len(got.Containers) != 1 || len(got.Registrations) != 0 {
			t.Errorf("left before the destroy: got %+v, want the container alone", got)
		}
		h.destroy(20000)
		s := h.w.Summary()
		if !s.Left.Empty() || len(s.Violations) != 0 || s.Served != 1 || s.Boots != 1 || s.JITMinted != 1 {
			t.Errorf("summary: got %s %v, want one job served and nothing left", s, s.Violations)
		}
	})
}

func TestGuestsAil(t *testing.T) {
	type state struct {
		status string // of the container, after 15 minutes
		job    hub.Status
		lost   bool
		left   int // registrations
	}
	for ail, want := range map[Ailment]state{
		Well:           {"stopped", hub.StatusCompleted, false, 0},
		HangsAtBoot:    {"running", hub.StatusQueued, false, 1},
		CrashesAtBoot:  {"stopped", hub.StatusQueued, false, 1},
		NeverRegisters: {"running", hub.StatusQueued, false, 1},
		LosesNetwork:   {"running", hub.StatusCompleted, true, 0},
		ExitsEarly:     {"stopped", hub.StatusCompleted, false, 0}, // the job came first
		CrashesMidJob:  {"stopped", hub.StatusCompleted, true, 0},
		NeverEnds:      {"running", hub.StatusInProgress, false, 1},
		Stubborn:       {"stopped", hub.StatusCompleted, false, 0},
	} {
		play(t, Config{}, map[string]string{RootfsAilment: string(ail)}, func(t *testing.T, h *hand) {
			id := h.queue(5 * time.Minute)
			h.run(20000)
			settle(15 * time.Minute)
			j, _ := h.w.GitHub.Job(id)
			got := state{h.status(20000), j.Status, j.Lost, len(h.w.GitHub.Runners("acme"))}
			if got != want {
				t.Errorf("ailment %q: got %+v, want %+v", ail, got, want)
			}
			if v := h.w.Violations(); len(v) != 0 {
				t.Errorf("ailment %q: got violations %v, want none", ail, v)
			}
		})
	}
}

func TestExitsEarlyWithoutAJob(t *testing.T) {
	play(t, Config{}, map[string]string{RootfsAilment: string(ExitsEarly)}, func(t *testing.T, h *hand) {
		h.run(20000)
		settle(time.Minute)
		r := h.w.GitHub.Runners("acme")
		if h.status(20000) != "stopped" || len(r) != 1 || r[0].Online {
			t.Errorf("got %s and %+v, want it powered off and its registration offline", h.status(20000), r)
		}
	})
}

func TestOldRunnerPowersOffUnserved(t *testing.T) {
	play(t, Config{}, map[string]string{RootfsVersion: "2.300.0"}, func(t *testing.T, h *hand) {
		id := h.queue(time.Minute)
		h.run(20000)
		settle(time.Second)
		if j, _ := h.w.GitHub.Job(id); j.Status != hub.StatusQueued || h.status(20000) != "stopped" {
			t.Errorf("got job %s and container %s, want it queued and stopped", j.Status, h.status(20000))
		}
	})
}

func TestAContainerWithoutAJITConfigWaitsForOne(t *testing.T) {
	play(t, Config{}, nil, func(t *testing.T, h *hand) {
		for _, vmid := range []int{20000, 20001} {
			if err := h.clone(vmid); err != nil {
				t.Fatal(err)
			}
			if err := h.proxmox(http.MethodPost, lxc(vmid)+"/status/start"); err != nil {
				t.Fatal(err)
			}
		}
		id := h.queue(time.Minute)
		config, err := h.jit(20001)
		if err != nil {
			t.Fatal(err)
		}
		settle(time.Minute)
		if !h.w.Inject(20001, config) || h.w.Inject(20001, config) || h.w.Inject(9, config) {
			t.Error("inject: want it taken once, by a container that waits")
		}
		settle(5 * time.Minute)
		if j, _ := h.w.GitHub.Job(id); j.Conclusion != hub.Success {
			t.Errorf("job: got %+v, want it served by the container that was injected", j)
		}
		if got := h.status(20000); got != "stopped" {
			t.Errorf("the other one: got %s, want it powered off after its wait", got)
		}
	})
}

func TestASecondStartRefusesTheConfig(t *testing.T) {
	play(t, Config{}, map[string]string{RootfsAilment: string(ExitsEarly)}, func(t *testing.T, h *hand) {
		h.run(20000)
		settle(time.Minute)
		if err := h.proxmox(http.MethodPost, lxc(20000)+"/status/start"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s := h.w.Summary()
		if s.Restarts != 1 || h.status(20000) != "stopped" || len(s.Violations) != 0 {
			t.Errorf("got %s, want one restart that powered off at once", s)
		}
	})
}

// promises are ways to break one, and ways that only look like it.
var promises = map[string]struct {
	cfg  Config
	do   func(*hand)
	want string // in the only violation; empty: there is none
}{
	"live job killed": {Config{}, func(h *hand) {
		h.queue(time.Hour)
		h.run(20000)
		settle(time.Minute)
		_ = h.proxmox(http.MethodPost, lxc(20000)+"/status/stop")
	}, "was killed after 1m0s: container 20000"},
	"live job shut down": {Config{}, func(h *hand) {
		h.queue(time.Hour)
		h.run(20000)
		settle(time.Minute)
		_ = h.proxmox(http.MethodPost, lxc(20000)+"/status/shutdown")
	}, "was killed"},
	"live job at its hard timeout": {Config{JobTimeout: func(string) time.Duration { return time.Minute }}, func(h *hand) {
		h.queue(time.Hour)
		h.run(20000)
		settle(time.Minute)
		_ = h.proxmox(http.MethodPost, lxc(20000)+"/status/stop")
	}, ""},
	"node lost": {Config{}, func(h *hand) {
		h.queue(time.Hour)
		h.run(20000)
		settle(time.Minute)
		h.w.Proxmox.RebootNode("pve")
	}, ""},
	"idle runner stopped": {Config{}, func(h *hand) {
		h.run(20000)
		_ = h.proxmox(http.MethodPost, lxc(20000)+"/status/stop")
	}, ""},
	"one JIT config for two": {Config{}, func(h *hand) {
		config := h.run(20000)
		if err := h.clone(20001); err != nil {
			h.t.Fatal(err)
		}
		if err := h.launch(20001, config); err != nil {
			h.t.Fatal(err)
		}
	}, "used by two containers: 20000 (dayfly-20000) and 20001"},
	"container of another": {Config{}, func(h *hand) {
		h.w.Proxmox.AddContainer(pve.Container{VMID: 101, Storage: pve.LabStorage})
		_ = h.proxmox(http.MethodPost, lxc(101)+"/status/stop")
	}, "container 101 on pve, which the host made"},
	"template destroyed": {Config{}, func(h *hand) {
		_ = h.proxmox(http.MethodDelete, lxc(template))
	}, "DELETE  of container 9000"},
	"no template cloned": {Config{}, func(h *hand) {
		h.w.Proxmox.AddContainer(pve.Container{VMID: 101, Storage: pve.LabStorage})
		_ = h.proxmox(http.MethodPost, lxc(101)+"/clone", "newid", "20000")
	}, "which is not a template"},
}

func TestTheOracleSeesBrokenPromises(t *testing.T) {
	for broken, c := range promises {
		play(t, c.cfg, nil, func(t *testing.T, h *hand) {
			c.do(h)
			settle(time.Second)
			got := h.w.Violations()
			switch {
			case c.want == "" && len(got) != 0:
				t.Errorf("%s: got %v, want no violation", broken, got)
			case c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)):
				t.Errorf("%s: got %v, want one violation with %q", broken, got, c.want)
			}
		})
	}
}

func TestAVMIDHeldByTwoIsSeen(t *testing.T) {
	w := New(Config{})
	for _, kind := range []string{"clone", "destroy", "clone", "clone"} {
		w.followEvent(pve.Event{Kind: kind, VMID: 20000, Who: "someone"})
	}
	if got := w.Violations(); len(got) != 1 || !strings.Contains(got[0], "VMID 20000 is held by two") {
		t.Errorf("violations: got %v, want one, of the third clone", got)
	}
}

func TestCollisionsAreCounted(t *testing.T) {
	cfg := Config{PVE: pve.Config{Timing: pve.Timing{Clone: time.Minute}}}
	play(t, cfg, nil, func(t *testing.T, h *hand) {
		go func() { _ = h.clone(20000) }()
		settle(time.Second)
		if err := h.clone(20001); err == nil {
			t.Error("second clone at once: got no error")
		}
		settle(time.Minute)
		if s := h.w.Summary(); s.Collisions != 1 || s.Clones != 1 || len(s.Violations) != 0 {
			t.Errorf("got %s with %d collisions, want one clone and one collision", s, s.Collisions)
		}
	})
}

func TestSecretsAreKnown(t *testing.T) {
	cfg := Config{Hub: hub.Config{Webhook: hub.Webhook{Secret: "hook-secret"}}}
	play(t, cfg, nil, func(t *testing.T, h *hand) {
		h.w.AddSecret("proxmox-token")
		config := h.run(20000)
		secrets := h.w.Secrets()
		for _, want := range []string{"proxmox-token", "hook-secret", config, h.installation, string(h.w.GitHub.App().PEM)} {
			if !slices.Contains(secrets, want) {
				t.Errorf("secrets: %.20q… is not among them", want)
			}
		}
	})
}
