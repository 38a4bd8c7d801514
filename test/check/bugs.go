package check

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/dayfly-ci/dayfly/test/mutation"
)

// Bugs finds planted bugs that cannot be planted any more, because their place
// was rewritten or their test renamed. To plant them all takes hours; this
// tells at once.
func Bugs(t Tree) ([]Finding, error) {
	tables, err := mutation.Find(t.Root)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, table := range tables {
		dir, err := filepath.Rel(t.Root, table.Dir)
		if err != nil {
			return nil, err
		}
		file := filepath.ToSlash(filepath.Join(dir, mutation.File))
		tests, err := testsIn(table.Dir)
		if err != nil {
			return nil, err
		}
		for _, bug := range table.Mutations {
			if _, err := table.Apply(bug); err != nil {
				found = append(found, Finding{File: file, Text: err.Error()})
			}
			if test, _, _ := strings.Cut(bug.Caught, "/"); !tests[test] {
				found = append(found, Finding{File: file, Text: "bug \"" + bug.Name + "\": there is no test " + bug.Caught})
			}
		}
	}
	return found, nil
}

var testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// testsIn returns the names of the tests of the package in dir.
func testsIn(dir string) (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, name := range testFunc.FindAllSubmatch(text, -1) {
			names[string(name[1])] = true
		}
	}
	return names, nil
}
