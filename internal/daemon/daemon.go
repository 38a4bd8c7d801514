// Package daemon is the one loop of dayfly: it observes Proxmox and GitHub,
// asks fleet.Plan what to do, and does it. It decides nothing itself.
//
// The loop owns the state. Everything else (webhooks, listings, the results
// of actions, questions of the command line) only posts a fact and wakes it,
// so that a fact that is lost, doubled or late changes latency, never the
// outcome.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/github"
	"github.com/dayfly-ci/dayfly/internal/host"
	"github.com/dayfly-ci/dayfly/internal/journal"
	"github.com/dayfly-ci/dayfly/internal/pools"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// Config is what a daemon works with. The caller closes what it opened after
// Run has returned.
type Config struct {
	Proxmox *proxmox.Client
	GitHub  *github.Client
	Journal *journal.Journal
	Source  pools.Source
	Reports Reports        // beside the commits of Source
	Hosts   []*host.Client // the root halves on the nodes; there need be none

	Key     fleet.Secret // proves that names are ours
	Webhook fleet.Secret // signs deliveries; required to serve them
	First   fleet.VMID   // our range of VMIDs
	Last    fleet.VMID
	Limits  fleet.Limits // used where the pools set none

	Every    Intervals
	Evidence string // folder of what containers left; empty: it is not kept
	Version  string
	Random   io.Reader // of runner names; nil is crypto/rand
	Log      *slog.Logger
}

// Intervals are the periods of the daemon's own looks at the world. Events
// only make it look earlier. Zero fields take the defaults.
type Intervals struct {
	Pools         time.Duration // 60 s
	Containers    time.Duration // 30 s; 2 s while a runner lives
	Registrations time.Duration // 5 min; 30 s while a runner lives, 3 s while one launches
	Jobs          time.Duration // 60 s
	Deliveries    time.Duration // 5 min
	Health        time.Duration // 10 min: privileges, clocks, permissions
	Prune         time.Duration // 1 h
	CoolDown      time.Duration // 10 min before a VMID is used again
}

func (i Intervals) orDefault() Intervals {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&i.Pools, time.Minute)
	set(&i.Containers, 30*time.Second)
	set(&i.Registrations, 5*time.Minute)
	set(&i.Jobs, time.Minute)
	set(&i.Deliveries, 5*time.Minute)
	set(&i.Health, 10*time.Minute)
	set(&i.Prune, time.Hour)
	set(&i.CoolDown, 10*time.Minute)
	return i
}

// defaultLimits keep a node responsive: Proxmox itself limits nothing, but its
// storage locks time out after 10 s.
var defaultLimits = fleet.Limits{NodeTasks: 12, StoreTasks: 4}

// Daemon runs pools. Make it with New, run it once with Run.
type Daemon struct {
	cfg      Config
	log      *slog.Logger
	halves   halves
	metrics  *metrics
	started  time.Time
	later    journal.Later
	ours     atomic.Pointer[[]fleet.Scope] // of the pools in force
	tellings chan telling

	refusals refusals

	inbox inbox
	over  chan struct{}  // closed when the loop turns no more
	state state          // owned by the loop
	work  sync.WaitGroup // actions and observers
	looks looks
	slots chan struct{} // bounds the actions at work
}

// actionsAtOnce bounds the actions at work; the plan's limits bound those that
// burden a node.
const actionsAtOnce = 64

