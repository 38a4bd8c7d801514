package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/github"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
)

// demo is a simulated world on loopback sockets and a daemon in a process of
// its own.
type demo struct {
	p       *program
	o       demoOptions
	rng     *rand.Rand
	dir     string
	world   *sim.World
	repo    *demoRepo
	admin   *daemon.Client
	teller  *teller
	webhook string // URL of the daemon's webhook
	secret  string // of the webhook

	apis     map[string]string // name → URL
	nodes    []string
	family   string // of the templates
	closes   []func() error
	child    *exec.Cmd
	rootHalf *exec.Cmd // of the day with real containers; nil: none runs
	killed   time.Time // when the daemon was started again after its kill
	silent   hub.JobID // the job whose first runner never registers
	rolls    demoRolls
}

// demoTiming is how long things take in the demo: a fast machine's times.
var demoTiming = pve.Timing{
	Clone: 350 * time.Millisecond, Start: 150 * time.Millisecond,
	Destroy: 150 * time.Millisecond, StatusLag: 10 * time.Second,
}

func openDemo(p *program, o demoOptions) (d *demo, err error) {
	d = &demo{p: p, o: o, rng: rand.New(rand.NewPCG(o.seed, 24)), apis: map[string]string{}, secret: "demo-webhook-secret"}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.dir, err = os.MkdirTemp("", "dayfly-demo-"); err != nil {
		return d, err
	}
	d.closes = append(d.closes, func() error { return os.RemoveAll(d.dir) })
	address, err := freeAddress()
	if err != nil {
		return d, err
	}
	d.webhook = "http://" + address + "/webhook"
	d.teller = newTeller(p.out, p.json)
	makeWorld, makePools := d.makeWorld, newDemoRepo
	if d.real() {
		makeWorld, makePools = d.lxcWorld, newLXCRepo
	}
	if err := makeWorld(); err != nil {
		return d, err
	}
	for name, handler := range map[string]http.Handler{
		"proxmox": d.world.ProxmoxAPI(), "github": d.world.GitHubAPI(), "jobs": d.jobsAPI(),
	} {
		if err := d.serve(name, handler); err != nil {
			return d, err
		}
	}
	if d.repo, err = makePools(context.Background(), filepath.Join(d.dir, "pools.git")); err != nil {
		return d, err
	}
	d.admin = daemon.Dial(filepath.Join(d.dir, "dayfly.sock"))
	return d, d.configure(address)
}

// freeAddress finds a loopback address that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// makeWorld sets up two nodes with a template each, and the organisation of
// the example pools.
func (d *demo) makeWorld() error {
	d.nodes, d.family = []string{"pve1", "pve2"}, demoFamily
	d.world = sim.New(sim.Config{
		Seed: d.o.seed,
		PVE:  pve.Config{Nodes: d.nodes, Timing: demoTiming},
		Guest: sim.GuestTiming{
			Boot: 150 * time.Millisecond, Connect: 250 * time.Millisecond, Pickup: 50 * time.Millisecond,
			Cancel: 200 * time.Millisecond, Exit: 100 * time.Millisecond,
		},
		Hub: hub.Config{
			Webhook: hub.Webhook{URL: d.webhook, Secret: d.secret, Transport: http.DefaultTransport},
			Timing:  hub.Timing{API: 5 * time.Millisecond, JIT: 50 * time.Millisecond, Webhook: 10 * time.Millisecond},
		},
		JobTimeout: func(string) time.Duration { return 6 * time.Hour },
	})
	w := d.world
	token := pve.Lab(w.Proxmox)
	w.Proxmox.AddRole("DayflyDisk", "VM.Config.Disk") // the example pools give disks
	w.Proxmox.SetACL("/pool/"+pve.LabRunners, "DayflyDisk", true, "dayfly@pve", pve.LabToken)
	d.apis["token"] = token
	d.apis["builder"] = pve.LabBuilder(w.Proxmox)
	w.Proxmox.AddStorage(pve.Storage{ID: "local", Type: "dir", Content: []string{"vztmpl"}, Files: []pve.Archive{{Name: demoBase, Size: 140 << 20}}})
	w.Watch(pve.LabToken)
	d.addTemplates(9000, givenVersion, sim.Well)
	w.GitHub.AddGroup("acme", hub.Group{Name: "proxmox"})
	w.GitHub.AddInstallation(hub.Installation{Account: "acme", Repositories: []string{"app", "lib", "site"}})
	return nil
}

