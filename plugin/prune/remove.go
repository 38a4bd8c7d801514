package prune

import (
	"context"
	"errors"
	"fmt"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// remove removes what is doomed, one after the other. What fails is reported
// at the end: one template must not keep the others.
func (c *Config) remove(ctx context.Context, ui packersdk.Ui, b *proxmox.Builder, w *world) error {
	for _, version := range w.versions() {
		if why := w.kept(version, c.KeepReleases); why != "" {
			ui.Say(fmt.Sprintf("keep %s: %s", fleet.Ref{Family: w.family, Version: version}, why))
		}
	}
	var errs []error
	for _, t := range w.doomed(c.KeepReleases) {
		name := fmt.Sprintf("%s, %d on node %s", t.Info.Ref(), t.VMID, t.Node)
		if c.DryRun {
			ui.Say("would remove " + name)
			continue
		}
		why, err := c.removeOne(ctx, b, t)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("remove %s: %w", name, err))
		case why != "":
			ui.Say(fmt.Sprintf("keep %s: %s", name, why))
		default:
			ui.Say("removed " + name)
		}
	}
	return errors.Join(errs...)
}

// removeOne withdraws a template, so that no new clone is made, looks once
// more for clones, and destroys it. When it has clones after all it is put
// back, and why it stays is returned.
func (c *Config) removeOne(ctx context.Context, b *proxmox.Builder, t proxmox.Built) (why string, err error) {
	if t.Lock != "" {
		return "it is locked (" + t.Lock + ")", nil
	}
	if err := b.Withdraw(ctx, t, false); err != nil {
		return "", err
	}
	why, err = c.inUse(ctx, b, t)
	if err == nil && why == "" {
		err = b.Destroy(ctx, t.Node, t.VMID, isStill(t))
		if err == nil {
			return "", nil
		}
		if proxmox.StillUsed(err) {
			why, err = "Proxmox says that clones use it", nil
		}
	}
	return why, errors.Join(err, putBack(ctx, b, t))
}

// putBack makes a template usable again, also when the build was interrupted.
func putBack(ctx context.Context, b *proxmox.Builder, t proxmox.Built) error {
	if err := b.Withdraw(context.WithoutCancel(ctx), t, true); err != nil && !errors.Is(err, fleet.ErrNotFound) && !errors.Is(err, fleet.ErrDenied) {
		return fmt.Errorf("make it usable again: %w", err)
	}
	return nil
}

// inUse looks for clones that were begun before the template was withdrawn.
func (c *Config) inUse(ctx context.Context, b *proxmox.Builder, t proxmox.Built) (string, error) {
	busy, err := b.Busy(ctx, t)
	if err != nil {
		return "", err
	}
	if busy {
		return "it is being cloned", nil
	}
	clones, err := b.Clones(ctx, c.RunnerPool)
	if err != nil {
		return "", err
	}
	w := world{family: t.Info.Family, built: []proxmox.Built{t}, clones: clones}
	if n := w.clonesOf(t.Info.Version); n > 0 {
		return fmt.Sprintf("has %d clones", n), nil
	}
	return "", nil
}

// isStill recognises the template: its VMID may be another's by now.
func isStill(t proxmox.Built) func(description string) bool {
	return func(description string) bool {
		info, err := proxmox.ReadTemplate(description)
		return err == nil && info.Ref() == t.Info.Ref() && info.Build == t.Info.Build && info.BuiltAt.Equal(t.Info.BuiltAt)
	}
}
