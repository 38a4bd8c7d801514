package lxc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/plugin/lxc/pct"
)

// build is one run of the builder: what the steps know and have made. It is in
// the state bag under "build".
type build struct {
	conf *Config
	api  *proxmox.Builder
	ui   packersdk.Ui
	node pct.Shell // root on the node; nil: no way there

	info       proxmox.TemplateInfo       // its Build names this build
	storage    string                     // of the container
	linked     bool                       // the storage makes linked clones
	targets    map[string]proxmox.Storage // of the nodes that do not share it, by node
	source     proxmox.Built              // the template to start from
	image      string                     // base image
	replaced   []proxmox.Built            // older templates of the same name, with -force
	made       []*made                    // oldest first
	vmid       fleet.VMID                 // of the template
	mac        string                     // of net0
	address    string                     // of net0
	addressed  bool                       // net0 is to have one
	hostKeys   []string                   // fingerprints of the container's SSH host keys
	identified bool                       // the host key is one that the build gave
	version    proxmox.Version
	done       bool // the template is ready; nothing may be removed
}

// made is something that has to go unless the build succeeds.
type made struct {
	node    string
	vmid    fleet.VMID
	task    proxmox.Task // that makes it; empty: not begun
	ended   bool         // the task has, well
	unknown bool         // the call that makes it had no answer
	replica int          // 0: the template itself; -1: a throw-away clone

	hostKeys    []string // fingerprints of the SSH host keys of a throw-away clone
	moving      string   // node that it is being moved to: it is here or there
	storageType string   // of a replica that was moved; empty: the build's
}

func of(state multistep.StateBag) *build { return state.Get("build").(*build) }

// halt stops the build with an error.
func halt(state multistep.StateBag, err error) multistep.StepAction {
	state.Put("error", err)
	return multistep.ActionHalt
}

// note records a VMID that is about to be used, before the call that uses it.
func (b *build) note(node string, id fleet.VMID, replica int) *made {
	m := &made{node: node, vmid: id, replica: replica}
	b.made = append(b.made, m)
	return m
}

// forget drops a record of what turned out to be another's, or is gone.
func (b *build) forget(m *made) {
	for i, x := range b.made {
		if x == m {
			b.made = append(b.made[:i], b.made[i+1:]...)
			return
		}
	}
}

// mine recognises what this build made, by its description.
func (b *build) mine(description string) bool {
	info, err := proxmox.ReadTemplate(description)
	return err == nil && info.Build == b.info.Build
}

// describe is the description in a state: that of the manifest, below the
// words of the user.
func (b *build) describe(info proxmox.TemplateInfo) string {
	text := info.Describe()
	if b.conf.TemplateDescription != "" {
		text = b.conf.TemplateDescription + "\n\n" + text
	}
	return text
}

func (b *build) tags(state string) string {
	tags := append([]string{proxmox.TemplateTag, state, proxmox.FamilyTag + b.conf.TemplateFamily, proxmox.VersionTag + b.conf.TemplateVersion}, b.conf.ownTags()...)
	return strings.Join(tags, ";")
}

// tag sets tags and other options. Tags are for people: where the datacenter
// reserves them, the manifest alone says what they say.
func (b *build) tag(ctx context.Context, m *made, tags string, more proxmox.Options) error {
	options := proxmox.Options{"tags": tags}
	for k, v := range more {
		options[k] = v
	}
	err := b.api.Change(ctx, m.node, m.vmid, options)
	if err == nil || !errors.Is(err, fleet.ErrDenied) || !strings.Contains(err.Error(), "tag '") {
		return err
	}
	b.ui.Error(fmt.Sprintf("The datacenter does not let %s set tags (%v); the manifest says the same.", b.api.User(), err))
	if len(more) == 0 {
		return nil
	}
	return b.api.Change(ctx, m.node, m.vmid, more)
}

// maxTries bounds the search for a free VMID: others may take every one that
// is found free.
const maxTries = 100

