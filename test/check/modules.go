package check

import (
	"fmt"

	"golang.org/x/mod/modfile"
)

// fixed are the versions that everything was tested with together; another one
// is a decision, not a side effect of adding a library.
var fixed = map[string]string{
	"github.com/bradleyfalzon/ghinstallation/v2": "v2.11.0", // the last that goes with go-github v62
	"github.com/go-git/go-git/v5":                "v5.19.3", // earlier ones have open advisories
	"github.com/google/go-github/v62":            "v62.0.0",
	"github.com/hashicorp/packer-plugin-sdk":     "v0.6.10",
	"github.com/luthermonson/go-proxmox":         "v0.8.2",
}

const (
	cty     = "github.com/zclconf/go-cty"
	ctyFork = "github.com/nywilken/go-cty"
	ctyAt   = "v1.13.3"
)

// Modules finds libraries that left their version, and a missing fork of
// go-cty, without which packer-plugin-sdk panics at start: its values must be
// gob encoders.
func Modules(t Tree) ([]Finding, error) {
	text, err := t.Read("go.mod")
	if err != nil {
		return nil, err
	}
	mod, err := modfile.Parse("go.mod", []byte(text), nil)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, r := range mod.Require {
		want, ok := fixed[r.Mod.Path]
		if ok && r.Mod.Version != want {
			found = append(found, Finding{"go.mod", r.Syntax.Start.Line, fmt.Sprintf("%s is %s, must be %s", r.Mod.Path, r.Mod.Version, want)})
		}
	}
	for _, r := range mod.Replace {
		if r.Old.Path == cty && r.New.Path == ctyFork && r.New.Version == ctyAt {
			return found, nil
		}
	}
	return append(found, Finding{File: "go.mod", Text: fmt.Sprintf("replace %s => %s %s is missing", cty, ctyFork, ctyAt)}), nil
}
