package pools

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// maxWalk bounds the commits that are looked at behind a tip.
const maxWalk = 20_000

// depths are how far back a server is asked for a branch's history, when the
// tip alone does not show that it follows the commit in force.
var depths = [...]int{50, 1000}

// succession is what stands between the commit in force and the tip.
type succession struct {
	forward bool        // the tip follows the commit in force
	whole   bool        // nothing is missing from the history that was looked at
	fresh   []rawCommit // the tip's ancestors, itself included, that are not of the one in force
}

// succeed looks at the history that store has.
func succeed(store storer.EncodedObjectStorer, tip, from plumbing.Hash) (succession, error) {
	old, oldWhole, err := ancestors(store, from, nil)
	if err != nil {
		return succession{}, err
	}
	found, whole, err := ancestors(store, tip, old)
	if err != nil {
		return succession{}, err
	}
	// When the one in force is not there, the tip's own history says it all.
	s := succession{whole: whole && (oldWhole || len(old) == 0)}
	for _, c := range found {
		s.fresh = append(s.fresh, c)
		for _, parent := range c.parents {
			s.forward = s.forward || parent == from
		}
	}
	return s, nil
}

// ancestors walks back from a commit, itself included, without those in stop.
// It is not whole when the store lacks some, as after a shallow fetch, or when
// they are too many.
func ancestors(store storer.EncodedObjectStorer, from plumbing.Hash, stop map[plumbing.Hash]rawCommit) (map[plumbing.Hash]rawCommit, bool, error) {
	found := map[plumbing.Hash]rawCommit{}
	queue, whole := []plumbing.Hash{from}, true
	for len(queue) > 0 {
		id := queue[0]
		queue = queue[1:]
		if _, known := found[id]; known {
			continue
		}
		if _, known := stop[id]; known {
			continue
		}
		if len(found) == maxWalk {
			return found, false, nil
		}
		c, err := readCommit(store, id)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			whole = false
			continue
		}
		if err != nil {
			return nil, false, err
		}
		found[id] = c
		queue = append(queue, c.parents...)
	}
	return found, whole, nil
}

// judge refuses a tip that does not follow the commit in force, or whose
// signatures do not verify. It returns who signed it.
func (r *repository) judge(ctx context.Context, store storer.EncodedObjectStorer, tip rawCommit, known Known, keys *trust) (string, error) {
	signer := ""
	if keys != nil {
		who, err := keys.judge(tip, time.Now())
		if err != nil {
			return "", unverified(tip, tip, err)
		}
		signer = who
	}
	from := plumbing.NewHash(r.inForce(known))
	strict := keys != nil && r.config.Verify.Mode == VerifyStrict
	switch {
	case from.IsZero() || from == tip.id: // nothing to follow
	case !strict && r.config.AllowRewrite:
	case len(tip.parents) == 1 && tip.parents[0] == from: // the usual commit
	default:
		return signer, r.follow(ctx, store, tip, from, keys)
	}
	return signer, nil
}

// inForce is the revision in force, if it is of this repository.
func (r *repository) inForce(known Known) string {
	if known.InForce.Origin != r.String() {
		return ""
	}
	return known.InForce.Revision
}

// follow judges by the history, of which more and more is asked for.
func (r *repository) follow(ctx context.Context, store storer.EncodedObjectStorer, tip rawCommit, from plumbing.Hash, keys *trust) error {
	verdict, whole, err := r.along(store, tip, from, keys)
	for _, depth := range depths {
		if err != nil || verdict == nil || whole || r.config.isLocal() {
			break
		}
		if store, err = r.config.history(ctx, tip.id, depth); err != nil {
			return err
		}
		verdict, whole, err = r.along(store, tip, from, keys)
	}
	if err != nil {
		return err
	}
	return verdict
}

// along judges by the history in store: nil when it is good. The verdict may
// change with more history unless it is whole.
func (r *repository) along(store storer.EncodedObjectStorer, tip rawCommit, from plumbing.Hash, keys *trust) (verdict error, whole bool, err error) {
	s, err := succeed(store, tip.id, from)
	if err != nil {
		return nil, false, err
	}
	if !s.forward && !r.config.AllowRewrite {
		return rewritten(tip, from, s.whole), s.whole, nil
	}
	if r.config.Verify.Mode != VerifyStrict {
		return nil, s.whole, nil
	}
	for _, c := range s.fresh {
		if _, err := keys.judge(c, time.Now()); err != nil {
			return unverified(tip, c, err), s.whole, nil
		}
	}
	return nil, s.whole, nil
}

func rewritten(tip rawCommit, from plumbing.Hash, whole bool) error {
	if !whole {
		return refused(tip.id.String(), "Commit does not follow",
			"The newest %d commits of the branch do not show that it follows %s, the commit in force. If it does, set allow_rewrite until it is in force.",
			depths[len(depths)-1], from)
	}
	return refused(tip.id.String(), "Branch rewritten",
		"The branch does not follow %s, the commit in force: it was force-pushed, or is another one now. Push a commit on top of that one, or set allow_rewrite.", from)
}

func unverified(tip, c rawCommit, why error) error {
	if c.id == tip.id {
		return refused(tip.id.String(), "Commit not verified", "%s.", sentence(why))
	}
	return refused(tip.id.String(), "Commit not verified", "Of commit %s, which came with it: %s.", c.id, why)
}

// sentence begins with a capital.
func sentence(err error) string {
	text := err.Error()
	return fmt.Sprintf("%c%s", text[0]-'a'+'A', text[1:])
}
