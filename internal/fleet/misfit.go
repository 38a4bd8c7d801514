package fleet

import (
	"cmp"
	"slices"
)

// seen is a template as a pool sees it: one that does not suit the pool is as
// good as one that is too old.
func (q Pool) seen(t Template) Template {
	t.Outdated = cmp.Or(t.Outdated, q.Misfit(t))
	return t
}

// Misfit says why a template does not suit the pool, though it may suit others;
// empty: it does.
func (q Pool) Misfit(t Template) string {
	if t.NoEnv && len(q.Env) > 0 {
		return "its guest is of a release without env, and would leave it out: bake a new version with this dayfly's plugin"
	}
	return ""
}

// muted reports whether guests of the pool's version would leave its
// environment out: one that is a spare already may not be launched either.
func (q *pool) muted() bool {
	return len(q.Env) > 0 && slices.ContainsFunc(q.replicas, func(t Template) bool { return t.NoEnv })
}
