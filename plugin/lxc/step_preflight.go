package lxc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// stepPreflight looks for everything that would fail later, reports all of it
// at once, and removes what dead builds have left. It makes nothing.
type stepPreflight struct{}

// Run implements multistep.Step.
func (*stepPreflight) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	b.ui.Say(fmt.Sprintf("Looking at node %s of %s...", b.conf.Node, b.pve()))
	look := preflight{build: b}
	if err := look.run(ctx); err != nil {
		return halt(state, err)
	}
	if len(look.errs) > 0 {
		return halt(state, &packersdk.MultiError{Errors: look.errs})
	}
	return multistep.ActionContinue
}

// Cleanup implements multistep.Step.
func (*stepPreflight) Cleanup(multistep.StateBag) {}

type preflight struct {
	*build
	errs     []error
	storages []proxmox.Storage
}

func (p *preflight) say(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf(format, args...))
}

// run ends early only where nothing more can be seen.
func (p *preflight) run(ctx context.Context) error {
	if err := p.version(ctx); err != nil {
		return err
	}
	if err := p.nodes(ctx); err != nil {
		return err
	}
	built, err := p.read(ctx)
	if err != nil {
		return err
	}
	p.sources(built)
	if err := p.privileges(ctx); err != nil {
		return err
	}
	if len(p.errs) > 0 {
		return nil // what follows may fail for the same reasons
	}
	// First of all: remains have VMIDs, and fill storages.
	if p.sweep(ctx, built) {
		if built, err = p.read(ctx); err != nil {
			return err
		}
	}
	if err := p.volumes(ctx); err != nil {
		return err
	}
	p.duplicates(built)
	return p.taken(ctx)
}

// read asks what there is: what builds have made, and the storages.
func (p *preflight) read(ctx context.Context) ([]proxmox.Built, error) {
	built, err := p.built(ctx)
	if err == nil {
		p.storages, err = p.api.Storages(ctx, p.conf.Node)
	}
	return built, err
}

func (p *preflight) version(ctx context.Context) error {
	v, err := p.api.Version(ctx)
	p.build.version = v
	switch {
	case errors.Is(err, fleet.ErrDenied):
		return fmt.Errorf("log in to Proxmox: it does not know %s or its secret: %w; hint: look at username and token, and at the node's syslog", p.api.User(), err)
	case err != nil:
		return fmt.Errorf("no answer from Proxmox at %s: %w; hint: look at proxmox_url", p.pve(), err)
	case v.Major < 8:
		p.say("Proxmox VE %s is too old: want 8.0 or later", v)
	case p.conf.admits() && !v.Env(): // entrypoint came together with env
		p.say("smoke_test.commands: Proxmox VE %s lets no token bring the build's SSH key into the clone, 9.1 does: give host_ssh, run the build on the node, "+
			"give ssh_private_key_file or ssh_password that the template accepts, or leave the commands out", v)
	}
	return nil
}

func (p *preflight) nodes(ctx context.Context) error {
	nodes, err := p.api.Nodes(ctx)
	if err != nil {
		return err
	}
	for _, want := range p.conf.Nodes {
		i := slices.IndexFunc(nodes, func(n fleet.Node) bool { return n.Name == want })
		switch {
		case i < 0:
			var names []string
			for _, n := range nodes {
				names = append(names, n.Name)
			}
			return fmt.Errorf("there is no node %s; hint: the cluster has %s", want, strings.Join(names, ", "))
		case !nodes[i].Online:
			return fmt.Errorf("node %s is offline; hint: start it, or build without it", want)
		}
	}
	return nil
}

