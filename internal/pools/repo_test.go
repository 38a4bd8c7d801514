package pools

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"golang.org/x/crypto/ssh"
)

// testRepo is a bare repository on disk, written object by object, so that
// trees no git program would make are possible.
type testRepo struct {
	*testing.T
	dir  string
	repo *git.Repository
}

func newRepo(t *testing.T) *testRepo {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pools.git")
	repo, err := git.PlainInitWithOptions(dir, &git.PlainInitOptions{Bare: true,
		InitOptions: git.InitOptions{DefaultBranch: "refs/heads/main"}})
	if err != nil {
		t.Fatal(err)
	}
	return &testRepo{t, dir, repo}
}

func (r *testRepo) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *testRepo) store(encode func(plumbing.EncodedObject) error) plumbing.Hash {
	r.Helper()
	obj := r.repo.Storer.NewEncodedObject()
	r.must(encode(obj))
	hash, err := r.repo.Storer.SetEncodedObject(obj)
	r.must(err)
	return hash
}

func (r *testRepo) blob(text string) plumbing.Hash {
	r.Helper()
	return r.store(func(o plumbing.EncodedObject) error {
		o.SetType(plumbing.BlobObject)
		w, err := o.Writer()
		if err != nil {
			return err
		}
		defer w.Close()
		_, err = w.Write([]byte(text))
		return err
	})
}

func (r *testRepo) tree(entries ...object.TreeEntry) plumbing.Hash {
	r.Helper()
	return r.store((&object.Tree{Entries: entries}).Encode)
}

// rawTree makes a tree of entries whose names git itself might refuse, and
// which go-git's encoder does.
func (r *testRepo) rawTree(entries []object.TreeEntry) plumbing.Hash {
	r.Helper()
	slices.SortFunc(entries, func(a, b object.TreeEntry) int { return strings.Compare(a.Name, b.Name) })
	return r.store(func(o plumbing.EncodedObject) error {
		o.SetType(plumbing.TreeObject)
		w, err := o.Writer()
		if err != nil {
			return err
		}
		defer w.Close()
		for _, e := range entries {
			if _, err := fmt.Fprintf(w, "%o %s\x00%s", e.Mode, e.Name, e.Hash[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

// files makes a tree of files, by path.
func (r *testRepo) files(files map[string]string) plumbing.Hash {
	r.Helper()
	below := map[string]map[string]string{}
	entries := map[string]object.TreeEntry{}
	for path, text := range files {
		first, rest, deep := strings.Cut(path, "/")
		if !deep {
			entries[first] = object.TreeEntry{Name: first, Mode: filemode.Regular, Hash: r.blob(text)}
			continue
		}
		if below[first] == nil {
			below[first] = map[string]string{}
		}
		below[first][rest] = text
	}
	for name, sub := range below {
		entries[name] = object.TreeEntry{Name: name, Mode: filemode.Dir, Hash: r.files(sub)}
	}
	var sorted []object.TreeEntry
	for _, name := range sortedKeys(entries) {
		sorted = append(sorted, entries[name])
	}
	return r.tree(sorted...)
}

// commit puts a commit of tree on a branch and returns its id.
func (r *testRepo) commit(branch string, tree plumbing.Hash, parents ...plumbing.Hash) plumbing.Hash {
	r.Helper()
	who := object.Signature{Name: "a", Email: "a@example.com", When: time.Unix(1_700_000_000, 0)}
	hash := r.store((&object.Commit{Author: who, Committer: who, Message: "m", TreeHash: tree, ParentHashes: parents}).Encode)
	r.must(r.repo.Storer.SetReference(plumbing.NewHashReference(plumbing.NewBranchReferenceName(branch), hash)))
	return hash
}

// minimal is a valid configuration with one pool of the given size.
func minimal(max string) map[string]string {
	return map[string]string{"pools/main.hcl": `dayfly {
  schema = 1
}
template "t" {
  family = "f"
}
pool "p" {
  labels   = ["x"]
  template = template.t
  github {
    org = "acme"
  }
  scale {
    max = ` + max + `
  }
}
`}
}

func authorized(key ssh.Signer) string { return string(ssh.MarshalAuthorizedKey(key.PublicKey())) }

func writeFile(t *testing.T, name string, mode os.FileMode, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, data, mode); err != nil {
		t.Fatal(err)
	}
	return file
}
