package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// group is the demand of one repository for one set of labels.
type group struct {
	repo    string
	labels  []string
	jobs    []*Job // queued, oldest first
	unmet   []*Job // those that no listening runner can take
	blocked []*Job // those of them that cannot be served now
	pools   []*pool
	why     string // why not, once that is known
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
	var key strings.Builder
	for _, j := range jobs {
		key.Reset()
		key.WriteString(j.Repo)
		for _, l := range j.Labels {
			key.WriteByte(0)
			key.WriteString(l)
		}
		g := byKey[key.String()]
		if g == nil {
			g = &group{repo: j.Repo, labels: j.Labels, pools: p.serving(j)}
			byKey[key.String()] = g
			p.groups = append(p.groups, g)
		}
		g.jobs = append(g.jobs, j)
	}
}

// serving lists the pools that may run a job, the closest fit first.
func (p *pass) serving(j *Job) []*pool {
	var fit []*pool
	for _, q := range p.pools {
		if !q.Drained && q.Serves(j.Repo, j.Labels) {
			fit = append(fit, q)
		}
	}
	slices.SortStableFunc(fit, func(a, b *pool) int { return cmp.Compare(len(a.Labels), len(b.Labels)) })
	return fit
}

// supply gives the runners that listen or soon will to the groups, those with
// the least choice first. What remains is unmet.
func (p *pass) supply() {
	byChoice := slices.Clone(p.groups)
	slices.SortStableFunc(byChoice, func(a, b *group) int { return cmp.Compare(len(a.pools), len(b.pools)) })
	for _, g := range byChoice {
		n := 0
		for _, q := range g.pools {
			take := min(q.listen, len(g.jobs)-n)
			q.listen -= take
			n += take
		}
		for _, j := range g.jobs[:n] {
			p.tell(j, "a runner is launching or listening for its labels")
		}
		g.unmet = g.jobs[n:]
	}
}

// serve finds a container for each unmet job, oldest first: a spare, a clone
// under way, or a new clone.
func (p *pass) serve() {
	for _, w := range p.waiting() {
		if w.group.why == "" {
			w.group.why = p.place(w.group, w.job)
		}
		if w.group.why != "" {
			w.group.blocked = append(w.group.blocked, w.job)
			p.tell(w.job, w.group.why)
		}
	}
}

type waiting struct {
	job   *Job
	group *group
}

func (p *pass) waiting() []waiting {
	var all []waiting
	for _, g := range p.groups {
		for _, j := range g.unmet {
			all = append(all, waiting{j, g})
		}
	}
	slices.SortFunc(all, func(a, b waiting) int { return olderJob(a.job, b.job) })
	return all
}

// place serves one job and returns "", or returns why it cannot be served.
func (p *pass) place(g *group, j *Job) string {
	if len(g.pools) == 0 {
		return p.unmatched(j)
	}
	why := ""
	for _, q := range g.pools {
		served, reason := p.launchSpare(q, j)
		if served {
			return ""
		}
		why = cmp.Or(why, reason)
	}
	for _, q := range g.pools {
		if q.coming > 0 {
			q.coming--
			p.tell(j, "a container is being cloned for its labels")
			return ""
		}
	}
	for _, q := range g.pools {
		served, reason := p.clone(q, func() string { return jobText(j) })
		if served {
			p.tell(j, "a container is being cloned for it")
			return ""
		}
		why = cmp.Or(why, reason)
	}
	return why
}

// launchSpare launches the pool's oldest spare that nothing forbids.
func (p *pass) launchSpare(q *pool, j *Job) (bool, string) {
	why := ""
	for i, r := range q.spares {
		if h, yes := p.held(Launch, q.Name, r.Node, q.Scope); yes {
			why = fmt.Sprintf("pool %s launches nothing until %s: %s", q.Name, clock(h.Until), h.Reason)
			continue
		}
		if !p.room.start(r.Node) {
			why = fmt.Sprintf("node %s has as many tasks at work as it may", r.Node)
			continue
		}
		q.spares = slices.Delete(q.spares, i, i+1)
		p.on(Launch, r, "%s", jobText(j))
		p.tell(j, "a spare is being launched")
		return true, ""
	}
	return false, why
}

// retireIdle gives up listening runners that no queued job needs and whose
// time is over. What supply left over in listen is surplus.
func (p *pass) retireIdle() {
	for _, q := range p.pools {
		surplus := q.listen
		slices.SortFunc(q.idle, func(a, b *Runner) int { return a.Listened.Compare(b.Listened) })
		for _, r := range q.idle {
			if surplus == 0 {
				break
			}
			surplus--
			deadline := r.Listened.Add(q.Timeouts.Idle)
			if q.Drained {
				deadline = r.Listened
			}
			if p.passed(deadline) {
				p.abandon(r, deadline, "no job within %s", q.Timeouts.Idle)
			}
		}
	}
}

func olderJob(a, b *Job) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
}

func jobText(j *Job) string {
	return fmt.Sprintf("job %d of %s %s is queued", j.ID, j.Repo, labelText(j.Labels))
}
