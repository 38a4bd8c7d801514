package schema

import (
	"net/netip"
	"regexp"
	"strings"
)

// formats are the named formats of PVE::JSONSchema that a client of containers
// and tasks meets. A format that is not here accepts everything.
var formats = map[string]*regexp.Regexp{
	"pve-vmid":             regexp.MustCompile(`^[1-9][0-9]{2,8}$`),
	"pve-node":             regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?$`),
	"pve-poolid":           regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}$`),
	"pve-configid":         regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]+$`),
	"pve-storage-id":       regexp.MustCompile(`^(?i)[a-z][a-z0-9._-]*[a-z0-9]$`),
	"pve-tag":              regexp.MustCompile(`^(?i)[a-z0-9_][a-z0-9_\-+.]*$`),
	"dns-name":             regexp.MustCompile(`^([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?\.)*[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?$`),
	"mac-addr":             regexp.MustCompile(`^(?i)[a-f0-9][02468ace](:[a-f0-9]{2}){5}$`),
	"pve-userid":           regexp.MustCompile(`^[^\s:/]+@[A-Za-z][A-Za-z0-9._-]+$`),
	"pve-roleid":           regexp.MustCompile(`^[A-Za-z0-9._-]+$`),
	"pve-iface":            regexp.MustCompile(`^(?i)[a-z][a-z0-9_]{1,20}([:.]\d+)?$`),
	"pve-volume-id":        regexp.MustCompile(`^[^:/\s]+:\S+$`),
	"pve-lxc-mp":           regexp.MustCompile(`^/[^,]*$`),
	"urlencoded":           regexp.MustCompile(`^[-%a-zA-Z0-9_.!~*'()]*$`),
	"pve-task-status-type": regexp.MustCompile(`^(?i)(ok|error|warning|unknown)$`),
	"pve-storage-content":  regexp.MustCompile(`^(backup|images|import|iso|none|rootdir|snippets|vztmpl)$`),
}

// format says what is wrong with a value of a named format, or nothing.
func format(name, s string) string {
	bad := "no " + name
	if item, ok := strings.CutSuffix(name, "-list"); ok && formats[item] != nil {
		for _, one := range strings.FieldsFunc(s, separator) {
			if !formats[item].MatchString(one) {
				return bad
			}
		}
		return ""
	}
	if addressFormats[name] != nil && !addressFormats[name](s) {
		return bad
	}
	if re := formats[name]; re != nil && !re.MatchString(s) {
		return bad
	}
	return ""
}

func separator(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == 0 }

var addressFormats = map[string]func(string) bool{
	"ip":              func(s string) bool { _, err := netip.ParseAddr(s); return err == nil },
	"ipv4":            func(s string) bool { a, err := netip.ParseAddr(s); return err == nil && a.Is4() },
	"ipv6":            func(s string) bool { a, err := netip.ParseAddr(s); return err == nil && a.Is6() },
	"CIDR":            func(s string) bool { _, err := netip.ParsePrefix(s); return err == nil },
	"pve-ipv4-config": func(s string) bool { return s == "dhcp" || s == "manual" || prefix(s, false) },
	"pve-ipv6-config": func(s string) bool { return s == "dhcp" || s == "manual" || s == "auto" || prefix(s, true) },
}

func prefix(s string, six bool) bool {
	p, err := netip.ParsePrefix(s)
	return err == nil && p.Addr().Is6() == six
}
