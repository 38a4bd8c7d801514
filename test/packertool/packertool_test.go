package packertool

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// stranger puts a program called packer on an otherwise empty PATH, and the
// test outside of the module, where no packer was built.
func stranger(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "packer")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module elsewhere\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Chdir(dir)
	return path
}

func TestInstalledPackerIsUsedWhenItIsNewEnough(t *testing.T) {
	want := stranger(t, "echo Packer v1.11.0; echo; echo Your version of Packer is out of date!")
	if got, err := Find(t.Context()); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestOldOrOtherPackerIsPassedOver(t *testing.T) {
	for name, script := range map[string]string{
		"old": "echo Packer v1.10.3", "another program": "echo 12 words", "broken": "exit 3",
	} {
		t.Run(name, func(t *testing.T) {
			stranger(t, script)
			if got, err := Find(t.Context()); !errors.Is(err, ErrNone) {
				t.Errorf("got %q, %v, want ErrNone", got, err)
			}
		})
	}
}

func TestTamperedSourceIsNotBuilt(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := core.verify(dir); err == nil || !strings.Contains(err.Error(), core.sum) {
		t.Errorf("got %v, want an error that names the sum it wants", err)
	}
}

func TestPinnedSumsAreThoseOfTheModules(t *testing.T) {
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []module{core, ansible} {
		t.Run(m.name, func(t *testing.T) {
			dir := filepath.Join(strings.TrimSpace(string(cache)), m.String())
			if _, err := os.Stat(dir); err != nil {
				t.Skip("the module is not in the module cache; \"make packer\" fetches it")
			}
			if err := m.verify(dir); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHomeIsPrivate(t *testing.T) {
	for name, value := range map[string]string{
		"PACKER_CONFIG": "elsewhere", "PROXMOX_TOKEN": "secret", "PACKER_LOG": "1", "HTTPS_PROXY": "http://127.0.0.1:9",
	} {
		t.Setenv(name, value)
	}
	h := New(t)
	env := strings.Join(h.Env(), "\n") + "\n"
	for _, name := range []string{"PACKER_CONFIG=", "PROXMOX_TOKEN=", "PACKER_LOG=", "HTTPS_PROXY="} {
		if strings.Contains(env, name) {
			t.Errorf("environment holds %s", name)
		}
	}
	out, err := h.Command(t.Context(), "plugins", "installed").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "" {
		t.Errorf("plugins of a new home: got %q, %v, want none", out, err)
	}
}
