package journal

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Delivery is one webhook delivery that was verified and is ours.
type Delivery struct {
	GUID     string // X-GitHub-Delivery; a redelivery has the same one
	Event    string // "workflow_job"
	Action   string // "queued"
	Source   string // how it came: "webhook", "redelivery"
	Received time.Time
	Job      *fleet.Job // what it says of a job, if it does
}

// Accept records a delivery and what it says of its job, in one transaction.
// A delivery that was recorded before is not fresh and changes nothing.
func (j *Journal) Accept(ctx context.Context, d Delivery) (fresh bool, err error) {
	if d.GUID == "" {
		return false, errors.New("accept delivery: no GUID")
	}
	added := false
	err = j.write(ctx, d.patience(), "accept delivery "+d.GUID, func(t *tx) (err error) {
		added, err = t.deliver(d)
		if err != nil || !added || d.Job == nil {
			return err
		}
		_, err = t.merge(*d.Job, d.Source, d.Received)
		return err
	})
	if err != nil {
		return false, err
	}
	return added, nil
}

// patience is long where the delivery changes nothing that anybody waits for:
// a runner is wanted for a job that is queued; that one runs, or has ended, is
// history and work for later.
func (d Delivery) patience() time.Duration {
	if d.Job != nil && d.Job.Status != fleet.Queued {
		return patient
	}
	return urgent
}

func (t *tx) deliver(d Delivery) (added bool, err error) {
	var job fleet.JobID
	if d.Job != nil {
		job = d.Job.ID
	}
	res, err := t.exec(`INSERT INTO deliveries (guid, event, action, source, received, job) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (guid) DO NOTHING`, d.GUID, d.Event, d.Action, d.Source, nano(t.or(d.Received)), int64(job))
	if err != nil {
		return false, err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	what := strings.TrimSpace(d.Event + " " + d.Action)
	return true, t.note(Event{At: d.Received, What: Delivered, Job: job, Detail: what + " by " + d.Source})
}
