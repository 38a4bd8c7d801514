package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
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

// FieldChange is one thing about a pool, and when its change takes effect.
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

	Opens time.Time `json:"opens,omitzero"` // when its first step may begin, if the pool's window is closed now
}

// Empty reports whether nothing would change.
func (p Preview) Empty() bool { return len(p.Pools)+len(p.Actions)+len(p.Rolls) == 0 }

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
			Pools: []PoolChange{}, Actions: []ActionPlan{}, Rolls: []RollPlan{},
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
	d.complete(&next.Limits)
	for _, c := range fleet.Compare(s.desired, next) {
		change := poolChange(c, o.Runners)
		if i := slices.IndexFunc(next.Pools, func(p fleet.Pool) bool { return p.Name == c.Pool }); i >= 0 {
			change.Misfits = append(change.Misfits, next.Pools[i].Misfits(o.Templates)...)
		}
		out.Pools = append(out.Pools, change)
	}
	is, _ := fleet.Plan(s.desired, o, now)
	would, _ := fleet.Plan(next, o, now)
	for _, a := range would {
		same := func(b fleet.Action) bool {
			return a.Kind == b.Kind && a.Pool == b.Pool && (a.Runner == b.Runner || a.Kind == fleet.Clone)
		}
		if i := slices.IndexFunc(is, same); i >= 0 {
			is = slices.Delete(is, i, i+1)
			continue
		}
		out.Actions = append(out.Actions, actionPlan(a))
	}
	rolls, _ := fleet.Roll(next, o, now)
	for _, r := range rolls {
		was := slices.IndexFunc(o.Rollouts, func(old fleet.Rollout) bool { return old.Pool == r.Pool })
		if r.Rolls() && r.Candidate != (fleet.Ref{}) && (was < 0 || o.Rollouts[was].Candidate != r.Candidate) {
			plan := RollPlan{Pool: r.Pool, From: r.Stable.String(), To: r.Candidate.String(), Reason: r.Reason}
			if i := slices.IndexFunc(next.Pools, func(p fleet.Pool) bool { return p.Name == r.Pool }); i >= 0 {
				plan.Opens = next.Pools[i].Roll.Opens(now)
			}
			out.Rolls = append(out.Rolls, plan)
		}
	}
}

func poolChange(c fleet.Change, runners []fleet.Runner) PoolChange {
	out := PoolChange{Pool: c.Pool, Change: "changed", Fields: []FieldChange{}, Runners: map[string]int{}, Misfits: []string{}}
	for _, f := range c.Fields {
		out.Fields = append(out.Fields, FieldChange(f))
	}
	for _, r := range runners {
		if phase := r.Phase(); r.Pool == c.Pool && phase != fleet.Gone {
			out.Runners[phase.String()]++
		}
	}
	clones := slices.ContainsFunc(c.Fields, func(f fleet.Field) bool { return f.Takes == fleet.NewClones })
	switch {
	case c.Added:
		out.Change, out.Means = "added", "containers are made when jobs or spares ask for them"
	case c.Removed:
		out.Change, out.Means = "removed", "running jobs end, no new runner starts, spares are destroyed"
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

// Wait says in words that a roll waits for its pool's window; empty: it does not.
func (r RollPlan) Wait() string {
	if r.Opens.IsZero() {
		return ""
	}
	return "; its window opens " + r.Opens.UTC().Format("2006-01-02 15:04Z")
}

// markdown is the preview for a page at GitHub.
func (p Preview) markdown() string {
	switch {
	case !p.Report.Valid:
		return "These pool files would be refused, and the pools in force stay as they are."
	case p.Empty():
		return "Nothing would change."
	}
	var b strings.Builder
	for _, c := range p.Pools {
		fmt.Fprintf(&b, "- pool `%s` is %s: %s\n", c.Pool, c.Change, c.Means)
		for _, phase := range slices.Sorted(maps.Keys(c.Runners)) {
			fmt.Fprintf(&b, "  - %d %s now\n", c.Runners[phase], phase)
		}
		for _, f := range c.Fields {
			fmt.Fprintf(&b, "  - `%s`: `%s` → `%s`, %s\n", f.Name, cmp.Or(f.From, "nothing"), cmp.Or(f.To, "nothing"), f.Takes)
		}
		for _, why := range c.Misfits {
			fmt.Fprintf(&b, "  - %s\n", why)
		}
	}
	for _, r := range p.Rolls {
		fmt.Fprintf(&b, "- roll-out of pool `%s` from `%s` to `%s`: %s%s\n", r.Pool, r.From, r.To, r.Reason, r.Wait())
	}
	if len(p.Actions) > 0 {
		b.WriteString("\nAt once:\n\n")
	}
	for _, a := range p.Actions {
		fmt.Fprintf(&b, "- %s of pool `%s`: %s\n", a.Kind, a.Pool, a.Reason)
	}
	return b.String()
}
