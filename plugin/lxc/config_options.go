package lxc

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// builder makes the API client that the configuration describes.
func (c *Config) builder(log *apiLog) (*proxmox.Builder, error) {
	conf, err := c.Proxmox.Config()
	if err != nil {
		return nil, err
	}
	conf.Pool, conf.Log = c.Pool, log.logger()
	return proxmox.NewBuilder(conf)
}

func (n *NetworkAdapter) defaults(i int, firewall bool) {
	n.Firewall = config.TrileanFromBool(on(n.Firewall, firewall))
	fill(&n.Name, fmt.Sprintf("eth%d", i))
	fill(&n.IP, "dhcp")
}

// option is the value of net[n].
func (n *NetworkAdapter) option() string {
	parts := []string{"name=" + n.Name, "bridge=" + n.Bridge}
	add := func(key, value string) {
		if value != "" {
			parts = append(parts, key+"="+value)
		}
	}
	if n.Firewall.True() {
		add("firewall", "1")
	}
	add("gw", n.Gateway)
	add("gw6", n.Gateway6)
	add("hwaddr", strings.ToUpper(n.MACAddress))
	add("ip", n.IP)
	add("ip6", n.IP6)
	if n.MTU != 0 {
		add("mtu", strconv.Itoa(n.MTU))
	}
	add("rate", n.Rate)
	add("tag", n.VLANTag)
	return strings.Join(append(parts, "type=veth"), ",")
}

func (h *HostSSH) defaults(proxmoxURL string) {
	if u, err := url.Parse(proxmoxURL); err == nil {
		fill(&h.Host, u.Hostname())
	}
	fill(&h.Port, 22)
	fill(&h.Username, "root")
	if home, err := os.UserHomeDir(); err == nil {
		fill(&h.KnownHostsFile, filepath.Join(home, ".ssh", "known_hosts"))
		for _, file := range []*string{&h.KnownHostsFile, &h.PrivateKeyFile} {
			if rest, ok := strings.CutPrefix(*file, "~/"); ok {
				*file = filepath.Join(home, rest)
			}
		}
	}
}

func (h *HostSSH) address() string { return net.JoinHostPort(h.Host, strconv.Itoa(h.Port)) }

// features is the value of the option features.
func (c *Config) features() string {
	f := &c.Features
	var parts []string
	for _, v := range []struct {
		name string
		on   bool
	}{{"fuse", f.Fuse}, {"keyctl", f.Keyctl}, {"mknod", f.Mknod}} {
		if v.on {
			parts = append(parts, v.name+"=1")
		}
	}
	if f.Mount != "" {
		parts = append(parts, "mount="+f.Mount)
	}
	if on(f.Nesting, true) {
		parts = append(parts, "nesting=1")
	}
	return strings.Join(parts, ",")
}

// tokenFeatures are the features that a token may set.
func (c *Config) tokenFeatures() string {
	if on(c.Features.Nesting, true) {
		return "nesting=1"
	}
	return ""
}

// rootOption is something that only root may set.
type rootOption struct {
	field string
	why   string // what it is good for
	raw   bool   // not even root@pam can set it by the API
}

func (c *Config) rootOptions() []rootOption {
	var list []rootOption
	add := func(wanted bool, field, why string, raw bool) {
		if wanted {
			list = append(list, rootOption{field, why, raw})
		}
	}
	f := &c.Features
	add(f.Keyctl, "features.keyctl", "lets programs use the kernel's keyring; Docker does without", false)
	add(f.Fuse, "features.fuse", "gives /dev/fuse, which fuse-overlayfs needs where overlay2 does not work", false)
	add(f.Mknod, "features.mknod", "lets the container make device nodes", false)
	add(f.Mount != "", "features.mount", "lets the container mount these file systems", false)
	if !on(c.Unprivileged, true) && f.Nesting.True() {
		add(true, "features.nesting", "in a privileged container nesting opens the node's /proc and /sys", false)
	}
	for i, d := range c.Devices {
		add(true, fmt.Sprintf("devices[%d]", i), "gives the container the node's "+d, false)
	}
	for i, l := range c.RawLXC {
		key, _, _ := strings.Cut(l, ":")
		add(true, fmt.Sprintf("raw_lxc[%d]", i), "sets "+strings.TrimSpace(key)+", which Proxmox itself does not know", true)
	}
	return list
}

// devices are the values of dev[n]. A device node of the container belongs to
// its root and has mode 0660 unless told otherwise (pve-container,
// lxc-pve-autodev-hook); on the node both of these are for everybody.
func (c *Config) devices() map[string]string {
	out := map[string]string{}
	for i, d := range c.Devices {
		value := d
		if d == "/dev/net/tun" || d == "/dev/fuse" {
			value += ",mode=0666"
		}
		out[fmt.Sprintf("dev%d", i)] = value
	}
	return out
}

// gigabytes is a size as create wants it: in GiB, without a unit.
func gigabytes(size string) string {
	unit := map[byte]float64{'M': 1.0 / 1024, 'G': 1, 'T': 1024}[size[len(size)-1]]
	if unit == 0 {
		return size // no unit: GiB
	}
	n, err := strconv.ParseFloat(size[:len(size)-1], 64)
	if err != nil {
		return size
	}
	return strconv.FormatFloat(n*unit, 'f', -1, 64)
}

// options are the parameters that a create call and a later change have in
// common.
func (c *Config) options() proxmox.Options {
	o := proxmox.Options{"memory": c.Memory, "swap": c.Swap}
	if c.Cores > 0 {
		o["cores"] = c.Cores
	}
	for i := range c.NetworkAdapters {
		o[fmt.Sprintf("net%d", i)] = c.NetworkAdapters[i].option()
	}
	if c.Nameserver != "" {
		o["nameserver"] = c.Nameserver
	}
	if c.Searchdomain != "" {
		o["searchdomain"] = c.Searchdomain
	}
	return o
}

// privileges are those that the options take.
func (c *Config) privileges() []string {
	list := []string{"VM.Config.Memory", "VM.Config.Disk"}
	if c.Cores > 0 {
		list = append(list, "VM.Config.CPU")
	}
	if len(c.NetworkAdapters) > 0 || c.SourceTemplate != nil || c.Nameserver != "" || c.Searchdomain != "" {
		list = append(list, "VM.Config.Network")
	}
	return list
}
