package pools

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// transports run a test over each way to a repository.
func transports(t *testing.T, test func(t *testing.T, r *testRepo, c GitConfig)) {
	for name, open := range map[string]func(*testRepo) GitConfig{
		"local": func(r *testRepo) GitConfig { return GitConfig{URL: r.dir, Branch: "main", Path: "pools"} },
		"http":  (*testRepo).overHTTP,
		"ssh":   (*testRepo).overSSH,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			test(t, r, open(r))
		})
	}
}

func TestCommitsAreReadAsTheyCome(t *testing.T) {
	transports(t, func(t *testing.T, r *testRepo, c GitConfig) {
		first := r.commit("main", r.files(minimal("3")))
		source := Git(c)
		set, err := source.Load(t.Context(), Known{})
		if err != nil {
			t.Fatal(err)
		}
		if set.Revision != first.String() || set.Desired.Pools[0].Max != 3 || len(set.Files["main.hcl"]) == 0 {
			t.Errorf("got revision %s, %+v", set.Revision, set.Desired)
		}
		if _, err := source.Load(t.Context(), Known{Read: set.Revision}); !errors.Is(err, ErrUnchanged) {
			t.Errorf("known revision: got %v, want ErrUnchanged", err)
		}
		second := r.commit("main", r.files(minimal("4")), first)
		if set, err = source.Load(t.Context(), Known{Read: set.Revision}); err != nil || set.Revision != second.String() || set.Desired.Pools[0].Max != 4 {
			t.Errorf("second commit: got %v, %+v", err, set)
		}
		// A force push to a commit that shares nothing with what was seen.
		forced := r.commit("main", r.files(minimal("5")))
		if set, err = source.Load(t.Context(), Known{Read: set.Revision}); err != nil || set.Revision != forced.String() || set.Desired.Pools[0].Max != 5 {
			t.Errorf("force push: got %v, %+v", err, set)
		}
	})
}

func TestDefaultBranchAndTopDirectory(t *testing.T) {
	transports(t, func(t *testing.T, r *testRepo, c GitConfig) {
		r.commit("other", r.files(minimal("1")))
		r.commit("main", r.files(map[string]string{"top.hcl": minimal("7")["pools/main.hcl"]}))
		c.Branch, c.Path = "", ""
		set, err := Git(c).Load(t.Context(), Known{})
		if err != nil || set.Desired.Pools[0].Max != 7 {
			t.Errorf("got %v, %+v", err, set.Desired)
		}
	})
}

func TestRefusedCommitsAreInvalidWithTheirRevision(t *testing.T) {
	many := map[string]string{}
	for i := range 300 {
		many[fmt.Sprintf("pools/%d.hcl", i)] = "\n"
	}
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"empty tree":   {nil, "Path not found"},
		"missing path": {map[string]string{"elsewhere/a.hcl": ""}, "Path not found"},
		"a file":       {map[string]string{"pools": ""}, "Path not found"},
		"no files":     {map[string]string{"pools/README.md": ""}, "No pool files"},
		"bad file":     {map[string]string{"pools/a.hcl": "pool {"}, "a.hcl:1,6"},
		"huge file":    {map[string]string{"pools/a.hcl": strings.Repeat("# comment\n", 400_000)}, "Pool file too large"},
		"many files":   {many, "Too many files"},
	} {
		t.Run(name, func(t *testing.T) {
			transports(t, func(t *testing.T, r *testRepo, c GitConfig) {
				tip := r.commit("main", r.files(test.files))
				_, err := Git(c).Load(t.Context(), Known{})
				var invalid *Invalid
				if !errors.As(err, &invalid) || invalid.Revision != tip.String() || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("got %v, want Invalid of %s with %q", err, tip, test.want)
				}
				if !errors.Is(err, fleet.ErrInvalid) {
					t.Error("it is not a fleet.ErrInvalid")
				}
				if _, err := Git(c).Load(t.Context(), Known{Read: invalid.Revision}); !errors.Is(err, ErrUnchanged) {
					t.Errorf("the refused revision again: got %v, want ErrUnchanged", err)
				}
			})
		})
	}
}

