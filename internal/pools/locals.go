package pools

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

const maxLocals = 1000

// local is one named value of a `locals` block.
type local struct {
	attr  *hclsyntax.Attribute
	state state
	value cty.Value
}

type state int

const (
	untouched state = iota
	evaluating
	evaluated
)

// evaluator evaluates expressions, each local once and before what refers to
// it.
type evaluator struct {
	locals map[string]*local
	charge charge
	diags  hcl.Diagnostics
	values map[hcl.Expression]cty.Value
	path   []string // locals being evaluated, outermost first
	funcs  *hcl.EvalContext
}

func newEvaluator() *evaluator {
	return &evaluator{
		locals: map[string]*local{},
		values: map[hcl.Expression]cty.Value{},
		funcs:  &hcl.EvalContext{Functions: callable()},
	}
}

// declare adds the attributes of a `locals` block.
func (ev *evaluator) declare(body *hclsyntax.Body) {
	for _, attr := range sortedAttributes(body) {
		if old := ev.locals[attr.Name]; old != nil {
			ev.report(problem(&attr.NameRange, "Duplicate local",
				"local.%s is already defined at %s.", attr.Name, old.attr.NameRange))
			continue
		}
		if len(ev.locals) == maxLocals {
			ev.report(problem(&attr.NameRange, "Too many locals", "The limit is %d.", maxLocals))
			return
		}
		ev.locals[attr.Name] = &local{attr: attr}
	}
	for _, block := range body.Blocks {
		at := block.DefRange()
		ev.report(problem(&at, "Unexpected block", "A locals block contains names and values, no blocks."))
	}
}

func (ev *evaluator) report(diags ...*hcl.Diagnostic) { ev.diags = append(ev.diags, diags...) }

// value evaluates e; DynamicVal when that failed, which has been reported.
func (ev *evaluator) value(e hcl.Expression) cty.Value {
	if v, ok := ev.values[e]; ok {
		return v
	}
	v := ev.evaluate(e)
	ev.values[e] = v
	return v
}

func (ev *evaluator) evaluate(e hcl.Expression) cty.Value {
	native, ok := e.(hclsyntax.Expression)
	if !ok {
		return cty.DynamicVal // only hclsyntax is ever parsed
	}
	vars, ok := ev.prepare(e)
	if !ok {
		return cty.DynamicVal
	}
	ok, refused := ev.charge.admit(&meter{local: ev.peek}, native)
	if !ok {
		if refused != nil {
			ev.report(refused)
		}
		return cty.DynamicVal
	}
	ctx := ev.funcs.NewChild()
	ctx.Variables = map[string]cty.Value{"local": cty.ObjectVal(vars)}
	v, diags := e.Value(ctx)
	ev.diags = append(ev.diags, diags...)
	if diags.HasErrors() {
		return cty.DynamicVal
	}
	return v
}

// prepare evaluates the locals that e refers to, and returns them; false if
// one of them does not exist.
func (ev *evaluator) prepare(e hcl.Expression) (map[string]cty.Value, bool) {
	vars := map[string]cty.Value{}
	good := true
	for _, ref := range e.Variables() {
		if ref.RootName() != "local" {
			continue // HCL reports it with the names that exist
		}
		name, ok := localName(ref)
		at := ref.SourceRange()
		switch {
		case !ok:
			ev.report(problem(&at, "Incomplete reference", "Write local.NAME."))
			good = false
		case ev.locals[name] == nil:
			ev.report(problem(&at, "Unknown local", "There is no local named %q.%s", name, nearest(name, ev.locals)))
			good = false
		default:
			vars[name] = ev.resolve(name, at)
		}
	}
	return vars, good
}

// resolve evaluates a local. Its depth of recursion is at most maxLocals.
func (ev *evaluator) resolve(name string, at hcl.Range) cty.Value {
	l := ev.locals[name]
	switch l.state {
	case evaluated:
		return l.value
	case evaluating:
		ev.report(problem(&at, "Locals in a circle", "The value of local.%s depends on itself: %s.", name, ev.circle(name)))
		return cty.DynamicVal
	}
	l.state = evaluating
	ev.path = append(ev.path, name)
	l.value = ev.value(l.attr.Expr)
	ev.path = ev.path[:len(ev.path)-1]
	l.state = evaluated
	return l.value
}

func (ev *evaluator) circle(name string) string {
	const shown = 8
	var b strings.Builder
	from := len(ev.path) - 1
	for ev.path[from] != name {
		from--
	}
	for i, link := range ev.path[from:] {
		if i == shown {
			b.WriteString("… → ")
			break
		}
		b.WriteString("local." + link + " → ")
	}
	return b.String() + "local." + name
}

// all evaluates every local, so that one nobody uses is checked as well.
func (ev *evaluator) all() {
	for _, name := range sortedKeys(ev.locals) {
		ev.resolve(name, ev.locals[name].attr.NameRange)
	}
}

// peek is what a reference evaluates to when all it refers to is evaluated.
func (ev *evaluator) peek(ref hcl.Traversal) cty.Value {
	name, ok := localName(ref)
	if !ok || ev.locals[name] == nil || ev.locals[name].state != evaluated {
		return cty.DynamicVal
	}
	v, diags := ref[2:].TraverseRel(ev.locals[name].value)
	if diags.HasErrors() {
		return cty.DynamicVal // reported when evaluated
	}
	return v
}

// localName returns NAME of local.NAME or local["NAME"].
func localName(ref hcl.Traversal) (string, bool) {
	if ref.RootName() != "local" || len(ref) < 2 {
		return "", false
	}
	switch step := ref[1].(type) {
	case hcl.TraverseAttr:
		return step.Name, true
	case hcl.TraverseIndex:
		if step.Key.Type() == cty.String {
			return step.Key.AsString(), true
		}
	}
	return "", false
}
