package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// When a change of a pool takes effect.
const (
	AtOnce     = "at once"
	NewRunners = "for runners registered from then on"
	NewClones  = "for new containers; spares are replaced one by one"
	ByRoll     = "by a roll-out"
)

// Change is what becomes of one pool when another configuration comes into
// force.
type Change struct {
	Pool           string
	Added, Removed bool // neither: it is changed
	Fields         []Field
}

// Field is one thing about a pool that changes.
type Field struct {
	Name, From, To string
	Takes          string // when it takes effect
}

// Compare lists the pools that differ, by name.
func Compare(old, now Desired) []Change {
	var changes []Change
	for _, p := range old.Pools {
		i := slices.IndexFunc(now.Pools, func(q Pool) bool { return q.Name == p.Name })
		if i < 0 {
			changes = append(changes, Change{Pool: p.Name, Removed: true})
			continue
		}
		if fields := p.differs(now.Pools[i]); len(fields) > 0 {
			changes = append(changes, Change{Pool: p.Name, Fields: fields})
		}
	}
	for _, q := range now.Pools {
		if !slices.ContainsFunc(old.Pools, func(p Pool) bool { return p.Name == q.Name }) {
			changes = append(changes, Change{Pool: q.Name, Added: true})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Pool, b.Pool) })
	return changes
}

// differs lists what is not the same in q.
func (p Pool) differs(q Pool) []Field {
	was, is := p.described(), q.described()
	var fields []Field
	for i := range was {
		if was[i].To != is[i].To {
			fields = append(fields, Field{was[i].Name, was[i].To, is[i].To, is[i].Takes})
		}
	}
	return fields
}

const asInTemplate = "as in the template"

// orTemplate is an amount, of which -1 is none at all.
func orTemplate(n int, unit string) string {
	switch n {
	case 0:
		return asInTemplate
	case -1:
		return "none"
	}
	return fmt.Sprint(n, unit)
}

// described is all of a pool in words; a test holds that no field is left out.
func (p Pool) described() []Field {
	text := func(v any) string { return fmt.Sprint(v) }
	set := func(list []string) string { return strings.Join(slices.Sorted(slices.Values(list)), " ") }
	version := cmp.Or(p.Template.Version, p.Follow.String(), "newest")
	return []Field{
		{"scope", "", string(p.Scope), NewRunners},
		{"group", "", p.Group, NewRunners},
		{"labels", "", set(p.Labels), NewRunners},
		{"template", "", p.Template.Family + " " + version, ByRoll},
		{"max_age", "", text(p.MaxAge), AtOnce},
		{"keep", "", text(p.Keep), AtOnce},
		{"replicas", "", text(p.Replicas), AtOnce},
		{"rollout", "", fmt.Sprintf("%+v", p.Roll), AtOnce},
		{"max", "", text(p.Max), AtOnce},
		{"spare", "", text(p.Spare), AtOnce},
		{"warm", "", text(p.Warm), AtOnce},
		{"schedules", "", fmt.Sprintf("%+v", p.Schedules), AtOnce},
		{"nodes", "", set(p.Nodes), AtOnce},
		{"strategy", "", map[bool]string{true: "pack", false: "spread"}[p.Pack], AtOnce},
		{"reserve", "", fmt.Sprintf("%+v", p.Reserve), AtOnce},
		{"max_per_node", "", text(p.PerNode), AtOnce},
		{"enabled", "", text(!p.Drained), AtOnce},
		{"access.repos", "", set(p.Access.Repos), AtOnce},
		{"access.workflows", "", set(p.Access.Workflows), AtOnce},
		{"access.events", "", set(p.Access.Events), AtOnce},
		{"access.public", "", text(p.Access.Public), AtOnce},
		{"access.forks", "", text(p.Access.Forks), AtOnce},
		{"size.cores", "", orTemplate(p.Size.Cores, ""), NewClones},
		{"size.memory", "", orTemplate(p.Size.MemoryMiB, " MiB"), NewClones},
		{"size.swap", "", orTemplate(p.Size.SwapMiB, " MiB"), NewClones},
		{"size.disk", "", orTemplate(p.Size.DiskMiB, " MiB"), NewClones},
		{"size.cpu_units", "", orTemplate(p.Size.CPUUnits, ""), NewClones},
		{"network.bridge", "", cmp.Or(p.Network.Bridge, asInTemplate), NewClones},
		{"network.vlan", "", text(p.Network.VLAN), NewClones},
		{"network.firewall", "", text(p.Network.Firewall), NewClones},
		{"network.egress", "", text(p.Egress.Policy), NewClones},
		{"network.allow", "", p.Egress.allowed(), NewClones},
		{"env", "", strings.Join(p.Env.Lines(), " "), NewRunners},
		{"timeouts.clone", "", text(p.Timeouts.Clone), AtOnce},
		{"timeouts.launch", "", text(p.Timeouts.Launch), AtOnce},
		{"timeouts.register", "", text(p.Timeouts.Register), AtOnce},
		{"timeouts.warm", "", text(p.Timeouts.Warm), AtOnce},
		{"timeouts.idle", "", text(p.Timeouts.Idle), AtOnce},
		{"timeouts.job", "", text(p.Timeouts.Job), AtOnce},
		{"retry.lost_jobs", "", text(p.Reruns), AtOnce},
		{"retry.attempts", "", text(p.Retry.Attempts), AtOnce},
		{"retry.backoff", "", text(p.Retry.Min) + ".." + text(p.Retry.Max), AtOnce},
	}
}
