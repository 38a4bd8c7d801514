package mutation

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPlantedBugsAreCaught plants the quick bugs of all packages, or all of
// them if DAYFLY_MUTATIONS is "all", or those whose name contains it.
func TestPlantedBugsAreCaught(t *testing.T) {
	tables, err := Find(filepath.Join("..", ".."))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables of bugs: %v", err)
	}
	which := os.Getenv("DAYFLY_MUTATIONS")
	for _, table := range tables {
		t.Run(filepath.Base(table.Dir), func(t *testing.T) {
			for _, bug := range table.Mutations {
				chosen := which == "all" || which != "" && strings.Contains(bug.Name, which) || which == "" && bug.Quick
				if chosen {
					t.Run(bug.Name, func(t *testing.T) {
						t.Parallel()
						plant(t, table, bug)
					})
				}
			}
		})
	}
}

func plant(t *testing.T, table Table, bug Bug) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	caught, output, err := table.Plant(ctx, bug, t.TempDir())
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if !caught {
		t.Errorf("%s passes with %q in place of %q", bug.Caught, bug.New, bug.Old)
	}
}

// TestVerdicts holds the planting itself to its word, on a package of three lines.
func TestVerdicts(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":      "module example\n\ngo 1.26\n",
		"sum.go":      "package example\n\nfunc sum(a, b int) int { return a + b }\n",
		"a_test.go":   "package example\n\nimport \"testing\"\n\nfunc TestSum(t *testing.T) {\n\tif sum(1, 2) != 3 {\n\t\tt.Fail()\n\t}\n}\n",
		File:          `{"mutations": [{"name": "minus", "file": "sum.go", "old": "a + b", "new": "a - b", "caught": "TestSum"}]}`,
		"sub/" + File: `{"mutations": [{"nome": "a typing error"}]}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(filepath.Join(dir, "sub")); err == nil || !strings.Contains(err.Error(), "nome") {
		t.Errorf("a misspelt key is taken: %v", err)
	}
	table, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	minus := table.Mutations[0]
	for name, tt := range map[string]struct {
		change func(*Bug)
		caught bool
		err    string
	}{
		"caught":         {func(*Bug) {}, true, ""},
		"not caught":     {func(b *Bug) { b.New = "b + a" }, false, ""},
		"no such text":   {func(b *Bug) { b.Old = "a * b" }, false, "0 times"},
		"no such file":   {func(b *Bug) { b.File = "none.go" }, false, "none.go"},
		"not unique":     {func(b *Bug) { b.Old = "a" }, false, "times"},
		"does not build": {func(b *Bug) { b.New = "a +" }, false, "no verdict"},
		"no such test":   {func(b *Bug) { b.Caught = "TestNothing" }, false, "there is no test"},
	} {
		bug := minus
		tt.change(&bug)
		caught, output, err := table.Plant(t.Context(), bug, t.TempDir())
		if caught != tt.caught || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: caught %t, want %t, error %v, want %q\n%s", name, caught, tt.caught, err, tt.err, output)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "sum.go"))
	if err != nil || !strings.Contains(string(text), "a + b") {
		t.Errorf("the file itself was changed: %s %v", text, err)
	}
}
