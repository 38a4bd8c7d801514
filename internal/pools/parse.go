package pools

import (
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Parse reads pool files, given by name, as one configuration: the order of
// the files does not matter. All that is wrong is reported at once. When
// diagnostics have errors there is no Desired; warnings do not prevent one.
//
// Parse is safe with any input: time and memory are bounded.
func Parse(files map[string][]byte) (fleet.Desired, Diagnostics) {
	desired, diags := parse(files)
	return desired, newDiagnostics(diags, files)
}

// fault is the summary of a panic, which would be a defect of ours or HCL's.
const fault = "Internal fault"

func parse(files map[string][]byte) (desired fleet.Desired, diags hcl.Diagnostics) {
	defer func() {
		if p := recover(); p != nil { // the daemon goes on with what it has
			desired, diags = fleet.Desired{}, hcl.Diagnostics{problem(nil, fault,
				"These files make the parser fail, which is a defect of dayfly: %v. Please report it.", p)}
		}
	}()
	return read(files)
}

func read(files map[string][]byte) (fleet.Desired, hcl.Diagnostics) {
	if diags := guard(files); diags.HasErrors() {
		return fleet.Desired{}, diags
	}
	bodies, diags := syntax(files)
	if diags.HasErrors() {
		return fleet.Desired{}, diags // what follows from a syntax error is noise
	}
	found, diags := blocks(bodies)
	ev := newEvaluator()
	for _, b := range found["locals"] {
		ev.declare(b.Body.(*hclsyntax.Body))
	}
	r := newReader(ev)
	if ok, older := r.language(found["dayfly"]); !ok {
		return fleet.Desired{}, older // another language: do not judge its files by this one
	}
	ev.all()
	desired := r.desired(found)
	diags = append(diags, ev.diags...)
	if diags.HasErrors() {
		return fleet.Desired{}, diags
	}
	return desired, diags
}

// syntax parses all files.
func syntax(files map[string][]byte) ([]*hclsyntax.Body, hcl.Diagnostics) {
	var bodies []*hclsyntax.Body
	var diags hcl.Diagnostics
	for _, name := range sortedKeys(files) {
		file, more := hclsyntax.ParseConfig(files[name], name, hcl.InitialPos)
		diags = append(diags, more...)
		if !more.HasErrors() {
			bodies = append(bodies, file.Body.(*hclsyntax.Body))
		}
	}
	return bodies, diags
}

// desired reads all blocks but dayfly and locals.
func (r *reader) desired(found map[string]hcl.Blocks) fleet.Desired {
	templates := r.templates(found["template"])
	defaults, blockOfDefaults := r.defaults(found["defaults"])
	pools := r.pools(found["pool"])
	used := map[*hcl.Attribute]bool{}
	var out fleet.Desired
	for _, p := range pools {
		own := p.body.GitHub != nil && (p.body.GitHub.Org != nil || p.body.GitHub.Repo != nil)
		inherited := *defaults
		if own {
			inherited.GitHub = nil
		}
		inherit(&p.body, &inherited, used)
		complete(&p.body)
		out.Pools = append(out.Pools, r.build(p, templates.made))
	}
	out.Templates = templates.blocks(pools)
	out.Limits = r.limits(found["limits"])
	r.together(pools, out)
	if !r.diags.HasErrors() { // a misspelt reference would make warnings of its own
		r.unused(templates, pools, blockOfDefaults, defaults, used)
	}
	return out
}

// templates holds the template blocks, by name.
type templates struct {
	refs map[string]fleet.Ref // for those who only want to know these
	made map[string]template
	at   map[string]hcl.Range
}

// template is a template block.
type template struct {
	fleet.Ref
	follow   fleet.Constraint
	keep     int
	replicas int
	maxAge   time.Duration
}

// blocks lists the template blocks by name, and which pools use them.
func (t templates) blocks(pools []*pool) []fleet.TemplateBlock {
	var list []fleet.TemplateBlock
	for _, name := range sortedKeys(t.made) {
		m := t.made[name]
		b := fleet.TemplateBlock{Ref: m.Ref, Name: name, Follow: m.follow, Keep: m.keep, Replicas: m.replicas, MaxAge: m.maxAge}
		for _, p := range pools {
			if p.uses() == name {
				b.Pools = append(b.Pools, p.name)
			}
		}
		slices.Sort(b.Pools)
		list = append(list, b)
	}
	return list
}

func (r *reader) templates(list hcl.Blocks) templates {
	t := templates{map[string]fleet.Ref{}, map[string]template{}, map[string]hcl.Range{}}
	for _, b := range list {
		name, at := b.Labels[0], b.LabelRanges[0]
		if old, ok := t.at[name]; ok {
			r.report(problem(&at, "Duplicate template", "Template %q is already defined at %s.", name, old))
			continue
		}
		if !templateForm.MatchString(name) {
			r.report(problem(&at, "Invalid template name",
				"A name is 1 to 64 letters, digits, dashes, dots and underscores, not %.80q.", name))
		}
		var body templateBlock
		r.report(decode("template", b.Body, &body)...)
		made := r.block(b, &body)
		t.at[name], t.refs[name], t.made[name] = at, made.Ref, made
	}
	return t
}

func (r *reader) block(b *hcl.Block, body *templateBlock) template {
	if body.Family == nil {
		r.report(problem(&b.DefRange, "Missing family", "Template %q needs family.", b.Labels[0]))
	}
	complete(body)
	t := template{
		keep: r.count(body.Keep, 0, 100), replicas: r.count(body.Replicas, 1, 32),
		maxAge: r.duration(body.MaxAge, 24*time.Hour, 8760*time.Hour),
	}
	t.Family = r.text(body.Family, familyForm, "A family of 1 to 64 letters, digits and _.-")
	t.Version, t.follow = r.version(body.Version)
	return t
}

// defaults reads the defaults block; empty when there is none.
func (r *reader) defaults(list hcl.Blocks) (*poolBody, *hcl.Block) {
	body := &poolBody{}
	b, diags := single(list)
	r.report(diags...)
	if b == nil {
		return body, nil
	}
	r.report(decode("pool", b.Body, body)...)
	for _, own := range []*hcl.Attribute{body.Labels, body.Description} {
		if own != nil {
			at := own.NameRange
			r.report(problem(&at, "No default for "+own.Name, "%s is each pool's own; set it in the pools.", own.Name))
		}
	}
	body.Labels, body.Description = nil, nil
	return body, b
}

func (r *reader) pools(list hcl.Blocks) []*pool {
	var pools []*pool
	seen := map[string]hcl.Range{}
	for _, b := range list {
		p := &pool{name: b.Labels[0], at: b.LabelRanges[0]}
		if old, ok := seen[p.name]; ok {
			r.report(problem(&p.at, "Duplicate pool", "Pool %q is already defined at %s.", p.name, old))
			continue
		}
		seen[p.name] = p.at
		if len(p.name) > fleet.MaxPoolName || !poolForm.MatchString(p.name) {
			r.report(problem(&p.at, "Invalid pool name",
				"A name is part of host names: 1 to %d lower-case letters, digits and inner dashes, not %.80q.",
				fleet.MaxPoolName, p.name))
		}
		r.report(decode("pool", b.Body, &p.body)...)
		pools = append(pools, p)
	}
	return pools
}

func (r *reader) limits(list hcl.Blocks) fleet.Limits {
	var body limitsBlock
	b, diags := single(list)
	r.report(diags...)
	if b != nil {
		r.report(decode("limits", b.Body, &body)...)
	}
	complete(&body)
	return fleet.Limits{
		Max:        r.count(body.Max, 1, maxContainers),
		PerNode:    r.count(body.PerNode, 1, maxContainers),
		NodeTasks:  r.count(body.NodeTasks, 1, 100),
		StoreTasks: r.count(body.StorageTasks, 1, 100),
	}
}
