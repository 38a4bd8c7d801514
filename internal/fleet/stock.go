package fleet

import "fmt"

// stock is a storage of which it is known how much is free. A full clone takes
// the whole size of its disk: its template's, or what its pool makes of that. A
// linked one takes nothing until its job writes, and nobody knows how much that
// will be: for it the pool's reserve must be free.
type stock struct{ Store }

// stock notes what is free, and what clones of templates take.
func (m *room) stock(want Desired, have Observed) {
	m.stocks, m.full, m.disks = map[spot]*stock{}, map[VMID]int{}, map[string]int{}
	for _, q := range want.Pools {
		m.disks[q.Name] = q.Size.DiskMiB
	}
	shared := map[string]*stock{}
	for _, n := range have.Nodes {
		for _, s := range n.Stores {
			st := &stock{s}
			if same := shared[s.Name]; s.Shared && same != nil {
				if s.AsOf.After(same.AsOf) {
					same.FreeMiB, same.AsOf = s.FreeMiB, s.AsOf
				}
				st = same
			}
			if s.Shared {
				shared[s.Name] = st
			}
			m.stocks[spot{n.Name, s.Name}] = st
		}
	}
	for i := range have.Templates {
		if t := &have.Templates[i]; t.Full {
			m.full[t.VMID] = t.DiskMiB
		}
	}
}

// clone is how many MiB a container of a pool takes at once that is cloned from
// a template.
func (m *room) clone(pool string, source VMID) int {
	disk, full := m.full[source]
	if !full {
		return 0
	}
	return max(disk, m.disks[pool])
}

// takes books what a runner's clone takes and what the storage was asked for
// does not show yet.
func (m *room) takes(r *Runner) {
	s := m.stocks[spot{r.Node, r.Storage}]
	if s != nil && (r.Pending == Clone || r.Container != Absent && r.Cloned.After(s.AsOf)) {
		m.fill(&m.now, r.Node, r.Storage, m.clone(r.Pool, r.Source))
	}
}

// fill books MiB on a storage.
func (m *room) fill(b *books, node, storage string, mib int) {
	if s := m.stocks[spot{node, storage}]; s != nil && mib != 0 {
		b.disk[s] += mib
	}
}

// short says that the storage of a replica has not enough free for one more
// clone of it. One that does not tell has.
func (m *room) short(b *books, q *pool, t *Template) reason {
	s := m.stocks[spot{t.Node, t.Storage}]
	if s == nil {
		return nil
	}
	free, clone, reserve := s.FreeMiB-b.disk[s], m.clone(q.Name, t.VMID), q.Reserve.StorageMiB
	if clone+reserve == 0 || free >= clone+reserve {
		return nil
	}
	if clone == 0 {
		return func() string {
			return fmt.Sprintf("storage %s of node %s has %d MiB free, less than pool %s reserves: %d", t.Storage, t.Node, max(0, free), q.Name, reserve)
		}
	}
	return func() string {
		return fmt.Sprintf("storage %s of node %s has no room for one more: %d MiB are free, a clone takes %d and pool %s reserves %d",
			t.Storage, t.Node, max(0, free), clone, q.Name, reserve)
	}
}

// shortHere reports whether only a container on the replica's node can leave
// its storage room for one more.
func (m *room) shortHere(q *pool, t *Template) bool {
	s := m.stocks[spot{t.Node, t.Storage}]
	return s != nil && !s.Shared && m.short(&m.soon, q, t) != nil
}
