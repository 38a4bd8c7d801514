package pools

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"pgregory.net/rapid"
)

// grammar writes random expressions over a few locals of each kind.
type grammar struct {
	*rapid.T
	bound []string // variables of enclosing `for`s
}

func (g grammar) pick(label string, options ...func() string) string {
	return options[rapid.IntRange(0, len(options)-1).Draw(g.T, label)]()
}

func (g grammar) word() string {
	return rapid.SampledFrom([]string{`""`, `"a"`, `","`, `"%s"`, `"%[1]q %[1]s %v"`, `"` + strings.Repeat("%[2]s", 9) + `"`, `"xxxxxxxxxxxx"`, `"x"`, `"12"`, `"1e300"`, `"%d%09.4f"`,
		`"` + strings.Repeat("long ", 60) + `"`}).Draw(g.T, "word")
}

func (g grammar) number() string {
	return rapid.SampledFrom([]string{"0", "1", "2", "3.75", "1e200", "length(local.list)", "local.n * local.n",
		"1 / 3", "local.n - 7", "-local.n", "1e-150"}).Draw(g.T, "number")
}

func (g grammar) variable() string {
	names := append([]string{"local.n", "local.s", "local.list", "local.nested", "local.map", "local.map.x", "local.nested[1]"}, g.bound...)
	return rapid.SampledFrom(names).Draw(g.T, "variable")
}

func (g grammar) expr(depth int) string {
	if depth == 0 {
		return g.pick("leaf", g.word, g.number, g.variable)
	}
	sub := func() string { return g.expr(depth - 1) }
	return g.pick("node", g.word, g.variable,
		func() string { return "[" + sub() + ", " + sub() + ", " + sub() + "]" },
		func() string { return "{ x = " + sub() + ", (" + sub() + ") = " + sub() + " }" },
		func() string { return `"a${` + sub() + `}b${` + sub() + `}"` },
		func() string { return "true ? " + sub() + " : " + sub() },
		func() string { return sub() + " == " + sub() },
		func() string { return "(" + sub() + ")[*]" },
		func() string { return "[for v in " + sub() + " : [v, v]]" },
		func() string { return g.loop(depth) },
		func() string { return "{for k, v in " + sub() + " : k => [k, v]}" },
		func() string { return "{for v in " + sub() + " : \"k\" => v...}" },
		func() string { return `"%{for v in ` + sub() + `}${v},%{endfor}"` },
		func() string { return g.call(depth) }, func() string { return g.call(depth) }, func() string { return g.call(depth) },
	)
}

func (g grammar) loop(depth int) string {
	name := fmt.Sprintf("v%d", len(g.bound))
	coll := g.expr(depth - 1)
	inner := grammar{g.T, append(g.bound[:len(g.bound):len(g.bound)], name)}
	return "[for " + name + " in " + coll + " : " + inner.expr(depth-1) + "]"
}

// signatures are arguments that a function accepts: t text, l list of texts,
// m map of texts, n number, a anything.
var signatures = map[string]string{
	"chunklist": "ln", "coalesce": "tt", "compact": "l", "concat": "ll", "contains": "lt",
	"distinct": "l", "element": "ln", "flatten": "a", "format": "taa", "join": "tl", "keys": "m",
	"length": "l", "lookup": "mtt", "lower": "t", "merge": "mm", "replace": "ttt", "reverse": "l",
	"setproduct": "lll", "slice": "lnn", "sort": "l", "split": "tt", "substr": "tnn", "title": "t",
	"trim": "tt", "trimprefix": "tt", "trimspace": "t", "trimsuffix": "tt", "upper": "t",
	"values": "m", "zipmap": "ll",
}

func (g grammar) call(depth int) string {
	name := rapid.SampledFrom(sortedKeys(functions)).Draw(g.T, "function")
	var args []string
	for _, kind := range signatures[name] {
		args = append(args, g.argument(kind, depth-1))
	}
	return name + "(" + strings.Join(args, ", ") + ")"
}

