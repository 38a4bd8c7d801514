package journal

import (
	"context"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Stage is what happened to a job or a runner.
type Stage string

// The stages of a job's way. The journal itself writes Queued, Waiting,
// Delivered, Running and Done from what it hears of jobs, Decided and Failed
// from intents; the others come with the calls.
const (
	Waiting      Stage = "waiting"   // held for an approval
	Queued       Stage = "queued"    // GitHub wants a runner for it
	Delivered    Stage = "delivered" // a webhook about it came
	Decided      Stage = "decided"   // an action was begun, for the reason told
	Cloned       Stage = "cloned"    // the container is there
	Minted       Stage = "minted"    // a JIT config was
	Started      Stage = "started"   // the container was
	Listening    Stage = "listening" // the runner waits for a job
	Running      Stage = "running"   // the job runs
	Done         Stage = "done"      // the job is over
	Deregistered Stage = "deregistered"
	Destroyed    Stage = "destroyed" // the container is gone
	Failed       Stage = "failed"    // an action did
	Adopted      Stage = "adopted"   // found, not made, by this daemon
)

// Event is one thing that happened. Job and Runner are empty where it concerns
// none; a zero At is the time of the call.
type Event struct {
	ID     int64 // ascending, given by the journal
	At     time.Time
	What   Stage
	Job    fleet.JobID
	Runner string
	Detail string
}

// steps are the events that lie between two states of a job. The observations
// they come from may be out of order or missing, so each is told by the fact it
// needs, once that is known.
func steps(old, job fleet.Job, source string, at time.Time) []Event {
	var events []Event
	add := func(when time.Time, what Stage, detail string) {
		if when.IsZero() {
			when = at
		}
		events = append(events, Event{At: when, What: what, Job: job.ID, Detail: detail})
	}
	if job.Status == fleet.Waiting && old.Status < fleet.Waiting {
		add(job.Created, Waiting, "seen by "+source)
	}
	if job.Status >= fleet.Queued && old.Status < fleet.Queued {
		when := job.Created
		if old.Status == fleet.Waiting {
			when = at // GitHub does not tell when an approval was given
		}
		add(when, Queued, strings.Join(job.Labels, ", "))
	}
	if job.Runner != "" && old.Runner == "" { // GitHub names the runner with `in_progress`
		add(job.Started, Running, "on "+job.Runner)
	}
	if job.Status == fleet.Completed && old.Status < fleet.Completed {
		add(job.Ended, Done, job.Conclusion)
	}
	return events
}

// note writes events.
func (t *tx) note(events ...Event) error {
	for _, e := range events {
		res, err := t.exec(`INSERT INTO events (at, what, job, runner, detail) VALUES (?, ?, ?, ?, ?)`,
			nano(t.or(e.At)), string(e.What), int64(e.Job), e.Runner, clip(e.Detail))
		if err != nil {
			return err
		}
		if t.event, err = res.LastInsertId(); err != nil {
			return err
		}
	}
	return nil
}

const eventColumns = `id, at, what, job, runner, detail`

// Timeline returns what happened to a job: its own events and those of the
// runner that took it, in the order in which they can have happened (see
// inOrder).
func (j *Journal) Timeline(ctx context.Context, job fleet.JobID) (events []Event, err error) {
	if job == 0 {
		return nil, nil
	}
	err = j.read("read timeline", func(r *session) error {
		events, err = scanEvents(ctx, r, `SELECT `+eventColumns+` FROM events WHERE job = ?1 AND job <> 0
			UNION
			SELECT `+eventColumns+` FROM events WHERE job = 0 AND runner <> '' AND runner IN (
				SELECT runner FROM jobs WHERE id = ?1 UNION SELECT name FROM runners WHERE job = ?1 AND job <> 0)
			ORDER BY at, id`, int64(job))
		return err
	})
	inOrder(events)
	return events, err
}

// Events returns what happened after the event with that id, in the order it
// became known, at most limit of them (1,000 if zero).
func (j *Journal) Events(ctx context.Context, after int64, limit int) (events []Event, err error) {
	if limit <= 0 {
		limit = 1000
	}
	err = j.read("read events", func(r *session) error {
		events, err = scanEvents(ctx, r, `SELECT `+eventColumns+` FROM events WHERE id > ? ORDER BY id LIMIT ?`, after, limit)
		return err
	})
	return events, err
}

// LastEvent returns the id of the newest event, 0 if there is none. It costs
// nothing: who follows the events asks it first.
func (j *Journal) LastEvent() int64 { return j.last.id.Load() }

func scanEvents(ctx context.Context, s *session, query string, args ...any) ([]Event, error) {
	var events []Event
	err := s.each(ctx, func(r scanner) error {
		var e Event
		var at int64
		err := r.Scan(&e.ID, &at, &e.What, &e.Job, &e.Runner, &e.Detail)
		e.At = moment(at)
		events = append(events, e)
		return err
	}, query, args...)
	return events, err
}
