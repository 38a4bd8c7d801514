package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
)

// demoPool is the pool whose templates change in the course of the day.
const demoPool = "linux-x64"

const (
	newerVersion = "2.335.1-2" // what is baked, or there, in the morning
	sickVersion  = "2.335.1-3" // its smoke boot passes, and its runners never register
)

// demoRolls is how the pools change in the course of a day.
type demoRolls struct {
	good, bad string   // family@version that is to be rolled out, and back; empty: none
	refused   []string // commits that were seen to be refused
}

// newVersion brings a good version of the template: baked here with a packer,
// and baked elsewhere without.
func (d *demo) newVersion(ctx context.Context) error {
	if d.o.packer != "" {
		if err := d.bake(ctx); err != nil {
			return err
		}
		d.teller.say("the daemon sees the commit: %s is rolled to %s, beside the day's work", demoPool, d.rolls.good)
		return d.pushed(ctx)
	}
	d.rolls.good = d.family + "@" + newerVersion
	d.teller.say("git commit: template ubuntu-24 { version = %q }: %s is rolled to it, beside the day's work", newerVersion, demoPool)
	return d.promoted(ctx, 9010, newerVersion, sim.Well)
}

// promoted puts a version of the template on the nodes, and has a commit ask
// for it.
func (d *demo) promoted(ctx context.Context, first int, version string, ails sim.Ailment) error {
	d.addTemplates(first, version, ails)
	if _, err := d.repo.promote(ctx, fleet.Ref{Family: d.family, Version: version}); err != nil {
		return err
	}
	return d.pushed(ctx)
}

// rollout waits until the roll-out is as it should be.
func (d *demo) rollout(ctx context.Context, what string, is func(daemon.RolloutStatus) bool) error {
	return d.wait(ctx, time.Minute, what, func() bool {
		list, err := d.admin.Rollouts(ctx)
		i := slices.IndexFunc(list, func(r daemon.RolloutStatus) bool { return r.Pool == demoPool })
		return err == nil && i >= 0 && is(list[i])
	})
}

// rolledOut waits for the end of the good roll-out. In case no job came to the
// canary yet, one comes now.
func (d *demo) rolledOut(ctx context.Context) error {
	smoked := func(r daemon.RolloutStatus) bool {
		return r.Stable == d.rolls.good || r.Candidate == d.rolls.good && r.Stage != "preflight" && r.Stage != "smoke"
	}
	if err := d.rollout(ctx, "smoke boots have passed", smoked); err != nil {
		return err
	}
	d.teller.say("by now the new version has served a job, or serves this one; then every spare is of it")
	if err := d.ended(ctx, d.queue()); err != nil {
		return err
	}
	return d.rollout(ctx, d.rolls.good+" is stable", func(r daemon.RolloutStatus) bool {
		return r.Stage == "stable" && r.Stable == d.rolls.good
	})
}

// badVersion brings a version whose runners never register. No job waits for
// it longer than for one boot.
func (d *demo) badVersion(ctx context.Context) error {
	d.rolls.bad = d.family + "@" + sickVersion
	d.teller.say("git commit: template ubuntu-24 { version = %q }: it boots, but its runners will never register", sickVersion)
	if err := d.promoted(ctx, 9020, sickVersion, sim.Mute); err != nil {
		return err
	}
	if err := d.ended(ctx, d.silent); err != nil {
		return err
	}
	return d.rollout(ctx, "the bad version meets its first job", func(r daemon.RolloutStatus) bool {
		return r.Candidate == d.rolls.bad && r.Stage == "canary"
	})
}

// rolledBack lets a job meet the bad version: it gets a runner of the stable
// one, and the pool goes back by itself. In the meantime, commits come that
// nobody should obey.
func (d *demo) rolledBack(ctx context.Context) error {
	d.teller.say("a job meets the bad version: it gets a runner of the good one, and the pool goes back by itself")
	id := d.queue()
	if err := d.refusals(ctx); err != nil {
		return err
	}
	if err := d.ended(ctx, id); err != nil {
		return err
	}
	if j, _ := d.world.GitHub.Job(id); j.Conclusion != hub.Success {
		return fmt.Errorf("the job that met the bad version ended with %q", j.Conclusion)
	}
	return d.rollout(ctx, d.rolls.bad+" is rolled back", func(r daemon.RolloutStatus) bool {
		return r.Stage == "stable" && r.Stable == d.rolls.good && condemned(r, d.rolls.bad)
	})
}

