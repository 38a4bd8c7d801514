package proxmox

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// egressMark is the comment of the rules that a pool's egress is made of.
// Those of its template have another one, or none, and come after.
const egressMark = "dayfly egress"

// private is what the Internet does not route, or what ends on the node's own
// network: addresses of every cloud's metadata service among them. IPv6 has
// ways to name an IPv4 address, which a gateway on the network may translate:
// NAT64 (RFC 6052, RFC 8215) and 6to4.
var private = slices.Concat(private4, prefixes("fc00::/7 fe80::/10 fec0::/10 2002::/16 64:ff9b:1::/48"), translated(private4))

var private4 = prefixes(`
	0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.168.0.0/16
	198.18.0.0/15 224.0.0.0/4 240.0.0.0/4`)

// translated are the names that NAT64 has for IPv4 addresses: 64:ff9b::/96.
func translated(list []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		name := netip.MustParseAddr("64:ff9b::").As16()
		ip := p.Addr().As4()
		copy(name[12:], ip[:])
		out = append(out, netip.PrefixFrom(netip.AddrFrom16(name), 96+p.Bits()))
	}
	return out
}

// multicast of IPv6 is how neighbours are found, by ICMPv6, and how services
// of the network are, by UDP.
var multicast = netip.MustParsePrefix("ff00::/8")

func prefixes(text string) []netip.Prefix {
	var list []netip.Prefix
	for word := range strings.FieldsSeq(text) {
		list = append(list, netip.MustParsePrefix(word))
	}
	return list
}

// wallFor is what a pool sets of its containers' firewalls. What the rules do
// not decide is decided by the template's rules and policy: a pool can narrow
// what its template lets out, and widen it by what it lists. DHCP is let out,
// and neighbours are found, before any rule (Firewall.pm,
// ruleset_create_vm_chain). A job that is refused fails at once: REJECT, which
// is a DROP in the nftables firewall.
func wallFor(e fleet.Egress) wall {
	w := wall{mark: egressMark}
	if e.Policy == fleet.Everything {
		return w
	}
	w.options = Options{"enable": 1, "dhcp": 1}
	rule := func(action string, more Options) {
		o := Options{"type": "out", "action": action, "enable": 1}
		for key, value := range more {
			o[key] = value
		}
		w.rules = append(w.rules, o)
	}
	for _, p := range e.Allow {
		o := Options{"dest": p.To}
		if p.Port != 0 {
			o["proto"], o["dport"] = p.Protocol, p.Port
		}
		rule("ACCEPT", o)
	}
	if e.Policy == fleet.Nothing {
		rule("REJECT", nil)
		return w
	}
	// A list of addresses is of one family (Firewall.pm, parse_address_list).
	rule("REJECT", Options{"dest": list(private, netip.Addr.Is4)})
	rule("REJECT", Options{"dest": list(private, netip.Addr.Is6)})
	rule("REJECT", Options{"dest": multicast.String(), "proto": "udp"})
	return w
}

func list(all []netip.Prefix, family func(netip.Addr) bool) string {
	var texts []string
	for _, p := range all {
		if family(p.Addr()) {
			texts = append(texts, p.String())
		}
	}
	return strings.Join(texts, ",")
}
