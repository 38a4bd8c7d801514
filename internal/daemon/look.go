package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// look is one periodic observation: it runs again after its interval, or at
// once when poked.
type look struct {
	mu       sync.Mutex
	interval time.Duration
	over     bool          // look no more
	wake     chan struct{} // look now
	changed  chan struct{} // the interval changed
}

func newLook(interval time.Duration) *look {
	return &look{interval: interval, wake: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
}

func (l *look) poke() { signal(l.wake) }

// end makes the look the last one.
func (l *look) end() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.poke()
}

func (l *look) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

func (l *look) set(interval time.Duration) {
	l.mu.Lock()
	differs := l.interval != interval
	l.interval = interval
	l.mu.Unlock()
	if differs {
		signal(l.changed)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run looks until ctx ends. A look that fails is repeated soon, and then ever
// later, up to its interval.
func (l *look) run(ctx context.Context, f func(context.Context) error) {
	again := fleet.Retry{Min: time.Second, Max: time.Minute}
	for failures := 0; ctx.Err() == nil && !l.ended(); {
		began := time.Now()
		if f(ctx) == nil {
			failures = 0
		} else {
			failures++
		}
		l.wait(ctx, began, again.Delay(failures, uint64(began.UnixNano())))
	}
}

// wait ends when the interval is over since began, after retry if that is set
// and shorter, or on a poke.
func (l *look) wait(ctx context.Context, began time.Time, retry time.Duration) {
	for {
		l.mu.Lock()
		pause := l.interval
		l.mu.Unlock()
		if retry > 0 {
			pause = min(pause, retry)
		}
		timer := time.NewTimer(time.Until(began.Add(pause)))
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-timer.C:
		case <-l.changed:
			timer.Stop()
			continue
		}
		timer.Stop()
		return
	}
}

// looks are the observations of a daemon.
type looks struct {
	pools, nodes, registrations, jobs, deliveries, health, leftovers, prune *look

	mu         sync.Mutex
	containers map[string]*look // by node
}

func (l *looks) init(every Intervals) {
	l.pools = newLook(every.Pools)
	l.nodes = newLook(every.Containers)
	l.registrations = newLook(every.Registrations)
	l.jobs = newLook(every.Jobs)
	l.deliveries = newLook(every.Deliveries)
	l.health = newLook(every.Health)
	l.leftovers = newLook(every.Health)
	l.prune = newLook(every.Prune)
	l.containers = map[string]*look{}
}

// node returns the look at a node's containers, and whether it is new.
func (l *looks) node(name string, interval time.Duration) (*look, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.containers[name]; c != nil {
		return c, false
	}
	l.containers[name] = newLook(interval)
	return l.containers[name], true
}

// drop ends the look at a node's containers.
func (l *looks) drop(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.containers[name]; c != nil {
		c.end()
		delete(l.containers, name)
	}
}

// pokeNode has a node's containers looked at now.
func (l *looks) pokeNode(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.containers[name]; c != nil {
		c.poke()
	}
}

// all pokes everything.
func (l *looks) all() {
	for _, p := range []*look{l.pools, l.nodes, l.registrations, l.jobs, l.deliveries, l.health} {
		p.poke()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.containers {
		c.poke()
	}
}

// Intervals while there is something to wait for.
const (
	exitEvery     = 250 * time.Millisecond // a job is over, its container not down yet
	liveEvery     = 2 * time.Second        // a runner may end at any time
	changeEvery   = 5 * time.Second        // a container is in some between-state
	launchEvery   = 3 * time.Second        // a runner is about to listen
	listenEvery   = 30 * time.Second
	clearingEvery = 10 * time.Second // a registration may be left
)

// pace chooses how often to look at containers and registrations, from what
// there is to wait for.
func (d *Daemon) pace(s *state) {
	every := d.cfg.Every
	regs := every.Registrations
	nodes := map[string]time.Duration{}
	atMost := func(d *time.Duration, to time.Duration) { *d = min(*d, to) }
	for name := range s.nodes {
		nodes[name] = every.Containers
	}
	for _, r := range s.runners {
		n := every.Containers
		if have, ok := nodes[r.Node]; ok {
			n = have
		}
		switch r.Phase() {
		case fleet.Cloning:
			atMost(&n, changeEvery)
		case fleet.Launching:
			atMost(&n, liveEvery)
			atMost(&regs, launchEvery)
		case fleet.Idle, fleet.Busy:
			atMost(&n, liveEvery)
			atMost(&regs, listenEvery)
		case fleet.Done:
			atMost(&regs, clearingEvery)
			atMost(&n, changeEvery)
			if r.Container == fleet.Running && !r.Ended.IsZero() {
				atMost(&n, exitEvery)
			}
		case fleet.Gone:
			atMost(&regs, clearingEvery)
		}
		nodes[r.Node] = n
	}
	d.looks.registrations.set(regs)
	leftovers := every.Health
	if len(s.gone()) > 0 {
		leftovers = doubtEvery
	}
	d.looks.leftovers.set(leftovers)
	d.looks.mu.Lock()
	defer d.looks.mu.Unlock()
	for name, l := range d.looks.containers {
		if n, ok := nodes[name]; ok {
			l.set(n)
		}
	}
}
