package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/journal"
)

// Bounds of the actions that no timeout of a pool bounds.
const (
	deregisterBound = 30 * time.Second
	destroyBound    = 5 * time.Minute
)

// start marks an action as under way and does it in a goroutine of its own:
// the intent is written before the effect, the result after.
func (d *Daemon) start(ctx context.Context, a fleet.Action, now time.Time) {
	r, pool, err := d.prepare(&a, now)
	if err != nil {
		d.failed(subject{kind: a.Kind, pool: a.Pool, node: a.Node}, err)
		return
	}
	r.Pending = a.Kind
	snapshot := r.Runner
	d.work.Go(func() {
		d.slots <- struct{}{}
		defer func() { <-d.slots }()
		d.execute(ctx, a, snapshot, pool)
	})
}

// prepare finds the runner of an action, or names a new one for a clone.
func (d *Daemon) prepare(a *fleet.Action, now time.Time) (*runner, fleet.Pool, error) {
	s := &d.state
	pool, _ := s.pool(a.Pool)
	if a.Kind != fleet.Clone {
		r := s.runners[a.Runner]
		if r == nil {
			return nil, pool, fmt.Errorf("start %s: no such runner", a)
		}
		switch a.Kind {
		case fleet.Launch:
			r.Launched = now
		case fleet.Smoke:
			r.Smoked = now
		case fleet.Boot:
			r.Booted = now
		}
		return r, pool, nil
	}
	id, ok := s.pickVMID(d.cfg.First, d.cfg.Last, now, d.cfg.Every.CoolDown)
	if !ok {
		return nil, pool, fmt.Errorf("clone for pool %s: every VMID from %d to %d is in use or cooling down: give proxmox.vmids a wider range, or one that nothing else uses", a.Pool, d.cfg.First, d.cfg.Last)
	}
	var random [4]byte
	if _, err := io.ReadFull(cmpReader(d.cfg.Random), random[:]); err != nil {
		return nil, pool, fmt.Errorf("name a runner: %w", err)
	}
	t := s.template(a.Node, a.Template)
	r := &runner{Runner: fleet.Runner{
		Name: fleet.NewName(pool.Name, random, []byte(d.cfg.Key.Reveal())), Pool: pool.Name, Scope: pool.Scope,
		Node: a.Node, VMID: id, Template: t.Ref, Source: t.VMID, Storage: t.Storage, Created: now,
	}}
	a.Runner = r.Name
	s.add(r)
	return r, pool, nil
}

func cmpReader(r io.Reader) io.Reader {
	if r == nil {
		return rand.Reader
	}
	return r
}

func (s *state) template(node string, id fleet.VMID) fleet.Template {
	if n := s.nodes[node]; n != nil {
		for _, t := range n.templates {
			if t.VMID == id {
				return t
			}
		}
	}
	return fleet.Template{}
}

// outcome is what an action changed, applied to the runner by the loop.
type outcome struct {
	err    error
	apply  func(*runner)
	events []journal.Event
	hold   blame
}

// blame is what the failure of an action counts against, beside the runner.
type blame int

const (
	nobody blame = iota
	thePool
	theNode     // for this pool
	theTemplate // for this pool: its containers are no good
)

// holds is what a failed action holds back.
func (out outcome) holds(k fleet.Kind, r fleet.Runner) subject {
	switch out.hold {
	case theNode:
		return subject{kind: k, pool: r.Pool, node: r.Node}
	case theTemplate:
		return subject{kind: k, pool: r.Pool, ref: r.Template}
	}
	return subject{kind: k, pool: r.Pool, scope: r.Scope}
}

