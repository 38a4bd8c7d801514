package promote

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
)

const poolFile = `dayfly {
  schema = 1
}

# pinned
template "t" {
  family  = "ubuntu-24.04"
  version = "1-1" # by commit
}

pool "p" {
  labels   = ["x"]
  template = template.t
  github {
    org = "acme"
  }
  scale {
    max = 1
  }
}
`

// artifact is that of a build, as it arrives from another process.
type artifact struct {
	packersdk.Artifact
	state any
}

func (a *artifact) Id() string       { return "pve:ubuntu-24.04@1-2#9001" }
func (a *artifact) State(string) any { return a.state }

var built = &artifact{state: map[any]any{"family": "ubuntu-24.04", "version": "1-2", "vmid": "9001"}}

// repository is a bare repository with the pool file in pools/.
type repository struct {
	*testing.T
	dir string
}

func newRepository(t *testing.T) repository { return repositoryOf(t, poolFile) }

func repositoryOf(t *testing.T, poolFile string) repository {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	for _, name := range []string{"DAYFLY_GIT_TOKEN", "GITHUB_TOKEN"} {
		t.Setenv(name, "")
	}
	work, bare := t.TempDir(), filepath.Join(t.TempDir(), "acme", "pools.git")
	r := repository{t, bare}
	if err := os.MkdirAll(filepath.Join(work, "pools"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, "pools", "main.hcl"), []byte(poolFile), 0o644); err != nil {
		t.Fatal(err)
	}
	r.run("-C", work, "init", "-q", "-b", "main")
	r.run("-C", work, "add", ".")
	r.run("-C", work, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "first")
	r.run("clone", "-q", "--bare", work, bare)
	return r
}

func (r repository) run(args ...string) string {
	r.Helper()
	out, err := exec.Command("git", args...).CombinedOutput()
	if err != nil {
		r.Fatalf("git %q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r repository) git(args ...string) string {
	return r.run(append([]string{"-C", r.dir}, args...)...)
}

// served is the repository over http, as a CI system's git server gives it.
func (r repository) served() string {
	r.Helper()
	backend := filepath.Join(r.run("--exec-path"), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		r.Skip("needs git-http-backend")
	}
	server := httptest.NewServer(&cgi.Handler{Path: backend, Logger: log.New(io.Discard, "", 0), Stderr: io.Discard, Env: []string{
		"GIT_PROJECT_ROOT=" + filepath.Dir(filepath.Dir(r.dir)), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=safe.directory",
		"GIT_CONFIG_VALUE_0=*", "GIT_CONFIG_KEY_1=http.receivepack", "GIT_CONFIG_VALUE_1=true"}})
	r.Cleanup(server.Close)
	return server.URL + "/acme/pools.git"
}

func promote(t *testing.T, a packersdk.Artifact, conf map[string]any) (said string, err error) {
	t.Helper()
	p := &PostProcessor{}
	if err := p.Configure(conf); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	ui := &packersdk.BasicUi{Reader: strings.NewReader(""), Writer: &out, ErrorWriter: &out}
	got, keep, force, err := p.PostProcess(t.Context(), ui, a)
	if !keep || !force || got != a {
		t.Errorf("the artifact is not kept: %v, %v, %v", got, keep, force)
	}
	return out.String(), err
}

func TestVersionIsCommittedAndPushed(t *testing.T) {
	r := newRepository(t)
	conf := map[string]any{"repository": r.served(), "path": "pools", "author_name": "Builder", "author_email": "b@example.com"}
	said, err := promote(t, built, conf)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	want := strings.Replace(poolFile, `"1-1"`, `"1-2"`, 1)
	if got := r.git("show", "main:pools/main.hcl") + "\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	message := "Builder <b@example.com>\nPromote ubuntu-24.04@1-2\n\nTemplates: t\nPools: p\nArtifact: pve:ubuntu-24.04@1-2#9001"
	if got := r.git("log", "-1", "--format=%an <%ae>%n%B", "main"); got != message {
		t.Errorf("the commit says\n%s\nwant\n%s", got, message)
	}
	if !strings.Contains(said, "sets template t, for pools: p") {
		t.Errorf("said %s", said)
	}
	before := r.git("rev-parse", "main")
	said, err = promote(t, built, conf)
	if err != nil || !strings.Contains(said, "nothing to change") || r.git("rev-parse", "main") != before {
		t.Errorf("second time: %v\n%s", err, said)
	}
}

func TestFailureKeepsTheArtifactAndSaysWhy(t *testing.T) {
	r := newRepository(t)
	for name, c := range map[string]struct {
		artifact packersdk.Artifact
		conf     map[string]any
		want     string
	}{
		"no such pool":   {built, map[string]any{"repository": r.dir, "path": "pools", "pools": []string{"q"}}, `promote ubuntu-24.04@1-2: commit to git ` + r.dir + ` branch main path pools: pool "q": there is none`},
		"no such branch": {built, map[string]any{"repository": r.dir, "branch": "prod"}, `branch "prod"`},
		"other artifact": {&artifact{}, map[string]any{"repository": r.dir}, "does not say which template it is: give family and version"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := promote(t, c.artifact, c.conf); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if said, err := promote(t, &artifact{}, map[string]any{"repository": r.dir, "path": "pools", "family": "ubuntu-24.04", "version": "9"}); err != nil {
		t.Errorf("an artifact of another builder, with family and version: %v\n%s", err, said)
	}
}

// hub is as much of GitHub as a pull request needs.
type hub struct {
	mu    sync.Mutex
	open  map[string]map[string]string // by head branch
	calls []string
}

func (h *hub) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, q.Method+" "+q.URL.Path)
	if q.Header.Get("Authorization") != "Bearer hub-canary" {
		w.Header().Set("X-Accepted-GitHub-Permissions", "pull_requests=write")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"message":"Resource not accessible by integration"}`)
		return
	}
	var sent map[string]string
	if q.Method != http.MethodGet {
		if err := json.NewDecoder(q.Body).Decode(&sent); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	answer := map[string]any{"number": 7, "html_url": "https://github.test/acme/pools/pull/7"}
	switch q.Method {
	case http.MethodGet:
		_, branch, _ := strings.Cut(q.URL.Query().Get("head"), ":")
		list := []any{}
		if h.open[branch] != nil {
			list = append(list, answer)
		}
		_ = json.NewEncoder(w).Encode(list)
		return
	case http.MethodPost:
		h.open[sent["head"]] = sent
		w.WriteHeader(http.StatusCreated)
	case http.MethodPatch:
		for _, p := range h.open {
			p["title"] = sent["title"]
		}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func TestPullRequestIsOpenedAndThenMoved(t *testing.T) {
	r := newRepository(t)
	h := &hub{open: map[string]map[string]string{}}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	before := r.git("rev-parse", "main")
	conf := map[string]any{"repository": r.served(), "path": "pools", "mode": "pull_request", "github_token": "hub-canary", "api_url": server.URL}
	for _, version := range []string{"1-2", "1-3"} {
		said, err := promote(t, &artifact{state: map[string]string{"family": "ubuntu-24.04", "version": version}}, conf)
		if err != nil || !strings.Contains(said, "pull request: https://github.test/acme/pools/pull/7") || strings.Contains(said, "canary") {
			t.Fatalf("%v\n%s", err, said)
		}
		got := h.open["dayfly/promote-ubuntu-24.04"]
		if got["title"] != "Promote ubuntu-24.04@"+version || got["base"] != "main" {
			t.Errorf("the pull request is %v", got)
		}
		if text := r.git("show", "dayfly/promote-ubuntu-24.04:pools/main.hcl"); !strings.Contains(text, `"`+version+`" # by commit`) {
			t.Errorf("its branch has\n%s", text)
		}
	}
	if got := r.git("rev-parse", "main"); got != before {
		t.Errorf("main was moved to %s", got)
	}
	if got := strings.Join(h.calls, " "); got != "GET /repos/acme/pools/pulls POST /repos/acme/pools/pulls GET /repos/acme/pools/pulls PATCH /repos/acme/pools/pulls/7" {
		t.Errorf("called %s", got)
	}
	conf["github_token"] = "wrong"
	if _, err := promote(t, built, conf); err == nil || !strings.Contains(err.Error(), "the token needs pull_requests=write") {
		t.Errorf("wrong token: got %v", err)
	}
}

