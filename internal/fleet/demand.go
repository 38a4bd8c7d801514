package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// group is the demand of one repository for one set of labels, of code that
// comes from one place.
type group struct {
	repo   string
	labels []string
	pools  []*pool // that may serve it, the closest fit first
	size   int
	met    int           // jobs that a listening runner can take
	from   map[*pool]int // whose these are
	can    []choice      // what may be cloned for it, once that is known
	dry    bool          // no container is there or on its way for what is left
	why    string        // why nothing can be cloned for it either, once that is known
}

// waiting is a queued job and its group.
type waiting struct {
	job   *Job
	group *group
	other *pool // the line that its runner is to be of, if not the first
}

// group collects the queued jobs by repository and label set.
func (p *pass) group() {
	jobs := make([]*Job, 0, len(p.have.Jobs))
	for i := range p.have.Jobs {
		if p.have.Jobs[i].Status == Queued {
			jobs = append(jobs, &p.have.Jobs[i])
		}
	}
	slices.SortFunc(jobs, olderJob)
	byKey := map[string]*group{}
	var key []byte
	p.queue = make([]waiting, len(jobs))
	for i, j := range jobs {
		key = append(key[:0], j.Repo...)
		for _, l := range j.Labels {
			key = append(append(key, 0), l...)
		}
		key = j.Origin.key(key)
		g := byKey[string(key)]
		if g == nil {
			g = &group{repo: j.Repo, labels: j.Labels, pools: p.serving(j)}
			byKey[string(key)] = g
			p.groups = append(p.groups, g)
		}
		g.size++
		p.queue[i] = waiting{job: j, group: g}
	}
}

// puzzle blocks all queued jobs, for no pool is known.
func (p *pass) puzzle() {
	p.group()
	p.blocked = p.queue
	for _, w := range p.queue {
		p.tell(w.job, "the pools have not been read yet")
	}
}

// serving lists the pools that may run a job, the closest fit first.
func (p *pass) serving(j *Job) []*pool {
	var fit []*pool
	for _, q := range p.pools {
		if !q.Drained && q.Takes(j) {
			fit = append(fit, q)
		}
	}
	slices.SortStableFunc(fit, func(a, b *pool) int { return cmp.Compare(len(a.Labels), len(b.Labels)) })
	return fit
}

// supply gives the runners that listen or soon will to the groups, those with
// the least choice first. Runners that listen already go first, so that none
// of them is given up for one that is only launching.
func (p *pass) supply() {
	groups := slices.Clone(p.groups)
	slices.SortStableFunc(groups, func(a, b *group) int { return cmp.Compare(len(a.pools), len(b.pools)) })
	for _, g := range groups {
		for _, q := range g.pools {
			g.met += g.takes(q, take(&q.listen, g.size-g.met))
		}
	}
	for _, g := range groups {
		for _, q := range g.pools {
			g.met += g.takes(q, take(&q.soon, g.size-g.met))
		}
	}
	// Where label sets overlap, that may leave a runner over that suits a group
	// which has enough, and one that has not.
	var closed map[*pool]bool
	for _, g := range groups {
		for g.met < g.size {
			seen := maps.Clone(closed)
			if seen == nil {
				seen = map[*pool]bool{}
			}
			if !g.swap(seen) {
				closed = seen // nothing behind these pools is free, nor will be
				break
			}
			g.met++
		}
	}
}

// takes books n runners of a pool for the group and returns n.
func (g *group) takes(q *pool, n int) int {
	if n == 0 {
		return 0
	}
	if g.from == nil {
		g.from = map[*pool]int{}
	}
	if _, again := g.from[q]; !again {
		q.takers = append(q.takers, g)
	}
	g.from[q] += n
	return n
}

// swap finds one more runner for the group: a free one, or that of a group
// which can take another one instead. It is the augmenting path of bipartite
// matching.
func (g *group) swap(seen map[*pool]bool) bool {
	for _, q := range g.pools {
		if seen[q] {
			continue
		}
		seen[q] = true
		if take(&q.listen, 1) == 1 || take(&q.soon, 1) == 1 {
			g.takes(q, 1)
			return true
		}
		for _, h := range q.takers {
			if h != g && h.from[q] > 0 && h.swap(seen) {
				h.from[q]--
				g.takes(q, 1)
				return true
			}
		}
	}
	return false
}

// take moves up to n out of have.
func take(have *int, n int) int {
	n = min(*have, n)
	*have -= n
	return n
}

