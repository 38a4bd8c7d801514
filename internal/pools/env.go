package pools

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// env reads a map of texts, the environment of a pool's jobs.
func (r *reader) env(a *hcl.Attribute) fleet.Env {
	if a == nil {
		return nil
	}
	v := r.value(a.Expr)
	if v == cty.DynamicVal {
		r.bad[a] = true
		return nil
	}
	if v.IsNull() || !v.Type().IsObjectType() && !v.Type().IsMapType() {
		r.refuse(a, a.Expr.Range(), `Names and texts are expected, such as { NO_PROXY = "localhost" }.`)
		return nil
	}
	if n := v.LengthInt(); n > fleet.MaxVariables { // before each is looked at
		r.refuse(a, a.Expr.Range(), "At most %d variables are expected, not %d.", fleet.MaxVariables, n)
		return nil
	}
	env := fleet.Env{}
	values, written := v.AsValueMap(), r.written(a)
	for _, name := range sortedKeys(values) {
		text, at := values[name], written[name]
		if at == (pair{}) {
			at = pair{a.Expr.Range(), a.Expr.Range()}
		}
		if why := env.Misnamed(name); why != "" {
			r.refuse(a, at.name, "%.80q cannot be set: %s.", name, why)
			continue
		}
		if !text.IsKnown() {
			r.bad[a] = true // that was reported
			continue
		}
		if text.IsNull() || text.Type() != cty.String {
			r.refuse(a, at.value, "%s is not a text in quotes.", name)
			continue
		}
		if why := env.Unfit(text.AsString()); why != "" {
			r.refuse(a, at.value, "%s cannot be %.80q: %s.", name, text.AsString(), why)
			continue
		}
		env[name] = text.AsString()
	}
	if why := env.Crowded(); why != "" {
		r.refuse(a, a.Expr.Range(), "It is too much: %s.", why)
	}
	if len(env) == 0 {
		return nil // a pool that takes nothing from defaults
	}
	return env
}

// pair is where a name and its value are written.
type pair struct{ name, value hcl.Range }

// written finds the names of an object that are written out, and reports those
// that are there twice, of which HCL takes the last. One that is computed is
// nowhere.
func (r *reader) written(a *hcl.Attribute) map[string]pair {
	object, ok := a.Expr.(*hclsyntax.ObjectConsExpr)
	if !ok {
		return nil
	}
	found := map[string]pair{}
	for _, item := range object.Items {
		name, ok := plain(item.KeyExpr)
		if !ok {
			continue
		}
		if _, again := found[name]; again {
			r.refuse(a, item.KeyExpr.Range(), "%.80q is there twice.", name)
		}
		found[name] = pair{item.KeyExpr.Range(), item.ValueExpr.Range()}
	}
	return found
}

// plain is the text of a key that is a word or a text in quotes. Others are
// not evaluated again: that could take long.
func plain(e hclsyntax.Expression) (string, bool) {
	key, ok := e.(*hclsyntax.ObjectConsKeyExpr)
	if !ok || key.ForceNonLiteral {
		return "", false
	}
	if word := hcl.ExprAsKeyword(key.Wrapped); word != "" {
		return word, true
	}
	text, ok := key.Wrapped.(*hclsyntax.TemplateExpr)
	if !ok || !text.IsStringLiteral() {
		return "", false
	}
	v, _ := text.Value(nil)
	return v.AsString(), true
}