func TestOnlyRegularPoolFilesAreRead(t *testing.T) {
	transports(t, func(t *testing.T, r *testRepo, c GitConfig) {
		good := r.blob(minimal("3")["pools/main.hcl"])
		bad := r.blob("this is no pool file")
		hiddenDir := r.tree(object.TreeEntry{Name: "a.hcl", Mode: filemode.Regular, Hash: bad})
		below := r.tree(
			object.TreeEntry{Name: ".hidden.hcl", Mode: filemode.Regular, Hash: bad},
			object.TreeEntry{Name: ".terraform", Mode: filemode.Dir, Hash: hiddenDir},
			object.TreeEntry{Name: "good.hcl", Mode: filemode.Executable, Hash: good},
			object.TreeEntry{Name: "link.hcl", Mode: filemode.Symlink, Hash: r.blob("/etc/passwd")},
			object.TreeEntry{Name: "notes.txt", Mode: filemode.Regular, Hash: bad},
		)
		r.commit("main", r.tree(object.TreeEntry{Name: "pools", Mode: filemode.Dir, Hash: below}))
		set, err := Git(c).Load(t.Context(), Known{})
		if err != nil || len(set.Files) != 1 || set.Desired.Pools[0].Max != 3 {
			t.Fatalf("got %v, files %v", err, sortedKeys(set.Files))
		}
		if got := set.Warnings.Report(); got.WarningCount != 1 || !strings.Contains(got.Diagnostics[0].Detail, "link.hcl") {
			t.Errorf("warnings %+v, want one about link.hcl", got)
		}
	})
}

func TestTenThousandOtherFilesDoNoHarm(t *testing.T) {
	r := newRepo(t)
	files := minimal("3")
	for i := range 10_000 {
		files[fmt.Sprintf("pools/docs/%d.md", i)] = "same"
	}
	r.commit("main", r.files(files))
	set, err := Git(r.overHTTP()).Load(t.Context(), Known{})
	if err != nil || len(set.Files) != 1 {
		t.Errorf("got %v, %d files", err, len(set.Files))
	}
}

// TestTreeThatContainsItselfManyTimesIsRefused is the "git bomb": ten entries
// a level, each the same tree, ten levels deep.
func TestTreeThatContainsItselfManyTimesIsRefused(t *testing.T) {
	r := newRepo(t)
	tree := r.files(map[string]string{"a.txt": ""})
	for range 10 {
		var entries []object.TreeEntry
		for i := range 10 {
			entries = append(entries, object.TreeEntry{Name: fmt.Sprintf("d%d", i), Mode: filemode.Dir, Hash: tree})
		}
		tree = r.tree(entries...)
	}
	r.commit("main", tree)
	_, err := Git(GitConfig{URL: r.dir}).Load(t.Context(), Known{})
	var invalid *Invalid
	if !errors.As(err, &invalid) || !strings.Contains(err.Error(), "Too many files") {
		t.Errorf("got %v, want Invalid", err)
	}
}

func TestAbsentThingsAreNotFound(t *testing.T) {
	transports(t, func(t *testing.T, r *testRepo, c GitConfig) {
		if _, err := Git(c).Load(t.Context(), Known{}); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("repository without a commit: got %v", err)
		}
		r.commit("main", r.files(minimal("3")))
		c.Branch = "gone"
		if _, err := Git(c).Load(t.Context(), Known{}); !errors.Is(err, fleet.ErrNotFound) || !strings.Contains(err.Error(), `"gone"`) {
			t.Errorf("missing branch: got %v", err)
		}
		c.URL += "-gone"
		if _, err := Git(c).Load(t.Context(), Known{}); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("missing repository: got %v", err)
		}
	})
}

func TestWrongCredentialsAreDenied(t *testing.T) {
	r := newRepo(t)
	r.commit("main", r.files(minimal("3")))
	c := r.overHTTP()
	c.Token = fleet.NewSecret("wrong-token")
	_, err := Git(c).Load(t.Context(), Known{})
	if !errors.Is(err, fleet.ErrDenied) || strings.Contains(err.Error(), "wrong-token") || strings.Contains(err.Error(), "\n") {
		t.Errorf("wrong token: got %v", err)
	}
	c = r.overSSH()
	_, other := newKey(t)
	good := c.SSHKey
	c.SSHKey = writeFile(t, "other", 0o600, other)
	if _, err := Git(c).Load(t.Context(), Known{}); !errors.Is(err, fleet.ErrDenied) {
		t.Errorf("wrong key: got %v", err)
	}
	c.SSHKey = writeFile(t, "open", 0o644, other)
	if _, err := Git(c).Load(t.Context(), Known{}); !errors.Is(err, fleet.ErrDenied) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("key that others may read: got %v", err)
	}
	c.SSHKey = good
	stranger, _ := newKey(t)
	c.KnownHosts = writeFile(t, "known", 0o644, []byte("127.0.0.1 "+strings.TrimSpace(authorized(stranger))+"\n"))
	if _, err := Git(c).Load(t.Context(), Known{}); !errors.Is(err, fleet.ErrDenied) {
		t.Errorf("unknown host key: got %v", err)
	}
}

