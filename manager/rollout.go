package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/fleet"
)

func (p *program) rolloutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rollout",
		Short:   "show and steer how pools go over to new template versions",
		GroupID: groupAsk,
		Long: `Show and steer how pools go over to new template versions.

A new version is booted without a job (smoke), then serves a few jobs (canary),
then all (full), and can be rolled back for a while (bake). A version whose
runners fail is rolled back by itself and is remembered as bad. Running jobs are
never touched.`,
		Args: unknownOrder,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddGroup(&cobra.Group{ID: groupAsk, Title: "commands:"})
	cmd.AddCommand(p.rolloutStatus(), p.rolloutHistory(),
		p.rolloutOrder("pause", "hold a roll where it is", "Hold a roll where it is. New runners stay of the version that they are of."),
		p.rolloutOrder("resume", "go on with a roll that is paused or inconclusive", "Go on with a roll that is paused or inconclusive. One that failed begins anew\nwith smoke boots."),
		p.rolloutOrder("promote", "skip what is left of a roll", "Skip what is left of a roll: up to the bake, or the rest of that. What is skipped\nis not found."),
		p.rolloutOrder("abort", "roll back, and remember the version as bad", "Roll back, and remember the version as bad."),
		p.rolloutRetry())
	return cmd
}

// unknownOrder is called when the first argument is no subcommand.
func unknownOrder(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return hinted{usageError{fmt.Errorf("unknown command %q", "rollout "+args[0])}, `run "dayfly rollout --help"`}
}

// mayTake is takes for a command that needs only the first few of its arguments.
func mayTake(least int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		return takes(names[:min(max(least, len(args)), len(names))]...)(cmd, args)
	}
}

func (p *program) rolloutStatus() *cobra.Command {
	return p.asks(p.reads(&cobra.Command{
		Use:   "status [POOL]",
		Short: "show how far each pool's roll-out is",
		Long: `Show how far each pool's roll-out is, which versions are bad and why, and which
templates may be removed.`,
		Args: mayTake(0, "POOL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := daemon.Dial(p.socket).Rollouts(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) > 0 {
				if list, err = ofPool(list, args[0]); err != nil {
					return err
				}
			}
			if p.json {
				return writeJSON(p.out, list)
			}
			return p.printRollouts(list, time.Now())
		},
	}))
}

func ofPool(list []daemon.RolloutStatus, pool string) ([]daemon.RolloutStatus, error) {
	var names []string
	for _, r := range list {
		if r.Pool == pool {
			return []daemon.RolloutStatus{r}, nil
		}
		names = append(names, r.Pool)
	}
	return nil, hinted{fmt.Errorf("pool %s: %w", pool, fleet.ErrNotFound), "pools: " + strings.Join(names, ", ")}
}

func (p *program) printRollouts(list []daemon.RolloutStatus, now time.Time) error {
	style := styleOf(p.out)
	t := newTable("pool", "stage", "stable", "candidate", "since", "boots", "jobs", "failed", "because")
	for _, r := range list {
		boots, jobs, failed := "", "", ""
		if r.Candidate != "" {
			boots, jobs, failed = strconv.Itoa(r.Trial.Boots), strconv.Itoa(r.Trial.Jobs), strconv.Itoa(r.Trial.Failures)
		}
		since := ""
		if !r.Since.IsZero() {
			since = age(now.Sub(r.Since))
		}
		t.row(r.Pool, stageOf(r.Stage, r.Step, r.Steps), r.Stable, r.Candidate, since, boots, jobs, failed, r.Reason)
	}
	if len(list) == 0 {
		fmt.Fprintln(p.out, "there are no pools")
	}
	if err := t.write(p.out, style); err != nil {
		return err
	}
	for _, r := range list {
		if r.Note != "" {
			fmt.Fprintf(p.out, "\n%s pool %s: %s\n", style.yellow("note:"), r.Pool, r.Note)
		}
		if !r.Opens.IsZero() {
			fmt.Fprintf(p.out, "\n%s pool %s: the next step waits for its window, which opens in %s, at %s; \"dayfly rollout promote %s\" does not wait\n",
				style.yellow("note:"), r.Pool, age(r.Opens.Sub(now)), r.Opens.UTC().Format("2006-01-02 15:04Z"), r.Pool)
		}
	}
	bad := newTable("bad version", "pool", "for", "because")
	surplus := newTable("may be removed", "pool", "node", "vmid")
	for _, r := range list {
		for _, v := range r.Bad {
			bad.row(v.Version, r.Pool, age(now.Sub(v.At)), v.Reason)
		}
		for _, s := range r.Surplus {
			surplus.row(s.Version, r.Pool, s.Node, strconv.Itoa(s.VMID))
		}
	}
	for _, t := range []*table{bad, surplus} {
		if len(t.rows) > 1 {
			fmt.Fprintln(p.out)
		}
		if err := t.write(p.out, style); err != nil {
			return err
		}
	}
	return nil
}

