package pools

import (
	"math/big"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// HCL has no loops without end, yet a few hundred bytes of nested `for`, or
// thirty locals that each double the one before, take hours or gigabytes, and
// Go can stop neither. The common answer, a child process with a deadline and
// a memory limit, makes the outcome depend on the machine's load and needs a
// second program. Here the bound is computed instead: locals are evaluated in
// dependency order, so when an expression's turn comes the sizes of all it
// refers to are known exactly, every construct's growth follows from its
// parts, and an expression that could pass the limits is refused unevaluated,
// by a diagnostic that is the same on every machine.
//
// Size is counted in units of a list element or 64 bytes of text; about 200
// bytes of memory. Work is counted in steps that visit a unit.
const (
	maxSize  = 1 << 14 // units of one expression's result
	maxSizes = 1 << 18 // units of all results together
	maxWork  = 1 << 21 // steps of all evaluations together; about a second
	maxNodes = 256     // nodes of an expression inside each other
)

// cost is an upper bound, in float64 so that products cannot overflow.
type cost struct{ size, work float64 }

func (c cost) plus(o cost) cost { return cost{c.size + o.size, c.work + o.work} }

// meter computes upper bounds of expressions.
type meter struct {
	local func(hcl.Traversal) cty.Value // what a reference evaluates to; DynamicVal if unknown
	depth int
}

// refusal stops the walk; at is the node that cannot be bounded.
type refusal struct {
	at   hcl.Range
	text string
}

// scope holds the sizes of the variables that `for` and splats bind.
type scope struct {
	name  string
	item  *hclsyntax.AnonSymbolExpr
	size  float64
	outer *scope
}

func (s *scope) named(name string) (float64, bool) {
	for ; s != nil; s = s.outer {
		if s.item == nil && s.name == name {
			return s.size, true
		}
	}
	return 0, false
}

func (s *scope) anonymous(item *hclsyntax.AnonSymbolExpr) float64 {
	for ; s != nil; s = s.outer {
		if s.item == item {
			return s.size
		}
	}
	return 1
}

func (m *meter) expr(e hclsyntax.Expression, in *scope) (cost, *refusal) {
	m.depth++
	defer func() { m.depth-- }()
	if m.depth > maxNodes {
		return cost{}, &refusal{e.Range(), "The expression is nested too deeply."}
	}
	c, refused := m.node(e, in)
	if refused == nil && c.size > maxSize {
		refused = &refusal{e.Range(), "The result may become too large."}
	}
	return c, refused
}

func (m *meter) node(e hclsyntax.Expression, in *scope) (cost, *refusal) {
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		return flat(weight(e.Val)), nil
	case *hclsyntax.ScopeTraversalExpr:
		return m.reference(e, in)
	case *hclsyntax.AnonSymbolExpr:
		return flat(in.anonymous(e)), nil
	case *hclsyntax.ForExpr:
		return m.loop(e, in)
	case *hclsyntax.SplatExpr:
		source, refused := m.expr(e.Source, in)
		if refused != nil {
			return cost{}, refused
		}
		each, refused := m.expr(e.Each, &scope{item: e.Item, size: source.size, outer: in})
		return source.plus(times(source.size, each)), refused
	case *hclsyntax.FunctionCallExpr:
		args, refused := m.sum(in, e.Args...)
		return call(e.Name, args), refused
	case *hclsyntax.BinaryOpExpr:
		return m.operation(e, in)
	case *hclsyntax.UnaryOpExpr:
		if e.Op == hclsyntax.OpNegate && !m.number(e.Val, in) {
			return cost{}, &refusal{e.Range(), noArithmetic}
		}
		return m.sum(in, e.Val)
	case *hclsyntax.ConditionalExpr:
		c, refused := m.sum(in, e.Condition, e.TrueResult, e.FalseResult)
		return squared(c), refused // both results are converted to one type, in pairs
	default:
		return m.container(e, in)
	}
}

// container bounds what holds its parts and nothing more.
func (m *meter) container(e hclsyntax.Expression, in *scope) (cost, *refusal) {
	switch e := e.(type) {
	case *hclsyntax.ParenthesesExpr:
		return m.expr(e.Expression, in)
	case *hclsyntax.TemplateWrapExpr:
		return m.expr(e.Wrapped, in)
	case *hclsyntax.TemplateJoinExpr:
		return m.expr(e.Tuple, in)
	case *hclsyntax.TemplateExpr:
		return m.sum(in, e.Parts...)
	case *hclsyntax.TupleConsExpr:
		return m.sum(in, e.Exprs...)
	case *hclsyntax.IndexExpr:
		if !m.number(e.Key, in) {
			return cost{}, &refusal{e.Key.Range(), "A computed index is limited to numbers; use lookup() for keys."}
		}
		return m.sum(in, e.Collection, e.Key)
	case *hclsyntax.RelativeTraversalExpr:
		c, refused := m.expr(e.Source, in)
		return c.plus(flat(keys(e.Traversal))), refused
	case *hclsyntax.ObjectConsKeyExpr:
		if !e.ForceNonLiteral && hcl.ExprAsKeyword(e.Wrapped) != "" {
			return flat(1), nil // a bare word is a name, not a reference
		}
		return m.expr(e.Wrapped, in)
	case *hclsyntax.ObjectConsExpr:
		parts := make([]hclsyntax.Expression, 0, 2*len(e.Items))
		for _, item := range e.Items {
			parts = append(parts, item.KeyExpr, item.ValueExpr)
		}
		return m.sum(in, parts...)
	}
	return cost{}, &refusal{e.Range(), "Pool files do not support this kind of expression."}
}