func (g grammar) argument(kind rune, depth int) string {
	text := func() string { return g.argument('t', max(0, depth-1)) }
	switch kind {
	case 'n':
		return g.number()
	case 'l':
		return g.pick("list", func() string { return "local.list" },
			func() string { return "[" + text() + ", " + text() + ", " + text() + "]" },
			func() string { return "split(" + text() + ", " + text() + ")" },
			func() string { return "[for v in local.list : " + text() + "]" })
	case 'm':
		return g.pick("map", func() string { return "local.map" },
			func() string { return "{ a = " + text() + ", b = " + text() + " }" })
	case 't':
		if depth == 0 {
			return g.pick("text", g.word, func() string { return "local.s" })
		}
		return g.pick("text", g.word, func() string { return `"${` + text() + `}${` + text() + `}"` },
			func() string { return "join(" + text() + ", " + g.argument('l', depth-1) + ")" },
			func() string { return "replace(" + text() + ", " + text() + ", " + text() + ")" },
			func() string { return "format(" + text() + ", " + g.number() + ", " + text() + ")" })
	}
	return g.expr(max(0, depth))
}

func testLocals() *evaluator {
	ev := newEvaluator()
	file, diags := hclsyntax.ParseConfig([]byte(`
n      = 12345
s      = "some text, with commas"
list   = ["a", "b", "c", "1e20", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o"]
nested = [["a"], ["b", "c"], [], [1, true]]
map    = { x = "y", z = "w" }
`), "locals", hcl.InitialPos)
	if diags.HasErrors() {
		panic(diags)
	}
	ev.declare(file.Body.(*hclsyntax.Body))
	ev.all()
	return ev
}

// TestNoResultIsLargerThanItsBound is what the guard against bombs rests on.
func TestNoResultIsLargerThanItsBound(t *testing.T) {
	checked, refused := 0, 0
	calls := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		src := grammar{T: t}.expr(rapid.IntRange(0, 4).Draw(t, "depth"))
		e, diags := hclsyntax.ParseExpression([]byte(src), "", hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatalf("parse %s: %v", src, diags)
		}
		ev := testLocals()
		m := &meter{local: ev.peek}
		bound, no := m.expr(e, nil)
		if no != nil {
			refused++
			return
		}
		v := ev.value(e)
		if v == cty.DynamicVal {
			return // an error of types, for example
		}
		checked++
		for name := range functions {
			if strings.Contains(src, name+"(") {
				calls[name]++
			}
		}
		if got := weight(v); got > bound.size {
			t.Fatalf("%s\nhas size %v, and its bound is %v", src, got, bound.size)
		}
	})
	t.Logf("%d checked, %d refused, functions %v", checked, refused, calls)
	if checked == 0 {
		t.Error("no expression was evaluated")
	}
}

// TestWorstCasesAreBounded pins what random expressions rarely hit: calls that
// grow most. Each must exceed its arguments, or it proves nothing.
func TestWorstCasesAreBounded(t *testing.T) {
	long := `"` + strings.Repeat("x", 2000) + `"`
	for _, src := range []string{
		"join(" + long + ", local.list)",
		"split(\"\", " + long + ")",
		"replace(" + long + ", \"x\", \"0123456789\")",
		"replace(\"xxxxxxxxxxxxxxxxxxxx\", \"\", \"" + strings.Repeat("y", 400) + "\")",
		`format("` + strings.Repeat("%[1]s", 20) + `", "` + strings.Repeat("z", 300) + `")`,
		`format("` + strings.Repeat("%99d", 30) + `"` + strings.Repeat(", 1", 30) + ")",
		`setproduct(["a", "b", "c"], ["a", "b", "c"], ["a", "b", "c"])`,
	} {
		e, _ := hclsyntax.ParseExpression([]byte(src), "", hcl.InitialPos)
		ev := testLocals()
		m := &meter{local: ev.peek}
		bound, refused := m.node(e, nil) // not expr: the bound may pass the limit
		if refused != nil {
			t.Fatalf("%.60s: %s", src, refused.text)
		}
		v, diags := e.Value(&hcl.EvalContext{Functions: callable(), Variables: map[string]cty.Value{
			"local": cty.ObjectVal(map[string]cty.Value{"list": ev.resolve("list", hcl.Range{})})}})
		if diags.HasErrors() {
			t.Fatalf("%.60s: %s", src, diags)
		}
		args, _ := m.sum(nil, e.(*hclsyntax.FunctionCallExpr).Args...)
		got := weight(v)
		if got > bound.size {
			t.Errorf("%.60s has size %v, and its bound is %v", src, got, bound.size)
		}
		if got <= args.size+1 {
			t.Errorf("%.60s has size %v, no more than its arguments, %v", src, got, args.size)
		}
	}
}
