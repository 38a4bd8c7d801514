package proxmox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"

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
		err = b.shield(ctx, container(node, id, "/firewall"), options, rules)
		if !unknown(err) && !errors.Is(err, fleet.ErrUnavailable) {
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

// shield enables the rules last: a firewall that is not finished would let
// through what it is there to stop, or stop what it lets through.
func (b *Builder) shield(ctx context.Context, path string, options Options, rules []Options) error {
	if err := b.dropRules(ctx, path+"/rules"); err != nil {
		return err
	}
	for _, r := range slices.Backward(rules) { // a new rule comes first, wherever it is asked to be (Firewall.pm, create_rule)
		r = maps.Clone(r)
		r["comment"] = ruleMark
		if err := unwrap("POST", path+"/rules", b.c.api.Post(ctx, path+"/rules", r, nil)); err != nil {
			return err
		}
	}
	return b.c.put(ctx, path+"/options", options)
}

// dropRules removes the rules that a build has set, the last one first: the
// others keep their places.
func (b *Builder) dropRules(ctx context.Context, path string) error {
	var list []struct {
		Pos     integer `json:"pos"`
		Comment text    `json:"comment"`
	}
	if err := b.c.get(ctx, path, url.Values{}, &list); err != nil {
		return err
	}
	for _, r := range slices.Backward(list) {
		if r.Comment != ruleMark {
			continue
		}
		one := fmt.Sprintf("%s/%d", path, r.Pos)
		if err := unwrap("DELETE", one, b.c.api.Delete(ctx, one, nil)); err != nil {
			return err
		}
	}
	return nil
}
