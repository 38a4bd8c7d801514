package check

import (
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strings"
)

const (
	maxFile     = 500 // lines of a Go file
	maxFunction = 60  // lines of a function outside tests
)

// vague are the names of folders that say nothing about what is inside.
var vague = []string{"cmd", "pkg", "util", "utils", "common", "types", "mocks", "helpers"}

// Folders finds packages with a name that says nothing.
func Folders(t Tree) ([]Finding, error) {
	var found []Finding
	seen := map[string]bool{}
	for _, file := range t.Paths {
		dir := path.Dir(file)
		if seen[dir] || !strings.HasSuffix(file, ".go") || strings.Contains(dir, "testdata") {
			continue
		}
		seen[dir] = true
		if slices.Contains(vague, path.Base(dir)) {
			found = append(found, Finding{File: dir, Text: "a package is named after what it holds"})
		}
	}
	return found, nil
}

// Files finds Go files that are too long.
func Files(t Tree) ([]Finding, error) {
	return each(t, func(path, text string) ([]Finding, error) {
		lines := strings.Count(text, "\n")
		if lines <= maxFile {
			return nil, nil
		}
		return []Finding{{File: path, Text: fmt.Sprintf("%d lines, at most %d: two nouns in one file?", lines, maxFile)}}, nil
	})
}

// Functions finds functions outside tests that are too long.
func Functions(t Tree) ([]Finding, error) {
	return each(t, func(path, text string) ([]Finding, error) {
		if strings.HasSuffix(path, "_test.go") {
			return nil, nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		var found []Finding
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			first, last := fset.Position(f.Pos()).Line, fset.Position(f.End()).Line
			if n := last - first + 1; n > maxFunction {
				found = append(found, Finding{path, first, fmt.Sprintf("%s has %d lines, at most %d", f.Name.Name, n, maxFunction)})
			}
		}
		return found, nil
	})
}

// Format finds Go files that gofmt would change.
func Format(t Tree) ([]Finding, error) {
	return each(t, func(path, text string) ([]Finding, error) {
		want, err := format.Source([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("format %s: %w", path, err)
		}
		if string(want) == text {
			return nil, nil
		}
		return []Finding{{File: path, Text: `not formatted: run "gofmt -w ` + path + `"`}}, nil
	})
}
