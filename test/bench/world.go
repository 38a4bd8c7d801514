package main

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

const (
	org           = "acme"
	repository    = "acme/app"
	webhookSecret = "bench-webhook-secret"
	firstTemplate = 9000

	// points is GitHub's limit a minute and endpoint in these worlds, and what
	// the daemon is told of it: the bench is not about GitHub's limits.
	points = 60000
)

var labels = []string{"self-hosted", "linux", "x64"}

// fast is how long tasks take where time matters: a fast machine's times, so
// that what the program adds weighs more than it would elsewhere.
var fast = pve.Timing{Clone: 350 * time.Millisecond, Start: 150 * time.Millisecond, Destroy: 150 * time.Millisecond}

// setting says what a world is like. The zero value has one node and answers
// at once.
type setting struct {
	nodes  int
	timing pve.Timing
	guest  sim.GuestTiming
}

// world is a simulated world on loopback sockets, and the times of what
// reached it.
type world struct {
	*sim.World
	meter        *meter
	token        string // Proxmox's
	installation hub.InstallationID
	proxmoxURL   string
	githubURL    string
	vmids        string // the daemon's range
	half         string // what its configuration says of a root half
	servers      []*http.Server
}

func newWorld(s setting) (*world, error) {
	nodes := []string{}
	for i := range max(s.nodes, 1) {
		nodes = append(nodes, fmt.Sprintf("pve%d", i+1))
	}
	limits := hub.Limits{Primary: 1_000_000, Points: points, Registrations: 1_000_000}
	w := &world{vmids: "20000-29999", meter: newMeter(), World: sim.New(sim.Config{
		Seed: 1, PVE: pve.Config{Nodes: nodes, Timing: s.timing}, Guest: s.guest, Hub: hub.Config{Limits: limits},
	})}
	w.token = pve.Lab(w.Proxmox)
	w.Watch(pve.LabToken)
	info := proxmox.TemplateInfo{Schema: 1, Family: "ubuntu-24.04", Version: "2.335.1-1", State: "ready", Runner: "2.335.1", OS: "Ubuntu 24.04"}
	for i, node := range nodes {
		w.Proxmox.AddTemplate(pve.Template{
			Node: node, VMID: firstTemplate + i, ResourcePool: pve.LabTemplates, Storage: pve.LabStorage,
			Rootfs: map[string]string{sim.RootfsVersion: "2.335.1"},
			Config: map[string]string{
				"hostname": "ubuntu-24-04", "description": info.Describe(), "tags": "dayfly;ready", "features": "nesting=1",
				"net0": "name=eth0,bridge=vmbr0,ip=dhcp,type=veth",
			},
		})
	}
	w.installation = w.GitHub.AddInstallation(hub.Installation{Account: org, Repositories: []string{"app", "lib", "site"}})
	return w, w.open()
}

// open serves both APIs, and closes the world if it cannot.
func (w *world) open() (err error) {
	if w.proxmoxURL, err = w.serve(w.meter.proxmox(w.ProxmoxAPI())); err != nil {
		return w.closed(err)
	}
	if w.githubURL, err = w.serve(w.meter.github(w.GitHubAPI())); err != nil {
		return w.closed(err)
	}
	return nil
}

// serve puts a handler on a loopback socket of its own.
func (w *world) serve(h http.Handler) (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("serve the world: %w", err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	w.servers = append(w.servers, srv)
	go func() { _ = srv.Serve(l) }()
	return "http://" + l.Addr().String(), nil
}

// deliver sends the webhooks to a daemon from now on.
func (w *world) deliver(url string) {
	w.GitHub.SetWebhook(hub.Webhook{URL: url, Secret: webhookSecret, Transport: w.meter.webhook()})
}

// queue queues a job that runs for d.
func (w *world) queue(d time.Duration) hub.JobID {
	return w.GitHub.QueueJob(hub.NewJob{Repo: repository, Labels: labels, Duration: d})
}

// events are the times of what happened to containers, in order.
func (w *world) events(kind string) []pve.Event {
	var found []pve.Event
	for _, e := range w.Proxmox.History() {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

// containers counts those that are not templates, by status.
func (w *world) containers() (stopped, running int) {
	for _, c := range w.Proxmox.Containers() {
		switch {
		case c.Template():
		case c.Status == "running":
			running++
		default:
			stopped++
		}
	}
	return stopped, running
}

// closed closes the world and gives err on.
func (w *world) closed(err error) error {
	w.close()
	return err
}

func (w *world) close() {
	w.GitHub.Close()
	w.Proxmox.Close()
	for _, s := range w.servers {
		_ = s.Close()
	}
}
