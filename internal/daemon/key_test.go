package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeyIsMadeOnceAndKept(t *testing.T) {
	dir := t.TempDir()
	first, err := LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadKey(dir)
	if err != nil || first.Reveal() != again.Reveal() || len(first.Reveal()) != 2*keySize {
		t.Errorf("second load: another key or %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, "key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the key's file: %v, %v; want 0600", info.Mode(), err)
	}
}

func TestBadKeyFileIsRefusedAndKept(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"readable by others": {strings.Repeat("ab", keySize), 0o644, "chmod 600"},
		"cut off":            {"abcd", 0o600, "does not hold 32 bytes"},
		"not hex":            {strings.Repeat("zz", keySize), 0o600, "does not hold 32 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadKey(filepath.Dir(path))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if left, _ := os.ReadFile(path); string(left) != c.text {
				t.Errorf("the file was changed to %q", left)
			}
		})
	}
}
