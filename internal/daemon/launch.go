package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/github"
	"github.com/dayfly-ci/dayfly/internal/host"
	"github.com/dayfly-ci/dayfly/internal/journal"
)

// launch mints a JIT config, delivers it and starts the container. From the
// mint on the runner is used up, whatever happens.
func (d *Daemon) launch(ctx context.Context, r fleet.Runner, pool fleet.Pool) outcome {
	ctx, cancel := context.WithTimeout(ctx, pool.Timeouts.Launch)
	defer cancel()
	h := d.halves.on(r.Node)
	switch {
	case h != nil:
		return d.launchByHost(ctx, h.client, r, pool)
	case d.halves.lone(r.Node, len(d.cfg.Hosts)) && time.Since(r.Cloned) < fleet.RulesLag:
		// It went away since this was decided: nobody looks for the firewall's rules.
		return outcome{err: fmt.Errorf("root half of node %s: %w", r.Node, fleet.ErrUnavailable), apply: undo(fleet.Launch)}
	}
	return d.launchByEnv(ctx, r, pool)
}

// mint is a JIT config, or why there is none.
type mint struct {
	reg github.Registration
	jit fleet.Secret
	at  time.Time
	err error
}

func (d *Daemon) mint(ctx context.Context, r fleet.Runner, pool fleet.Pool) mint {
	reg, jit, err := d.cfg.GitHub.JIT(ctx, r.Scope, r.Name, pool.Labels, pool.Group)
	return mint{reg, jit, time.Now(), err}
}

// unsure reports whether there may be a registration although there is an error.
func (m mint) unsure(ctx context.Context) bool {
	return errors.Is(m.err, fleet.ErrUnknownOutcome) || errors.Is(m.err, fleet.ErrExists) || m.err != nil && ctx.Err() != nil
}

func (m mint) event(r fleet.Runner) journal.Event {
	e := event(r, journal.Minted, fmt.Sprintf("registration %d", m.reg.ID))
	e.At = m.at // it may have waited for the start since
	return e
}

// done makes the runner one that has the registration.
func (m mint) done(r *runner) { r.Registration, r.RegistrationID = fleet.Offline, m.reg.ID }

// launchByEnv has Proxmox give the config to the container's init, so that it
// must be there before the start.
func (d *Daemon) launchByEnv(ctx context.Context, r fleet.Runner, pool fleet.Pool) outcome {
	m := d.mint(ctx, r, pool)
	switch {
	case m.unsure(ctx):
		return outcome{err: m.err, apply: spent("mint failed: " + m.err.Error()), hold: thePool}
	case m.err != nil:
		// Refused without effect: the container is as good as before.
		return outcome{err: m.err, apply: undo(fleet.Launch), hold: thePool}
	}
	events := []journal.Event{m.event(r)}
	r.RegistrationID = m.reg.ID
	give := func(r *runner) { m.done(r); spent("launch failed")(r) }
	if err := d.cfg.Proxmox.DeliverEnv(ctx, r.Node, r.VMID, host.JITVariable, m.jit, variables(facts(r), pool.Env)...); err != nil {
		return outcome{err: err, events: events, apply: give, hold: theNode}
	}
	d.metrics.issued()
	err := d.cfg.Proxmox.Start(ctx, r.Node, r.VMID)
	if err != nil && !errors.Is(err, fleet.ErrUnknownOutcome) {
		return outcome{err: err, events: events, apply: give, hold: theNode}
	}
	// With an unknown outcome it may well run: the deadline to register decides.
	return outcome{events: append(events, event(r, journal.Started, "")), apply: started(m)}
}

func started(m mint) func(*runner) {
	return func(r *runner) {
		m.done(r)
		r.Started, r.Container = time.Now(), fleet.Running
	}
}

