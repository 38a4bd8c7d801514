package fleet

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrOrder is why an order makes no sense for a roll-out as it is.
var ErrOrder = errors.New("not possible now")

func (r Rollout) order(ok bool, what string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%s: the roll-out of pool %s is %s: %w", what, r.Pool, r.Stage, ErrOrder)
}

func (r Rollout) to(s Stage, now time.Time, reason string) Rollout {
	r.Stage, r.Since, r.Now, r.Reason = s, now, Tally{}, reason
	return r
}

// Pause holds a roll where it is. New runners stay of the version that they
// are of.
func (r Rollout) Pause(now time.Time, by string) (Rollout, error) {
	if err := r.order(r.Stage > Settled && r.Stage < Paused, "pause"); err != nil {
		return r, err
	}
	r.Resume = r.Stage
	return r.to(Paused, now, by), nil
}

// Continue goes on with a roll that is paused or inconclusive.
func (r Rollout) Continue(now time.Time, by string) (Rollout, error) {
	if err := r.order(r.Stage == Paused || r.Stage == Inconclusive, "resume"); err != nil {
		return r, err
	}
	if r.Resume < Full { // what failed before is looked at anew
		r.Trial, r.Control, r.Boots = Tally{}, Tally{}, nil
	}
	return r.to(r.Resume, now, by), nil
}

// Promote skips what is left: up to the bake, or the rest of that.
func (r Rollout) Promote(now time.Time, by string) (Rollout, error) {
	if err := r.order(r.Rolls() && r.Stage != RollingBack, "promote"); err != nil {
		return r, err
	}
	if r.leads() {
		r.Good = slices.Insert(slices.Clone(r.Good), 0, r.Stable)
		r.Good = r.Good[:min(len(r.Good), keptGood)]
		r.Stable, r.Candidate, r.Usual, r.Boots = r.Candidate, Ref{}, r.Boots, nil
		return r.to(Settled, now, by), nil
	}
	r.Trial, r.Control = Tally{}, Tally{}
	return r.to(Full, now, by), nil
}

// Abort rolls back and remembers the candidate as bad.
func (r Rollout) Abort(now time.Time, by string) (Rollout, error) {
	if err := r.order(r.Rolls() && r.Stage != RollingBack, "abort"); err != nil {
		return r, err
	}
	r.Bad = slices.Insert(slices.Clone(r.Bad), 0, Verdict{r.Candidate, by, now})
	return r.to(RollingBack, now, by), nil
}

// Retry forgets that versions are bad: all of them, or the one named.
func (r Rollout) Retry(now time.Time, version string) (Rollout, error) {
	kept := slices.DeleteFunc(slices.Clone(r.Bad), func(v Verdict) bool { return version == "" || v.Version.Version == version })
	if len(kept) == len(r.Bad) {
		return r, fmt.Errorf("retry: no bad version %sis remembered of pool %s: %w", spaced(version), r.Pool, ErrOrder)
	}
	r.Bad, r.Pardon = kept, now
	return r, nil
}

func spaced(s string) string {
	if s == "" {
		return ""
	}
	return s + " "
}
