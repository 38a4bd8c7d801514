package daemon

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Wait says in words that a roll waits for its pool's window; empty: it does not.
func (r RollPlan) Wait() string {
	if r.Opens.IsZero() {
		return ""
	}
	return "; its window opens " + r.Opens.UTC().Format("2006-01-02 15:04Z")
}

// Means says in words what a change of a template block reaches.
func (t TemplateChange) Means() string {
	switch {
	case t.Change == "removed":
		return "no pool uses it any more"
	case len(t.Pools) == 0:
		return "no pool uses it"
	}
	return "used by pool " + strings.Join(t.Pools, ", ")
}

func writeFields(b *strings.Builder, fields []FieldChange) {
	for _, f := range fields {
		fmt.Fprintf(b, "  - `%s`: `%s` → `%s`, %s\n", f.Name, cmp.Or(f.From, "nothing"), cmp.Or(f.To, "nothing"), f.Takes)
	}
}

// markdown is the preview for a page at GitHub.
func (p Preview) markdown() string {
	switch {
	case !p.Report.Valid:
		return "These pool files would be refused, and the pools in force stay as they are."
	case p.Empty():
		return "Nothing would change."
	}
	var b strings.Builder
	for _, c := range p.Pools {
		fmt.Fprintf(&b, "- pool `%s` is %s: %s\n", c.Pool, c.Change, c.Means)
		for _, phase := range slices.Sorted(maps.Keys(c.Runners)) {
			fmt.Fprintf(&b, "  - %d %s now\n", c.Runners[phase], phase)
		}
		writeFields(&b, c.Fields)
		for _, why := range c.Misfits {
			fmt.Fprintf(&b, "  - %s\n", why)
		}
	}
	for _, t := range p.Templates {
		fmt.Fprintf(&b, "- template `%s` is %s: %s\n", t.Template, t.Change, t.Means())
		writeFields(&b, t.Fields)
	}
	if len(p.Limits) > 0 {
		b.WriteString("- limits of all pools together are changed\n")
		writeFields(&b, p.Limits)
	}
	for _, r := range p.Rolls {
		fmt.Fprintf(&b, "- roll-out of pool `%s` from `%s` to `%s`: %s%s\n", r.Pool, r.From, r.To, r.Reason, r.Wait())
		if r.Steps != "" {
			fmt.Fprintf(&b, "  - %s\n", r.Steps)
		}
	}
	if p.Needs != "" {
		fmt.Fprintf(&b, "- **%s**\n", p.Needs)
	}
	if len(p.Actions) > 0 {
		b.WriteString("\nAt once:\n\n")
	}
	for _, a := range p.Actions {
		fmt.Fprintf(&b, "- %s of pool `%s`: %s\n", a.Kind, a.Pool, a.Reason)
	}
	return b.String()
}
