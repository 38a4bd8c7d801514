//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Config,SourceTemplate,Rootfs,NetworkAdapter,Firewall,Features,HostSSH,SmokeTest

package lxc

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/communicator"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/plugin/access"
)

// Config is the configuration of the builder. Where packer-plugin-proxmox has
// the same thing, it has the same name.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`
	access.Proxmox      `mapstructure:",squash"`
	Comm                communicator.Config `mapstructure:",squash"`

	// Node to build on.
	Node string `mapstructure:"node" required:"true"`
	// Resource pool of the templates. A token that is confined to a resource
	// pool needs it.
	Pool string `mapstructure:"pool"`
	// How long the removal of what a failed build leaves is tried (default
	// `2m`).
	CleanupTimeout time.Duration `mapstructure:"cleanup_timeout"`

	// Volume id of the base image to start from,
	// `local:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst`. Give this or
	// `source_template`.
	OSTemplate string `mapstructure:"ostemplate"`
	// Checksum of the base image, `sha256:...` or `sha512:...`. It is checked
	// by Proxmox while it downloads `ostemplate_url`, or on the node where
	// the build has access to it; a build that can do neither is refused.
	OSTemplateChecksum string `mapstructure:"ostemplate_checksum"`
	// Where Proxmox fetches `ostemplate` from when it is not there yet. It
	// takes `Sys.AccessNetwork` on the node and
	// `Datastore.AllocateTemplate` on the storage.
	OSTemplateURL string `mapstructure:"ostemplate_url"`
	// An earlier template to start from, instead of a base image.
	SourceTemplate *SourceTemplate `mapstructure:"source_template"`
	// Clone `source_template` in full even where the storage makes linked
	// clones.
	FullClone config.Trilean `mapstructure:"full_clone"`

	// VMID of the template. Default: a free one.
	VMID int `mapstructure:"vm_id"`
	// Range of VMIDs to choose a free one from, `9000-9999`. Default: what
	// Proxmox says is free.
	VMIDRange string `mapstructure:"vm_id_range"`
	// Host name of the container while it is built. Default: the template's
	// name.
	VMName string `mapstructure:"vm_name"`
	// Number of cores while building, and of clones unless a pool says
	// otherwise. Default: all of the node's.
	Cores int `mapstructure:"cores"`
	// Memory in MiB (default 2048).
	Memory int `mapstructure:"memory"`
	// Swap in MiB (default 0).
	Swap int `mapstructure:"swap"`
	// Run in a user namespace (default true). Jobs of strangers must never
	// run in a privileged container; it also takes `Sys.Modify` on `/`.
	Unprivileged config.Trilean `mapstructure:"unprivileged"`
	// The root file system.
	Rootfs Rootfs `mapstructure:"rootfs"`
	// Network devices, `net0` first.
	NetworkAdapters []NetworkAdapter `mapstructure:"network_adapters"`
	// Proxmox's firewall of the template, which its clones inherit. It is on
	// once the datacenter's is.
	Firewall Firewall `mapstructure:"firewall"`
	// DNS server. Default: the node's.
	Nameserver string `mapstructure:"nameserver"`
	// DNS search domain. Default: the node's.
	Searchdomain string `mapstructure:"searchdomain"`
	// Features of the container. Only `nesting` can be set by a token; the
	// others are for root on the node.
	Features Features `mapstructure:"features"`
	// Device nodes of the host that the container gets, `/dev/net/tun`. Root
	// on the node only: give `host_ssh`, build on the node, or log in as
	// `root@pam` with a password.
	Devices []string `mapstructure:"devices"`
	// Lines for the container's configuration file that the API does not
	// know, `lxc.apparmor.profile: unconfined`. Root on the node only. Docker
	// needs none of them.
	RawLXC []string `mapstructure:"raw_lxc"`

	// How to reach root on the node, for the communicator `pct` and for
	// options that only root may set. A build that runs on the node itself
	// does not need it.
	HostSSH *HostSSH `mapstructure:"host_ssh"`

	// Family of the template, `ubuntu-24.04`: what pools choose by.
	TemplateFamily string `mapstructure:"template_family" required:"true"`
	// Version of the template, `2.335.1-1`. A version is never made twice:
	// with `packer build -force`, the old one is replaced after the new one
	// has passed.
	TemplateVersion string `mapstructure:"template_version" required:"true"`
	// Name of the template (default: family and version).
	TemplateName string `mapstructure:"template_name"`
	// First line of the template's description. The manifest follows it.
	TemplateDescription string `mapstructure:"template_description"`
	// Tags of the template beyond those that dayfly sets, separated by `;`.
	Tags string `mapstructure:"tags"`
	// The git commit that the template is made from (default: that of the
	// current directory, with `-dirty` when it has changes).
	TemplateCommit string `mapstructure:"template_commit"`
	// Leave a stopped container instead of a template. It is never used for
	// jobs.
	SkipConvertToTemplate bool `mapstructure:"skip_convert_to_template"`
	// How many copies of the template each node gets (default 1). Proxmox
	// clones one template at a time; jobs that start together need copies.
	Replicas int `mapstructure:"replicas"`
	// Nodes that get the template (default: `node` alone). Where the storage
	// is not shared, a full copy is migrated to each of the others, which takes
	// `VM.Migrate`; other copies there are clones of that one.
	Nodes []string `mapstructure:"nodes"`
	// Storage of the copies on the other nodes, where `rootfs.storage` is not
	// shared (default: the storage of the same name there). Choosing one takes
	// `VM.Config.Disk`, and `Datastore.AllocateSpace` on it.
	ReplicaStorage string `mapstructure:"replica_storage"`
	// Make the container fit to be cloned: empty machine-id, no SSH host
	// keys, no package lists, no logs (default true).
	Seal config.Trilean `mapstructure:"seal"`
	// How long the container may take to shut down before it is killed
	// (default `1m`).
	ShutdownTimeout time.Duration `mapstructure:"shutdown_timeout"`
	// What a throw-away clone of the template must be able to do.
	SmokeTest SmokeTest `mapstructure:"smoke_test"`
	// Age at which something that another build has begun and not finished is
	// taken for the remains of a dead one (default `24h`, at least `1h`). It is
	// asked of builds of other machines alone: those of this one are known to
	// be dead, or to run, at once.
	LeftoverAge time.Duration `mapstructure:"leftover_age"`

	ctx interpolate.Context
}

