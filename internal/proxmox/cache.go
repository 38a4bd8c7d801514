package proxmox

import (
	"sync"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// settle is how long after a change whose end was not seen a configuration is
// read afresh each time: pveproxy waits 30 s for an answer, and a change waits
// 10 s for the container's lock.
const settle = time.Minute

// cache keeps configurations for as long as the listing shows no change of the
// container and we made none.
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
	shape guest
	settings
}

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
	r, ok := c.known[place{node, g.id()}]
	if !ok || r.shape != g.shape() || time.Now().Before(c.doubt[g.id()]) {
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
		c.known[place{node, g.id()}] = remembered{g.shape(), s}
	}
}

// changed forgets a configuration that we change, before and after the change.
func (c *cache) changed(id fleet.VMID, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes[id]++
	for p := range c.known {
		if p.id == id {
			delete(c.known, p)
		}
	}
	if unknown(err) {
		c.doubt[id] = time.Now().Add(settle)
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
