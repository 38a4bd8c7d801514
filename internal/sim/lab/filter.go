//go:build linux

package lab

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// Packet filter: what /etc/pve/firewall/ID.fw says, as rules of nftables in the
// bridge family, in the table and by the names of Proxmox's own
// (proxmox-firewall: table proxmox-firewall-guests, chains guest-ID-in and
// -out, believed). A container whose net0 has no firewall=1, or whose file does
// not enable it, is not filtered.
const (
	filterTable = "proxmox-firewall-guests"
	filterBase  = `table bridge ` + filterTable + ` {
	chain vm-in { type filter hook postrouting priority 0; policy accept; }
	chain vm-out { type filter hook prerouting priority 0; policy accept; }
}
`
)

// filters are the rules of the containers that run. A change replaces the whole
// table, with whatever else has changed until then: of several containers that
// start at once, one loads the rules of all.
var filters struct {
	loading sync.Mutex

	sync.Mutex
	rules   map[int]string
	changed int // how often they have
	loaded  int // as of which change
}

// filterUp makes the rules of a container that starts.
func (m *Machine) filterUp(vmid int, options map[string]string) error {
	text := rules(vmid, options, firewallFile(vmid))
	filters.Lock()
	if filters.rules == nil {
		filters.rules = map[int]string{}
	}
	if filters.rules[vmid] != text {
		filters.rules[vmid] = text
		filters.changed++
	}
	change := filters.changed
	filters.Unlock()
	return loadFilters(change)
}

// refilter makes the rules of a running container again.
func (m *Machine) refilter(vmid int) {
	if c := m.running(vmid); c != nil {
		// What cannot be loaded leaves the rules as they were, as with
		// Proxmox's own.
		_ = m.filterUp(vmid, c.options)
	}
}

// unfilter forgets the rules of a container that ended. As with pve-firewall,
// they go when rules are loaded the next time: for a port that is gone they do
// no harm.
func unfilter(vmid int) {
	filters.Lock()
	defer filters.Unlock()
	if filters.rules[vmid] != "" {
		filters.changed++
	}
	delete(filters.rules, vmid)
}

// loadFilters replaces all rules in one transaction, unless somebody else has
// since change.
func loadFilters(change int) error {
	filters.loading.Lock()
	defer filters.loading.Unlock()
	filters.Lock()
	if filters.loaded >= change {
		filters.Unlock()
		return nil
	}
	change = filters.changed
	var b strings.Builder
	b.WriteString("table bridge " + filterTable + "\ndelete table bridge " + filterTable + "\n" + filterBase)
	for _, text := range filters.rules {
		b.WriteString(text)
	}
	filters.Unlock()
	if err := nft(b.String()); err != nil {
		return err
	}
	filters.Lock()
	filters.loaded = change
	filters.Unlock()
	return nil
}

func nft(text string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("load packet filter: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// replies match packets that answer others. A kernel that does not follow
// connections on a bridge must guess by what they look like.
var replies = sync.OnceValue(func() []string {
	const try = "table bridge dayfly-try { chain try { ct state established accept; }; }\ndelete table bridge dayfly-try\n"
	if nft(try) == nil {
		return []string{"ct state established,related"}
	}
	return []string{"tcp flags & (fin | syn | rst | ack) != syn", "udp sport 53", "icmp type { echo-reply, destination-unreachable, time-exceeded }"}
})

// firewall is a container's file.
type firewall struct {
	options map[string]string
	rules   [][]string // fields
}

func firewallFile(vmid int) firewall {
	f := firewall{options: map[string]string{}}
	text, err := os.ReadFile(filepath.Join(pveDir, "firewall", strconv.Itoa(vmid)+".fw"))
	if err != nil {
		return f
	}
	section := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == '|':
		case line[0] == '[':
			section = strings.ToUpper(strings.Trim(line, "[]"))
		case section == "OPTIONS":
			k, v, _ := strings.Cut(line, ":")
			f.options[strings.TrimSpace(k)] = strings.TrimSpace(v)
		case section == "RULES":
			f.rules = append(f.rules, strings.Fields(line))
		}
	}
	return f
}

