package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Destroy stops and removes a container of ours, in one task. One that is gone
// already is success, decided from the listing. A lock that remains is
// ErrLocked. clean says that the task was seen to end well: then nothing is
// left of the container, not even what no listing shows.
func (c *Client) Destroy(ctx context.Context, node string, id fleet.VMID) (clean bool, err error) {
	if err = c.inRange(id); err == nil {
		clean, err = c.destroy(ctx, node, id)
	}
	if err != nil {
		return false, fmt.Errorf("destroy container %d: %w", id, err)
	}
	return clean, nil
}

func (c *Client) destroy(ctx context.Context, node string, id fleet.VMID) (clean bool, err error) {
	s, err := c.settings(ctx, node, id)
	if err != nil {
		return false, c.unlessGone(ctx, node, id, err)
	}
	// What the caller saw may be long ago, and the VMID another's by now.
	if _, err := Verify(s.description(), c.conf.Key, id, string(s["hostname"])); err != nil {
		return false, fmt.Errorf("it is not ours: %w: %w", err, fleet.ErrInvalid)
	}
	if s.protected() {
		err := c.putConfig(ctx, place{node, id}, nil, map[string]any{"protection": 0})
		if err != nil {
			return false, c.unlessGone(ctx, node, id, fmt.Errorf("lift protection: %w", err))
		}
	}
	begin := time.Now()
	task, err := c.remove(ctx, container(node, id, ""), url.Values{"force": {"1"}})
	if unknown(err) {
		return false, c.findDestroy(ctx, node, id, begin, err)
	}
	if err == nil {
		err = c.wait(ctx, task)
	}
	return err == nil, c.unlessGone(ctx, node, id, err)
}

// unlessGone is err, unless the listing no longer has the container. Two
// destroy calls at once both start a task, and the loser's fails.
func (c *Client) unlessGone(ctx context.Context, node string, id fleet.VMID, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, fleet.ErrUnavailable) {
		return err
	}
	g, there, look := c.guest(ctx, node, id)
	switch {
	case look != nil:
		return partly{"state not seen (" + look.Error() + ") after", err}
	case !there:
		return nil
	case g.Lock != "":
		return fmt.Errorf("%w (lock %s; hint: if nothing works on it, run \"pct unlock %d\" on node %s): %w",
			err, g.Lock, id, node, fleet.ErrLocked)
	}
	return err
}

// findDestroy finds out what became of a destroy call whose answer was lost.
func (c *Client) findDestroy(ctx context.Context, node string, id fleet.VMID, begin time.Time, cause error) error {
	there := 0
	for looks := newLooks(); looks.next(ctx); {
		task, ok, err := c.begun(ctx, node, "vzdestroy", id, begin, anyTask)
		if err != nil {
			continue
		}
		if ok {
			return c.unlessGone(ctx, node, id, c.wait(ctx, task))
		}
		_, found, err := c.guest(ctx, node, id)
		if err != nil {
			continue
		}
		if !found {
			return nil
		}
		if there++; there >= enoughLooks {
			return fmt.Errorf("%w; it is still there", nothingSeen(cause))
		}
	}
	return cause
}