// execute does one action from intent to result.
func (d *Daemon) execute(ctx context.Context, a fleet.Action, r fleet.Runner, pool fleet.Pool) {
	log := d.log.With("action", a.Kind.String(), "runner", r.Name, "vmid", int(r.VMID), "node", r.Node, "pool", r.Pool)
	log.Debug("start", "reason", a.Reason)
	began := time.Now()
	id, err := d.cfg.Journal.Begin(ctx, a, r)
	if err != nil {
		// Without the intent on disk there must be no effect.
		if ctx.Err() == nil {
			d.journalFailed(err)
		}
		d.finish(a, 0, outcome{err: fmt.Errorf("%w: %w", errUnwritten, err), hold: theNode, apply: undo(a.Kind)})
		return
	}
	var out outcome
	switch a.Kind {
	case fleet.Clone:
		out = d.clone(ctx, r, pool)
	case fleet.Launch:
		out = d.launch(ctx, r, pool)
	case fleet.Smoke:
		out = d.smoke(ctx, r, pool)
	case fleet.Boot:
		out = d.boot(ctx, r, pool)
	case fleet.Deregister:
		out = d.deregister(ctx, a, r)
	case fleet.Destroy:
		out = d.destroy(ctx, a, r)
	}
	if ctx.Err() != nil {
		return // stopping: the intent stays open and is looked into at the next start
	}
	took := time.Since(began)
	d.metrics.action(a, took, out.err)
	if out.err != nil {
		log.Warn("failed", "took", took, "reason", a.Reason, "err", out.err)
	} else {
		log.Info("done", "took", took, "reason", a.Reason)
	}
	d.finish(a, id, out)
}

// undo takes back what start assumed of an action that never began.
func undo(k fleet.Kind) func(*runner) {
	return func(r *runner) {
		switch k {
		case fleet.Clone:
			r.Spent, r.Cause = time.Now(), "its clone never began"
		case fleet.Launch:
			r.Launched = time.Time{}
		case fleet.Smoke:
			r.Smoked = time.Time{}
		case fleet.Boot:
			r.Booted = time.Time{}
		}
	}
}

// finish brings a result to the loop.
func (d *Daemon) finish(a fleet.Action, intent int64, out outcome) {
	d.inbox.post(func(s *state) {
		r := s.runners[a.Runner]
		if r == nil {
			return
		}
		r.Pending = fleet.None
		r.touched = time.Now()
		if a.Kind == fleet.Clone && !errors.Is(out.err, fleet.ErrUnknownOutcome) || a.Kind == fleet.Destroy && out.err == nil && r.Cloned.IsZero() {
			s.release(r)
		}
		if out.err == nil {
			r.attempts = 0
			d.fine("runner " + r.Name)
		} else {
			r.attempts++
			d.stuck(a, r, out.err)
			r.Retry = time.Now().Add(fleet.Retry{Min: time.Second, Max: time.Minute}.Delay(r.attempts, uint64(r.VMID)))
		}
		if out.apply != nil {
			out.apply(r)
		}
		if out.hold == theTemplate || out.hold == theNode && own(out.err) {
			d.faulted(r, fmt.Sprintf("%s failed: %v", a.Kind, out.err))
		}
		switch {
		case out.hold != nobody:
			d.failed(out.holds(a.Kind, r.Runner), out.err)
			if out.hold == theNode && breaks(out.err) {
				d.tripped(r.Node, a.Kind, out.err)
			}
		case out.err == nil && (a.Kind == fleet.Clone || a.Kind == fleet.Boot || a.Kind == fleet.Launch):
			d.succeeded(subject{kind: a.Kind, pool: r.Pool, node: r.Node})
			d.wentWell(r.Node, a.Kind)
			d.succeeded(subject{kind: a.Kind, scope: r.Scope})
		}
		d.conclude(intent, r, out)
	})
}

// conclude writes the result. It does not hold up the loop: what it says is
// seen again from outside if it is lost.
func (d *Daemon) conclude(intent int64, r *runner, out outcome) {
	if intent == 0 {
		return
	}
	d.fine(journalAway) // the intent could be written
	text := journal.OK
	if out.err != nil {
		text = out.err.Error()
	}
	d.later.End(intent, r.Runner, text, out.events...)
}

// release notes that a clone of ours holds its source no longer, whatever an
// older listing says: it ended, or what it left half-made is gone.
func (s *state) release(r *runner) {
	if n := s.nodes[r.Node]; n != nil {
		n.released[r.Source] = time.Now()
	}
}

func event(r fleet.Runner, what journal.Stage, detail string) journal.Event {
	return journal.Event{At: time.Now(), What: what, Runner: r.Name, Job: r.Job, Detail: detail}
}

// spent gives a runner up: its name, JIT config and container are never used
// again.
func spent(cause string) func(*runner) {
	return func(r *runner) {
		if r.Spent.IsZero() {
			r.Spent, r.Cause = time.Now(), cause
		}
	}
}
