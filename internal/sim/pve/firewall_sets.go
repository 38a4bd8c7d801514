package pve

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var zeroPrefix = regexp.MustCompile(`/0+$`)

func (f *fwConf) set(name string) *ipset {
	for _, s := range f.sets {
		if s.name == name {
			return s
		}
	}
	return nil
}

func (f *fwConf) alias(name string) *alias {
	name = strings.TrimPrefix(name, "guest/")
	for _, a := range f.aliases {
		if strings.EqualFold(a.name, name) {
			return a
		}
	}
	return nil
}

func (f *fwConf) setsText() string {
	var b strings.Builder
	for _, s := range f.sets {
		fmt.Fprintf(&b, "%s %s\n", s.name, s.comment)
	}
	return b.String()
}

func (s *ipset) text() string {
	var b strings.Builder
	for _, m := range s.members {
		fmt.Fprintf(&b, "%s %s %t\n", m.cidr, m.comment, m.nomatch)
	}
	return b.String()
}

func fwSets(r *call) (any, error) {
	f, out := r.fw(), []map[string]any{}
	for _, s := range f.sets {
		e := map[string]any{"name": s.name, "digest": fwDigest(f.setsText())}
		if s.comment != "" {
			e["comment"] = s.comment
		}
		out = append(out, e)
	}
	return out, nil
}

func fwAddSet(r *call) (any, error) {
	f, name := r.fwEdit(), r.str("name")
	if err := r.stale(f.setsText()); err != nil {
		return nil, err
	}
	if old := r.str("rename"); old != "" {
		s := f.set(old)
		if s == nil {
			return nil, badParam("name", "IPSet '"+old+"' does not exists")
		}
		if name != old && f.set(name) != nil {
			return nil, badParam("name", "IPSet '"+name+"' does already exist")
		}
		s.name = name
		if r.has("comment") {
			s.comment = r.str("comment")
		}
		return nil, nil
	}
	if f.set(name) != nil {
		return nil, badParam("name", "IPSet '"+name+"' already exists")
	}
	f.sets = append(f.sets, &ipset{name: name, comment: r.str("comment")})
	sortBy(f.sets, func(a, b *ipset) bool { return a.name < b.name })
	return nil, nil
}

// namedSet is the set in the path.
func (r *call) namedSet(f *fwConf) (*ipset, error) {
	if s := f.set(r.str("name")); s != nil {
		return s, nil
	}
	return nil, die("no such IPSet '" + r.str("name") + "'")
}

func (m *ipsetMember) view(digest string) map[string]any {
	e := map[string]any{"cidr": m.cidr, "digest": digest}
	if m.comment != "" {
		e["comment"] = m.comment
	}
	if m.nomatch {
		e["nomatch"] = 1
	}
	return e
}

func fwSet(r *call) (any, error) {
	s, err := r.namedSet(r.fw())
	if err != nil {
		return nil, err
	}
	out := []map[string]any{}
	for _, m := range s.members {
		out = append(out, m.view(fwDigest(s.text())))
	}
	return out, nil
}

func fwDropSet(r *call) (any, error) {
	f := r.fwEdit()
	s, err := r.namedSet(f)
	if err != nil {
		return nil, err
	}
	if len(s.members) > 0 && !r.on("force") {
		return nil, die("IPSet '" + s.name + "' is not empty")
	}
	for i, x := range f.sets {
		if x == s {
			f.sets = append(f.sets[:i:i], f.sets[i+1:]...)
		}
	}
	return nil, nil
}

func fwAddMember(r *call) (any, error) {
	s, err := r.namedSet(r.fwEdit())
	if err != nil {
		return nil, err
	}
	for _, m := range s.members {
		if m.cidr == r.str("cidr") {
			return nil, badParam("cidr", "address '"+m.cidr+"' already exists")
		}
	}
	if zeroPrefix.MatchString(r.str("cidr")) {
		return nil, badParam("cidr", "a zero prefix is not allowed in ipset entries")
	}
	m := &ipsetMember{cidr: r.str("cidr"), comment: r.str("comment"), nomatch: r.on("nomatch")}
	s.members = append([]*ipsetMember{m}, s.members...)
	return nil, nil
}

