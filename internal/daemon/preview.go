package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/pools"
)

// Proposal is what POST /v1/preview takes: pool files, or a revision of where
// the pools come from.
type Proposal struct {
	Revision string            `json:"revision,omitempty"`
	Files    map[string][]byte `json:"files,omitempty"`
}

// Preview is what would change if a proposal came into force now.
type Preview struct {
	InForce  string       `json:"in_force"` // revision
	Proposed string       `json:"proposed"` // revision; empty for files
	Report   pools.Report `json:"report"`   // what is wrong, or doubtful; when it is not valid there is nothing else
	Pools    []PoolChange `json:"pools"`
	Actions  []ActionPlan `json:"actions"` // that there would be now, beside those there are anyway
	Rolls    []RollPlan   `json:"rollouts"`

	Templates []TemplateChange `json:"templates"` // blocks of the pool files
	Limits    []FieldChange    `json:"limits"`    // of all pools together

	Needs string `json:"needs,omitempty"` // what a commit must say to bring it into force
}

// PoolChange is a pool that is added, removed or changed.
type PoolChange struct {
	Pool    string         `json:"pool"`
	Change  string         `json:"change"` // "added", "removed" or "changed"
	Fields  []FieldChange  `json:"fields"`
	Runners map[string]int `json:"runners"` // that it has now, by phase
	Means   string         `json:"means"`   // for them
	Misfits []string       `json:"misfits"` // templates that the pool would use and that do not suit it, and why
}

// TemplateChange is a template block that is added, removed or changed. What it
// means for the pools that use it is among their changes.
type TemplateChange struct {
	Template string        `json:"template"`
	Change   string        `json:"change"` // "added", "removed" or "changed"
	Fields   []FieldChange `json:"fields"`
	Pools    []string      `json:"pools"` // that would use it
}

// FieldChange is one thing that changes, and when the change takes effect.
type FieldChange struct {
	Name  string `json:"name"`
	From  string `json:"from"`
	To    string `json:"to"`
	Takes string `json:"takes"`
}

// RollPlan is a roll-out that would begin.
type RollPlan struct {
	Pool   string `json:"pool"`
	From   string `json:"from"`
	To     string `json:"to"`
	Reason string `json:"reason"`
	Steps  string `json:"steps"` // in words

	Opens time.Time `json:"opens,omitzero"` // when its first step may begin, if the pool's window is closed now
}

// Empty reports whether nothing would change.
func (p Preview) Empty() bool {
	return len(p.Pools)+len(p.Templates)+len(p.Limits)+len(p.Actions)+len(p.Rolls) == 0
}

// maxProposal is more than pool files can have, in base64.
const maxProposal = 4 << 20

func (d *Daemon) preview(r *http.Request) (Preview, error) {
	var p Proposal
	body, err := io.ReadAll(io.LimitReader(r.Body, maxProposal+1))
	if err == nil && len(body) > maxProposal {
		err = fmt.Errorf("more than %d bytes", maxProposal)
	}
	if err == nil {
		err = json.Unmarshal(body, &p)
	}
	if err == nil && (p.Revision == "") == (p.Files == nil) {
		err = errors.New("a proposal is a revision or files")
	}
	if err != nil {
		return Preview{}, errors.Join(errBadRequest, err)
	}
	if p.Files != nil {
		desired, diags := pools.Parse(p.Files)
		return d.foresee(r.Context(), pools.Set{Desired: desired}, diags)
	}
	return d.foreseeRevision(r.Context(), p.Revision)
}

// foreseeRevision previews a revision of the source.
func (d *Daemon) foreseeRevision(ctx context.Context, revision string) (Preview, error) {
	bound, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	set, err := d.cfg.Source.At(bound, revision)
	var invalid *pools.Invalid
	switch {
	case errors.As(err, &invalid):
		return d.foresee(ctx, pools.Set{Revision: invalid.Revision}, invalid.Diagnostics)
	case errors.Is(err, fleet.ErrInvalid):
		return Preview{}, errors.Join(errBadRequest, err)
	case err != nil:
		return Preview{}, err
	}
	return d.foresee(ctx, set, set.Warnings)
}

func (d *Daemon) foresee(ctx context.Context, set pools.Set, diags pools.Diagnostics) (Preview, error) {
	return ask(ctx, d, func(s *state) Preview {
		out := Preview{
			InForce: s.inForce.Revision, Proposed: set.Revision, Report: diags.Report(),
			Pools: []PoolChange{}, Actions: []ActionPlan{}, Rolls: []RollPlan{}, Templates: []TemplateChange{}, Limits: []FieldChange{},
		}
		if out.Report.Valid {
			d.compare(s, set.Desired, &out)
		}
		return out
	})
}

