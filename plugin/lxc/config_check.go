package lxc

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"golang.org/x/crypto/ssh"

	"github.com/dayfly-ci/dayfly/plugin/access"
)

// problems collects what is wrong with a configuration, by field.
type problems struct {
	errs     []error
	warnings []string
}

func (p *problems) say(field, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf(field+": "+format, args...))
}

func (p *problems) unless(ok bool, field, format string, args ...any) {
	if !ok && access.Known(args...) {
		p.say(field, format, args...)
	}
}

func (p *problems) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

func (p *problems) err() error {
	if len(p.errs) == 0 {
		return nil
	}
	return &packersdk.MultiError{Errors: p.errs}
}

const (
	firstVMID = 100
	lastVMID  = 999999999
)

// Forms of names. They end up in Proxmox's option strings: nothing that could
// end or escape one is let in. Families and versions are those that pool files
// may name.
var (
	nodeForm     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	poolForm     = regexp.MustCompile(`^[A-Za-z0-9._/-]+$`)
	storageForm  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]$`)
	bridgeForm   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,14}$`)
	familyForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	versionForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$`)
	hostForm     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)
	tagForm      = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.+-]*$`)
	imageForm    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*:vztmpl/[^/\s,]+$`)
	sizeForm     = regexp.MustCompile(`^[1-9][0-9]*[MGT]?$`)
	ifaceForm    = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,15}$`)
	groupForm    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]+$`)
	macForm      = regexp.MustCompile(`^[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$`)
	mountForm    = regexp.MustCompile(`^[a-z0-9]+(;[a-z0-9]+)*$`)
	deviceForm   = regexp.MustCompile(`^/dev/[A-Za-z0-9/_.-]+$`)
	rawForm      = regexp.MustCompile(`^lxc\.[a-z0-9._]+ *[:=] *[^\pC]+$`)
	checksumForm = regexp.MustCompile(`^(sha256:[0-9a-fA-F]{64}|sha512:[0-9a-fA-F]{128})$`)
	lineForm     = regexp.MustCompile(`^[^\pC]{0,500}$`)
)

func (p *problems) access(c *Config) {
	p.errs = append(p.errs, c.Proxmox.Check()...)
	p.unless(c.Node == "" || nodeForm.MatchString(c.Node), "node", "%q is no name of a node", c.Node)
	p.unless(c.Node != "", "node", "required")
	p.unless(c.Pool == "" || poolForm.MatchString(c.Pool), "pool", "%q is no name of a resource pool", c.Pool)
}

func (p *problems) source(c *Config) {
	switch {
	case c.OSTemplate == "" && c.SourceTemplate == nil:
		p.say("ostemplate", "give this or source_template")
	case c.OSTemplate != "" && c.SourceTemplate != nil:
		p.say("ostemplate", "give this or source_template, not both")
	case c.SourceTemplate != nil:
		s := c.SourceTemplate
		p.unless((s.Family == "") != (s.VMID == 0), "source_template", "give family or vm_id")
		p.unless(s.Family == "" || familyForm.MatchString(s.Family), "source_template.family", "%q is no family of templates", s.Family)
		p.unless(s.Version == "" || versionForm.MatchString(s.Version), "source_template.version", "%q is no version", s.Version)
		p.unless(s.VMID == 0 || validVMID(s.VMID), "source_template.vm_id", "%d is no VMID", s.VMID)
		p.unless(c.OSTemplateURL == "", "ostemplate_url", "has no meaning with source_template")
		p.unless(c.OSTemplateChecksum == "", "ostemplate_checksum", "has no meaning with source_template")
	default:
		p.unless(imageForm.MatchString(c.OSTemplate), "ostemplate", "%q: want STORAGE:vztmpl/FILE", c.OSTemplate)
	}
	if sum := c.OSTemplateChecksum; sum != "" {
		p.unless(checksumForm.MatchString(sum), "ostemplate_checksum", "%q: want sha256: or sha512: and the sum in hex", sum)
		p.unless(c.OSTemplateURL != "" || c.reachesNode(), "ostemplate_checksum",
			"a base image that is on the node is checked on the node: give host_ssh, run the build there, or give ostemplate_url for Proxmox to fetch and check it")
	}
	if c.OSTemplate != "" && c.OSTemplateChecksum == "" {
		p.warn("ostemplate_checksum is not given: whatever is called %s is built on", c.OSTemplate)
	}
	if c.OSTemplateURL != "" {
		u, err := url.Parse(c.OSTemplateURL)
		p.unless(err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "", "ostemplate_url", "%q: want an http or https URL", c.OSTemplateURL)
		p.unless(c.OSTemplateChecksum != "", "ostemplate_checksum", "required with ostemplate_url")
	}
}

func validVMID(id int) bool { return id >= firstVMID && id <= lastVMID }

func (p *problems) container(c *Config) {
	p.unless(c.VMID == 0 || validVMID(c.VMID), "vm_id", "%d: want %d to %d", c.VMID, firstVMID, lastVMID)
	if c.VMIDRange != "" {
		p.unless(c.VMID == 0, "vm_id_range", "give this or vm_id")
		_, _, err := c.vmidRange()
		p.unless(err == nil, "vm_id_range", "%v", err)
	}
	p.unless(c.VMName == "" || hostForm.MatchString(c.VMName) && len(c.VMName) <= 63, "vm_name", "%q is no host name", c.VMName)
	p.unless(c.Cores >= 0 && c.Cores <= 8192, "cores", "%d: want 1 to 8192", c.Cores)
	p.unless(c.Memory >= 16, "memory", "%d: want at least 16 (MiB)", c.Memory)
	p.unless(c.Swap >= 0, "swap", "%d: want 0 or more (MiB)", c.Swap)
	p.unless(c.SourceTemplate != nil || c.Rootfs.Storage != "", "rootfs.storage", "required with ostemplate")
	p.unless(c.Rootfs.Storage == "" || storageForm.MatchString(c.Rootfs.Storage), "rootfs.storage", "%q is no name of a storage", c.Rootfs.Storage)
	p.unless(c.Rootfs.Size == "" || sizeForm.MatchString(c.Rootfs.Size), "rootfs.size", "%q: want a number with M, G or T", c.Rootfs.Size)
	p.unless(c.Features.Mount == "" || mountForm.MatchString(c.Features.Mount), "features.mount", "%q: want types of file systems separated by ;", c.Features.Mount)
	for i, d := range c.Devices {
		p.unless(deviceForm.MatchString(d), fmt.Sprintf("devices[%d]", i), "%q is no device node", d)
	}
	for i, l := range c.RawLXC {
		p.unless(rawForm.MatchString(l), fmt.Sprintf("raw_lxc[%d]", i), "%q: want \"lxc.key: value\" in one line", l)
	}
	if !on(c.Features.Nesting, true) {
		p.warn("features.nesting is off: under AppArmor, systemd's own services and Docker fail without it")
	}
	if !on(c.Unprivileged, true) {
		p.warn("unprivileged is off: root in such a container is root on the node; no job of a stranger may run in it")
	}
	p.checkRoot(c)
}

// leastAge keeps a build of another machine that only takes its time from being
// taken for a dead one.
const leastAge = time.Hour

func (p *problems) times(c *Config) {
	for _, t := range []struct {
		field string
		value time.Duration
	}{{"cleanup_timeout", c.CleanupTimeout}, {"shutdown_timeout", c.ShutdownTimeout}, {"smoke_test.timeout", c.SmokeTest.Timeout}} {
		p.unless(t.value > 0, t.field, "%s: want a time ahead", t.value)
	}
	p.unless(c.LeftoverAge >= leastAge, "leftover_age", "%s: want at least %s: a build that still runs must not count as dead", c.LeftoverAge, leastAge)
}

// checkRoot says who may set the options that not everybody may.
func (p *problems) checkRoot(c *Config) {
	if c.reachesNode() {
		return
	}
	login := !strings.Contains(c.Username, "!") && c.Username == "root@pam"
	for _, o := range c.rootOptions() {
		if login && !o.raw {
			continue
		}
		who := "only root@pam itself may set it, no API token, not even one of root@pam: give host_ssh, run the build on the node, or log in as root@pam with a password"
		if o.raw {
			who = "the API has no such option, only root on the node may write it: give host_ssh or run the build on the node"
		}
		p.say(o.field, "%s", who)
	}
}

func (c *Config) vmidRange() (first, last int, err error) {
	a, b, ok := strings.Cut(c.VMIDRange, "-")
	first, err1 := strconv.Atoi(strings.TrimSpace(a))
	last, err2 := strconv.Atoi(strings.TrimSpace(b))
	if !ok || err1 != nil || err2 != nil || !validVMID(first) || !validVMID(last) || first > last {
		return 0, 0, fmt.Errorf("%q: want FIRST-LAST", c.VMIDRange)
	}
	return first, last, nil
}

func (p *problems) network(c *Config) {
	if len(c.NetworkAdapters) == 0 && c.SourceTemplate == nil && c.Comm.Type == "ssh" {
		p.say("network_adapters", "the communicator ssh needs a network device")
	}
	for i, n := range c.NetworkAdapters {
		field := fmt.Sprintf("network_adapters[%d].", i)
		p.unless(bridgeForm.MatchString(n.Bridge), field+"bridge", "%q is no name of a bridge", n.Bridge)
		p.unless(ifaceForm.MatchString(n.Name), field+"name", "%q is no name of a network device", n.Name)
		if n.VLANTag != "" {
			tag, err := strconv.Atoi(n.VLANTag)
			p.unless(err == nil && tag >= 1 && tag <= 4094, field+"vlan_tag", "%q: want 1 to 4094", n.VLANTag)
		}
		p.unless(address(n.IP, "dhcp", "manual"), field+"ip", "%q: want dhcp, manual, or an address with its prefix", n.IP)
		p.unless(n.IP6 == "" || address(n.IP6, "auto", "dhcp", "manual"), field+"ip6", "%q: want auto, dhcp, manual, or an address with its prefix", n.IP6)
		p.unless(n.Gateway == "" || net.ParseIP(n.Gateway) != nil, field+"gateway", "%q is no address", n.Gateway)
		p.unless(n.Gateway6 == "" || net.ParseIP(n.Gateway6) != nil, field+"gateway6", "%q is no address", n.Gateway6)
		p.unless(n.MACAddress == "" || macForm.MatchString(n.MACAddress), field+"mac_address", "%q is no hardware address of a single host", n.MACAddress)
		p.unless(n.MTU == 0 || n.MTU >= 64 && n.MTU <= 65535, field+"mtu", "%d: want 64 to 65535", n.MTU)
		if n.Rate != "" {
			r, err := strconv.ParseFloat(n.Rate, 64)
			p.unless(err == nil && r > 0, field+"rate", "%q: want MB/s", n.Rate)
		}
	}
	p.unless(lineForm.MatchString(c.Nameserver), "nameserver", "holds control characters")
	p.unless(lineForm.MatchString(c.Searchdomain), "searchdomain", "holds control characters")
}

func (p *problems) firewall(f *Firewall) {
	policies := []string{"ACCEPT", "DROP", "REJECT"}
	p.unless(slices.Contains(policies, f.PolicyIn), "firewall.policy_in", "%q: want ACCEPT, DROP or REJECT", f.PolicyIn)
	p.unless(slices.Contains(policies, f.PolicyOut), "firewall.policy_out", "%q: want ACCEPT, DROP or REJECT", f.PolicyOut)
	for _, list := range []struct {
		field string
		nets  []string
	}{{"allow_out", f.AllowOut}, {"deny_out", f.DenyOut}} {
		for i, n := range list.nets {
			p.unless(address(n) || net.ParseIP(n) != nil, fmt.Sprintf("firewall.%s[%d]", list.field, i), "%q is no network or address", n)
		}
	}
	for i, g := range f.SecurityGroups {
		p.unless(groupForm.MatchString(g), fmt.Sprintf("firewall.security_groups[%d]", i), "%q is no name of a security group", g)
	}
}

func address(s string, words ...string) bool {
	if slices.Contains(words, s) {
		return true
	}
	_, _, err := net.ParseCIDR(s)
	return err == nil
}

func (p *problems) template(c *Config) {
	p.unless(familyForm.MatchString(c.TemplateFamily), "template_family", "%q: want 1 to 64 letters, digits and _.-", c.TemplateFamily)
	p.unless(versionForm.MatchString(c.TemplateVersion), "template_version", "%q: want 1 to 64 letters, digits and _.+-", c.TemplateVersion)
	p.unless(hostForm.MatchString(c.TemplateName) && len(c.TemplateName) <= 63, "template_name", "%q is no host name, which Proxmox names containers by", c.TemplateName)
	p.unless(lineForm.MatchString(c.TemplateDescription), "template_description", "want one line of at most 500 characters")
	p.unless(!strings.HasPrefix(c.TemplateDescription, "dayfly"), "template_description", "must not look like the manifest")
	p.unless(lineForm.MatchString(c.TemplateCommit), "template_commit", "want one line")
	for _, t := range c.ownTags() {
		p.unless(tagForm.MatchString(t), "tags", "%q is no tag: want letters, digits and _.+-", t)
		p.unless(!strings.HasPrefix(strings.ToLower(t), "dayfly-"), "tags", "%q: dayfly- is for dayfly's own tags", t)
	}
	p.unless(c.Replicas >= 1 && c.Replicas <= 100, "replicas", "%d: want 1 to 100", c.Replicas)
	p.unless(!c.SkipConvertToTemplate || c.Replicas == 1 && len(c.others()) == 0, "replicas", "has no meaning with skip_convert_to_template")
	for i, n := range c.Nodes {
		p.unless(nodeForm.MatchString(n), fmt.Sprintf("nodes[%d]", i), "%q is no name of a node", n)
		p.unless(slices.Index(c.Nodes, n) == i, fmt.Sprintf("nodes[%d]", i), "%q is named twice", n)
	}
	p.unless(c.ReplicaStorage == "" || storageForm.MatchString(c.ReplicaStorage), "replica_storage", "%q is no name of a storage", c.ReplicaStorage)
	p.unless(slices.Contains(c.Nodes, c.Node), "nodes", "node %q, where it is built, is missing", c.Node)
}

func (c *Config) ownTags() []string {
	return strings.FieldsFunc(c.Tags, func(r rune) bool { return r == ';' || r == ',' || r == ' ' })
}

func (p *problems) node(c *Config) {
	h := c.HostSSH
	if h == nil {
		return
	}
	p.unless(h.Host != "", "host_ssh.host", "required")
	p.unless(h.Port > 0 && h.Port < 65536, "host_ssh.port", "%d is no port", h.Port)
	if h.HostKeyFingerprint != "" {
		p.unless(strings.HasPrefix(h.HostKeyFingerprint, "SHA256:"), "host_ssh.host_key_fingerprint", "%q: want SHA256:..., as ssh-keygen -lf prints it", h.HostKeyFingerprint)
	} else {
		_, err := os.Stat(h.KnownHostsFile)
		p.unless(err == nil, "host_ssh.known_hosts_file", "%v; hint: give host_key_fingerprint, or run \"ssh-keyscan %s >> %s\" on a network that you trust", err, h.Host, h.KnownHostsFile)
	}
	switch {
	case h.PrivateKeyFile != "":
		key, err := os.ReadFile(h.PrivateKeyFile)
		if err == nil {
			_, err = ssh.ParsePrivateKey(key)
		}
		if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
			err = errors.New("it has a passphrase; hint: add it to the SSH agent and leave private_key_file out")
		}
		p.unless(err == nil, "host_ssh.private_key_file", "%v", err)
	case h.Password == "":
		p.unless(os.Getenv("SSH_AUTH_SOCK") != "", "host_ssh", "give private_key_file or password, or run an SSH agent")
	}
}

func (p *problems) communicator(c *Config) {
	switch c.Comm.Type {
	case "pct":
		p.unless(c.reachesNode(), "communicator", "pct needs a shell on node %s: give host_ssh or run the build there", c.Node)
	case "ssh", "none":
		p.errs = append(p.errs, c.Comm.Prepare(&c.ctx)...)
	default:
		p.say("communicator", "%q: want ssh, pct or none", c.Comm.Type)
	}
	owns := c.Comm.SSHPassword != "" || c.Comm.SSHPrivateKeyFile != "" || c.Comm.SSHAgentAuth
	if c.Comm.Type == "ssh" && c.SourceTemplate != nil && !owns {
		p.say("ssh_private_key_file", "a clone of source_template takes no new key: give ssh_private_key_file or ssh_password that it accepts, or use the communicator pct")
	}
	if c.Comm.Type == "ssh" && !owns && c.Comm.SSHUsername != "root" {
		p.say("ssh_username", "%q: Proxmox gives the key that is made for the build to root alone: use root, or give ssh_private_key_file or ssh_password of that user", c.Comm.SSHUsername)
	}
	if c.Comm.Type != "ssh" && c.admits() {
		p.say("smoke_test.commands", "need a way into the clone: give host_ssh, run the build on the node, or use the communicator ssh, whose key gets into the clone")
	}
}
