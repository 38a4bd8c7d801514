package fleet

import (
	"cmp"
	"fmt"
	"slices"
)

// seen is a template as a pool sees it: one that does not suit the pool is as
// good as one that is too old.
func (q *Pool) seen(t Template) Template {
	t.Outdated = cmp.Or(t.Outdated, q.Misfit(t))
	return t
}

// Misfit says why a template does not suit the pool, though it may suit others;
// empty: it does.
func (q *Pool) Misfit(t Template) string {
	switch {
	case q.Size.DiskMiB > 0 && t.DiskMiB > q.Size.DiskMiB:
		return fmt.Sprintf("its disk has %d MiB, more than size.disk of the pool, %d, and disks only grow", t.DiskMiB, q.Size.DiskMiB)
	case t.NoEnv && len(q.Env) > 0:
		return "its guest is of a release without env, and would leave it out: bake a new version with this dayfly's plugin"
	}
	return ""
}

// Misfits lists the templates that the pool would use and that do not suit it,
// with why.
func (q *Pool) Misfits(all []Template) []string {
	var list []string
	for _, t := range all {
		if why := q.Misfit(t); why != "" && q.wants(t.Ref) && q.mayUse(t.Node) {
			list = append(list, fmt.Sprintf("template %s on %s is not used: %s", t.Ref, t.Node, why))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// muted reports whether guests of the pool's version would leave its
// environment out: one that is a spare already may not be launched either.
func (q *pool) muted() bool {
	return len(q.Env) > 0 && slices.ContainsFunc(q.replicas, func(t Template) bool { return t.NoEnv })
}
