package lxc

import (
	"cmp"
	"context"
	"slices"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// movable are the types of storage that a container can be migrated from
// (pve-container, LXC/Migrate.pm).
var movable = []string{"dir", "zfspool", "lvmthin", "lvm", "btrfs"}

// replicaStorages looks at where copies on other nodes go when those do not
// share the storage.
func (p *preflight) replicaStorages(ctx context.Context) error {
	s, ok := p.find(p.storage)
	if !ok || s.Shared || len(p.conf.others()) == 0 {
		return nil
	}
	if !slices.Contains(movable, s.Type) {
		p.say("nodes: Proxmox moves no container from a storage of type %s to another node, and %s is not shared; hint: give one source for each node", s.Type, s.Name)
		return nil
	}
	p.targets = map[string]proxmox.Storage{}
	for _, node := range p.conf.others() {
		list, err := p.api.Storages(ctx, node)
		if err != nil {
			return err
		}
		p.replicaStorage(node, s, list)
	}
	return nil
}

func (p *preflight) replicaStorage(node string, from proxmox.Storage, list []proxmox.Storage) {
	want := cmp.Or(p.conf.ReplicaStorage, from.Name)
	at := preflight{build: p.build, storages: list}
	s, ok := at.find(want)
	need, what := p.size()
	switch {
	case !ok:
		p.say("nodes: node %s has no storage %s that %s may see; hint: it has %s: give one of them as replica_storage", node, want, p.api.User(), at.names())
	case !s.Active:
		p.say("nodes: storage %s is not active on node %s", want, node)
	case !slices.Contains(s.Content, "rootdir"):
		p.say("nodes: storage %s on node %s holds no containers (rootdir)", want, node)
	case s.Type == "lvm":
		p.say("nodes: storage %s on node %s is of type lvm, which makes no templates of containers", want, node)
	case (s.Type == "zfspool") != (from.Type == "zfspool"):
		p.say("nodes: Proxmox moves no container from %s (%s) to %s (%s): ZFS goes to ZFS alone; hint: give another replica_storage", from.Name, from.Type, want, s.Type)
	case s.Free < need:
		p.say("nodes: storage %s on node %s is full: %d MiB are free, %s", want, node, s.Free>>20, what)
	}
	p.targets[node] = s
}

// migrates reports whether copies have to be moved.
func (p *preflight) migrates() bool {
	s, ok := p.find(p.storage)
	return ok && !s.Shared && len(p.conf.others()) > 0
}
