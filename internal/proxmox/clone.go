package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Spec is one clone to make.
type Spec struct {
	Name     string // the runner's, and the container's host name
	Pool     fleet.Pool
	Template fleet.Template
	VMID     fleet.VMID // journalled before, never used again soon
	Manifest Manifest   // its Schema, Name, Node and VMID are filled in
}

// Clone makes a stopped container from a template and sets its size and
// network. It counts as made when its disk has grown, too. One clone of a template runs at a time: ErrLocked says that another
// one holds it. ErrExists says that the VMID is taken. After
// ErrUnknownOutcome the container may exist or come to exist: its VMID must
// not be used for anything else. That is also the kind, beside the reason's
// own, when the container was made but could not be configured; it is listed
// as fleet.Creating.
func (c *Client) Clone(ctx context.Context, spec Spec) error {
	err := c.inRange(spec.VMID)
	if err == nil {
		err = c.clone(ctx, spec)
	}
	if err != nil {
		return fmt.Errorf("clone template %d to %d: %w", spec.Template.VMID, spec.VMID, err)
	}
	return nil
}

func (c *Client) clone(ctx context.Context, spec Spec) error {
	m := spec.Manifest
	m.Schema, m.Name, m.Node, m.VMID = manifestSchema, spec.Name, spec.Template.Node, spec.VMID
	m.Configured = false
	err := c.copy(ctx, spec, m.Sign(c.conf.Key))
	if err != nil {
		return err
	}
	if err := c.fence(ctx, place{spec.Template.Node, spec.VMID}, spec.Pool.Egress); err != nil {
		return partly{"made, but not configured", err}
	}
	if err := c.grow(ctx, place{spec.Template.Node, spec.VMID}, spec.Pool.Size.DiskMiB); err != nil {
		return partly{"made, but its disk is not as large as it should be", err}
	}
	m.Configured = true
	err = c.configure(ctx, spec.Template.Node, spec.VMID, wantedFor(spec.Pool, m.Sign(c.conf.Key)))
	if err != nil {
		return partly{"made, but not configured", err}
	}
	return nil
}

// copy runs the clone task. A storage that turns out to make no linked clones
// is remembered and used with a full one: the refusal has no effect.
func (c *Client) copy(ctx context.Context, spec Spec, description string) error {
	full := spec.Template.Full || c.full(ctx, spec.Template.Storage)
	err := c.tryCopy(ctx, spec, description, full)
	if err != nil && !full && c.learnFull(err) {
		return c.tryCopy(ctx, spec, description, true)
	}
	return err
}

func (c *Client) tryCopy(ctx context.Context, spec Spec, description string, full bool) error {
	params := map[string]any{
		"newid": spec.VMID, "hostname": spec.Name, "description": description, "pool": c.conf.RunnerPool,
	}
	if full {
		params["full"] = 1
	}
	begin := time.Now()
	task, err := c.post(ctx, container(spec.Template.Node, spec.Template.VMID, "/clone"), params)
	if unknown(err) {
		return c.findClone(ctx, spec, begin, err)
	}
	if err != nil {
		return err
	}
	return c.cloned(ctx, spec, task)
}

// cloned waits for a clone task.
func (c *Client) cloned(ctx context.Context, spec Spec, task upid) error {
	err := c.wait(ctx, task)
	if e, ok := errors.AsType[*TaskError](err); ok && unknown(err) {
		// A killed worker cleans nothing up (pve-container, API2/LXC.pm).
		return fmt.Errorf("%w; hint: the template may keep lock disk and %d lock create: look, then run \"pct unlock %d\" on node %s",
			e, spec.VMID, spec.Template.VMID, spec.Template.Node)
	}
	if err == nil {
		c.pooled.joined(spec.VMID)
	}
	return err
}

