package fleet

import (
	"cmp"
	"slices"
)

// Surplus lists, by pool, the templates of older versions that may be removed:
// more than any pool of their family keeps, not pinned, not in use by any pool's
// roll-out, and without a container that was cloned from them. dayfly has no right
// to remove one; who does is told.
func Surplus(want Desired, have Observed) map[string][]Template {
	kept := map[Ref]bool{}
	older := map[string][]string{}
	for _, q := range want.Pools {
		if q.Template.Version != "" {
			kept[q.Template] = true
		}
		i := slices.IndexFunc(have.Rollouts, func(r Rollout) bool { return r.Pool == q.Name })
		if i < 0 || have.Rollouts[i].Stable.Family != q.Template.Family {
			continue
		}
		list := olderThan(have.Rollouts[i].Stable, have.Templates)
		for _, v := range list[:min(q.Keep, len(list))] {
			kept[Ref{q.Template.Family, v}] = true
		}
		older[q.Name] = list
	}
	for _, r := range have.Rollouts {
		kept[r.Stable], kept[r.Candidate] = true, true
	}
	for i := range have.Runners {
		if r := &have.Runners[i]; r.Container != Absent {
			kept[r.Template] = true
		}
	}
	out := map[string][]Template{}
	for _, q := range want.Pools {
		var list []Template
		for _, t := range have.Templates {
			if t.Family == q.Template.Family && slices.Contains(older[q.Name], t.Version) && !kept[t.Ref] {
				list = append(list, t)
			}
		}
		if len(list) > 0 {
			slices.SortFunc(list, func(a, b Template) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.VMID, b.VMID)) })
			out[q.Name] = list
		}
	}
	return out
}

// olderThan lists the versions of a family that are older than one of them, the
// newest first.
func olderThan(ref Ref, all []Template) []string {
	var list []string
	for _, t := range all {
		if t.Family == ref.Family && Newer(ref.Version, t.Version) && !slices.Contains(list, t.Version) {
			list = append(list, t.Version)
		}
	}
	slices.SortFunc(list, func(a, b string) int {
		if Newer(a, b) {
			return -1
		}
		return 1
	})
	return list
}
