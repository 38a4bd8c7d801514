package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
	"github.com/dayfly-ci/dayfly/internal/pools"
)

// remember loads what the journal knows: the last good pools, the runners, and
// the intents that a crash cut off. What exists is looked at afterwards; it
// has the last word.
func (d *Daemon) remember(ctx context.Context) error {
	s := &d.state
	if err := d.rememberPools(ctx); err != nil {
		return err
	}
	runners, err := d.cfg.Journal.Runners(ctx)
	if err != nil {
		return fmt.Errorf("read runners from the journal: %w", err)
	}
	for _, r := range runners {
		if r.VMID != 0 {
			r.Container = fleet.Unseen // until its node is listed
		}
		s.add(&runner{Runner: r})
	}
	s.cooling, err = d.cfg.Journal.Cooling(ctx, time.Now().Add(-d.cfg.Every.CoolDown))
	if err != nil {
		return fmt.Errorf("read VMIDs from the journal: %w", err)
	}
	if err := errors.Join(d.rememberRollouts(ctx), d.rememberTemplates(ctx), d.rememberLosses(ctx), d.rememberBroken(ctx)); err != nil {
		return err
	}
	return d.resume(ctx)
}

func (d *Daemon) rememberPools(ctx context.Context) error {
	text, ok, err := d.cfg.Journal.Get(ctx, poolsKey)
	if err != nil {
		return fmt.Errorf("read pools from the journal: %w", err)
	}
	if !ok {
		return nil
	}
	set, err := pools.Decode(text)
	if err != nil {
		d.trouble("pools source", fmt.Sprintf("the last good pools in the journal: %v", err), "they are read from their source again")
		return nil
	}
	d.adopt(&d.state, set)
	return nil
}

// resume closes the intents that were cut off. A clone among them is given up:
// what it made, a listing will show. A launch is judged by what its container
// does (see contained).
func (d *Daemon) resume(ctx context.Context) error {
	intents, err := d.cfg.Journal.Unfinished(ctx)
	if err != nil {
		return fmt.Errorf("read intents from the journal: %w", err)
	}
	for _, in := range intents {
		d.log.Info("cut off by the last stop", "action", in.Action.Kind.String(), "runner", in.Action.Runner)
		var row fleet.Runner
		if r := d.state.runners[in.Action.Runner]; r != nil {
			if in.Action.Kind == fleet.Clone && r.Cloned.IsZero() {
				spent("its clone was cut off")(r)
			}
			row = r.Runner
		}
		err := d.cfg.Journal.End(ctx, in.ID, row, "cut off by a stop")
		if errors.Is(err, journal.ErrFull) {
			d.journalFailed(err) // it is closed at a later start
			return nil
		}
		if err != nil {
			return fmt.Errorf("close intent %d: %w", in.ID, err)
		}
	}
	return nil
}
