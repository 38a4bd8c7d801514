package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
)

// Stages of a lost job.
const (
	lostJob  journal.Stage = "lost"  // infrastructure lost it
	rerunJob journal.Stage = "rerun" // GitHub was asked to run it again
)

// lossesKey is where lost jobs are kept.
const lossesKey = "lost-jobs"

// lossSettles is how long others of a run are waited for, that died together
// with a lost job: GitHub runs them again together, or not at all.
const lossSettles = time.Minute

// Lost jobs are remembered for lossesFor, and no more than lossesMost of them.
const (
	lossesFor  = 7 * 24 * time.Hour
	lossesMost = 500
)

// rememberLosses loads the jobs that were lost. Whether one that GitHub was
// being asked about is run again, its run says.
func (d *Daemon) rememberLosses(ctx context.Context) error {
	text, ok, err := d.cfg.Journal.Get(ctx, lossesKey)
	if err == nil && ok {
		err = json.Unmarshal(text, &d.state.losses)
	}
	if err != nil {
		return fmt.Errorf("read lost jobs from the journal: %w", err)
	}
	return nil
}

// keepLosses writes the lost jobs down, without those of long ago.
func (d *Daemon) keepLosses(now time.Time) {
	s := &d.state
	s.losses = slices.DeleteFunc(s.losses, func(l fleet.Loss) bool { return now.Sub(l.At) > lossesFor })
	s.losses = s.losses[max(0, len(s.losses)-lossesMost):]
	text, err := json.Marshal(s.losses)
	if err != nil { // texts, numbers and times alone
		panic(err)
	}
	d.later.Put(lossesKey, text)
}

// lost notes a job that failed because infrastructure lost it.
func (d *Daemon) lost(r *runner, j fleet.Job, now time.Time) {
	s := &d.state
	down := time.Time{}
	if n := s.nodes[r.Node]; n != nil && !n.up {
		down = n.down
	}
	why := r.Lost(&j, down)
	if why == "" || s.loss(j.ID) != nil {
		return
	}
	l := fleet.Loss{Job: j.ID, Repo: j.Repo, Run: j.Run, Attempt: j.Attempt, Pool: r.Pool, Why: why, At: j.Ended, Next: now.Add(lossSettles)}
	if l.Note = l.Budget(s.desired, s.losses); l.Note != "" {
		l.State = fleet.LossLeft
	}
	s.losses = append(s.losses, l)
	d.keepLosses(now)
	d.log.Warn("job lost", "job", int64(j.ID), "runner", r.Name, "node", r.Node, "pool", r.Pool, "reason", why)
	d.save(r, lostJob, why)
}

// loss is what is known of a lost job.
func (s *state) loss(id fleet.JobID) *fleet.Loss {
	i := slices.IndexFunc(s.losses, func(l fleet.Loss) bool { return l.Job == id })
	if i < 0 {
		return nil
	}
	return &s.losses[i]
}

// rerun looks after one run with lost jobs at a time, and returns when to look
// after others.
func (d *Daemon) rerun(ctx context.Context, now time.Time) time.Time {
	s := &d.state
	due, next := fleet.Reruns(s.losses, now)
	if s.rerunning || len(due) == 0 {
		return next
	}
	r := due[0]
	s.rerunning = true
	asked := slices.ContainsFunc(r.Jobs, func(id fleet.JobID) bool { return s.loss(id).State == fleet.LossAsked })
	d.work.Go(func() { d.lookAfter(ctx, r, asked) })
	return next
}

// lookAfter looks at a run with lost jobs and, if it is over, has them run
// again.
func (d *Daemon) lookAfter(ctx context.Context, r fleet.Rerun, asked bool) {
	bound, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	run, err := d.cfg.GitHub.Run(bound, r.Repo, r.Run)
	choice, note := fleet.RerunLater, ""
	switch {
	case errors.Is(err, fleet.ErrNotFound):
		choice, note = fleet.RerunNever, "GitHub does not know its run any more"
	case err != nil:
		note = err.Error()
	default:
		choice, note = r.Choose(run, asked)
	}
	if choice == fleet.RerunJob || choice == fleet.RerunAll {
		choice, note, err = d.runAgain(bound, r, choice)
	}
	if ctx.Err() != nil {
		return // what was asked is looked into at the next start
	}
	d.inbox.post(func(s *state) { d.lookedAfter(s, r, choice, note, err) })
}

// runAgain asks for it, once that is written down. An answer that is lost is
// looked into with the next look: the attempt of the run tells.
func (d *Daemon) runAgain(ctx context.Context, r fleet.Rerun, choice fleet.Choice) (fleet.Choice, string, error) {
	why, err := ask(ctx, d, func(s *state) string { return d.intend(s, r) })
	switch {
	case err != nil:
		return fleet.RerunLater, err.Error(), err
	case why != "":
		return fleet.RerunNever, why, nil
	}
	// What the loop wrote is durable once a later write is.
	if err := d.cfg.Journal.Put(ctx, lossesKey+"-asked", []byte(time.Now().UTC().Format(time.RFC3339))); err != nil {
		d.journalFailed(err)
		return fleet.RerunLater, err.Error(), nil
	}
	if choice == fleet.RerunJob {
		err = d.cfg.GitHub.RerunJob(ctx, r.Repo, r.Jobs[0])
	} else {
		err = d.cfg.GitHub.RerunFailed(ctx, r.Repo, r.Run)
	}
	if err != nil {
		return fleet.RerunLater, err.Error(), err
	}
	return fleet.RerunDone, "", nil
}

// intend marks the lost jobs of a run as being asked for, or says why they are
// not: the pools may have changed.
func (d *Daemon) intend(s *state, r fleet.Rerun) string {
	for _, id := range r.Jobs {
		l := s.loss(id)
		if l == nil {
			return "it was forgotten"
		}
		if why := l.Budget(s.desired, s.losses); why != "" {
			return why
		}
	}
	for _, id := range r.Jobs {
		s.loss(id).State = fleet.LossAsked
	}
	d.keepLosses(time.Now())
	return ""
}

// lookedAfter notes what became of a run's lost jobs.
func (d *Daemon) lookedAfter(s *state, r fleet.Rerun, choice fleet.Choice, note string, err error) {
	now := time.Now()
	s.rerunning = false
	for _, id := range r.Jobs {
		l := s.loss(id)
		if l == nil {
			continue
		}
		switch choice {
		case fleet.RerunDone:
			l.State, l.Note = fleet.LossRerun, ""
			d.log.Info("lost job is run again", "job", int64(id), "pool", l.Pool, "reason", l.Why)
			d.later.Note(journal.Event{At: now, What: rerunJob, Job: id, Detail: l.Why})
		case fleet.RerunNever:
			l.State, l.Note = fleet.LossLeft, note
		default:
			*l = l.Look(now, note)
		}
	}
	d.keepLosses(now)
	key := "reruns of " + r.Repo
	if errors.Is(err, fleet.ErrDenied) {
		d.trouble(key, err.Error(), "it is tried again; grant the App actions: write, or remove lost_jobs from the pool")
	} else if choice == fleet.RerunDone || err == nil {
		d.fine(key)
	}
}

// fate says of a job that is over how it ended, and what became of it if it was
// lost.
func (s *state) fate(j fleet.Job) string {
	text := "it is over: " + j.Conclusion
	if l := s.loss(j.ID); l != nil {
		text += "; " + l.Words()
	}
	return text
}
