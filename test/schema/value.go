package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// problems lists what is wrong with a value, without quoting it: it may be a
// secret.
func (p *property) problems(v any) []string {
	if list, ok := v.([]any); ok {
		return p.items(list)
	}
	s, why := scalar(p.Type, v)
	if why != "" {
		return []string{why}
	}
	found := p.limits(s)
	found = append(found, p.shape(s)...)
	return found
}

func (p *property) items(list []any) []string {
	if p.Type != "array" && !strings.HasSuffix(p.formatName(), "-list") {
		return []string{"a list, want " + p.Type}
	}
	item := p.Items
	if item == nil {
		item = &property{Type: "string"}
	}
	var found []string
	for _, v := range list {
		found = append(found, item.problems(v)...)
	}
	return found
}

var (
	wholeNumber = regexp.MustCompile(`^[+-]?\d+$`)
	anyNumber   = regexp.MustCompile(`^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$`)
)

// scalar turns a value into text and checks it against a type.
func scalar(kind string, v any) (text, why string) {
	switch v := v.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
	case bool:
		if kind != "boolean" {
			return "", "a boolean, want " + kind
		}
		return map[bool]string{true: "1", false: "0"}[v], ""
	default:
		return "", fmt.Sprintf("a %T, want %s", v, kind)
	}
	ok := true
	switch kind {
	case "integer":
		ok = wholeNumber.MatchString(text)
	case "number":
		ok = anyNumber.MatchString(text)
	case "boolean": // in a form only these two: yes, true and on are refused
		ok = text == "0" || text == "1"
	}
	if !ok {
		return "", "no " + kind
	}
	return text, ""
}

// limits checks numbers and lengths.
func (p *property) limits(s string) []string {
	var found []string
	say := func(bad bool, format string, args ...any) {
		if bad {
			found = append(found, fmt.Sprintf(format, args...))
		}
	}
	if p.Type == "integer" || p.Type == "number" {
		v, _ := strconv.ParseFloat(s, 64) // its form has been checked
		lo, hasLo := limit(p.Minimum)
		hi, hasHi := limit(p.Maximum)
		say(hasLo && v < lo, "less than %v", lo)
		say(hasHi && v > hi, "more than %v", hi)
	}
	length := float64(utf8.RuneCountInString(s))
	lo, hasLo := limit(p.MinLength)
	hi, hasHi := limit(p.MaxLength)
	say(hasLo && length < lo, "shorter than %v", lo)
	say(hasHi && length > hi, "longer than %v", hi)
	return found
}

// limit reads a number that the description may have as text.
func limit(v any) (float64, bool) {
	if v == nil {
		return 0, false
	}
	f, err := strconv.ParseFloat(fmt.Sprint(v), 64)
	return f, err == nil
}

// shape checks enumeration, pattern and format.
func (p *property) shape(s string) []string {
	var found []string
	if len(p.Enum) > 0 && !slices.ContainsFunc(p.Enum, func(e any) bool { return fmt.Sprint(e) == s }) {
		found = append(found, fmt.Sprintf("none of %v", p.Enum))
	}
	if p.Pattern != "" && !perl(p.Pattern).MatchString(s) {
		found = append(found, "does not match the pattern "+p.Pattern)
	}
	if parts := p.parts(); parts != nil {
		return append(found, propertyString(parts, s)...)
	}
	if why := format(p.formatName(), s); why != "" {
		found = append(found, why)
	}
	return found
}

// perl compiles a pattern of PVE::JSONSchema, which anchors it.
func perl(pattern string) *regexp.Regexp {
	pattern = strings.NewReplacer("(?^i:", "(?i:", "(?^:", "(?:", `\0`, `\x00`).Replace(pattern)
	re, err := regexp.Compile("^(?:" + pattern + ")$")
	if err != nil { // a look-around, which Go's regular expressions lack
		return regexp.MustCompile("")
	}
	return re
}

func (p *property) formatName() string {
	var name string
	if json.Unmarshal(p.Format, &name) != nil {
		return ""
	}
	return name
}

// parts is the description of a property string (name=eth0,bridge=vmbr0).
func (p *property) parts() map[string]*property {
	var parts map[string]*property
	if json.Unmarshal(p.Format, &parts) != nil {
		return nil
	}
	return parts
}

func propertyString(parts map[string]*property, s string) []string {
	var found []string
	given := map[string]bool{}
	for field := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(field, "=")
		if !ok {
			name, value = defaultKey(parts), field
		}
		part := parts[name]
		if part != nil && part.Alias != "" {
			name, part = part.Alias, parts[part.Alias]
		}
		switch {
		case part == nil:
			found = append(found, fmt.Sprintf("no such part %q", name))
			continue
		case given[name]:
			found = append(found, fmt.Sprintf("part %s twice", name))
		}
		given[name] = true
		for _, why := range part.problems(value) {
			found = append(found, name+": "+why)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if part := parts[name]; !part.optional() && part.Alias == "" && !given[name] {
			found = append(found, "no part "+name)
		}
	}
	return found
}

func defaultKey(parts map[string]*property) string {
	for name, p := range parts {
		if truth(p.DefaultKey) {
			return name
		}
	}
	return ""
}
