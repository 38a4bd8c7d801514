package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// A warm container has booted and waits for a JIT config, without registration.
// It is good for a node whose root half can bring one into it; elsewhere the
// pool keeps that many more spares instead.

// warm reports whether the container was started to wait for a JIT config, and
// can have no job.
func (r *Runner) warm() bool {
	return !r.Booted.IsZero() && r.Job == 0 && r.Registration == Unregistered && first(r.Launched, r.Started, r.Listened, r.Took).IsZero()
}

// waits offers a warm container to demand, or clears it away.
func (p *pass) waits(q *pool, r *Runner) {
	if r.Container == Unseen || r.Pending == Destroy || r.Pending == Deregister {
		if q != nil && r.Pending == Destroy && q.stales(r) {
			q.replacing = true
		}
		return
	}
	if r.Pending == Boot {
		switch {
		case q == nil || q.Drained:
		case q.stales(r):
			q.replacing = true
		default:
			l := q.line(r)
			l.warming++
			l.booting++
		}
		return
	}
	ready := p.ready(r)
	why := p.cold(q, r)
	switch {
	case why != "" && ready:
		p.doom(Destroy, r, "%s", why)
	case why != "" || !p.room.online[r.Node]:
	case q.stales(r):
		if ready {
			q.stale = append(q.stale, r)
		}
	default:
		p.offered(q, r, ready)
	}
}

// cold says why a warm container is of no use.
func (p *pass) cold(q *pool, r *Runner) string {
	switch {
	case q == nil:
		return fmt.Sprintf("pool %s is gone", r.Pool)
	case q.Drained:
		return fmt.Sprintf("pool %s is drained", r.Pool)
	case p.room.away[r.Node] != nil && p.expired(*p.room.away[r.Node], q.Timeouts.Idle):
		return fmt.Sprintf("warm, but the root half on %s is away", r.Node)
	}
	return ""
}

// offered lists a warm container of a pool where it can be used.
func (p *pass) offered(q *pool, r *Runner, ready bool) {
	l := q.line(r)
	l.warming++
	switch {
	case !ready:
		l.resting = append(l.resting, r)
	case p.room.hosts[r.Node]:
		l.warms = append(l.warms, r)
	default:
		l.dark = append(l.dark, r)
	}
	if limit := q.Timeouts.Warm; ready && p.expired(r.Booted, limit) {
		q.aged = append(q.aged, r)
	}
}

// launchWarm gives the pool's oldest warm container that nothing forbids a job.
func (p *pass) launchWarm(q *pool, j *Job) bool {
	for len(q.warms) > 0 {
		r := q.warms[0]
		q.warms = q.warms[1:]
		h := p.hold(Launch, q, r.Node)
		switch {
		case h != nil && h.Node != "":
			q.stuck = append(q.stuck, r)
			q.barred = cmp.Or(q.barred, h.launches(q))
		case h != nil:
			q.parked = append(q.parked, r)
		default:
			q.warming-- // another one takes its place at once
			p.on(Launch, r, "%s", jobText(j))
			p.tell(j, "a warm container is given to it")
			return true
		}
	}
	return false
}

// soonWarm promises a job a warm container that boots, or that no action may
// touch before a time.
func (p *pass) soonWarm(q *pool, j *Job) bool {
	switch {
	case len(q.resting) > 0:
		p.tell(j, "a warm container is there for it, and tried again at "+clock(q.resting[0].Retry))
		q.resting = q.resting[1:]
	case take(&q.booting, 1) == 1:
		p.tell(j, "a warm container boots for its labels")
	default:
		return false
	}
	q.warming--
	return true
}

// settle puts the containers that no job was promised back into two lists, the
// spares and the warm ones, each the oldest first.
func (q *pool) settle() {
	all := slices.Concat(q.spares, q.warms, q.later, q.parked, q.stuck)
	q.spares, q.warms, q.later, q.parked, q.stuck = nil, nil, nil, nil, nil
	for _, r := range all {
		if r.warm() {
			q.warms = append(q.warms, r)
		} else {
			q.spares = append(q.spares, r)
		}
	}
	q.warms = append(q.warms, q.dark...)
	q.dark = nil
	slices.SortFunc(q.spares, olderSpare)
	slices.SortFunc(q.warms, olderSpare)
}

// renew removes a warm container that has waited long, one at a time in a pool.
func (p *pass) renew() {
	for _, q := range p.pools {
		for _, r := range q.aged {
			if q.replacing || !slices.Contains(q.warms, r) {
				continue
			}
			if p.destroy(r, "warm for %s, another one takes its place", q.Timeouts.Warm) {
				q.replacing = true
				q.cools(r)
			}
		}
	}
}

// keepWarm boots what is missing of the pools' warm containers from their
// spares, and destroys what is too many of them once nobody has wanted it for
// the pool's idle time.
func (p *pass) keepWarm() {
	for _, q := range p.pools {
		if q.Drained {
			continue
		}
		for _, r := range slices.Clone(q.spares) {
			if q.warmth() >= q.warm {
				break
			}
			if !p.room.hosts[r.Node] || p.yields(r.Node) || p.hold(Boot, q, r.Node) != nil || p.hold(Launch, q, r.Node) != nil || !p.room.start(r.Node) {
				continue
			}
			q.warming++
			p.on(Boot, r, "warm %d of %d", q.warmth(), q.warm)
			q.spares = slices.DeleteFunc(q.spares, func(o *Runner) bool { return o == r })
		}
		for _, r := range slices.Clone(q.warms) {
			if q.warmth() <= q.warm {
				break
			}
			if p.passed(r.Booted.Add(q.Timeouts.Idle)) && p.destroy(r, "one warm container too many, unused for %s", q.Timeouts.Idle) {
				q.cools(r)
			}
		}
	}
}

// cools takes a warm container that leaves, or is promised, out of the count.
func (q *pool) cools(r *Runner) {
	q.warming--
	q.warms = slices.DeleteFunc(q.warms, func(o *Runner) bool { return o == r })
}

// warmth is how many warm containers there are or are coming, of both lines.
func (q *pool) warmth() int {
	if q.other == nil {
		return q.warming
	}
	return q.warming + q.other.warming
}

// keep is how many containers the pool keeps without a job: spares and warm
// ones. Where none can be warm, all of them are spares.
func (q *pool) keep() int { return min(q.Spare+q.warm, q.Max) }

// keepStopped is how many of these are spares now.
func (q *pool) keepStopped() int { return max(q.Spare, q.keep()-q.warmth()) }

// kept is how many there are, or are coming.
func (q *pool) kept() int {
	return len(q.spares) + len(q.rest) + len(q.stale) + q.coming + min(q.warmth(), q.warm)
}

// temperature is how many warm containers a pool is to have now.
func (p *pass) temperature(q *pool) {
	n, until := q.Warming(p.now)
	if !until.IsZero() {
		p.passed(until)
	}
	q.warm = min(n, max(0, q.Max-q.Spare))
}

// WarmLife is how long a warm container waits before it is replaced, unless its
// pool says otherwise.
const WarmLife = 4 * time.Hour
