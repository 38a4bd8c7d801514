package fleet

import (
	"fmt"
	"slices"
)

// keepSpares clones what is missing of the pools' spares, and destroys what is
// too many of them once nobody has wanted it for the pool's idle time.
func (p *pass) keepSpares() {
	p.makeRoom()
	for _, q := range p.pools {
		if q.Drained {
			continue
		}
		for n := len(q.spares) + len(q.stale) + q.coming; n < q.Spare; n++ {
			reason := func() string { return fmt.Sprintf("spare %d of %d", n+1, q.Spare) }
			if ok, _ := p.clone(q, reason); !ok {
				break
			}
		}
		for i := len(q.spares) - 1; i >= q.Spare; i-- {
			r := q.spares[i]
			if p.passed(r.Cloned.Add(q.Timeouts.Idle)) {
				p.destroy(r, "one spare too many, unused for %s", q.Timeouts.Idle)
			}
		}
	}
}

// replaceStale removes spares of another template version, one at a time in a
// pool, as soon as a replica of the wanted version can be cloned. Until then
// they are no use: a job must run on what the pool asks for.
func (p *pass) replaceStale() {
	for _, q := range p.pools {
		if len(q.stale) == 0 || len(q.replicas) == 0 {
			continue
		}
		slices.SortFunc(q.stale, olderSpare)
		r := q.stale[0]
		if p.room.task(r.Node, r.Storage) {
			p.on(Destroy, r, "a spare of %s, but the pool uses %s", r.Template, q.ref)
			q.stale = q.stale[1:]
		}
	}
}

// makeRoom destroys an unpromised spare where the limit of all pools together,
// or of a node, keeps another pool's job waiting.
func (p *pass) makeRoom() {
	for _, g := range p.groups {
		if g.why == "" || len(g.unmet) == 0 {
			continue
		}
		for _, q := range g.pools {
			if r := p.inTheWay(q); r != nil {
				p.destroy(r, "makes room for pool %s: %s", q.Name, jobText(g.unmet[len(g.unmet)-1]))
				break
			}
		}
	}
}

// inTheWay takes a spare of another pool out of the books if only a limit that
// it counts under keeps q from cloning, and if no spare is leaving already.
func (p *pass) inTheWay(q *pool) *Runner {
	m := &p.room
	if len(q.replicas) == 0 || m.pool[q.Name] >= q.Max {
		return nil
	}
	full := m.limits.Max > 0 && m.total >= m.limits.Max
	for _, other := range p.pools {
		if other == q {
			continue
		}
		for i := len(other.spares) - 1; i >= 0; i-- {
			r := other.spares[i]
			crowded := m.limits.PerNode > 0 && m.node[r.Node] >= m.limits.PerNode && q.on(r.Node)
			if full || crowded {
				other.spares = slices.Delete(other.spares, i, i+1)
				return r
			}
		}
	}
	return nil
}

func (q *pool) on(node string) bool {
	return slices.ContainsFunc(q.replicas, func(t Template) bool { return t.Node == node })
}
