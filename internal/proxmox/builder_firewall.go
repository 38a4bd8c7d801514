package proxmox

import (
	"context"
	"errors"
	"fmt"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// ruleMark is the comment of the rules that builds set. Others in the same
// firewall are left alone.
const ruleMark = "dayfly"

// Shield sets options of a container's firewall, and puts rules, by the API's
// names, before those that are there. Rules of an earlier Shield are replaced,
// so that it may be repeated, and is when an answer was lost.
func (b *Builder) Shield(ctx context.Context, node string, id fleet.VMID, options Options, rules []Options) error {
	var err error
	for looks := newLooks(); looks.next(ctx); {
		err = b.c.raise(ctx, container(node, id, "/firewall"), wall{options, rules, ruleMark})
		if !unknown(err) && !errors.Is(err, errModified) && !errors.Is(err, fleet.ErrUnavailable) {
			break
		}
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("set firewall of container %d: %w", id, err)
	}
	return nil
}
