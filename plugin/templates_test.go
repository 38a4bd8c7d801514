package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const folder = "../packer"

// templates is a real packer with this plugin, for the templates that we ship.
func templates(t *testing.T) func(args ...string) (string, error) {
	t.Helper()
	home := homeOf(t)
	return func(args ...string) (string, error) {
		cmd := home.Command(context.Background(), args...)
		cmd.Dir = folder
		cmd.Env = append(cmd.Env, "PROXMOX_URL=https://pve.example.org:8006", "PROXMOX_USERNAME=packer@pve!build", "PROXMOX_TOKEN=canary")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

func TestShippedTemplatesAreValid(t *testing.T) {
	packer := templates(t)
	examples, err := filepath.Glob(folder + "/examples/*.pkrvars.hcl")
	if err != nil || len(examples) < 2 {
		t.Fatalf("got %q, %v, want examples", examples, err)
	}
	for _, example := range examples {
		name := "examples/" + filepath.Base(example)
		if out, err := packer("validate", "-var-file="+name, "."); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		out, err := packer("validate", "-except=promote,prune", "-var-file="+name, "-var", "pools_repository=", ".")
		if err != nil {
			t.Errorf("%s without a pools repository: %v\n%s", name, err, out)
		}
	}
}

func TestShippedTemplatesAreFormatted(t *testing.T) {
	packer := templates(t)
	if out, err := packer("fmt", "-check", "-recursive", "."); err != nil || out != "" {
		t.Errorf("%v: packer fmt would change %s", err, out)
	}
}

func TestPluginDescribesItsComponents(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command(self, "describe").Output()
	out := string(text)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{
		`"builders":["lxc"]`, `"post_processors":["promote","prune"]`, `"provisioners":["runner"]`, `"datasources":["runner-release","template"]`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in %s", want, out)
		}
	}
	if lines := slices.Collect(strings.Lines(out)); len(lines) != 1 {
		t.Errorf("describe prints %d lines, want one: %q", len(lines), lines)
	}
}