// What follows the newest version takes one by itself, unless its constraint
// leaves it out.
func TestTruthIsToldOfWhatFollows(t *testing.T) {
	for version, want := range map[string]string{
		``:                       "template t follows the newest version, and takes 1-2 by itself if that is it",
		`version = ">= 1, < 2"`:  "template t follows the newest version, and takes 1-2 by itself if that is it",
		`version = ">= 2, != 3"`: "template t (>= 2, != 3) leaves 1-2 out, and does not take it",
	} {
		r := repositoryOf(t, strings.Replace(poolFile, `version = "1-1" # by commit`, version, 1))
		before := r.git("rev-parse", "main")
		said, err := promote(t, built, map[string]any{"repository": r.dir, "path": "pools"})
		if err != nil || !strings.Contains(said, "nothing to change at commit "+before[:12]) || !strings.Contains(said, want) || strings.Count(said, "template t") != 1 {
			t.Errorf("%s: got %v and %q, want %q", version, err, said, want)
		}
		if after := r.git("rev-parse", "main"); after != before {
			t.Errorf("%s: commit %s was made", version, after)
		}
	}
}

func TestAllConfigurationErrorsAtOnce(t *testing.T) {
	t.Setenv("GITHUB_TOKEN", "")
	t.Setenv("DAYFLY_GIT_TOKEN", "")
	err := (&PostProcessor{}).Configure(map[string]any{"repository": "ftp://x", "mode": "pull_request", "family": "a b", "version": "/",
		"commit_message": "a\nb", "author_name": "<", "author_email": "x", "pull_request_branch": "main", "api_url": "http://example.org", "git_timeout": "-1s", "path": "../up"})
	for _, field := range []string{
		"repository", "family", "version", "commit_message", "author_name", "author_email", "pull_request_branch", "github_repository",
		"github_token", "api_url", "git_timeout", "path",
	} {
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+field+": ") {
			t.Errorf("no error about %s in\n%v", field, err)
		}
	}
	if err := (&PostProcessor{}).Configure(map[string]any{"mode": "mail"}); err == nil || !strings.Contains(err.Error(), "repository: required") || !strings.Contains(err.Error(), "mode: ") {
		t.Errorf("got %v", err)
	}
}

func TestWhereThePullRequestGoes(t *testing.T) {
	for repository, want := range map[string]string{
		"https://github.com/acme/pools.git":       "acme/pools https://api.github.com",
		"git@github.com:acme/pools.git":           "acme/pools https://api.github.com",
		"ssh://git@git.example.org:22/acme/pools": "acme/pools https://git.example.org/api/v3",
	} {
		c := Config{GitHubToken: "abc"}
		c.Repository.Repository = repository
		if errs := c.github(); len(errs) > 0 || c.GitHubRepository+" "+c.APIURL != want {
			t.Errorf("%s: got %s %s, %v, want %s", repository, c.GitHubRepository, c.APIURL, errs, want)
		}
	}
}
