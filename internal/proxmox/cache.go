package proxmox

import (
	"maps"
	"sync"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// settle is how long after a change whose end was not seen a configuration is
// read afresh each time: pveproxy waits 30 s for an answer, and a change waits
// 10 s for the container's lock.
const settle = time.Minute

// cache keeps configurations for as long as the listing shows no change of the
// container. Changes of our own are kept up with.
type cache struct {
	mu      sync.Mutex
	known   map[place]remembered
	changes map[fleet.VMID]int       // counts our changes
	doubt   map[fleet.VMID]time.Time // read afresh until then
}

type place struct {
	node string
	id   fleet.VMID
}

type remembered struct {
	shape *guest // nil: not listed since we changed it
	settings
	read time.Time
}

// fresh is how long a configuration is believed: a listing shows no change of
// the network, the tags or the description.
const fresh = 15 * time.Minute

func (c *cache) init() {
	c.known = map[place]remembered{}
	c.changes = map[fleet.VMID]int{}
	c.doubt = map[fleet.VMID]time.Time{}
}

// shape is what stays as long as the configuration does.
func (g guest) shape() guest {
	g.Status, g.Uptime, g.Lock = "", 0, ""
	return g
}

func (c *cache) find(node string, g guest) (settings, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, shape := place{node, g.id()}, g.shape()
	r, ok := c.known[at]
	if ok && r.shape == nil {
		r.shape = &shape
		c.known[at] = r
	}
	if !ok || *r.shape != shape || time.Since(r.read) > fresh || time.Now().Before(c.doubt[g.id()]) {
		return nil, false
	}
	return r.settings, true
}

// mark is taken before reading; a configuration read before a change of ours
// is not kept.
func (c *cache) mark(id fleet.VMID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes[id]
}

func (c *cache) keep(node string, g guest, s settings, mark int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes[g.id()] == mark {
		shape := g.shape()
		c.known[place{node, g.id()}] = remembered{&shape, s, time.Now()}
	}
}

// latest is what a configuration was when it was last read or changed; nil:
// unknown.
func (c *cache) latest(at place) settings {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[at].settings
}

// changing forgets a configuration that we are about to change.
func (c *cache) changing(id fleet.VMID) (mark int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.forget(id)
}

func (c *cache) forget(id fleet.VMID) (mark int) {
	c.changes[id]++
	maps.DeleteFunc(c.known, func(p place, _ remembered) bool { return p.id == id })
	return c.changes[id]
}

// changed takes note of a change of ours: it is known again if nothing else
// changed it meanwhile.
func (c *cache) changed(at place, after settings, mark int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	alone := c.changes[at.id] == mark
	c.forget(at.id)
	if alone && err == nil && after != nil {
		c.known[at] = remembered{nil, after, time.Now()}
	}
	if unknown(err) {
		c.doubt[at.id] = time.Now().Add(settle)
	}
}

// prune forgets containers that the node no longer has.
func (c *cache) prune(node string, guests []guest) {
	there := map[fleet.VMID]bool{}
	for _, g := range guests {
		there[g.id()] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.known {
		if p.node == node && !there[p.id] {
			delete(c.known, p)
		}
	}
	now := time.Now()
	for id, until := range c.doubt {
		if now.After(until) {
			delete(c.doubt, id)
		}
	}
}
