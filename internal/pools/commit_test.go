package pools

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

var committer = Author{Name: "packer", Email: "packer@example.com"}

// setMax is a change to the size of the one pool.
func setMax(from, to string) Change {
	return func(files map[string][]byte) (map[string][]byte, string, error) {
		old := string(files["main.hcl"])
		fresh := strings.Replace(old, "max = "+from, "max = "+to, 1)
		if fresh == old {
			return nil, "", nil
		}
		return map[string][]byte{"main.hcl": []byte(fresh)}, "pools: max " + to, nil
	}
}

// ways are the kinds of repositories that can be pushed to.
var ways = map[string]func(*testRepo) GitConfig{
	"http":  (*testRepo).overHTTP,
	"ssh":   (*testRepo).overSSH,
	"local": func(r *testRepo) GitConfig { return GitConfig{URL: r.dir, Branch: "main", Path: "pools"} },
}

func (r *testRepo) git(args ...string) string {
	r.Helper()
	cmd := exec.Command("git", append([]string{"-c", "safe.directory=*", "-C", r.dir}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.Fatalf("git %q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestCommitIsPushed(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			files := minimal("1")
			files["README"] = "not ours"
			first := r.commit("main", r.files(files))
			id, made, err := way(r).Commit(t.Context(), "", committer, setMax("1", "2"))
			if err != nil || !made {
				t.Fatalf("got %v, %v", made, err)
			}
			if got := r.git("rev-parse", "main", "main^"); got != id+"\n"+first.String() {
				t.Errorf("main and its parent are %q, want %s on %s", got, id, first)
			}
			if got := r.git("diff", "--stat=200", "main^", "main"); !strings.Contains(got, "pools/main.hcl | 2 +-") || !strings.Contains(got, "1 file changed") {
				t.Errorf("the commit changes\n%s", got)
			}
			if got := r.git("log", "-1", "--format=%an %ae %s", "main"); got != "packer packer@example.com pools: max 2" {
				t.Errorf("the commit says %q", got)
			}
			r.git("fsck", "--strict", "--no-dangling")
			again, made, err := way(r).Commit(t.Context(), "", committer, setMax("1", "2"))
			if err != nil || made || again != id {
				t.Errorf("nothing to change: got %s, %v, %v, want %s", again, made, err, id)
			}
		})
	}
}

func TestCommitsAtTheSameTimeAreAllKept(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			files := minimal("1")
			for _, other := range []string{"a", "b", "c"} {
				files["pools/"+other+".hcl"] = "# " + other + " 0\n"
			}
			r.commit("main", r.files(files))
			conf := way(r)
			var all sync.WaitGroup
			for _, other := range []string{"a", "b", "c"} {
				all.Go(func() {
					_, made, err := conf.Commit(t.Context(), "", committer, func(files map[string][]byte) (map[string][]byte, string, error) {
						name := other + ".hcl"
						return map[string][]byte{name: append(files[name], []byte("# more\n")...)}, "change " + other, nil
					})
					if err != nil || !made {
						t.Errorf("%s: got %v, %v", other, made, err)
					}
				})
			}
			all.Wait()
			if got := r.git("rev-list", "--count", "main"); got != "4" {
				t.Errorf("main has %s commits, want 4", got)
			}
			for _, other := range []string{"a", "b", "c"} {
				if got := r.git("show", "main:pools/"+other+".hcl"); got != "# "+other+" 0\n# more" {
					t.Errorf("%s is %q", other, got)
				}
			}
		})
	}
}

func TestCommitIsMadeAgainOnWhatSomebodyPushed(t *testing.T) {
	r := newRepo(t)
	r.commit("main", r.files(minimal("1")))
	var calls int
	var theirs plumbing.Hash
	id, made, err := r.overHTTP().Commit(t.Context(), "", committer, func(files map[string][]byte) (map[string][]byte, string, error) {
		if calls++; calls == 1 {
			tip := plumbing.NewHash(r.git("rev-parse", "main"))
			theirs = r.commit("main", r.files(minimal("7")), tip)
		}
		return setMax("7", "8")(map[string][]byte{"main.hcl": []byte(strings.Replace(string(files["main.hcl"]), "max = 1", "max = 7", 1))})
	})
	if err != nil || !made || calls != 2 {
		t.Fatalf("got %v, %v after %d calls", made, err, calls)
	}
	if got := r.git("rev-parse", "main", "main^"); got != id+"\n"+theirs.String() {
		t.Errorf("main is %q, want %s on %s", got, id, theirs)
	}
}

func TestCommitToAnotherBranch(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			first := r.commit("main", r.files(minimal("1")))
			for _, max := range []string{"2", "3"} { // made, then moved
				id, made, err := way(r).Commit(t.Context(), "dayfly/promote", committer, setMax("1", max))
				if err != nil || !made {
					t.Fatalf("got %v, %v", made, err)
				}
				if got := r.git("rev-parse", "main", "dayfly/promote", "dayfly/promote^"); got != first.String()+"\n"+id+"\n"+first.String() {
					t.Errorf("branches are %q", got)
				}
			}
		})
	}
}

func TestPushesThatAreRefused(t *testing.T) {
	r := newRepo(t)
	r.commit("main", r.files(minimal("1")))
	hook := "#!/bin/sh\necho no >&2\nexit 1\n"
	if err := os.MkdirAll(filepath.Join(r.dir, "hooks"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "hooks", "pre-receive"), []byte(hook), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, conf := range map[string]GitConfig{"http": r.overHTTP(), "ssh": r.overSSH()} {
		if _, _, err := conf.Commit(t.Context(), "", committer, setMax("1", "2")); !errors.Is(err, fleet.ErrDenied) || !strings.Contains(err.Error(), "hook declined") {
			t.Errorf("%s: got %v, want the hook's refusal", name, err)
		}
	}
	wrong := r.overHTTP()
	wrong.Token = fleet.NewSecret("canary")
	if _, _, err := wrong.Commit(t.Context(), "", committer, setMax("1", "2")); !errors.Is(err, fleet.ErrDenied) || strings.Contains(err.Error(), "canary") {
		t.Errorf("wrong token: got %v", err)
	}
	r.git("config", "core.bare", "false")
	local := GitConfig{URL: r.dir, Branch: "main", Path: "pools"}
	if _, _, err := local.Commit(t.Context(), "", committer, setMax("1", "2")); !errors.Is(err, fleet.ErrDenied) || !strings.Contains(err.Error(), "checked out") {
		t.Errorf("checked-out branch: got %v", err)
	}
}

func TestCommitIsNotRetriedForEver(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("interrupted")
	r := newRepo(t)
	tip := r.commit("main", r.files(minimal("1")))
	n := 0
	_, _, err := r.overHTTP().Commit(ctx, "", committer, func(map[string][]byte) (map[string][]byte, string, error) {
		if n++; n == 3 {
			cancel(stop)
		}
		tip = r.commit("main", r.files(minimal("1")), tip) // somebody is always faster
		return map[string][]byte{"main.hcl": []byte(minimal("2")["pools/main.hcl"])}, "m", nil
	})
	if !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
}