// stageOf names a stage and, of the canary, its step.
func stageOf(stage string, step, steps int) string {
	switch {
	case step > 0 && steps > 0:
		return fmt.Sprintf("%s %d of %d", stage, step, steps)
	case step > 0:
		return fmt.Sprintf("%s %d", stage, step)
	}
	return stage
}

func (p *program) rolloutHistory() *cobra.Command {
	limit := 50
	cmd := p.asks(p.reads(&cobra.Command{
		Use:   "history [POOL]",
		Short: "show what became of roll-outs",
		Long:  "Show what became of roll-outs, the latest first.",
		Args:  mayTake(0, "POOL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			pool := ""
			if len(args) > 0 {
				pool = args[0]
			}
			turns, err := daemon.Dial(p.socket).RolloutHistory(cmd.Context(), pool, limit)
			if err != nil {
				return err
			}
			if p.json {
				return writeJSON(p.out, turns)
			}
			if len(turns) == 0 {
				fmt.Fprintln(p.out, "there was no roll-out")
			}
			t := newTable("at", "pool", "stage", "stable", "candidate", "because")
			for _, turn := range turns {
				t.row(turn.At.UTC().Format("2006-01-02 15:04:05"), turn.Pool, stageOf(turn.Stage, turn.Step, 0), turn.Stable, turn.Candidate, turn.Reason)
			}
			return t.write(p.out, styleOf(p.out))
		},
	}))
	cmd.Flags().IntVar(&limit, "limit", limit, "`NUMBER` of lines at most")
	return cmd
}

func (p *program) rolloutOrder(name, short, long string) *cobra.Command {
	return p.asks(p.reads(&cobra.Command{
		Use:   name + " POOL",
		Short: short,
		Long:  long,
		Args:  takes("POOL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.giveOrder(cmd, args[0], name, "")
		},
	}))
}

func (p *program) rolloutRetry() *cobra.Command {
	return p.asks(p.reads(&cobra.Command{
		Use:   "retry POOL [VERSION]",
		Short: "forget that a version is bad, or all of them",
		Long:  "Forget that a version is bad, or all of them: the newest one that the pool asks for\nis rolled to again.",
		Args:  mayTake(1, "POOL", "VERSION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			version := ""
			if len(args) > 1 {
				version = args[1]
			}
			return p.giveOrder(cmd, args[0], "retry", version)
		},
	}))
}

func (p *program) giveOrder(cmd *cobra.Command, pool, order, version string) error {
	r, err := daemon.Dial(p.socket).Order(cmd.Context(), pool, order, version)
	if err != nil {
		return hinted{err, `run "dayfly rollout status" to see how far it is`}
	}
	if p.json {
		return writeJSON(p.out, r)
	}
	_, err = fmt.Fprintf(p.out, "pool %s: %s, %s\n", r.Pool, stageOf(r.Stage, r.Step, r.Steps), strings.TrimSuffix(r.Stable+" to "+r.Candidate, " to "))
	return err
}
