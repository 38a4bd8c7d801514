package lxc

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
	"github.com/dayfly-ci/dayfly/test/schema"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if !testing.Verbose() {
		log.SetOutput(io.Discard) // the plugin's log, which Packer collects
	}
	m.Run()
}

// world is a simulated Proxmox behind HTTP, and the configuration of a build
// on it.
type world struct {
	*testing.T
	sim    *pve.Cluster
	server *httptest.Server
	conf   map[string]any
	out    bytes.Buffer // what the user sees
	hook   hook

	mu    sync.Mutex
	fault func(*http.Request) stage.Fault
	lines []string
}

// newer are parameters that Proxmox VE 8.4 does not have.
var newer = []string{"env", "entrypoint"}

func newWorld(t *testing.T, config pve.Config) *world {
	t.Helper()
	config.Timing.AuthDelay = cmp.Or(config.Timing.AuthDelay, -1)
	w := &world{T: t, sim: pve.New(config)}
	pve.Lab(w.sim)
	token := pve.LabBuilder(w.sim)
	sent := &schema.Recorder{}
	w.server = httptest.NewServer(sent.Watch(http.HandlerFunc(w.serve)))
	t.Cleanup(func() {
		w.server.Close()
		if schema.Available() && sent.Sent() {
			sent.Check(t, newer...)
		}
	})
	id, secret, _ := strings.Cut(token, "=")
	node := "pve"
	if len(config.Nodes) > 0 {
		node = config.Nodes[0]
	}
	w.conf = map[string]any{
		"proxmox_url": w.server.URL + "/api2/json", "username": id, "token": secret, "node": node, "pool": pve.LabTemplates,
		"ostemplate": pve.LabBase, "rootfs": map[string]any{"storage": pve.LabStorage, "size": "4G"},
		"network_adapters": []map[string]any{{"bridge": pve.LabBridge}},
		"template_family":  "debian-13", "template_version": "1.0.0-1", "communicator": "none", "template_commit": "0123abc",
		"cleanup_timeout": "5s",
	}
	for _, name := range []string{"PROXMOX_URL", "PROXMOX_USERNAME", "PROXMOX_PASSWORD", "PROXMOX_TOKEN"} {
		t.Setenv(name, "")
	}
	return w
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.lines = append(w.lines, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/api2/json"))
	fault := w.fault
	w.mu.Unlock()
	if fault == nil {
		w.sim.ServeHTTP(rw, r)
		return
	}
	stage.WithFaults(w.sim, &stage.Clock{}, fault).ServeHTTP(rw, r)
}

// on makes a fault happen to requests that match, n times.
func (w *world) on(pattern string, n int, f stage.Fault) {
	re := regexp.MustCompile("^" + pattern + "$")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = func(r *http.Request) stage.Fault {
		w.mu.Lock()
		defer w.mu.Unlock()
		if n <= 0 || !re.MatchString(r.Method+" "+strings.TrimPrefix(r.URL.Path, "/api2/json")) {
			return stage.Fault{}
		}
		n--
		return f
	}
}

// set changes the configuration; nil removes.
func (w *world) set(key string, value any) {
	if value == nil {
		delete(w.conf, key)
		return
	}
	w.conf[key] = value
}

// hook stands for the provisioners.
type hook struct {
	run func(context.Context, packersdk.Communicator) error
}

func (h *hook) Run(ctx context.Context, name string, _ packersdk.Ui, comm packersdk.Communicator, _ any) error {
	if h.run == nil || name != packersdk.HookProvision {
		return nil
	}
	return h.run(ctx, comm)
}

// build runs a whole build.
func (w *world) build(ctx context.Context) (*Artifact, error) {
	w.Helper()
	b := new(Builder)
	if _, _, err := b.Prepare(w.conf); err != nil {
		w.Fatalf("prepare: %v", err)
	}
	ui := &packersdk.BasicUi{Reader: strings.NewReader(""), Writer: &w.out, ErrorWriter: &w.out}
	a, err := b.Run(ctx, ui, &w.hook)
	if a == nil {
		return nil, err
	}
	return a.(*Artifact), err
}

func (w *world) mustBuild() *Artifact {
	w.Helper()
	a, err := w.build(w.Context())
	if err != nil {
		w.Fatalf("build: %v\n%s", err, w.out.String())
	}
	return a
}

// fails runs a build that must fail with that text, and leave nothing.
func (w *world) fails(want string) {
	w.Helper()
	before := len(w.sim.Containers())
	_, err := w.build(w.Context())
	switch {
	case err == nil:
		w.Errorf("build succeeded, want an error about %q", want)
	case !strings.Contains(err.Error(), want):
		w.Errorf("build failed with %q, want %q in it", err, want)
	}
	w.left(before)
}

// left checks how many containers there are.
func (w *world) left(want int) {
	w.Helper()
	if got := w.sim.Containers(); len(got) != want {
		w.Errorf("%d containers are there, want %d: %v\n%s", len(got), want, got, w.out.String())
	}
}

// templates are the finished templates, as the daemon would take them.
func (w *world) templates() []pve.Container {
	var ready []pve.Container
	for _, c := range w.sim.Containers() {
		info, err := proxmox.ReadTemplate(c.Config["description"])
		if err == nil && c.Template() && info.State == "ready" && strings.Contains(c.Config["tags"], proxmox.ReadyTag) {
			ready = append(ready, c)
		}
	}
	return ready
}

func (w *world) manifest(vmid int) proxmox.TemplateInfo {
	w.Helper()
	c, ok := w.sim.Container(vmid)
	if !ok {
		w.Fatalf("container %d is not there", vmid)
	}
	info, err := proxmox.ReadTemplate(c.Config["description"])
	if err != nil {
		w.Fatalf("manifest of %d: %v\n%s", vmid, err, c.Config["description"])
	}
	return info
}

func errorsOf(t *testing.T, conf map[string]any) []string {
	t.Helper()
	_, _, err := new(Builder).Prepare(conf)
	if err == nil {
		return nil
	}
	multi, ok := err.(*packersdk.MultiError)
	if !ok {
		return []string{err.Error()}
	}
	var texts []string
	for _, e := range multi.Errors {
		texts = append(texts, fmt.Sprint(e))
	}
	return texts
}