// allocate finds a free VMID and makes something with it. A VMID that was
// taken meanwhile is left to its owner.
func (b *build) allocate(ctx context.Context, node string, replica, fixed int, try func(*made) error) (*made, error) {
	next := b.candidates(ctx, fixed)
	var last error
	for range maxTries {
		id, err := next()
		if err != nil {
			return nil, err
		}
		m := b.note(node, id, replica)
		err = try(m)
		if !errors.Is(err, fleet.ErrExists) {
			m.unknown = m.task == "" && errors.Is(err, fleet.ErrUnknownOutcome)
			if err != nil && m.task == "" && !m.unknown {
				b.forget(m) // refused
			}
			return m, err
		}
		b.forget(m)
		if last = err; fixed != 0 {
			return nil, fmt.Errorf("%w; hint: choose another vm_id, or leave it out", err)
		}
		log.Printf("VMID %d was taken meanwhile: %v", id, err)
	}
	return nil, last
}

// candidates gives one VMID after the other.
func (b *build) candidates(ctx context.Context, fixed int) func() (fleet.VMID, error) {
	switch {
	case fixed != 0:
		return func() (fleet.VMID, error) { return fleet.VMID(fixed), nil }
	case b.conf.VMIDRange == "":
		return func() (fleet.VMID, error) { return b.api.NextVMID(ctx) }
	}
	first, last, _ := b.conf.vmidRange() // checked
	id := first - 1
	return func() (fleet.VMID, error) {
		for id++; id <= last; id++ {
			taken, err := b.api.Taken(ctx, fleet.VMID(id))
			if err != nil || !taken {
				return fleet.VMID(id), err
			}
		}
		return 0, fmt.Errorf("vm_id_range %s: every VMID is taken", b.conf.VMIDRange)
	}
}

// cloneOptions are those of a clone of the template.
func (b *build) cloneOptions(m *made, name, state string) proxmox.Options {
	info := b.info
	info.State, info.Replica = state, max(m.replica, 0)
	o := proxmox.Options{"hostname": name, "description": b.describe(info)}
	if b.conf.Pool != "" {
		o["pool"] = b.conf.Pool
	}
	return o
}

// await notes the task that makes something, and waits for it. Where the answer
// to its request was lost, what it made may be another build's, which was given
// the VMID with the same token: fleet.ErrExists.
func (b *build) await(ctx context.Context, m *made, task proxmox.Task) error {
	m.task, m.ended = task, false
	err := b.api.Wait(ctx, task)
	m.ended = err == nil
	if err != nil || !b.api.Adopted(task) {
		return err
	}
	s, err := b.api.Settings(ctx, cmp.Or(m.moving, m.node), m.vmid)
	if err == nil && !b.mine(s["description"]) {
		err = fmt.Errorf("container %d is another build's: %w", m.vmid, fleet.ErrExists)
	}
	return err
}

// clone copies a container or template and waits for the copy. Proxmox makes
// one copy of a template at a time and refuses the others at once.
func (b *build) clone(ctx context.Context, from *made, m *made, full bool, options proxmox.Options) error {
	ctx, cancel := context.WithTimeout(ctx, b.conf.TaskTimeout)
	defer cancel()
	if full {
		options["full"] = 1
	}
	for nap := 100 * time.Millisecond; ; nap = min(2*nap, 5*time.Second) {
		task, err := b.api.Copy(ctx, from.node, from.vmid, m.vmid, options)
		if err == nil {
			return b.await(ctx, m, task)
		}
		switch {
		case !full && b.api.NeedsFull(err):
			b.ui.Say("The storage makes no linked clones: copying in full.")
			full, b.linked, options["full"] = true, false, 1
			continue
		case !errors.Is(err, fleet.ErrLocked):
			return err
		}
		select {
		case <-time.After(nap):
		case <-ctx.Done():
			return err
		}
	}
}

// pve is the host of the API, for messages.
func (b *build) pve() string {
	u, err := url.Parse(b.conf.ProxmoxURL)
	if err != nil {
		return b.conf.ProxmoxURL
	}
	return u.Host
}
