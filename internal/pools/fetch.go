package pools

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/storage/memory"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// server is one conversation with git-upload-pack: first the references, then
// at most one pack. transport.UploadPackSession of go-git is one.
type server interface {
	AdvertisedReferencesContext(context.Context) (*packp.AdvRefs, error)
	UploadPack(context.Context, *packp.UploadPackRequest) (*packp.UploadPackResponse, error)
	Close() error
}

// connect opens a conversation of the kind that the URL asks for.
func (c GitConfig) connect(ctx context.Context) (server, error) {
	ep, err := transport.NewEndpoint(c.URL)
	if err != nil {
		return nil, err
	}
	if ep.Protocol == "ssh" {
		return c.ssh(ctx, ep, transport.UploadPackServiceName)
	}
	return c.http(ctx, ep)
}

// point is a commit and the objects that it is read from.
type point struct {
	store storer.EncodedObjectStorer
	tip   plumbing.Hash
}

// remote speaks the protocol itself rather than through go-git's Remote and
// Clone. The two share one conversation that way, so the tip cannot move in
// between; the pack can be weighed before it is unpacked; and no client has to
// be put into go-git's global table.
func (c GitConfig) remote(ctx context.Context, known string) (point, error) {
	s, err := c.connect(ctx)
	if err != nil {
		return point{}, err
	}
	defer s.Close()
	refs, err := s.AdvertisedReferencesContext(ctx)
	if err != nil {
		return point{}, err
	}
	tip, err := c.tip(refs)
	if err != nil {
		return point{}, err
	}
	if tip.String() == known {
		return point{}, ErrUnchanged
	}
	store, err := c.unpack(ctx, s, refs, part{tip: tip, depth: 1})
	if errors.Is(err, errTooLarge) {
		return point{}, refused(tip.String(), "Repository too large",
			"The files of the commit have more than %d bytes. Keep pool files in a repository of their own.", c.MaxBytes)
	}
	return point{store, tip}, err
}

// history fetches the commits behind a tip that was read before.
func (c GitConfig) history(ctx context.Context, tip plumbing.Hash, depth int) (storer.EncodedObjectStorer, error) {
	s, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	refs, err := s.AdvertisedReferencesContext(ctx)
	if err != nil {
		return nil, err
	}
	if now, err := c.tip(refs); err != nil || now != tip {
		return nil, errors.Join(err, fmt.Errorf("the branch was moved at the same time: %w", fleet.ErrUnavailable))
	}
	store, err := c.unpack(ctx, s, refs, part{tip: tip, depth: depth, bare: true})
	if errors.Is(err, errTooLarge) {
		return nil, refused(tip.String(), "Repository too large",
			"The newest %d commits have more than %d bytes, so it is not seen that they follow the one in force. Keep pool files in a repository of their own.",
			depth, c.MaxBytes)
	}
	return store, err
}

// unpack fetches a part of the repository into memory.
func (c GitConfig) unpack(ctx context.Context, s server, refs *packp.AdvRefs, want part) (*memory.Storage, error) {
	pack, err := c.fetch(ctx, s, refs, want)
	if err != nil {
		return nil, err
	}
	if err := weigh(pack); err != nil {
		return nil, refused(want.tip.String(), "Repository refused", "The server's pack is not read: %s.", err)
	}
	store := memory.NewStorage()
	if err := packfile.UpdateObjectStorage(store, bytes.NewReader(pack)); err != nil {
		return nil, fmt.Errorf("unpack: %w: %w", err, fleet.ErrUnavailable)
	}
	return store, nil
}

// tip finds the newest commit of the branch.
func (c GitConfig) tip(refs *packp.AdvRefs) (plumbing.Hash, error) {
	if c.Branch == "" {
		if refs.Head == nil {
			return plumbing.ZeroHash, fmt.Errorf("the repository has no default branch: %w", fleet.ErrNotFound)
		}
		return *refs.Head, nil
	}
	tip, ok := refs.References[plumbing.NewBranchReferenceName(c.Branch).String()]
	if !ok {
		return plumbing.ZeroHash, fmt.Errorf("branch %q: %w", c.Branch, fleet.ErrNotFound)
	}
	return tip, nil
}

var errTooLarge = errors.New("answer too large")

// part is what is asked of a server.
type part struct {
	tip   plumbing.Hash
	depth int  // commits behind it, itself included
	bare  bool // the commits alone, where the server can leave the files out
}

