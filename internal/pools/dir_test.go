package pools

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

func fill(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDirectoriesAreReadAsTheyChange(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, minimal("3"))
	fill(t, dir, map[string]string{".git/x.hcl": "no pool file", ".x.hcl": "no pool file", "README.md": "no pool file", "pools/a/b.hcl": "# empty\n"})
	first, err := Dir(dir).Load(t.Context(), Known{})
	if err != nil {
		t.Fatal(err)
	}
	if got := sortedKeys(first.Files); len(got) != 2 || got[0] != "pools/a/b.hcl" || first.Desired.Pools[0].Max != 3 {
		t.Errorf("got files %v, %+v", got, first.Desired)
	}
	if !strings.HasPrefix(first.Revision, "dir:") {
		t.Errorf("revision %q does not start with dir:", first.Revision)
	}
	if _, err := Dir(dir).Load(t.Context(), Known{Read: first.Revision}); !errors.Is(err, ErrUnchanged) {
		t.Errorf("unchanged directory: got %v", err)
	}
	fill(t, dir, minimal("4"))
	second, err := Dir(dir).Load(t.Context(), Known{Read: first.Revision})
	if err != nil || second.Revision == first.Revision || second.Desired.Pools[0].Max != 4 {
		t.Errorf("changed directory: got %v, %+v", err, second)
	}
	// The same bytes under another name are another revision.
	if err := os.Rename(filepath.Join(dir, "pools/main.hcl"), filepath.Join(dir, "pools/main2.hcl")); err != nil {
		t.Fatal(err)
	}
	if _, err := Dir(dir).Load(t.Context(), Known{Read: second.Revision}); err != nil {
		t.Errorf("renamed file: got %v", err)
	}
}

func TestLinksOutOfTheDirectoryAreLeftOut(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	fill(t, dir, minimal("3"))
	fill(t, outside, map[string]string{"x.hcl": "secret"})
	for link, target := range map[string]string{"link.hcl": outside + "/x.hcl", "sub": outside, "dangling.hcl": "/nowhere"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	set, err := Dir(dir).Load(t.Context(), Known{})
	if err != nil || len(set.Files) != 1 {
		t.Fatalf("got %v, files %v", err, sortedKeys(set.Files))
	}
	if set.Warnings.Len() != 2 {
		t.Errorf("got %d warnings, want one for each linked pool file", set.Warnings.Len())
	}
}

func TestRefusedDirectoryIsInvalidWithItsRevision(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{"a.hcl": strings.Repeat("#", maxFile+1)})
	_, err := Dir(dir).Load(t.Context(), Known{})
	var invalid *Invalid
	if !errors.As(err, &invalid) || !strings.Contains(err.Error(), "Pool file too large") {
		t.Fatalf("got %v, want Invalid", err)
	}
	if _, err := Dir(dir).Load(t.Context(), Known{Read: invalid.Revision}); !errors.Is(err, ErrUnchanged) {
		t.Errorf("the same again: got %v, want ErrUnchanged", err)
	}
	if _, err := Dir(t.TempDir()).Load(t.Context(), Known{}); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("empty directory: got %v, want ErrInvalid", err)
	}
}

func TestDirectoryThatCannotBeRead(t *testing.T) {
	if _, err := Dir(filepath.Join(t.TempDir(), "gone")).Load(t.Context(), Known{}); !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("missing directory: got %v, want ErrNotFound", err)
	}
	dir := t.TempDir()
	fill(t, dir, minimal("3"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dir(dir).Load(ctx, Known{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}
