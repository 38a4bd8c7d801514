package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/dayfly-ci/dayfly/internal/daemon"
)

func (p *program) planCommand() *cobra.Command {
	return p.asks(p.reads(&cobra.Command{
		Use:   "plan [DIR|REV]",
		Short: "show what the daemon would do now, or with other pools, and why",
		Long: `Show what the daemon would do now, and why, and which containers, firewall rules
and templates are not as the pools and the journal say. Nothing is done.

With DIR, a folder of pool files, or REV, a branch, tag or commit of the
repository that the pools come from: show what would change if these pools were
in force. An argument that names a folder here is a DIR.

exit codes: 0 nothing to do or to change, 1 error or invalid pool files, 2
something to do or to change, or changed by somebody else.`,
		Example: "  dayfly plan\n  dayfly plan ./pools\n  dayfly plan refs/pull/12/head",
		Args:    takesAtMost("DIR|REV"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return p.foresee(cmd.Context(), args[0])
			}
			plan, err := daemon.Dial(p.socket).Plan(cmd.Context())
			if err != nil {
				return err
			}
			if p.json {
				err = writeJSON(p.out, plan)
			} else {
				err = p.printPlan(plan)
			}
			if err == nil && len(plan.Actions)+len(plan.Drift) > 0 {
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
	for _, t := range plan.Drift {
		fmt.Fprintf(p.out, "\n%s %s\n", style.yellow("drift:"), t.What)
		if t.Hint != "" {
			fmt.Fprintf(p.out, "    %s\n", t.Hint)
		}
	}
	if !plan.Next.IsZero() {
		fmt.Fprintf(p.out, "\nnext look in %s\n", age(plan.Next.Sub(plan.At)))
	}
	return nil
}
