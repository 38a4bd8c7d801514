package fleet

import (
	"cmp"
	"maps"
	"slices"
)

// makeRoom keeps a place for every job that nothing but a limit or a task
// keeps waiting: one that is about to become free, or else that of unpromised
// spares, as many as it takes and no more. Spares of pools in need of nothing
// must not take these places, or two pools would evict each other for ever.
func (p *pass) makeRoom() {
	for _, q := range p.pools {
		q.settle()
	}
	if len(p.blocked) == 0 {
		return
	}
	v := p.victims()
	hopeless := map[*group]bool{}
	for _, w := range p.blocked {
		hopeless[w.group] = hopeless[w.group] || !p.reserve(v, w)
	}
	for _, q := range p.pools {
		gone := func(r *Runner) bool { return v.gone[r] }
		q.spares = slices.DeleteFunc(q.spares, gone)
		q.evicted(gone)
		q.replacing = q.replacing || slices.ContainsFunc(q.stale, gone)
		q.stale = slices.DeleteFunc(q.stale, gone)
		if q.other != nil {
			q.other.spares = slices.DeleteFunc(q.other.spares, gone)
			q.other.evicted(gone)
		}
	}
}

// evicted takes warm containers that are gone out of the count.
func (q *pool) evicted(gone func(*Runner) bool) {
	for _, r := range slices.Clone(q.warms) {
		if gone(r) {
			q.cools(r)
		}
	}
}

// reserve keeps a place for one job, if there can be one.
func (p *pass) reserve(v *victims, w waiting) bool {
	g := w.group
	if g.can == nil {
		g.can = p.choices(g)
	}
	for _, c := range g.can {
		if p.room.lacks(&p.room.soon, c.pool, c.replica) == nil {
			if p.room.lacks(&p.room.now, c.pool, c.replica) != nil {
				p.tell(w.job, w.group.why+"; a place is about to become free")
			}
			p.room.keep(c)
			return true
		}
	}
	for _, c := range g.can {
		if p.evict(v, c, w) {
			p.room.keep(c)
			return true
		}
	}
	return false
}

// keep books a place for what will be cloned.
func (m *room) keep(c choice) {
	t := c.replica
	m.soon.add(c.pool.Name, t.Node, 1)
	m.fill(&m.soon, t.Node, t.Storage, m.clone(c.pool.Name, t.VMID))
}

// choice is a replica that a pool may clone.
type choice struct {
	pool    *pool
	replica *Template
}

// choices lists what may be cloned for a group as soon as limits and tasks let it.
func (p *pass) choices(g *group) []choice {
	var can []choice
	for _, q := range g.pools {
		for i := range q.replicas {
			if t := &q.replicas[i]; p.bars(q, t) == nil {
				can = append(can, choice{q, t})
			}
		}
	}
	return can
}

// evict destroys the spares without which there is a place for one more
// container, if there are such.
func (p *pass) evict(v *victims, c choice, w waiting) bool {
	var out []*Runner
	for p.room.lacks(&p.room.soon, c.pool, c.replica) != nil {
		r := v.next(&p.room, c)
		if r == nil {
			for _, r := range out {
				v.spare(r)
				p.room.stays(r)
			}
			return false
		}
		p.room.leaves(r)
		out = append(out, r)
	}
	for _, r := range out {
		p.destroy(r, "makes room for pool %s: %s", c.pool.Name, jobText(w.job))
	}
	p.tell(w.job, w.group.why+"; a spare makes room for it")
	return true
}

// victims are the spares that may be evicted, by pool and node, the most
// dispensable first.
type victims struct {
	keys  []spot
	at    map[spot][]*Runner
	class map[*Runner]int
	gone  map[*Runner]bool
}

// victims lists the spares that no job was promised: first those of a template
// version that is no longer used, then those beyond their pool's number, then
// stopped ones, then warm ones; of several the newest.
func (p *pass) victims() *victims {
	v := &victims{at: map[spot][]*Runner{}, class: map[*Runner]int{}, gone: map[*Runner]bool{}}
	add := func(r *Runner, class int) {
		v.class[r] = class
		key := spot{r.Node, r.Pool}
		v.at[key] = append(v.at[key], r)
	}
	for _, q := range p.pools {
		for _, r := range q.stale {
			add(r, 0)
		}
		if q.other != nil {
			for _, r := range slices.Concat(q.other.spares, q.other.warms) {
				add(r, 1)
			}
		}
		for i, r := range q.spares {
			add(r, class(i >= q.keepStopped(), 2))
		}
		for i, r := range q.warms {
			add(r, class(i >= q.warm, 3))
		}
	}
	v.keys = slices.SortedFunc(maps.Keys(v.at), func(a, b spot) int {
		return cmp.Or(cmp.Compare(a.of, b.of), cmp.Compare(a.node, b.node))
	})
	for _, key := range v.keys {
		slices.SortFunc(v.at[key], v.before)
	}
	return v
}

// class is that of a container beyond its pool's number, or the usual one.
func class(beyond bool, usual int) int {
	if beyond {
		return 1
	}
	return usual
}

func (v *victims) before(a, b *Runner) int {
	return cmp.Or(cmp.Compare(v.class[a], v.class[b]), olderSpare(b, a))
}

// next takes the most dispensable spare whose place counts under the limit
// that is in the way; nil: there is none.
func (v *victims) next(m *room, c choice) *Runner {
	q, node := c.pool, c.replica.Node
	share := q.PerNode > 0 && m.soon.share[spot{node, q.Name}] >= q.PerNode
	own := share || m.soon.pool[q.Name] >= q.Max
	here := share || m.cramped(&m.soon, q, node) != nil || m.shortHere(q, c.replica) || m.limits.PerNode > 0 && m.soon.node[node] >= m.limits.PerNode
	var best spot
	for _, key := range v.keys {
		list := v.at[key]
		if len(list) == 0 || own && key.of != q.Name || here && key.node != node {
			continue
		}
		if len(v.at[best]) == 0 || v.before(list[0], v.at[best][0]) < 0 {
			best = key
		}
	}
	list := v.at[best]
	if len(list) == 0 {
		return nil
	}
	v.at[best] = list[1:]
	v.gone[list[0]] = true
	return list[0]
}

// spare takes back what next took last.
func (v *victims) spare(r *Runner) {
	key := spot{r.Node, r.Pool}
	v.at[key] = slices.Insert(v.at[key], 0, r)
	slices.SortFunc(v.at[key], v.before)
	delete(v.gone, r)
}
