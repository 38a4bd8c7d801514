package pve

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// fwConf is a container's firewall file. It is copied by a clone and removed
// by a destroy.
type fwConf struct {
	options map[string]string
	rules   []map[string]string
	sets    []*ipset
	aliases []*alias
}

type ipset struct {
	name, comment string
	members       []*ipsetMember
}

type ipsetMember struct {
	cidr, comment string
	nomatch       bool
}

type alias struct{ name, cidr, comment string }

func (f *fwConf) clone() *fwConf {
	out := &fwConf{options: copyMap(f.options)}
	for _, r := range f.rules {
		out.rules = append(out.rules, copyMap(r))
	}
	for _, s := range f.sets {
		n := &ipset{name: s.name, comment: s.comment}
		for _, m := range s.members {
			c := *m
			n.members = append(n.members, &c)
		}
		out.sets = append(out.sets, n)
	}
	for _, a := range f.aliases {
		c := *a
		out.aliases = append(out.aliases, &c)
	}
	return out
}

// fw is the file of the container in the path; a missing one is empty.
func (r *call) fw() *fwConf {
	if f := r.c.firewall[r.vmid()]; f != nil {
		return f
	}
	return &fwConf{options: map[string]string{}}
}

// fwEdit is fw for changing it.
func (r *call) fwEdit() *fwConf {
	f := r.c.firewall[r.vmid()]
	if f == nil {
		f = &fwConf{options: map[string]string{}}
		r.c.firewall[r.vmid()] = f
	}
	return f
}

// fwDigest is a digest of some part of the file.
func fwDigest(part string) string {
	s := sha1.Sum([]byte(part))
	return hex.EncodeToString(s[:])
}

func mapText(m map[string]string) string {
	var b strings.Builder
	for _, k := range sortedKeys(m) {
		fmt.Fprintf(&b, "%s: %s\n", k, m[k])
	}
	return b.String()
}

// stale refuses a change made from an older reading.
func (r *call) stale(part string) error {
	if d := r.take("digest"); d != "" && d != fwDigest(part) {
		return die("detected modified configuration - file changed by other user? Try again.")
	}
	return nil
}

func fwIndex(*call) (any, error) {
	return index("name", "rules", "aliases", "ipset", "refs", "options"), nil
}

// typed gives values as their parameters' types want them.
func (r *call) typed(m map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		switch k {
		case "enable", "dhcp", "ndp", "radv", "macfilter", "ipfilter":
			out[k] = atoi(v)
		default:
			out[k] = v
		}
	}
	return out
}

func fwOptions(r *call) (any, error) {
	f := r.fw()
	out := r.typed(f.options)
	out["digest"] = fwDigest(mapText(f.options))
	return out, nil
}

func fwSetOptions(r *call) (any, error) {
	f := r.fwEdit()
	if err := r.stale(mapText(f.options)); err != nil {
		return nil, err
	}
	for _, k := range splitList(r.take("delete")) {
		delete(f.options, k)
	}
	for k, v := range r.params {
		if k != "node" && k != "vmid" {
			f.options[k] = v
		}
	}
	return nil, nil
}

func (f *fwConf) rulesText() string {
	var b strings.Builder
	for _, r := range f.rules {
		b.WriteString(mapText(r) + "\n")
	}
	return b.String()
}

// ruleView is a rule as the API gives it.
func (r *call) ruleView(f *fwConf, rule map[string]string) map[string]any {
	out := r.typed(rule)
	if out["enable"] == nil {
		out["enable"] = 0
	}
	out["digest"] = fwDigest(f.rulesText())
	for _, k := range []string{"source", "dest"} {
		switch v := rule[k]; {
		case v == "":
		case formats["IPorCIDR"](strings.Split(v, ",")[0]) != "":
		case strings.Contains(v, ":"):
			out["ipversion"] = 6
		default:
			out["ipversion"] = 4
		}
	}
	return out
}

func fwRules(r *call) (any, error) {
	f, out := r.fw(), []map[string]any{}
	for i, rule := range f.rules {
		v := r.ruleView(f, rule)
		v["pos"] = i
		out = append(out, v)
	}
	return out, nil
}

// position is the rule in the path.
func (r *call) position(f *fwConf) (int, error) {
	pos := r.num("pos")
	if pos >= len(f.rules) {
		return 0, die(fmt.Sprintf("no rule at position %d", pos))
	}
	return pos, nil
}

func fwRule(r *call) (any, error) {
	f := r.fw()
	pos, err := r.position(f)
	if err != nil {
		return nil, err
	}
	v := r.ruleView(f, f.rules[pos])
	v["pos"] = r.str("pos")
	return v, nil
}

// ruleParams are the parameters that belong to the rule.
func (r *call) ruleParams() map[string]string {
	out := copyMap(r.params)
	for _, k := range []string{"node", "vmid", "pos", "moveto", "delete", "digest"} {
		delete(out, k)
	}
	return out
}

