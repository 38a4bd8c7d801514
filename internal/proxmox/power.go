package proxmox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Start starts a container and waits until its init runs. A container that
// runs already gives ErrRunning: whether that is success only the caller can
// know, from its own record of having started it. When the start task fails or
// is lost, the container's state decides.
func (c *Client) Start(ctx context.Context, node string, id fleet.VMID) error {
	err := c.inRange(id)
	if err == nil {
		err = c.start(ctx, node, id)
	}
	if err != nil {
		return fmt.Errorf("start container %d: %w", id, err)
	}
	return nil
}

func (c *Client) start(ctx context.Context, node string, id fleet.VMID) error {
	begin := time.Now()
	task, err := c.post(ctx, container(node, id, "/status/start"), nil)
	switch {
	case unknown(err):
		return c.findStart(ctx, node, id, begin, err)
	case err != nil:
		return c.gone(ctx, node, id, err)
	}
	return c.started(ctx, node, id, c.wait(ctx, task))
}

// started decides what the end of a start task means.
func (c *Client) started(ctx context.Context, node string, id fleet.VMID, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	g, there, look := c.guest(ctx, node, id)
	switch {
	case look != nil:
		return partly{"state not seen (" + look.Error() + ") after", err}
	case !there:
		return fmt.Errorf("%w: it is gone: %w", err, fleet.ErrNotFound)
	case g.Status == "running":
		return nil // a task that reports failure after init ran
	}
	return err
}

// findStart finds out what became of a start call whose answer was lost.
func (c *Client) findStart(ctx context.Context, node string, id fleet.VMID, begin time.Time, cause error) error {
	stopped := 0
	for looks := newLooks(); looks.next(ctx); {
		task, ok, err := c.begun(ctx, node, "vzstart", id, begin, anyTask)
		if err != nil {
			continue
		}
		if ok {
			return c.started(ctx, node, id, c.wait(ctx, task))
		}
		g, there, err := c.guest(ctx, node, id)
		switch {
		case err != nil:
		case !there:
			return fmt.Errorf("%w; it is gone: %w", nothingSeen(cause), fleet.ErrNotFound)
		case g.Status == "running":
			return nil
		default:
			stopped++
		}
		if stopped >= enoughLooks {
			return fmt.Errorf("%w; it is still %s", nothingSeen(cause), g.Status)
		}
	}
	return cause
}

// gone turns a refusal into ErrNotFound when the listing says that there is no
// such container: the token gets 403 for one that is gone.
func (c *Client) gone(ctx context.Context, node string, id fleet.VMID, err error) error {
	if !errors.Is(err, fleet.ErrDenied) && !errors.Is(err, fleet.ErrNotFound) {
		return err
	}
	_, there, look := c.guest(ctx, node, id)
	if look != nil || there {
		return err
	}
	return fmt.Errorf("not in the listing of node %s: %w", node, fleet.ErrNotFound)
}
