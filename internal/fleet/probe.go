package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// A node on which tasks failed several times in a row is left alone for a
// while, which is a hold. After that one smoke boot, which costs no job
// anything, shows whether it works again: until then pools whose templates can
// make one begin nothing else there. Where no pool can, the one task at a time
// that a frail node gets has to show it.

// Provable reports whether a smoke boot can show that a node works again.
func Provable(want Desired, have Observed, now time.Time, node string) bool {
	blind := func(n Node) bool { return n.Name == node && n.Blind }
	p := newPass(want, have, now)
	return !slices.ContainsFunc(have.Nodes, blind) &&
		slices.ContainsFunc(p.pools, func(q *pool) bool { return q.proves(node) })
}

// proves reports whether the pool's template can make a smoke boot on a node.
func (q *pool) proves(node string) bool {
	return q.Roll.Smoke > 0 && !q.Drained &&
		slices.ContainsFunc(q.replicas, func(t Template) bool { return t.Node == node })
}

// suspect finds the nodes that a smoke boot has to prove, and holds the pools
// that can make one.
func (p *pass) suspect() {
	for _, n := range p.have.Nodes {
		if !n.Frail || n.Blind || !slices.ContainsFunc(p.pools, func(q *pool) bool { return q.proves(n.Name) }) {
			continue
		}
		p.suspects = append(p.suspects, n.Name)
		for _, q := range p.pools {
			if q.Roll.Smoke > 0 {
				p.have.Holds = append(slices.Clip(p.have.Holds), Hold{Pool: q.Name, Node: n.Name, Proof: true, Reason: p.failing(n.Name)})
			}
		}
	}
	slices.Sort(p.suspects)
}

// failing says what a frail node was left alone for.
func (p *pass) failing(node string) string {
	for i := range p.have.Holds {
		if h := &p.have.Holds[i]; h.breaks(node) {
			return h.Reason
		}
	}
	return "node " + node + " failed several times in a row"
}

// breaks reports whether the hold leaves a node alone, whatever for.
func (h *Hold) breaks(node string) bool {
	return h.Node == node && h.Pool == "" && h.Kind == None && !h.Proof
}

// suspected reports whether a pool's containers on a node wait for its proof.
func (p *pass) suspected(q *pool, node string) bool {
	return q != nil && q.Roll.Smoke > 0 && slices.Contains(p.suspects, node)
}

// probe begins the smoke boots that are to prove nodes, one on each.
func (p *pass) probe() {
	for _, node := range p.suspects {
		alone := func(h Hold) bool { return h.breaks(node) && !p.passed(h.Until) }
		if p.proving[node] || p.room.tasks[node] > 0 || !p.room.online[node] || slices.ContainsFunc(p.have.Holds, alone) {
			continue
		}
		why := fmt.Sprintf("smoke boot: node %s is to show that it works again", node)
		if !p.probeSpare(node, why) && !p.probeClone(node, why) {
			p.probeRoom(node)
		}
	}
}

// probeSpare boots a spare that is there.
func (p *pass) probeSpare(node, why string) bool {
	for _, q := range p.pools {
		i := slices.IndexFunc(q.spares, func(r *Runner) bool { return r.Node == node })
		if i < 0 || !q.proves(node) {
			continue
		}
		p.room.start(node)
		p.on(Smoke, q.spares[i], "%s", why)
		q.spares = slices.Delete(q.spares, i, i+1)
		return true
	}
	return false
}

// probeClone clones the container for it.
func (p *pass) probeClone(node, why string) bool {
	for _, c := range p.probes(node) {
		if p.room.lacks(&p.room.soon, c.pool, c.replica) == nil && p.room.lacks(&p.room.now, c.pool, c.replica) == nil &&
			p.room.hinders(c.replica) == nil {
			p.clone(c.pool, *c.replica, why)
			return true
		}
	}
	return false
}

// probes lists the replicas on a node that may be cloned for a smoke boot.
func (p *pass) probes(node string) []choice {
	var list []choice
	for _, q := range p.pools {
		held := func(h Hold) bool {
			return !h.Proof && (h.forbids(Clone, q, node) || h.forbids(Launch, q, node) && h.Node != "") && !p.passed(h.Until)
		}
		if !q.proves(node) || slices.ContainsFunc(p.have.Holds, held) {
			continue
		}
		for i := range q.replicas {
			if t := &q.replicas[i]; t.Node == node {
				list = append(list, choice{q, t})
			}
		}
	}
	return list
}

// probeRoom destroys the newest spare without which there is a place for it.
func (p *pass) probeRoom(node string) {
	var spares []*Runner
	for _, q := range p.pools {
		spares = append(spares, q.spares...)
	}
	slices.SortFunc(spares, func(a, b *Runner) int { return cmp.Or(olderSpare(b, a), cmp.Compare(a.Name, b.Name)) })
	for _, c := range p.probes(node) {
		if p.room.lacks(&p.room.soon, c.pool, c.replica) == nil {
			return // a place is about to become free
		}
		for _, r := range spares {
			p.room.leaves(r)
			if p.room.lacks(&p.room.soon, c.pool, c.replica) == nil {
				q := p.byName[r.Pool]
				if p.destroy(r, "makes room for a smoke boot of node %s", node) {
					q.spares = slices.DeleteFunc(q.spares, func(o *Runner) bool { return o == r })
				}
				return
			}
			p.room.stays(r)
		}
	}
}
