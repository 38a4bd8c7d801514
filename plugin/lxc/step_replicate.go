package lxc

import (
	"context"
	"fmt"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// stepReplicate makes the other copies of the template: on its own node, and
// on the other ones that share the storage.
type stepReplicate struct{}

// Run implements multistep.Step.
func (*stepReplicate) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	if b.conf.SkipConvertToTemplate {
		return multistep.ActionContinue
	}
	n := 0
	for _, node := range append([]string{b.conf.Node}, b.conf.others()...) {
		first := 0
		if node == b.conf.Node {
			first = 1 // the template itself
		}
		for range b.conf.Replicas - first {
			n++
			b.ui.Say(fmt.Sprintf("Making replica %d on node %s...", n, node))
			if err := b.replicate(ctx, node, n); err != nil {
				return halt(state, fmt.Errorf("make replica %d on node %s: %w", n, node, err))
			}
		}
	}
	return multistep.ActionContinue
}

// Cleanup implements multistep.Step. Replicas go with stepCreate.
func (*stepReplicate) Cleanup(multistep.StateBag) {}

// replicate clones the template and converts the clone. A clone for another
// node is made on this one and moved when it is done.
func (b *build) replicate(ctx context.Context, node string, n int) error {
	template := &made{node: b.conf.Node, vmid: b.vmid}
	m, err := b.allocate(ctx, b.conf.Node, n, 0, func(m *made) error {
		o := b.cloneOptions(m, b.conf.TemplateName, "building")
		if node != b.conf.Node {
			o["target"] = node
		}
		return b.clone(ctx, template, m, !b.linked, o)
	})
	if err != nil {
		return err
	}
	m.node = node
	if err := b.tag(ctx, m, b.tags(proxmox.BuildingTag), nil); err != nil {
		return err
	}
	return b.api.Convert(ctx, m.node, m.vmid)
}