// SourceTemplate is the earlier template that a build starts from.
type SourceTemplate struct {
	// Its family. Give this or `vm_id`.
	Family string `mapstructure:"family"`
	// Its version. Default: the one that was built last.
	Version string `mapstructure:"version"`
	// Its VMID.
	VMID int `mapstructure:"vm_id"`
}

// Rootfs is where and how large the root file system is.
type Rootfs struct {
	// Storage of the container. Required with `ostemplate`. With
	// `source_template` the storage of that is the default, and another one
	// takes a full clone (`full_clone`, or a storage that makes no linked
	// ones).
	Storage string `mapstructure:"storage"`
	// Size, `16G` (default `8G`, or that of `source_template`, which can only
	// grow).
	Size string `mapstructure:"size"`
}

// NetworkAdapter is one network device.
type NetworkAdapter struct {
	// Name in the container (default `eth0`, `eth1`, ...).
	Name string `mapstructure:"name"`
	// Bridge or vnet of the node.
	Bridge string `mapstructure:"bridge" required:"true"`
	// VLAN, 1 to 4094.
	VLANTag string `mapstructure:"vlan_tag"`
	// `dhcp` (default), `manual`, or an address with its prefix,
	// `10.0.0.7/24`.
	IP string `mapstructure:"ip"`
	// Gateway, with an address.
	Gateway string `mapstructure:"gateway"`
	// `auto`, `dhcp`, `manual`, or an address with its prefix.
	IP6 string `mapstructure:"ip6"`
	// Gateway, with an IPv6 address.
	Gateway6 string `mapstructure:"gateway6"`
	// Let Proxmox's firewall filter it (default true, unless `firewall.enable`
	// is off).
	Firewall config.Trilean `mapstructure:"firewall"`
	// Hardware address. Default: Proxmox makes one up, which is right when
	// builds run at the same time.
	MACAddress string `mapstructure:"mac_address"`
	// Maximum transmission unit.
	MTU int `mapstructure:"mtu"`
	// Limit in MB/s, `100`.
	Rate string `mapstructure:"rate"`
}

// Firewall is the packet filter of the template and its clones. While the
// template is built, everything passes. DHCP is always let through, and the
// option `ipfilter` is always off: with it, Proxmox blocks every address that
// DHCP gives.
type Firewall struct {
	// Filter at all (default true). It takes `VM.Config.Network`, like the
	// network devices.
	Enable config.Trilean `mapstructure:"enable"`
	// What becomes of incoming packets that no rule speaks of: `DROP`
	// (default), `REJECT` or `ACCEPT`. A runner listens to nobody.
	PolicyIn string `mapstructure:"policy_in"`
	// What becomes of outgoing ones: `ACCEPT` (default), `REJECT` or `DROP`.
	PolicyOut string `mapstructure:"policy_out"`
	// Drop what does not come from the container's own hardware address
	// (default true).
	MACFilter config.Trilean `mapstructure:"macfilter"`
	// Networks or addresses that may be reached in spite of `deny_out`: a DNS
	// server, a registry mirror.
	AllowOut []string `mapstructure:"allow_out"`
	// Networks or addresses that no job may reach: `10.0.0.0/8`. They are
	// closed after `allow_out`. IPv6 is let through unless it is named here
	// too: `::/0`.
	DenyOut []string `mapstructure:"deny_out"`
	// Security groups of the datacenter's firewall, whose rules come last.
	SecurityGroups []string `mapstructure:"security_groups"`
}

// Features are what Proxmox lets the container do beyond the ordinary.
type Features struct {
	// Mount what containers in the container need (default true). Docker
	// needs it, and a token may set it.
	Nesting config.Trilean `mapstructure:"nesting"`
	// The keyctl system call. Docker does not need it. Root only.
	Keyctl bool `mapstructure:"keyctl"`
	// `/dev/fuse`, for fuse-overlayfs where overlay2 does not work. Root
	// only.
	Fuse bool `mapstructure:"fuse"`
	// Make device nodes. Root only.
	Mknod bool `mapstructure:"mknod"`
	// File systems that may be mounted, `nfs;cifs`. Root only.
	Mount string `mapstructure:"mount"`
}