// compare lays out what another configuration would change.
func (d *Daemon) compare(s *state, next fleet.Desired, out *Preview) {
	o, now := d.observed(), time.Now()
	d.complete(&next.Limits) // what the files leave open is as now
	if strings.HasPrefix(d.cfg.Source.String(), "git ") {
		out.Needs = pools.MassRemoval(s.desired, next)
	}
	out.Limits = fieldChanges(fleet.CompareLimits(s.desired.Limits, next.Limits))
	for _, c := range fleet.CompareTemplates(s.desired, next) {
		out.Templates = append(out.Templates, templateChange(c, next))
	}
	for _, c := range fleet.Compare(s.desired, next) {
		change := poolChange(c, o.Runners)
		if i := slices.IndexFunc(next.Pools, func(p fleet.Pool) bool { return p.Name == c.Name }); i >= 0 {
			change.Misfits = append(change.Misfits, next.Pools[i].Misfits(o.Templates)...)
		}
		out.Pools = append(out.Pools, change)
	}
	out.Actions = append(out.Actions, further(s.desired, next, o, now)...)
	out.Rolls = append(out.Rolls, rollPlans(next, o, now)...)
}

// further lists what would be done beside what is done anyway.
func further(desired, next fleet.Desired, o fleet.Observed, now time.Time) []ActionPlan {
	var list []ActionPlan
	is, _ := fleet.Plan(desired, o, now)
	would, _ := fleet.Plan(next, o, now)
	for _, a := range would {
		same := func(b fleet.Action) bool {
			return a.Kind == b.Kind && a.Pool == b.Pool && (a.Runner == b.Runner || a.Kind == fleet.Clone)
		}
		if i := slices.IndexFunc(is, same); i >= 0 {
			is = slices.Delete(is, i, i+1)
			continue
		}
		list = append(list, actionPlan(a))
	}
	return list
}

// rollPlans lists the roll-outs that would begin.
func rollPlans(next fleet.Desired, o fleet.Observed, now time.Time) []RollPlan {
	var list []RollPlan
	rolls, _ := fleet.Roll(next, o, now)
	for _, r := range rolls {
		was := slices.IndexFunc(o.Rollouts, func(old fleet.Rollout) bool { return old.Pool == r.Pool })
		if !r.Rolls() || r.Candidate == (fleet.Ref{}) || was >= 0 && o.Rollouts[was].Candidate == r.Candidate {
			continue
		}
		plan := RollPlan{Pool: r.Pool, From: r.Stable.String(), To: r.Candidate.String(), Reason: r.Reason}
		if i := slices.IndexFunc(next.Pools, func(p fleet.Pool) bool { return p.Name == r.Pool }); i >= 0 {
			plan.Opens, plan.Steps = next.Pools[i].Roll.Opens(now), next.Pools[i].Roll.Steps()
		}
		list = append(list, plan)
	}
	return list
}

func fieldChanges(fields []fleet.Field) []FieldChange {
	list := make([]FieldChange, 0, len(fields))
	for _, f := range fields {
		list = append(list, FieldChange(f))
	}
	return list
}

// word is "added", "removed" or "changed".
func word(c fleet.Change) string {
	switch {
	case c.Added:
		return "added"
	case c.Removed:
		return "removed"
	}
	return "changed"
}

func templateChange(c fleet.Change, next fleet.Desired) TemplateChange {
	out := TemplateChange{Template: c.Name, Change: word(c), Fields: fieldChanges(c.Fields), Pools: []string{}}
	for _, t := range next.Templates {
		if t.Name == c.Name {
			out.Pools = append(out.Pools, t.Pools...)
		}
	}
	return out
}

func poolChange(c fleet.Change, runners []fleet.Runner) PoolChange {
	out := PoolChange{Pool: c.Name, Change: word(c), Fields: fieldChanges(c.Fields), Runners: map[string]int{}, Misfits: []string{}}
	for _, r := range runners {
		if phase := r.Phase(); r.Pool == c.Name && phase != fleet.Gone {
			out.Runners[phase.String()]++
		}
	}
	clones := slices.ContainsFunc(c.Fields, func(f fleet.Field) bool { return f.Takes == fleet.NewClones })
	switch {
	case c.Added:
		out.Means = "containers are made when jobs or spares ask for them"
	case c.Removed:
		out.Means = "running jobs end, no new runner starts, spares are destroyed"
	case clones:
		out.Means = "running jobs go on as they are, spares are replaced one by one"
	default:
		out.Means = "running jobs go on as they are"
	}
	return out
}

func actionPlan(a fleet.Action) ActionPlan {
	return ActionPlan{
		Kind: a.Kind.String(), Pool: a.Pool, Runner: a.Runner, Node: a.Node, Template: int(a.Template), Reason: a.Reason,
	}
}
