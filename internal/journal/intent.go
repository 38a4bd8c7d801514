package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// OK is the outcome of an action that worked.
const OK = "ok"

// Intent is an action that was begun and has no outcome yet.
type Intent struct {
	ID     int64
	Action fleet.Action
	Begun  time.Time
}

// Begin records that an action is about to be done and the runner's row as it
// will be. Only when it has returned may the effect be sought. The action's
// runner is r.Name, which a clone's action does not have.
func (j *Journal) Begin(ctx context.Context, a fleet.Action, r fleet.Runner) (id int64, err error) {
	if r.Name == "" {
		return 0, fmt.Errorf("begin %s: no runner's name", a.Kind)
	}
	a.Runner = r.Name
	var given int64
	err = j.write(ctx, patience(a.Kind), "begin "+a.Kind.String()+" "+r.Name, func(t *tx) error {
		res, err := t.exec(`INSERT INTO intents (kind, pool, runner, template, node, reason, begun, ended, outcome)
			VALUES (?, ?, ?, ?, ?, ?, ?, 0, '')`,
			a.Kind.String(), a.Pool, a.Runner, int64(a.Template), a.Node, clip(a.Reason), nano(t.now))
		if err != nil {
			return err
		}
		if given, err = res.LastInsertId(); err != nil {
			return err
		}
		if err := t.saveRunner(r); err != nil {
			return err
		}
		return t.note(Event{What: Decided, Runner: r.Name, Detail: a.Kind.String() + ": " + a.Reason})
	})
	if err != nil {
		return 0, err
	}
	return given, nil
}

// patience is short where a job waits for the action, or may.
func patience(k fleet.Kind) time.Duration {
	switch k {
	case fleet.Launch:
		return urgent
	case fleet.Clone, fleet.Boot:
		return brief
	}
	return patient
}

// End records the outcome of an intent, OK or the error, and the runner's row
// as it is now; without a name it is left as it was. A runner that was
// forgotten meanwhile stays so. Errors: fleet.ErrNotFound for an intent that
// never was, fleet.ErrExists for one that has an outcome.
func (j *Journal) End(ctx context.Context, id int64, r fleet.Runner, outcome string, events ...Event) error {
	return j.write(ctx, urgent, fmt.Sprintf("end intent %d", id), ending(id, r, outcome, events))
}

func ending(id int64, r fleet.Runner, outcome string, events []Event) func(*tx) error {
	return func(t *tx) error {
		kind, runner, err := t.settle(id, outcome)
		if err != nil {
			return err
		}
		if r.Name != "" {
			if err := t.updateRunner(r); err != nil {
				return err
			}
		}
		if outcome != OK {
			fault := Event{What: Failed, Runner: runner, Detail: kind + ": " + outcome}
			if err := t.note(fault); err != nil {
				return err
			}
		}
		return t.note(events...)
	}
}

func (t *tx) settle(id int64, outcome string) (kind, runner string, err error) {
	var ended int64
	var was string
	found, err := t.one(context.Background(), []any{&kind, &runner, &ended, &was},
		`SELECT kind, runner, ended, outcome FROM intents WHERE id = ?`, id)
	switch {
	case err != nil:
		return "", "", err
	case !found:
		return "", "", fleet.ErrNotFound
	case ended != 0:
		return "", "", fmt.Errorf("its outcome %q %w", was, fleet.ErrExists)
	}
	_, err = t.exec(`UPDATE intents SET ended = ?, outcome = ? WHERE id = ?`, nano(t.now), clip(outcome), id)
	return kind, runner, err
}

// Unfinished returns the intents that were begun and never ended, oldest
// first: what a crash interrupted. Their effects may or may not have happened.
func (j *Journal) Unfinished(ctx context.Context) (intents []Intent, err error) {
	err = j.read("read unfinished intents", func(s *session) error {
		intents = nil
		return s.each(ctx, func(r scanner) error {
			i, err := scanIntent(r)
			intents = append(intents, i)
			return err
		}, `SELECT id, kind, pool, runner, template, node, reason, begun FROM intents WHERE ended = 0 ORDER BY id`)
	})
	return intents, err
}

func scanIntent(r scanner) (i Intent, err error) {
	var kind string
	var begun int64
	a := &i.Action
	if err := r.Scan(&i.ID, &kind, &a.Pool, &a.Runner, &a.Template, &a.Node, &a.Reason, &begun); err != nil {
		return i, err
	}
	i.Begun = moment(begun)
	var known bool
	if a.Kind, known = fleet.ParseKind(kind); !known {
		return i, fmt.Errorf("intent %d: unknown kind %q", i.ID, kind)
	}
	return i, nil
}
