package lxc

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// stepShield sets the template's firewall, whose file its clones get a copy
// of (pve-container, API2/LXC.pm, clone_vm). It comes after the provisioners:
// what they fetch is not what jobs may reach, and Packer comes in by SSH.
type stepShield struct{}

// Run implements multistep.Step.
func (*stepShield) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	if !b.conf.shielded() {
		return multistep.ActionContinue
	}
	f := &b.conf.Firewall
	b.ui.Say(fmt.Sprintf("Setting its firewall: in %s, out %s, %d rules...", f.PolicyIn, f.PolicyOut, len(f.rules())))
	if err := b.api.Shield(ctx, b.conf.Node, b.vmid, f.options(), f.rules()); err != nil {
		return halt(state, err)
	}
	return multistep.ActionContinue
}

// Cleanup implements multistep.Step. The firewall goes with the container.
func (*stepShield) Cleanup(multistep.StateBag) {}

func (f *Firewall) on() bool { return on(f.Enable, true) }

// shielded reports whether there is something to filter.
func (c *Config) shielded() bool {
	return c.Firewall.on() && (len(c.NetworkAdapters) > 0 || c.SourceTemplate != nil)
}

// options are those of the container's firewall. DHCP is let through for
// clones whose pool asks for it, and ipfilter is off: an address of DHCP is in
// no list of addresses that may pass (pve-firewall, Firewall.pm).
func (f *Firewall) options() proxmox.Options {
	o := proxmox.Options{"enable": 1, "policy_in": f.PolicyIn, "policy_out": f.PolicyOut, "dhcp": 1, "ipfilter": 0, "macfilter": 0}
	if on(f.MACFilter, true) {
		o["macfilter"] = 1
	}
	return o
}

// rules are the container's own, in their order.
func (f *Firewall) rules() []proxmox.Options {
	var list []proxmox.Options
	add := func(kind, action, dest string) {
		o := proxmox.Options{"type": kind, "action": action, "enable": 1}
		if dest != "" {
			o["dest"] = dest
		}
		list = append(list, o)
	}
	for _, n := range f.AllowOut {
		add("out", "ACCEPT", n)
	}
	for _, n := range f.DenyOut {
		add("out", "DROP", n)
	}
	for _, g := range f.SecurityGroups {
		add("group", g, "")
	}
	return list
}

// filter adds to o the network devices, of those a clone has now, that the
// firewall would not filter.
func (c *Config) filter(o proxmox.Options, now map[string]string) {
	if !c.shielded() || len(c.NetworkAdapters) > 0 {
		return
	}
	for key, value := range now {
		if netForm.MatchString(key) && netOption(value, "firewall") != "1" {
			o[key] = strings.ReplaceAll(value, ",firewall=0", "") + ",firewall=1"
		}
	}
}

var netForm = regexp.MustCompile(`^net\d+$`)

// unshield lets everything pass while a clone of a template is provisioned.
func (b *build) unshield(ctx context.Context) error {
	return b.api.Shield(ctx, b.conf.Node, b.vmid, proxmox.Options{"enable": 0}, nil)
}

// answersSSH lets Packer into the smoke test's clone, and leaves the rest of
// its firewall as all clones have it.
func (b *build) answersSSH(ctx context.Context, m *made) error {
	port := b.conf.Comm.SSHPort
	in := proxmox.Options{"type": "in", "action": "ACCEPT", "enable": 1, "proto": "tcp", "dport": fmt.Sprint(port)}
	f := &b.conf.Firewall
	return b.api.Shield(ctx, m.node, m.vmid, f.options(), append([]proxmox.Options{in}, f.rules()...))
}
