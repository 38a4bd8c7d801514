package daemon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// run is one run of a workflow.
type run struct {
	repo string
	id   int64
}

func (r run) compare(o run) int { return cmp.Or(cmp.Compare(r.repo, o.repo), cmp.Compare(r.id, o.id)) }

// asked is what became of asking for a run.
type asked struct {
	under    bool // it is under way
	failures int
	again    time.Time // not before
}

// originsAtOnce bounds the runs that are asked for at the same time.
const originsAtOnce = 8

// askOrigins asks where the code of jobs comes from, where a pool's access
// rules must know and the webhook did not say.
func (d *Daemon) askOrigins(ctx context.Context, now time.Time) {
	s := &d.state
	open := map[run][]fleet.Job{}
	for _, j := range fleet.Doubtful(s.desired, d.cfg.Journal.OpenJobs()) {
		key := run{j.Repo, j.Run}
		open[key] = append(open[key], j)
	}
	under := 0
	for key, a := range s.asked {
		switch {
		case a.under:
			under++
		case open[key] == nil:
			delete(s.asked, key)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(open), run.compare) {
		a := s.asked[key]
		if a.under || now.Before(a.again) || under == originsAtOnce {
			continue
		}
		under++
		a.under = true
		s.asked[key] = a
		jobs := open[key]
		d.work.Go(func() { d.askOrigin(ctx, key, jobs) })
	}
}

// askOrigin asks for one run and records what it says of its jobs.
func (d *Daemon) askOrigin(ctx context.Context, key run, jobs []fleet.Job) {
	bound, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	began := time.Now()
	origin, err := d.cfg.GitHub.Origin(bound, key.repo, key.id)
	if err == nil {
		for i := range jobs {
			jobs[i].Origin = origin
		}
		err = d.recordJobs(ctx, began, jobs)
	}
	d.reportGitHub(ctx, "origin of jobs of "+key.repo, err)
	d.inbox.post(func(s *state) {
		a := s.asked[key]
		a.under = false
		a.failures++ // a success ends the question, or does not help
		wait := originAgain.Delay(a.failures, uint64(key.id))
		a.again = time.Now().Add(wait)
		s.asked[key] = a
		time.AfterFunc(wait, d.inbox.poke)
	})
}

// originAgain spaces the questions for one run.
var originAgain = fleet.Retry{Min: 2 * time.Second, Max: time.Minute}

// strangerOn begins the troubles of runners that run what their pool refuses.
const strangerOn = "stranger on "

// stranger makes it known when a runner has taken a job that its pool refuses.
// GitHub gives a job to any runner that has its labels, so that one which was
// started for another job may get it; and a live job is not killed.
func (d *Daemon) stranger(r *runner, j fleet.Job) {
	p, ok := d.state.pool(r.Pool)
	if !ok {
		return
	}
	for _, known := range d.cfg.Journal.OpenJobs() {
		if known.ID == j.ID {
			j = known // an event alone does not know whose code it is
		}
	}
	if why, ask := p.Access.Refuses(&j); why != "" && !ask {
		d.trouble(strangerOn+r.Name, fmt.Sprintf("runner %s has got job %d of %s, though pool %s %s", r.Name, j.ID, j.Repo, p.Name, why),
			"GitHub gives a job to any runner that has its labels: keep such jobs away by a runner group, or by labels of the pool's own")
	}
}
