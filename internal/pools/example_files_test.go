package pools

import (
	"io/fs"
	"os"
	"testing"

	examples "github.com/dayfly-ci/dayfly/pools"
)

func exampleFiles(t testing.TB) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	names, err := fs.Glob(examples.FS, "*.hcl")
	if err != nil || len(names) == 0 {
		t.Fatalf("glob examples: %v, %v", names, err)
	}
	for _, name := range names {
		if files[name], err = fs.ReadFile(examples.FS, name); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestExamplesParseWithoutWarnings(t *testing.T) {
	got, diags := Parse(exampleFiles(t))
	if diags.Len() > 0 {
		_ = diags.WriteText(os.Stderr, 80, false)
		t.Fatalf("examples have %d diagnostics", diags.Len())
	}
	if len(got.Pools) != 4 {
		t.Errorf("got %d pools, want 4", len(got.Pools))
	}
}