// New makes a daemon. It does no I/O.
func New(cfg Config) (*Daemon, error) {
	switch {
	case cfg.Proxmox == nil || cfg.GitHub == nil || cfg.Journal == nil || cfg.Source == nil:
		return nil, errors.New("make daemon: proxmox, github, journal and pools are all needed")
	case cfg.Key.Empty():
		return nil, errors.New("make daemon: the instance's key is empty")
	case cfg.First <= 0 || cfg.Last < cfg.First:
		return nil, fmt.Errorf("make daemon: VMID range %d-%d is empty", cfg.First, cfg.Last)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Every = cfg.Every.orDefault()
	d := &Daemon{cfg: cfg, log: cfg.Log, slots: make(chan struct{}, actionsAtOnce), over: make(chan struct{})}
	d.later = cfg.Journal.Later(d.journalFailed)
	d.inbox.wake = make(chan struct{}, 1)
	d.tellings = make(chan telling, maxTellings)
	d.refusals.untold = map[string]int{}
	d.state = newState()
	d.looks.init(cfg.Every)
	d.metrics = newMetrics(d)
	return d, nil
}

// stopBound is how long Run waits for what is at work after its context ends.
// What is cut off is found again at the next start.
const stopBound = 1500 * time.Millisecond

// Run works until ctx ends. It returns nil then, or why it could not go on.
func (d *Daemon) Run(ctx context.Context) error {
	d.started = time.Now()
	ctx, cancel := context.WithCancel(ctx)
	err := d.turn(ctx)
	if ctx.Err() != nil {
		err = nil // told to stop, perhaps before it began
	}
	close(d.over) // before what is at work ends: no answer waits for that
	cancel()
	d.settle()
	return err
}

// turn remembers, starts to look, and turns the loop until ctx ends.
func (d *Daemon) turn(ctx context.Context) error {
	if err := d.remember(ctx); err != nil {
		return err
	}
	d.observe(ctx)
	d.followHalves(ctx)
	context.AfterFunc(ctx, d.inbox.poke)
	d.loop(ctx)
	return nil
}

// settle waits for actions and observers to notice that they are to stop.
func (d *Daemon) settle() {
	done := make(chan struct{})
	go func() { d.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(stopBound):
		d.log.Warn("stopped with work under way; it is found again at the next start")
	}
}

// loop is the only place that reads or writes d.state. It waits on one channel.
func (d *Daemon) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	rest := restLeast
	for range d.inbox.wake {
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		for _, fact := range d.inbox.take() {
			fact(&d.state)
		}
		began := time.Now()
		if next := d.pass(ctx); !next.IsZero() {
			timer = time.AfterFunc(time.Until(next), d.inbox.poke)
		}
		time.Sleep(min(max(time.Since(began), rest), restMost))
		if rest = min(2*rest, restMost); len(d.inbox.wake) == 0 {
			rest = restLeast
		}
	}
}

// The rest after a pass is as long as the pass was, within bounds, and longer
// while something comes during each of them: that shares the next pass, and
// what the pass begins shares a commit. The loop never takes more than half a
// core from those who serve a flood of deliveries. What comes after a rest is
// looked at at once.
const (
	restLeast = 5 * time.Millisecond
	restMost  = 20 * time.Millisecond
)

// pass decides once and starts what was decided.
func (d *Daemon) pass(ctx context.Context) time.Time {
	s := &d.state
	now := time.Now()
	d.bindJobs(now)
	d.silent(now)
	o := d.observed()
	wake := d.roll(o, now)
	if n := len(s.runners); d.forget(now) < n {
		o = d.observed()
	}
	o.Rollouts = s.rollouts
	actions, next := fleet.Plan(s.desired, o, now)
	for _, a := range actions {
		d.start(ctx, a, now)
	}
	d.watch(ctx)
	d.askOrigins(ctx, now)
	d.tellJobs()
	next = soonest(next, d.rerun(ctx, now))
	d.pace(s)
	d.paceHalves(s)
	return soonest(next, wake)
}

// soonest returns the earlier of two times, of which the zero time is none.
func soonest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// inbox carries facts to the loop.
type inbox struct {
	mu    sync.Mutex
	facts []func(*state)
	wake  chan struct{}
}

// post hands the loop a fact and wakes it.
func (i *inbox) post(fact func(*state)) {
	i.mu.Lock()
	i.facts = append(i.facts, fact)
	i.mu.Unlock()
	i.poke()
}

// poke wakes the loop. Several pokes may wake it once.
func (i *inbox) poke() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

func (i *inbox) take() []func(*state) {
	i.mu.Lock()
	defer i.mu.Unlock()
	facts := i.facts
	i.facts = nil
	return facts
}

// ErrStopped answers what is asked of a daemon whose loop turns no more.
var ErrStopped = errors.New("the daemon has stopped")

// ask has the loop answer a question.
func ask[T any](ctx context.Context, d *Daemon, f func(*state) T) (answer T, err error) {
	answers := make(chan T, 1)
	d.inbox.post(func(s *state) { answers <- f(s) })
	select {
	case answer = <-answers:
		return answer, nil
	case <-d.over:
		return answer, ErrStopped
	case <-ctx.Done():
		return answer, ctx.Err()
	}
}
