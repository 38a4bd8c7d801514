// Package lxc is the builder dayfly-lxc: it makes versioned templates of
// Proxmox VE containers.
//
// The list of steps in Run is the build. Whatever a build has made is removed
// unless its last step was reached, and is recognisable from outside, by its
// manifest, should even that not be possible.
package lxc

import (
	"context"
	"errors"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/communicator"
	"github.com/hashicorp/packer-plugin-sdk/multistep"
	"github.com/hashicorp/packer-plugin-sdk/multistep/commonsteps"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
)

// BuilderID is what artifacts of this builder are known by.
const BuilderID = "dayfly.lxc"

// Builder implements packersdk.Builder.
type Builder struct{ conf Config }

// ConfigSpec implements packersdk.Builder.
func (b *Builder) ConfigSpec() hcldec.ObjectSpec { return b.conf.FlatMapstructure().HCL2Spec() }

// generated are the variables that provisioners and post-processors get as
// build.NAME.
var generated = []string{"TemplateVMID", "TemplateName", "TemplateFamily", "TemplateVersion", "SourceTemplate", "Node"}

// Prepare implements packersdk.Builder.
func (b *Builder) Prepare(raws ...any) ([]string, []string, error) {
	warnings, err := b.conf.prepare(raws...)
	if err != nil {
		return nil, warnings, err
	}
	return generated, warnings, nil
}

// Run implements packersdk.Builder.
func (b *Builder) Run(ctx context.Context, ui packersdk.Ui, hook packersdk.Hook) (packersdk.Artifact, error) {
	run, err := b.begin(ctx, ui)
	if err != nil {
		return nil, err
	}
	defer run.end()
	state := new(multistep.BasicStateBag)
	state.Put("build", run)
	state.Put("hook", hook)
	state.Put("ui", ui)

	comm := &run.conf.Comm
	steps := []multistep.Step{
		&stepPreflight{},
		&stepBaseImage{},
		multistep.If(run.needsKey(), &communicator.StepSSHKeyGen{CommConf: comm, SSHTemporaryKeyPair: comm.SSHTemporaryKeyPair}),
		&stepCreate{},
		&stepOptions{},
		&stepStart{},
		multistep.If(comm.Type == "ssh", &stepAddress{}),
		&communicator.StepConnect{
			Config:        comm,
			Host:          sshHost,
			CustomConnect: map[string]multistep.Step{"ssh": &stepConnectSSH{}, "pct": &stepConnectPct{}},
		},
		&commonsteps.StepProvision{},
		&stepSeal{},
		&stepShutdown{},
		&stepShield{},
		&stepConvert{},
		&stepSmoke{},
		&stepReplicate{},
		&stepStamp{},
	}
	commonsteps.NewRunner(steps, run.conf.PackerConfig, ui).Run(ctx, state)

	if err, ok := state.GetOk("error"); ok {
		return nil, err.(error)
	}
	if !run.done {
		return nil, errors.New("build was cancelled")
	}
	return run.artifact(state), nil
}
