package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dayfly-ci/dayfly/internal/daemon"
)

func (p *program) statusCommand() *cobra.Command {
	return p.asks(p.reads(&cobra.Command{
		Use:   "status",
		Short: "show pools, runners and what is wrong",
		Long: `Show the daemon's pools, runners and what is wrong.

exit codes: 0 all is well, 1 error, 2 something is wrong.`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := daemon.Dial(p.socket).Status(cmd.Context())
			if err != nil {
				return err
			}
			if p.json {
				err = writeJSON(p.out, s)
			} else {
				err = p.printStatus(s, time.Now())
			}
			if err == nil && (len(s.Troubles) > 0 || s.Refused != "") {
				return errNotice
			}
			return err
		},
	}))
}

func (p *program) printStatus(s daemon.Status, now time.Time) error {
	style := styleOf(p.out)
	fmt.Fprintf(p.out, "dayfly %s, up %s; pools at %s; JIT delivery by %s\n",
		s.Version, age(now.Sub(s.Started)), short(s.Revision), s.Delivery)
	fmt.Fprintf(p.out, "jobs: %d running, %d queued\n", s.Running, s.Queued)

	pools := newTable("pool", "scope", "template", "spare", "max", "queued", "runners")
	for _, l := range s.Pools {
		pools.row(l.Name, l.Scope, l.Template, strconv.Itoa(l.Spare), strconv.Itoa(l.Max), strconv.Itoa(l.Queued), phases(l))
	}
	runners := newTable("runner", "node", "vmid", "phase", "since", "job", "now")
	for _, r := range s.Runners {
		runners.row(r.Name, r.Node, strconv.Itoa(r.VMID), r.Phase, age(now.Sub(r.Since)), number(r.Job), doing(r))
	}
	foreign := newTable("vmid", "node", "name", "not ours because")
	for _, f := range s.Foreign {
		foreign.row(strconv.Itoa(f.VMID), f.Node, f.Name, f.Why)
	}
	unused := newTable("template", "node", "name", "not used because")
	for _, u := range s.Unused {
		unused.row(strconv.Itoa(u.VMID), u.Node, u.Name, u.Why)
	}
	for _, t := range []*table{pools, runners, templateTable(s.Templates, now), foreign, unused} {
		if len(t.rows) > 1 {
			fmt.Fprintln(p.out)
		}
		if err := t.write(p.out, style); err != nil {
			return err
		}
	}
	p.printReports(s.Reports)
	return p.printTroubles(s, now)
}

// templateTable says how old the templates are, and for how long their runners
// get jobs.
func templateTable(list []daemon.TemplateStatus, now time.Time) *table {
	t := newTable("template", "node", "vmid", "age", "runner", "gets jobs")
	for _, l := range list {
		old, jobs := "", "yes"
		if !l.Built.IsZero() {
			old = age(now.Sub(l.Built))
		}
		if !l.Ends.IsZero() {
			jobs = "until " + l.Ends.UTC().Format(time.DateOnly)
		}
		if l.Outdated != "" {
			jobs = "no: " + l.Outdated
		}
		t.row(l.Version, l.Node, strconv.Itoa(l.VMID), old, l.Runner, jobs)
	}
	return t
}

// printReports says what is told at GitHub, and why some is not.
func (p *program) printReports(reports []daemon.ReportStatus) {
	for i, r := range reports {
		if i == 0 {
			fmt.Fprintln(p.out)
		}
		if r.Off == "" {
			fmt.Fprintf(p.out, "told at GitHub: %s\n", r.What)
		} else {
			fmt.Fprintf(p.out, "not told at GitHub: %s: %s\n", r.What, r.Off)
		}
	}
}

func (p *program) printTroubles(s daemon.Status, now time.Time) error {
	style := styleOf(p.out)
	if s.Refused != "" {
		fmt.Fprintf(p.out, "\n%s a newer revision of the pools is not in force: %s\n", style.yellow("refused:"), s.Refused)
	}
	for _, t := range s.Troubles {
		again := ""
		if t.Next.After(now) {
			again = "; next try in " + age(t.Next.Sub(now))
		}
		fmt.Fprintf(p.out, "\n%s %s (for %s%s)\n", style.yellow("trouble:"), t.What, age(now.Sub(t.Since)), again)
		if t.Hint != "" {
			fmt.Fprintf(p.out, "%s %s\n", style.bold("hint:"), t.Hint)
		}
	}
	return nil
}

// phases says how many of a pool's runners are in which phase, busiest last as
// in a runner's life.
func phases(l daemon.PoolStatus) string {
	life := []string{"cloning", "spare", "smoke", "warm", "launching", "idle", "busy", "done"}
	names := slices.SortedFunc(maps.Keys(l.Phases), func(a, b string) int {
		return slices.Index(life, a) - slices.Index(life, b)
	})
	var parts []string
	for _, name := range names {
		if n := l.Phases[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, name))
		}
	}
	if l.Drained {
		parts = append(parts, "drained")
	}
	return strings.Join(parts, ", ")
}

// doing says what is being done to a runner, or what went wrong with it.
func doing(r daemon.RunnerStatus) string {
	if r.Pending == "" && r.Cause == "" && r.Drift != "" {
		return "not as its pool says"
	}
	if r.Pending != "" && r.Cause != "" {
		return r.Pending + ": " + r.Cause
	}
	return r.Pending + r.Cause
}

// short is a revision as people say it.
func short(revision string) string {
	if revision == "" {
		return "no revision yet"
	}
	return revision[:min(len(revision), 12)]
}

// number is empty for no number.
func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
