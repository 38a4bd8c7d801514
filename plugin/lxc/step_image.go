package lxc

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/plugin/lxc/pct"
)

// stepBaseImage has the base image fetched and its checksum verified.
type stepBaseImage struct{}

// Run implements multistep.Step.
func (*stepBaseImage) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	var err error
	switch {
	case b.image == "":
	case b.conf.OSTemplateURL != "":
		err = b.download(ctx)
	case b.conf.OSTemplateChecksum != "":
		err = b.verify(ctx)
	}
	if err != nil {
		return halt(state, err)
	}
	return multistep.ActionContinue
}

// Cleanup implements multistep.Step. A base image is kept: it is right, and
// the next build needs it.
func (*stepBaseImage) Cleanup(multistep.StateBag) {}

// download has Proxmox fetch the base image. A file that is there already is
// not fetched again but checked (pve-common, Tools.pm,
// download_file_from_url).
func (b *build) download(ctx context.Context) error {
	storage, file, _ := strings.Cut(b.image, ":")
	kind, sum, _ := strings.Cut(b.conf.OSTemplateChecksum, ":")
	b.ui.Say(fmt.Sprintf("Having %s fetched from %s...", b.image, b.conf.OSTemplateURL))
	task, err := b.api.Download(ctx, b.conf.Node, storage, proxmox.Options{
		"content": "vztmpl", "filename": path.Base(file), "url": b.conf.OSTemplateURL, "checksum": sum, "checksum-algorithm": kind,
	})
	if err == nil {
		err = b.api.Wait(ctx, task)
	}
	if _, failed := errors.AsType[*proxmox.TaskError](err); failed {
		return fmt.Errorf("fetch base image %s: %w; hint: look at ostemplate_url and ostemplate_checksum", b.image, err)
	}
	return err
}

// verify computes the checksum on the node.
func (b *build) verify(ctx context.Context) error {
	kind, want, _ := strings.Cut(b.conf.OSTemplateChecksum, ":")
	b.ui.Say(fmt.Sprintf("Checking the checksum of %s...", b.image))
	file, err := pct.Output(ctx, b.node, "pvesm", "path", b.image)
	if err != nil {
		return fmt.Errorf("find base image on node %s: %w", b.conf.Node, err)
	}
	out, err := pct.Output(ctx, b.node, kind+"sum", "--", strings.TrimSpace(file))
	if err != nil {
		return fmt.Errorf("check base image on node %s: %w", b.conf.Node, err)
	}
	got, _, _ := strings.Cut(strings.TrimPrefix(out, `\`), " ")
	if !strings.EqualFold(got, want) {
		return fmt.Errorf("base image %s has the %s sum %s, want %s; hint: fetch it again, or correct ostemplate_checksum", b.image, kind, got, want)
	}
	return nil
}
