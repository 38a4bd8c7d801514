package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// roll has the core decide how far each pool's roll-out is, and remembers that.
// It must be called before runners are forgotten: what happened to them counts.
func (d *Daemon) roll(o fleet.Observed, now time.Time) time.Time {
	s := &d.state
	d.newVersions(o)
	next, wake := fleet.Roll(s.desired, o, now)
	for _, r := range next {
		d.rolled(s.rollout(r.Pool), r, now)
	}
	turned := !slices.EqualFunc(s.rollouts, next, func(a, b fleet.Rollout) bool { return a.Pool == b.Pool && a.Stable == b.Stable })
	s.rollouts = next
	if turned {
		d.age(s, now) // another template is in use
	}
	return wake
}

// rolloutOfPool begins the troubles of roll-outs.
const rolloutOfPool = "rollout "

// leave ends the troubles of pools that are gone.
func (d *Daemon) leave(s *state) {
	for key := range s.troubles {
		for _, kind := range []string{rolloutOfPool, templateOf} {
			if pool, is := strings.CutPrefix(key, kind); is {
				if _, there := s.pool(pool); !there {
					d.fine(key)
				}
			}
		}
	}
}

// rollout is how far a pool's roll-out is; the zero value if nothing is known.
func (s *state) rollout(pool string) fleet.Rollout {
	i := slices.IndexFunc(s.rollouts, func(r fleet.Rollout) bool { return r.Pool == pool })
	if i < 0 {
		return fleet.Rollout{Pool: pool}
	}
	return s.rollouts[i]
}

// rolled writes down what is new of a roll-out, and makes it known. A pool at
// rest counts boots too, which are not worth a commit each.
func (d *Daemon) rolled(was, is fleet.Rollout, now time.Time) {
	turned := was.Stage != is.Stage || was.Step != is.Step || was.Candidate != is.Candidate || was.Stable != is.Stable
	if turned {
		d.log.Info("roll-out", "pool", is.Pool, "stage", is.Stage.String(), "stable", is.Stable.String(),
			"candidate", is.Candidate.String(), "reason", is.Reason)
		d.metrics.turns.WithLabelValues(is.Pool, is.Stage.String()).Inc()
		d.later.Roll(is, turn(is, now))
	} else if is.Rolls() && !is.Mark.Equal(was.Mark) || len(was.Bad) != len(is.Bad) {
		d.later.Roll(is)
	}
	if was.Opens.IsZero() && !is.Opens.IsZero() {
		d.log.Info("roll-out waits for its window", "pool", is.Pool, "stage", is.Stage.String(), "candidate", is.Candidate.String(), "until", is.Opens.UTC())
	}
	d.rollTrouble(is)
}

func turn(r fleet.Rollout, now time.Time) journal.Turn {
	return journal.Turn{
		At: now, Pool: r.Pool, Stable: r.Stable.String(), Candidate: r.Candidate.String(),
		Stage: r.Stage.String(), Step: r.Step, Reason: r.Reason,
	}
}

// rollTrouble tells what of a roll-out a person should see.
func (d *Daemon) rollTrouble(r fleet.Rollout) {
	key := rolloutOfPool + r.Pool
	where := fmt.Sprintf("dayfly rollout status %s", r.Pool)
	switch {
	case r.Stage == fleet.Inconclusive:
		d.trouble(key, fmt.Sprintf("pool %s: the roll-out of %s is inconclusive: %s", r.Pool, r.Candidate, r.Reason),
			fmt.Sprintf(`mend what both versions fail of, then run "dayfly rollout resume %s", or "abort" in its place`, r.Pool))
	case r.Stage == fleet.Paused:
		d.trouble(key, fmt.Sprintf("pool %s: the roll-out of %s is paused: %s", r.Pool, r.Candidate, r.Reason),
			fmt.Sprintf(`run "dayfly rollout resume %s", "promote" or "abort"`, r.Pool))
	case r.Note != "":
		hint := fmt.Sprintf(`see "%s"`, where)
		if strings.Contains(r.Note, " is bad: ") {
			hint = fmt.Sprintf(`build a newer version, or run "dayfly rollout retry %s" once what was wrong is mended`, r.Pool)
		}
		d.trouble(key, fmt.Sprintf("pool %s: %s", r.Pool, r.Note), hint)
	default:
		d.fine(key)
	}
}

// rememberRollouts loads how far the roll-outs were.
func (d *Daemon) rememberRollouts(ctx context.Context) (err error) {
	if d.state.rollouts, err = d.cfg.Journal.Rollouts(ctx); err != nil {
		return fmt.Errorf("read roll-outs from the journal: %w", err)
	}
	return nil
}

// faulted notes that a runner failed for a reason that lies in itself.
func (d *Daemon) faulted(r *runner, why string) {
	if r.Failed.IsZero() {
		r.Failed, r.Fault = time.Now(), why
		d.later.Save(r.Runner)
	}
}

// own reports whether the failure of a clone or start can be the template's: a
// task that Proxmox began and that failed, but not for want of space or time.
func own(err error) bool {
	var task *proxmox.TaskError
	if !errors.As(err, &task) || task.Kind != nil {
		return false
	}
	text := strings.ToLower(task.Error())
	return !slices.ContainsFunc([]string{"space", "quota", "timeout", "timed out", "lock", "memory"}, func(foreign string) bool {
		return strings.Contains(text, foreign)
	})
}

// inVain reports whether a runner listened and ended without a job that we know
// of. GitHub removes the registration of a JIT runner with its job, and leaves
// that of one that had none: what is found there tells the two apart.
func inVain(r fleet.Runner) bool {
	return !r.Listened.IsZero() && !r.Ended.IsZero() && r.Job == 0 && r.Took.IsZero() && r.Failed.IsZero()
}
