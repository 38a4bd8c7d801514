package proxmox

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// settings is a container's configuration as GET config shows it; nil after an
// answer of null, so that it is not taken for a container without settings.
type settings map[string]text

func (s settings) description() string { return string(s["description"]) }
func (s settings) protected() bool     { return s["protection"].bool() }

// storage is that of the root file system: "thin" of
// "thin:vm-101-disk-0,size=4G".
func (s settings) storage() string {
	volume, _, _ := strings.Cut(string(s["rootfs"]), ",")
	name, _, ok := strings.Cut(strings.TrimPrefix(volume, "volume="), ":")
	if !ok {
		return ""
	}
	return name
}

// disk is the size of the root file system, in MiB; 0: it does not say.
func (s settings) disk() int {
	for part := range strings.SplitSeq(string(s["rootfs"]), ",") {
		if size, ok := strings.CutPrefix(part, "size="); ok {
			return mebibytes(size)
		}
	}
	return 0
}

// mebibytes reads a size as Proxmox writes it: a number, of bytes if no unit
// follows (PVE::JSONSchema, parse_size).
func mebibytes(size string) int {
	units := map[string]float64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
	digits := strings.TrimRight(size, "KMGT")
	n, err := strconv.ParseFloat(digits, 64)
	unit, known := units[size[len(digits):]]
	if sane := n >= 0 && n*unit < 1<<60; err != nil || !known || !sane { // a NaN is neither
		return 0
	}
	return int(n * unit / (1 << 20))
}

// with is s after a PUT of params; nil stays nil, for nothing is known of the
// rest. A JIT config is not kept in memory.
func (s settings) with(params map[string]any) settings {
	if s == nil {
		return nil
	}
	after := maps.Clone(s)
	for key, value := range params {
		after[key] = text(fmt.Sprint(value))
	}
	delete(after, "digest") // Proxmox makes a new one
	return after.discreet()
}

// discreet leaves out what only says that it is set.
func (s settings) discreet() settings {
	if s["env"] != "" {
		s["env"] = "set"
	}
	return s
}

// wanted is what a clone must be set to. Everything else stays as in the
// template.
type wanted struct {
	size        fleet.Size
	network     fleet.Network
	guarded     bool // every interface is behind the firewall
	description string
	tags        []string // for people; nil: leave them
}

// changes lists the parameters of the PUT that makes s as wanted.
func (w wanted) changes(s settings) map[string]any {
	put := map[string]any{}
	number := func(key string, want int) {
		if int64(want) != s[key].int() || s[key] == "" {
			put[key] = want
		}
	}
	if w.size.Cores > 0 {
		number("cores", w.size.Cores)
	}
	if w.size.CPUUnits > 0 {
		number("cpuunits", w.size.CPUUnits)
	}
	if w.size.MemoryMiB > 0 {
		number("memory", w.size.MemoryMiB)
	}
	if w.size.SwapMiB != 0 {
		number("swap", max(w.size.SwapMiB, 0))
	}
	for key, net := range w.nets(s) {
		if net.String() != parseNet(string(s[key])).String() {
			put[key] = net.String()
		}
	}
	// A clone of a protected template is protected, and one of a template
	// that starts on boot would boot with a used JIT config (pve-container,
	// API2/LXC.pm copies both).
	for _, key := range []string{"protection", "onboot"} {
		if s[key].bool() {
			put[key] = 0
		}
	}
	if strings.TrimRight(s.description(), "\n") != strings.TrimRight(w.description, "\n") {
		put["description"] = w.description
	}
	if w.tags != nil && !sameTags(splitTags(string(s["tags"])), w.tags) {
		put["tags"] = strings.Join(w.tags, ";")
	}
	return put
}

var netKey = regexp.MustCompile(`^net[0-9]{1,2}$`)

// nets are the interfaces that are to be as wanted.
func (w wanted) nets(s settings) map[string]iface {
	out := map[string]iface{}
	if w.network != (fleet.Network{}) {
		out["net0"] = parseNet(string(s["net0"])).plug(w.network)
	}
	for key, value := range s {
		if !w.guarded || !netKey.MatchString(key) || value == "" {
			continue
		}
		if out[key] == nil {
			out[key] = parseNet(string(value))
		}
		out[key]["firewall"] = "1"
	}
	return out
}

func sameTags(a, b []string) bool {
	fold := func(tags []string) []string {
		var out []string
		for _, t := range tags {
			out = append(out, strings.ToLower(t))
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	return slices.Equal(fold(a), fold(b))
}

// iface is a net[n] value: name=eth0,bridge=vmbr0,hwaddr=...
type iface map[string]string

func parseNet(s string) iface {
	n := iface{}
	for part := range strings.SplitSeq(s, ",") {
		if key, value, ok := strings.Cut(part, "="); ok {
			n[key] = value
		}
	}
	return n
}

// plug returns n plugged in as want says. The MAC address stays: one that is
// left out is made anew.
func (n iface) plug(want fleet.Network) iface {
	n = maps.Clone(n)
	if len(n) == 0 {
		n = iface{"name": "eth0", "ip": "dhcp", "type": "veth"}
	}
	if want.Bridge != "" {
		n["bridge"] = want.Bridge
	}
	delete(n, "tag")
	if want.VLAN != 0 {
		n["tag"] = strconv.Itoa(want.VLAN)
	}
	delete(n, "firewall")
	if want.Firewall {
		n["firewall"] = "1"
	}
	return n
}

// String is the value in the order of its keys, in which Proxmox shows it.
func (n iface) String() string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(n)) {
		if key != "name" {
			parts = append(parts, key+"="+n[key])
		}
	}
	if name, ok := n["name"]; ok { // Proxmox puts the name first
		parts = slices.Insert(parts, 0, "name="+name)
	}
	return strings.Join(parts, ",")
}
