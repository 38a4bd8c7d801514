package pools

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

func TestReferenceIsCurrent(t *testing.T) {
	got, err := os.ReadFile("../../pools/README.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Reference() {
		t.Error("pools/README.md is out of date; run go generate ./internal/pools")
	}
}

// schemaBlocks are the structs of the schema, by the name of their block.
var schemaBlocks = map[string]any{
	"dayfly": dayflyBlock{}, "limits": limitsBlock{}, "template": templateBlock{}, "pool": poolBody{},
	"scale": scaleBlock{}, "github": githubBlock{}, "placement": placementBlock{}, "size": sizeBlock{},
	"access": accessBlock{}, "network": networkBlock{}, "timeouts": timeoutsBlock{}, "retry": retryBlock{},
}

// TestSchemaIsDocumented holds that every tag says something, and says it in
// HCL where it has to: defaults are parsed from here, and people copy examples.
func TestSchemaIsDocumented(t *testing.T) {
	for kind, block := range schemaBlocks {
		typ := reflect.TypeOf(block)
		for i := range typ.NumField() {
			f := typ.Field(i)
			where := kind + "." + nameOf(f.Tag)
			if f.Tag.Get("doc") == "" || strings.Contains(f.Tag.Get("doc"), "|") {
				t.Errorf("%s: doc is %q", where, f.Tag.Get("doc"))
			}
			if f.Type != attributeType {
				continue
			}
			for _, key := range []string{"default", "example"} {
				text, ok := f.Tag.Lookup(key)
				if key == "default" && !ok {
					continue
				}
				if _, diags := hclsyntax.ParseExpression([]byte(text), "", hcl.InitialPos); diags.HasErrors() {
					t.Errorf("%s: %s %q is no expression: %s", where, key, text, diags)
				}
			}
			if f.Tag.Get("type") == "" {
				t.Errorf("%s: no type", where)
			}
		}
	}
}

// TestStrangersAreSentToWhatThereIs holds that who is told another name finds it.
func TestStrangersAreSentToWhatThereIs(t *testing.T) {
	for kind, names := range strangers {
		if _, ok := schemaBlocks[kind]; !ok && kind != "" {
			t.Errorf("there are no %s blocks", kind)
		}
		for name, s := range names {
			if kind != "" && fieldNamed(reflect.TypeOf(schemaBlocks[kind]), name).Name != "" {
				t.Errorf("%s.%s is no stranger", kind, name)
			}
			for _, use := range s.use {
				block, attr, found := strings.Cut(use, ".")
				if found && fieldNamed(reflect.TypeOf(schemaBlocks[block]), attr).Name == "" || !found && !slices.ContainsFunc(topSchema.Blocks, func(b hcl.BlockHeaderSchema) bool { return b.Type == block }) {
					t.Errorf("%s.%s is sent to %s, which there is not", kind, name, use)
				}
			}
			if len(s.use) == 0 {
				t.Errorf("%s.%s is sent nowhere", kind, name)
			}
		}
	}
	if strings.Contains(Reference(), "yet") {
		t.Error("the reference speaks of what is to come")
	}
}

// TestExamplesOfTheSchemaAreAccepted puts every example and every default into
// a configuration of its own.
func TestExamplesOfTheSchemaAreAccepted(t *testing.T) {
	for kind, block := range schemaBlocks {
		typ := reflect.TypeOf(block)
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Type != attributeType {
				continue
			}
			for _, key := range []string{"default", "example"} {
				text, ok := f.Tag.Lookup(key)
				if !ok {
					continue
				}
				_, diags := Parse(map[string][]byte{"a.hcl": []byte(withAttribute(kind, nameOf(f.Tag), text))})
				if diags.HasErrors() {
					t.Errorf("%s.%s = %s: %s", kind, nameOf(f.Tag), text, diags.Error())
				}
			}
		}
	}
}

