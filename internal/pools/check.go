package pools

import (
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// unused warns of what is written and has no effect.
func (r *reader) unused(t templates, pools []*pool, at *hcl.Block, defaults *poolBody, used map[*hcl.Attribute]bool) {
	wanted := map[string]bool{}
	for _, p := range pools {
		wanted[p.uses()] = true
	}
	for _, name := range sortedKeys(t.at) {
		if !wanted[name] {
			at := t.at[name]
			r.report(caution(&at, "Unused template", "No pool uses template %q.", name))
		}
	}
	if at == nil {
		return
	}
	v := reflect.ValueOf(defaults).Elem()
	eachField(v, v, func(_ reflect.StructTag, a, _ reflect.Value) {
		if attr := a.Interface().(*hcl.Attribute); attr != nil && !used[attr] {
			r.report(caution(&attr.NameRange, "Unused default", "Every pool has its own %s, or there is no pool.", attr.Name))
		}
	})
}

// together checks pools against each other and against the limits.
func (r *reader) together(pools []*pool, out fleet.Desired) {
	spares := 0
	twins := map[string]string{}
	for i, p := range pools {
		made := out.Pools[i]
		spares += made.Spare
		r.reachable(p, made, out.Limits)
		r.hosted(p, made)
		key := strings.ToLower(string(made.Scope) + "\n" + made.Group + "\n" + strings.Join(slices.Sorted(slices.Values(made.Labels)), "\n"))
		if twin, ok := twins[key]; ok && len(made.Labels) > 0 {
			r.report(caution(&p.at, "Same labels twice",
				"Pool %q has the scope and labels of pool %q: GitHub gives a job to either.", p.name, twin))
		}
		twins[key] = p.name
	}
	if limit := out.Limits.Max; limit > 0 && spares > limit {
		at := pools[len(pools)-1].at
		r.report(problem(&at, "Too many spares",
			"All pools together want %d spares, and limits allow %d containers: the rest could never be made.", spares, limit))
	}
}

// reachable warns of a max that other limits make impossible.
func (r *reader) reachable(p *pool, made fleet.Pool, limits fleet.Limits) {
	if !r.good(p.body.Scale.Max) {
		return
	}
	at := p.body.Scale.Max.Expr.Range()
	if limits.Max > 0 && made.Max > limits.Max {
		r.report(caution(&at, "Out of reach",
			"Pool %q: max is %d, but limits allow %d containers of all pools.", p.name, made.Max, limits.Max))
	}
	perNode := made.PerNode
	if limits.PerNode > 0 && (perNode == 0 || perNode > limits.PerNode) {
		perNode = limits.PerNode
	}
	if room := perNode * len(made.Nodes); room > 0 && made.Max > room {
		r.report(caution(&at, "Out of reach",
			"Pool %q: max is %d, but its nodes have room for %d (nodes: %d, containers on each: %d).",
			p.name, made.Max, room, len(made.Nodes), perNode))
	}
	if b := p.body.Placement.MaxPerNode; r.good(b) && limits.PerNode > 0 && made.PerNode > limits.PerNode {
		at := b.Expr.Range()
		r.report(caution(&at, "Out of reach",
			"Pool %q: max_per_node is %d, but limits allow %d on one node.", p.name, made.PerNode, limits.PerNode))
	}
}

// hosted warns of labels of GitHub's own runners: jobs that name one go to
// GitHub's machines as well.
func (r *reader) hosted(p *pool, made fleet.Pool) {
	for i, label := range made.Labels {
		l := strings.ToLower(label)
		for _, own := range []string{"ubuntu-latest", "windows-latest", "macos-latest"} {
			if l == own {
				at := elementRange(p.body.Labels.Expr, i)
				r.report(caution(&at, "Label of GitHub's own runners",
					"Jobs that run on %q may be meant for GitHub's machines.", label))
			}
		}
	}
}