// HostSSH is the way to a shell on the node.
type HostSSH struct {
	// Host (default: that of `proxmox_url`).
	Host string `mapstructure:"host"`
	// Port (default 22).
	Port int `mapstructure:"port"`
	// User (default `root`). Any other needs `sudo` without a password.
	Username string `mapstructure:"username"`
	// Private key file. Default: the keys of the SSH agent.
	PrivateKeyFile string `mapstructure:"private_key_file"`
	// Password. A key is better.
	Password string `mapstructure:"password"`
	// File with the node's host key (default `~/.ssh/known_hosts`).
	KnownHostsFile string `mapstructure:"known_hosts_file"`
	// SHA-256 fingerprint of the node's host key, `SHA256:...`, as
	// `ssh-keygen -lf` prints it; wins over `known_hosts_file`. The host key
	// is always checked.
	HostKeyFingerprint string `mapstructure:"host_key_fingerprint"`
}

// SmokeTest is what is tried on a throw-away clone.
type SmokeTest struct {
	// Make no clone and test nothing.
	Skip bool `mapstructure:"skip"`
	// Commands that must succeed in the clone. Without any, the clone
	// must start, get an address and stay up. They are run through the node
	// where the build has access to it, else over SSH: with your own key or
	// password, or with the one made for the build, which the clone (never the
	// template) accepts from its start; that takes Proxmox VE 9.1. The clone's
	// SSH host key is one that the build gives it, and is verified.
	Commands []string `mapstructure:"commands"`
	// How long all of it may take (default `3m`).
	Timeout time.Duration `mapstructure:"timeout"`
}

// prepare reads the configuration and reports all of its errors at once.
func (c *Config) prepare(raws ...any) (warnings []string, err error) {
	err = config.Decode(c, &config.DecodeOpts{
		PluginType: BuilderID, Interpolate: true, InterpolateContext: &c.ctx,
		InterpolateFilter: &interpolate.RenderFilter{},
	}, raws...)
	if err != nil {
		return nil, err
	}
	c.Proxmox.Prepare()
	access.Hide(c.secrets()...)
	c.defaults()
	check := problems{}
	check.access(c)
	check.source(c)
	check.container(c)
	check.network(c)
	check.firewall(&c.Firewall)
	check.template(c)
	check.times(c)
	check.node(c)
	check.communicator(c)
	return check.warnings, check.err()
}

// secrets are the texts that no log may show, beyond the way to Proxmox.
func (c *Config) secrets() []string {
	all := []string{c.Comm.SSHPassword, c.Comm.SSHBastionPassword, c.Comm.SSHProxyPassword, c.Comm.WinRMPassword}
	if c.HostSSH != nil {
		all = append(all, c.HostSSH.Password)
	}
	return all
}

func (c *Config) defaults() {
	fill(&c.TaskTimeout, 10*time.Minute)
	fill(&c.CleanupTimeout, 2*time.Minute)
	fill(&c.ShutdownTimeout, time.Minute)
	fill(&c.LeftoverAge, 24*time.Hour)
	fill(&c.SmokeTest.Timeout, 3*time.Minute)
	fill(&c.Memory, 2048)
	fill(&c.Replicas, 1)
	fill(&c.Firewall.PolicyIn, "DROP")
	fill(&c.Firewall.PolicyOut, "ACCEPT")
	if c.OSTemplate != "" {
		fill(&c.Rootfs.Size, "8G")
	}
	fill(&c.TemplateName, hostName(c.TemplateFamily+"-"+c.TemplateVersion))
	fill(&c.VMName, c.TemplateName)
	fill(&c.Comm.Type, "ssh")
	fill(&c.Comm.SSHUsername, "root")
	fill(&c.Comm.SSHTemporaryKeyPairType, "ed25519")
	if len(c.Nodes) == 0 {
		c.Nodes = []string{c.Node}
	}
	for i := range c.NetworkAdapters {
		c.NetworkAdapters[i].defaults(i, c.Firewall.on())
	}
	if c.HostSSH != nil {
		c.HostSSH.defaults(c.ProxmoxURL)
	}
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

var notHost = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// hostName makes a host name of a text: Proxmox names containers by it.
func hostName(s string) string {
	s = strings.Trim(notHost.ReplaceAllString(s, "-"), "-.")
	return strings.Trim(s[:min(len(s), 63)], "-.")
}

func (c *Config) ref() fleet.Ref {
	return fleet.Ref{Family: c.TemplateFamily, Version: c.TemplateVersion}
}

// others are the nodes that get copies.
func (c *Config) others() []string {
	return slices.DeleteFunc(slices.Clone(c.Nodes), func(n string) bool { return n == c.Node })
}

// on reports what an option is, given what it is by default.
func on(t config.Trilean, otherwise bool) bool {
	if t == config.TriUnset {
		return otherwise
	}
	return t.True()
}