func TestUnreachableServersAreUnavailable(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := closed.Addr().String()
	closed.Close()
	_, key := newKey(t)
	files := GitConfig{SSHKey: writeFile(t, "key", 0o600, key), KnownHosts: writeFile(t, "known", 0o644, nil)}
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = w.Write([]byte(strings.Repeat("<html>", 10_000)))
	}))
	defer broken.Close()
	nonsense := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("hello, I am a wiki"))
	}))
	defer nonsense.Close()
	for _, c := range []GitConfig{
		{URL: "https://" + gone + "/x.git"},
		{URL: "ssh://git@" + gone + "/x.git", SSHKey: files.SSHKey, KnownHosts: files.KnownHosts},
		{URL: broken.URL + "/x.git"},
		{URL: nonsense.URL + "/x.git"},
	} {
		_, err := Git(c).Load(t.Context(), Known{})
		if !errors.Is(err, fleet.ErrUnavailable) || len(err.Error()) > 600 {
			t.Errorf("%s: got %v, want ErrUnavailable in a line", c.URL, err)
		}
	}
}

// TestSilentServersEndAtTheDeadline is about servers that accept and then say
// nothing, which no dial timeout catches.
func TestSilentServersEndAtTheDeadline(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	addr := serve(t, func(net.Conn) { <-ctx.Done() })
	_, key := newKey(t)
	for _, c := range []GitConfig{
		{URL: "http://" + addr + "/x.git"},
		{URL: "ssh://git@" + addr + "/x.git", SSHKey: writeFile(t, "key", 0o600, key), KnownHosts: writeFile(t, "known", 0o644, nil)},
	} {
		c.Timeout = 50 * time.Millisecond
		start := time.Now()
		_, err := Git(c).Load(t.Context(), Known{})
		if !errors.Is(err, fleet.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want ErrUnavailable and DeadlineExceeded", c.URL, err)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: took %s", c.URL, took)
		}
	}
	cancel()
}

func TestAnswersAreBounded(t *testing.T) {
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		line := "003e0000000000000000000000000000000000000000 refs/heads/xxxxxx\n"
		_, _ = w.Write([]byte("001e# service=git-upload-pack\n0000"))
		for {
			if _, err := w.Write([]byte(strings.Repeat(line, 1000))); err != nil {
				return
			}
		}
	}))
	defer endless.Close()
	_, err := Git(GitConfig{URL: endless.URL, MaxBytes: 1 << 20}).Load(t.Context(), Known{})
	if !errors.Is(err, fleet.ErrUnavailable) {
		t.Errorf("endless references: got %v", err)
	}
	transports(t, func(t *testing.T, r *testRepo, c GitConfig) {
		if c.Token.Empty() && c.SSHKey == "" {
			return // nothing is transferred
		}
		noise := make([]byte, 200_000)
		for i := range noise {
			noise[i] = byte(i * i * 7919 >> (i % 13)) // hard to compress
		}
		tip := r.commit("main", r.files(map[string]string{"big": string(noise)}))
		c.MaxBytes = 10_000
		_, err := Git(c).Load(t.Context(), Known{})
		var invalid *Invalid
		if !errors.As(err, &invalid) || invalid.Revision != tip.String() || !strings.Contains(err.Error(), "repository of their own") {
			t.Errorf("got %v, want Invalid of %s", err, tip)
		}
	})
}

func TestInflatingPacksAreRefused(t *testing.T) {
	r := newRepo(t)
	files := minimal("3")
	files["zeros"] = strings.Repeat("\x00", maxInflated+1)
	tip := r.commit("main", r.files(files))
	_, err := Git(r.overHTTP()).Load(t.Context(), Known{})
	var invalid *Invalid
	if !errors.As(err, &invalid) || invalid.Revision != tip.String() || !strings.Contains(err.Error(), "Repository refused") {
		t.Errorf("got %v, want Invalid of %s", err, tip)
	}
}

