package lxc

import (
	"context"
	"errors"
	"fmt"
	"log"
	"slices"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// cleanup removes everything that the build has made, the newest first: a
// template cannot be removed while it has linked clones. It has its own
// context: that of the build is over when it was cancelled. Whether the build
// was cancelled or halted is not asked; which of the two flags is set is a
// matter of chance.
func (b *build) cleanup() {
	if b.done || len(b.made) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), b.conf.CleanupTimeout)
	defer cancel()
	for _, m := range slices.Backward(slices.Clone(b.made)) {
		b.ui.Say(fmt.Sprintf("Removing container %d on node %s...", m.vmid, m.node))
		if err := b.discard(ctx, m); err != nil {
			b.ui.Error(fmt.Sprintf("Container %d on node %s is left: %v.\n"+
				"hint: when Proxmox answers again, run as root on node %s: %s\n"+
				"The next build of this template on the node removes it too, and so does \"dayfly sweep\".",
				m.vmid, m.node, err, m.node, b.byHand(m)))
		}
	}
}

// byHand is the command that removes something. Where the answer of the call
// that makes it was lost, and nobody has seen that it is this build's, it looks
// first.
func (b *build) byHand(m *made) string {
	command := fmt.Sprintf("pct unlock %d; pct destroy %d --force --purge", m.vmid, m.vmid)
	if m.unknown || !m.ended && b.api.Adopted(m.task) {
		command = fmt.Sprintf("pct config %d | grep -q %s && { %s; }", m.vmid, b.info.Build, command)
	}
	return command
}

// discard removes one thing and forgets it. Whatever can pass is tried again
// until ctx ends.
func (b *build) discard(ctx context.Context, m *made) error {
	if m.task == "" && !m.unknown {
		b.forget(m) // never begun
		return nil
	}
	for nap := 100 * time.Millisecond; ; nap = min(2*nap, 5*time.Second) {
		err := b.tryDiscard(ctx, m)
		if err == nil {
			b.forget(m)
			return nil
		}
		log.Printf("remove container %d: %v", m.vmid, err)
		select {
		case <-time.After(nap):
		case <-ctx.Done():
			return err
		}
	}
}

func (b *build) tryDiscard(ctx context.Context, m *made) error {
	cleaned := false
	if m.task != "" && !m.ended {
		// One that still runs is stopped, and cleans up after itself, as one
		// does that failed; one that was killed does not.
		err := b.api.Abort(ctx, m.task)
		if errors.Is(err, fleet.ErrUnknownOutcome) && ctx.Err() != nil {
			return err
		}
		cleaned = err != nil && !errors.Is(err, fleet.ErrUnknownOutcome)
	}
	if err := b.locate(ctx, m); err != nil {
		return err
	}
	err := b.api.Destroy(ctx, m.node, m.vmid, b.mine)
	switch {
	case errors.Is(err, fleet.ErrInvalid):
		return nil // another's by now: ours is gone
	case cleaned && errors.Is(err, fleet.ErrDenied):
		return nil // likewise, and not for us to see
	}
	return err
}

// locate finds out on which node something is that was being moved.
func (b *build) locate(ctx context.Context, m *made) error {
	if m.moving == "" {
		return nil
	}
	status, err := b.api.Status(ctx, m.moving, m.vmid)
	if err == nil && status != "" {
		m.arrived()
	}
	return err
}
