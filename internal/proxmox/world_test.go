package proxmox

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
	"github.com/dayfly-ci/dayfly/test/schema"
)

const (
	thin = 9000 // the template on a storage with linked clones
	dir  = 9001 // the template on a storage without
)

// slow lets tests look at what happens while tasks run.
var slow = pve.Timing{Clone: 2 * time.Second, FullClone: 20 * time.Second, Start: 2 * time.Second,
	Stop: time.Second, Destroy: time.Second, StatusLag: 10 * time.Second, Restart: 5 * time.Second, AuthDelay: -1}

// world is a simulated Proxmox with two templates, and a client of it.
type world struct {
	*testing.T
	sim    *pve.Cluster
	client *Client
	sent   *schema.Recorder
	guest  *boots
	clock  stage.Clock

	mu    sync.Mutex
	lines []string                        // requests, as "GET /nodes/pve/lxc"
	fault func(*http.Request) stage.Fault // nil: none
}

// boots records which environment containers were started with.
type boots struct {
	mu  sync.Mutex
	env map[int]map[string]string
}

func (b *boots) Boot(r pve.Running) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.env[r.VMID] = r.Env
}

func (b *boots) Halt(string, int) {}

// newWorld makes a world with the recommended footprint, in-process.
func newWorld(t *testing.T, conf pve.Config) *world {
	t.Helper()
	w := &world{T: t, guest: &boots{env: map[int]map[string]string{}}}
	conf.Guest = w.guest
	conf.Clock = &w.clock
	w.sim = pve.New(conf)
	token := pve.Lab(w.sim)
	w.sim.AddStorage(pve.Storage{ID: "nas", Type: "dir"})
	w.sim.SetACL("/storage/nas", "DayflyStorage", true, "dayfly@pve", pve.LabToken)
	w.addTemplate(thin, pve.LabStorage, "2.335.1-1", nil)
	w.addTemplate(dir, "nas", "2.335.1-2", nil)
	w.sent = schema.Record(stage.Transport{Handler: http.HandlerFunc(w.serve)})
	c := testConfig("http://127.0.0.1:8006")
	c.Token, c.Transport = fleet.NewSecret(token), w.sent
	c.TemplatePool, c.RunnerPool = pve.LabTemplates, pve.LabRunners
	w.client = newClient(t, c)
	t.Cleanup(w.checked)
	return w
}

// checked fails the test for requests that Proxmox's schema does not know.
func (w *world) checked() {
	w.Helper()
	// TestRequestsFollowTheSchema says when there is no schema.
	if schema.Available() && w.sentLike(".*") > 0 {
		w.sent.Check(w, "env")
	}
}

func (w *world) addTemplate(id int, storage, version string, config map[string]string) {
	info := TemplateInfo{Schema: 1, Family: "ubuntu-24.04", Version: version, State: "ready", Contract: "2"}
	all := map[string]string{
		"hostname": fmt.Sprintf("ubuntu-%d", id), "description": info.Describe(), "tags": "dayfly-template;dayfly-state.ready",
		"net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:D4:AF:9C,ip=dhcp,type=veth", "features": "nesting=1",
		"memory": "512", "swap": "512", "cores": "1", "unprivileged": "1", "arch": "amd64", "ostype": "debian",
	}
	for k, v := range config {
		all[k] = v
	}
	w.sim.AddTemplate(pve.Template{VMID: id, ResourcePool: pve.LabTemplates, Storage: storage, Config: all})
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	line := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/api2/json")
	w.lines = append(w.lines, line)
	fault := w.fault
	w.mu.Unlock()
	if fault == nil {
		w.sim.ServeHTTP(rw, r)
		return
	}
	stage.WithFaults(w.sim, &w.clock, fault).ServeHTTP(rw, r)
}

// sentLike counts the requests that match.
func (w *world) sentLike(pattern string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, l := range w.lines {
		if regexp.MustCompile("^" + pattern + "$").MatchString(l) {
			n++
		}
	}
	return n
}

// once makes one fault happen to the first request that matches.
func (w *world) once(pattern string, f stage.Fault) {
	re, done := regexp.MustCompile("^"+pattern+"$"), false
	w.always(func(r *http.Request) stage.Fault {
		w.mu.Lock()
		defer w.mu.Unlock()
		if done || !re.MatchString(r.Method+" "+strings.TrimPrefix(r.URL.Path, "/api2/json")) {
			return stage.Fault{}
		}
		done = true
		return f
	})
}

func (w *world) always(fault func(*http.Request) stage.Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = fault
}

// spec is a clone of template thin.
func spec(id fleet.VMID) Spec {
	name := fmt.Sprintf("dayfly-web-%08x00000000", int(id))
	return Spec{
		Name: name, VMID: id, Pool: fleet.Pool{Name: "web"},
		Template: fleet.Template{Ref: fleet.Ref{Family: "ubuntu-24.04", Version: "2.335.1-1"}, Node: "pve", VMID: thin, Storage: pve.LabStorage},
		Manifest: Manifest{Pool: "web", Scope: "acme", Template: fleet.Ref{Family: "ubuntu-24.04", Version: "2.335.1-1"},
			Instance: "main", Created: time.Date(2026, 11, 25, 18, 0, 0, 0, time.UTC)},
	}
}

func (w *world) clone(id fleet.VMID) {
	w.Helper()
	if err := w.client.Clone(w.Context(), spec(id)); err != nil {
		w.Fatal(err)
	}
}

// destroy destroys a container, however well it was seen to end.
func (w *world) destroy(ctx context.Context, id fleet.VMID) error {
	_, err := w.client.Destroy(ctx, "pve", id)
	return err
}

func (w *world) list() Listing {
	w.Helper()
	l, err := w.client.List(w.Context(), "pve")
	if err != nil {
		w.Fatal(err)
	}
	return l
}

// owned finds one container of ours in a fresh listing.
func (w *world) owned(id fleet.VMID) (Container, bool) {
	w.Helper()
	for _, c := range w.list().Owned {
		if c.VMID == id {
			return c, true
		}
	}
	return Container{}, false
}

// real is a container as it is, without the API.
func (w *world) real(id fleet.VMID) pve.Container {
	w.Helper()
	c, ok := w.sim.Container(int(id))
	if !ok {
		w.Fatalf("container %d: not there", id)
	}
	return c
}

func (w *world) there(id fleet.VMID) bool {
	_, ok := w.sim.Container(int(id))
	return ok
}

// made counts what happened to a container.
func (w *world) made(kind string, id fleet.VMID) int {
	n := 0
	for _, e := range w.sim.History() {
		if e.Kind == kind && e.VMID == int(id) {
			n++
		}
	}
	return n
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
