package lxc

import (
	"cmp"
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
	if err := b.alone(ctx); err != nil {
		return halt(state, err)
	}
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

// alone makes sure that no other build has made the same template meanwhile, or
// is about to: two that begin at once do not see each other in preflight. Of
// them the one that began later gives way, also where the other is not done.
func (b *build) alone(ctx context.Context) error {
	built, err := b.built(ctx)
	if err != nil {
		return err
	}
	for _, x := range built {
		known := slices.ContainsFunc(b.replaced, func(r proxmox.Built) bool { return r.Node == x.Node && r.VMID == x.VMID })
		switch {
		case x.Info.Ref() != b.conf.ref() || x.Info.Build == b.info.Build || known:
		case x.Ready() && b.conf.PackerForce:
			b.replaced = append(b.replaced, x)
		case x.Ready():
			return fmt.Errorf("template %s exists already: another build made %d on node %s meanwhile; hint: choose another template_version", b.conf.ref(), x.VMID, x.Node)
		case unfinished(x) && !dead(x.Info, b.conf.LeftoverAge) && earlier(x.Info, b.info):
			return fmt.Errorf("another build is making %s: %d on node %s, since %s, before this one; hint: wait for it", b.conf.ref(), x.VMID, x.Node,
				x.Info.Started.Format("2006-01-02 15:04:05 MST"))
		}
	}
	return nil
}

// earlier orders builds: by their begin, then by their ids.
func earlier(a, b proxmox.TemplateInfo) bool {
	return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.Build, b.Build)) < 0
}

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