// serve finds a container for each job that no listening runner can take,
// oldest first: a spare, a clone under way, or else a new clone. Launches are
// booked before clones, for they are what a job gains most from.
func (p *pass) serve() {
	var cold []waiting
	for _, w := range p.queue {
		if w.group.met > 0 {
			w.group.met--
			p.tell(w.job, "a runner is launching or listening for its labels")
			continue
		}
		w.other = p.sided(w.group, w.job)
		switch {
		case w.other != nil:
			w.other.quota--
			if !p.offer(w.other, w.job) {
				cold = append(cold, w)
			}
		case !p.provide(w.group, w.job):
			cold = append(cold, w)
		}
	}
	for _, w := range cold {
		g := w.group
		if w.other != nil && (p.clones(w.other, w.job) || p.waitsFor(w.other, w.job) || p.provide(g, w.job)) {
			continue
		}
		if g.why == "" {
			g.why = p.cloneFor(g, w.job)
		}
		if g.why != "" {
			p.blocked = append(p.blocked, w)
			p.tell(w.job, g.why)
		}
	}
}

// provide promises a job a container that exists or is being cloned.
func (p *pass) provide(g *group, j *Job) bool {
	if g.dry {
		return false
	}
	for _, q := range g.pools {
		if p.launch(q, j) {
			return true
		}
	}
	for _, q := range g.pools {
		if len(q.later) > 0 {
			p.tell(j, fmt.Sprintf("a spare is there for it, but node %s has as many tasks at work as it may", q.later[0].Node))
			q.later = q.later[1:]
			return true
		}
		if p.rests(q, j) || p.soonWarm(q, j) {
			return true
		}
	}
	for _, q := range g.pools {
		if take(&q.coming, 1) == 1 {
			p.tell(j, "a container is being cloned for its labels")
			return true
		}
	}
	g.dry = true
	return false
}

// rests promises a job a spare that no action may touch before a time.
func (p *pass) rests(q *pool, j *Job) bool {
	if len(q.rest) == 0 {
		return false
	}
	p.tell(j, "a spare is there for it, "+p.returns(q, q.rest[0]))
	q.rest = q.rest[1:]
	return true
}

// launch launches the pool's oldest spare that nothing forbids. What is
// forbidden once stays so for the pass.
func (p *pass) launch(q *pool, j *Job) bool {
	if p.launchWarm(q, j) {
		return true
	}
	for len(q.spares) > 0 {
		r := q.spares[0]
		q.spares = q.spares[1:]
		h := p.hold(Launch, q, r.Node)
		switch {
		case h != nil && h.Node != "":
			q.stuck = append(q.stuck, r)
			q.barred = cmp.Or(q.barred, h.launches(q))
		case h != nil:
			q.parked = append(q.parked, r)
		case !p.room.start(r.Node):
			q.later = append(q.later, r)
		default:
			p.on(Launch, r, "%s", jobText(j))
			p.tell(j, "a spare is being launched")
			return true
		}
	}
	return false
}

// cloneFor clones a container for a job and returns "", or returns why it
// cannot. Where a pool launches nothing for a while, another one is better, and
// else a spare that is there already: a clone could not be launched either.
func (p *pass) cloneFor(g *group, j *Job) string {
	if len(g.pools) == 0 {
		return p.unmatched(j)
	}
	var whys []string
	for _, q := range g.pools {
		if p.hold(Launch, q, "") == nil {
			whys = append(whys, p.cloneIn(q, j))
		}
		if slices.Contains(whys, "") {
			return ""
		}
	}
	for _, q := range g.pools {
		if len(q.parked) > 0 {
			p.tell(j, "a spare is there for it, but "+p.hold(Launch, q, "").launches(q))
			if q.parked[0].warm() {
				q.warming--
			}
			q.parked = q.parked[1:]
			return ""
		}
	}
	for _, q := range g.pools {
		if p.hold(Launch, q, "") != nil {
			whys = append(whys, p.cloneIn(q, j))
		}
		if slices.Contains(whys, "") {
			return ""
		}
	}
	return strings.Join(slices.Compact(whys), "; ")
}

// cloneIn clones a container of a pool for a job, or returns why it cannot.
func (p *pass) cloneIn(q *pool, j *Job) string {
	t, why := p.pick(q)
	if why != "" {
		return cmp.Or(q.barred, why)
	}
	p.clone(q, t, jobText(j))
	p.tell(j, "a container is being cloned for it")
	return ""
}

func olderJob(a, b *Job) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
}

func jobText(j *Job) string {
	return fmt.Sprintf("job %d of %s %s is queued", j.ID, j.Repo, labelText(j.Labels))
}
