// Package mutation plants bugs and reports whether the tests catch them: a
// property that no planted bug breaks proves nothing.
//
// A package keeps its bugs in testdata/mutations.json. A bug is a text of one
// of its files, what to write there instead, and the test that must fail then.
// The package's files are never touched: the go command reads the changed one
// through an overlay.
package mutation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Table is the content of a package's testdata/mutations.json.
type Table struct {
	Dir       string   `json:"-"`    // of the package
	Args      []string `json:"args"` // of the test binary, for every bug
	Mutations []Bug    `json:"mutations"`
}

// Bug is one change that must not go unnoticed.
type Bug struct {
	Name   string `json:"name"`   // what it does wrong
	File   string `json:"file"`   // in the package's folder
	Old    string `json:"old"`    // occurs once in the file
	New    string `json:"new"`    // instead of it
	Caught string `json:"caught"` // the test that fails, "TestStories"
	Quick  bool   `json:"quick"`  // planted on every run of the tests
}

// File is where a package keeps its bugs.
const File = "testdata/mutations.json"

// Find loads the tables of all packages below root.
func Find(root string) ([]Table, error) {
	var tables []Table
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return fs.SkipDir
		}
		dir, found := strings.CutSuffix(filepath.ToSlash(path), "/"+File)
		if !found {
			return nil
		}
		t, err := Load(dir)
		tables = append(tables, t)
		return err
	})
	return tables, err
}

// Load reads the table of the package in dir.
func Load(dir string) (Table, error) {
	t := Table{Dir: dir}
	text, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil {
		return t, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&t); err != nil {
		return t, fmt.Errorf("read %s: %w", filepath.Join(dir, File), err)
	}
	return t, nil
}

// Apply returns the changed text of the bug's file.
func (t Table) Apply(b Bug) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(t.Dir, b.File))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(text, []byte(b.Old)); n != 1 {
		return nil, fmt.Errorf("plant bug %q: its old text is %d times in %s, want once", b.Name, n, b.File)
	}
	return bytes.Replace(text, []byte(b.Old), []byte(b.New), 1), nil
}

// Plant runs the test that must fail with the bug in place. It returns whether
// the test failed, and what it printed. A bug that does not compile is an error.
func (t Table) Plant(ctx context.Context, b Bug, temp string) (caught bool, output string, err error) {
	text, err := t.Apply(b)
	if err != nil {
		return false, "", err
	}
	overlay, err := t.overlay(b, text, temp)
	if err != nil {
		return false, "", err
	}
	// Without optimisation, a package that runs once compiles in half the time.
	args := []string{"test", "-vet=off", "-count=1", "-gcflags=-N -l", "-overlay", overlay, "-run", "^" + b.Caught + "$", "."}
	cmd := exec.CommandContext(ctx, "go", append(args, t.Args...)...)
	cmd.Dir = t.Dir
	out, err := cmd.CombinedOutput()
	output = string(out)
	switch {
	case ctx.Err() != nil:
		return false, output, fmt.Errorf("plant bug %q: %w", b.Name, ctx.Err())
	case strings.Contains(output, "--- FAIL: "+b.Caught):
		return true, output, nil
	case err != nil:
		return false, output, fmt.Errorf("plant bug %q: no verdict of %s: %w", b.Name, b.Caught, err)
	case strings.Contains(output, "no tests to run"):
		return false, output, fmt.Errorf("plant bug %q: there is no test %s", b.Name, b.Caught)
	}
	return false, output, nil
}

// overlay writes the changed file and what makes the go command read it.
func (t Table) overlay(b Bug, text []byte, temp string) (string, error) {
	original, err := filepath.Abs(filepath.Join(t.Dir, b.File))
	if err != nil {
		return "", err
	}
	changed := filepath.Join(temp, filepath.Base(b.File))
	if err := os.WriteFile(changed, text, 0o644); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(temp, "overlay.json")
	return path, os.WriteFile(path, list, 0o644)
}
