package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// API is one description of the API.
type API struct {
	root []*node
}

// node is one path of the description's tree.
type node struct {
	Path     string             `json:"path"`
	Info     map[string]*method `json:"info"`
	Children []*node            `json:"children"`
}

type method struct {
	Parameters struct {
		Additional any                  `json:"additionalProperties"`
		Properties map[string]*property `json:"properties"`
	} `json:"parameters"`
}

// property describes one parameter, or one part of a property string.
type property struct {
	Type       string          `json:"type"`
	Optional   any             `json:"optional"`
	Format     json.RawMessage `json:"format"` // a name, or properties by name
	Pattern    string          `json:"pattern"`
	Enum       []any           `json:"enum"`
	Minimum    any             `json:"minimum"`
	Maximum    any             `json:"maximum"`
	MinLength  any             `json:"minLength"`
	MaxLength  any             `json:"maxLength"`
	Requires   string          `json:"requires"`
	DefaultKey any             `json:"default_key"`
	Alias      string          `json:"alias"`
	Items      *property       `json:"items"`
}

func (p *property) optional() bool { return truth(p.Optional) }

// truth is Perl's, of what JSON made of it.
func truth(v any) bool {
	s := fmt.Sprint(v)
	return v != nil && s != "0" && s != "" && s != "false"
}

var loaded sync.Map // *API by file

// Load reads a description, once.
func Load(file string) (*API, error) {
	if api, ok := loaded.Load(file); ok {
		return api.(*API), nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	api := &API{}
	if err := json.Unmarshal(b, &api.root); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	loaded.Store(file, api)
	return api, nil
}

// Problems lists what the description does not allow in a request. The path is
// without /api2/json; values are strings of a form, or what JSON decodes to
// with json.Number.
func (a *API) Problems(httpMethod, path string, params map[string]any) []string {
	n, inPath := find(a.root, strings.Split(strings.Trim(path, "/"), "/"))
	if n == nil {
		return []string{"no such path"}
	}
	m := n.Info[httpMethod]
	if m == nil {
		return []string{"no such method on " + n.Path}
	}
	all := map[string]any{}
	maps.Copy(all, params)
	for name, v := range inPath {
		if _, twice := all[name]; twice {
			return []string{name + ": in the path and as a parameter"}
		}
		all[name] = v
	}
	return m.problems(all)
}

// find walks the tree; a literal name goes before a placeholder.
func find(level []*node, segments []string) (*node, map[string]any) {
	var placeholder *node
	for _, n := range level {
		name := n.Path[strings.LastIndex(n.Path, "/")+1:]
		if name == segments[0] {
			return descend(n, segments)
		}
		if strings.HasPrefix(name, "{") {
			placeholder = n
		}
	}
	if placeholder == nil {
		return nil, nil
	}
	n, params := descend(placeholder, segments)
	if n == nil {
		return nil, nil
	}
	name := placeholder.Path[strings.LastIndex(placeholder.Path, "/")+1:]
	params[strings.Trim(name, "{}")] = segments[0]
	return n, params
}

func descend(n *node, segments []string) (*node, map[string]any) {
	if len(segments) == 1 {
		return n, map[string]any{}
	}
	return find(n.Children, segments[1:])
}

func (m *method) problems(params map[string]any) []string {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(params)) {
		p := m.property(name)
		if p == nil {
			if !truth(m.Parameters.Additional) {
				found = append(found, name+": no such parameter")
			}
			continue
		}
		if p.Requires != "" && params[p.Requires] == nil {
			found = append(found, name+": given without "+p.Requires)
		}
		for _, why := range p.problems(params[name]) {
			found = append(found, name+": "+why)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Parameters.Properties)) {
		if p := m.Parameters.Properties[name]; !p.optional() && params[name] == nil {
			found = append(found, name+": missing")
		}
	}
	return found
}

var numbered = regexp.MustCompile(`^([a-z]+)[0-9]+$`)

// property finds the description of a parameter; net0 is described as net[n].
func (m *method) property(name string) *property {
	if p := m.Parameters.Properties[name]; p != nil {
		return p
	}
	if n := numbered.FindStringSubmatch(name); n != nil {
		return m.Parameters.Properties[n[1]+"[n]"]
	}
	return nil
}
