package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
)

// module is a Go package as "go list -json" prints it.
type module struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

// layer says which of our packages those under a folder may import, outside
// their tests and beyond their own folder.
type layer struct {
	folder string
	ours   []string // nil is any
}

// layers hold the import rule, first match first. What is not named here may
// import anything: tests that span packages.
var layers = []layer{
	{"internal/fleet", []string{}},
	{"internal/sim", []string{}}, // shared code would share mistakes
	{"internal/proxmox", adapter},
	{"internal/github", adapter},
	{"internal/journal", adapter},
	{"internal/pools", adapter},
	{"internal/host", adapter},
	{"internal/daemon", []string{"internal/fleet", "internal/proxmox", "internal/github", "internal/journal", "internal/pools", "internal/host"}},
	{"manager", []string{"internal/daemon", "internal/fleet", "internal/proxmox", "internal/github", "internal/journal", "internal/pools", "internal/host", "internal/sim", "pools"}},
	{"plugin", []string{"internal/proxmox", "internal/pools", "internal/fleet", "scripts/guest"}},
}

var adapter = []string{"internal/fleet"}

// small is what the pure core may use of the standard library: nothing that
// waits, reads a file or speaks to anyone.
var small = []string{
	"cmp", "container/heap", "crypto/hmac", "crypto/sha256", "crypto/subtle", "encoding/base64", "encoding/hex", "encoding/json", "errors", "fmt", "hash/fnv",
	"iter", "log/slog", "maps", "math", "math/bits", "path", "slices", "sort", "strconv", "strings", "time", "unicode", "unicode/utf8",
}

// owners are libraries that one folder alone imports, tests included.
var owners = map[string]string{
	"github.com/luthermonson/go-proxmox": "internal/proxmox",
	"github.com/google/go-github":        "internal/github",
}

// sdk is what the daemon's binary must not reach, even indirectly: it brings
// the whole of Packer.
const sdk = "github.com/hashicorp/packer-plugin-sdk"

// Imports finds imports across the layers that the architecture forbids.
func Imports(t Tree) ([]Finding, error) {
	packages, err := list(t.Root)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, p := range packages {
		folder := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, Module), "/")
		say := func(format string, args ...any) {
			found = append(found, Finding{File: folder, Text: fmt.Sprintf(format, args...)})
		}
		p.layers(folder, say)
		p.owned(folder, say)
		p.core(folder, say)
		p.program(folder, say)
	}
	demo, err := simulated(t)
	return append(found, demo...), err
}

// list asks Go for the module's packages.
func list(root string) ([]module, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return nil, fmt.Errorf("go list: %w: %s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("go list: %w", err)
	}
	var packages []module
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p module
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return packages, nil
		case err != nil:
			return nil, fmt.Errorf("read go list: %w", err)
		}
		packages = append(packages, p)
	}
}

// layers checks which of our packages p imports. The simulator keeps the rule
// in its tests too.
func (p module) layers(folder string, say func(string, ...any)) {
	i := slices.IndexFunc(layers, func(l layer) bool { return under(folder, l.folder) })
	if i < 0 {
		return
	}
	imports := p.Imports
	if layers[i].folder == "internal/sim" {
		imports = p.all()
	}
	for _, imported := range imports {
		ours, ok := strings.CutPrefix(imported, Module+"/")
		if !ok || under(ours, layers[i].folder) {
			continue
		}
		if !slices.ContainsFunc(layers[i].ours, func(allowed string) bool { return under(ours, allowed) }) {
			say("imports %s: %s may import %s", ours, layers[i].folder, any(layers[i].ours))
		}
	}
}

// owned checks that a library with one owner is imported by nobody else.
func (p module) owned(folder string, say func(string, ...any)) {
	for _, imported := range p.all() {
		for library, owner := range owners {
			if under(imported, library) && !under(folder, owner) {
				say("imports %s: only %s may", imported, owner)
			}
		}
	}
}

// core checks that the pure core uses the small packages only.
func (p module) core(folder string, say func(string, ...any)) {
	if folder != "internal/fleet" {
		return
	}
	for _, imported := range p.Imports {
		if !under(imported, Module) && !slices.Contains(small, imported) {
			say("imports %s: the core uses only %s", imported, strings.Join(small, " "))
		}
	}
}

// program checks what the daemon's binary is linked from.
func (p module) program(folder string, say func(string, ...any)) {
	if folder != "manager" {
		return
	}
	for _, dep := range p.Deps {
		if under(dep, sdk) {
			say("reaches %s", dep)
			return
		}
	}
}

// all are p's imports, those of its tests included, each once.
func (p module) all() []string {
	imports := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
	slices.Sort(imports)
	return slices.Compact(imports)
}

// simulated finds files of the program, other than the demo's, that import the
// simulated world.
func simulated(t Tree) ([]Finding, error) {
	return each(t, func(file, text string) ([]Finding, error) {
		name := path.Base(file)
		if path.Dir(file) != "manager" || strings.HasPrefix(name, "demo") || strings.HasSuffix(name, "_test.go") {
			return nil, nil
		}
		if !strings.Contains(text, `"`+Module+"/internal/sim") {
			return nil, nil
		}
		return []Finding{{File: file, Text: "imports internal/sim: only the demo may"}}, nil
	})
}

// under reports whether path is folder or below it.
func under(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}
