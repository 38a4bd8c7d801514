// Package packertool provides the real packer to tests: one that is installed,
// or one built from the module cache. It is a tool like git: nothing of it is
// linked into our programs, and none of its binaries is ever shipped. The same
// goes for the plugin with the provisioner ansible.
package packertool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"time"

	"golang.org/x/mod/semver"
)

// least is the first packer that knows "plugins install --path" as we use it.
const least = "v1.11.0"

var core = module{
	name: "packer", path: "github.com/hashicorp/packer", version: "v1.12.0",
	sum: "h1:OF+RPZnW5XJU7i6TWTqDsjHvcXxnaIabvGua8dYR+7Q=",
}

// ErrNone says that there is no packer yet.
var ErrNone = errors.New(`there is no packer: install version 1.11 or later, or run "make packer"`)

// Find returns the path of an installed packer that is new enough, else of the
// one that Build made, else ErrNone.
func Find(ctx context.Context) (string, error) {
	ours, err := core.file()
	if err != nil {
		return "", err
	}
	for _, name := range []string{"packer", ours} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if v, err := versionOf(ctx, path); err == nil && semver.Compare(v, least) >= 0 {
			return path, nil
		}
	}
	return "", ErrNone
}

var versionLine = regexp.MustCompile(`(?m)^Packer (v\d+\.\d+\.\d+)`)

// versionOf asks a packer. Another program is known by that name, so the
// answer may be anything.
func versionOf(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version")
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", path, err)
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s is no packer", path)
	}
	return string(m[1]), nil
}

// Build makes a packer from the module cache, into build/tools, unless it is
// there.
func Build(ctx context.Context) (string, error) { return core.build(ctx) }
