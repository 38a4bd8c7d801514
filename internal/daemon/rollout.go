package daemon

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
)

// RolloutStatus is one pool's of GET /v1/rollouts.
type RolloutStatus struct {
	Pool      string       `json:"pool"`
	Stage     string       `json:"stage"`           // stable, preflight, smoke, canary, full, bake, paused, inconclusive, rolling back
	Step      int          `json:"step,omitempty"`  // of the canary steps, from 1
	Steps     int          `json:"steps,omitempty"` // how many there are
	Stable    string       `json:"stable"`          // family@version; empty: none yet
	Candidate string       `json:"candidate,omitempty"`
	Since     time.Time    `json:"since,omitzero"`
	Reason    string       `json:"reason"`
	Note      string       `json:"note,omitempty"` // what keeps it from a version
	Opens     time.Time    `json:"opens,omitzero"` // when its next step may begin, if it waits for nothing but its window
	Trial     TallyStatus  `json:"trial"`          // of the candidate, or of the last one
	Control   TallyStatus  `json:"control"`        // of the stable version in the same time
	Bad       []BadVersion `json:"bad"`
	Surplus   []Surplus    `json:"surplus"` // templates that may be removed
}

// TallyStatus counts what became of runners of one version.
type TallyStatus struct {
	Boots    int `json:"boots"`
	Jobs     int `json:"jobs"`
	Failures int `json:"failures"`
}

// BadVersion is a version that is not rolled to again.
type BadVersion struct {
	Version string    `json:"version"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// Surplus is a template that no pool will use again.
type Surplus struct {
	Node    string `json:"node"`
	VMID    int    `json:"vmid"`
	Version string `json:"version"`
}

// RolloutTurn is one line of GET /v1/rollouts/history?pool=&limit=, the latest
// first.
type RolloutTurn struct {
	At        time.Time `json:"at"`
	Pool      string    `json:"pool"`
	Stage     string    `json:"stage"`
	Step      int       `json:"step,omitempty"`
	Stable    string    `json:"stable"`
	Candidate string    `json:"candidate,omitempty"`
	Reason    string    `json:"reason"`
}

func (d *Daemon) rolloutStatus(r *http.Request) ([]RolloutStatus, error) {
	return ask(r.Context(), d, func(s *state) []RolloutStatus {
		out := []RolloutStatus{}
		surplus := fleet.Surplus(s.desired, d.observed())
		for _, r := range s.rollouts {
			p, _ := s.pool(r.Pool)
			out = append(out, rolloutOf(r, p, surplus[r.Pool]))
		}
		return out
	})
}

func rolloutOf(r fleet.Rollout, p fleet.Pool, surplus []fleet.Template) RolloutStatus {
	out := RolloutStatus{
		Pool: r.Pool, Stage: r.Stage.String(), Stable: r.Stable.String(), Candidate: r.Candidate.String(),
		Since: r.Since, Reason: r.Reason, Note: r.Note, Opens: r.Opens, Trial: TallyStatus(r.Trial), Control: TallyStatus(r.Control),
		Bad: []BadVersion{}, Surplus: []Surplus{},
	}
	if r.Stage == fleet.Canarying {
		out.Step, out.Steps = r.Step+1, len(p.Roll.Canary)
	}
	for _, v := range r.Bad {
		out.Bad = append(out.Bad, BadVersion{v.Version.String(), v.Reason, v.At})
	}
	for _, t := range surplus {
		out.Surplus = append(out.Surplus, Surplus{t.Node, int(t.VMID), t.Ref.String()})
	}
	return out
}

func (d *Daemon) rolloutHistory(r *http.Request) ([]RolloutTurn, error) {
	limit := 50
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 2000 {
			return nil, errors.Join(errBadRequest, errors.New("limit is a number from 1 to 2000"))
		}
		limit = n
	}
	turns, err := d.cfg.Journal.Turns(r.Context(), r.URL.Query().Get("pool"), limit)
	out := make([]RolloutTurn, 0, len(turns))
	for _, t := range turns {
		step := 0
		if t.Stage == fleet.Canarying.String() {
			step = t.Step + 1
		}
		out = append(out, RolloutTurn{t.At, t.Pool, t.Stage, step, t.Stable, t.Candidate, t.Reason})
	}
	return out, err
}

// orderedKey is when a roll-out was ordered about last.
const orderedKey = "rollout-ordered"

// byHand is the reason of what a person asked for.
const byHand = "asked for on the command line"

// orders are what may be asked of a roll-out.
var orders = map[string]func(r fleet.Rollout, now time.Time, version string) (fleet.Rollout, error){
	"pause":   func(r fleet.Rollout, now time.Time, _ string) (fleet.Rollout, error) { return r.Pause(now, byHand) },
	"resume":  func(r fleet.Rollout, now time.Time, _ string) (fleet.Rollout, error) { return r.Continue(now, byHand) },
	"promote": func(r fleet.Rollout, now time.Time, _ string) (fleet.Rollout, error) { return r.Promote(now, byHand) },
	"abort":   func(r fleet.Rollout, now time.Time, _ string) (fleet.Rollout, error) { return r.Abort(now, byHand) },
	"retry": func(r fleet.Rollout, now time.Time, version string) (fleet.Rollout, error) {
		return r.Retry(now, version)
	},
}

// order is POST /v1/rollouts/{pool}/{order}?version=. It answers once the order
// is on disk.
func (d *Daemon) order(r *http.Request) (RolloutStatus, error) {
	do, known := orders[r.PathValue("order")]
	if !known {
		return RolloutStatus{}, errors.Join(errBadRequest, fmt.Errorf("no order %q", r.PathValue("order")))
	}
	type reply struct {
		rollout fleet.Rollout
		pool    fleet.Pool
		err     error
	}
	pool, version := r.PathValue("pool"), r.URL.Query().Get("version")
	answer, err := ask(r.Context(), d, func(s *state) reply {
		p, there := s.pool(pool)
		if !there {
			return reply{err: fmt.Errorf("pool %s: %w", pool, fleet.ErrNotFound)}
		}
		now := time.Now()
		next, err := do(s.rollout(pool), now, version)
		if err == nil {
			d.ordered(next, now)
		}
		return reply{next, p, err}
	})
	switch {
	case err != nil:
		return RolloutStatus{}, err
	case answer.err != nil:
		return RolloutStatus{}, answer.err
	}
	// What the loop wrote is durable once a later write is. Written here, it might
	// overwrite what the loop has made of the order since.
	err = d.cfg.Journal.Put(r.Context(), orderedKey, []byte(time.Now().UTC().Format(time.RFC3339)))
	return rolloutOf(answer.rollout, answer.pool, nil), err
}

// ordered puts in force what a person asked for.
func (d *Daemon) ordered(next fleet.Rollout, now time.Time) {
	s := &d.state
	rollouts := make([]fleet.Rollout, len(s.rollouts)) // the last plan's are not changed
	copy(rollouts, s.rollouts)
	for i := range rollouts {
		if rollouts[i].Pool == next.Pool {
			rollouts[i] = next
		}
	}
	s.rollouts = rollouts
	d.log.Info("roll-out", "pool", next.Pool, "stage", next.Stage.String(), "stable", next.Stable.String(),
		"candidate", next.Candidate.String(), "reason", next.Reason)
	d.later.Roll(next, []journal.Turn{turn(next, now)}...)
	d.rollTrouble(next)
}
