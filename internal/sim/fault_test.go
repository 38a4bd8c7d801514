package sim

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

func TestFaultsHitRequests(t *testing.T) {
	for name, f := range map[string]APIFaults{
		"refused": {Refuse: 1}, "lost": {Lose: 1}, "in error": {Error: 1}, "in error, applied": {Applied: 1}, "garbled": {Garble: 1},
	} {
		happens := f.Lose+f.Applied+f.Garble > 0
		play(t, Config{}, nil, func(t *testing.T, h *hand) {
			if err := h.login(); err != nil {
				t.Fatal(err)
			}
			h.w.SetFaults(Faults{Proxmox: f, GitHub: f})
			if err := h.clone(20000); err == nil {
				t.Errorf("%s: clone: got no error", name)
			}
			if _, there := h.w.Proxmox.Container(20000); there != happens {
				t.Errorf("%s: container is there: got %v, want %v", name, there, happens)
			}
			if _, err := h.jit(20000); err == nil {
				t.Errorf("%s: JIT config: got no error", name)
			}
			if got := h.w.GitHub.JITMinted() == 1; got != happens {
				t.Errorf("%s: registration is there: got %v, want %v", name, got, happens)
			}
			h.w.Calm()
			if _, err := h.jit(20001); err != nil {
				t.Errorf("%s: after Calm: %v", name, err)
			}
			if s := h.w.Summary(); s.Faults != 2 {
				t.Errorf("%s: faults: got %d, want 2", name, s.Faults)
			}
		})
	}
}

