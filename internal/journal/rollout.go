package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Turn is one change of a pool's roll-out.
type Turn struct {
	At        time.Time
	Pool      string
	Stable    string // family@version
	Candidate string // empty: none
	Stage     string
	Step      int // of the canary steps, from 0
	Reason    string
}

// Rollouts returns how far each pool's roll-out is, as last written.
func (j *Journal) Rollouts(ctx context.Context) (rollouts []fleet.Rollout, err error) {
	err = j.read("read rollouts", func(s *session) error {
		rollouts = nil
		return s.each(ctx, func(r scanner) error {
			var pool, body string
			if err := r.Scan(&pool, &body); err != nil {
				return err
			}
			var rollout fleet.Rollout
			if err := json.Unmarshal([]byte(body), &rollout); err != nil {
				return fmt.Errorf("rollout of pool %s: %w", pool, err)
			}
			rollout.Pool = pool
			rollouts = append(rollouts, rollout)
			return nil
		}, `SELECT pool, body FROM rollouts ORDER BY pool`)
	})
	return rollouts, err
}

// Turns returns what became of a pool's roll-outs, or of all if pool is empty,
// the latest first, at most limit (100 if zero).
func (j *Journal) Turns(ctx context.Context, pool string, limit int) (turns []Turn, err error) {
	if limit <= 0 {
		limit = 100
	}
	err = j.read("read turns", func(s *session) error {
		turns = nil
		return s.each(ctx, func(r scanner) error {
			var t Turn
			var at int64
			err := r.Scan(&at, &t.Pool, &t.Stable, &t.Candidate, &t.Stage, &t.Step, &t.Reason)
			t.At = moment(at)
			turns = append(turns, t)
			return err
		}, `SELECT at, pool, stable, candidate, stage, step, reason FROM turns
			WHERE ?1 = '' OR pool = ?1 ORDER BY id DESC LIMIT ?2`, pool, limit)
	})
	return turns, err
}

// Roll records how far a pool's roll-out is, without waiting until it is
// durable; turned: its stage, step or versions changed, which is history.
func (l Later) Roll(r fleet.Rollout, turned ...Turn) {
	l.write("save rollout of pool "+r.Pool, rolling(r, turned))
}

// Roll records how far a pool's roll-out is.
func (j *Journal) Roll(ctx context.Context, r fleet.Rollout, turned ...Turn) error {
	return j.write(ctx, urgent, "save rollout of pool "+r.Pool, rolling(r, turned))
}

func rolling(r fleet.Rollout, turned []Turn) func(*tx) error {
	return func(t *tx) error {
		body, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = t.exec(`INSERT OR REPLACE INTO rollouts (pool, stable, candidate, stage, changed, body) VALUES (?, ?, ?, ?, ?, ?)`,
			r.Pool, r.Stable.String(), r.Candidate.String(), r.Stage.String(), nano(t.now), string(body))
		for _, turn := range turned {
			if err == nil {
				_, err = t.exec(`INSERT INTO turns (at, pool, stable, candidate, stage, step, reason) VALUES (?, ?, ?, ?, ?, ?, ?)`,
					nano(t.or(turn.At)), turn.Pool, turn.Stable, turn.Candidate, turn.Stage, turn.Step, clip(turn.Reason))
			}
		}
		return err
	}
}
