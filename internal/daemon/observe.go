package daemon

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/pools"
)

// observe starts every look at the world.
func (d *Daemon) observe(ctx context.Context) {
	start := func(l *look, f func(context.Context) error) { d.work.Go(func() { l.run(ctx, f) }) }
	d.work.Go(func() { d.teller(ctx) })
	start(d.looks.pools, d.lookAtPools)
	start(d.looks.nodes, func(ctx context.Context) error { return d.lookAtNodes(ctx, start) })
	start(d.looks.deliveries, d.lookAtDeliveries)
	start(d.looks.health, d.lookAtHealth)
	start(d.looks.leftovers, d.lookAtLeftovers)
	start(d.looks.versions, d.lookAtVersions)
	start(d.looks.journal, d.lookAtJournal)
	start(d.looks.prune, func(ctx context.Context) error {
		err := d.cfg.Journal.Prune(ctx)
		if err != nil && ctx.Err() == nil {
			d.journalFailed(err)
		}
		return err
	})
}

// lookBound bounds one request of a look; a listing blocks while a container
// of its node starts.
const lookBound = 40 * time.Second

// report makes a look's failure known, or its end.
func (d *Daemon) report(ctx context.Context, key string, err error) {
	if ctx.Err() != nil {
		return
	}
	d.inbox.post(func(*state) {
		if err != nil {
			d.trouble(key, err.Error(), hint(err))
		} else {
			d.fine(key)
		}
	})
}

func (d *Daemon) lookAtPools(ctx context.Context) error {
	known, err := ask(ctx, d, func(s *state) pools.Known { return pools.Known{Read: s.read, InForce: s.inForce} })
	if err != nil {
		return err
	}
	bound, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	set, err := d.cfg.Source.Load(bound, known)
	var invalid *pools.Invalid
	switch {
	case errors.As(err, &invalid):
		d.report(ctx, "pools source", nil)
		d.inbox.post(func(s *state) { d.refuse(s, invalid) })
		return nil
	case errors.Is(err, pools.ErrUnchanged):
		d.report(ctx, "pools source", nil)
		return nil // what is wrong with the revision, if anything, still is
	case err != nil:
		d.sourceAway(ctx, err)
		return err
	}
	d.report(ctx, "pools source", nil)
	if err := d.cfg.Journal.Put(ctx, poolsKey, pools.Encode(set)); err != nil {
		d.journalFailed(err)
	}
	d.inbox.post(func(s *state) {
		d.adopt(s, set)
		d.tellInForce(set)
	})
	return nil
}

// sourceAway makes it known that the pools' source cannot be read: what it is
// and what it is read with is in the daemon's configuration, not with Proxmox
// or GitHub.
func (d *Daemon) sourceAway(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	hint := "check that this host reaches what the block pools of the daemon's configuration names"
	switch {
	case errors.Is(err, fleet.ErrDenied):
		hint = "look at what the block pools of the daemon's configuration logs in with, and what that may read"
	case errors.Is(err, fleet.ErrNotFound):
		hint = "look at what the block pools of the daemon's configuration names"
	}
	d.inbox.post(func(s *state) { d.trouble("pools source", err.Error(), hint+"; until then "+s.stays()) })
}

// stays says what is in force while no newer revision can be.
func (s *state) stays() string {
	if s.inForce.Revision == "" {
		return "there are no pools"
	}
	return "revision " + s.inForce.Revision + " stays in force"
}

// refuse leaves the pools in force as they are.
func (d *Daemon) refuse(s *state, invalid *pools.Invalid) {
	s.read, s.refused = invalid.Revision, invalid.Error()
	d.tellRefused(invalid)
	d.trouble("pools", invalid.Error(), `push a revision that is right ("dayfly validate" checks pool files); until then `+s.stays())
}