func (m *meter) sum(in *scope, parts ...hclsyntax.Expression) (cost, *refusal) {
	total := flat(1)
	for _, e := range parts {
		c, refused := m.expr(e, in)
		if refused != nil {
			return cost{}, refused
		}
		total = total.plus(c)
		if total.size > maxSize { // do not weigh the rest: it may be long
			break
		}
	}
	return total, nil
}

func (m *meter) reference(e *hclsyntax.ScopeTraversalExpr, in *scope) (cost, *refusal) {
	path := keys(e.Traversal)
	if path > maxSize {
		return flat(path), nil // refused; not even looked up
	}
	if size, ok := in.named(e.Traversal.RootName()); ok {
		return flat(size + path), nil
	}
	return flat(weight(m.local(e.Traversal)) + path), nil
}

func (m *meter) loop(e *hclsyntax.ForExpr, in *scope) (cost, *refusal) {
	coll, refused := m.expr(e.CollExpr, in)
	if refused != nil {
		return cost{}, refused
	}
	body := &scope{name: e.ValVar, size: coll.size, outer: in}
	if e.KeyVar != "" {
		body = &scope{name: e.KeyVar, size: coll.size, outer: body}
	}
	var parts []hclsyntax.Expression
	for _, part := range []hclsyntax.Expression{e.KeyExpr, e.ValExpr, e.CondExpr} {
		if part != nil {
			parts = append(parts, part)
		}
	}
	each, refused := m.sum(body, parts...)
	return coll.plus(times(coll.size, each)), refused
}

const noArithmetic = "Arithmetic is limited to numbers: literals and locals that are numbers."

// operation bounds a binary operator. A text like "1e600000000" is short, but
// the number it converts to has 600 million digits when it becomes text again;
// so arithmetic, which converts, must not be done on texts.
func (m *meter) operation(e *hclsyntax.BinaryOpExpr, in *scope) (cost, *refusal) {
	if e.Op.Type == cty.Number && !(m.number(e.LHS, in) && m.number(e.RHS, in)) {
		return cost{}, &refusal{e.Range(), noArithmetic}
	}
	c, refused := m.sum(in, e.LHS, e.RHS)
	if e.Op == hclsyntax.OpDivide {
		c = c.plus(flat(fraction))
	}
	return c, refused
}

// number reports whether e is sure to be a number already.
func (m *meter) number(e hclsyntax.Expression, in *scope) bool {
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		return e.Val.Type() == cty.Number
	case *hclsyntax.ParenthesesExpr:
		return m.number(e.Expression, in)
	case *hclsyntax.BinaryOpExpr:
		return e.Op.Type == cty.Number // its operands are checked in their turn
	case *hclsyntax.UnaryOpExpr:
		return e.Op == hclsyntax.OpNegate
	case *hclsyntax.FunctionCallExpr:
		return e.Name == "length"
	case *hclsyntax.ScopeTraversalExpr:
		_, bound := in.named(e.Traversal.RootName())
		v := m.local(e.Traversal)
		return !bound && (v.Type() == cty.Number || v == cty.DynamicVal)
	}
	return false
}

func flat(size float64) cost       { return cost{size, size} }
func times(n float64, c cost) cost { return cost{n * c.size, n * c.work} }
func squared(c cost) cost          { return cost{c.size, c.work + c.size*c.size} }

// keys bounds what the steps of a traversal cost: an index is converted to a
// number, and as text "1e600000000" is short.
func keys(t hcl.Traversal) (sum float64) {
	for _, step := range t {
		sum++
		index, ok := step.(hcl.TraverseIndex)
		if !ok {
			continue
		}
		sum += weight(index.Key)
		if n, err := convert.Convert(index.Key, cty.Number); err == nil {
			sum += weight(n)
		}
	}
	return sum
}

// weight is the exact size of a value.
func weight(v cty.Value) float64 {
	switch {
	case !v.IsKnown() || v.IsNull():
		return 1
	case v.Type() == cty.String:
		return 1 + float64(len(v.AsString()))/64
	case v.Type() == cty.Number:
		return numberWeight(v.AsBigFloat())
	case v.CanIterateElements():
		sum := 1.0
		for it := v.ElementIterator(); it.Next(); {
			key, elem := it.Element()
			if v.Type().IsMapType() || v.Type().IsObjectType() {
				sum += weight(key)
			}
			sum += weight(elem)
		}
		return sum
	}
	return scalar
}

// scalar is the size of a truth value or a small number, as text.
const scalar = 1 + 8.0/64

// fraction is the size of the 155 digits that a number's 512 bits may have
// behind the point.
const fraction = 3

// numberWeight is the size of f as text: its exponent may be two thousand
// million although f itself takes 64 bytes.
func numberWeight(f *big.Float) float64 {
	if f.IsInf() {
		return scalar
	}
	exp := float64(f.MantExp(nil))
	size := scalar + max(exp, -exp)/64
	if !f.IsInt() {
		size += fraction
	}
	return size
}

// charge is what evaluation has cost so far, over all files.
type charge struct {
	spent cost
	over  bool // nothing more is evaluated, and that has been said
}

// admit refuses e when evaluating it could pass a limit. A refused expression
// costs as much as the largest that is allowed, so that refusing is bounded
// as well.
func (c *charge) admit(m *meter, e hclsyntax.Expression) (bool, *hcl.Diagnostic) {
	if c.over {
		return false, nil
	}
	bound, refused := m.expr(e, nil)
	if refused != nil {
		bound = flat(maxSize)
	}
	c.spent = c.spent.plus(bound)
	if c.spent.size > maxSizes || c.spent.work > maxWork {
		c.over = true
		refused = &refusal{e.Range(), "All expressions together would take too much time or memory."}
	}
	if refused == nil {
		return true, nil
	}
	return false, problem(&refused.at, "Expression refused", "%s", refused.text+
		" Pool files are data: write values out, or compute them where the files are made.")
}
