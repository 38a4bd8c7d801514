package pools

import (
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// readTree reads the pool files below a path of a commit's tree. What the
// commit itself has wrong is an *Invalid.
func readTree(store storer.EncodedObjectStorer, root *object.Tree, revision, below string) (Set, error) {
	top := root
	if below = path.Clean(below); below != "." {
		var err error
		top, err = root.Tree(below)
		if errors.Is(err, object.ErrDirectoryNotFound) || errors.Is(err, object.ErrEntryNotFound) {
			return Set{}, refused(revision, "Path not found", "The commit has no directory %q.", below)
		}
		if err != nil {
			return Set{}, fmt.Errorf("read directory %q: %w", below, err)
		}
	}
	pick := picker{files: map[string][]byte{}}
	err := pick.tree(store, top, "", maxLevels)
	if errors.Is(err, errTooMuch) {
		return Set{}, refused(revision, "Too many files",
			"The commit has more than %d entries, %d levels or %d pool files below %q.", maxEntries, maxLevels, maxFiles, below)
	}
	if err != nil {
		return Set{}, err
	}
	return newSet(revision, pick.files, pick.notes...)
}

// tree collects the pool files of a tree. It counts what it visits: a tree may
// contain one other many times over, so a small pack can hold a huge one.
func (p *picker) tree(store storer.EncodedObjectStorer, t *object.Tree, above string, levels int) error {
	if levels == 0 {
		return errTooMuch
	}
	for _, e := range t.Entries {
		if err := p.count(); err != nil {
			return err
		}
		if hidden(e.Name) {
			continue
		}
		name := path.Join(above, e.Name)
		switch {
		case e.Mode == filemode.Dir:
			sub, err := object.GetTree(store, e.Hash)
			if err != nil {
				return unread("directory", name, err)
			}
			if err := p.tree(store, sub, name, levels-1); err != nil {
				return err
			}
		case !poolFile(e.Name):
		case e.Mode == filemode.Symlink:
			p.skip(name, "a symbolic link")
		case e.Mode == filemode.Submodule:
			p.skip(name, "a submodule")
		default:
			if err := p.blob(store, name, e.Hash); err != nil {
				return err
			}
		}
	}
	return nil
}

// unread is why an object is not read. What is too large stays so; what is
// missing or broken may be there the next time.
func unread(what, name string, err error) error {
	if errors.Is(err, errHuge) {
		return fmt.Errorf("%s %q: %w", what, name, err)
	}
	return fmt.Errorf("read %s %q: %w: %w", what, name, err, fleet.ErrUnavailable)
}

// blob reads one file, and no more of it than guard needs to refuse it.
func (p *picker) blob(store storer.EncodedObjectStorer, name string, hash plumbing.Hash) error {
	blob, err := object.GetBlob(store, hash)
	if err != nil {
		return unread("file", name, err)
	}
	r, err := blob.Reader()
	if err != nil {
		return fmt.Errorf("read file %q: %w: %w", name, err, fleet.ErrUnavailable)
	}
	defer r.Close()
	p.files[name], err = io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return fmt.Errorf("read file %q: %w: %w", name, err, fleet.ErrUnavailable)
	}
	return nil
}
