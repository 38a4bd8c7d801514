package pve

import (
	"net/netip"
	"regexp"
	"strings"
)

// formats check a value against one of PVE::JSONSchema's named formats and
// return what its check dies with. A format that is not here accepts all.
var formats = map[string]func(string) string{
	"pve-vmid":        like(`[1-9][0-9]{2,8}`, "value does not look like a valid VM ID\n"),
	"pve-node":        like(`[a-zA-Z0-9]([a-zA-Z0-9\-]*[a-zA-Z0-9])?`, "value does not look like a valid node name\n"),
	"dns-name":        like(dnsName, "value does not look like a valid DNS name\n"),
	"pve-storage-id":  naming(`(?i:[a-z][a-z0-9\-_.]*[a-z0-9])`, "storage ID '", "' contains illegal characters\n"),
	"pve-poolid":      naming(`[A-Za-z0-9._\-]+(/[A-Za-z0-9._\-]+){0,2}`, "value '", "' does not look like a valid pool name\n"),
	"pve-configid":    naming(`(?i:[a-z][a-z0-9_-]+)`, "invalid configuration ID '", "'\n"),
	"pve-tag":         like(`(?i:[a-z0-9_][a-z0-9_\-+.]*)`, "invalid characters in tag\n"),
	"pve-userid":      naming(`[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+`, "value '", "' does not look like a valid user name\n"),
	"pve-tokenid":     naming(`[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+![A-Za-z][A-Za-z0-9.\-_]+`, "value '", "' does not look like a valid token ID\n"),
	"pve-roleid":      naming(`[A-Za-z0-9._\-]+`, "role name '", "' contains invalid characters\n"),
	"pve-groupid":     naming(`[A-Za-z0-9._\-]+`, "group name '", "' contains invalid characters\n"),
	"pve-volume-id":   naming(`[a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]:.+`, "unable to parse volume ID '", "'\n"),
	"disk-size":       naming(`\d+(\.\d+)?[KMGT]?`, "value does not look like a valid disk size: ", "\n"),
	"mac-addr":        like(`[a-fA-F0-9][02468aceACE](:[a-fA-F0-9]{2}){5}`, "value does not look like a valid unicast MAC address\n"),
	"mac-prefix":      like(`[a-fA-F0-9][02468aceACE](:[a-fA-F0-9]{2}){0,2}:?`, "value is not a valid unicast MAC address prefix\n"),
	"pve-iface":       naming(`[a-zA-Z][a-zA-Z0-9_]{1,20}([:.]\d+)?`, "invalid network interface name '", "'\n"),
	"pve-ct-timezone": naming(`host|[A-Z][A-Za-z0-9_+\-/]*`, "invalid time zone '", "'\n"),
	"pve-priv": func(v string) string {
		if privBits[v] == 0 {
			return "invalid privilege '" + v + "'\n"
		}
		return ""
	},
	"pve-startup-order": like(`(order=)?\d+(,(up|down)=\d+)*|((up|down)=\d+)(,(up|down)=\d+)*`, "unable to parse startup options\n"),
	"ip":                ip(true, true, false, "value does not look like a valid IP address\n"),
	"lxc-ip-with-ll-iface": func(v string) string {
		a, _, _ := strings.Cut(v, "%")
		return ip(true, true, false, "value does not look like a valid IP address\n")(a)
	},
	"ipv4": ip(true, false, false, "value does not look like a valid IPv4 address\n"),
	"ipv6": ip(false, true, false, "value does not look like a valid IPv6 address\n"),
	"CIDR": ip(true, true, true, "value does not look like a valid CIDR network\n"),
	"IPorCIDR": func(v string) string {
		if ip(true, true, false, "x")(v) == "" || ip(true, true, true, "x")(v) == "" {
			return ""
		}
		return "value does not look like a valid IP address or CIDR network\n"
	},
	"IPorCIDRorAlias": func(v string) string {
		if ip(true, true, false, "x")(v) == "" || ip(true, true, true, "x")(v) == "" || aliasRE.MatchString(v) {
			return ""
		}
		return "value does not look like a valid IP address or CIDR network\n"
	},
	"pve-fw-addr-spec": addrSpec,
	"pve-ipv4-config": func(v string) string {
		if v == "dhcp" || v == "manual" || ip(true, false, true, "x")(v) == "" {
			return ""
		}
		return "value does not look like a valid ipv4 network configuration\n"
	},
	"pve-ipv6-config": func(v string) string {
		if v == "auto" || v == "dhcp" || v == "manual" || ip(false, true, true, "x")(v) == "" {
			return ""
		}
		return "value does not look like a valid ipv6 network configuration\n"
	},
	"pve-lxc-dev-string": func(v string) string {
		if !strings.HasPrefix(v, "/dev/") {
			return "Device path has to be absolute and start with /dev/: " + v + "\n"
		}
		return ""
	},
}

const dnsName = `([a-zA-Z0-9]([a-zA-Z0-9\-]*[a-zA-Z0-9])?\.)*[a-zA-Z0-9]([a-zA-Z0-9\-]*[a-zA-Z0-9])?`

var aliasRE = regexp.MustCompile(`^((dc|guest)/)?[A-Za-z][A-Za-z0-9\-_]+$`)

// like makes a check that a pattern matches.
func like(pattern, text string) func(string) string {
	re := regexp.MustCompile(`^(?:` + pattern + `)$`)
	return func(v string) string {
		if re.MatchString(v) {
			return ""
		}
		return text
	}
}

// naming is like with the value in the text.
func naming(pattern, before, after string) func(string) string {
	re := regexp.MustCompile(`^(?:` + pattern + `)$`)
	return func(v string) string {
		if re.MatchString(v) {
			return ""
		}
		return before + v + after
	}
}

// ip makes a check for an address, or for one with a prefix length.
func ip(v4, v6, prefix bool, text string) func(string) string {
	return func(v string) string {
		var a netip.Addr
		if prefix {
			p, err := netip.ParsePrefix(v)
			if err != nil {
				return text
			}
			a = p.Addr()
		} else {
			var err error
			if a, err = netip.ParseAddr(v); err != nil {
				return text
			}
		}
		if (a.Is4() && v4) || (a.Is6() && v6) {
			return ""
		}
		return text
	}
}