// fetch asks for a part of the repository and returns the pack.
func (c GitConfig) fetch(ctx context.Context, s server, refs *packp.AdvRefs, want part) ([]byte, error) {
	req := packp.NewUploadPackRequestFromCapabilities(refs.Capabilities)
	req.Capabilities.Delete(capability.ThinPack) // there is nothing here it could be thin against
	req.Wants = []plumbing.Hash{want.tip}
	use := []capability.Capability{capability.NoProgress}
	if refs.Capabilities.Supports(capability.Shallow) {
		req.Depth = packp.DepthCommits(want.depth)
		use = append(use, capability.Shallow)
	}
	if want.bare && refs.Capabilities.Supports(capability.Filter) {
		req.Filter = packp.FilterTreeDepth(0)
		use = append(use, capability.Filter)
	}
	for _, name := range use {
		if !refs.Capabilities.Supports(name) {
			continue
		}
		if err := req.Capabilities.Set(name); err != nil {
			return nil, err
		}
	}
	resp, err := s.UploadPack(ctx, req)
	if err != nil {
		return nil, err
	}
	defer resp.Close()
	return readAll(demultiplex(req.Capabilities, resp), c.MaxBytes)
}

// demultiplex takes the pack out of the channels that it shares with messages.
func demultiplex(caps *capability.List, r io.Reader) io.Reader {
	switch {
	case caps.Supports(capability.Sideband64k):
		return sideband.NewDemuxer(sideband.Sideband64k, r)
	case caps.Supports(capability.Sideband):
		return sideband.NewDemuxer(sideband.Sideband, r)
	}
	return r
}

func readAll(r io.Reader, most int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(data)) > most {
		err = errTooLarge
	}
	return data, err
}

// local finds the tip of a repository on this machine.
func (c GitConfig) local(known string) (point, error) {
	repo, err := git.PlainOpenWithOptions(c.URL, &git.PlainOpenOptions{EnableDotGitCommonDir: true})
	if err != nil {
		return point{}, err
	}
	name := plumbing.HEAD
	if c.Branch != "" {
		name = plumbing.NewBranchReferenceName(c.Branch)
	}
	ref, err := repo.Reference(name, true)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return point{}, fmt.Errorf("branch %q: %w", c.Branch, fleet.ErrNotFound)
	}
	if err != nil {
		return point{}, err
	}
	if ref.Hash().String() == known {
		return point{}, ErrUnchanged
	}
	return point{repo.Storer, ref.Hash()}, nil
}

// read reads the pool files of a commit.
func (c GitConfig) read(store storer.EncodedObjectStorer, commit rawCommit) (Set, error) {
	root, err := object.GetTree(store, commit.tree)
	if err != nil {
		return Set{}, fmt.Errorf("read tree of commit %s: %w", commit.id, err)
	}
	set, err := readTree(store, root, commit.id.String(), c.Path)
	if errors.Is(err, errHuge) {
		return Set{}, refused(commit.id.String(), "Repository too large", "The commit is refused unread: %s.", oneLine(err))
	}
	return set, err
}

// kindOfGit gives an error of a conversation one of fleet's kinds, and a hint.
func kindOfGit(ctx context.Context, err error) error {
	var unknownHost *knownhosts.KeyError
	var network net.Error
	switch {
	case errors.Is(err, fleet.ErrDenied), errors.Is(err, fleet.ErrNotFound),
		errors.Is(err, fleet.ErrUnavailable), errors.Is(err, fleet.ErrInvalid):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w: %w", context.Cause(ctx), err, fleet.ErrUnavailable)
	case errors.As(err, &unknownHost):
		return fmt.Errorf("%w: the server's host key is not in the known_hosts file: %w", err, fleet.ErrDenied)
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed):
		return fmt.Errorf("%w: check the token and what it may read: %w", oneLine(err), fleet.ErrDenied)
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return fmt.Errorf("%w (servers also say so when access is denied): %w", oneLine(err), fleet.ErrNotFound)
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return fmt.Errorf("%w: it has no commit yet: %w", err, fleet.ErrNotFound)
	case errors.Is(err, git.ErrRepositoryNotExists):
		return fmt.Errorf("%w: %w", err, fleet.ErrNotFound)
	case errors.As(err, &network):
		return fmt.Errorf("%w: %w", err, fleet.ErrUnavailable)
	}
	return fmt.Errorf("%w: %w", oneLine(err), fleet.ErrUnavailable)
}
