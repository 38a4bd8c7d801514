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

// clone makes the container of a runner.
func (d *Daemon) clone(ctx context.Context, r fleet.Runner, pool fleet.Pool) outcome {
	ctx, cancel := context.WithTimeout(ctx, pool.Timeouts.Clone)
	defer cancel()
	spec := proxmox.Spec{
		Name: r.Name, Pool: pool, VMID: r.VMID,
		Template: fleet.Template{Ref: r.Template, Node: r.Node, VMID: r.Source, Storage: r.Storage},
		Manifest: proxmox.Manifest{
			Name: r.Name, Pool: r.Pool, Scope: string(r.Scope), Template: r.Template,
			Node: r.Node, VMID: r.VMID, Created: r.Created,
		},
	}
	err := d.cfg.Proxmox.Clone(ctx, spec)
	if err == nil {
		return outcome{
			apply:  func(r *runner) { r.Cloned, r.Container = time.Now(), fleet.Stopped },
			events: []journal.Event{event(r, journal.Cloned, r.Template.String())},
		}
	}
	// Whether or not a container exists, this attempt is over: a listing will
	// show what it left. Until then it may be there and take a place.
	unknown := errors.Is(err, fleet.ErrUnknownOutcome) || ctx.Err() != nil
	out := outcome{err: err, hold: theNode, apply: func(r *runner) {
		spent("clone failed: " + err.Error())(r)
		if unknown {
			r.Container = fleet.Unseen
			d.looks.containers.poke(r.Node)
		}
	}}
	if errors.Is(err, fleet.ErrExists) {
		out.hold = nobody // a taken id is another's, and not the node's fault
		out.apply = func(r *runner) {
			spent("clone failed: " + err.Error())(r)
			d.state.cooling[r.VMID] = time.Now() // nor tried again at once
			r.VMID = 0
		}
	}
	return out
}

// deregister deletes a runner's registration, or makes sure there is none.
func (d *Daemon) deregister(ctx context.Context, a fleet.Action, r fleet.Runner) outcome {
	ctx, cancel := context.WithTimeout(ctx, deregisterBound)
	defer cancel()
	if d.busyThere(ctx, r) {
		return outcome{err: fmt.Errorf("its worker process lives: %w", fleet.ErrBusy), apply: func(r *runner) {
			if r.Took.IsZero() {
				r.Took = time.Now()
			}
		}}
	}
	id := r.RegistrationID
	if id == 0 || inVain(r) {
		reg, found, err := d.cfg.GitHub.Find(ctx, r.Scope, r.Name)
		if err != nil {
			return outcome{err: err}
		}
		if !found {
			return outcome{apply: deregistered(a)}
		}
		id = reg.ID
	}
	err := d.cfg.GitHub.Deregister(ctx, r.Scope, id)
	switch {
	case errors.Is(err, fleet.ErrBusy):
		return outcome{err: err, apply: func(r *runner) {
			r.Registration, r.RegistrationID = fleet.BusyFlag, id
			if r.Took.IsZero() {
				r.Took = time.Now()
			}
		}}
	case err != nil:
		var limit *fleet.RateLimit
		return outcome{err: err, apply: func(r *runner) {
			if errors.As(err, &limit) {
				r.Retry = limit.Until
			}
		}}
	}
	gone := deregistered(a)
	if strings.HasPrefix(a.Reason, fleet.Starved) {
		gone = func(r *runner) { deregistered(a)(r); d.faulted(r, a.Reason) }
	}
	if inVain(r) {
		gone = func(r *runner) { deregistered(a)(r); d.faulted(r, "it listened, and ended without a job") }
	}
	return outcome{apply: gone, events: []journal.Event{event(r, journal.Deregistered, a.Reason)}}
}

func deregistered(a fleet.Action) func(*runner) {
	return func(r *runner) {
		r.Registration, r.RegistrationID, r.Removed = fleet.Unregistered, 0, time.Now()
		spent(a.Reason)(r)
	}
}

// destroy removes a runner's container.
func (d *Daemon) destroy(ctx context.Context, a fleet.Action, r fleet.Runner) outcome {
	ctx, cancel := context.WithTimeout(ctx, destroyBound)
	defer cancel()
	events, exit := d.collect(ctx, r)
	clean, err := d.cfg.Proxmox.Destroy(ctx, r.Node, r.VMID)
	if err != nil {
		return outcome{err: err, events: events}
	}
	return outcome{
		apply: func(r *runner) {
			r.Container, r.destroyed = fleet.Absent, clean
			spent(a.Reason)(r)
			if exit != 0 {
				r.Exit = exit
			}
			if exit == fleet.Refused {
				d.faulted(r, "GitHub refuses its runner version (exit code 7)")
			}
		},
		events: append(events, event(r, journal.Destroyed, a.Reason)),
	}
}
