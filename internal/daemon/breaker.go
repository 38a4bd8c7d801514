package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// A node on which clones and starts fail, whatever pool they are for, is left
// alone for a while. Then one smoke boot has to show that it works again (see
// fleet), or, where no smoke boot can be made, the next task.
const tripsMost = 3

// rest is how long a node is left alone.
var rest = fleet.Retry{Min: time.Minute, Max: 15 * time.Minute}

// breaks reports whether a failure can be a node's: one that is a person's to
// mend, or that was only a refusal to wait for, is not.
func breaks(err error) bool {
	return !errors.Is(err, fleet.ErrDenied) && !errors.Is(err, fleet.ErrLocked) && !errors.Is(err, fleet.ErrInvalid) &&
		!errors.Is(err, fleet.ErrExists) && !errors.Is(err, errUnwritten)
}

// tripped counts the failure of an action on a node.
func (d *Daemon) tripped(name string, k fleet.Kind, err error) {
	n := d.state.nodes[name]
	if n == nil {
		return
	}
	if k == fleet.Clone {
		n.clones++
	}
	if n.trips++; n.trips < tripsMost {
		return
	}
	now := time.Now()
	key := subject{node: name}
	h := d.state.holds[key]
	if h.failures == 0 {
		h.since = now
	}
	h.failures++
	h.last = now
	h.Hold = fleet.Hold{
		Node: name, Until: now.Add(rest.Delay(h.failures, seed(key))),
		Reason: fmt.Sprintf("node %s: %d failures in a row, the last one: %v", name, n.trips, err),
	}
	h.hint, h.outage, h.proof = hint(err), outage(err, proxmoxAway), d.provable(name, now)
	d.state.holds[key] = h
	d.keepBroken()
}

// provable reports whether a smoke boot can show that a node works again.
func (d *Daemon) provable(name string, now time.Time) bool {
	return fleet.Provable(d.state.desired, d.observed(), now, name)
}

// wentWell notes that an action on a node went well. A clone says nothing of
// starts that fail. Once the node is left alone, nothing is said where a smoke
// boot can: tasks under way may still end well.
func (d *Daemon) wentWell(name string, k fleet.Kind) {
	n := d.state.nodes[name]
	switch {
	case n == nil || n.trips >= tripsMost && d.provable(name, time.Now()):
	case k == fleet.Clone && n.trips > n.clones:
		n.trips, n.clones = n.trips-n.clones, 0
	default:
		d.mended(name)
	}
}

// mended notes that a node has shown that it works.
func (d *Daemon) mended(name string) {
	n := d.state.nodes[name]
	if n == nil || n.trips == 0 {
		return
	}
	broken := n.trips >= tripsMost
	n.trips, n.clones = 0, 0
	d.succeeded(subject{node: name})
	if broken {
		d.keepBroken()
	}
}

// unproven notes that a smoke boot failed on a node. Unless it was to show that
// the node works again, that is the template's affair.
func (d *Daemon) unproven(r *runner, why string) {
	if n := d.state.nodes[r.Node]; n != nil && n.trips >= tripsMost {
		d.tripped(r.Node, fleet.Smoke, fmt.Errorf("smoke boot %s: %s", r.Name, why))
	}
}

// brokenKey is where the nodes that are left alone are kept: a daemon that
// starts again must not begin to hammer them.
const brokenKey = "broken-nodes"

// broken is what is kept of a node that is left alone.
type broken struct {
	Trips    int       `json:"trips"`
	Clones   int       `json:"clones"`
	Failures int       `json:"failures"` // so often it was left alone in a row
	Since    time.Time `json:"since"`
	Last     time.Time `json:"last"`
	Until    time.Time `json:"until"`
	Reason   string    `json:"reason"`
	Hint     string    `json:"hint"`
	Proof    bool      `json:"proof"`
}

// keepBroken writes down which nodes are left alone.
func (d *Daemon) keepBroken() {
	s := &d.state
	list := maps.Clone(s.broken) // those that no list of nodes has shown yet
	for name, n := range s.nodes {
		if n.trips >= tripsMost {
			h := s.holds[subject{node: name}]
			list[name] = broken{n.trips, n.clones, h.failures, h.since, h.last, h.Until, h.Reason, h.hint, h.proof}
		}
	}
	text, err := json.Marshal(list)
	if err != nil { // texts, numbers and times alone
		panic(err)
	}
	d.later.Put(brokenKey, text)
}

// rememberBroken loads the nodes that were left alone when the daemon ended.
func (d *Daemon) rememberBroken(ctx context.Context) error {
	s := &d.state
	text, ok, err := d.cfg.Journal.Get(ctx, brokenKey)
	if err == nil && ok {
		err = json.Unmarshal(text, &s.broken)
	}
	if err != nil {
		return fmt.Errorf("read nodes that are left alone from the journal: %w", err)
	}
	for name, b := range s.broken {
		s.holds[subject{node: name}] = hold{
			Hold:     fleet.Hold{Node: name, Until: b.Until, Reason: b.Reason},
			failures: b.Failures, since: b.Since, last: b.Last, hint: b.Hint, proof: b.Proof,
		}
	}
	return nil
}

// joins makes a node known, as it was left.
func (s *state) joins(name string) *node {
	n := &node{released: map[fleet.VMID]time.Time{}, locked: map[fleet.VMID]time.Time{}}
	b := s.broken[name]
	n.trips, n.clones = b.Trips, b.Clones
	delete(s.broken, name)
	s.nodes[name] = n
	return n
}