// withAttribute is a configuration in which a block has one attribute, and all
// that it needs besides.
func withAttribute(kind, name, text string) string {
	attrs := map[string]map[string]string{
		"dayfly": {"schema": "1"}, "limits": {}, "template": {"family": `"f"`},
		"pool":  {"labels": `["x"]`, "template": "template.ubuntu-24"},
		"scale": {"max": "12"}, "github": {"org": `"acme"`},
	}
	if attrs[kind] == nil {
		attrs[kind] = map[string]string{}
	}
	attrs[kind][name] = text
	if name == "repo" {
		delete(attrs["github"], "org")
	}
	if name == "allow" {
		attrs["network"]["egress"] = `"internet"`
	}
	if name == "vlan" || name == "firewall" {
		attrs["network"]["bridge"] = `"vmbr0"`
	}
	body := func(kind string) (s string) {
		for _, name := range sortedKeys(attrs[kind]) {
			s += fmt.Sprintf("%s = %s\n", name, attrs[kind][name])
		}
		return s
	}
	out := "dayfly {\n" + body("dayfly") + "}\nlimits {\n" + body("limits") + "}\n" +
		"template \"ubuntu-24\" {\n" + body("template") + "}\npool \"p\" {\n" + body("pool")
	for _, kind := range sortedKeys(attrs) {
		switch kind {
		case "dayfly", "limits", "template", "pool":
		default:
			out += kind + " {\n" + body(kind) + "}\n"
		}
	}
	return out + "}\n"
}

// TestTypesOfTheSchemaStateTheLimits compares a range in words with the range
// that is enforced.
func TestTypesOfTheSchemaStateTheLimits(t *testing.T) {
	for where, bounds := range map[string][2]string{
		"limits.max": {"1", "10000"}, "limits.per_node": {"1", "10000"}, "limits.node_tasks": {"1", "100"},
		"limits.storage_tasks": {"1", "100"}, "scale.max": {"1", "10000"}, "placement.max_per_node": {"1", "10000"},
		"size.cores": {"1", "8192"}, "network.vlan": {"1", "4094"}, "retry.attempts": {"1", "1000"},
		"size.memory": {`"16MiB"`, `"16TiB"`}, "size.swap": {`"0"`, `"16TiB"`}, "size.disk": {`"1GiB"`, `"16TiB"`},
		"timeouts.clone": {`"10s"`, `"2h"`}, "timeouts.launch": {`"5s"`, `"1h"`}, "timeouts.register": {`"5s"`, `"1h"`},
		"timeouts.idle": {`"10s"`, `"23h"`}, "timeouts.job": {`"1m"`, `"120h"`},
	} {
		kind, name, _ := strings.Cut(where, ".")
		field := fieldNamed(reflect.TypeOf(schemaBlocks[kind]), name)
		want := strings.Trim(bounds[0], `"`) + " to " + strings.Trim(bounds[1], `"`)
		if got := field.Tag.Get("type"); !strings.HasSuffix(got, want) {
			t.Errorf("%s: type %q does not end in %q", where, got, want)
		}
		for _, text := range bounds {
			if got := whyRefused(kind, name, text); got != "" {
				t.Errorf("%s = %s: %s", where, text, got)
			}
		}
	}
}

func whyRefused(kind, name, text string) string {
	src := withAttribute(kind, name, text)
	others := map[string]string{"clone": "10s", "launch": "10s", "register": "10s", "idle": "10s", "job": "120h"}
	delete(others, name)
	for other, d := range others { // none may be longer than job
		if kind == "timeouts" {
			src = strings.Replace(src, "timeouts {\n", "timeouts {\n"+other+" = \""+d+"\"\n", 1)
		}
	}
	_, diags := Parse(map[string][]byte{"a.hcl": []byte(src)})
	return diags.Error()
}

func fieldNamed(t reflect.Type, name string) reflect.StructField {
	for i := range t.NumField() {
		if nameOf(t.Field(i).Tag) == name {
			return t.Field(i)
		}
	}
	return reflect.StructField{}
}

// TestExamplesOfTheReferenceAreOneConfiguration holds that what people copy
// from the page works as it stands.
func TestExamplesOfTheReferenceAreOneConfiguration(t *testing.T) {
	page := Reference()
	text, pool := "", ""
	for _, part := range strings.Split(page, "```hcl\n")[1:] {
		example, _, _ := strings.Cut(part, "```\n")
		switch name, _, _ := strings.Cut(example, " "); name {
		case "dayfly", "locals", "limits", "template", "defaults":
			text += example
		case "pool":
			pool = strings.TrimSuffix(strings.TrimSpace(example), "}")
		default:
			pool += example
		}
	}
	for kind := range schemaBlocks {
		if !strings.Contains(text+pool, kind+" ") {
			t.Errorf("no example of %s", kind)
		}
	}
	if _, diags := Parse(map[string][]byte{"a.hcl": []byte(text + pool + "}\n")}); diags.HasErrors() {
		t.Errorf("the examples together: %s\n%s", diags.Error(), text+pool+"}\n")
	}
}