// addTemplates puts a version of the template on every node; its guests suffer
// from what ails.
func (d *demo) addTemplates(first int, version string, ails sim.Ailment) {
	info := proxmox.TemplateInfo{Schema: 1, Family: demoFamily, Version: version, State: "ready", Runner: "2.335.1", OS: "Ubuntu 24.04", Contract: fmt.Sprint(proxmox.GuestContract)}
	for i, node := range d.nodes {
		d.world.Proxmox.AddTemplate(pve.Template{
			Node: node, VMID: first + i, ResourcePool: pve.LabTemplates, Storage: pve.LabStorage,
			Rootfs: map[string]string{sim.RootfsVersion: "2.335.1", sim.RootfsAilment: string(ails)},
			Config: map[string]string{
				"hostname": "ubuntu-24-04", "description": info.Describe(), "tags": "dayfly;ready", "features": "nesting=1",
				"net0": fmt.Sprintf("name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:0%d,ip=dhcp,type=veth", i+1),
			},
		})
	}
}

// serve puts a handler on a loopback socket of its own.
func (d *demo) serve(name string, h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(l) }()
	d.closes = append(d.closes, srv.Close)
	d.apis[name] = "http://" + l.Addr().String()
	return nil
}

const demoConfig = `proxmox {
  url           = %q
  token_file    = "token"
  template_pool = %q
  runner_pool   = %q
  vmids         = "20000-20999"
}

github {
  url                 = %q
  app                 = %q
  key_file            = "app.pem"
  webhook_secret_file = "webhook-secret"
  poll                = "5s"
}

pools {
  git {
    url      = %q
    branch   = "main"
    interval = "5s"
  }
}

daemon {
  listen       = %q
  state_dir    = "state"
  admin_socket = "dayfly.sock"
  log_level    = "info"
}
`

