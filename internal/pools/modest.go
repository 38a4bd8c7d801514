package pools

import (
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// modest is a store that gives no large object: go-git reads each whole into
// memory, and makes more of a tree than it weighs, whatever is wanted of it. What
// a server sends is bounded as a whole; a repository on this machine is not.
type modest struct {
	storer.EncodedObjectStorer
	most int64 // bytes
}

var errHuge = errors.New("which is more than")

// EncodedObject implements storer.EncodedObjectStorer.
func (m modest) EncodedObject(kind plumbing.ObjectType, id plumbing.Hash) (plumbing.EncodedObject, error) {
	size, err := m.EncodedObjectSize(id) // from its header
	if err == nil && size > m.most {
		err = fmt.Errorf("its object %s has %d bytes, %w %d", id, size, errHuge, m.most)
	}
	if err != nil {
		return nil, err
	}
	return m.EncodedObjectStorer.EncodedObject(kind, id)
}