// member is the set's member in the path.
func (r *call) setMember(f *fwConf) (*ipset, int, error) {
	s, err := r.namedSet(f)
	if err != nil {
		return nil, 0, err
	}
	for i, m := range s.members {
		if m.cidr == r.str("cidr") {
			return s, i, nil
		}
	}
	return nil, 0, badParam("cidr", "no such IP/Network")
}

func fwMember(r *call) (any, error) {
	s, i, err := r.setMember(r.fw())
	if err != nil {
		return nil, err
	}
	return s.members[i].view(fwDigest(s.text())), nil
}

func fwSetMember(r *call) (any, error) {
	s, i, err := r.setMember(r.fwEdit())
	if err != nil {
		return nil, err
	}
	s.members[i].comment, s.members[i].nomatch = r.str("comment"), r.on("nomatch")
	return nil, nil
}

func fwDropMember(r *call) (any, error) {
	s, err := r.namedSet(r.fwEdit())
	if err != nil {
		return nil, err
	}
	if err := r.stale(s.text()); err != nil {
		return nil, err
	}
	s.members = slices.DeleteFunc(s.members, func(m *ipsetMember) bool { return m.cidr == r.str("cidr") })
	return nil, nil
}

func (f *fwConf) aliasesText() string {
	var b strings.Builder
	for _, a := range f.aliases {
		fmt.Fprintf(&b, "%s %s %s\n", a.name, a.cidr, a.comment)
	}
	return b.String()
}

func (a *alias) view(digest string) map[string]any {
	e := map[string]any{"name": a.name, "cidr": a.cidr, "digest": digest, "ipversion": 4}
	if strings.Contains(a.cidr, ":") {
		e["ipversion"] = 6
	}
	if a.comment != "" {
		e["comment"] = a.comment
	}
	return e
}

func fwAliases(r *call) (any, error) {
	f, out := r.fw(), []map[string]any{}
	for _, a := range f.aliases {
		out = append(out, a.view(fwDigest(f.aliasesText())))
	}
	return out, nil
}

func fwAddAlias(r *call) (any, error) {
	f := r.fwEdit()
	if f.alias(r.str("name")) != nil {
		return nil, badParam("name", "alias '"+r.str("name")+"' already exists")
	}
	f.aliases = append(f.aliases, &alias{r.str("name"), r.str("cidr"), r.str("comment")})
	sortBy(f.aliases, func(a, b *alias) bool { return strings.ToLower(a.name) < strings.ToLower(b.name) })
	return nil, nil
}

func (r *call) namedAlias(f *fwConf) (*alias, error) {
	if a := f.alias(r.str("name")); a != nil {
		return a, nil
	}
	return nil, badParam("name", "no such alias")
}

func fwAlias(r *call) (any, error) {
	a, err := r.namedAlias(r.fw())
	if err != nil {
		return nil, err
	}
	out := a.view("")
	delete(out, "digest")
	return out, nil
}

func fwSetAlias(r *call) (any, error) {
	f := r.fwEdit()
	if err := r.stale(f.aliasesText()); err != nil {
		return nil, err
	}
	a, err := r.namedAlias(f)
	if err != nil {
		return nil, err
	}
	a.cidr, a.comment = r.str("cidr"), r.str("comment")
	if n := r.str("rename"); n != "" {
		if b := f.alias(n); b != nil && b != a {
			return nil, badParam("name", "alias '"+n+"' already exists")
		}
		a.name = n
	}
	return nil, nil
}

func fwDropAlias(r *call) (any, error) {
	f := r.fwEdit()
	if err := r.stale(f.aliasesText()); err != nil {
		return nil, err
	}
	f.aliases = slices.DeleteFunc(f.aliases, func(a *alias) bool { return strings.EqualFold(a.name, r.str("name")) })
	return nil, nil
}
