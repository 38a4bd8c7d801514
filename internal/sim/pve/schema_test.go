package pve

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"
)

// published is a method of Proxmox's own API schema.
type published struct {
	Permissions map[string]any
	Protected   int
	ProxyTo     string
	AllowToken  *int
	Parameters  struct{ Properties map[string]*publishedParam }
}

type publishedParam struct {
	Type                 string
	Optional             any
	Minimum, Maximum     any
	MinLength, MaxLength any
	Requires             string
	Pattern              string
	Enum                 []any
	Format               any
	DefaultKey           int `json:"default_key"`
}

// readPublished reads a schema file.
func readPublished(t *testing.T, name string) map[string]*published {
	t.Helper()
	type item struct {
		Path     string
		Info     map[string]*published
		Children []json.RawMessage
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*published{}
	var walk func([]json.RawMessage)
	walk = func(l []json.RawMessage) {
		for _, m := range l {
			var i item
			if err := json.Unmarshal(m, &i); err != nil {
				t.Fatal(err)
			}
			for verb, info := range i.Info {
				out[verb+" "+i.Path] = info
			}
			walk(i.Children)
		}
	}
	var top []json.RawMessage
	if err := json.Unmarshal(b, &top); err != nil {
		t.Fatal(err)
	}
	walk(top)
	return out
}

// wider are enumerations that release 9 widened; the table has the wider one.
var wider = map[string]bool{"crs.ha": true, "GET /storage type": true}

// TestParametersAgreeWithThePublishedSchema compares the method table with
// Proxmox's schema of both releases: every method, the names of its
// parameters, what is required, types, limits, formats, enumerations and
// patterns, and who may call it where.
func TestParametersAgreeWithThePublishedSchema(t *testing.T) {
	for file, release := range map[string]string{"apidoc-9.1.json": "9.1.3", "apidoc-8.4.json": "8.4.2"} {
		pub := readPublished(t, shared(t, file))
		s := schemaOf(release)
		if len(s.methods) < 150 {
			t.Errorf("%s: methods in the table: got %d, want 150 and more", file, len(s.methods))
		}
		for _, m := range s.methods {
			name := m.verb + " " + m.path
			want := pub[name]
			if want == nil {
				t.Errorf("%s: %s is not in the published schema", file, name)
				continue
			}
			compareMethod(t, file+" "+name, m, want)
		}
	}
}

func compareMethod(t *testing.T, where string, m *method, want *published) {
	if m.protected != (want.Protected == 1) || m.proxy != (want.ProxyTo != "") || m.noToken != (want.AllowToken != nil && *want.AllowToken == 0) {
		t.Errorf("%s: got protected %t, proxy %t, notoken %t, want %+v", where, m.protected, m.proxy, m.noToken, want)
	}
	if check, ok := want.Permissions["check"]; ok && !strings.HasSuffix(where, "GET /cluster/options") {
		if got := parsePermission(check); !reflect.DeepEqual(m.perm, got) {
			t.Errorf("%s: permission: got %+v, want %+v", where, m.perm, got)
		}
	}
	for name, w := range want.Parameters.Properties {
		p := m.byName[name]
		if p == nil {
			t.Errorf("%s: parameter %s is missing", where, name)
			continue
		}
		compareParam(t, where, name, p, w)
	}
	for name := range m.byName {
		if want.Parameters.Properties[name] == nil {
			t.Errorf("%s: parameter %s is not published", where, name)
		}
	}
}

func compareParam(t *testing.T, where, name string, p *param, w *publishedParam) {
	t.Helper()
	kind := w.Type
	if kind == "" {
		kind = "string"
	}
	optional := w.Optional != nil && fmt.Sprint(w.Optional) != "0"
	if p.kind != kind || p.optional != optional || p.requires != w.Requires || p.pattern != w.Pattern || p.key != (w.DefaultKey == 1) {
		t.Errorf("%s %s: got %+v, want %+v", where, name, *p, *w)
	}
	for what, pair := range map[string][2]any{"minimum": {p.min, w.Minimum}, "maximum": {p.max, w.Maximum},
		"minLength": {limit(p.minLen), w.MinLength}, "maxLength": {limit(p.maxLen), w.MaxLength}} {
		got, _ := pair[0].(*float64)
		if (got == nil) != (pair[1] == nil) || got != nil && fmt.Sprint(*got) != fmt.Sprint(toFloat(pair[1])) {
			t.Errorf("%s %s: %s: got %v, want %v", where, name, what, pair[0], pair[1])
		}
	}
	compareEnum(t, where, name, p, w)
	switch f := w.Format.(type) {
	case nil:
		if p.format != "" {
			t.Errorf("%s %s: format: got %s, want none", where, name, p.format)
		}
	case string:
		if p.format != f {
			t.Errorf("%s %s: format: got %s, want %s", where, name, p.format, f)
		}
	case map[string]any:
		compareProps(t, where, name, p.props, f)
	}
}

func limit(n int) *float64 {
	if n == 0 {
		return nil
	}
	f := float64(n)
	return &f
}

func toFloat(v any) float64 {
	var f float64
	fmt.Sscan(fmt.Sprint(v), &f)
	return f
}

func compareEnum(t *testing.T, where, name string, p *param, w *publishedParam) {
	t.Helper()
	var want []string
	for _, e := range w.Enum {
		want = append(want, fmt.Sprint(e))
	}
	got := slices.Clone(p.enum)
	sort.Strings(got)
	sort.Strings(want)
	if slices.Equal(got, want) {
		return
	}
	_, call, _ := strings.Cut(where, " ")
	if strings.HasPrefix(where, "apidoc-8.4") && (wider[name] || wider[call+" "+name]) {
		return
	}
	t.Errorf("%s %s: enum: got %v, want %v", where, name, got, want)
}

// compareProps compares a property string's keys.
func compareProps(t *testing.T, where, name string, props []*param, want map[string]any) {
	t.Helper()
	byName := map[string]*param{}
	for _, p := range props {
		byName[p.name] = p
	}
	base := strings.TrimSuffix(name, "[n]")
	for k, v := range want {
		b, _ := json.Marshal(v)
		w := &publishedParam{}
		if err := json.Unmarshal(b, w); err != nil {
			t.Fatal(err)
		}
		if byName[k] == nil {
			t.Errorf("%s %s.%s is missing", where, base, k)
			continue
		}
		compareParam(t, where, base+"."+k, byName[k], w)
		delete(byName, k)
	}
	for k := range byName {
		t.Errorf("%s %s.%s is not published", where, base, k)
	}
}

func TestEveryHandlerIsInTheMethodTable(t *testing.T) {
	s := schemaOf("9.2.11")
	there := map[string]bool{}
	for _, m := range s.methods {
		there[m.verb+" "+m.path] = true
	}
	for name := range handlers {
		if !there[name] {
			t.Errorf("%s has a handler and no schema", name)
		}
	}
}
