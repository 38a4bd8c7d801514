package fleet

import (
	"cmp"
	"slices"
)

// When a change of a pool takes effect.
const (
	AtOnce     = "at once"
	NewRunners = "for runners registered from then on"
	NewClones  = "for new containers; spares are replaced one by one"
	ByRoll     = "by a roll-out"
)

// Change is what becomes of one pool, or of one template block, when another
// configuration comes into force.
type Change struct {
	Name           string
	Added, Removed bool // neither: it is changed
	Fields         []Field
}

// Field is one thing that changes.
type Field struct {
	Name, From, To string
	Takes          string // when it takes effect
}

// Compare lists the pools that differ, by name.
func Compare(old, now Desired) []Change {
	return changes(old.Pools, now.Pools, func(p Pool) string { return p.Name }, Pool.described)
}

// CompareTemplates lists the template blocks that differ, by name. What they
// mean for a pool is among the pool's own changes.
func CompareTemplates(old, now Desired) []Change {
	return changes(old.Templates, now.Templates, func(t TemplateBlock) string { return t.Name }, TemplateBlock.described)
}

// CompareLimits lists what differs about the bounds of all pools together.
func CompareLimits(old, now Limits) []Field { return differs(old.described(), now.described()) }

// changes compares two lists of what has a name.
func changes[T any](old, now []T, name func(T) string, described func(T) []Field) []Change {
	var list []Change
	in := func(all []T, one T) int {
		return slices.IndexFunc(all, func(other T) bool { return name(other) == name(one) })
	}
	for _, was := range old {
		i := in(now, was)
		if i < 0 {
			list = append(list, Change{Name: name(was), Removed: true})
			continue
		}
		if fields := differs(described(was), described(now[i])); len(fields) > 0 {
			list = append(list, Change{Name: name(was), Fields: fields})
		}
	}
	for _, is := range now {
		if in(old, is) < 0 {
			list = append(list, Change{Name: name(is), Added: true})
		}
	}
	slices.SortFunc(list, func(a, b Change) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// differs lists what is not the same in two descriptions of one kind.
func differs(was, is []Field) []Field {
	var fields []Field
	for i := range was {
		if was[i].To != is[i].To {
			fields = append(fields, Field{was[i].Name, was[i].To, is[i].To, is[i].Takes})
		}
	}
	return fields
}
