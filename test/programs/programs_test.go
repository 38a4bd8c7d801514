package programs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestProgramIsLinkedOnce(t *testing.T) {
	path := Path(t, Bare)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if again := Path(t, Bare); again != path {
		t.Errorf("built at %s, then at %s", path, again)
	}
	after, err := os.Stat(path)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("a program that is up to date was written again (%v)", err)
	}
	if out, err := exec.Command(path).CombinedOutput(); err == nil || !strings.HasPrefix(string(out), "bare: want ADDRESS") {
		t.Errorf("it does not run: %v: %s", err, out)
	}
}

func TestProgramsAreSideBySide(t *testing.T) {
	for name, folder := range folders {
		if text, err := os.ReadFile(filepath.Join("..", "..", folder, "main.go")); err != nil || !strings.Contains(string(text), "package main\n") {
			t.Errorf("%s: %s holds no program (%v)", name, folder, err)
		}
	}
	if _, err := Build(t.Context(), "unheard-of"); err == nil || !strings.Contains(err.Error(), "no such program") {
		t.Errorf("an unknown program: got %v", err)
	}
}
