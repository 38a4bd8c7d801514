package main

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// The secrets that a build can be given, beside the token for Proxmox.
const (
	rootPassword = "canary-root-password"
	nodePassword = "hunter2secret" // of attached
	gitToken     = "canary-git-token"
	hubToken     = "canary-hub-token"
	wrongSecret  = "canary-wrong-secret" // given in the place of one
)

// canaries are the secrets in all forms that they travel in.
func (w *world) canaries() []string {
	_, token, _ := strings.Cut(w.token, "=")
	basic := base64.StdEncoding.EncodeToString([]byte("x-access-token:" + gitToken))
	return []string{token, rootPassword, nodePassword, gitToken, hubToken, wrongSecret, basic, "PVE:root@pam:", "PRIVATE KEY-----"}
}

const poolFile = `dayfly {
  schema = 1
}

template "t" {
  family  = "one"
  version = "0.9.0-1" # by commit
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

// hosted is a pools repository behind https, which wants the token, and the API
// of its host: the settings of a promotion.
func (w *world) hosted() (settings string, show func(ref string) string) {
	w.Helper()
	work, bare := w.TempDir(), filepath.Join(w.TempDir(), "acme", "pools.git")
	git := func(args ...string) string {
		out, err := exec.Command("git", args...).CombinedOutput()
		if err != nil {
			w.Fatalf("git %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	if err := os.WriteFile(filepath.Join(work, "pools.hcl"), []byte(poolFile), 0o600); err != nil {
		w.Fatal(err)
	}
	git("-C", work, "init", "-q", "-b", "main")
	git("-C", work, "add", ".")
	git("-C", work, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "first")
	git("clone", "-q", "--bare", work, bare)
	backend := filepath.Join(strings.TrimSpace(git("--exec-path")), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		w.Skipf("needs git-http-backend: %v", err)
	}
	served := &cgi.Handler{Path: backend, Logger: log.New(io.Discard, "", 0), Stderr: io.Discard, Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(filepath.Dir(bare)),
		"GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", "GIT_CONFIG_KEY_1=http.receivepack", "GIT_CONFIG_VALUE_1=true"}}
	host := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != gitToken {
			rw.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(rw, "no", http.StatusUnauthorized)
			return
		}
		served.ServeHTTP(rw, r)
	}))
	w.Cleanup(host.Close)
	hub := httptest.NewServer(http.HandlerFunc(hub))
	w.Cleanup(hub.Close)
	ca := filepath.Join(w.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: host.Certificate().Raw}), 0o600); err != nil {
		w.Fatal(err)
	}
	settings = fmt.Sprintf("mode = \"pull_request\"\n    repository = \"%s/acme/pools.git\"\n    git_ca_file = %q\n    api_url = %q", host.URL, ca, hub.URL)
	return settings, func(ref string) string { return git("-C", bare, "show", ref+":pools.hcl") }
}

// hub is the API for pull requests.
func hub(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("Authorization") != "Bearer "+hubToken:
		http.Error(w, `{"message": "Bad credentials"}`, http.StatusUnauthorized)
	case r.Method == http.MethodGet:
		fmt.Fprint(w, "[]")
	default:
		fmt.Fprint(w, `{"number": 7, "html_url": "https://github.test/acme/pools/pull/7"}`)
	}
}

// asRoot has a source log in with the password of root@pam.
func (w *world) asRoot(text, password string) string {
	id, secret, _ := strings.Cut(w.token, "=")
	return strings.NewReplacer(fmt.Sprintf("username    = %q", id), `username    = "root@pam"`,
		fmt.Sprintf("token       = %q", secret), fmt.Sprintf("password    = %q", password)).Replace(text)
}

// spy is a provisioner that keeps what others on the machine can see while a
// build runs: the arguments of all processes, and the temporary files.
const spy = `
  provisioner "shell-local" {
    inline = ["cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' >arguments-$PACKER_BUILD_NAME; cp -r tmp kept-$PACKER_BUILD_NAME 2>/dev/null; true"]
  }
`

// spied runs packer in a folder for temporary files of its own, and looks for
// canaries in everything that it leaves but the template file itself.
func (w *world) spied(env ...string) (string, error) {
	w.Helper()
	if err := os.MkdirAll(filepath.Join(w.dir, "tmp"), 0o700); err != nil {
		w.Fatal(err)
	}
	cmd, out := w.packer("build", ".")
	cmd.Env = append(cmd.Env, append(env, "TMPDIR="+filepath.Join(w.dir, "tmp"))...)
	err := cmd.Run()
	texts := map[string]string{"output": out.String()}
	for _, c := range w.sim.Containers() {
		texts["configuration of a container"] += fmt.Sprint(c.Config)
	}
	for _, dir := range []string{w.dir, filepath.Dir(w.home.Plugins())} {
		walk := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || strings.HasPrefix(path, w.home.Plugins()) || filepath.Base(path) == "build.pkr.hcl" {
				return err
			}
			data, err := os.ReadFile(path)
			texts[path] = string(data)
			return err
		})
		if walk != nil {
			w.Fatal(walk)
		}
	}
	for what, text := range texts {
		for _, canary := range w.canaries() {
			if i := strings.Index(text, canary); i >= 0 {
				w.Errorf("%s shows %s: %.300s", what, canary, text[max(0, i-200):])
			}
		}
	}
	if log := texts[filepath.Join(w.dir, "packer.log")]; len(log) < 10_000 {
		w.Errorf("packer's log has %d bytes", len(log))
	}
	return out.String(), err
}

// TestGob is the whole of what a build can be, by gob, as Packer speaks it when
// any other plugin wants it; and nothing of it shows a secret.
func TestGob(t *testing.T) {
	g := newInside(t)
	g.sim.SetPassword("root@pam", rootPassword)
	settings, show := g.hosted()
	text := g.asRoot(g.source("one", g.attached()+`
  features {
    keyctl = true
  }
  smoke_test {
    commands = ["test -e /opt/words"]
  }
