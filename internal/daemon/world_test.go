package daemon_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-ci/dayfly/internal/daemon"
	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/github"
	"github.com/dayfly-ci/dayfly/internal/host"
	"github.com/dayfly-ci/dayfly/internal/journal"
	"github.com/dayfly-ci/dayfly/internal/pools"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
	"github.com/dayfly-ci/dayfly/internal/sim"
	"github.com/dayfly-ci/dayfly/internal/sim/hub"
	"github.com/dayfly-ci/dayfly/internal/sim/pve"
	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

const (
	webhookSecret = "canary-webhook-secret"
	instanceKey   = "canary-instance-key-0123456789abcdef"
	firstVMID     = 20000
	lastVMID      = 20199
	jobTimeout    = 20 * time.Minute
)

// play is a simulated world and the daemon that runs in it.
type play struct {
	t      *testing.T
	w      *sim.World
	in     hub.InstallationID // on acme
	token  string
	dir    string
	logs   *logs
	level  slog.Level // of the log
	rev    int
	last   int           // VMID of the range; lastVMID if 0
	names  *rand.ChaCha8 // what runners' names are made of
	every  daemon.Intervals
	source pools.Source // nil: the folder of setPools
	limits fleet.Limits
	halves []string // nodes with a root half
	others []int    // containers of somebody else

	runner   string    // version in templates; empty: the usual one
	built    time.Time // when templates say that they were made
	contract string    // that the root halves speak; empty: ours
	least    int       // VMID that the root halves touch; firstVMID if 0
	user     string    // whom alone the root halves serve; empty: us
	answer   string    // what the root halves answer when they are to collect; empty: what there is

	rule atomic.Pointer[rule]         // for requests of the daemon
	hook atomic.Pointer[http.Handler] // of the daemon that runs
	now  *life
}

// life is one incarnation of the daemon.
type life struct {
	d       *daemon.Daemon
	journal *journal.Journal
	dead    atomic.Bool // its requests go nowhere
	cancel  context.CancelFunc
	done    chan error
}

// onePool is the simplest configuration: %s is what is added to the pool.
const onePool = `
dayfly { schema = 1 }
template "ubuntu" { family = "ubuntu-24.04" }
pool "linux" {
  labels   = ["self-hosted", "linux", "x64"]
  template = template.ubuntu
  github { org = "acme" }
  timeouts {
    clone    = "2m"
    launch   = "60s"
    register = "60s"
    idle     = "5m"
    job      = "20m"
  }
  %s
}
`

// newPlay sets a world up: the recommended footprint, one template, and the
// organisation acme with two repositories. It must be called in a bubble.
func newPlay(t *testing.T, cfg sim.Config, poolFiles string) *play {
	p := &play{t: t, dir: scratch(t), logs: &logs{}, level: slog.LevelDebug, names: rand.NewChaCha8([32]byte{byte(cfg.Seed)})}
	cfg.JobTimeout = func(string) time.Duration { return jobTimeout }
	cfg.Hub.Webhook = hub.Webhook{URL: "http://dayfly.test/webhook", Secret: webhookSecret, Transport: stage.Transport{Handler: p}}
	p.w = sim.New(cfg)
	p.token = pve.Lab(p.w.Proxmox)
	p.w.AddSecret(instanceKey)
	_, secret, _ := strings.Cut(p.token, "=")
	p.w.AddSecret(secret)
	p.w.Watch(pve.LabToken)
	p.template(9000, "2.335.1-1", "")
	p.in = p.w.GitHub.AddInstallation(hub.Installation{Account: "acme", Repositories: []string{"app", "lib"}})
	p.setPools(poolFiles)
	t.Cleanup(func() {
		for _, node := range p.halves {
			p.w.SetHalf(node, false) // who waits for it is let go
		}
	})
	return p
}

