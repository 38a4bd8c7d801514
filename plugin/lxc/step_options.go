package lxc

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/multistep"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/plugin/lxc/pct"
)

// stepOptions pins the options that all clones inherit, and makes sure that
// nothing is inherited that a template must not have.
type stepOptions struct{}

// Run implements multistep.Step.
func (*stepOptions) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	b := of(state)
	s, err := b.api.Settings(ctx, b.conf.Node, b.vmid)
	if err == nil {
		err = b.pin(ctx, s)
	}
	if err == nil {
		s, err = b.api.Settings(ctx, b.conf.Node, b.vmid)
	}
	if err != nil {
		return halt(state, err)
	}
	b.mac, b.addressed = netOption(s["net0"], "hwaddr"), addressed(s["net0"])
	b.info.Features = s["features"]
	if b.conf.Comm.Type == "ssh" && len(b.hostKeys) == 0 {
		m := &made{node: b.conf.Node, vmid: b.vmid}
		if b.hostKeys, err = b.identify(ctx, m, s, ""); err != nil {
			return halt(state, err)
		}
		b.identified = len(b.hostKeys) > 0
	}
	return multistep.ActionContinue
}

// Cleanup implements multistep.Step.
func (*stepOptions) Cleanup(multistep.StateBag) {}

func (b *build) pin(ctx context.Context, now map[string]string) error {
	o := proxmox.Options{}
	if b.image == "" {
		if err := b.unshield(ctx); err != nil {
			return err
		}
		o = b.conf.options()
		b.conf.filter(o, now)
	}
	// A clone of a template that starts on boot, or that is protected, is so
	// too.
	for _, key := range []string{"onboot", "protection"} {
		if now[key] == "1" {
			o[key] = 0
		}
	}
	if want := b.conf.features(); !sameFeatures(now["features"], want) && len(b.conf.rootOptions()) == 0 {
		o["features"] = want
	}
	if len(o) > 0 {
		if err := b.api.Change(ctx, b.conf.Node, b.vmid, o); err != nil {
			return err
		}
	}
	if err := b.grow(ctx); err != nil {
		return err
	}
	return b.pinRoot(ctx, now)
}

// grow makes a clone's root file system larger.
func (b *build) grow(ctx context.Context) error {
	if b.image != "" || b.conf.Rootfs.Size == "" {
		return nil
	}
	task, err := b.api.Resize(ctx, b.conf.Node, b.vmid, b.conf.Rootfs.Size)
	if err != nil || task == "" {
		return err
	}
	return b.api.Wait(ctx, task)
}

// pinRoot sets what only root may set: as root@pam by the API, else as root on
// the node.
func (b *build) pinRoot(ctx context.Context, now map[string]string) error {
	options := b.conf.rootOptions()
	if len(options) == 0 {
		return nil
	}
	for _, o := range options {
		b.ui.Say(fmt.Sprintf("%s: %s; set by root.", o.field, o.why))
	}
	want := map[string]string{}
	if f := b.conf.features(); !sameFeatures(now["features"], f) {
		want["features"] = f
	}
	for key, value := range b.conf.devices() {
		if now[key] != value {
			want[key] = value
		}
	}
	var err error
	switch {
	case len(want) == 0:
	case b.api.Root():
		o := proxmox.Options{}
		for k, v := range want {
			o[k] = v
		}
		err = b.api.Change(ctx, b.conf.Node, b.vmid, o)
	default:
		argv := []string{"pct", "set", fmt.Sprint(b.vmid)}
		for _, key := range sortedKeys(want) {
			argv = append(argv, "--"+key, want[key])
		}
		_, err = pct.Output(ctx, b.node, argv...)
	}
	if err != nil {
		return fmt.Errorf("set options as root on node %s: %w", b.conf.Node, err)
	}
	return b.pinRaw(ctx)
}

// pinRaw appends lines to the container's configuration file. The container is
// new: it has no snapshots, whose sections would come last.
func (b *build) pinRaw(ctx context.Context) error {
	if len(b.conf.RawLXC) == 0 {
		return nil
	}
	var lines strings.Builder
	for _, l := range b.conf.RawLXC {
		i := strings.IndexAny(l, ":=") // checked to be there
		fmt.Fprintf(&lines, "%s: %s\n", strings.TrimSpace(l[:i]), strings.TrimSpace(l[i+1:]))
	}
	file := confFile(b.vmid)
	// Lines of an earlier template are not written twice.
	script := `f=$1; while IFS= read -r l; do grep -qxF -- "$l" "$f" || printf '%s\n' "$l" >>"$f" || exit 1; done`
	_, err := pct.Pipe(ctx, b.node, strings.NewReader(lines.String()), "sh", "-c", script, "sh", file)
	if err != nil {
		return fmt.Errorf("write raw_lxc lines to %s on node %s: %w", file, b.conf.Node, err)
	}
	return nil
}

func sameFeatures(a, b string) bool {
	sorted := func(s string) string {
		var parts []string
		for _, p := range strings.Split(s, ",") {
			if p != "" && !strings.HasSuffix(p, "=0") {
				parts = append(parts, p)
			}
		}
		sort.Strings(parts)
		return strings.Join(parts, ",")
	}
	return sorted(a) == sorted(b)
}

// addressed reports whether a network device is to have an address.
func addressed(net string) bool {
	ip := netOption(net, "ip")
	return ip != "" && ip != "manual"
}

// netOption is one value of a net[n] option.
func netOption(net, key string) string {
	for _, part := range strings.Split(net, ",") {
		if value, ok := strings.CutPrefix(part, key+"="); ok {
			return value
		}
	}
	return ""
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