// rules are a container's rules, for each of its devices that is filtered.
func rules(vmid int, options map[string]string, f firewall) string {
	if f.options["enable"] != "1" {
		return ""
	}
	var b strings.Builder
	for i := range 8 {
		net := props(options["net"+strconv.Itoa(i)])
		if net["firewall"] == "1" {
			device(&b, fmt.Sprintf("veth%di%d", vmid, i), vmid, net, f)
		}
	}
	return b.String()
}

// device are the rules of one device. Its own addresses come first: nothing
// that is forged goes further.
func device(b *strings.Builder, port string, vmid int, net map[string]string, f firewall) {
	add := func(chain, format string, args ...any) {
		fmt.Fprintf(b, "add rule bridge %s %s %s\n", filterTable, chain, fmt.Sprintf(format, args...))
	}
	in, out := "guest-"+strconv.Itoa(vmid)+"-in", "guest-"+strconv.Itoa(vmid)+"-out"
	for _, chain := range []string{in, out} {
		fmt.Fprintf(b, "add chain bridge %s %s\n", filterTable, chain)
	}
	add("vm-out", "iifname %q jump %s", port, out)
	add("vm-in", "oifname %q jump %s", port, in)
	if f.options["macfilter"] != "0" {
		add(out, "ether saddr != %s drop", strings.ToLower(net["hwaddr"]))
		add(out, "arp saddr ether != %s drop", strings.ToLower(net["hwaddr"]))
	}
	if address, _, static := strings.Cut(net["ip"], "/"); f.options["ipfilter"] == "1" && static {
		add(out, "ip saddr != %s drop", address)
		add(out, "arp saddr ip != %s drop", address)
	}
	if f.options["ipfilter"] == "1" && net["ip6"] == "" {
		add(out, "ether type ip6 drop")
	}
	add(out, "ether type arp accept")
	add(in, "ether type arp accept")
	for _, chain := range []string{in, out} {
		for _, match := range replies() {
			add(chain, "%s accept", match)
		}
	}
	if f.options["dhcp"] == "1" {
		add(out, "udp sport 68 udp dport 67 accept")
		add(in, "udp sport 67 udp dport 68 accept")
	}
	if f.options["ndp"] != "0" {
		add(out, "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept")
		add(in, "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept")
	}
	for _, fields := range f.rules {
		chain := map[string]string{"IN": in, "OUT": out}[strings.ToUpper(fields[0])]
		if match, verdict, ok := rule(fields); ok && chain != "" {
			add(chain, "%s%s", match, verdict)
		}
	}
	add(in, "%s", verdictOf(f.options["policy_in"], "DROP"))
	add(out, "%s", verdictOf(f.options["policy_out"], "ACCEPT"))
}

// rule reads "OUT ACCEPT -dest 10.0.0.1 -proto tcp -dport 443".
func rule(fields []string) (match, verdict string, ok bool) {
	if len(fields) < 2 {
		return "", "", false
	}
	opts := map[string]string{}
	for i := 2; i+1 < len(fields); i += 2 {
		opts[strings.TrimPrefix(fields[i], "-")] = fields[i+1]
	}
	for _, side := range []struct{ key, word string }{{"source", "saddr"}, {"dest", "daddr"}} {
		if v := opts[side.key]; v != "" {
			family := "ip "
			if strings.Contains(v, ":") {
				family = "ip6 "
			}
			match += family + side.word + " { " + v + " } "
		}
	}
	if proto := opts["proto"]; proto != "" {
		match += "meta l4proto " + proto + " "
		for _, p := range []string{"sport", "dport"} {
			if v := opts[p]; v != "" {
				match += proto + " " + p + " { " + strings.ReplaceAll(v, ":", "-") + " } "
			}
		}
	}
	return match, verdictOf(fields[1], "DROP"), true
}

func verdictOf(action, otherwise string) string {
	if action == "" {
		action = otherwise
	}
	if strings.EqualFold(action, "ACCEPT") {
		return "accept"
	}
	return "drop" // the bridge has no good way to reject
}
