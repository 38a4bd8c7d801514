package pools

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// at finds a revision: a branch, a tag, any reference by its whole name, or a
// commit.
func (c GitConfig) at(ctx context.Context, revision string) (point, error) {
	if !branchForm.MatchString(revision) {
		return point{}, fmt.Errorf("%.80q is no revision: %w", revision, fleet.ErrInvalid)
	}
	if c.isLocal() {
		return c.localAt(revision)
	}
	s, err := c.connect(ctx)
	if err != nil {
		return point{}, err
	}
	defer s.Close()
	refs, err := s.AdvertisedReferencesContext(ctx)
	if err != nil {
		return point{}, err
	}
	id, err := named(refs, revision)
	if err != nil {
		return point{}, err
	}
	store, err := c.unpack(ctx, s, refs, part{tip: id, depth: 1})
	return point{store, id}, err
}

// named resolves a revision by what the server advertises. A commit that no
// reference points at may be asked for all the same: GitHub gives it.
func named(refs *packp.AdvRefs, revision string) (plumbing.Hash, error) {
	for _, prefix := range []string{"refs/heads/", "refs/tags/", ""} {
		if id, ok := refs.Peeled[prefix+revision]; ok {
			return id, nil
		}
		if id, ok := refs.References[prefix+revision]; ok {
			return id, nil
		}
	}
	if plumbing.IsHash(revision) {
		return plumbing.NewHash(revision), nil
	}
	return plumbing.ZeroHash, fmt.Errorf("revision %q: %w", revision, fleet.ErrNotFound)
}

func (c GitConfig) localAt(revision string) (point, error) {
	repo, err := git.PlainOpenWithOptions(c.URL, &git.PlainOpenOptions{EnableDotGitCommonDir: true})
	if err != nil {
		return point{}, err
	}
	id, err := repo.ResolveRevision(plumbing.Revision(revision))
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return point{}, fmt.Errorf("revision %q: %w", revision, fleet.ErrNotFound)
	}
	if err != nil {
		return point{}, fmt.Errorf("revision %q: %w: %w", revision, err, fleet.ErrInvalid)
	}
	return point{repo.Storer, *id}, nil
}
