package fleet

import (
	"fmt"
	"slices"
	"strings"
)

// shelf is the templates that a pool may use.
type shelf struct {
	m    *mover
	list []Template        // on its nodes
	torn map[string]string // versions that two templates claim → what is wrong
}

func (m *mover) shelve(q Pool) shelf {
	s := shelf{m: m, torn: map[string]string{}}
	for _, t := range m.have.Templates {
		if t.Family == q.Template.Family || m.known(q.Name, t.Ref) {
			if q.mayUse(t.Node) {
				s.list = append(s.list, q.seen(t))
			}
		}
	}
	s.compare()
	return s
}

// known reports whether a pool's roll-out knows a version, of whatever family.
func (m *mover) known(pool string, ref Ref) bool {
	return slices.ContainsFunc(m.have.Rollouts, func(r Rollout) bool {
		return r.Pool == pool && (r.Stable == ref || r.Candidate == ref)
	})
}

// compare finds the versions that two builds on one node claim. Replicas are
// copies of one build, and each node may have been built for by itself.
func (s *shelf) compare() {
	type place struct {
		node string
		ref  Ref
	}
	builds := map[place]Template{}
	for _, t := range s.list {
		at := place{t.Node, t.Ref}
		first, again := builds[at]
		switch {
		case !again || first.VMID > t.VMID:
			builds[at] = t
		}
		if again && t.Build != "" && first.Build != "" && t.Build != first.Build && !t.Copy && !first.Copy {
			s.torn[t.Ref.String()] = fmt.Sprintf("templates %d and %d on %s both claim to be %s",
				min(first.VMID, t.VMID), max(first.VMID, t.VMID), t.Node, t.Ref)
		}
	}
}

// has reports whether a version is there at all.
func (s shelf) has(ref Ref) bool {
	return slices.ContainsFunc(s.list, func(t Template) bool { return t.Ref == ref })
}

// outdated says why GitHub gives runners of a version no jobs.
func (s shelf) outdated(ref Ref) string {
	for _, t := range s.list {
		if t.Ref == ref && t.Outdated != "" {
			return t.Outdated
		}
	}
	return ""
}

// unfit says why a version may not be rolled to yet: on no node are there the
// replicas that the pool asks for, free to be cloned.
func (s shelf) unfit(q Pool, ref Ref) string {
	count, locked := map[string]int{}, map[string]bool{}
	for _, t := range s.list {
		if t.Ref == ref && s.m.online[t.Node] {
			count[t.Node]++
			locked[t.Node] = locked[t.Node] || t.Locked
		}
	}
	best := 0
	for node, n := range count {
		if n >= max(1, q.Replicas) && (!locked[node] || n > 1) {
			return ""
		}
		best = max(best, n)
	}
	switch {
	case best == 0:
		return fmt.Sprintf("no node that answers has template %s", ref)
	case best < q.Replicas:
		return fmt.Sprintf("no node has %d replicas of %s, the best one has %d", q.Replicas, ref, best)
	}
	return fmt.Sprintf("template %s is locked", ref)
}

// wants reports whether the pool asks for a version, by pin or constraint.
func (q Pool) wants(ref Ref) bool {
	pin := q.Template.Version
	return ref.Family == q.Template.Family && (pin == "" || pin == ref.Version) && q.Follow.Allows(ref.Version)
}

// refuses says why a version that a pool asks for may not be rolled to.
func (s shelf) refuses(r *Rollout, t Template) string {
	switch v := r.bad(t.Ref); {
	case v != nil:
		return fmt.Sprintf("%s is bad: %s", t.Ref, v.Reason)
	case t.Outdated != "":
		return fmt.Sprintf("%s is not used: %s", t.Ref, t.Outdated)
	}
	return s.torn[t.Ref.String()]
}

// target is the version that the pool wants and may have: the newest one that
// nothing is wrong with. It is the stable one unless another is newer, or the
// stable one is not asked for any more, or serves no jobs.
func (v *roll) target() Ref {
	var best Ref
	kept := false
	for _, t := range v.at.list {
		if !v.q.wants(t.Ref) || t.Ref != v.Stable && v.at.refuses(v.Rollout, t) != "" {
			continue
		}
		kept = kept || t.Ref == v.Stable && v.dead(v.Stable) == ""
		if t.Ref != v.Stable && (best.Family == "" || Newer(t.Version, best.Version)) {
			best = t.Ref
		}
	}
	if kept && (best.Family == "" || Newer(v.Stable.Version, best.Version)) {
		return v.Stable
	}
	return best
}

// note says what keeps the pool from a version that it would want.
func (s shelf) note(r *Rollout) string {
	var notes []string
	for _, t := range s.list {
		if why := s.refuses(r, t); why != "" && (t.Ref == r.Stable || Newer(t.Version, r.Stable.Version)) {
			notes = append(notes, why)
		}
	}
	if r.Rest.After(s.m.now) {
		notes = append(notes, fmt.Sprintf("runners of %s listen and get no job: GitHub may serve their version no longer", r.Stable))
	}
	slices.Sort(notes)
	notes = slices.Compact(notes)
	return strings.Join(notes, "; ")
}
