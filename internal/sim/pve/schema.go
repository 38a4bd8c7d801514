package pve

import (
	"embed"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

//go:embed schema/*.txt
var schemaFiles embed.FS

// param is one parameter of a method, or one key of a property string.
type param struct {
	name     string // "net[n]" stands for net0 to net31
	kind     string // string integer number boolean array
	optional bool
	key      bool // a property string's default key
	since9   bool
	min, max *float64
	minLen   int
	maxLen   int // 0: no limit
	requires string
	format   string
	enum     []string
	pattern  string
	re       *regexp.Regexp
	props    []*param // of format "{name}"
}

// method is one API method: its path, who may call it, and its parameters.
type method struct {
	verb, path string
	segments   []string
	since9     bool
	protected  bool // runs in pvedaemon
	proxy      bool // runs on the node in the path
	noToken    bool
	perm       *permission // nil: see who
	who        string      // all, world, or "" with perm
	params     []*param
	byName     map[string]*param
	handle     handler
}

// schema is the method table of one release.
type schema struct {
	root    *route
	methods []*method
	formats map[string][]*param
}

// route is a node of the path tree.
type route struct {
	next     map[string]*route
	variable *route
	name     string // of the variable
	methods  map[string]*method
}

var schemas struct {
	sync.Mutex
	made map[string]*schema
}

// schemaOf gives the table of a release; it is made once and never changed.
func schemaOf(release string) *schema {
	schemas.Lock()
	defer schemas.Unlock()
	key := "9"
	switch {
	case !atLeast(release, "9"):
		key = "8"
	case !atLeast(release, "9.2"):
		key = "9.1"
	}
	if s := schemas.made[key]; s != nil {
		return s
	}
	s := readSchema(key)
	if schemas.made == nil {
		schemas.made = map[string]*schema{}
	}
	schemas.made[key] = s
	return s
}

func readSchema(key string) *schema {
	s := &schema{formats: map[string][]*param{}, root: &route{}}
	for _, f := range []string{"formats", "access", "cluster", "firewall", "lxc", "node", "storage"} {
		b, err := schemaFiles.ReadFile("schema/" + f + ".txt")
		if err != nil {
			panic(err)
		}
		s.read(string(b), key == "8")
	}
	for _, m := range s.methods {
		if key == "9" {
			closeNewlineHole(m)
		}
		s.route(m)
	}
	return s
}

// closeNewlineHole forbids every control character but the tab in env and
// entrypoint. From pve-container 6.0.18 to 6.1.7 the published pattern let a
// newline through; releases before 9.2 keep that hole here.
func closeNewlineHole(m *method) {
	for _, p := range m.params {
		if p.name == "env" || p.name == "entrypoint" {
			p.re = perlRegexp(strings.ReplaceAll(p.pattern, `\x08\x10`, `\x08\x0A`))
		}
	}
}

// read adds the methods or formats of one file.
func (s *schema) read(text string, old bool) {
	var m *method
	var format string
	for _, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == ' ' {
			p := s.param(line[1:])
			switch {
			case old && p.since9:
			case m != nil:
				m.params = append(m.params, p)
				m.byName[p.name] = p
			default:
				s.formats[format] = append(s.formats[format], p)
			}
			continue
		}
		if name, ok := strings.CutPrefix(line, "format "); ok {
			format, m = name, nil
			continue
		}
		m = parseMethod(line)
		if !old || !m.since9 {
			s.methods = append(s.methods, m)
		}
	}
}

func parseMethod(line string) *method {
	head, perm, ok := strings.Cut(line, " perm=")
	if !ok {
		panic("pve: schema line without perm: " + line)
	}
	f := strings.Fields(head)
	m := &method{verb: f[0], path: f[1], segments: strings.Split(strings.Trim(f[1], "/"), "/"), byName: map[string]*param{}}
	for _, w := range f[2:] {
		switch w {
		case "since=9":
			m.since9 = true
		case "protected":
			m.protected = true
		case "proxy":
			m.proxy = true
		case "notoken":
			m.noToken = true
		default:
			panic("pve: schema word " + w)
		}
	}
	if perm[0] == '[' {
		var v any
		if err := json.Unmarshal([]byte(perm), &v); err != nil {
			panic(fmt.Sprintf("pve: schema of %s: %v", m.path, err))
		}
		m.perm = parsePermission(v)
	} else {
		m.who = perm
	}
	m.handle = handlers[m.verb+" "+m.path]
	return m
}

// param reads one parameter line.
func (s *schema) param(line string) *param {
	line, pattern, _ := strings.Cut(line, " pat=")
	line, enum, _ := strings.Cut(line, " enum=")
	f := strings.Fields(line)
	p := &param{name: f[0], kind: f[1], pattern: pattern}
	if enum != "" {
		p.enum = strings.Split(enum, ",")
	}
	if pattern != "" {
		p.re = perlRegexp(pattern)
	}
	for _, w := range f[2:] {
		k, v, _ := strings.Cut(w, "=")
		switch k {
		case "?":
			p.optional = true
		case "key":
			p.key = true
		case "since":
			p.since9 = true
		case "min":
			p.min = number(v)
		case "max":
			p.max = number(v)
		case "minlen":
			p.minLen = atoi(v)
		case "maxlen":
			p.maxLen = atoi(v)
		case "requires":
			p.requires = v
		case "fmt":
			p.format = v
			if v[0] == '{' {
				p.props = s.formats[v[1:len(v)-1]]
			}
		default:
			panic("pve: schema word " + w)
		}
	}
	return p
}

func number(s string) *float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		panic(err)
	}
	return &f
}

// perlRegexp translates a pattern of the published schema, anchored as
// PVE::JSONSchema does.
func perlRegexp(p string) *regexp.Regexp {
	p = strings.NewReplacer("(?^i:", "(?i:", "(?^:", "(?:", `\0`, `\x00`, `\/`, `/`, `{0,4096}`, `*`).Replace(p) // Go counts to 1000 only
	return regexp.MustCompile(`^(?:` + p + `)$`)
}

// route puts a method into the path tree.
func (s *schema) route(m *method) {
	r := s.root
	for _, seg := range m.segments {
		if seg[0] == '{' {
			if r.variable == nil {
				r.variable = &route{name: seg[1 : len(seg)-1]}
			}
			r = r.variable
			continue
		}
		if r.next == nil {
			r.next = map[string]*route{}
		}
		if r.next[seg] == nil {
			r.next[seg] = &route{}
		}
		r = r.next[seg]
	}
	if r.methods == nil {
		r.methods = map[string]*method{}
	}
	r.methods[m.verb] = m
}

// find looks a request up; segments are unescaped. The variables of the path
// go into vars.
func (s *schema) find(verb string, segments []string, vars map[string]string) *method {
	r := s.root
	for i, seg := range segments {
		next := r.next[seg]
		if next == nil {
			next = r.variable
			if next == nil {
				return nil
			}
			if next.name == "volume" { // a volume id has slashes of its own
				vars["volume"] = strings.Join(segments[i:], "/")
				return next.methods[verb]
			}
			vars[next.name] = seg
		}
		r = next
	}
	return r.methods[verb]
}
