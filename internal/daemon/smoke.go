package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// Stages of a smoke boot.
const (
	smoked journal.Stage = "smoked" // its checks passed
	failed journal.Stage = "unfit"  // a runner failed for a reason that lies in itself
)

// smoke starts a container without a JIT config: its guest runs its checks.
func (d *Daemon) smoke(ctx context.Context, r fleet.Runner, pool fleet.Pool) outcome {
	ctx, cancel := context.WithTimeout(ctx, pool.Timeouts.Launch)
	defer cancel()
	give := spent("its smoke boot did not start")
	err := d.cfg.Proxmox.DeliverEnv(ctx, r.Node, r.VMID, proxmox.SmokeVariable, fleet.NewSecret(d.cfg.GitHub.URL()), variables(nil, pool.Env)...)
	if err != nil {
		return outcome{err: err, hold: theNode, apply: func(r *runner) {
			give(r)
			if n := d.state.nodes[r.Node]; n != nil && errors.Is(err, fleet.ErrInvalid) {
				n.blind = true // its Proxmox is too old to be asked for one
			}
		}}
	}
	err = d.cfg.Proxmox.Start(ctx, r.Node, r.VMID)
	if err != nil && !errors.Is(err, fleet.ErrUnknownOutcome) {
		return outcome{err: err, apply: give, hold: theNode}
	}
	return outcome{
		apply:  func(r *runner) { r.Started, r.Container = time.Now(), fleet.Running },
		events: []journal.Event{event(r, journal.Started, "smoke boot")},
	}
}

// proving lists the smoke boots under way on a node.
func (s *state) proving(node string) []fleet.Runner {
	var list []fleet.Runner
	for _, r := range s.inOrder() {
		if r.Node == node && r.Phase() == fleet.Proving && r.Container == fleet.Running && r.Passed.IsZero() && r.Failed.IsZero() {
			list = append(list, r.Runner)
		}
	}
	return list
}

// lookAtSmoke asks what the smoke boots of a node have shown. What cannot be
// asked now is asked with the next listing, until their time is over.
func (d *Daemon) lookAtSmoke(ctx context.Context, node string) {
	list, err := ask(ctx, d, func(s *state) []fleet.Runner { return s.proving(node) })
	if err != nil {
		return
	}
	for _, r := range list {
		bound, cancel := context.WithTimeout(ctx, lookBound)
		result, err := d.cfg.Proxmox.Smoke(bound, r.Node, r.VMID)
		cancel()
		if err != nil {
			d.log.Debug("smoke checks not asked", "runner", r.Name, "err", err)
		} else if result.Done {
			d.inbox.post(func(s *state) { d.proved(s, r.Name, result) })
		}
	}
}

// proved notes what a smoke boot has shown.
func (d *Daemon) proved(s *state, name string, result proxmox.SmokeResult) {
	r := s.runners[name]
	switch {
	case r == nil || !r.Passed.IsZero() || !r.Failed.IsZero() || !r.Spent.IsZero():
	case len(result.Faults) > 0:
		d.unfit(r, strings.Join(result.Faults, "; "))
	default:
		r.Passed = time.Now()
		d.mended(r.Node)
		d.save(r, smoked, r.Template.String())
	}
}

// overdue gives up a smoke boot whose checks are not done in time.
func (d *Daemon) overdue(r *runner, now time.Time) {
	p, ok := d.state.pool(r.Pool)
	limit := p.Timeouts.SmokeTimeout()
	if ok && r.Pending == fleet.None && r.Container != fleet.Unseen && r.Passed.IsZero() && now.Sub(r.Smoked) >= limit {
		d.unfit(r, fmt.Sprintf("its smoke checks were not done %s after its start", limit))
	}
}

// unfit notes that a smoke boot failed.
func (d *Daemon) unfit(r *runner, why string) {
	if r.Failed.IsZero() {
		d.faulted(r, why)
		d.unproven(r, why)
	}
}
