package daemon

import (
	"context"
	"maps"
	"slices"
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

// round is one kind of look at several things, each by itself: what stops or
// slows the look at one of them does not hold up the others.
type round struct {
	interval time.Duration

	mu sync.Mutex
	by map[string]*look // the name of a node or scope
}

func newRound(interval time.Duration) *round {
	return &round{interval: interval, by: map[string]*look{}}
}

// add returns the look at name, and whether it is new.
func (r *round) add(name string) (l *look, fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.by[name]; l != nil {
		return l, false
	}
	r.by[name] = newLook(r.interval)
	return r.by[name], true
}

// drop ends the look at name.
func (r *round) drop(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.by[name]; l != nil {
		l.end()
		delete(r.by, name)
	}
}

// names lists what is looked at.
func (r *round) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.by))
}

// poke has name looked at now.
func (r *round) poke(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.by[name]; l != nil {
		l.poke()
	}
}

func (r *round) pokeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.by {
		l.poke()
	}
}

// set chooses the intervals; a name without one has the usual.
func (r *round) set(intervals map[string]time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, l := range r.by {
		if d, ok := intervals[name]; ok {
			l.set(d)
		} else {
			l.set(r.interval)
		}
	}
}

// looks are the observations of a daemon.
type looks struct {
	pools, nodes, deliveries, health, leftovers, journal, prune, versions *look

	containers, stores  *round // by node
	registrations, jobs *round // by scope
}

func (l *looks) init(every Intervals) {
	l.pools = newLook(every.Pools)
	l.nodes = newLook(every.Containers)
	l.deliveries = newLook(every.Deliveries)
	l.health = newLook(every.Health)
	l.leftovers = newLook(every.Health)
	l.journal = newLook(every.Prune)
	l.prune = newLook(every.Prune)
	l.versions = newLook(versionEvery)
	l.containers = newRound(every.Containers)
	l.stores = newRound(storesEvery)
	l.registrations = newRound(every.Registrations)
	l.jobs = newRound(every.Jobs)
}

// all pokes everything.
func (l *looks) all() {
	for _, p := range []*look{l.pools, l.nodes, l.deliveries, l.health} {
		p.poke()
	}
	for _, r := range []*round{l.containers, l.registrations, l.jobs} {
		r.pokeAll()
	}
}
