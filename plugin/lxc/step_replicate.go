package lxc

import (
	"context"
	"fmt"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// stepReplicate makes the other copies of the template: on its own node, and
// on the other ones.
type stepReplicate struct{}

// Run implements multistep.Step.
func (*stepReplicate) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	if b.conf.SkipConvertToTemplate {
		return multistep.ActionContinue
	}
	n := 0
	template := &made{node: b.conf.Node, vmid: b.vmid}
	for _, node := range append([]string{b.conf.Node}, b.conf.others()...) {
		from, first := template, 0
		if node == b.conf.Node {
			first = 1 // the template itself
		}
		for range b.conf.Replicas - first {
			n++
			b.ui.Say(fmt.Sprintf("Making replica %d on node %s...", n, node))
			m, err := b.replicate(ctx, from, node, n)
			if err != nil {
				return halt(state, fmt.Errorf("make replica %d on node %s: %w", n, node, err))
			}
			if b.unshared(node) {
				from = m // the others are clones of this one, and nothing more is moved
			}
		}
	}
	return multistep.ActionContinue
}

// Cleanup implements multistep.Step. Replicas go with stepCreate.
func (*stepReplicate) Cleanup(multistep.StateBag) {}

// unshared reports whether a node sees other volumes than the build's own.
func (b *build) unshared(node string) bool {
	_, is := b.targets[node]
	return is
}

// links reports whether a storage makes linked clones: that of the build, or
// the one of a node that does not share it.
func (b *build) links(node string) bool {
	if s, is := b.targets[node]; is {
		return s.Linked()
	}
	return b.linked
}

// replicate clones a template and converts the clone. A clone for another node
// is made on the template's: Proxmox moves it when it is done, where the
// storage is shared; elsewhere it has to be a full one, which is then migrated.
func (b *build) replicate(ctx context.Context, from *made, node string, n int) (*made, error) {
	away := node != from.node
	full := !b.links(from.node) || away && b.unshared(node)
	m, err := b.allocate(ctx, from.node, n, 0, func(m *made) error {
		o := b.cloneOptions(m, b.conf.TemplateName, "building")
		if away && !b.unshared(node) {
			o["target"], m.moving = node, node
		}
		return b.clone(ctx, from, m, full, o)
	})
	if err == nil && m.moving != "" {
		m.arrived()
	}
	if err == nil && m.node != node {
		err = b.migrate(ctx, m, node)
	}
	if err == nil {
		err = b.tag(ctx, m, b.tags(proxmox.BuildingTag), nil)
	}
	if err == nil {
		err = b.api.Convert(ctx, m.node, m.vmid)
	}
	return m, err
}

// migrate moves a clone to a node that does not share its storage.
func (b *build) migrate(ctx context.Context, m *made, node string) error {
	to := b.targets[node].Name
	b.ui.Say(fmt.Sprintf("Moving it to node %s, to storage %s there...", node, to))
	if to == b.storage {
		to = "" // the right to choose one is not needed
	}
	m.moving = node
	task, err := b.api.Migrate(ctx, m.node, m.vmid, node, to)
	if err == nil {
		err = b.await(ctx, m, task)
	}
	if err != nil {
		return err
	}
	m.storageType = b.targets[node].Type
	m.arrived()
	return nil
}

// arrived notes that what was moved is where it was moved to.
func (m *made) arrived() { m.node, m.moving = m.moving, "" }
