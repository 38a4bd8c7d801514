package pools

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
)

//go:generate go run github.com/dayfly-ci/dayfly/internal/pools/reference ../../pools/README.md

// Reference is the documentation of the language, in Markdown: every block and
// attribute as the schema has them.
func Reference() string {
	var b strings.Builder
	b.WriteString(preface)
	section := func(title, text string, block any) {
		fmt.Fprintf(&b, "## `%s`\n\n%s\n\n", title, text)
		attributes(&b, reflect.TypeOf(block))
		example(&b, strings.Replace(title, "NAME", "ubuntu-24", 1), reflect.TypeOf(block))
	}
	section("dayfly", "Which language the files are written in. Exactly one in all files.", dayflyBlock{})
	fmt.Fprintf(&b, "## `locals`\n\nNames for values, used as `local.NAME`: a local may use others, in any order. There may be\nseveral `locals` blocks, and at most %d names in all.\n\n%s", maxLocals, localsExample)
	section("limits", "Bounds of all pools together. At most one.", limitsBlock{})
	section(`template "NAME"`, "A template that pools clone, used as `template.NAME`.", templateBlock{})
	fmt.Fprintf(&b, "## `pool \"NAME\"`\n\n%s\n\n", poolText)
	nested(&b, reflect.TypeFor[poolBody](), `pool "linux-x64"`, "")
	b.WriteString(defaultsText)
	fmt.Fprintf(&b, expressionsText, "`"+strings.Join(sortedKeys(functions), "`, `")+"`")
	fmt.Fprintf(&b, limitsText, maxFiles, maxFile>>10, maxTotal>>10, maxDepth)
	return b.String()
}

const preface = `# Pool files

<!-- Written by go generate from internal/pools/schema.go: edit that. -->

What should exist: which pools of runners, how large, on which template. All ` + "`*.hcl`" + ` files of
a directory, or of a directory in a git repository, are one configuration, in any order; files in
directories below are read too, hidden ones and links are not. One error refuses the whole
configuration, and what was last known to be good stays in force. ` + "`dayfly validate DIR`" + ` reports
everything that is wrong at once. The files beside this one are examples.

`

const localsExample = "```hcl\nlocals {\n  linux = [\"self-hosted\", \"linux\", \"x64\"]\n  large = concat(local.linux, [\"large\"])\n}\n```\n\n"

const poolText = "Interchangeable runners. The name is part of the runners' host names: lower-case letters,\ndigits and inner dashes. It identifies the pool; renaming one replaces its containers."

const defaultsText = "## `defaults`\n\nMerged under every pool, attribute by attribute, down the nested blocks; a pool's own value\nwins. It takes what `pool` takes, except `labels` and `description`. At most one.\n\n" +
	"```hcl\ndefaults {\n  template = template.ubuntu-24\n\n  github {\n    org = \"acme\"\n  }\n}\n```\n\n"

const expressionsText = `## Expressions

Values may be computed with HCL's operators, templates (` + "`\"${local.x}-y\"`" + `), ` + "`for`" + ` and these functions:

%s.

They are pure: nothing reads files, the environment, the time or chance. Arithmetic and computed
indexes are limited to numbers, and an expression whose result could become large is refused
before it is evaluated.

`

const limitsText = "## Limits\n\nAt most %d files, %d KiB in one and %d KiB in all, nested at most %d deep.\n"

// nested documents the attributes of a block, and of the blocks in it.
func nested(b *strings.Builder, t reflect.Type, title, in string) {
	attributes(b, t)
	if strings.Count(in, ".") < 2 { // those further down are in the example of the block they are in
		example(b, title, t)
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.Type != attributeType {
			fmt.Fprintf(b, "### `%s`\n\n%s\n\n", in+nameOf(f.Tag), f.Tag.Get("doc"))
			nested(b, blockOf(f.Type), nameOf(f.Tag), in+nameOf(f.Tag)+".")
		}
	}
}

// example writes a block with the example of each attribute. Of attributes that
// exclude each other the first is written.
func example(b *strings.Builder, title string, t reflect.Type) {
	fmt.Fprintf(b, "```hcl\n%s```\n\n", hclwrite.Format([]byte(exampleText(title, t))))
}

func exampleText(title string, t reflect.Type) string {
	text := title + " {\n"
	for i := range t.NumField() {
		f := t.Field(i)
		name := nameOf(f.Tag)
		switch {
		case f.Type == attributeType && f.Tag.Get("example") != "" && name != "repo":
			text += name + " = " + f.Tag.Get("example") + "\n"
		case f.Type != attributeType && t != reflect.TypeFor[poolBody]():
			text += "\n" + exampleText(name, blockOf(f.Type))
		}
	}
	return text + "}\n"
}

// blockOf is the struct of a nested block, of which there may be several.
func blockOf(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t.Elem()
}

func attributes(b *strings.Builder, t reflect.Type) {
	b.WriteString("| attribute | value | default | meaning | example |\n|---|---|---|---|---|\n")
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Type != attributeType {
			continue
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | `%s` |\n",
			nameOf(f.Tag), f.Tag.Get("type"), absence(f.Tag), f.Tag.Get("doc"), f.Tag.Get("example"))
	}
	b.WriteString("\n")
}

// absence says what happens without the attribute.
func absence(tag reflect.StructTag) string {
	if text, ok := tag.Lookup("default"); ok {
		return "`" + text + "`"
	}
	if text, ok := tag.Lookup("unset"); ok {
		return text
	}
	return "required"
}