// scratch is a folder in memory where there is one: a world writes its journal
// thousands of times, and what an fsync costs is the journal's own tests' affair.
func scratch(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "dayfly-world-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// template adds a template of family ubuntu-24.04; ailment is what its guests
// suffer from.
func (p *play) template(vmid int, version, ailment string) {
	p.templateOf("ubuntu-24.04", "", vmid, version, ailment)
}

// templateOf adds a template of a family on a node, the first one if empty.
func (p *play) templateOf(family, node string, vmid int, version, ailment string) {
	runner := cmp.Or(p.runner, "2.335.1")
	rootfs := map[string]string{sim.RootfsVersion: runner}
	if ailment != "" {
		rootfs[sim.RootfsAilment] = ailment
	}
	info := proxmox.TemplateInfo{Schema: 1, Family: family, Version: version, State: "ready", Runner: runner, BuiltAt: p.built}
	p.w.Proxmox.AddTemplate(pve.Template{
		Node: node, VMID: vmid, ResourcePool: pve.LabTemplates, Storage: pve.LabStorage, Rootfs: rootfs,
		Config: map[string]string{
			"hostname": "ubuntu", "description": info.Describe(), "tags": "dayfly;ready",
			"net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth", "features": "nesting=1",
		},
	})
}

func (p *play) pools() pools.Source {
	if p.source != nil {
		return p.source
	}
	return pools.Dir(filepath.Join(p.dir, "pools"))
}

// reports are beside the commits of acme/pools, where those are the source.
func (p *play) reports() daemon.Reports {
	if p.source == nil {
		return daemon.Reports{}
	}
	return daemon.Reports{Repo: "acme/pools", Path: "pools"}
}

func (p *play) setPools(text string) {
	p.rev++
	dir := filepath.Join(p.dir, "pools")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "pools.hcl"), []byte(text), 0o644)); err != nil {
		p.t.Fatal(err)
	}
}

// ServeHTTP is where GitHub delivers: the daemon that runs, or nobody.
func (p *play) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := p.hook.Load()
	if h == nil {
		stage.Hangup()
	}
	(*h).ServeHTTP(w, r)
}

// fence lets requests of one incarnation through until it is dead.
type fence struct {
	play *play
	life *life
	to   http.RoundTripper
}

// die ends the daemon as SIGKILL does, but for its locks.
func (l *life) die() {
	l.dead.Store(true)
	l.cancel()
}

// rule decides the fate of a request.
type rule func(r *http.Request) fate

// fate is what happens to a request.
type fate int

const (
	arrive  fate = iota
	refuse       // it never arrives
	lose         // its answer never arrives
	hang         // it is never answered, and the connection stays
	lag          // its answer takes half a minute to come
	gateway      // Proxmox's proxy answers 596 in place of the daemon that did it
	kill         // the daemon dies before it is sent
	doom         // the daemon dies before the answer comes
)

