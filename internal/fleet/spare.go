package fleet

import (
	"fmt"
	"time"
)

// replaceStale removes spares of another template version, one at a time in a
// pool: they are no use, for a job must run on what the pool asks for, but
// should the new version turn out not to clone, the way back is short. The
// next one goes when the clone that replaces the last is there, unless it is
// itself what leaves no place for that.
func (p *pass) replaceStale() {
	for _, q := range p.pools {
		if len(q.stale) == 0 || q.replacing {
			continue
		}
		r := q.stale[0]
		n := q.kept()
		over := n > q.keep() && p.passed(r.Cloned.Add(q.Timeouts.Idle))
		if over || p.clonable(q) && (n >= q.keep() || p.blocks(q)) {
			have, use := r.Template.String(), q.ref.String()
			if r.Scope != q.Scope && r.Scope != "" {
				have, use = string(r.Scope), string(q.Scope)
			}
			what := "spare"
			if r.warm() {
				what = "warm container"
			}
			why := fmt.Sprintf("a %s of %s, but the pool uses %s", what, have, use)
			switch {
			case have == use && r.Drift != "":
				why = fmt.Sprintf("a %s that is not as the pool says: %s", what, r.Drift)
			case have == use:
				why = fmt.Sprintf("a %s whose guest would leave the pool's env out", what)
			}
			if p.destroy(r, "%s", why) {
				q.stale = q.stale[1:]
			}
		}
	}
}

// clonable reports whether nothing but tasks keeps a pool from cloning.
func (p *pass) clonable(q *pool) bool {
	for i := range q.replicas {
		if p.bars(q, &q.replicas[i]) == nil {
			return true
		}
	}
	return false
}

// blocks reports whether it may be the pool's stale spares that leave it no
// place. What one takes of its node or storage is not known before it is gone.
func (p *pass) blocks(q *pool) bool {
	book := func(n int) {
		for _, r := range q.stale {
			p.room.now.add(r.Pool, r.Node, n)
			p.room.fill(&p.room.now, r.Node, r.Storage, n*p.room.clone(r.Pool, r.Source))
		}
	}
	if p.hasPlace(q) {
		return false
	}
	for _, r := range q.stale {
		for _, t := range q.replicas {
			if s := p.room.stocks[spot{t.Node, t.Storage}]; t.Node == r.Node || s != nil && s == p.room.stocks[spot{r.Node, r.Storage}] {
				return true
			}
		}
	}
	book(-1)
	defer book(1)
	return p.hasPlace(q)
}

// hasPlace reports whether the limits on containers let a pool clone.
func (p *pass) hasPlace(q *pool) bool {
	for i := range q.replicas {
		if p.room.lacks(&p.room.now, q, &q.replicas[i]) == nil {
			return true
		}
	}
	return false
}

// keepSpares clones what is missing of the pools' spares, and destroys what is
// too many of them once nobody has wanted it for the pool's idle time.
func (p *pass) keepSpares() {
	for _, q := range p.pools {
		if q.Drained {
			continue
		}
		for n := q.kept(); n < q.keep(); n++ {
			t, why := p.pick(q)
			if why != "" || p.room.lacks(&p.room.soon, q, &t) != nil || p.yields(t.Node) {
				break
			}
			p.clone(q, t, fmt.Sprintf("spare %d of %d", n+1, q.keep()))
		}
		surplus := min(len(q.spares), len(q.spares)+len(q.rest)-q.keepStopped())
		for i := len(q.spares) - 1; surplus > 0; i, surplus = i-1, surplus-1 {
			if r := q.spares[i]; p.passed(r.Cloned.Add(q.Timeouts.Idle)) {
				p.destroy(r, "one spare too many, unused for %s", q.Timeouts.Idle)
			}
		}
	}
}

// headStart is how long the one job that is being launched on a small node has
// it to itself: a boot keeps two cores busy, and a clone or another boot beside
// it, for which nobody waits, would cost the job a tenth of its start or half.
const (
	headStart = 2 * time.Second
	smallNode = 4 // cores that are enough for both
)

// yields reports whether a node's spares and warm containers are replaced later,
// for the sake of a job. Where several are launched at once there is no rest to
// wait for.
func (p *pass) yields(node string) bool {
	s := p.room.space[node]
	if s == nil || s.total.Cores == 0 || s.total.Cores >= smallNode {
		return false
	}
	young := p.room.young[node]
	return len(young) == 1 && !p.passed(young[0].Add(headStart))
}