// portProtocols are the protocols that have ports.
var portProtocols = map[string]bool{"tcp": true, "udp": true, "udplite": true, "sctp": true, "dccp": true, "6": true, "17": true, "33": true, "132": true, "136": true}

var (
	groupName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9\-_]+$`)
	guestNet  = regexp.MustCompile(`^net\d+$`)
)

// checkRule is PVE::Firewall::verify_rule for a guest: the first thing wrong
// is what is said. Macros are not known here; any name will do.
func (f *fwConf) checkRule(rule map[string]string) error {
	switch t, a := rule["type"], rule["action"]; {
	case (t == "in" || t == "out") && a != "ACCEPT" && a != "DROP" && a != "REJECT":
		return badParam("action", "unknown action '"+a+"'")
	case t == "group" && !groupName.MatchString(a):
		return badParam("action", "invalid characters in security group name")
	}
	if i := rule["iface"]; i != "" && !guestNet.MatchString(i) {
		return badParam("iface", "value does not match the regex pattern 'net\\d+'")
	}
	proto := rule["proto"]
	for _, k := range []string{"dport", "sport"} {
		icmp := k == "dport" && (proto == "icmp" || proto == "icmpv6")
		switch {
		case rule[k] == "":
		case proto == "":
			return badParam("proto", "missing property - '"+k+"' requires this property")
		case !portProtocols[proto] && !icmp:
			return badParam(k, "protocol '"+proto+"' does not support ports")
		}
	}
	for _, k := range []string{"source", "dest"} {
		v := rule[k]
		switch {
		case v == "" || formats["IPorCIDR"](strings.Split(strings.Split(v, ",")[0], "-")[0]) == "":
		case v[0] == '+':
			if f.set(strings.TrimPrefix(v[1:], "guest/")) == nil {
				return badParam(k, "no such ipset '"+v[1:]+"'")
			}
		case f.alias(v) == nil:
			return badParam(k, "no such alias '"+v+"'")
		}
	}
	return nil
}

// fwAddRule puts a new rule first, whatever pos says.
func fwAddRule(r *call) (any, error) {
	f := r.fwEdit()
	rule := r.ruleParams()
	if err := f.checkRule(rule); err != nil {
		return nil, err
	}
	if err := r.stale(f.rulesText()); err != nil {
		return nil, err
	}
	f.rules = append([]map[string]string{rule}, f.rules...)
	return nil, nil
}

func fwSetRule(r *call) (any, error) {
	f := r.fwEdit()
	if err := r.stale(f.rulesText()); err != nil {
		return nil, err
	}
	pos, err := r.position(f)
	if err != nil {
		return nil, err
	}
	if to := r.num("moveto"); r.has("moveto") && to != pos {
		f.move(pos, to)
		return nil, nil
	}
	rule := copyMap(f.rules[pos])
	for k, v := range r.ruleParams() {
		if rule[k] = v; v == "" || v == "-" {
			delete(rule, k)
		}
	}
	for _, k := range splitList(r.str("delete")) {
		delete(rule, k)
	}
	if err := f.checkRule(rule); err != nil {
		return nil, err
	}
	f.rules[pos] = rule
	return nil, nil
}

// move puts a rule in front of the one at a position.
func (f *fwConf) move(pos, to int) {
	var out []map[string]string
	for i, x := range f.rules {
		if i == pos {
			continue
		}
		if i == to {
			out = append(out, f.rules[pos])
		}
		out = append(out, x)
	}
	if to >= len(f.rules) {
		out = append(out, f.rules[pos])
	}
	f.rules = out
}

func fwDropRule(r *call) (any, error) {
	f := r.fwEdit()
	if err := r.stale(f.rulesText()); err != nil {
		return nil, err
	}
	pos, err := r.position(f)
	if err != nil {
		return nil, err
	}
	f.rules = append(f.rules[:pos:pos], f.rules[pos+1:]...)
	return nil, nil
}

func fwRefs(r *call) (any, error) {
	f, out := r.fw(), []map[string]any{}
	kind := r.str("type")
	ref := func(t, name, ref, comment string) {
		e := map[string]any{"type": t, "scope": "guest", "name": name, "ref": ref}
		if comment != "" {
			e["comment"] = comment
		}
		out = append(out, e)
	}
	if kind == "" || kind == "ipset" {
		for _, s := range f.sets {
			ref("ipset", s.name, "+"+s.name, s.comment)
		}
	}
	if kind == "" || kind == "alias" {
		for _, a := range f.aliases {
			ref("alias", a.name, a.name, a.comment)
		}
	}
	return out, nil
}

func fwLog(*call) (any, error) {
	return page{[]map[string]any{{"n": 1, "t": "unable to open file - No such file or directory"}}, 1}, nil
}
