package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRepositoryKeepsTheHouseRules(t *testing.T) {
	tree, err := Open(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range Rules {
		t.Run(rule.Name, func(t *testing.T) {
			found, err := rule.Check(tree)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				t.Error(f)
			}
		})
	}
}

// plant writes a tree of files, with a go.mod that keeps the rules unless
// files has its own.
func plant(t *testing.T, files map[string]string) Tree {
	t.Helper()
	root := t.TempDir()
	all := map[string]string{"go.mod": "module " + Module + "\n\ngo 1.26\n\nreplace " + cty + " => " + ctyFork + " " + ctyAt + "\n"}
	for path, text := range files {
		all[path] = text
	}
	for path, text := range all {
		to := filepath.Join(root, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(strings.ReplaceAll(text, "ROOT", root)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// imports is the text of a package that imports paths, ours by their folder.
func imports(name string, paths ...string) string {
	var b strings.Builder
	b.WriteString("package " + name + "\n\n")
	for _, path := range paths {
		if strings.HasPrefix(path, "internal/") || strings.HasPrefix(path, "plugin/") {
			path = Module + "/" + path
		}
		b.WriteString("import _ \"" + path + "\"\n")
	}
	return b.String()
}

// library is a go.mod that takes a library from a folder of the tree, so that
// planted trees need no network.
func library(path string) string {
	return "module " + Module + "\n\ngo 1.26\n\nrequire " + path + " v0.0.0\n\nreplace (\n\t" +
		cty + " => " + ctyFork + " " + ctyAt + "\n\t" + path + " => ./library\n)\n"
}

// bug is a package with one planted bug.
func bug(old, caught string) map[string]string {
	return map[string]string{
		"a/a.go":                    "package a\n\nfunc a(x int) int { return x + 0 }\n",
		"a/a_test.go":               "package a\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) {}\n",
		"a/testdata/mutations.json": `{"mutations": [{"name": "minus", "file": "a.go", "old": "` + old + `", "new": "x - 1", "caught": "` + caught + `"}]}`,
	}
}

func TestRulesCatchWhatTheyForbid(t *testing.T) {
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Setenv("GOPROXY", "off")
	const (
		proxmox = "github.com/luthermonson/go-proxmox"
		github  = "github.com/google/go-github"
	)
	long := func(n int) string { return strings.Repeat("\t_ = 0\n", n) }
	tests := []struct {
		name  string
		rule  func(Tree) ([]Finding, error)
		files map[string]string
		want  string // the only finding; empty is none
	}{
		{"a clean tree", Imports, map[string]string{"internal/fleet/a.go": imports("fleet", "strings")}, ""},
		{"the core reads a clock's neighbours only", Imports, map[string]string{"internal/fleet/a.go": imports("fleet", "os")}, "internal/fleet: imports os"},
		{"the core imports ours", Imports, map[string]string{
			"internal/fleet/a.go": imports("fleet", "internal/pools"), "internal/pools/a.go": imports("pools"),
		}, "internal/fleet: imports internal/pools"},
		{"an adapter imports the core", Imports, map[string]string{
			"internal/pools/a.go": imports("pools", "internal/fleet"), "internal/fleet/a.go": imports("fleet"),
		}, ""},
		{"an adapter imports an adapter", Imports, map[string]string{
			"internal/pools/a.go": imports("pools", "internal/journal"), "internal/journal/a.go": imports("journal"),
		}, "internal/pools: imports internal/journal"},
		{"an adapter's test may use the simulator", Imports, map[string]string{
			"internal/github/a.go": imports("github"), "internal/github/a_test.go": imports("github", "internal/sim"), "internal/sim/a.go": imports("sim"),
		}, ""},
		{"the simulator imports ours", Imports, map[string]string{
			"internal/sim/hub/a.go": imports("hub", "internal/fleet"), "internal/fleet/a.go": imports("fleet"),
		}, "internal/sim/hub: imports internal/fleet"},
		{"the simulator's test imports ours", Imports, map[string]string{
			"internal/sim/a.go": imports("sim"), "internal/sim/a_test.go": imports("sim", "internal/fleet"), "internal/fleet/a.go": imports("fleet"),
		}, "internal/sim: imports internal/fleet"},
		{"the simulator imports itself", Imports, map[string]string{
			"internal/sim/a.go": imports("sim", "internal/sim/hub"), "internal/sim/hub/a.go": imports("hub"),
		}, ""},
		{"the daemon imports the simulator", Imports, map[string]string{
			"internal/daemon/a.go": imports("daemon", "internal/sim"), "internal/sim/a.go": imports("sim"),
		}, "internal/daemon: imports internal/sim"},
		{"the program imports the plugin", Imports, map[string]string{
			"manager/a.go": imports("main", "plugin/lxc") + "func main() {}\n", "plugin/lxc/a.go": imports("lxc"),
		}, "manager: imports plugin/lxc"},
		{"the plugin imports the daemon", Imports, map[string]string{
			"plugin/lxc/a.go": imports("lxc", "internal/daemon"), "internal/daemon/a.go": imports("daemon"),
		}, "plugin/lxc: imports internal/daemon"},
		{"the demo imports the simulator", Imports, map[string]string{
			"manager/demo.go": imports("main", "internal/sim") + "func main() {}\n", "internal/sim/a.go": imports("sim"),
		}, ""},
		{"the program beside the demo imports the simulator", Imports, map[string]string{
			"manager/run.go": imports("main", "internal/sim") + "func main() {}\n", "internal/sim/a.go": imports("sim"),
		}, "manager/run.go: imports internal/sim: only the demo may"},
		{"the program reaches Packer", Imports, map[string]string{
			"go.mod": library(sdk), "library/go.mod": "module " + sdk + "\n", "library/packer/a.go": imports("packer"),
			"manager/a.go": imports("main", "internal/daemon") + "func main() {}\n", "internal/daemon/a.go": imports("daemon", sdk+"/packer"),
		}, "manager: reaches " + sdk + "/packer"},
		{"another package imports go-proxmox", Imports, map[string]string{
			"go.mod": library(proxmox), "library/go.mod": "module " + proxmox + "\n", "library/a.go": imports("proxmox"),
			"internal/daemon/a.go": imports("daemon", proxmox),
		}, "internal/daemon: imports " + proxmox + ": only internal/proxmox may"},
		{"go-proxmox is imported by its owner", Imports, map[string]string{
			"go.mod": library(proxmox), "library/go.mod": "module " + proxmox + "\n", "library/a.go": imports("proxmox"),
			"internal/proxmox/a.go": imports("proxmox", proxmox),
		}, ""},
		{"another package's test imports go-github", Imports, map[string]string{
			"go.mod": library(github), "library/go.mod": "module " + github + "\n", "library/github/a.go": imports("github"),
			"internal/pools/a.go": imports("pools"), "internal/pools/a_test.go": imports("pools", github+"/github"),
		}, "internal/pools: imports " + github + "/github: only internal/github may"},

		{"a vague package", Folders, map[string]string{"internal/util/a.go": "package util\n"}, "internal/util: "},
		{"a named package", Folders, map[string]string{"internal/fleet/a.go": "package fleet\n"}, ""},
		{"a file of 500 lines", Files, map[string]string{"a.go": strings.Repeat("\n", 500)}, ""},
		{"a file of 501 lines", Files, map[string]string{"a.go": strings.Repeat("\n", 501)}, "a.go: 501 lines"},
		{"a generated file of any length", Files, map[string]string{"a.go": "// Code generated by hand; DO NOT EDIT.\n" + strings.Repeat("\n", 501)}, ""},
		{"a function of 60 lines", Functions, map[string]string{"a.go": "package a\n\nfunc f() {\n" + long(58) + "}\n"}, ""},
		{"a function of 61 lines", Functions, map[string]string{"a.go": "package a\n\nfunc f() {\n" + long(59) + "}\n"}, "a.go:3: f has 61 lines"},
		{"a long method", Functions, map[string]string{"a.go": "package a\n\ntype a int\n\nfunc (a) f() {\n" + long(59) + "}\n"}, "a.go:5: f has 61 lines"},
		{"a long test", Functions, map[string]string{"a_test.go": "package a\n\nfunc f() {\n" + long(59) + "}\n"}, ""},
		{"a file that gofmt changes", Format, map[string]string{"a.go": "package a\nvar  x = 1\n"}, "a.go: not formatted"},
		{"a formatted file", Format, map[string]string{"a.go": "package a\n\nvar x = 1\n"}, ""},

		{"an unfinished place", Words, map[string]string{"a.go": "package a\n\n// TO" + "DO: the rest\n"}, "a.go:3: TO" + "DO: "},
		{"an unfinished script", Words, map[string]string{"a.sh": "# FIX" + "ME\n"}, "a.sh:1: "},
		{"a stub", Words, map[string]string{"a.go": "package a\n\nfunc f() { panic(\"not " + "implemented\") }\n"}, "a.go:3: "},
		{"a sleeping test", Words, map[string]string{"a_test.go": "package a\n\nfunc f() { time." + "Sleep(1) }\n"}, "a_test.go:3: "},
		{"a test sleeps in a bubble", Words, map[string]string{"a_test.go": "package a\n\nimport \"testing/synctest\"\n\nfunc f() { time." + "Sleep(1) }\n"}, ""},
		{"a program may wait", Words, map[string]string{"a.go": "package a\n\nfunc f() { time." + "Sleep(1) }\n"}, ""},
		{"a silent skip", Words, map[string]string{"a_test.go": "package a\n\nfunc f() { t." + "Skip() }\n"}, "a_test.go:3: "},
		{"a registry", Words, map[string]string{"README.md": "from proxy." + "golang.org\n"}, "README.md:1: "},
		{"who wrote it", Words, map[string]string{"README.md": "\nmade in This " + "Session\n"}, "README.md:2: "},
		{"the tree's own path", Words, map[string]string{"a.txt": "see ROOT/a\n"}, "a.txt:1: "},
		{"a binary file", Words, map[string]string{"a.bin": "\xff\xfe see ROOT/a\n"}, ""},

		{"the fork is gone", Modules, map[string]string{"go.mod": "module " + Module + "\n"}, "go.mod: replace " + cty},
		{"the fork moved", Modules, map[string]string{"go.mod": "module " + Module + "\n\nreplace " + cty + " => " + ctyFork + " v1.0.0\n"}, "go.mod: replace " + cty},
		{"a library moved", Modules, map[string]string{
			"go.mod": "module " + Module + "\n\nrequire " + proxmox + " v0.9.0\n\nreplace " + cty + " => " + ctyFork + " " + ctyAt + "\n",
		}, "go.mod:3: " + proxmox + " is v0.9.0, must be v0.8.2"},

		{"a bug whose place is gone", Bugs, bug("x + 1", "TestX"), "a/testdata/mutations.json: plant bug"},
		{"a bug whose test is gone", Bugs, bug("x + 0", "TestY"), "a/testdata/mutations.json: bug \"minus\": there is no test TestY"},
		{"a bug that can be planted", Bugs, bug("x + 0", "TestX"), ""},

		{"a stale generated file", Generated, map[string]string{
			"a/a.go": "package a\n\n//go:generate sh -c \"echo package a > b.go\"\n", "a/b.go": "package b\n",
		}, "a/b.go: out of date"},
		{"a missing generated file", Generated, map[string]string{"a/a.go": "package a\n\n//go:generate sh -c \"echo package a > b.go\"\n"}, "a/b.go: missing"},
		{"a current generated file", Generated, map[string]string{
			"a/a.go": "package a\n\n//go:generate sh -c \"echo package a > b.go\"\n", "a/b.go": "package a\n",
		}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			found, err := test.rule(plant(t, test.files))
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case test.want == "" && len(found) > 0:
				t.Errorf("found %v, want nothing", found)
			case test.want != "" && (len(found) != 1 || !strings.HasPrefix(found[0].String(), test.want)):
				t.Errorf("found %v, want only %q", found, test.want)
			}
		})
	}
}

func TestGeneratedChangesNothing(t *testing.T) {
	tree := plant(t, map[string]string{
		"a/a.go": "package a\n\n//go:generate sh -c \"echo package a > b.go\"\n",
		"a/b.go": "package b\n",
	})
	if _, err := Generated(tree); err != nil {
		t.Fatal(err)
	}
	if got, _ := tree.Read("a/b.go"); got != "package b\n" {
		t.Errorf("a/b.go is %q after the check, want it untouched", got)
	}
}
