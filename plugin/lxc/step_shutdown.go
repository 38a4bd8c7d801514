package lxc

import (
	"context"
	"fmt"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
)

// stepShutdown takes the container down, by force when it does not listen.
type stepShutdown struct{}

// Run implements multistep.Step.
func (*stepShutdown) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	if b.conf.Comm.Type == "none" {
		return multistep.ActionContinue
	}
	b.ui.Say(fmt.Sprintf("Shutting container %d down...", b.vmid))
	if err := b.api.Shutdown(ctx, b.conf.Node, b.vmid, b.conf.ShutdownTimeout); err != nil {
		return halt(state, err)
	}
	return multistep.ActionContinue
}

// Cleanup implements multistep.Step.
func (*stepShutdown) Cleanup(multistep.StateBag) {}
