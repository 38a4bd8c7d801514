package daemon

import (
	"errors"
	"fmt"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// A node on which clones and starts fail, whatever pool they are for, is left
// alone for a while, and then tried with one task at a time.
const tripsMost = 3

// rest is how long a node is left alone.
var rest = fleet.Retry{Min: time.Minute, Max: 15 * time.Minute}

// breaks reports whether a failure can be a node's: one that is a person's to
// mend, or that was only a refusal to wait for, is not.
func breaks(err error) bool {
	return !errors.Is(err, fleet.ErrDenied) && !errors.Is(err, fleet.ErrLocked) && !errors.Is(err, fleet.ErrInvalid) &&
		!errors.Is(err, fleet.ErrExists) && !errors.Is(err, errUnwritten)
}

// tripped counts a failure on a node.
func (d *Daemon) tripped(name string, err error) {
	n := d.state.nodes[name]
	if n == nil {
		return
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
	h.hint, h.outage = hint(err), outage(err, proxmoxAway)
	d.state.holds[key] = h
}

// mended notes that something on a node went well.
func (d *Daemon) mended(name string) {
	if n := d.state.nodes[name]; n != nil && n.trips > 0 {
		n.trips = 0
		d.succeeded(subject{node: name})
	}
}
