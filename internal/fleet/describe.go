package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

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

// which says which versions of a family are used.
func which(r Ref, c Constraint) string { return cmp.Or(r.Version, c.String(), "newest") }

// described is all of a template block in words; a test holds that no field is
// left out.
func (t TemplateBlock) described() []Field {
	return []Field{
		{"family", "", t.Family, ByRoll},
		{"version", "", which(t.Ref, t.Follow), ByRoll},
		{"keep", "", text(t.Keep), AtOnce},
		{"replicas", "", text(t.Replicas), AtOnce},
		{"max_age", "", text(t.MaxAge), AtOnce},
	}
}

// described is all limits in words; a test holds that none is left out.
func (l Limits) described() []Field {
	limit := func(n int) string { return map[bool]string{true: fmt.Sprint(n), false: "no limit"}[n > 0] }
	return []Field{
		{"max", "", limit(l.Max), AtOnce},
		{"per_node", "", limit(l.PerNode), AtOnce},
		{"node_tasks", "", limit(l.NodeTasks), AtOnce},
		{"storage_tasks", "", limit(l.StoreTasks), AtOnce},
	}
}

// described is all of a pool in words; a test holds that no field is left out.
func (p Pool) described() []Field {
	set := func(list []string) string { return strings.Join(slices.Sorted(slices.Values(list)), " ") }
	return append([]Field{
		{"scope", "", string(p.Scope), NewRunners},
		{"group", "", p.Group, NewRunners},
		{"labels", "", set(p.Labels), NewRunners},
		{"template", "", p.Template.Family + " " + which(p.Template, p.Follow), ByRoll},
		{"max_age", "", text(p.MaxAge), AtOnce},
		{"keep", "", text(p.Keep), AtOnce},
		{"replicas", "", text(p.Replicas), AtOnce},
		{"max", "", text(p.Max), AtOnce},
		{"spare", "", text(p.Spare), AtOnce},
		{"warm", "", text(p.Warm), AtOnce},
		{"schedule", "", joined(p.Schedules, Schedule.words), AtOnce},
		{"nodes", "", set(p.Nodes), AtOnce},
		{"strategy", "", map[bool]string{true: "pack", false: "spread"}[p.Pack], AtOnce},
		{"reserve.memory", "", text(p.Reserve.MemoryMiB) + " MiB", AtOnce},
		{"reserve.cores", "", text(p.Reserve.Cores), AtOnce},
		{"reserve.storage", "", text(p.Reserve.StorageMiB) + " MiB", AtOnce},
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
	}, p.Roll.described()...)
}

// described is a pool's rollout block in words.
func (r Rolling) described() []Field {
	return []Field{
		{"rollout.smoke", "", text(r.Smoke), AtOnce},
		{"rollout.wait", "", text(r.Wait), AtOnce},
		{"rollout.canary", "", joined(r.Canary, Canary.words), AtOnce},
		{"rollout.bake", "", text(r.Bake), AtOnce},
		{"rollout.max_infra_failures", "", text(r.MaxFailures), AtOnce},
		{"rollout.max_boot_time_increase", "", text(r.MaxSlower) + "%", AtOnce},
		{"rollout.progress_deadline", "", text(r.Deadline), AtOnce},
		{"rollout.on_failure", "", map[bool]string{true: "pause", false: "rollback"}[r.Pause], AtOnce},
		{"rollout.window", "", joined(r.Windows, Window.words), AtOnce},
	}
}

// Steps says in words which way a version goes.
func (r Rolling) Steps() string {
	var steps []string
	if r.Smoke > 0 {
		steps = append(steps, fmt.Sprintf("smoke boots: %d", r.Smoke))
	}
	for _, c := range r.Canary {
		steps = append(steps, "canary: "+c.words())
	}
	steps = append(steps, "all")
	if r.Bake > 0 {
		steps = append(steps, "bake for "+text(r.Bake))
	}
	return strings.Join(steps, "; ")
}

// text is a value in words, a duration without its zeros: "24h".
func text(v any) string {
	s := fmt.Sprint(v)
	if _, ok := v.(time.Duration); !ok {
		return s
	}
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// joined is a list in words.
func joined[T any](list []T, words func(T) string) string {
	parts := make([]string, len(list))
	for i, one := range list {
		parts[i] = words(one)
	}
	return strings.Join(parts, "; ")
}

func (w Window) words() string {
	var days []string
	for day, on := range w.Days {
		if on {
			days = append(days, strings.ToLower(time.Weekday(day).String()[:3]))
		}
	}
	zone := "UTC"
	if w.Zone != nil {
		zone = w.Zone.String()
	}
	from := w.From / time.Minute
	return fmt.Sprintf("%s %02d:%02d %s for %s", strings.Join(days, " "), from/60, from%60, zone, text(w.For))
}

func (s Schedule) words() string { return fmt.Sprintf("%s: %d warm", s.Window.words(), s.Warm) }

func (c Canary) words() string {
	words := text(c.Jobs) + " jobs"
	if c.Percent > 0 && c.Percent < 100 {
		words += fmt.Sprintf(", %d%% of all", c.Percent)
	}
	if c.AtOnce > 0 {
		words += fmt.Sprintf(", %d at a time", c.AtOnce)
	}
	return words
}