// built lists what builds have made on the nodes that get the template.
func (b *build) built(ctx context.Context) ([]proxmox.Built, error) {
	var all []proxmox.Built
	for _, node := range b.conf.Nodes {
		found, err := b.api.Built(ctx, node)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// sources finds the template to start from.
func (p *preflight) sources(built []proxmox.Built) {
	want := p.conf.SourceTemplate
	if want == nil {
		p.image = p.conf.OSTemplate
		p.storage = p.conf.Rootfs.Storage
		return
	}
	var best *proxmox.Built
	for i, x := range built {
		suits := want.VMID != 0 && x.VMID == fleet.VMID(want.VMID) || want.VMID == 0 && x.Info.Family == want.Family &&
			(want.Version == "" || x.Info.Version == want.Version)
		if suits && x.Node == p.conf.Node && x.Ready() && (best == nil || x.Info.BuiltAt.After(best.Info.BuiltAt)) {
			best = &built[i]
		}
	}
	if best == nil {
		name := fleet.Ref{Family: want.Family, Version: want.Version}.String()
		if want.VMID != 0 {
			name = strconv.Itoa(want.VMID)
		}
		p.say("source_template: node %s has no finished template %s that %s may see; hint: VM.Audit and VM.Clone on it are needed", p.conf.Node, name, p.api.User())
		return
	}
	p.source, p.storage = *best, best.Storage
	if need := p.conf.Rootfs.Size; need != "" && bytesOf(need) < int64(best.Size)<<20 {
		p.say("rootfs.size: %s is less than the %d MiB of template %s, and a root file system only grows; hint: leave it out", need, best.Size, best.Info.Ref())
	}
	// A full copy goes where it is told to, a linked one is where its template is
	// (pve-container, API2/LXC.pm, clone_vm).
	from, seen := p.find(best.Storage)
	full := p.conf.FullClone.True() || seen && !from.Linked()
	switch to := p.conf.Rootfs.Storage; {
	case to == "" || to == best.Storage:
	case full:
		p.storage = to
	default:
		p.say("rootfs.storage: a linked clone of template %s stays on its storage, %s; hint: leave rootfs.storage out, or set full_clone", best.Info.Ref(), best.Storage)
	}
}

func (p *preflight) privileges(ctx context.Context) error {
	k := proxmox.Bake{
		Node: p.conf.Node, Pool: p.conf.Pool, Source: p.source.VMID, Download: p.conf.OSTemplateURL != "",
		Privileged: !on(p.conf.Unprivileged, true), Privileges: p.conf.privileges(), SmokeClones: !p.conf.SmokeTest.Skip || p.conf.Replicas > 1 || len(p.conf.others()) > 0, Migrates: p.migrates(),
	}
	k.BaseImages, _, _ = strings.Cut(p.image, ":")
	if p.storage != "" {
		k.Storages = []string{p.storage}
	}
	if p.conf.ReplicaStorage != "" && p.migrates() {
		k.Storages = append(k.Storages, p.conf.ReplicaStorage)
	}
	for _, n := range p.conf.NetworkAdapters {
		tag, _ := strconv.Atoi(n.VLANTag)
		k.Bridges = append(k.Bridges, proxmox.Bridge{Name: n.Bridge, VLAN: tag})
	}
	if p.conf.Pool == "" && p.conf.VMID != 0 {
		k.Containers = []fleet.VMID{fleet.VMID(p.conf.VMID)}
	}
	missing, err := p.api.Missing(ctx, k)
	for _, m := range missing {
		p.say("%s\n  hint: as root on a node run: %s\n        %s", m.What, m.Role, m.Command)
	}
	return err
}

// volumes looks at the storages and at the base image.
func (p *preflight) volumes(ctx context.Context) error {
	p.rootfs()
	if err := p.replicaStorages(ctx); err != nil {
		return err
	}
	image, _, fromImage := strings.Cut(p.image, ":")
	if !fromImage {
		return nil
	}
	s, ok := p.find(image)
	switch {
	case !ok:
		p.say("ostemplate: node %s has no storage %s that %s may see; hint: it has %s", p.conf.Node, image, p.api.User(), p.names())
		return nil
	case !s.Active:
		p.say("ostemplate: storage %s is not active on node %s", image, p.conf.Node)
		return nil
	case !slices.Contains(s.Content, "vztmpl"):
		p.say("ostemplate: storage %s holds no base images (vztmpl), only %s", image, strings.Join(s.Content, ", "))
		return nil
	}
	if p.conf.OSTemplateURL != "" {
		return nil
	}
	images, err := p.api.BaseImages(ctx, p.conf.Node, image)
	if err != nil {
		return err
	}
	if !slices.Contains(images, p.image) {
		p.say("ostemplate: storage %s has no %s; hint: it has %s. Run \"pveam download %s FILE\" on the node, or give ostemplate_url",
			image, p.image, strings.Join(images, ", "), image)
	}
	return nil
}

// rootfs looks at the storage of the container.
func (p *preflight) rootfs() {
	s, ok := p.find(p.storage)
	switch {
	case !ok:
		p.say("rootfs.storage: node %s has no storage %s that %s may see; hint: it has %s", p.conf.Node, p.storage, p.api.User(), p.names())
		return
	case !s.Active:
		p.say("rootfs.storage: storage %s is not active on node %s", s.Name, p.conf.Node)
	case !slices.Contains(s.Content, "rootdir"):
		p.say("rootfs.storage: storage %s holds no containers (rootdir), only %s", s.Name, strings.Join(s.Content, ", "))
	case s.Type == "lvm" && !p.conf.SkipConvertToTemplate:
		p.say("rootfs.storage: storage %s is of type lvm, which makes no templates of containers; hint: use zfspool, lvmthin, btrfs, rbd or dir", s.Name)
	}
	copies := p.conf.OSTemplate != "" || p.storage != p.source.Storage || p.conf.FullClone.True() || !s.Linked()
	if need, what := p.size(); copies && s.Active && s.Free < need {
		p.say("rootfs.storage: storage %s is full: %d MiB are free, %s; hint: remove old templates, or choose a smaller size or another storage",
			s.Name, s.Free>>20, what)
	}
	p.info.StorageType = s.Type
	p.linked = s.Linked()
	if !p.linked {
		p.ui.Say(fmt.Sprintf("Storage %s (%s) makes no linked clones: every runner will be a full copy, which takes minutes.", s.Name, s.Type))
	}
}

// size is that of the root file system, in bytes, and where it comes from: a
// template to start from has one, which can only grow.
func (p *preflight) size() (need int64, what string) {
	if p.conf.Rootfs.Size != "" {
		return bytesOf(p.conf.Rootfs.Size), "rootfs.size is " + p.conf.Rootfs.Size
	}
	return int64(p.source.Size) << 20, fmt.Sprintf("the root file system of template %s has %d MiB", p.source.Info.Ref(), p.source.Size)
}

func bytesOf(size string) int64 {
	if size == "" {
		return 0
	}
	gib, err := strconv.ParseFloat(gigabytes(size), 64)
	if err != nil {
		return 0 // checked
	}
	return int64(gib * (1 << 30))
}

func (p *preflight) find(name string) (proxmox.Storage, bool) {
	i := slices.IndexFunc(p.storages, func(s proxmox.Storage) bool { return s.Name == name })
	if i < 0 {
		return proxmox.Storage{}, false
	}
	return p.storages[i], true
}

func (p *preflight) names() string {
	var names []string
	for _, s := range p.storages {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

// duplicates looks for templates and running builds of the same name.
func (p *preflight) duplicates(built []proxmox.Built) {
	for _, x := range built {
		if x.Info.Ref() != p.conf.ref() {
			continue
		}
		switch {
		case x.Ready() && p.conf.PackerForce:
			p.replaced = append(p.replaced, x)
		case x.Ready():
			p.say("template %s exists already: %d on node %s; hint: choose another template_version, or run packer build -force to replace it",
				p.conf.ref(), x.VMID, x.Node)
		case unfinished(x) && !dead(x.Info, p.conf.LeftoverAge):
			p.say("another build is making %s: %d on node %s, since %s; hint: wait for it; if it is dead, it counts as remains after leftover_age (%s)",
				p.conf.ref(), x.VMID, x.Node, x.Info.Started.Format("2006-01-02 15:04:05 MST"), p.conf.LeftoverAge)
		}
	}
}

func (p *preflight) taken(ctx context.Context) error {
	if p.conf.VMID == 0 {
		return nil
	}
	taken, err := p.api.Taken(ctx, fleet.VMID(p.conf.VMID))
	if err == nil && taken {
		p.say("vm_id: VMID %d is taken; hint: choose another, or leave it out", p.conf.VMID)
	}
	return err
}

// unfinished reports whether x is something that a build has not finished.
func unfinished(x proxmox.Built) bool {
	return x.Info.State == "building" || x.Info.State == "smoke"
}

// sweep removes what dead builds have left: those that were killed, or told to
// leave it with -on-error=abort. It reports whether there was any.
func (p *preflight) sweep(ctx context.Context, built []proxmox.Built) (found bool) {
	for _, x := range slices.Backward(built) { // clones have higher VMIDs than what they are of, mostly
		if !unfinished(x) || !dead(x.Info, p.conf.LeftoverAge) {
			continue
		}
		found = true
		p.ui.Say(fmt.Sprintf("Removing container %d on node %s, which a build of %s left that began at %s...",
			x.VMID, x.Node, x.Info.Ref(), x.Info.Started.Format("2006-01-02 15:04:05 MST")))
		same := func(description string) bool {
			info, err := proxmox.ReadTemplate(description)
			return err == nil && info.Build == x.Info.Build
		}
		if err := p.api.Destroy(ctx, x.Node, x.VMID, same); err != nil {
			p.ui.Error(fmt.Sprintf("Container %d on node %s is left: %v", x.VMID, x.Node, err))
		}
	}
	return found
}
