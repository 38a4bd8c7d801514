package check

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
)

var directive = regexp.MustCompile(`(?m)^//go:generate `)

// Generated finds files that "go generate" would write differently. It runs
// in a copy, so that a tree with changes of its own stays as it is.
func Generated(t Tree) ([]Finding, error) {
	packages, err := generators(t)
	if err != nil || len(packages) == 0 {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "dayfly-generate-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if err := t.copyTo(tmp); err != nil {
		return nil, fmt.Errorf("copy tree: %w", err)
	}
	cmd := exec.Command("go", append([]string{"generate"}, packages...)...)
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go generate: %w: %s", err, out)
	}
	after, err := Open(tmp)
	if err != nil {
		return nil, err
	}
	return differences(t, after)
}

func (t Tree) copyTo(dir string) error {
	for _, path := range t.Paths {
		text, err := t.Read(path)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generators lists the packages with a go:generate line.
func generators(t Tree) ([]string, error) {
	var packages []string
	_, err := each(t, func(file, text string) ([]Finding, error) {
		if directive.MatchString(text) {
			packages = append(packages, "./"+path.Dir(file))
		}
		return nil, nil
	})
	slices.Sort(packages)
	return slices.Compact(packages), err
}

func differences(before, after Tree) ([]Finding, error) {
	var found []Finding
	for _, path := range after.Paths {
		want, err := after.Read(path)
		if err != nil {
			return nil, err
		}
		got, err := before.Read(path)
		switch {
		case os.IsNotExist(err):
			found = append(found, Finding{File: path, Text: `missing: run "make generate"`})
		case err != nil:
			return nil, err
		case got != want:
			found = append(found, Finding{File: path, Text: `out of date: run "make generate"`})
		}
	}
	return found, nil
}
