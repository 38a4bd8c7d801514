package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// read is a folder's files by path.
func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files[filepath.ToSlash(rel)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestPagesAreThoseOfTheSource(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pages")
	if err := write(root, dir); err != nil {
		t.Fatal(err)
	}
	got, want := read(t, filepath.Join(root, ".web-docs")), read(t, dir)
	for name, text := range want {
		if got[name] != text {
			t.Errorf(`.web-docs/%s is out of date: run "make generate"`, name)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf(".web-docs/%s belongs to no page", name)
		}
	}
}

// A component without a page would be missing from the registry.
func TestEveryComponentHasAPage(t *testing.T) {
	specs, err := filepath.Glob(filepath.Join(root, "plugin", "*", "*.hcl2spec.go"))
	if err != nil || len(specs) == 0 {
		t.Fatalf("components: %q, %v", specs, err)
	}
	known := map[string]bool{}
	for _, c := range components {
		known[c.folder] = true
	}
	for _, spec := range specs {
		if folder := filepath.Base(filepath.Dir(spec)); folder != shared && !known[folder] {
			t.Errorf("plugin/%s has no page", folder)
		}
	}
	metadata := read(t, filepath.Join(root, ".web-docs"))["metadata.hcl"]
	for _, c := range components {
		entry := regexp.MustCompile(`component \{\s+type = "` + c.kind + `"\s+name = "dayfly-` + c.name + `"\s+slug = "` + c.name + `"`)
		if !entry.MatchString(metadata) {
			t.Errorf("metadata.hcl has no entry for %s %s", c.kind, c.name)
		}
	}
}

func TestEveryFieldIsDocumented(t *testing.T) {
	pages := read(t, filepath.Join(root, ".web-docs"))
	for _, c := range components {
		files, err := configs(root, c.folder)
		if err != nil || len(files) == 0 {
			t.Fatalf("configuration of %s: %q, %v", c.folder, files, err)
		}
		for _, file := range files {
			for name, doc := range fields(t, filepath.Join(root, file)) {
				if strings.TrimSpace(doc) == "" {
					t.Errorf("%s: field %s has no comment", file, name)
				}
				if !strings.Contains(pages[c.path()], "- `"+name+"` (") {
					t.Errorf("%s: field %s is not on the page %s", file, name, c.path())
				}
			}
		}
	}
}

// fields are the comments of a file's fields that users set, by name.
func fields(t *testing.T, file string) map[string]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		f, ok := n.(*ast.Field)
		if !ok || f.Tag == nil || len(f.Names) == 0 {
			return true
		}
		name := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("mapstructure")
		if name != "" && !strings.HasPrefix(name, ",") {
			found[name] = f.Doc.Text()
		}
		return true
	})
	return found
}
