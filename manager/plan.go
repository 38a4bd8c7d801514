package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/dayfly-ci/dayfly/internal/daemon"
)

func (p *program) planCommand() *cobra.Command {
	return p.asks(p.reads(&cobra.Command{
		Use:   "plan",
		Short: "show what the daemon would do now, and why",
		Long: `Show what the daemon would do now, and why. Nothing is done.

exit codes: 0 nothing to do, 1 error, 2 something to do.`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, err := daemon.Dial(p.socket).Plan(cmd.Context())
			if err != nil {
				return err
			}
			if p.json {
				err = writeJSON(p.out, plan)
			} else {
				err = p.printPlan(plan)
			}
			if err == nil && len(plan.Actions) > 0 {
				return errNotice
			}
			return err
		},
	}))
}

func (p *program) printPlan(plan daemon.PlanStatus) error {
	style := styleOf(p.out)
	actions := newTable("action", "pool", "runner", "node", "reason")
	for _, a := range plan.Actions {
		actions.row(a.Kind, a.Pool, a.Runner, a.Node, a.Reason)
	}
	if len(plan.Actions) == 0 {
		fmt.Fprintln(p.out, "nothing to do")
	}
	if err := actions.write(p.out, style); err != nil {
		return err
	}
	blocked := newTable("job", "repo", "waits because")
	for _, b := range plan.Blocked {
		blocked.row(strconv.FormatInt(b.Job, 10), b.Repo, b.Reason)
	}
	if len(plan.Blocked) > 0 {
		fmt.Fprintln(p.out)
	}
	if err := blocked.write(p.out, style); err != nil {
		return err
	}
	if !plan.Next.IsZero() {
		fmt.Fprintf(p.out, "\nnext look in %s\n", age(plan.Next.Sub(plan.At)))
	}
	return nil
}