`), rootPassword)
	g.write(text, fmt.Sprintf(`
build {
  sources = ["source.dayfly-lxc.one"]
  provisioner "shell" {
    environment_vars = ["WORDS=two words"]
    inline           = ["printf '%%s' \"$WORDS\" >/opt/words"]
  }
  provisioner "shell-local" {
    inline = ["echo VMID=${build.TemplateVMID} FAMILY=${build.TemplateFamily}"]
  }
  %s
  post-processors {
    post-processor "manifest" {
      output = "manifest.json"
    }
    post-processor "dayfly-promote" {
    %s
    git_token    = %q
    github_token = %q
    }
  }
}
`, spy, settings, gitToken, hubToken))
	out, err := g.spied("PACKER_FORCE_GOB=1")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	g.count(1, 0)
	log, err := os.ReadFile(filepath.Join(g.dir, "packer.log"))
	if err != nil || strings.Contains(string(log), "Using protobuf") || !strings.Contains(string(log), "receiving ConfigSpec as gob") {
		t.Errorf("packer spoke protobuf, want gob (%v)", err)
	}
	for _, want := range []string{"VMID=100 FAMILY=one", "pull request: https://github.test/acme/pools/pull/7"} {
		if !strings.Contains(out, want) {
			t.Errorf("output has no %q:\n%s", want, out)
		}
	}
	if manifest, err := os.ReadFile(filepath.Join(g.dir, "manifest.json")); err != nil || !strings.Contains(string(manifest), `"artifact_id": "pve:one@1.0.0-1#100"`) {
		t.Errorf("manifest (%v) is %s", err, manifest)
	}
	if args, err := os.ReadFile(filepath.Join(g.dir, "arguments-one")); err != nil || !strings.Contains(string(args), "packer") {
		t.Errorf("the spy saw %.200q (%v)", args, err)
	}
	if kept, err := filepath.Glob(filepath.Join(g.dir, "kept-one", "*")); err != nil || len(kept) == 0 {
		t.Errorf("the spy saw no temporary file (%v)", err)
	}
	if got := g.root.Must("cat /opt/words"); got != "two words" {
		t.Errorf("the provisioner left %q", got)
	}
	if got, want := show("dayfly/promote-one"), strings.Replace(poolFile, "0.9.0-1", "1.0.0-1", 1); got != want {
		t.Errorf("the pull request's branch has\n%s", got)
	}
}

// TestFailuresShowNoSecret has each secret refused, and a provisioner fail,
// side by side.
func TestFailuresShowNoSecret(t *testing.T) {
	w := newWorld(t, pve.Config{Timing: pve.Timing{AuthDelay: -1}})
	w.sim.SetPassword("root@pam", rootPassword)
	settings, _ := w.hosted()
	node := w.shell(w.tools())
	none := `communicator = "none"` + "\n  "
	wrongToken := strings.Replace(w.source("token", none), strings.SplitN(w.token, "=", 2)[1], wrongSecret, 1)
	w.write(wrongToken, w.asRoot(w.source("password", none), wrongSecret), w.asRoot(w.source("provisioner", none), rootPassword),
		w.source("node", none+"features {\n    keyctl = true\n  }\n"+strings.Replace(node, nodePassword, wrongSecret, 1)),
		w.source("rights", none+"features {\n    keyctl = true\n  }\n"+node), w.source("git", none), w.source("hub", none), fmt.Sprintf(`
build {
  sources = ["source.dayfly-lxc.token", "source.dayfly-lxc.password", "source.dayfly-lxc.provisioner", "source.dayfly-lxc.node",
    "source.dayfly-lxc.rights", "source.dayfly-lxc.git", "source.dayfly-lxc.hub"]
  %s
  provisioner "shell-local" {
    only   = ["dayfly-lxc.provisioner"]
    inline = ["exit 7"]
  }
  post-processor "dayfly-promote" {
    only = ["dayfly-lxc.git"]
    %s
    git_token    = %q
    github_token = %q
  }
  post-processor "dayfly-promote" {
    only = ["dayfly-lxc.hub"]
    family = "one"
    %s
    git_token    = %q
    github_token = %q
  }
}
`, spy, settings, wrongSecret, hubToken, settings, gitToken, wrongSecret))
	out, err := w.spied()
	if err == nil {
		t.Error("the build succeeded")
	}
	for name, want := range map[string]string{
		"token": "does not know packer@pve!build or its secret", "password": "does not know root@pam or its secret", "provisioner": "exit status: 7",
		"node": "host_ssh: ", "rights": "set options as root on node pve", "git": "promote git@1.0.0-1: ", "hub": "look for its pull request: GitHub answers 401",
	} {
		if !strings.Contains(out, "--> dayfly-lxc."+name+": ") || !strings.Contains(out, want) {
			t.Errorf("%s: output has no %q\n%s", name, want, out)
		}
	}
	w.count(2, 0) // git and hub: a template stays whose promotion failed
}