func TestConfigurationsAreChecked(t *testing.T) {
	key, hosts, token := "/k", "/h", fleet.NewSecret("t")
	for _, test := range []struct {
		c    GitConfig
		want string // empty: good
	}{
		{GitConfig{URL: "https://github.com/acme/pools.git", Token: token}, ""},
		{GitConfig{URL: "https://github.com/acme/pools.git"}, ""},
		{GitConfig{URL: "http://git.lan/pools.git"}, ""},
		{GitConfig{URL: "/srv/pools.git", Branch: "main", Path: "a/b"}, ""},
		{GitConfig{URL: "git@github.com:acme/pools.git", SSHKey: key, KnownHosts: hosts}, ""},
		{GitConfig{URL: "ssh://git@git.lan:2222/pools.git", SSHKey: key, KnownHosts: hosts}, ""},
		{GitConfig{URL: "http://git.lan/pools.git", Token: token}, "must not travel over http"},
		{GitConfig{URL: "https://user:pa55@git.lan/pools.git"}, "contains credentials"},
		{GitConfig{URL: "https://ghp_pa55@git.lan/pools.git"}, "contains credentials"},
		{GitConfig{URL: "ssh://git:pa55@git.lan/pools.git"}, "contains credentials"},
		{GitConfig{URL: "file:///srv/pools.git"}, "absolute path alone"},
		{GitConfig{URL: "git://git.lan/pools.git"}, "use https:// or ssh://"},
		{GitConfig{URL: "git@github.com:acme/pools.git", KnownHosts: hosts}, "private key"},
		{GitConfig{URL: "git@github.com:acme/pools.git", SSHKey: key}, "never trusted on first use"},
		{GitConfig{URL: "git@github.com:acme/pools.git", SSHKey: key, KnownHosts: hosts, Token: token}, "no use for a token"},
		{GitConfig{URL: "https://git.lan/pools.git", SSHKey: key}, "no use for the credentials"},
		{GitConfig{URL: "/srv/pools.git", Token: token}, "no use for the credentials"},
		{GitConfig{URL: "pools.git"}, "is expected"},
		{GitConfig{URL: ""}, "is expected"},
		{GitConfig{URL: "https://"}, "is expected"},
		{GitConfig{URL: "ext::sh -c whoami"}, "is expected"},
		{GitConfig{URL: "https://git.lan/\x00"}, "cannot be read"},
		{GitConfig{URL: "/srv/pools.git", Branch: "--upload-pack=x"}, "not the name of a branch"},
		{GitConfig{URL: "/srv/pools.git", Branch: "a b"}, "not the name of a branch"},
		{GitConfig{URL: "/srv/pools.git", Path: "/etc"}, "must be relative"},
		{GitConfig{URL: "/srv/pools.git", Path: "../x"}, "must be relative"},
	} {
		err := test.c.Validate()
		if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: got %v, want %q", test.c, err, test.want)
		}
		if err != nil && (!errors.Is(err, fleet.ErrInvalid) || strings.Contains(err.Error(), "pa55")) {
			t.Errorf("%+v: error %v is not ErrInvalid, or has the password", test.c, err)
		}
		if strings.Contains(Git(test.c).String(), "pa55") {
			t.Errorf("String has the password: %s", Git(test.c))
		}
	}
}

func TestCorruptLocalRepositoryIsAnError(t *testing.T) {
	r := newRepo(t)
	r.commit("main", plumbing.NewHash("0123456789012345678901234567890123456789"))
	if _, err := Git(GitConfig{URL: r.dir}).Load(t.Context(), Known{}); err == nil {
		t.Error("a commit without its tree was read")
	}
	if err := os.WriteFile(r.dir+"/HEAD", []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Git(GitConfig{URL: r.dir}).Load(t.Context(), Known{}); err == nil {
		t.Error("a repository with a broken HEAD was read")
	}
}

func TestAnyRevisionCanBeReadAhead(t *testing.T) {
	transports(t, func(t *testing.T, r *testRepo, c GitConfig) {
		first := r.commit("main", r.files(minimal("3")))
		topic := r.commit("topic/one", r.files(minimal("4")), first)
		r.must(r.repo.Storer.SetReference(plumbing.NewHashReference("refs/pull/7/head", topic)))
		r.must(r.repo.Storer.SetReference(plumbing.NewHashReference("refs/tags/v1", first)))
		c.Verify = allow(t) // a preview asks for no signature
		for revision, want := range map[string]plumbing.Hash{
			"main": first, "topic/one": topic, "refs/pull/7/head": topic, "v1": first, topic.String(): topic,
		} {
			set, err := Git(c).At(t.Context(), revision)
			if err != nil || set.Revision != want.String() || set.Signer != "" || len(set.Desired.Pools) != 1 {
				t.Errorf("%s: got %v, revision %s, want %s", revision, err, set.Revision, want)
			}
		}
		if _, err := Git(c).At(t.Context(), "gone"); !errors.Is(err, fleet.ErrNotFound) {
			t.Errorf("unknown branch: got %v, want ErrNotFound", err)
		}
		for _, odd := range []string{"", "a b", "--upload-pack=x", "a:b", "main~1"} {
			if _, err := Git(c).At(t.Context(), odd); err == nil {
				t.Errorf("%q was read", odd)
			}
		}
	})
	if _, err := Dir(t.TempDir()).At(t.Context(), "main"); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("a folder: got %v, want ErrInvalid", err)
	}
}
