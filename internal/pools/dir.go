package pools

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// maxEntries bounds a walk through a directory or a git tree: a tree of a few
// hundred bytes can list itself ten times on each of ten levels.
const (
	maxEntries = 50_000
	maxLevels  = 32
)

// Dir reads the *.hcl files in a directory and below. Symbolic links, hidden
// files and hidden directories are left out.
func Dir(path string) Source { return dir(path) }

type dir string

func (d dir) String() string { return "directory " + string(d) }

// Load implements Source. A directory has no history: a file that is being
// written while it is read is read again at the next Load.
func (d dir) Load(ctx context.Context, known Known) (Set, error) {
	pick, err := d.pick(ctx, "")
	if err != nil && !errors.Is(err, errTooMuch) {
		return Set{}, err
	}
	revision := "dir:" + pick.hash()
	if revision == known.Read {
		return Set{}, ErrUnchanged
	}
	if err != nil {
		return Set{}, refused(revision, "Too many files", "%s has more than %d entries or %d pool files.", d, maxEntries, maxFiles)
	}
	set, err := newSet(revision, pick.files, pick.notes...)
	set.Origin = d.String()
	return set, err
}

// At implements Source.
func (d dir) At(context.Context, string) (Set, error) {
	return Set{}, fmt.Errorf("%s has no revisions: %w", d, fleet.ErrInvalid)
}

// Concerns implements Source.
func (d dir) Concerns(string, string) bool { return false }

// Files reads what Dir would read of a directory, for Parse, and tells what it
// leaves out; names begin with the directory's.
func Files(path string) (files map[string][]byte, left Diagnostics, err error) {
	pick, err := dir(path).pick(context.Background(), filepath.ToSlash(path))
	if err != nil {
		return nil, left, err
	}
	files = map[string][]byte{}
	for name, text := range pick.files {
		files[filepath.Join(path, name)] = text
	}
	return files, newDiagnostics(pick.notes, nil), nil
}

// pick walks the directory. Notes name files below at.
func (d dir) pick(ctx context.Context, at string) (*picker, error) {
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return nil, fmt.Errorf("read pool files: %w", kindOfFile(err))
	}
	defer root.Close()
	pick := &picker{files: map[string][]byte{}, at: at}
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		return pick.entry(root, name, e)
	})
	switch {
	case errors.Is(err, errTooMuch):
		return pick, fmt.Errorf("read pool files in %s: %w", d, err)
	case err != nil:
		return pick, fmt.Errorf("read pool files in %s: %w", d, kindOfFile(err))
	}
	return pick, nil
}

// kindOfFile gives an error of the file system one of fleet's kinds.
func kindOfFile(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", err, fleet.ErrNotFound)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", err, fleet.ErrDenied)
	}
	return fmt.Errorf("%w: %w", err, fleet.ErrUnavailable)
}

var errTooMuch = errors.New("too many files")

// picker collects pool files of a walk.
type picker struct {
	files   map[string][]byte
	notes   hcl.Diagnostics
	at      string // goes before the names in notes
	entries int
}

// count counts one entry.
func (p *picker) count() error {
	if p.entries++; p.entries > maxEntries || len(p.files) > maxFiles {
		return errTooMuch
	}
	return nil
}

// skip notes a pool file that is left out.
func (p *picker) skip(name, what string) {
	p.notes = append(p.notes, caution(nil, "File left out", "%.200q is %s, and only regular files are read.", path.Join(p.at, name), what))
}

func (p *picker) entry(root *os.Root, name string, e fs.DirEntry) error {
	if err := p.count(); err != nil {
		return err
	}
	base := path.Base(name)
	switch {
	case name == ".":
		return nil
	case e.IsDir() && hidden(base):
		return fs.SkipDir
	case e.IsDir() || hidden(base) || !poolFile(base):
		return nil
	case e.Type()&fs.ModeSymlink != 0:
		p.skip(name, "a symbolic link")
		return nil
	case !e.Type().IsRegular():
		p.skip(name, "a special file")
		return nil
	}
	file, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed since it was listed
	}
	if err != nil {
		return err
	}
	defer file.Close()
	p.files[name], err = io.ReadAll(io.LimitReader(file, maxFile+1)) // one more is refused by guard
	return err
}

// hash identifies the files by names and contents.
func (p *picker) hash() string {
	h := sha256.New()
	for _, name := range sortedKeys(p.files) {
		fmt.Fprintf(h, "%d %s\n%d\n", len(name), name, len(p.files[name]))
		h.Write(p.files[name])
	}
	return hex.EncodeToString(h.Sum(nil)[:20])
}
