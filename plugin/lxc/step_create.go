package lxc

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// stepCreate makes the container, from a base image or an earlier template.
// Its clean-up removes whatever this step and the later ones have made.
type stepCreate struct{}

// Run implements multistep.Step.
func (*stepCreate) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	var m *made
	var err error
	if b.image != "" {
		b.ui.Say(fmt.Sprintf("Making a container from base image %s...", b.image))
		m, err = b.allocate(ctx, b.conf.Node, 0, b.conf.VMID, func(m *made) error { return b.create(ctx, m) })
	} else {
		b.ui.Say(fmt.Sprintf("Cloning template %s (%d)...", b.source.Info.Ref(), b.source.VMID))
		m, err = b.allocate(ctx, b.conf.Node, 0, b.conf.VMID, func(m *made) error { return b.cloneSource(ctx, m) })
	}
	if err == nil {
		b.vmid = m.vmid
		b.publish(state)
		b.ui.Say(fmt.Sprintf("Made container %d.", m.vmid))
		err = b.prove(ctx, m.vmid)
	}
	if err == nil {
		err = b.tag(ctx, m, b.tags(proxmox.BuildingTag), nil)
	}
	if err != nil {
		return halt(state, err)
	}
	return multistep.ActionContinue
}

// Cleanup implements multistep.Step.
func (*stepCreate) Cleanup(state multistep.StateBag) { of(state).cleanup() }

// publish tells Packer what was made: as build.ID, and to provisioners.
func (b *build) publish(state multistep.StateBag) {
	state.Put("instance_id", fmt.Sprint(b.vmid))
	// Only texts: other types do not survive the way to other plugins.
	state.Put("generated_data", map[string]any{
		"TemplateVMID": fmt.Sprint(b.vmid), "TemplateName": b.conf.TemplateName, "TemplateFamily": b.conf.TemplateFamily,
		"TemplateVersion": b.conf.TemplateVersion, "SourceTemplate": b.info.Source, "Node": b.conf.Node,
	})
}

func (b *build) create(ctx context.Context, m *made) error {
	b.info.Source = b.image
	o := b.conf.options()
	o["ostemplate"] = b.image
	o["hostname"] = b.conf.VMName
	o["rootfs"] = b.storage + ":" + gigabytes(b.conf.Rootfs.Size)
	o["description"] = b.describe(b.info)
	o["unprivileged"] = 0
	if on(b.conf.Unprivileged, true) {
		o["unprivileged"] = 1
	}
	if f := b.conf.tokenFeatures(); f != "" && on(b.conf.Unprivileged, true) {
		o["features"] = f
	}
	if b.conf.Pool != "" {
		o["pool"] = b.conf.Pool
	}
	if key := string(b.conf.Comm.SSHPublicKey); key != "" {
		o["ssh-public-keys"] = strings.TrimSpace(key)
	}
	if b.conf.Comm.Type == "ssh" && b.conf.Comm.SSHPassword != "" && b.conf.Comm.SSHUsername == "root" {
		o["password"] = b.conf.Comm.SSHPassword
	}
	task, err := b.api.Create(ctx, m.node, m.vmid, o)
	if err != nil {
		return err
	}
	if err := b.await(ctx, m, task); err != nil {
		return fmt.Errorf("make container %d: %w", m.vmid, err)
	}
	b.learnKeys(ctx, task)
	return nil
}

// printed is how Proxmox says which host keys it has made for a container
// (pve-container, Setup.pm).
var printed = regexp.MustCompile(`SHA256:[A-Za-z0-9+/]{43}`)

// learnKeys reads the fingerprints of the container's SSH host keys from the
// log of the task that made them, so that the connection to it can be
// verified.
func (b *build) learnKeys(ctx context.Context, task proxmox.Task) {
	lines, err := b.api.Log(ctx, task)
	if err != nil {
		return // the container is then given one to be known by
	}
	for _, l := range lines {
		b.hostKeys = append(b.hostKeys, printed.FindAllString(l, -1)...)
	}
}

func (b *build) cloneSource(ctx context.Context, m *made) error {
	b.info.Source = b.source.Info.Ref().String()
	inherit(&b.info, b.source.Info)
	from := &made{node: b.source.Node, vmid: b.source.VMID}
	full := b.conf.FullClone.True() || b.storage != b.source.Storage || !b.linked
	o := b.cloneOptions(m, b.conf.VMName, "building")
	if full && b.conf.Rootfs.Storage != "" {
		o["storage"] = b.conf.Rootfs.Storage
	}
	return b.clone(ctx, from, m, full, o)
}

// inherit keeps what a template says of what is in it.
func inherit(info *proxmox.TemplateInfo, from proxmox.TemplateInfo) {
	info.Runner, info.RunnerSHA256, info.OS = from.Runner, from.RunnerSHA256, from.OS
	info.Docker, info.StorageDriver, info.Contract = from.Docker, from.StorageDriver, from.Contract
}