// findClone finds out what became of a clone call whose answer was lost: by
// its task, whose log names the new VMID, then by that VMID.
func (c *Client) findClone(ctx context.Context, spec Spec, begin time.Time, cause error) error {
	missing := 0
	for looks := newLooks(); looks.next(ctx); {
		suits := func(id upid) bool { return c.clones(ctx, id, spec.VMID) }
		task, ok, err := c.begun(ctx, spec.Template.Node, "vzclone", spec.Template.VMID, begin, suits)
		if err != nil {
			continue
		}
		if ok {
			return c.cloned(ctx, spec, task)
		}
		taken, err := c.Taken(ctx, spec.VMID)
		if err != nil {
			continue
		}
		if !taken {
			if missing++; missing >= enoughLooks {
				return fmt.Errorf("%w; VMID %d is still free", nothingSeen(cause), spec.VMID)
			}
			continue
		}
		if done, err := c.made(ctx, spec); done {
			return err
		}
	}
	return cause
}

// clones reports whether the task's log says that it makes a clone with that
// VMID (pve-container 6.1.3 and later).
func (c *Client) clones(ctx context.Context, task upid, id fleet.VMID) bool {
	lines, err := c.taskLog(ctx, task)
	want := fmt.Sprintf("with ID %d", id)
	for _, l := range lines {
		if err == nil && strings.HasSuffix(strings.TrimSpace(l), want) {
			return true
		}
	}
	return false
}

// made looks at a taken VMID: done says that it will not change any more.
func (c *Client) made(ctx context.Context, spec Spec) (done bool, err error) {
	s, err := c.settings(ctx, spec.Template.Node, spec.VMID)
	if err != nil {
		return false, nil // not in the resource pool until its task is nearly done
	}
	if _, err := Verify(s.description(), c.conf.Key, spec.VMID, spec.Name); err != nil {
		return true, fmt.Errorf("VMID %d is taken by another container: %w", spec.VMID, fleet.ErrExists)
	}
	return s["lock"] == "", nil
}

// Taken reports whether any guest of the cluster has the VMID, one that the
// token cannot see included: a half-made clone, for example.
func (c *Client) Taken(ctx context.Context, id fleet.VMID) (bool, error) {
	var free text
	err := c.get(ctx, "/cluster/nextid", url.Values{"vmid": {fmt.Sprint(id)}}, &free)
	if e, ok := errors.AsType[*Error](err); ok && strings.Contains(e.Params["vmid"], "already exists") {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask for VMID %d: %w", id, err)
	}
	return false, nil
}

// configure makes a container's configuration as wanted. It can be repeated:
// what is already so is left alone.
func (c *Client) configure(ctx context.Context, node string, id fleet.VMID, w wanted) error {
	var last error = &Error{Reason: "no time left", Kind: fleet.ErrUnavailable, Cause: ctx.Err()}
	for looks := newLooks(); looks.next(ctx); {
		s, err := c.settings(ctx, node, id)
		if errors.Is(err, fleet.ErrUnavailable) {
			last = err
			continue
		}
		if err != nil {
			return fmt.Errorf("read configuration: %w", err)
		}
		if s["env"] != "" {
			return fmt.Errorf("the template sets env, which must be free for the JIT config: %w", fleet.ErrInvalid)
		}
		err = c.change(ctx, node, id, s, w)
		switch {
		case err == nil:
			return nil
		case w.tags != nil && errors.Is(err, fleet.ErrDenied) && strings.Contains(err.Error(), "tag '"):
			// The datacenter reserves tags (user-tag-access, registered-tags).
			c.log.Warn("set tags", "vmid", int(id), "node", node, "err", err)
			w.tags = nil
		case unknown(err), errors.Is(err, errModified), errors.Is(err, fleet.ErrUnavailable):
			last = err
		default:
			return err
		}
	}
	return last
}

// change puts what differs, unless the configuration changed since it was read.
func (c *Client) change(ctx context.Context, node string, id fleet.VMID, s settings, w wanted) error {
	params := w.changes(s)
	if len(params) == 0 {
		return nil // an empty PUT is refused: no options specified
	}
	if s["digest"] != "" {
		params["digest"] = string(s["digest"])
	}
	return c.putConfig(ctx, place{node, id}, s, params)
}

// putConfig changes a configuration of which before is known, if anything.
func (c *Client) putConfig(ctx context.Context, at place, before settings, params map[string]any) error {
	mark := c.guests.changing(at.id)
	err := c.put(ctx, container(at.node, at.id, "/config"), params)
	c.guests.changed(at, before.with(params), mark, err)
	return err
}
