package proxmox

import (
	"context"
	"fmt"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Manifest says what a container is, in its description. A clone takes its
// template's description unless it is given one, so the manifest is there from
// the clone call on.
type Manifest = fleet.Manifest

const manifestSchema = fleet.ManifestSchema

// Verify reads the manifest in the description of container id named name. A
// manifest of another container, or one changed in any byte, is an error.
func Verify(description string, key fleet.Secret, id fleet.VMID, name string) (Manifest, error) {
	return fleet.ReadManifest(description, key, id, name)
}

// MarkLaunched makes the manifest of a container of ours say that a JIT config
// may be in it. A config that the root half delivers leaves no other trace, and
// what a job has been in must never be taken for a spare. It can be repeated.
func (c *Client) MarkLaunched(ctx context.Context, node string, id fleet.VMID) error {
	err := c.inRange(id)
	if err == nil {
		err = c.markLaunched(ctx, node, id)
	}
	if err != nil {
		return fmt.Errorf("mark container %d: %w", id, err)
	}
	return nil
}

func (c *Client) markLaunched(ctx context.Context, node string, id fleet.VMID) error {
	s, err := c.settings(ctx, node, id)
	if err != nil {
		return c.gone(ctx, node, id, err)
	}
	m, err := Verify(s.description(), c.conf.Key, id, string(s["hostname"]))
	if err != nil {
		return fmt.Errorf("it is not ours: %w: %w", err, fleet.ErrInvalid)
	}
	m.Launched = true
	want := wanted{description: m.Sign(c.conf.Key)}
	if c.change(ctx, node, id, s, want) == nil {
		return nil // mostly; else it is looked at again, and tried again
	}
	return c.configure(ctx, node, id, want)
}