func (f fence) RoundTrip(r *http.Request) (*http.Response, error) {
	does := arrive
	if rule := f.play.rule.Load(); rule != nil && !f.life.dead.Load() {
		does = (*rule)(r)
	}
	if does == kill {
		f.life.die()
	}
	if does == hang {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if does == refuse || f.life.dead.Load() {
		return nil, errors.New("no connection")
	}
	resp, err := f.to.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if f.play.answer != "" && strings.HasSuffix(r.URL.Path, "/collect") {
		resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(f.play.answer)), -1
	}
	if does == doom {
		f.life.die()
	}
	switch does {
	case lag:
		select {
		case <-time.After(30 * time.Second):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	case gateway:
		resp.StatusCode, resp.Status, resp.Body = 596, "596 Connection timed out", http.NoBody
		resp.ContentLength = 0
	}
	if does == lose || f.life.dead.Load() {
		return nil, io.ErrUnexpectedEOF
	}
	return resp, err
}

// start starts the daemon.
func (p *play) start() {
	p.t.Helper()
	l := &life{done: make(chan error, 1)}
	log := slog.New(slog.NewTextHandler(p.logs, &slog.HandlerOptions{Level: p.level}))
	px, err := proxmox.New(proxmox.Config{
		URL: "https://pve.test:8006", Token: fleet.NewSecret(p.token), Transport: fence{p, l, stage.Transport{Handler: p.w.ProxmoxAPI()}},
		TemplatePool: pve.LabTemplates, RunnerPool: pve.LabRunners, First: firstVMID, Last: fleet.VMID(cmp.Or(p.last, lastVMID)),
		Key: fleet.NewSecret(instanceKey), Log: log,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	app := p.w.GitHub.App()
	gh, err := github.New(github.Config{
		URL: "https://github.test/", App: fmt.Sprint(app.ID), Key: fleet.NewSecret(string(app.PEM)),
		Transport: fence{p, l, stage.Transport{Handler: p.w.GitHubAPI()}}, Log: log,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	l.journal, err = journal.Open(p.t.Context(), filepath.Join(p.dir, "journal.db"), journal.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	l.d, err = daemon.New(daemon.Config{
		Proxmox: px, GitHub: gh, Journal: l.journal, Hosts: p.hosts(l), Evidence: filepath.Join(p.dir, "evidence"), Source: p.pools(), Reports: p.reports(),
		Key: fleet.NewSecret(instanceKey), Webhook: fleet.NewSecret(webhookSecret), First: firstVMID, Last: fleet.VMID(cmp.Or(p.last, lastVMID)),
		Every: p.every, Limits: p.limits, Random: p.names, Log: log, Version: "test",
	})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	p.now = l
	public := l.d.Public()
	p.hook.Store(&public)
	go func() { l.done <- l.d.Run(ctx) }()
}

// hosts are the root halves of the world's nodes.
func (p *play) hosts(l *life) []*host.Client {
	var list []*host.Client
	for _, node := range p.halves {
		line := p.w.HalfLine(sim.Half{
			Node: node, First: cmp.Or(p.least, firstVMID), Last: cmp.Or(p.last, lastVMID), Pool: pve.LabRunners, Key: instanceKey, Contract: p.contract, User: p.user,
		})
		list = append(list, host.Over(node, "http://"+node+".half.test", fence{p, l, line}))
	}
	return list
}

// stop ends the daemon as SIGTERM does.
func (p *play) stop() { p.end(false) }

// crash ends it as SIGKILL does: not one more request leaves it.
func (p *play) crash() { p.end(true) }

func (p *play) end(hard bool) {
	p.t.Helper()
	l := p.now
	if l == nil {
		return
	}
	p.now = nil
	p.hook.Store(nil)
	if hard {
		l.dead.Store(true)
	}
	l.cancel()
	if err := <-l.done; err != nil {
		p.t.Errorf("daemon ended: %v", err)
	}
	if err := l.journal.Close(); err != nil {
		p.t.Errorf("close journal: %v", err)
	}
}

// job queues a job.
func (p *play) job(repo string, runs time.Duration, labels ...string) hub.JobID {
	if len(labels) == 0 {
		labels = []string{"self-hosted", "linux"}
	}
	return p.w.GitHub.QueueJob(hub.NewJob{Repo: repo, Labels: labels, Duration: runs})
}

// until waits, in virtual time, until cond holds, and reports what is there if
// it does not within limit.
func (p *play) until(limit time.Duration, what string, cond func() bool) bool {
	p.t.Helper()
	operated := time.Now()
	for deadline := operated.Add(limit); ; time.Sleep(time.Second) {
		synctest.Wait()
		if time.Since(operated) > 10*time.Minute {
			p.operate()
			operated = time.Now()
		}
		if cond() {
			return true
		}
		if time.Now().After(deadline) {
			p.t.Errorf("%s: not within %s: %s", what, limit, p.w.Summary())
			return false
		}
	}
}

var pct = regexp.MustCompile(`pct (unlock|destroy) (\d+)`)

// operate does what the daemon's status asks a person to do on the node: there
// is no call of the API that removes a lock.
func (p *play) operate() {
	var s daemon.Status
	req := httptest.NewRequest(http.MethodGet, "http://dayfly/v1/status", nil)
	answer := httptest.NewRecorder()
	p.now.d.Admin().ServeHTTP(answer, req)
	if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
		p.t.Fatalf("status: %v", err)
	}
	for _, trouble := range s.Troubles {
		for _, m := range pct.FindAllStringSubmatch(trouble.What+" "+trouble.Hint, -1) {
			id, _ := strconv.Atoi(m[2])
			switch {
			case slices.Contains(p.others, id): // the hint says to look at it first
			case m[1] == "unlock":
				p.w.Proxmox.Unlock(id)
			default:
				p.w.Proxmox.Remove(id)
			}
		}
	}
}

// over reports whether every job has ended.
func (p *play) over() bool {
	for _, j := range p.w.GitHub.Jobs() {
		if j.Status != hub.StatusCompleted {
			return false
		}
	}
	return true
}

// check reports every broken promise and every secret in a log.
func (p *play) check() {
	p.t.Helper()
	for _, v := range p.w.Violations() {
		p.t.Errorf("violation: %s", v)
	}
	text := p.logs.String()
	for _, secret := range p.w.Secrets() {
		if strings.Contains(text, secret) {
			p.t.Errorf("a secret is in the log: %.12s…", secret)
		}
	}
}

// logs collects what the daemon logs.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestJobGetsAContainerRunsOnceAndLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlay(t, sim.Config{
			PVE:   pve.Config{Timing: pve.Timing{Clone: time.Second, Start: 500 * time.Millisecond, Destroy: 500 * time.Millisecond}},
			Guest: sim.GuestTiming{Boot: 500 * time.Millisecond, Connect: time.Second},
		}, fmt.Sprintf(onePool, `scale { max = 4 }`))
		p.start()
		defer p.stop()
		time.Sleep(10 * time.Second)
		id := p.job("acme/app", 30*time.Second)
		p.until(2*time.Minute, "the job ends", p.over)
		p.until(2*time.Minute, "nothing is left", func() bool { return p.w.Left().Empty() })
		if j, _ := p.w.GitHub.Job(id); j.Conclusion != hub.Success {
			t.Errorf("job ended with %q, want success", j.Conclusion)
		}
		p.check()
		if t.Failed() {
			t.Log(p.logs.String())
		}
	})
}
