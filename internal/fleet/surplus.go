package fleet

import (
	"cmp"
	"slices"
)

// Surplus lists, by pool, the templates of older versions that may be removed:
// more than the pool keeps, not pinned, not in use by any pool's roll-out, and
// without a container that was cloned from them. dayfly has no right to remove
// one; who does is told.
func Surplus(want Desired, have Observed) map[string][]Template {
	kept := map[Ref]bool{}
	for _, q := range want.Pools {
		if q.Template.Version != "" {
			kept[q.Template] = true
		}
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
		i := slices.IndexFunc(have.Rollouts, func(r Rollout) bool { return r.Pool == q.Name })
		if i < 0 || have.Rollouts[i].Stable.Family != q.Template.Family {
			continue
		}
		if list := q.surplus(&have.Rollouts[i], have.Templates, kept); len(list) > 0 {
			out[q.Name] = list
		}
	}
	return out
}

// surplus lists the templates older than the stable version that are beyond
// those to keep.
func (q Pool) surplus(r *Rollout, all []Template, kept map[Ref]bool) []Template {
	var old []Template
	versions := map[string]bool{}
	for _, t := range all {
		if t.Family == q.Template.Family && Newer(r.Stable.Version, t.Version) {
			old = append(old, t)
			versions[t.Version] = true
		}
	}
	list := make([]string, 0, len(versions))
	for v := range versions {
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b string) int {
		if Newer(a, b) {
			return -1
		}
		return 1
	})
	gone := map[string]bool{}
	for _, v := range list[min(q.Keep, len(list)):] {
		gone[v] = true
	}
	old = slices.DeleteFunc(old, func(t Template) bool { return !gone[t.Version] || kept[t.Ref] })
	slices.SortFunc(old, func(a, b Template) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.VMID, b.VMID)) })
	return old
}
