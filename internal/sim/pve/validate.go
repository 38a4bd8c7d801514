package pve

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// validate checks the parameters against the method's schema the way
// PVE::JSONSchema does: all errors at once.
func (r *call) validate() error {
	errs := map[string]string{}
	for _, p := range r.m.params {
		if strings.HasSuffix(p.name, "[n]") {
			continue
		}
		v, ok := r.params[p.name]
		if !ok {
			if !p.optional && !r.null[p.name] {
				errs[p.name] = "property is missing and it is not optional"
			}
			continue
		}
		r.validateParam(p, p.name, v, errs)
	}
	for name, v := range r.params {
		if r.m.byName[name] != nil {
			continue
		}
		if p := r.m.indexed(name); p != nil {
			r.validateParam(p, name, v, errs)
		} else {
			errs[name] = "property is not defined in schema and the schema does not allow additional properties"
		}
	}
	for name := range r.null {
		if r.m.byName[name] == nil && r.m.indexed(name) == nil {
			errs[name] = "property is not defined in schema and the schema does not allow additional properties"
		}
	}
	if len(errs) > 0 {
		return badParams(errs)
	}
	return nil
}

// validateParam checks one parameter and normalises lists given as arrays.
func (r *call) validateParam(p *param, name, v string, errs map[string]string) {
	switch {
	case r.hash[name]:
		errs[name] = "type check ('" + p.kind + "') failed - got HASH"
		return
	case r.list[name] != nil && p.kind != "array" && !strings.HasSuffix(p.format, "-list"):
		errs[name] = "type check ('" + p.kind + "') failed - got ARRAY"
		return
	}
	if text := p.check(name, v); text != "" {
		errs[name] = text
	}
	if p.requires != "" && !r.has(p.requires) {
		errs[p.requires] = "missing property - '" + name + "' requires this property"
	}
}

var indexedName = regexp.MustCompile(`^([a-z]+)(\d+)$`)

// indexed finds the parameter "net[n]" for "net0".
func (m *method) indexed(name string) *param {
	f := indexedName.FindStringSubmatch(name)
	if f == nil || len(f[2]) > 3 || (len(f[2]) > 1 && f[2][0] == '0') || atoi(f[2]) >= indexLimit(f[1]) {
		return nil
	}
	return m.byName[f[1]+"[n]"]
}

// indexLimit is how many of an indexed option there can be (PVE::LXC::Config).
func indexLimit(name string) int {
	switch name {
	case "net":
		return 32
	}
	return 256 // mp, dev, unused
}

var (
	integerRE = regexp.MustCompile(`^[+-]?\d+$`)
	numberRE  = regexp.MustCompile(`^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$`)
)

// check tests one value and returns what is wrong with it. path is the name
// as errors in property strings give it.
func (p *param) check(path, v string) string {
	switch p.kind {
	case "integer":
		if !integerRE.MatchString(v) {
			return "type check ('integer') failed - got '" + v + "'"
		}
	case "number":
		if !numberRE.MatchString(v) {
			return "type check ('number') failed - got '" + v + "'"
		}
	case "boolean":
		if v != "0" && v != "1" {
			return "type check ('boolean') failed - got '" + v + "'"
		}
	}
	if p.format != "" {
		if text := p.checkFormat(path, v); text != "" {
			return "invalid format - " + text
		}
	}
	if p.re != nil && !p.re.MatchString(v) {
		return "value does not match the regex pattern"
	}
	if n := utf8.RuneCountInString(v); p.maxLen > 0 && n > p.maxLen {
		return "value may only be " + strconv.Itoa(p.maxLen) + " characters long"
	} else if p.minLen > 0 && n < p.minLen {
		return "value must be at least " + strconv.Itoa(p.minLen) + " characters long"
	}
	if p.min != nil || p.max != nil {
		f, _ := strconv.ParseFloat(v, 64)
		if p.max != nil && f > *p.max {
			return "value must have a maximum value of " + strconv.FormatFloat(*p.max, 'f', -1, 64)
		}
		if p.min != nil && f < *p.min {
			return "value must have a minimum value of " + strconv.FormatFloat(*p.min, 'f', -1, 64)
		}
	}
	return p.checkEnum(v)
}

func (p *param) checkEnum(v string) string {
	if p.enum == nil {
		return ""
	}
	for _, e := range p.enum {
		if e == v {
			return ""
		}
	}
	return "value '" + v + "' does not have a value in the enumeration '" + strings.Join(p.enum, ", ") + "'"
}

// checkFormat tests a value against its format, a list element by element.
func (p *param) checkFormat(path, v string) string {
	if p.props != nil {
		_, text := parseProps(p.props, path, v)
		return text
	}
	if f := formats[p.format]; f != nil {
		return f(v)
	}
	if base, ok := strings.CutSuffix(p.format, "-list"); ok {
		if f := formats[base]; f != nil {
			for _, e := range splitList(v) {
				if text := f(e); text != "" {
					return text
				}
			}
		}
	}
	return ""
}

// parseProps reads a property string, "name=eth0,bridge=vmbr0".
func parseProps(props []*param, path, s string) (map[string]string, string) {
	byName := map[string]*param{}
	deflt := ""
	for _, p := range props {
		byName[p.name] = p
		if p.key {
			deflt = p.name
		}
	}
	out := map[string]string{}
	for _, part := range strings.Split(s, ",") {
		if part == "" {
			continue
		}
		k, v, ok := strings.Cut(part, "=")
		if !ok {
			if deflt == "" {
				return nil, "value without key, but schema does not define a default key\n"
			}
			k, v = deflt, part
		}
		if _, twice := out[k]; twice {
			return nil, "duplicate key in comma-separated list property: " + k + "\n"
		}
		out[k] = v
	}
	errs := map[string]string{}
	for _, p := range props {
		v, ok := out[p.name]
		if !ok {
			if !p.optional {
				errs[p.name] = "property is missing and it is not optional"
			}
		} else if text := p.check(path+"."+p.name, v); text != "" {
			errs[p.name] = text
		}
	}
	for k := range out {
		if byName[k] == nil {
			errs[k] = "property is not defined in schema and the schema does not allow additional properties"
		}
	}
	if len(errs) == 0 {
		return out, ""
	}
	text := "format error\n"
	for _, k := range sortedKeys(errs) {
		text += path + "." + k + ": " + errs[k] + "\n"
	}
	return nil, text
}

// printProps writes a property string as PVE::JSONSchema does: the default
// key's value first, then what is required, then the rest by name.
func printProps(props []*param, m map[string]string) string {
	var first, required []string
	left := map[string]string{}
	for k, v := range m {
		left[k] = v
	}
	for _, p := range props {
		v, ok := left[p.name]
		switch {
		case !ok:
		case p.key:
			first = append(first, v)
			delete(left, p.name)
		case !p.optional:
			required = append(required, p.name+"="+v)
			delete(left, p.name)
		}
	}
	out := append(first, required...)
	for _, k := range sortedKeys(left) {
		out = append(out, k+"="+left[k])
	}
	return strings.Join(out, ",")
}
