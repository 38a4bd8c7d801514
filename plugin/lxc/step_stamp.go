package lxc

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// stepStamp makes the template one that may be used: its manifest and tags say
// "ready" from here on. Templates that it replaces go afterwards.
type stepStamp struct{}

// Run implements multistep.Step.
func (*stepStamp) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	b.info.State, b.info.By, b.info.BuiltAt = "ready", "", time.Now().UTC().Truncate(time.Second)
	// The first copy comes last: it is the one that people look at.
	for _, m := range slices.Backward(b.made) {
		if err := b.stamp(ctx, m); err != nil {
			return halt(state, err)
		}
	}
	b.done = true
	b.retire(ctx)
	return multistep.ActionContinue
}

// Cleanup implements multistep.Step.
func (*stepStamp) Cleanup(multistep.StateBag) {}

func (b *build) stamp(ctx context.Context, m *made) error {
	info := b.info
	info.Replica = m.replica
	if m.storageType != "" {
		info.StorageType = m.storageType
	}
	state := proxmox.ReadyTag
	if b.conf.SkipConvertToTemplate {
		info.State, state = "container", proxmox.BuildingTag
	}
	return b.tag(ctx, m, b.tags(state), proxmox.Options{"description": b.describe(info)})
}

// retire removes the templates that this one replaces. What cannot be removed,
// as it has linked clones, is never cloned again.
func (b *build) retire(ctx context.Context) {
	for _, old := range slices.Backward(b.replaced) {
		info := old.Info
		info.State = "replaced"
		m := &made{node: old.Node, vmid: old.VMID}
		err := b.tag(ctx, m, b.tags("dayfly-state.replaced"), proxmox.Options{"description": b.describe(info)})
		if err == nil {
			b.ui.Say(fmt.Sprintf("Removing template %d on node %s, which this one replaces...", old.VMID, old.Node))
			err = b.api.Destroy(ctx, old.Node, old.VMID, func(description string) bool {
				now, err := proxmox.ReadTemplate(description)
				return err == nil && now.Build == info.Build && now.State == "replaced"
			})
		}
		if err != nil {
			b.ui.Error(fmt.Sprintf("Template %d on node %s, which this one replaces, is left: %v", old.VMID, old.Node, err))
		}
	}
}
