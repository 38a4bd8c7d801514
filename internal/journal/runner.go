package journal

import (
	"context"
	"errors"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Save records what was observed of a runner. A runner that was forgotten is
// remembered again: it was seen.
func (j *Journal) Save(ctx context.Context, r fleet.Runner, events ...Event) error {
	return j.write(ctx, urgent, "save runner "+r.Name, saving(r, events))
}

func saving(r fleet.Runner, events []Event) func(*tx) error {
	return func(t *tx) error {
		if r.Name == "" {
			return errors.New("no name")
		}
		if err := t.saveRunner(r); err != nil {
			return err
		}
		return t.note(events...)
	}
}

// Forget records that nothing is left of a runner, and those of the events that
// it has none like yet. Its VMID cools down from then on, see Cooling. An unknown
// name is no error.
func (j *Journal) Forget(ctx context.Context, name string, at time.Time, events ...Event) error {
	return j.write(ctx, urgent, "forget runner "+name, forgetting(name, at, events))
}

func forgetting(name string, at time.Time, events []Event) func(*tx) error {
	return func(t *tx) error {
		if _, err := t.exec(`UPDATE runners SET forgotten = ? WHERE name = ?`, nano(t.or(at)), name); err != nil {
			return err
		}
		for _, e := range events {
			var told bool
			_, err := t.one(context.Background(), []any{&told}, `SELECT EXISTS (SELECT 1 FROM events WHERE runner = ? AND runner <> '' AND what = ?)`, name, string(e.What))
			if err != nil {
				return err
			}
			if !told {
				err = t.note(e)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// Runners returns those not forgotten, by name, as last written. What is only
// observed (Container, Registration, Pending, Drift, Silent) is not in them.
func (j *Journal) Runners(ctx context.Context) (runners []fleet.Runner, err error) {
	err = j.read("read runners", func(s *session) error {
		runners = nil
		return s.each(ctx, func(r scanner) error {
			runner, err := scanRunner(r)
			runners = append(runners, runner)
			return err
		}, `SELECT `+runnerColumns+` FROM runners WHERE forgotten = 0 ORDER BY name`)
	})
	return runners, err
}

// Cooling returns the VMIDs of runners forgotten after since, and when.
func (j *Journal) Cooling(ctx context.Context, since time.Time) (map[fleet.VMID]time.Time, error) {
	vmids := map[fleet.VMID]time.Time{}
	err := j.read("read cooling vmids", func(s *session) error {
		return s.each(ctx, func(r scanner) error {
			var vmid fleet.VMID
			var at int64
			err := r.Scan(&vmid, &at)
			vmids[vmid] = moment(at)
			return err
		}, `SELECT vmid, max(forgotten) FROM runners WHERE forgotten > max(?, 0) AND vmid <> 0 GROUP BY vmid`, nano(since))
	})
	return vmids, err
}

const runnerColumns = `name, pool, scope, node, vmid, family, version, source, storage, registration, job,
	created, cloned, launched, started, listened, took, ended, spent, removed, cause, retry, smoked, passed, failed, fault, exit, booted`

var (
	saveRunner   = upsert("runners", runnerColumns+", forgotten")
	updateRunner = upsert("runners", runnerColumns+", forgotten", "forgotten")
)

// saveRunner writes the row of a runner that exists.
func (t *tx) saveRunner(r fleet.Runner) error {
	_, err := t.exec(saveRunner, runnerValues(r)...)
	return err
}

// updateRunner writes the row and leaves it forgotten if it is.
func (t *tx) updateRunner(r fleet.Runner) error {
	_, err := t.exec(updateRunner, runnerValues(r)...)
	return err
}

// runnerValues are those of runnerColumns and that it is not forgotten.
func runnerValues(r fleet.Runner) []any {
	return []any{r.Name, r.Pool, string(r.Scope), r.Node, int64(r.VMID), r.Template.Family, r.Template.Version,
		int64(r.Source), r.Storage, r.RegistrationID, int64(r.Job),
		nano(r.Created), nano(r.Cloned), nano(r.Launched), nano(r.Started), nano(r.Listened),
		nano(r.Took), nano(r.Ended), nano(r.Spent), nano(r.Removed), clip(r.Cause), nano(r.Retry),
		nano(r.Smoked), nano(r.Passed), nano(r.Failed), clip(r.Fault), r.Exit, nano(r.Booted), 0}
}

func scanRunner(row scanner) (r fleet.Runner, err error) {
	var at [14]int64
	err = row.Scan(&r.Name, &r.Pool, &r.Scope, &r.Node, &r.VMID, &r.Template.Family, &r.Template.Version,
		&r.Source, &r.Storage, &r.RegistrationID, &r.Job,
		&at[0], &at[1], &at[2], &at[3], &at[4], &at[5], &at[6], &at[7], &at[8], &r.Cause, &at[9],
		&at[10], &at[11], &at[12], &r.Fault, &r.Exit, &at[13])
	for i, t := range []*time.Time{&r.Created, &r.Cloned, &r.Launched, &r.Started, &r.Listened,
		&r.Took, &r.Ended, &r.Spent, &r.Removed, &r.Retry, &r.Smoked, &r.Passed, &r.Failed, &r.Booted} {
		*t = moment(at[i])
	}
	return r, err
}
