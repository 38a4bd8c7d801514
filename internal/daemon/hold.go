package daemon

import (
	"errors"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// subject is what failures are counted for.
type subject struct {
	kind  fleet.Kind
	pool  string
	node  string
	scope fleet.Scope
}

// hold is a fleet.Hold and the failures behind it.
type hold struct {
	fleet.Hold
	failures int
	since    time.Time
	hint     string
}

// failed counts a failure of an action of a runner and holds further ones
// back. A clone's trouble is its node's; a launch's is the pool's, and a rate
// limit is the whole scope's.
func (d *Daemon) failed(kind fleet.Kind, r fleet.Runner, err error) {
	s := &d.state
	now := time.Now()
	key := subject{kind: kind, pool: r.Pool}
	if kind == fleet.Clone {
		key.node = r.Node
	}
	retry := fleet.Retry{Min: 2 * time.Second, Max: time.Minute, Attempts: 5}
	if p, ok := s.pool(r.Pool); ok {
		retry = p.Retry
	}
	until := time.Time{}
	var limit *fleet.RateLimit
	if errors.As(err, &limit) {
		key = subject{kind: kind, scope: r.Scope}
		until = limit.Until
	}
	h := s.holds[key]
	if h.failures == 0 {
		h.since = now
	}
	h.failures++
	if until.IsZero() {
		until = now.Add(retry.Delay(h.failures, seed(key)))
	}
	h.Hold = fleet.Hold{Kind: kind, Pool: key.pool, Node: key.node, Scope: key.scope, Until: until, Reason: err.Error()}
	h.hint = hint(err)
	s.holds[key] = h
	d.metrics.failures.WithLabelValues(kind.String(), r.Pool).Inc()
}

// succeeded ends the holds on an action of a runner.
func (d *Daemon) succeeded(kind fleet.Kind, r fleet.Runner) {
	key := subject{kind: kind, pool: r.Pool}
	if kind == fleet.Clone {
		key.node = r.Node
	}
	delete(d.state.holds, key)
	delete(d.state.holds, subject{kind: kind, scope: r.Scope})
}

func seed(k subject) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(k.kind.String() + "\x00" + k.pool + "\x00" + k.node + "\x00" + string(k.scope)))
	return h.Sum64()
}

// hint names what a person can do about an error, if the error says it itself.
func hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// trouble makes something known that a person should see, once for each key.
func (d *Daemon) trouble(key, what, hint string) {
	old, known := d.state.troubles[key]
	since := old.Since
	if !known {
		since = time.Now()
	}
	if !known || old.What != what {
		d.log.Warn("trouble", "what", what, "hint", hint)
	}
	d.state.troubles[key] = Trouble{Since: since, What: what, Hint: hint}
}

// fine ends a trouble.
func (d *Daemon) fine(key string) {
	if t, known := d.state.troubles[key]; known {
		delete(d.state.troubles, key)
		d.log.Info("trouble is over", "what", t.What)
	}
}

// troubled lists the troubles, the oldest first.
func (s *state) troubled() []Trouble {
	list := slices.Collect(maps.Values(s.troubles))
	for _, h := range s.holds {
		list = append(list, Trouble{Since: h.since, What: h.Reason, Hint: h.hint})
	}
	slices.SortFunc(list, func(a, b Trouble) int { return a.Since.Compare(b.Since) })
	return list
}
