package pools

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// inForce makes what is known after set came into force.
func inForce(set Set) Known { return Known{Read: set.Revision, InForce: set} }

// load loads what must be good.
func load(t *testing.T, c GitConfig, known Known) Set {
	t.Helper()
	set, err := Git(c).Load(t.Context(), known)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// message puts a commit with a message on main.
func (r *testRepo) message(text string, tree plumbing.Hash, parents ...plumbing.Hash) plumbing.Hash {
	r.Helper()
	who := object.Signature{Name: "a", Email: "a@example.com", When: time.Unix(1_700_000_000, 0)}
	id := r.store((&object.Commit{Author: who, Committer: who, Message: text, TreeHash: tree, ParentHashes: parents}).Encode)
	r.must(r.repo.Storer.SetReference(plumbing.NewHashReference("refs/heads/main", id)))
	return id
}

func TestBranchMustFollowTheCommitInForce(t *testing.T) {
	transports(t, func(t *testing.T, r *testRepo, c GitConfig) {
		first := r.commit("main", r.files(minimal("3")))
		known := inForce(load(t, c, Known{}))
		tip := r.commit("main", r.files(minimal("4")), first)
		load(t, c, known)
		side := r.message("side", r.files(minimal("5")), first)
		r.message("merge", r.files(minimal("6")), tip, side)
		load(t, c, known)
		r.message("merge the other way", r.files(minimal("7")), side, tip)
		load(t, c, known)
		for i := range 60 { // a daemon that was off for long
			tip = r.message(fmt.Sprint(i), r.files(minimal("8")), tip)
		}
		known = inForce(load(t, c, known))

		for name, tip := range map[string]plumbing.Hash{
			"unrelated": r.message("unrelated", r.files(minimal("9"))),
			"older":     first,
			"aside":     r.message("aside", r.files(minimal("9")), first),
		} {
			r.must(r.repo.Storer.SetReference(plumbing.NewHashReference("refs/heads/main", tip)))
			_, why := ruling(t, c, known)
			if !strings.Contains(why, "Branch rewritten") || !strings.Contains(why, known.Read) {
				t.Errorf("%s: refused because %q", name, why)
			}
			lax := c
			lax.AllowRewrite = true
			if got := load(t, lax, known).Revision; got != tip.String() {
				t.Errorf("%s, allowed: got %s, want %s", name, got, tip)
			}
			elsewhere := known
			elsewhere.InForce.Origin = "git of another place"
			load(t, c, elsewhere)
		}
	})
}

func TestStrictVerifiesEveryCommit(t *testing.T) {
	s := newSigner(t, "ssh-keygen")
	file, public := s.sshKey("-t", "ed25519")
	first := s.signed("first", byKey(file), minimal("1"))
	for name, c := range map[string]GitConfig{
		"local": {URL: s.dir, Branch: "main", Path: "pools"}, "http": s.overHTTP(), "ssh": s.overSSH(),
	} {
		t.Run(name, func(t *testing.T) {
			s.must(s.repo.Storer.SetReference(plumbing.NewHashReference("refs/heads/main", first)))
			c.Verify = allow(t, "jane "+public)
			c.Verify.Mode = VerifyStrict
			known := inForce(load(t, c, Known{}))

			second := s.signed("second", byKey(file), minimal("2"), first)
			s.signed("third", byKey(file), minimal("3"), second)
			if set := load(t, c, known); set.Signer != "jane" {
				t.Errorf("three signed commits: got signer %q", set.Signer)
			}
			unsigned := s.message("unsigned", s.files(minimal("4")), second)
			s.signed("signed on top", byKey(file), minimal("5"), unsigned)
			if _, why := ruling(t, c, known); !strings.Contains(why, "Of commit "+unsigned.String()) {
				t.Errorf("unsigned commit below: refused because %q", why)
			}
			side := s.message("side", s.files(minimal("6")), first)
			s.signed("merge", byKey(file), minimal("7"), second, side)
			if _, why := ruling(t, c, known); !strings.Contains(why, "Of commit "+side.String()) {
				t.Errorf("unsigned side branch: refused because %q", why)
			}
			c.Verify.Mode = VerifyHead
			if set := load(t, c, known); set.Signer != "jane" {
				t.Errorf("head alone: got signer %q", set.Signer)
			}
		})
	}
}

func TestMassRemovalNeedsItsNumberInTheMessage(t *testing.T) {
	many := func(n int) map[string]string {
		files := minimal("3")
		for i := range n {
			files[fmt.Sprintf("pools/p%d.hcl", i)] = fmt.Sprintf(
				"pool \"q%d\" {\n  labels = [\"l%d\"]\n  template = template.t\n  github {\n    org = \"acme\"\n  }\n  scale {\n    max = 1\n  }\n}\n", i, i)
		}
		return files
	}
	transports(t, func(t *testing.T, r *testRepo, c GitConfig) {
		first := r.commit("main", r.files(many(3)))
		known := inForce(load(t, c, Known{}))
		r.message("half", r.files(many(1)), first)
		load(t, c, known)
		for message, want := range map[string]string{
			"gone":                             `takes away 3 of 4 pools: q0, q1, q2.`,
			"gone\n\nDayfly-Remove-Pools: 2\n": `"Dayfly-Remove-Pools: 3"`,
			"gone\n\nDayfly-Remove-Pools: 3\n\nmore text":                            `"Dayfly-Remove-Pools: 3"`,
			"gone\n\nDayfly-Remove-Pools: 3\n":                                       "",
			"gone\n\nbody\n\nSigned-off-by: a <a@b>\ndayfly-remove-pools: 3\nX: y\n": "",
		} {
			r.message(message, r.files(many(0)), first)
			if _, why := ruling(t, c, known); (why == "") != (want == "") || !strings.Contains(why, want) {
				t.Errorf("%q: refused because %q, want %q", message, why, want)
			}
		}
	})
}

func TestPushesConcernTheirOwnRepository(t *testing.T) {
	for _, test := range []struct {
		url, branch, repo, ref string
		want                   bool
	}{
		{"https://github.com/acme/pools.git", "main", "Acme/pools", "refs/heads/main", true},
		{"https://github.com/acme/pools", "", "acme/pools", "refs/heads/any", true},
		{"git@github.com:acme/pools.git", "main", "acme/pools", "refs/heads/main", true},
		{"git@github.com:acme/pools.git", "main", "acme/pools", "refs/heads/other", false},
		{"git@github.com:acme/pools.git", "main", "acme/app", "refs/heads/main", false},
		{"/srv/pools.git", "main", "acme/pools", "refs/heads/main", true},
	} {
		got := Git(GitConfig{URL: test.url, Branch: test.branch}).Concerns(test.repo, test.ref)
		if got != test.want {
			t.Errorf("%s %s, push to %s %s: got %v", test.url, test.branch, test.repo, test.ref, got)
		}
	}
	if Dir("/srv/pools").Concerns("acme/pools", "refs/heads/main") {
		t.Error("a push concerns a directory")
	}
}

func TestStoredSetsKeepWhereTheyAreFrom(t *testing.T) {
	r := newRepo(t)
	r.commit("main", r.files(minimal("3")))
	set := load(t, GitConfig{URL: r.dir, Path: "pools"}, Known{})
	set.Signer = "jane"
	got, err := Decode(Encode(set))
	if err != nil || got.Origin != set.Origin || got.Signer != "jane" || got.Revision != set.Revision {
		t.Errorf("got %v, %+v, want %+v", err, got, set)
	}
	if got.Origin == "" || !errors.Is(func() error {
		_, err := Git(GitConfig{URL: r.dir, Path: "pools"}).Load(t.Context(), inForce(got))
		return err
	}(), ErrUnchanged) {
		t.Error("the stored revision is not known")
	}
}
