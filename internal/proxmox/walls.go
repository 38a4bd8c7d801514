package proxmox

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// walls keeps firewalls of containers as they were when last read or set. A
// listing shows nothing of them, so they are read again after a while.
type walls struct {
	mu    sync.Mutex
	known map[place]walled
}

type walled struct {
	firewall
	read time.Time
}

func (w *walls) keep(at place, f firewall) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known == nil {
		w.known = map[place]walled{}
	}
	w.known[at] = walled{f, time.Now()}
}

// find returns a firewall, and whether it is to be believed still.
func (w *walls) find(at place) (firewall, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, ok := w.known[at]
	return f.firewall, ok && time.Since(f.read) <= fresh
}

func (w *walls) forget(id fleet.VMID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for at := range w.known {
		if at.id == id {
			delete(w.known, at)
		}
	}
}

// prune forgets containers that the node no longer has.
func (w *walls) prune(node string, owned []Container) {
	there := map[fleet.VMID]bool{}
	for _, k := range owned {
		there[k.VMID] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for at := range w.known {
		if at.node == node && !there[at.id] {
			delete(w.known, at)
		}
	}
}

// wallsOf reads the firewalls of containers that are made, those that are not
// known from before. One that cannot be read now is left out: nothing is said
// of it.
func (c *Client) wallsOf(ctx context.Context, node string, owned []Container) map[fleet.VMID]firewall {
	c.walls.prune(node, owned)
	out := map[fleet.VMID]firewall{}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(max(c.conf.Requests-1, 1))
	for _, k := range owned {
		at := place{node, k.VMID}
		if k.State == fleet.Creating {
			continue
		}
		if f, ok := c.walls.find(at); ok {
			mu.Lock()
			out[k.VMID] = f
			mu.Unlock()
			continue
		}
		group.Go(func() error {
			f, err := c.look(ctx, container(node, k.VMID, "/firewall"), egressMark)
			if err != nil {
				c.log.Debug("firewall not read", "vmid", int(k.VMID), "node", node, "err", err)
				return nil
			}
			c.walls.keep(at, f)
			mu.Lock()
			defer mu.Unlock()
			out[k.VMID] = f
			return nil
		})
	}
	_ = group.Wait() // none of them fails
	return out
}
