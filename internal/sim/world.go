// Package sim is the simulated world: a Proxmox VE cluster (pve) and a GitHub
// (hub), joined by the guests that run in the containers. A test or a demo
// points the real program at its two http.Handlers, lets faults loose and asks
// the world afterwards whether any promise was broken.
//
// It shares no code with what it tests, knows no pool and decides nothing.
package sim

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// Config describes a world. The zero value answers instantly, has one node and
// nothing goes wrong in it.
type Config struct {
	Seed   uint64
	Faults Faults
	Guest  GuestTiming
	PVE    pve.Config // its Clock, Seed, Guest and TaskFault are the world's
	Hub    hub.Config // its Clock, Agenda, Seed and Habits are the world's
	// JobTimeout is the hard job timeout of the container of that hostname: a
	// live job may be killed once it has run so long. Nil, or 0: never.
	JobTimeout func(hostname string) time.Duration
}

// World is a simulated world. Create it with New.
type World struct {
	Clock   *stage.Clock
	Proxmox *pve.Cluster
	GitHub  *hub.Hub

	cfg    Config
	agenda *stage.Agenda
	guests *guests

	// mu is taken inside Proxmox's lock (tasks ask for their fate there), so
	// Proxmox is never asked anything while it is held.
	mu         sync.Mutex
	calm       bool
	cases      map[string]int // how often each kind of case was drawn
	tally      Tally
	secrets    []string
	configs    map[string][]user // who used each JIT config
	violations []string
	watched    map[string]bool // Proxmox users that are under watch
	history    int             // events of Proxmox's history seen so far
	made       map[int]string  // who made each container that exists
	halvesDown map[string]bool // root halves that do not answer, by node
	stir       chan struct{}   // closed when a container starts or ends
	stirs      int             // how often that was
}

// New makes a world with an empty cluster and an empty GitHub.
func New(cfg Config) *World {
	w := &World{
		Clock: &stage.Clock{}, agenda: &stage.Agenda{}, cases: map[string]int{}, configs: map[string][]user{},
		watched: map[string]bool{}, made: map[int]string{}, halvesDown: map[string]bool{}, stir: make(chan struct{}),
	}
	if cfg.Guest.Wait == 0 {
		cfg.Guest.Wait = 5 * time.Minute
	}
	w.guests = &guests{w: w, live: map[int]*machine{}, past: map[int]*machine{}}
	cfg.Hub.Clock, cfg.Hub.Agenda, cfg.Hub.Seed, cfg.Hub.Habits = w.Clock, w.agenda, cfg.Seed, cfg.Faults.Habits
	cfg.PVE.Clock, cfg.PVE.Seed, cfg.PVE.Guest, cfg.PVE.TaskFault = w.Clock, int64(cfg.Seed), w.guests, w.taskFault
	if cfg.PVE.Machine != nil {
		cfg.PVE.Guest = &witness{w}
	}
	w.cfg = cfg
	if cfg.Faults.Limits > 0 && cfg.Hub.Limits == (hub.Limits{}) {
		cfg.Hub.Limits = w.limits()
	}
	w.GitHub = hub.New(cfg.Hub)
	w.Proxmox = pve.New(cfg.PVE)
	return w
}

// ProxmoxAPI is the cluster's API with the world's faults on the way to it.
func (w *World) ProxmoxAPI() http.Handler {
	return stage.WithFaults(w.watch(w.Proxmox), w.Clock, w.decideProxmox)
}

// GitHubAPI is GitHub's API with the world's faults on the way to it.
func (w *World) GitHubAPI() http.Handler {
	return stage.WithFaults(w.GitHub, w.Clock, w.decideGitHub)
}

// SetFaults changes what goes wrong from now on.
func (w *World) SetFaults(f Faults) {
	w.mu.Lock()
	w.cfg.Faults, w.calm = f, false
	w.mu.Unlock()
	w.GitHub.SetHabits(f.Habits)
}

// Calm ends all faults: what is under way still happens, but nothing goes
// wrong from now on, and a correct program must come to rest.
func (w *World) Calm() {
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	w.GitHub.SetHabits(hub.Habits{})
}

// Rand is chance for whoever plays in this world, e.g. to draw its jobs.
func (w *World) Rand(purpose string) *rand.Rand { return w.draw("play", purpose) }

// Inject hands a JIT config to a container that runs and waits for one, as the
// root half on the node does. It reports whether there was one.
func (w *World) Inject(vmid int, config string) bool {
	done := make(chan bool, 1)
	w.agenda.After(0, func() {
		w.mu.Lock()
		m := w.guests.live[vmid]
		w.mu.Unlock()
		if m == nil || !m.waiting {
			done <- false
			return
		}
		m.launch(config, nil)
		done <- true
	})
	return <-done
}

// Env is the environment of the job's steps in a container that runs, as far as
// it came with the JIT config.
func (w *World) Env(vmid int) map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.guests.live[vmid]; m != nil {
		return m.env
	}
	return nil
}

// Busy reports whether a job runs in the container: the host evidence of its
// worker process.
func (w *World) Busy(vmid int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.guests.live[vmid]
	return m != nil && m.job != 0
}
