package pools

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Change is a commit to be made: it is given the pool files at the tip of the
// branch, and returns those that change, and a message. When nothing changes,
// no commit is made. It may be called again, with a newer tip.
type Change func(files map[string][]byte) (changed map[string][]byte, message string, err error)

// Author is who commits.
type Author struct{ Name, Email string }

// Commit makes a change on top of the configured branch, and pushes it: to
// that branch, or to another one, which is then made or moved. It returns the
// commit's id, or the tip's when nothing changes. When somebody else pushes at
// the same time, the change is made again on top of theirs.
//
// Nothing is checked out and no git program runs: the objects are made in
// memory, and the server moves the branch only from where it was read
// (compare and swap), so no commit of others is ever lost.
func (c GitConfig) Commit(ctx context.Context, to string, author Author, change Change) (id string, made bool, err error) {
	r := Git(c).(*repository)
	if err := r.config.Validate(); err != nil {
		return "", false, err
	}
	defer func() {
		if p := recover(); p != nil { // as in Load
			id, made, err = "", false, fmt.Errorf("commit to %s: git library: %v: %w", r, p, fleet.ErrInvalid)
		}
	}()
	for wait := firstPause; ; wait *= 2 {
		id, made, err = r.attempt(ctx, to, author, change)
		again := errors.Is(err, errMoved) || errors.Is(err, fleet.ErrUnavailable)
		// go-git writes a branch of a local repository in place: for a moment
		// there is none for others who read it.
		again = again || errors.Is(err, fleet.ErrNotFound) && wait < 8*firstPause
		if !again || wait > lastPause {
			break
		}
		select {
		case <-ctx.Done():
			return "", false, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
	if errors.Is(err, errMoved) {
		err = fmt.Errorf("%w: %w", err, fleet.ErrUnavailable)
	}
	if err != nil {
		return "", false, fmt.Errorf("commit to %s: %w", r, err)
	}
	return id, made, nil
}

// Pauses before another attempt: nine of them, half a minute together.
const (
	firstPause = 60 * time.Millisecond
	lastPause  = 16 * time.Second
)

// errMoved says that the branch is no longer where it was read.
var errMoved = errors.New("the branch was moved at the same time")

func (r *repository) attempt(ctx context.Context, to string, author Author, change Change) (string, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	base, err := r.config.base(ctx)
	if err != nil {
		return "", false, kindOfCommit(ctx, err)
	}
	tip, err := readCommit(base.store, base.commit)
	if err != nil {
		return "", false, kindOfCommit(ctx, err)
	}
	set, err := r.config.read(base.store, tip)
	if err != nil {
		return "", false, err
	}
	changed, message, err := change(set.Files)
	if err != nil {
		return "", false, err
	}
	if len(changed) == 0 {
		return base.commit.String(), false, nil
	}
	fresh, err := base.write(r.config.Path, changed, message, author)
	if err != nil {
		return "", false, err
	}
	if err := r.config.push(ctx, base, to, fresh); err != nil {
		return "", false, kindOfCommit(ctx, err)
	}
	return fresh[0].String(), true, nil
}

func kindOfCommit(ctx context.Context, err error) error {
	var invalid *Invalid
	if errors.Is(err, errMoved) || errors.As(err, &invalid) {
		return err
	}
	return kindOfGit(ctx, err)
}

// base is the commit that a change is made on.
type base struct {
	store  storer.Storer
	branch plumbing.ReferenceName
	commit plumbing.Hash
	local  *git.Repository // nil: the repository is on a server
}

// base reads the tip of the branch with its whole tree.
func (c GitConfig) base(ctx context.Context) (base, error) {
	if c.isLocal() {
		return c.localBase()
	}
	s, err := c.connect(ctx)
	if err != nil {
		return base{}, err
	}
	defer s.Close()
	refs, err := s.AdvertisedReferencesContext(ctx)
	if err != nil {
		return base{}, err
	}
	tip, err := c.tip(refs)
	if err != nil {
		return base{}, err
	}
	store, err := c.unpack(ctx, s, refs, part{tip: tip, depth: 1})
	if err != nil {
		return base{}, err
	}
	return base{store: store, branch: c.branchName(refs), commit: tip}, nil
}

// branchName is the branch that is configured, or the repository's own
// default, which the server names.
func (c GitConfig) branchName(refs *packp.AdvRefs) plumbing.ReferenceName {
	if c.Branch != "" {
		return plumbing.NewBranchReferenceName(c.Branch)
	}
	for _, name := range sortedKeys(refs.References) {
		if refs.Head != nil && refs.References[name] == *refs.Head && strings.HasPrefix(name, "refs/heads/") {
			return plumbing.ReferenceName(name)
		}
	}
	return plumbing.Main
}

func (c GitConfig) localBase() (base, error) {
	repo, err := git.PlainOpenWithOptions(c.URL, &git.PlainOpenOptions{EnableDotGitCommonDir: true})
	if err != nil {
		return base{}, err
	}
	head, err := repo.Storer.Reference(plumbing.HEAD)
	if err != nil {
		return base{}, err
	}
	name := head.Target()
	if c.Branch != "" {
		name = plumbing.NewBranchReferenceName(c.Branch)
	}
	ref, err := repo.Reference(name, true)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return base{}, fmt.Errorf("branch %q: %w", name.Short(), fleet.ErrNotFound)
	}
	if err != nil {
		return base{}, err
	}
	return base{store: repo.Storer, branch: name, commit: ref.Hash(), local: repo}, nil
}

// write makes the objects of a commit, and returns them, the commit first.
func (b base) write(below string, changed map[string][]byte, message string, author Author) ([]plumbing.Hash, error) {
	parent, err := object.GetCommit(b.store, b.commit)
	if err != nil {
		return nil, err
	}
	fresh := []plumbing.Hash{plumbing.ZeroHash}
	tree := parent.TreeHash
	for _, name := range sortedKeys(changed) {
		whole := strings.Split(path.Join(below, name), "/")
		if tree, err = b.replace(tree, whole, changed[name], &fresh); err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
	}
	who := object.Signature{Name: author.Name, Email: author.Email, When: time.Now()}
	commit := &object.Commit{Author: who, Committer: who, Message: message, TreeHash: tree, ParentHashes: []plumbing.Hash{b.commit}}
	fresh[0], err = b.store1(commit.Encode)
	return fresh, err
}

// replace makes the trees on the way to a file anew.
func (b base) replace(tree plumbing.Hash, way []string, content []byte, fresh *[]plumbing.Hash) (plumbing.Hash, error) {
	t, err := object.GetTree(b.store, tree)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	entries := slices.Clone(t.Entries)
	i := slices.IndexFunc(entries, func(e object.TreeEntry) bool { return e.Name == way[0] })
	if i < 0 {
		return plumbing.ZeroHash, fmt.Errorf("%s: %w", way[0], fleet.ErrNotFound)
	}
	if len(way) == 1 {
		if entries[i].Mode == filemode.Symlink {
			return plumbing.ZeroHash, fmt.Errorf("%s is a link: %w", way[0], fleet.ErrInvalid)
		}
		entries[i].Hash, err = b.store1(func(o plumbing.EncodedObject) error { return blob(o, content) })
	} else {
		entries[i].Hash, err = b.replace(entries[i].Hash, way[1:], content, fresh)
	}
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if len(way) == 1 {
		*fresh = append(*fresh, entries[i].Hash)
	}
	made, err := b.store1((&object.Tree{Entries: entries}).Encode)
	*fresh = append(*fresh, made)
	return made, err
}

func blob(o plumbing.EncodedObject, content []byte) error {
	o.SetType(plumbing.BlobObject)
	w, err := o.Writer()
	if err != nil {
		return err
	}
	if _, err := w.Write(content); err != nil {
		return err
	}
	return w.Close()
}

func (b base) store1(encode func(plumbing.EncodedObject) error) (plumbing.Hash, error) {
	o := b.store.NewEncodedObject()
	if err := encode(o); err != nil {
		return plumbing.ZeroHash, err
	}
	return b.store.SetEncodedObject(o)
}
