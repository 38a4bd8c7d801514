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

// makeRoom destroys unpromised spares where the limit of all pools together,
// or of a node, keeps other pools' jobs waiting: one for each such job, less
// what is leaving already.
func (p *pass) makeRoom() {
	leaving := 0
	for i := range p.have.Runners {
		r := &p.have.Runners[i]
		if r.Pending == Destroy || r.Phase() == Done && r.Counts() {
			leaving++
		}
	}
	for _, g := range p.groups {
		for _, j := range g.blocked {
			if leaving > 0 {
				leaving--
				continue
			}
			q, r := p.inTheWay(g)
			if r == nil {
				break
			}
			p.destroy(r, "makes room for pool %s: %s", q.Name, jobText(j))
		}
	}
}

// inTheWay takes a spare out of the books that keeps every pool of g from
// cloning by nothing but a limit which they share.
func (p *pass) inTheWay(g *group) (*pool, *Runner) {
	m := &p.room
	full := m.limits.Max > 0 && m.total >= m.limits.Max
	for _, q := range g.pools {
		if len(q.replicas) == 0 || m.pool[q.Name] >= q.Max {
			continue
		}
		for _, other := range p.pools {
			if other == q {
				continue
			}
			for i, r := range slices.Backward(other.spares) {
				crowded := m.limits.PerNode > 0 && m.node[r.Node] >= m.limits.PerNode && q.on(r.Node)
				if full || crowded {
					other.spares = slices.Delete(other.spares, i, i+1)
					return q, r
				}
			}
		}
	}
	return nil, nil
}

func (q *pool) on(node string) bool {
	return slices.ContainsFunc(q.replicas, func(t Template) bool { return t.Node == node })
}
