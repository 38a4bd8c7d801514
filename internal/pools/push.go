package pools

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// receiver is one conversation with git-receive-pack.
// transport.ReceivePackSession of go-git is one.
type receiver interface {
	AdvertisedReferencesContext(context.Context) (*packp.AdvRefs, error)
	ReceivePack(context.Context, *packp.ReferenceUpdateRequest) (*packp.ReportStatus, error)
	Close() error
}

// push sends the fresh objects and moves a branch to the first of them.
func (c GitConfig) push(ctx context.Context, b base, to string, fresh []plumbing.Hash) error {
	name, old := b.branch, b.commit
	if to != "" {
		name, old = plumbing.NewBranchReferenceName(to), plumbing.ZeroHash
	}
	if b.local != nil {
		return b.moveLocal(name, old, fresh[0])
	}
	ep, err := transport.NewEndpoint(c.URL)
	if err != nil {
		return err
	}
	r, err := c.receiver(ctx, ep)
	if err != nil {
		return err
	}
	defer r.Close()
	refs, err := r.AdvertisedReferencesContext(ctx)
	if err != nil {
		return err
	}
	there := refs.References[name.String()]
	if to != "" {
		old = there // a branch of our own is moved from wherever it is
	}
	if there != old {
		return errMoved
	}
	req := packp.NewReferenceUpdateRequestFromCapabilities(refs.Capabilities)
	req.Commands = []*packp.Command{{Name: name, Old: old, New: fresh[0]}}
	var pack bytes.Buffer
	if _, err := packfile.NewEncoder(&pack, b.store, false).Encode(fresh, 0); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	req.Packfile = io.NopCloser(&pack)
	report, err := r.ReceivePack(ctx, req)
	return verdict(report, err)
}

func (c GitConfig) receiver(ctx context.Context, ep *transport.Endpoint) (receiver, error) {
	if ep.Protocol == "ssh" {
		return c.ssh(ctx, ep, transport.ReceivePackServiceName)
	}
	client, auth, err := c.httpClient(ctx)
	if err != nil {
		return nil, err
	}
	return client.NewReceivePackSession(ep, auth)
}

// races are git's words for a branch that is not where the pusher saw it
// (receive-pack.c, refs/files-backend.c). A hook's words are its own.
var races = []string{"failed to update ref", "cannot lock ref", "non-fast-forward", "fetch first", "stale info", "already exists"}

// verdict tells a branch that moved from one that may not be pushed to.
func verdict(report *packp.ReportStatus, err error) error {
	if report == nil {
		return err
	}
	for _, status := range report.CommandStatuses {
		text := strings.ToLower(status.Status)
		switch {
		case text == "ok":
		case slices.ContainsFunc(races, func(sign string) bool { return strings.Contains(text, sign) }):
			return fmt.Errorf("%w: %w", errMoved, oneLine(errors.New(status.Status)))
		default:
			return fmt.Errorf("the server refuses the push: %w: %w", oneLine(errors.New(status.Status)), fleet.ErrDenied)
		}
	}
	return err
}

// moveLocal moves a branch of a repository on this machine, where the fresh
// objects are already.
func (b base) moveLocal(name plumbing.ReferenceName, old, to plumbing.Hash) error {
	head, err := b.local.Storer.Reference(plumbing.HEAD)
	if err != nil {
		return err
	}
	if conf, err := b.local.Config(); err != nil || !conf.Core.IsBare && head.Target() == name {
		return fmt.Errorf("branch %q is checked out there, push to a bare repository: %w", name.Short(), fleet.ErrDenied)
	}
	var before *plumbing.Reference // nil: wherever it is
	if !old.IsZero() {
		before = plumbing.NewHashReference(name, old)
	}
	if err := b.local.Storer.CheckAndSetReference(plumbing.NewHashReference(name, to), before); err != nil {
		return fmt.Errorf("%w: %w", errMoved, err)
	}
	return nil
}
