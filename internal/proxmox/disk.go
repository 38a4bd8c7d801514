package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// grow makes a container's root file system so many MiB large; 0: as it is. It
// can be repeated. fleet.ErrInvalid says that it is larger: Proxmox never
// shrinks one.
func (c *Client) grow(ctx context.Context, at place, mib int) error {
	if mib == 0 {
		return nil
	}
	var last error = &Error{Reason: "no time left", Kind: fleet.ErrUnavailable, Cause: ctx.Err()}
	for looks, over := newLooks(), false; looks.next(ctx); {
		s, err := c.settings(ctx, at.node, at.id)
		switch {
		case errors.Is(err, fleet.ErrUnavailable):
			last = err
			continue
		case err != nil:
			return fmt.Errorf("read configuration: %w", err)
		case s.disk() == mib:
			return nil
		case s.disk() > mib:
			return fmt.Errorf("the disk has %d MiB, more than %d: disks only grow: %w", s.disk(), mib, fleet.ErrInvalid)
		case over:
			return last
		}
		last = c.resize(ctx, at, mib)
		if last == nil {
			return nil
		}
		// A second resize, after an answer that was lost, finds the work done, and
		// fails: what counts is the size.
		over = !unknown(last) && !errors.Is(last, fleet.ErrUnavailable) && !errors.Is(last, fleet.ErrLocked)
	}
	return last
}

// resize runs the task that makes a root file system larger: the file system is
// checked, the volume grown, then what is on it.
func (c *Client) resize(ctx context.Context, at place, mib int) error {
	mark := c.guests.changing(at.id)
	var task upid
	path := container(at.node, at.id, "/resize")
	params := map[string]any{"disk": "rootfs", "size": fmt.Sprintf("%dM", mib)}
	err := c.ask(ctx, http.MethodPut, path, &task, func(ctx context.Context) error { return c.api.Put(ctx, path, params, nil) })
	task, err = task.checked(http.MethodPut, path, err)
	if err == nil {
		err = c.wait(ctx, task)
	}
	c.guests.changed(at, nil, mark, err)
	if err != nil {
		return fmt.Errorf("resize disk to %d MiB: %w", mib, err)
	}
	return nil
}
