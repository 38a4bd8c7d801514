package pools

import (
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

const (
	maxContainers = 10_000
	maxLabels     = 100 // GitHub's limit for one JIT config
	maxNodeNames  = 64
	maxMemoryMiB  = 16 << 20 // 16 TiB
)

// Forms of names. Labels and groups travel in JSON and on web pages, bridges
// and nodes in Proxmox VE's own option strings: what could end or escape one
// of these is never let in.
var (
	poolForm     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	templateForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)
	labelForm    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.:/+=@-]{0,99}$`)
	familyForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	versionForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$`)
	ownerForm    = regexp.MustCompile(`^[A-Za-z0-9](-?[A-Za-z0-9_]){0,38}$`)
	repoForm     = regexp.MustCompile(`^[A-Za-z0-9](-?[A-Za-z0-9_]){0,38}/[A-Za-z0-9_.-]{1,100}$`)
	groupForm    = regexp.MustCompile(`^[^\s\pC"\\]([^\pC"\\]{0,98}[^\s\pC"\\])?$`)
	nodeForm     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	bridgeForm   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,14}$`)
)

// line is a text in one line, of at most so many characters. A regular
// expression of 500 of them takes milliseconds to compile, at every start of a
// command.
type line int

// MatchString reports whether s is such a text.
func (n line) MatchString(s string) bool {
	return utf8.RuneCountInString(s) <= int(n) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(unicode.C, r) })
}

// pool is a pool block on its way to fleet.Pool.
type pool struct {
	name string
	at   hcl.Range // of the name
	body poolBody
}

// build reads a pool of which defaults are merged already.
func (r *reader) build(p *pool, templates map[string]template) fleet.Pool {
	r.required(p)
	b := &p.body
	r.text(b.Description, line(500), "A text of at most 500 characters in one line")
	out := fleet.Pool{
		Name:     p.name,
		Labels:   texts(r.list(b.Labels, maxLabels, labelForm, "A label of 1 to 100 letters, digits and _.:/+=@-")),
		Drained:  r.good(b.Enabled) && !r.flag(b.Enabled),
		Size:     r.size(b.Size),
		Timeouts: r.timeouts(b.Timeouts),
		Nodes:    texts(r.list(b.Placement.Nodes, maxNodeNames, nodeForm, "The name of a Proxmox VE node")),
		PerNode:  r.count(b.Placement.MaxPerNode, 1, maxContainers),
	}
	out.Network, out.Egress = r.network(b.Network)
	out.Env = r.env(b.Env)
	from := r.template(b.Template, templates)
	out.Template, out.Follow, out.Keep, out.Replicas, out.MaxAge = from.Ref, from.follow, from.keep, from.replicas, from.maxAge
	out.Roll = r.rollout(b.Rollout)
	out.Pack = r.choice(b.Placement.Strategy, "spread", "pack") == "pack"
	out.Reserve = fleet.Room{
		MemoryMiB: r.mebibytes(b.Placement.Reserve.Memory, 0, maxMemoryMiB), Cores: r.count(b.Placement.Reserve.Cores, 0, 8192),
		StorageMiB: r.mebibytes(b.Placement.Reserve.Storage, 0, maxMemoryMiB),
	}
	out.Scope, out.Group = r.github(b.GitHub)
	out.Access = r.access(b.Access, out.Scope)
	r.scale(b.Scale, &out)
	out.Reruns = r.count(b.Retry.LostJobs, 0, 10)
	out.Retry.Attempts = r.count(b.Retry.Attempts, 1, 1000)
	out.Retry.Min, out.Retry.Max = r.backoff(b.Retry.Backoff, time.Second, time.Hour)
	return out
}

// required reports what neither the pool nor defaults give.
func (r *reader) required(p *pool) {
	b := &p.body
	missing := func(a *hcl.Attribute, where, what string) {
		if a == nil {
			r.report(problem(&p.at, "Missing "+what, "Pool %q needs %s%s.", p.name, what, where))
		}
	}
	missing(b.Labels, "", "labels")
	missing(b.Template, ", here or in defaults", "template")
	missing(b.Scale.Max, " in a scale block, here or in defaults", "max")
	if b.GitHub.Org == nil && b.GitHub.Repo == nil {
		r.report(problem(&p.at, "Missing scope",
			"Pool %q needs org or repo in a github block, here or in defaults.", p.name))
	}
}

func (r *reader) scale(b *scaleBlock, out *fleet.Pool) {
	out.Max = r.count(b.Max, 1, maxContainers)
	out.Spare = r.count(b.Spare, 0, maxContainers)
	out.Warm = r.count(b.Warm, 0, maxContainers)
	for _, w := range b.Schedule {
		s := fleet.Schedule{Window: r.window(w.Days, w.From, w.For, w.Timezone), Warm: r.count(w.Warm, 0, maxContainers)}
		out.Schedules = append(out.Schedules, s)
		if r.good(b.Max, w.Warm) && s.Warm > out.Max {
			at := firstWritten(w.Warm, b.Max)
			r.report(problem(&at, "Too many warm containers", "warm is greater than max (%d): warm ones count as containers.", out.Max))
		}
	}
	if r.good(b.Max, b.Spare, b.Warm) && out.Warm > 0 && out.Spare+out.Warm > out.Max {
		at := firstWritten(b.Warm, b.Max)
		r.report(problem(&at, "Too many warm containers", "spare and warm together (%d) are greater than max (%d): both count as containers.", out.Spare+out.Warm, out.Max))
	}
	if r.good(b.Max, b.Spare) && out.Spare > out.Max {
		at := firstWritten(b.Spare, b.Max)
		r.report(problem(&at, "Too many spares", "spare (%d) is greater than max (%d): spares count as containers.", out.Spare, out.Max))
	}
}

func (r *reader) github(b *githubBlock) (fleet.Scope, string) {
	if b.Org != nil && b.Repo != nil {
		at := b.Repo.Range
		r.report(problem(&at, "Two scopes", "A pool registers with an organisation or with a repository: set org or repo, not both."))
	}
	group := r.text(b.Group, groupForm, "The name of a runner group, 1 to 100 characters without quotes,")
	if b.Repo != nil {
		if b.Group != nil {
			at := b.Group.Range
			r.report(problem(&at, "No groups in a repository", "Only organisations have runner groups. Remove group, or use org."))
		}
		scope := r.text(b.Repo, repoForm, `A repository such as "acme/app"`)
		if name := scope[strings.Index(scope, "/")+1:]; name == "." || name == ".." {
			r.refuse(b.Repo, b.Repo.Expr.Range(), "A repository such as \"acme/app\" is expected, not %q.", scope)
		}
		return fleet.Scope(scope), ""
	}
	return fleet.Scope(r.text(b.Org, ownerForm, `The name of an organisation, such as "acme",`)), group
}

func (r *reader) size(b *sizeBlock) fleet.Size {
	s := fleet.Size{
		Cores:     r.count(b.Cores, 1, 8192),
		MemoryMiB: r.mebibytes(b.Memory, 16, maxMemoryMiB),
		SwapMiB:   r.mebibytes(b.Swap, 0, maxMemoryMiB),
		DiskMiB:   r.gibibytes(b.Disk),
		CPUUnits:  r.count(b.CPUUnits, 1, 10_000), // more is taken for 10,000 in cgroup v2 (pve-container, LXC/Config.pm)
	}
	if r.good(b.Swap) && s.SwapMiB == 0 {
		s.SwapMiB = -1 // zero is "as in the template"
	}
	return s
}

func (r *reader) timeouts(b *timeoutsBlock) fleet.Timeouts {
	t := fleet.Timeouts{
		Clone:    r.duration(b.Clone, 10*time.Second, 2*time.Hour),
		Launch:   r.duration(b.Launch, 5*time.Second, time.Hour),
		Register: r.duration(b.Register, 5*time.Second, time.Hour),
		Idle:     r.duration(b.Idle, 10*time.Second, 23*time.Hour),
		Job:      r.duration(b.Job, time.Minute, 120*time.Hour),
		Warm:     r.duration(b.Warm, time.Minute, 168*time.Hour),
	}
	for _, part := range []struct {
		attr *hcl.Attribute
		d    time.Duration
	}{{b.Clone, t.Clone}, {b.Launch, t.Launch}, {b.Register, t.Register}, {b.Idle, t.Idle}} {
		if r.good(part.attr, b.Job) && part.d > t.Job {
			at := firstWritten(part.attr, b.Job)
			r.report(problem(&at, "Deadlines out of order",
				"%s (%s) is longer than job (%s), the longest that anything may take.", part.attr.Name, brief(part.d), brief(t.Job)))
		}
	}
	return t
}

// firstWritten is where the first of attrs is written that is not a default of
// the schema.
func firstWritten(attrs ...*hcl.Attribute) hcl.Range {
	i := slices.IndexFunc(attrs, func(a *hcl.Attribute) bool { return a.Range.Filename != "" })
	return attrs[max(i, 0)].Expr.Range()
}

// uses is the name of the template block that a pool refers to.
func (p *pool) uses() string {
	if p.body.Template == nil {
		return ""
	}
	for _, ref := range p.body.Template.Expr.Variables() {
		if len(ref) > 1 {
			if step, ok := ref[1].(hcl.TraverseAttr); ok {
				return step.Name
			}
		}
	}
	return ""
}

// template resolves `template.NAME`. It is a reference, not a value, so that
// a misspelling is found where it is written.
func (r *reader) template(a *hcl.Attribute, known map[string]template) template {
	if a == nil {
		return template{}
	}
	ref, diags := hcl.AbsTraversalForExpr(a.Expr)
	if diags.HasErrors() || len(ref) != 2 || ref.RootName() != "template" {
		r.refuse(a, a.Expr.Range(), "A reference is expected, such as template.ubuntu-24.")
		return template{}
	}
	step, ok := ref[1].(hcl.TraverseAttr)
	if !ok {
		r.refuse(a, a.Expr.Range(), "A reference is expected, such as template.ubuntu-24.")
		return template{}
	}
	found, ok := known[step.Name]
	if !ok {
		r.refuse(a, step.SrcRange, "There is no template block named %q.%s", step.Name, nearest(step.Name, known))
	}
	return found
}
