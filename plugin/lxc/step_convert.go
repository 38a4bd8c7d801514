package lxc

import (
	"context"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// stepConvert makes a template of the container and waits until it is one.
// Its tags still say that it is being built.
type stepConvert struct{}

// Run implements multistep.Step.
func (*stepConvert) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	o := proxmox.Options{"hostname": b.conf.TemplateName}
	if b.identified {
		o["delete"] = "entrypoint"
	}
	err := b.api.Change(ctx, b.conf.Node, b.vmid, o)
	if err == nil && !b.conf.SkipConvertToTemplate {
		b.ui.Say("Converting it to a template...")
		err = b.api.Convert(ctx, b.conf.Node, b.vmid)
	}
	if err != nil {
		return halt(state, err)
	}
	return multistep.ActionContinue
}

// Cleanup implements multistep.Step.
func (*stepConvert) Cleanup(multistep.StateBag) {}
