package fleet

import (
	"slices"
	"strings"
)

// roll is what is known of a pool's roll-out; nil: nothing that counts.
func (c check) roll(pool string) *Rollout {
	var found *Rollout
	for i := range c.have.Rollouts {
		if r := &c.have.Rollouts[i]; r.Pool == pool {
			found = r
		}
	}
	if found == nil || found.Stable.Family == "" {
		return nil
	}
	return found
}

// allowed reports whether a pool may clone or launch a version now. What is not
// proven is for smoke boots and the jobs of its canary step alone.
func (c check) allowed(a Action, q *Pool, ref Ref) bool {
	roll := c.roll(q.Name)
	if roll == nil {
		return ref.Family == q.Template.Family && (q.Template.Version == "" || ref.Version == q.Template.Version)
	}
	if a.Kind == Clone && roll.bad(ref) != nil {
		return false
	}
	switch {
	case roll.Stage == Smoking && ref == roll.Candidate:
		return a.Kind == Clone && strings.HasPrefix(a.Reason, "smoke boot")
	case roll.Stage == Canarying && ref == roll.Candidate:
		return strings.HasPrefix(a.Reason, "job ") && c.canaries(q, roll) <= c.quota(q, roll) && (q.Max == 1 || c.unproven(q, roll) < q.Max)
	case roll.leads():
		return ref == roll.Candidate || ref == roll.Stable && strings.HasPrefix(a.Reason, "job ")
	}
	return ref == roll.Stable
}

func (c check) quota(q *Pool, roll *Rollout) int {
	step := q.step(roll)
	if step.AtOnce == 0 {
		return step.Jobs - roll.Now.Jobs
	}
	return min(step.Jobs-roll.Now.Jobs, step.AtOnce)
}

// unproven counts the candidates that have a job, or are to get one.
func (c check) unproven(q *Pool, roll *Rollout) int {
	n := 0
	for _, a := range c.actions {
		if a.Kind == Launch && a.Pool == q.Name && c.runner(a.Runner).Template == roll.Candidate {
			n++
		}
	}
	for i := range c.have.Runners {
		r := &c.have.Runners[i]
		if p := r.Phase(); r.Pool == q.Name && r.Template == roll.Candidate && (r.Scope == q.Scope || r.Scope == "") && p >= Launching && p <= Busy {
			n++
		}
	}
	return n
}

// canaries counts the candidates that are, or are about to be, on jobs: those
// that have one already only where a step bounds how many there are at once.
func (c check) canaries(q *Pool, roll *Rollout) int {
	n := 0
	for _, a := range c.actions {
		if a.Kind == Launch && a.Pool == q.Name && c.runner(a.Runner).Template == roll.Candidate {
			n++
		}
	}
	for i := range c.have.Runners {
		r := &c.have.Runners[i]
		if r.Pool != q.Name || r.Template != roll.Candidate || r.Scope != q.Scope && r.Scope != "" {
			continue
		}
		if p := r.Phase(); p == Launching || p == Idle || p == Busy && (q.step(roll).AtOnce > 0 || r.Took.IsZero() && r.Job == 0) {
			n++
		}
	}
	return n
}

// proof checks that a smoke boot is the one that a failing node gets, when it
// is not left alone any more.
func (c check) proof(a Action, q *Pool) bool {
	boots := 0
	for _, b := range c.actions {
		if b.Kind == Smoke && b.Node == a.Node {
			boots++
		}
	}
	alone := func(h Hold) bool {
		return h.Kind == None && h.Pool == "" && h.Node == a.Node && noon.Before(h.Until)
	}
	frail := func(n Node) bool { return n.Name == a.Node && n.Frail && !n.Blind && n.Online }
	return strings.HasPrefix(a.Reason, "smoke boot: node ") && boots == 1 && q.Roll.Smoke > 0 && !q.Drained &&
		slices.ContainsFunc(c.have.Nodes, frail) && !slices.ContainsFunc(c.have.Holds, alone)
}

// smoke checks that a smoke boot is one that the roll asks for, or that proves
// a node.
func (c check) smoke(a Action, r *Runner) {
	q, roll := c.pool(a.Pool), c.roll(a.Pool)
	if q != nil && strings.HasPrefix(a.Reason, "smoke boot: node ") {
		switch ref := r.Template; {
		case !c.proof(a, q):
			c.fail(a, "no node is to prove itself so")
		case roll != nil && ref != roll.Stable && (ref != roll.Candidate || !roll.leads()):
			c.fail(a, "not of a version that jobs get")
		case r.Phase() != Spare || r.used() || r.Registration != Unregistered || r.Container != Stopped:
			c.fail(a, "not a clean spare")
		}
		return
	}
	switch {
	case q == nil || q.Drained || roll == nil || roll.Stage != Smoking || r.Template != roll.Candidate:
		c.fail(a, "no smoke boot is asked for")
	case r.Phase() != Spare || r.used() || r.Registration != Unregistered || r.Container != Stopped:
		c.fail(a, "not a clean spare")
	}
	n := roll.Now.Boots
	for _, b := range c.actions {
		if b.Kind == Smoke && b.Pool == a.Pool && !strings.HasPrefix(b.Reason, "smoke boot: node ") {
			n++
		}
	}
	if n > q.Roll.Smoke {
		c.fail(a, "%d smoke boots of %d", n, q.Roll.Smoke)
	}
}
