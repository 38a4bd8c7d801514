package packertool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Source is the plugin's address, as required_plugins names it.
const Source = "github.com/dayfly-ci/dayfly"

// Path returns a packer, or skips the test when there is none: building it
// takes minutes, which "make packer" spends and no test does.
func Path(t testing.TB) string {
	t.Helper()
	path, err := Find(t.Context())
	if errors.Is(err, ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Home is a packer with plugins and a configuration of its own: nothing of the
// user's is read or written.
type Home struct {
	packer string
	dir    string
}

// In makes a home in a folder, for a packer at a path.
func In(dir, packer string) *Home { return &Home{packer: packer, dir: dir} }

// New makes an empty home, or skips the test when there is no packer.
func New(t testing.TB) *Home {
	t.Helper()
	return In(t.TempDir(), Path(t))
}

// Add adds a plugin, a binary of this module.
func (h *Home) Add(ctx context.Context, plugin string) error { return h.add(ctx, plugin, Source) }

func (h *Home) add(ctx context.Context, plugin, source string) error {
	if out, err := h.Command(ctx, "plugins", "install", "--path", plugin, source).CombinedOutput(); err != nil {
		return fmt.Errorf("install %s: %w: %s", plugin, err, out)
	}
	return nil
}

// Link makes another home in a folder, with the same packer and plugins: links
// to them, as packer takes seconds to install one.
func (h *Home) Link(dir string) (*Home, error) {
	to := In(dir, h.packer)
	return to, filepath.WalkDir(h.Plugins(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(h.Plugins(), path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to.Plugins(), name), 0o755)
		}
		return os.Link(path, filepath.Join(to.Plugins(), name))
	})
}

// Plugins is the folder that plugins are installed into.
func (h *Home) Plugins() string { return filepath.Join(h.dir, "plugins") }

// Env is the environment of packer: ours, without anything that would lead it
// to the user's files, to its own servers or to a Proxmox.
func (h *Home) Env() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "LANG", "SSL_CERT_FILE"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return append(env, "CHECKPOINT_DISABLE=1", "PACKER_NO_COLOR=1",
		"PACKER_PLUGIN_PATH="+h.Plugins(), "PACKER_CONFIG_DIR="+filepath.Join(h.dir, "config"),
		"PACKER_CACHE_DIR="+filepath.Join(h.dir, "cache"))
}

// Command prepares a run of packer, without a terminal's input.
func (h *Home) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, h.packer, args...)
	cmd.Env = h.Env()
	return cmd
}