func TestDelaysTakeTheirTime(t *testing.T) {
	play(t, Config{}, nil, func(t *testing.T, h *hand) {
		h.w.SetFaults(Faults{Proxmox: APIFaults{Delay: 1, DelayBy: time.Minute}})
		began := time.Now()
		if err := h.proxmox(http.MethodGet, "/version"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took == 0 || took >= time.Minute {
			t.Errorf("delayed request: took %s, want something below a minute", took)
		}
	})
}

func TestTasksFailOrWarn(t *testing.T) {
	play(t, Config{Faults: Faults{Tasks: 1}}, nil, func(t *testing.T, h *hand) {
		if err := h.clone(20000); err == nil {
			t.Error("clone with failing tasks: got no error")
		}
	})
	play(t, Config{Faults: Faults{Warnings: 1}}, nil, func(t *testing.T, h *hand) {
		if err := h.clone(20000); err != nil {
			t.Errorf("clone with warnings: got %v, want success", err)
		}
	})
}

func TestLimitsBeginAtChance(t *testing.T) {
	play(t, Config{}, nil, func(t *testing.T, h *hand) {
		if err := h.login(); err != nil {
			t.Fatal(err)
		}
		h.w.SetFaults(Faults{Limits: 1})
		if _, err := h.jit(1); err == nil {
			t.Error("throttled: got no error")
		}
		h.w.Calm()
		settle(5 * time.Minute)
		if _, err := h.jit(1); err != nil {
			t.Errorf("five minutes after Calm: %v", err)
		}
	})
}

func TestProxmoxRestartsAndReboots(t *testing.T) {
	play(t, Config{}, nil, func(t *testing.T, h *hand) {
		h.run(20000)
		h.w.SetFaults(Faults{Reboots: 1})
		_ = h.proxmox(http.MethodGet, "/version")
		settle(time.Second)
		if got := h.status(20000); got != "stopped" {
			t.Errorf("container after a reboot: got %s, want stopped", got)
		}
		h.w.SetFaults(Faults{Restarts: 1})
		_ = h.proxmox(http.MethodGet, "/version")
		h.w.Calm()
		settle(time.Minute)
		if err := h.proxmox(http.MethodGet, "/version"); err != nil {
			t.Errorf("after Calm: %v", err)
		}
		if s := h.w.Summary(); s.Faults != 2 || len(s.Violations) != 0 {
			t.Errorf("got %s %v, want two faults and no violation", s, s.Violations)
		}
	})
}

// day lets a fixed, careless program loose in a world of faults and returns
// what came of it.
func day(t *testing.T, seed uint64) (trace string) {
	cfg := Config{
		Seed: seed, Faults: Swarm(seed), Guest: GuestTiming{Boot: 2 * time.Second, Connect: time.Second},
		PVE: pve.Config{Timing: pve.Timing{Clone: time.Second, Start: time.Second, Destroy: time.Second, AuthDelay: -1}},
	}
	play(t, cfg, nil, func(t *testing.T, h *hand) {
		rng := h.w.Rand("day")
		for vmid := 20000; vmid < 20010; vmid++ {
			h.queue(time.Duration(rng.IntN(300)) * time.Second)
			_ = h.clone(vmid)
			if config, err := h.jit(vmid); err == nil {
				_ = h.launch(vmid, config)
			}
			settle(time.Duration(rng.IntN(600))*time.Second + 137*time.Microsecond)
		}
		h.w.Calm()
		settle(time.Hour)
		for vmid := 20000; vmid < 20010; vmid++ {
			_ = h.proxmox(http.MethodPost, lxc(vmid)+"/status/stop")
			_ = h.proxmox(http.MethodDelete, lxc(vmid))
		}
		settle(25 * time.Hour)
		s := h.w.Summary()
		if s.Pending != 0 || len(s.Left.Registrations) != 0 {
			t.Errorf("seed %d: a day after: got %s, want every job ended and every registration gone", seed, s)
		}
		for _, e := range h.w.GitHub.History() {
			trace += e.String() + "\n"
		}
		for _, e := range h.w.Proxmox.History() {
			trace += fmt.Sprintln(e)
		}
		trace += s.String()
	})
	return trace
}

func TestASeedIsAWorld(t *testing.T) {
	differ := 0
	for seed := range uint64(20) {
		one, two := day(t, seed), day(t, seed)
		if one != two {
			t.Errorf("seed %d: two runs differ: %s", seed, cmp.Diff(strings.Split(one, "\n"), strings.Split(two, "\n")))
		}
		if one != day(t, seed+1000) {
			differ++
		}
	}
	if differ < 18 {
		t.Errorf("worlds that differ from another seed's: got %d of 20", differ)
	}
}

func TestSwarmTurnsFaultsOnAndOff(t *testing.T) {
	none, guests, webhooks := 0, 0, 0
	for seed := range uint64(300) {
		f := Swarm(seed)
		if f != Swarm(seed) {
			t.Fatalf("seed %d: two draws differ", seed)
		}
		if f.Proxmox.Refuse == 0 {
			none++
		}
		if f.Guest != (GuestFaults{}) {
			guests++
		}
		if f.Habits.Lose > 0 {
			webhooks++
		}
	}
	if none < 150 || none == 300 || guests < 150 || webhooks < 50 || webhooks > 150 {
		t.Errorf("of 300 worlds: %d without refusals, %d with guest faults, %d with lost webhooks", none, guests, webhooks)
	}
}

func TestTheWorldWorksOverSockets(t *testing.T) {
	h := newHand(t, Config{}, nil)
	api, hook := httptest.NewServer(h.w.ProxmoxAPI()), make(chan string, 1)
	defer api.Close()
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		hook <- r.Header.Get("X-GitHub-Event")
	}))
	defer receiver.Close()
	h.w.GitHub.SetWebhook(hub.Webhook{URL: receiver.URL, Secret: "s"})
	h.queue(time.Second)
	if got := <-hook; got != "workflow_job" {
		t.Errorf("webhook: got %q, want workflow_job", got)
	}
	req, err := http.NewRequest(http.MethodGet, api.URL+"/api2/json/nodes/pve/lxc", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "PVEAPIToken="+h.token)
	resp, err := api.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("list containers: got %s, want 200", resp.Status)
	}
}

func BenchmarkJob(b *testing.B) {
	h := newHand(b, Config{Hub: hub.Config{Limits: hub.Limits{Primary: 1 << 40, Points: 1 << 40, Registrations: 1 << 40}}}, nil)
	for vmid := 20000; b.Loop(); vmid++ {
		h.queue(time.Hour)
		h.run(vmid)
	}
}
