package pools

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// rawCommit is a commit as its own bytes say. go-git's reading of a commit is
// not used for what a signature vouches for: it has differed from git's
// (CVE-2026-45022), and then one thing would be signed and another obeyed.
type rawCommit struct {
	id        plumbing.Hash
	tree      plumbing.Hash
	parents   []plumbing.Hash
	committed time.Time // by the committer's clock
	message   string
	signature []byte // armored; nil when there is none
	payload   []byte // what it signs
}

// maxCommit bounds a commit object: a message is no place for files.
const maxCommit = 1 << 20

var errMalformed = errors.New("it is not written as git writes commits")

// readCommit reads a commit from store; plumbing.ErrObjectNotFound when it is
// not there.
func readCommit(store storer.EncodedObjectStorer, id plumbing.Hash) (rawCommit, error) {
	obj, err := store.EncodedObject(plumbing.CommitObject, id)
	if err != nil {
		return rawCommit{}, fmt.Errorf("read commit %s: %w", id, err)
	}
	r, err := obj.Reader()
	if err != nil {
		return rawCommit{}, fmt.Errorf("read commit %s: %w", id, err)
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxCommit+1))
	if err != nil {
		return rawCommit{}, fmt.Errorf("read commit %s: %w", id, err)
	}
	c, err := parseCommit(text)
	if err != nil {
		return rawCommit{}, fmt.Errorf("read commit %s: %w: %w", id, err, fleet.ErrInvalid)
	}
	c.id = id
	return c, nil
}

var committerForm = regexp.MustCompile(`> (-?[0-9]{1,12}) [+-][0-9]{4}$`)

// parseCommit reads tree, parents, author and committer, in this order and
// nowhere else, and takes the signature out of the rest of the header.
func parseCommit(text []byte) (rawCommit, error) {
	header, message, ok := bytes.Cut(text, []byte("\n\n"))
	switch {
	case len(text) > maxCommit:
		return rawCommit{}, fmt.Errorf("it has more than %d bytes", maxCommit)
	case !ok:
		return rawCommit{}, errMalformed
	}
	c := rawCommit{message: string(message)}
	lines := bytes.Split(header, []byte("\n"))
	next := func(key string) (string, bool) {
		if len(lines) == 0 || !bytes.HasPrefix(lines[0], []byte(key+" ")) {
			return "", false
		}
		line := lines[0]
		lines = lines[1:]
		c.sign(line)
		return string(line[len(key)+1:]), true
	}
	tree, ok := next("tree")
	if !ok || !plumbing.IsHash(tree) {
		return rawCommit{}, errMalformed
	}
	c.tree = plumbing.NewHash(tree)
	for parent, ok := next("parent"); ok; parent, ok = next("parent") {
		if !plumbing.IsHash(parent) {
			return rawCommit{}, errMalformed
		}
		c.parents = append(c.parents, plumbing.NewHash(parent))
	}
	_, author := next("author")
	committer, _ := next("committer")
	when := committerForm.FindStringSubmatch(committer)
	if !author || when == nil {
		return rawCommit{}, errMalformed
	}
	seconds, _ := strconv.ParseInt(when[1], 10, 64) // at most twelve digits
	c.committed = time.Unix(seconds, 0).UTC()
	return c, c.rest(lines)
}

// sign adds a line of the header to what is signed.
func (c *rawCommit) sign(line []byte) { c.payload = append(append(c.payload, line...), '\n') }

// rest reads the last lines of the header, among them the signature, which
// signs the commit without itself (git's commit.c, parse_signed_commit).
func (c *rawCommit) rest(lines [][]byte) error {
	inside := false
	for _, line := range lines {
		key, value, _ := bytes.Cut(line, []byte(" "))
		switch {
		case len(key) == 0 && inside:
			c.signature = append(append(c.signature, value...), '\n')
			continue
		case string(key) == "gpgsig" && c.signature == nil:
			inside = true
			c.signature = append(bytes.Clone(value), '\n')
			continue
		case bytes.HasPrefix(key, []byte("gpgsig")):
			return errors.New("it has more than one signature")
		case string(key) == "tree" || string(key) == "parent":
			return errMalformed
		}
		inside = false
		c.sign(line)
	}
	c.payload = append(append(c.payload, '\n'), c.message...)
	return nil
}