// configure writes the daemon's configuration and its secrets.
func (d *demo) configure(address string) error {
	app := d.world.GitHub.App()
	files := map[string]string{
		"token": d.apis["token"], "app.pem": string(app.PEM), "webhook-secret": d.secret,
		"dayfly.hcl": fmt.Sprintf(demoConfig, d.apis["proxmox"], pve.LabTemplates, pve.LabRunners,
			d.apis["github"], fmt.Sprint(app.ID), d.repo.dir, address),
	}
	if d.real() {
		files["dayfly.hcl"] += d.lxcHost()
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// startDaemon starts this same program as a daemon, and waits until it answers.
func (d *demo) startDaemon(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(d.dir, "daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	defer log.Close()
	d.child = d.again(self, log, "run")
	if err := d.child.Start(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	health := "/readyz"
	if d.real() {
		health = "/healthz" // it is ready when there is a template, which is still to be made
	}
	return d.wait(ctx, 20*time.Second, "the daemon is ready", func() bool {
		resp, err := http.Get(strings.TrimSuffix(d.webhook, "/webhook") + health)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// again prepares this same program with the demo's configuration. Ctrl-C is for
// the demo alone, and what it starts never outlives it.
func (d *demo) again(self string, log *os.File, command string) *exec.Cmd {
	cmd := exec.Command(self, command, "--config", filepath.Join(d.dir, "dayfly.hcl"))
	cmd.Args[0] = "dayfly"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = leash(syscall.SIGKILL)
	return cmd
}

// stopDaemon ends the daemon, by SIGKILL or as systemd does.
func (d *demo) stopDaemon(sig os.Signal) error {
	if d.child == nil {
		return nil
	}
	child := d.child
	d.child = nil
	if err := child.Process.Signal(sig); err != nil {
		return fmt.Errorf("stop the daemon: %w", err)
	}
	err := child.Wait()
	var exit *exec.ExitError
	if sig == os.Kill && errors.As(err, &exit) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop the daemon: %w", err)
	}
	return nil
}

// wait polls until cond holds.
func (d *demo) wait(ctx context.Context, limit time.Duration, what string, cond func() bool) error {
	deadline := time.Now().Add(limit)
	for !cond() {
		if time.Now().After(deadline) {
			return hinted{fmt.Errorf("wait until %s: not within %s", what, limit), d.lastWords()}
		}
		if err := d.pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("wait until %s: %w", what, err)
		}
	}
	return nil
}

// pause tells what the journal has to say until d is over.
func (d *demo) pause(ctx context.Context, pause time.Duration) error {
	d.teller.tell(ctx, d.admin)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}

// lastWords is the end of the daemon's log.
func (d *demo) lastWords() string {
	said := "the daemon's log ends:\n" + d.logEnd("daemon.log")
	if d.real() {
		said += "\nthe root half's log ends:\n" + d.logEnd("half.log")
	}
	return said
}

func (d *demo) logEnd(name string) string {
	text, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// close ends everything; it may be called in the middle.
func (d *demo) close() error {
	var errs []error
	if d.child != nil {
		errs = append(errs, d.stopDaemon(os.Kill))
	}
	for i := len(d.closes) - 1; i >= 0; i-- {
		errs = append(errs, d.closes[i]())
	}
	return errors.Join(errs...)
}

// demoRepos are the repositories of the demo's organisation.
var demoRepos = []string{"acme/app", "acme/lib", "acme/site"}

// jobsAPI lets people queue jobs in a demo that is held up.
func (d *demo) jobsAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /jobs", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		runs, err := time.ParseDuration(cmp.Or(q.Get("runs"), "5s"))
		if err != nil {
			http.Error(w, "runs: "+err.Error(), http.StatusBadRequest)
			return
		}
		repo := cmp.Or(q.Get("repo"), demoRepos[0])
		if !slices.Contains(demoRepos, repo) {
			http.Error(w, "repo: one of "+strings.Join(demoRepos, ", "), http.StatusBadRequest)
			return
		}
		labels := strings.Split(cmp.Or(q.Get("labels"), "self-hosted,linux"), ",")
		id := d.world.GitHub.QueueJob(hub.NewJob{Repo: repo, Labels: labels, Duration: runs})
		fmt.Fprintf(w, "job %d is queued; ask: %s explain --socket %s %d\n", id, os.Args[0], filepath.Join(d.dir, "dayfly.sock"), id)
	})
	return mux
}

// holdUp keeps the world up until the program is interrupted.
func (d *demo) holdUp(ctx context.Context) {
	d.teller.say("the world and the daemon stay up; end them with Ctrl-C")
	for _, line := range []string{
		"Proxmox  " + d.apis["proxmox"],
		"GitHub   " + d.apis["github"],
		"daemon   " + strings.TrimSuffix(d.webhook, "/webhook") + "  (/healthz /readyz /metrics)",
		"pools    " + d.repo.dir + "  (a git repository: clone it, commit, push)",
		"status   " + os.Args[0] + " status --socket " + filepath.Join(d.dir, "dayfly.sock"),
		"a job    curl -X POST '" + d.apis["jobs"] + "/jobs?repo=acme/app&labels=self-hosted,linux&runs=5s'",
	} {
		d.teller.say("%s", line)
	}
	for d.pause(ctx, 200*time.Millisecond) == nil {
	}
}

// steal has a runner of another program take the next job of its labels.
func (d *demo) steal(ctx context.Context, labels []string) error {
	app := d.world.GitHub.App()
	gh, err := github.New(github.Config{URL: d.apis["github"], App: fmt.Sprint(app.ID), Key: fleet.NewSecret(string(app.PEM))})
	if err != nil {
		return err
	}
	_, jit, err := gh.JIT(ctx, "acme", "mac-mini-in-the-office", labels, "proxmox")
	if err != nil {
		return err
	}
	session, err := d.world.GitHub.Connect(jit.Reveal(), "2.335.1")
	if err != nil {
		return err
	}
	return session.Listen(hub.Listener{Assigned: func(a hub.JobAssignment) {
		if session.Start(a.ID) == nil {
			d.world.Clock.AfterFunc(300*time.Millisecond, func() { _ = session.Finish(a.ID, hub.Success) })
		}
	}})
}

// copyTree writes the files of tree into dir.
func copyTree(dir string, tree fs.FS) error {
	return fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		from, err := tree.Open(name)
		if err != nil {
			return err
		}
		defer from.Close()
		text, err := io.ReadAll(from)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), text, 0o644)
	})
}
