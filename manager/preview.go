package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/pools"
)

// foresee shows what would change with other pools.
func (p *program) foresee(ctx context.Context, what string) error {
	proposal := daemon.Proposal{Revision: what}
	if info, err := os.Stat(what); err == nil && info.IsDir() {
		files, _, err := pools.Files(what)
		if err != nil {
			return err
		}
		proposal = daemon.Proposal{Files: files}
	}
	preview, err := daemon.Dial(p.socket).Preview(ctx, proposal)
	if errors.Is(err, fleet.ErrNotFound) {
		return hinted{fmt.Errorf("plan %s: no folder here, and no revision where the pools come from", what), `name a branch, a tag, or a whole reference such as "refs/pull/12/head"`}
	}
	if err != nil {
		return err
	}
	if p.json {
		err = writeJSON(p.out, preview)
	} else {
		err = p.printPreview(preview)
	}
	switch {
	case err != nil:
		return err
	case !preview.Report.Valid:
		return fmt.Errorf("plan %s: %s", what, plural(preview.Report.ErrorCount, "error"))
	case !preview.Empty():
		return errNotice
	}
	return nil
}

func (p *program) printPreview(v daemon.Preview) error {
	style := styleOf(p.out)
	for _, d := range v.Report.Diagnostics {
		fmt.Fprintf(p.err, "%s %s%s: %s\n", style.yellow(d.Severity+":"), placeOf(d), d.Summary, d.Detail)
	}
	if !v.Report.Valid {
		return nil
	}
	if v.Empty() {
		_, err := fmt.Fprintf(p.out, "nothing would change; in force is %s\n", short(v.InForce))
		return err
	}
	for _, c := range v.Pools {
		fmt.Fprintf(p.out, "%s pool %s: %s\n", sign(c.Change), style.bold(c.Pool), c.Means)
		if now := phases(daemon.PoolStatus{Phases: c.Runners}); now != "" {
			fmt.Fprintf(p.out, "    runners now: %s\n", now)
		}
		p.printFields(c.Fields)
		for _, why := range c.Misfits {
			fmt.Fprintf(p.out, "    %s\n", style.yellow(why))
		}
	}
	for _, c := range v.Templates {
		fmt.Fprintf(p.out, "%s template %s: %s\n", sign(c.Change), style.bold(c.Template), c.Means())
		p.printFields(c.Fields)
	}
	if len(v.Limits) > 0 {
		fmt.Fprintln(p.out, "~ limits of all pools together")
		p.printFields(v.Limits)
	}
	for _, r := range v.Rolls {
		fmt.Fprintf(p.out, "~ roll-out of pool %s from %s to %s: %s%s\n", style.bold(r.Pool), orNothing(r.From), r.To, r.Reason, r.Wait())
		if r.Steps != "" {
			fmt.Fprintf(p.out, "    %s\n", r.Steps)
		}
	}
	if v.Needs != "" {
		fmt.Fprintf(p.out, "! %s\n", style.yellow(v.Needs))
	}
	if len(v.Actions) == 0 {
		return nil
	}
	fmt.Fprintln(p.out)
	t := newTable("action", "pool", "runner", "node", "reason")
	for _, a := range v.Actions {
		t.row(a.Kind, a.Pool, a.Runner, a.Node, a.Reason)
	}
	return t.write(p.out, style)
}

func (p *program) printFields(fields []daemon.FieldChange) {
	for _, f := range fields {
		fmt.Fprintf(p.out, "    %s: %s -> %s, %s\n", f.Name, orNothing(f.From), orNothing(f.To), f.Takes)
	}
}

func sign(change string) string {
	return map[string]string{"added": "+", "removed": "-"}[change] + map[string]string{"changed": "~"}[change]
}

func orNothing(text string) string {
	if strings.TrimSpace(text) == "" {
		return "nothing"
	}
	return text
}

// placeOf is where a diagnostic is.
func placeOf(d pools.Diagnostic) string {
	if d.Range == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d,%d: ", d.Range.Filename, d.Range.Start.Line, d.Range.Start.Column)
}