// adopt puts a new revision of the pools in force.
func (d *Daemon) adopt(s *state, set pools.Set) {
	d.log.Info("pools in force", "revision", set.Revision, "pools", len(set.Desired.Pools))
	for _, w := range set.Warnings.Report().Diagnostics {
		d.log.Warn("pools in force, but", "reason", w.Summary+": "+w.Detail)
	}
	s.outdate(fleet.Compare(s.desired, set.Desired))
	s.desired, s.inForce, s.read, s.refused, s.adopted = set.Desired, set, set.Revision, "", time.Now()
	d.complete(&s.desired.Limits)
	d.fine("pools")
	d.leave(s)
	d.age(s, s.adopted)
	d.publish(s)
	d.looks.jobs.pokeAll()
	d.looks.containers.pokeAll()
	d.looks.health.poke()
}

// complete fills in the limits that the pools leave open.
func (d *Daemon) complete(l *fleet.Limits) {
	l.Max = cmp.Or(l.Max, d.cfg.Limits.Max)
	l.PerNode = cmp.Or(l.PerNode, d.cfg.Limits.PerNode)
	l.NodeTasks = cmp.Or(l.NodeTasks, d.cfg.Limits.NodeTasks, defaultLimits.NodeTasks)
	l.StoreTasks = cmp.Or(l.StoreTasks, d.cfg.Limits.StoreTasks, defaultLimits.StoreTasks)
}

func (d *Daemon) lookAtNodes(ctx context.Context, start func(*look, func(context.Context) error)) error {
	bound, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	nodes, err := d.cfg.Proxmox.Nodes(bound)
	d.report(ctx, proxmoxAway, err)
	if err != nil {
		return err
	}
	d.inbox.post(func(s *state) { d.nodesSeen(s, nodes) })
	for _, n := range nodes {
		if l, fresh := d.looks.containers.add(n.Name); fresh {
			d.looks.health.poke()
			start(l, func(ctx context.Context) error { return d.lookAtContainers(ctx, n.Name) })
		}
		if l, fresh := d.looks.stores.add(n.Name); fresh {
			start(l, func(ctx context.Context) error { return d.lookAtStores(ctx, n.Name) })
		}
	}
	return nil
}

func (d *Daemon) lookAtContainers(ctx context.Context, node string) error {
	bound, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	list, err := d.cfg.Proxmox.List(bound, node)
	if ctx.Err() != nil {
		return err
	}
	d.inbox.post(func(s *state) {
		if err != nil {
			d.unlisted(s, node, err)
			return
		}
		d.fine("node " + node)
		d.listed(s, list)
	})
	if err == nil {
		d.lookAtSmoke(ctx, node)
	}
	return err
}

func (d *Daemon) lookAtRegistrations(ctx context.Context, scope fleet.Scope) error {
	bound, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	began := time.Now()
	regs, err := d.cfg.GitHub.Registrations(bound, scope)
	d.reportGitHub(ctx, registrationsOf+string(scope), err)
	if err == nil {
		d.inbox.post(func(s *state) { d.registered(s, scope, began, regs) })
	}
	return err
}

// lookAtDeliveries fetches what GitHub could not deliver: it never tries again
// by itself.
func (d *Daemon) lookAtDeliveries(ctx context.Context) error {
	since := time.Now().Add(-72 * time.Hour) // GitHub keeps them for 3 days
	if text, ok, err := d.cfg.Journal.Get(ctx, deliveriesKey); err == nil && ok {
		if t, err := time.Parse(time.RFC3339, string(text)); err == nil {
			since = t
		}
	}
	began := time.Now()
	missed, err := d.cfg.GitHub.Deliveries(ctx, since) // with an error, those before it
	d.reportGitHub(ctx, "deliveries", err)
	for _, m := range missed {
		if _, err := d.accept(ctx, m.Delivery, "redelivery"); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	// Deliveries may be minutes late themselves: look back a little each time.
	mark := began.Add(-15 * time.Minute).UTC().Format(time.RFC3339)
	return d.cfg.Journal.Put(ctx, deliveriesKey, []byte(mark))
}

const (
	poolsKey      = "pools"
	deliveriesKey = "deliveries-seen"
)
