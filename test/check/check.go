// Package check holds the house rules that no compiler knows: what may import
// what, how large things may grow, which words stay out, which versions stay
// fixed. Each rule reads a tree of files and returns what it finds; none of
// them changes anything.
package check

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Module is the import path that the rules speak of.
const Module = "github.com/dayfly-ci/dayfly"

// Finding is one place that breaks a rule.
type Finding struct {
	File string // relative to the tree's root
	Line int    // 0 is the file as a whole
	Text string
}

func (f Finding) String() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s", f.File, f.Text)
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text)
}

// Rule is one house rule.
type Rule struct {
	Name  string
	Check func(Tree) ([]Finding, error)
}

// Rules are all of them, cheapest first.
var Rules = []Rule{
	{"folders", Folders},
	{"files", Files},
	{"functions", Functions},
	{"format", Format},
	{"words", Words},
	{"modules", Modules},
	{"bugs", Bugs},
	{"imports", Imports},
	{"generated", Generated},
}

// Tree is a module's files.
type Tree struct {
	Root  string
	Paths []string // slash-separated, relative to Root, sorted
}

// Open lists the files below root that the rules are about: not what git, a
// build or an editor keeps there.
func Open(root string) (Tree, error) {
	t := Tree{Root: root}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if skipped(rel) {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() {
			t.Paths = append(t.Paths, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		return Tree{}, fmt.Errorf("list files: %w", err)
	}
	slices.Sort(t.Paths)
	return t, nil
}

// skipped reports whether a directory is none of ours: hidden ones but for
// .ci and .github, and what make build writes.
func skipped(dir string) bool {
	if dir == "." || dir == ".ci" || dir == ".github" {
		return false
	}
	return dir == "build" || strings.HasPrefix(filepath.Base(dir), ".")
}

// Read returns a file's text.
func (t Tree) Read(path string) (string, error) {
	text, err := os.ReadFile(filepath.Join(t.Root, filepath.FromSlash(path)))
	return string(text), err
}

// Go lists the Go files that people write.
func (t Tree) Go() ([]string, error) {
	var paths []string
	for _, path := range t.Paths {
		if !strings.HasSuffix(path, ".go") {
			continue
		}
		text, err := t.Read(path)
		if err != nil {
			return nil, err
		}
		if !generated.MatchString(text) {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// generated is the line that marks a generated file (go help generate).
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// each runs look over the Go files that people write and gathers its findings.
func each(t Tree, look func(path, text string) ([]Finding, error)) ([]Finding, error) {
	paths, err := t.Go()
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, path := range paths {
		text, err := t.Read(path)
		if err != nil {
			return nil, err
		}
		more, err := look(path, text)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}
