package daemon

import (
	"context"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

const (
	// storesEvery is how often the storages of a node are asked what is free.
	storesEvery = time.Minute
	// storesFor is how long an answer is believed.
	storesFor = 5 * time.Minute
)

// lookAtStores asks what is free on a node's storages. It is a look of its own,
// for a storage that hangs must not hold up the listing of containers; what is
// not known holds nothing back.
func (d *Daemon) lookAtStores(ctx context.Context, node string) error {
	bound, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	stores, err := d.cfg.Proxmox.Stores(bound, node)
	if err != nil {
		d.log.Debug("storages not asked", "node", node, "err", err)
		return err
	}
	d.inbox.post(func(s *state) {
		if n := s.nodes[node]; n != nil {
			n.stores = stores
		}
	})
	return nil
}

// known lists the storages of which it is known what is free.
func (n *node) known(now time.Time) []fleet.Store {
	if len(n.stores) == 0 || now.Sub(n.stores[0].AsOf) > storesFor {
		return nil
	}
	return n.stores
}
