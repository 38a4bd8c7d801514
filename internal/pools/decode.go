package pools

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// topSchema is what a file contains.
var topSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
	{Type: "dayfly"}, {Type: "locals"}, {Type: "limits"}, {Type: "defaults"},
	{Type: "template", LabelNames: []string{"name"}},
	{Type: "pool", LabelNames: []string{"name"}},
}}

// blocks returns the top-level blocks of all files by type, in file order.
func blocks(bodies []*hclsyntax.Body) (map[string]hcl.Blocks, hcl.Diagnostics) {
	var diags hcl.Diagnostics
	found := map[string]hcl.Blocks{}
	for _, body := range bodies {
		diags = append(diags, redirect("", body)...)
		content, more := body.Content(topSchema)
		diags = append(diags, more...)
		for _, b := range content.Blocks {
			found[b.Type] = append(found[b.Type], b)
		}
	}
	return found, diags
}

// single returns the only block of a list, and reports the others.
func single(list hcl.Blocks) (*hcl.Block, hcl.Diagnostics) {
	if len(list) == 0 {
		return nil, nil
	}
	var diags hcl.Diagnostics
	for _, b := range list[1:] {
		diags = append(diags, problem(&b.DefRange, "Duplicate "+b.Type+" block",
			"There is one %s block in all files together, and it is at %s.", b.Type, list[0].DefRange))
	}
	return list[0], diags
}

// decode fills into, a pointer to one of the schema's structs, from body. kind
// is the type of the block, "pool" for defaults.
func decode(kind string, body hcl.Body, into any) hcl.Diagnostics {
	native := body.(*hclsyntax.Body)
	diags := redirect(kind, native)
	for _, b := range native.Blocks {
		diags = append(diags, redirect(b.Type, b.Body)...)
	}
	return append(diags, gohcl.DecodeBody(native, nil, into)...)
}

func sortedAttributes(body *hclsyntax.Body) []*hclsyntax.Attribute {
	return slices.SortedFunc(maps.Values(body.Attributes), func(a, b *hclsyntax.Attribute) int {
		return a.SrcRange.Start.Byte - b.SrcRange.Start.Byte
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

var attributeType = reflect.TypeFor[*hcl.Attribute]()

// inherit gives every attribute that is absent in pool the one in defaults,
// down the nested blocks, and marks in used what was taken.
func inherit(pool, defaults any, used map[*hcl.Attribute]bool) {
	eachField(reflect.ValueOf(pool).Elem(), reflect.ValueOf(defaults).Elem(),
		func(_ reflect.StructTag, own, other reflect.Value) {
			if own.IsNil() && !other.IsNil() {
				own.Set(other)
				used[other.Interface().(*hcl.Attribute)] = true
			}
		})
}

// complete gives every attribute that is absent the default of the schema.
func complete(block any) {
	v := reflect.ValueOf(block).Elem()
	eachField(v, v, func(tag reflect.StructTag, own, _ reflect.Value) {
		if text, ok := tag.Lookup("default"); ok && own.IsNil() {
			own.Set(reflect.ValueOf(builtin(nameOf(tag), text)))
		}
	})
}

// eachField walks the attributes of two values of one schema struct. Nested
// blocks that are absent are made, so that they can be filled.
func eachField(a, b reflect.Value, visit func(tag reflect.StructTag, a, b reflect.Value)) {
	for i := range a.NumField() {
		field := a.Type().Field(i)
		if field.Type == attributeType {
			visit(field.Tag, a.Field(i), b.Field(i))
			continue
		}
		if field.Type.Kind() == reflect.Slice {
			eachBlock(a.Field(i), b.Field(i), visit)
			continue
		}
		for _, v := range []reflect.Value{a.Field(i), b.Field(i)} {
			if v.IsNil() {
				v.Set(reflect.New(field.Type.Elem()))
			}
		}
		eachField(a.Field(i).Elem(), b.Field(i).Elem(), visit)
	}
}

// eachBlock walks blocks of which there may be several: those of a, or if it
// has none, copies of those of b.
func eachBlock(a, b reflect.Value, visit func(tag reflect.StructTag, a, b reflect.Value)) {
	from := a
	if a.Len() == 0 && b.Len() > 0 {
		from = b
		a.Set(reflect.MakeSlice(a.Type(), b.Len(), b.Len()))
		for i := range b.Len() {
			a.Index(i).Set(reflect.New(a.Type().Elem().Elem()))
		}
	}
	for i := range a.Len() {
		eachField(a.Index(i).Elem(), from.Index(i).Elem(), visit)
	}
}

// nameOf returns the HCL name in a field's tag.
func nameOf(tag reflect.StructTag) string {
	name, _, _ := strings.Cut(tag.Get("hcl"), ",")
	return name
}

var builtins sync.Map // name and text → *hcl.Attribute

// builtin is the attribute of a default in the schema. It has no file.
func builtin(name, text string) *hcl.Attribute {
	if attr, ok := builtins.Load(name + text); ok {
		return attr.(*hcl.Attribute)
	}
	expr, diags := hclsyntax.ParseExpression([]byte(text), "", hcl.InitialPos)
	if diags.HasErrors() {
		panic("schema: default of " + name + ": " + diags.Error()) // a test reads them all
	}
	attr, _ := builtins.LoadOrStore(name+text, &hcl.Attribute{Name: name, Expr: expr})
	return attr.(*hcl.Attribute)
}