func condemned(r daemon.RolloutStatus, version string) bool {
	return slices.ContainsFunc(r.Bad, func(b daemon.BadVersion) bool { return b.Version == version })
}

// refusals pushes what the daemon must not obey: a broken pool file, and a
// branch that was forced back. Each time, what was in force stays.
func (d *demo) refusals(ctx context.Context) error {
	s, err := d.admin.Status(ctx)
	if err != nil {
		return err
	}
	good := s.Revision
	d.teller.say(`git commit: linux-x64 { scale { max = "plenty" } }, which is no number: refused`)
	broken, err := d.repo.edit(ctx, "as many as you like", map[string][]setting{
		"linux.hcl": {{path: []string{"pool linux-x64", "scale"}, name: "max", value: cty.StringVal("plenty")}},
	})
	if err != nil {
		return err
	}
	if err := d.refused(ctx, broken, good); err != nil {
		return err
	}
	d.teller.say("git push --force: the branch goes back behind the commit in force: refused")
	forced, err := d.repo.force(good + "~1")
	if err != nil {
		return err
	}
	if err := d.refused(ctx, forced, good); err != nil {
		return err
	}
	d.teller.say("git push --force: the branch is again at the commit in force")
	if _, err := d.repo.force(good); err != nil {
		return err
	}
	if err := d.pushed(ctx); err != nil {
		return err
	}
	return d.wait(ctx, time.Minute, "nothing is refused", func() bool {
		s, err := d.admin.Status(ctx)
		return err == nil && s.Refused == "" && s.Revision == good
	})
}

// refused waits until a commit is refused, and tells why.
func (d *demo) refused(ctx context.Context, commit, good string) error {
	if err := d.pushed(ctx); err != nil {
		return err
	}
	var s daemon.Status
	err := d.wait(ctx, time.Minute, "commit "+short(commit)+" is refused", func() bool {
		var err error
		s, err = d.admin.Status(ctx)
		return err == nil && strings.Contains(s.Refused, commit)
	})
	if err != nil {
		return err
	}
	if s.Revision != good {
		return fmt.Errorf("%s is in force, not %s", s.Revision, good)
	}
	_, why, _ := strings.Cut(s.Refused, commit+": ")
	d.teller.refused(why, good)
	d.rolls.refused = append(d.rolls.refused, commit)
	return nil
}

// judgeRolls asks the daemon what it made of the day's versions, and finds what
// must not be.
func (d *demo) judgeRolls(ctx context.Context, s *demoSummary) error {
	turns, err := d.admin.RolloutHistory(ctx, demoPool, 1000)
	list, err2 := d.admin.Rollouts(ctx)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	s.CommitsRefused = len(d.rolls.refused)
	if d.rolls.bad == "" {
		return nil
	}
	var now daemon.RolloutStatus
	for _, r := range list {
		if r.Pool == demoPool {
			now = r
		}
	}
	d.rolls.judge(turns, now, s)
	return nil
}

// judge counts the versions that were rolled out and back.
func (r demoRolls) judge(turns []daemon.RolloutTurn, now daemon.RolloutStatus, s *demoSummary) {
	settled := func(version string) bool {
		return slices.ContainsFunc(turns, func(t daemon.RolloutTurn) bool { return t.Stage == "stable" && t.Stable == version })
	}
	if settled(r.good) && now.Stable == r.good {
		s.RolledOut = 1
	} else {
		s.violations = append(s.violations, fmt.Sprintf("%s was not rolled out: %s is stable", r.good, now.Stable))
	}
	if condemned(now, r.bad) && !settled(r.bad) && now.Candidate == "" {
		s.RolledBack = 1
	} else {
		s.violations = append(s.violations, fmt.Sprintf("%s was not rolled back", r.bad))
	}
	if len(r.refused) != 2 {
		s.violations = append(s.violations, fmt.Sprintf("%d commits were refused, not 2", len(r.refused)))
	}
}
