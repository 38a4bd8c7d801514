package fleet

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// tell notes what becomes of a job, if somebody asked.
func (p *pass) tell(j *Job, text string) {
	if p.told != nil {
		p.told[j.ID] = text
	}
}

// told runs a pass and returns what it has to say of each queued job.
func told(want Desired, have Observed, now time.Time) (*pass, map[JobID]string) {
	p := newPass(want, have, now)
	p.told = map[JobID]string{}
	p.run()
	return p, p.told
}

// Explain says, in the words of the plan, what happens to an open job and why.
func Explain(want Desired, have Observed, now time.Time, id JobID) string {
	for i := range have.Jobs {
		if j := &have.Jobs[i]; j.ID == id && j.Status != Queued {
			return explainStatus(j, have, now)
		}
	}
	_, texts := told(want, have, now)
	return cmp.Or(texts[id], fmt.Sprintf("job %d is not known, or is over", id))
}

func explainStatus(j *Job, have Observed, now time.Time) string {
	switch j.Status {
	case Waiting:
		return "it waits for an approval or for another job: that is no demand yet"
	case InProgress:
		for _, r := range have.Runners {
			if r.Name == j.Runner {
				return fmt.Sprintf("it runs on %s, container %d on %s%s", r.Name, r.VMID, r.Node, r.silence(now))
			}
		}
		return fmt.Sprintf("it runs on %s, which is not ours", j.Runner)
	default:
		return "it is over: " + j.Conclusion
	}
}

// silence says that GitHub hears nothing of a runner with a job. GitHub gives
// the job up after ten minutes of it.
func (r *Runner) silence(now time.Time) string {
	if r.Silent.IsZero() {
		return ""
	}
	return fmt.Sprintf("; GitHub has heard nothing of it for %s: %s", max(now.Sub(r.Silent), 0).Round(time.Second), CutOff)
}

// CutOff is what may be wrong with a runner of which GitHub hears nothing,
// though its container runs.
const CutOff = "it has lost its network, or its runner hangs"

// unmatched says why no pool may run a job, naming the pool that comes closest.
func (p *pass) unmatched(j *Job) string {
	if p.told == nil {
		return "no pool"
	}
	var near *pool
	var drained, refused []string
	scoped := false
	for _, q := range p.pools {
		if !q.Scope.Covers(j.Repo) {
			continue
		}
		scoped = true
		if q.Drained && q.Takes(j) {
			drained = append(drained, q.Name)
		}
		if why, _ := q.Access.Refuses(j); why != "" && q.Serves(j.Repo, j.Labels) {
			refused = append(refused, "pool "+q.Name+" "+why)
		}
		if near == nil || len(q.Missing(j.Labels)) < len(near.Missing(j.Labels)) {
			near = q
		}
	}
	switch {
	case !scoped:
		return fmt.Sprintf("no pool registers with %s or its owner", j.Repo)
	case len(drained) > 0:
		return fmt.Sprintf("pool %s is drained", strings.Join(drained, " and "))
	case len(refused) > 0:
		return strings.Join(refused, "; ")
	default:
		return fmt.Sprintf("no pool has all of its labels %s: the closest, %s %s, lacks %s",
			labelText(j.Labels), near.Name, labelText(near.Labels), labelText(near.Missing(j.Labels)))
	}
}

// Waits is a queued job for which nothing can be done now, and why.
type Waits struct {
	Job    Job
	Reason string
}

// Blocked lists the queued jobs that no runner is on its way to, oldest first.
func Blocked(want Desired, have Observed, now time.Time) []Waits {
	p, texts := told(want, have, now)
	list := make([]Waits, len(p.blocked))
	for i, w := range p.blocked {
		list[i] = Waits{*w.job, texts[w.job.ID]}
	}
	return list
}
