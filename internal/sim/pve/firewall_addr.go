package pve

import (
	"net/netip"
	"strings"
)

// addrSpec is PVE::Firewall::parse_address_list: an IP set, an alias, a range,
// or a list of addresses and networks of one family, which have no bits behind
// their prefix (Net::IP).
func addrSpec(v string) string {
	if v == "" || v[0] == '+' || aliasRE.MatchString(strings.TrimPrefix(strings.TrimPrefix(v, "guest/"), "dc/")) {
		return ""
	}
	list := strings.Split(v, ",")
	family := -1
	for _, elem := range list {
		if elem == "" {
			return "extraneous commas in list\n"
		}
		first, last, isRange := strings.Cut(elem, "-")
		if isRange && len(list) > 1 {
			return "you can't use a range in a list\n"
		}
		a, ok := network(first)
		if b, also := network(last); !ok || isRange && (!also || b.Is6() != a.Is6()) {
			return "invalid IP address: " + elem + "\n"
		}
		is := map[bool]int{true: 6, false: 4}[a.Is6()]
		if family >= 0 && family != is {
			return "detected mixed ipv4/ipv6 addresses in address list '" + v + "'\n"
		}
		family = is
	}
	return ""
}

// network is the address of a network, or an address itself.
func network(s string) (netip.Addr, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Addr(), p == p.Masked()
	}
	a, err := netip.ParseAddr(s)
	return a, err == nil
}
