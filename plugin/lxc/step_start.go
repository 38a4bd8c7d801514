package lxc

import (
	"context"
	"fmt"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
)

// stepStart starts the container. Without a communicator nothing would happen
// in it, so that it stays as it was made.
type stepStart struct{}

// Run implements multistep.Step.
func (*stepStart) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	if b.conf.Comm.Type == "none" {
		return multistep.ActionContinue
	}
	b.ui.Say(fmt.Sprintf("Starting container %d...", b.vmid))
	if err := b.api.Start(ctx, b.conf.Node, b.vmid); err != nil {
		return halt(state, err)
	}
	return multistep.ActionContinue
}

// Cleanup implements multistep.Step. The container goes with stepCreate.
func (*stepStart) Cleanup(multistep.StateBag) {}