// launchByHost starts the container and mints the config at once, unless it
// is warm, and has the root half bring the one into the other.
func (d *Daemon) launchByHost(ctx context.Context, c *host.Client, r fleet.Runner, pool fleet.Pool) outcome {
	up := make(chan error, 1)
	go func() { up <- d.bringUp(ctx, r) }()
	m := d.mint(ctx, r, pool)
	begun := <-up
	doubt := errors.Is(begun, fleet.ErrUnknownOutcome)
	if doubt {
		begun = nil // the root half sees whether it runs
	}
	runs := func(r *runner) {
		if begun == nil {
			r.Container = fleet.Running
		}
	}
	switch {
	case m.err != nil && (begun != nil || m.unsure(ctx)):
		return outcome{err: m.err, apply: func(r *runner) { runs(r); spent("mint failed: " + m.err.Error())(r) }, hold: thePool}
	case m.err != nil:
		// Refused without effect: it is a warm container now, if it was none.
		return outcome{err: m.err, apply: warmed, hold: thePool}
	}
	events := []journal.Event{m.event(r)}
	r.RegistrationID = m.reg.ID
	said, err := d.hand(ctx, c, r, pool.Env, m, begun)
	if err != nil {
		give := func(r *runner) { m.done(r); runs(r); spent("launch failed")(r) }
		out := outcome{err: err, events: events, apply: give, hold: theNode}
		if errors.Is(err, host.ErrUnready) && !doubt {
			out.hold = theTemplate
		}
		return out
	}
	return outcome{events: append(events, event(r, journal.Started, said)), apply: started(m)}
}

// bringUp starts a container unless it runs.
func (d *Daemon) bringUp(ctx context.Context, r fleet.Runner) error {
	if r.Container == fleet.Running {
		return nil
	}
	d.metrics.issued()
	return d.cfg.Proxmox.Start(ctx, r.Node, r.VMID)
}

// hand brings a config into a container that was begun. First its manifest
// must say that one may be there: nothing else in its configuration does. It
// returns what the journal is to say of it.
func (d *Daemon) hand(ctx context.Context, c *host.Client, r fleet.Runner, env fleet.Env, m mint, begun error) (said string, err error) {
	if begun != nil {
		return "", begun
	}
	if err := d.cfg.Proxmox.MarkLaunched(ctx, r.Node, r.VMID); err != nil {
		return "", err
	}
	_, err = c.Inject(ctx, r.VMID, r.Name, m.jit, facts(r), env)
	if errors.Is(err, fleet.ErrUnknownOutcome) {
		// The deadline to register decides.
		return "config given to the root half, which may not have delivered it: " + err.Error(), nil
	}
	return "config delivered by the root half", err
}

// warmed makes a runner whose container was started, and that has no config,
// one that waits for it.
func warmed(r *runner) {
	r.Launched, r.Container = time.Time{}, fleet.Running
	if r.Booted.IsZero() {
		r.Booted = time.Now()
	}
}

// boot starts a container that is to wait for its config.
func (d *Daemon) boot(ctx context.Context, r fleet.Runner, pool fleet.Pool) outcome {
	ctx, cancel := context.WithTimeout(ctx, pool.Timeouts.Launch)
	defer cancel()
	if err := d.bringUp(ctx, r); err != nil && !errors.Is(err, fleet.ErrUnknownOutcome) {
		return outcome{err: err, apply: spent("its boot failed"), hold: theNode}
	}
	return outcome{apply: warmed, events: []journal.Event{event(r, journal.Started, "warm")}}
}

// facts are what a job's log tells of where it runs.
func facts(r fleet.Runner) map[string]string {
	return map[string]string{
		"DAYFLY_POOL": r.Pool, "DAYFLY_NODE": r.Node, "DAYFLY_TEMPLATE": r.Template.String(),
		"DAYFLY_VMID": fmt.Sprint(r.VMID), "DAYFLY_RUNNER": r.Name,
	}
}

// variables are facts and a pool's environment as that of a container's init
// has them.
func variables(facts map[string]string, env fleet.Env) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(facts)) {
		list = append(list, name+"="+facts[name])
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, host.EnvPrefix+name+"="+env[name])
	}
	return list
}
