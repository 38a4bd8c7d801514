// Package pve is a simulated Proxmox VE API: an http.Handler with state, as
// strict as the real one and slightly nasty by default.
//
// What it does was learnt from the published source and schema of Proxmox VE
// and from exchanges recorded from a Proxmox VE 9.2 API; a comment marked
// "believed" says where it guesses. It serves /api2/json (and extjs), never
// talks to anything else, and keeps no goroutine of its own, so that it can be
// used over sockets and, through stage.Transport, inside testing/synctest.
package pve

import (
	"math/rand"
	"net/http"
	"strings"
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// Config describes the cluster to make. The zero value is one node "pve" of
// the current release that answers at once.
type Config struct {
	Clock   *stage.Clock
	Seed    int64
	Release string   // "9.2.11" (default) or "8.4.21"
	Nodes   []string // default {"pve"}; the first one serves the API
	CPUs    int      // of every node, default 8
	Timing  Timing   // how long tasks take; zero: instantly
	Guest   Guest    // what runs inside; may be nil
	Machine Machine  // what containers are made of; nil: of nothing
	// TaskFault is asked once for each task: a text makes it fail with that
	// exit status ("WARNINGS: 1" makes it succeed with it), "" lets it be.
	// id is the task's id: the source's for a clone. It must not call back.
	TaskFault func(kind string, id int) string
	// MACPrefix is the datacenter's, "BC:24:11" by default.
	MACPrefix string
}

// Timing says how long things take.
type Timing struct {
	Clone, FullClone, Create, Start, Stop, Shutdown, Destroy, Template time.Duration
	Disk                                                               time.Duration // resize and snapshot
	StatusLag                                                          time.Duration // length of pvestatd's round; 0: /cluster/resources is live
	Restart                                                            time.Duration // how long a restarted daemon or a rebooted node is away
	AuthDelay                                                          time.Duration // before a 401; 0: Proxmox's 3 s, negative: none
}

// Guest is what runs inside the containers. The calls come one at a time, in
// the order of what happened, never under the cluster's lock; they must return
// promptly and start timers for what takes long.
type Guest interface {
	Boot(Running)               // init was executed
	Halt(node string, vmid int) // the container stopped, for whatever reason
}

// Obedience is implemented by a Guest whose containers may ignore a shutdown.
type Obedience interface {
	Obeys(node string, vmid int) bool
}

// Running is what a container's init can see of the outside.
type Running struct {
	Node     string
	VMID     int
	Hostname string
	Env      map[string]string
	Rootfs   map[string]string // what the template has baked in; invisible to the API
	Boot     int               // 1, 2, ...: how often this container was started
}

// Event is something that happened to a container.
type Event struct {
	At     time.Time
	Kind   string // create clone start stop destroy template migrate
	Node   string
	VMID   int
	Source int    // of a clone
	Who    string // user or token; "" for the guest itself or the host
}

// Cluster is the simulated cluster; its ServeHTTP is the API of its first node.
type Cluster struct {
	clock   *stage.Clock
	timing  Timing
	guest   Guest
	fault   func(string, int) string
	schema  *schema
	release string
	cpus    int // of every node
	born    time.Time

	machine Machine
	keeper  func(name, text string) // of the files of /etc/pve; may be nil
	busy    errands                 // the machine's work
	told    map[string]string

	mu       guarded
	rng      *rand.Rand
	agenda   agenda
	notices  notices
	nodes    map[string]*node
	names    []string // of the nodes
	cts      map[int]*ct
	access   access
	pools    map[string]*pool
	member   map[int]string // VMID -> resource pool, also for a VMID that is gone
	storages map[string]*store
	locks    map[string]*flock
	tasks    map[string]*task
	failNext map[string][]string
	options  map[string]string // datacenter.cfg
	firewall map[int]*fwConf
	history  []Event
	secret   []byte
	pid      int
	ready    []wakeup
	closed   chan struct{} // closed by Close
	waking   bool          // a request that was woken is at work
	statted  bool          // a round of pvestatd is on the agenda
	pace     func(*task)   // sets a task's own timing; for the replay of recordings
}

// node is one member of the cluster.
type node struct {
	name    string
	up      bool
	proxy   bool      // pveproxy answers
	daemon  bool      // pvedaemon answers
	reset   bool      // the next request to the stopped daemon sees a reset
	busy    int       // workers of pvedaemon with a request
	queue   []*waiter // requests that wait for one
	tasks   []*task
	boot    time.Time
	console int
}

// New makes a cluster as cfg describes it, with nothing on it but root@pam.
func New(cfg Config) *Cluster {
	if cfg.Clock == nil {
		cfg.Clock = &stage.Clock{}
	}
	if cfg.Release == "" {
		cfg.Release = "9.2.11"
	}
	if len(cfg.Nodes) == 0 {
		cfg.Nodes = []string{"pve"}
	}
	if cfg.CPUs == 0 {
		cfg.CPUs = 8
	}
	if cfg.MACPrefix == "" {
		cfg.MACPrefix = "BC:24:11"
	}
	now := cfg.Clock.Now()
	c := &Cluster{
		clock: cfg.Clock, timing: cfg.Timing, guest: cfg.Guest, fault: cfg.TaskFault,
		schema: schemaOf(cfg.Release), release: cfg.Release, cpus: cfg.CPUs, born: now,
		rng: rand.New(rand.NewSource(cfg.Seed)), nodes: map[string]*node{}, names: cfg.Nodes,
		cts: map[int]*ct{}, pools: map[string]*pool{}, member: map[int]string{},
		storages: map[string]*store{}, locks: map[string]*flock{}, tasks: map[string]*task{},
		failNext: map[string][]string{}, options: map[string]string{"mac_prefix": cfg.MACPrefix},
		firewall: map[int]*fwConf{}, pid: 1000, closed: make(chan struct{}),
	}
	c.machine, c.mu.leave = cfg.Machine, c.publish
	if c.machine != nil {
		c.keeper = c.machine.Publish
	}
	c.secret = make([]byte, 16)
	c.rng.Read(c.secret)
	c.access = newAccess(cfg.Release)
	for _, n := range cfg.Nodes {
		c.nodes[n] = &node{name: n, up: true, proxy: true, daemon: true, boot: now.Add(-time.Hour)}
	}
	return c
}

// ServeHTTP implements http.Handler: the API of the first node.
func (c *Cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.serve(w, r, c.names[0])
}

// Close ends every request that waits for something without an answer, and
// everything that would happen later. A synctest bubble needs it before its
// end when requests may still be under way.
func (c *Cluster) Close() {
	c.enter()
	defer c.mu.Unlock()
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
	c.agenda.events = nil
	if c.agenda.timer != nil {
		c.agenda.timer.Stop()
	}
}

// At is the API as the node of that name serves it; a request that concerns
// another node is proxied there.
func (c *Cluster) At(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, name) })
}

// since reports whether the cluster's release is at least version, "9.1".
func (c *Cluster) since(version string) bool { return atLeast(c.release, version) }

func atLeast(release, version string) bool {
	r, v := strings.Split(release, "."), strings.Split(version, ".")
	for i := range v {
		if i >= len(r) {
			return false
		}
		if a, b := atoi(r[i]), atoi(v[i]); a != b {
			return a > b
		}
	}
	return true
}

// record notes what happened to a container.
func (c *Cluster) record(kind string, t *ct, source int, who string) {
	c.history = append(c.history, Event{At: c.clock.Now(), Kind: kind, Node: t.node, VMID: t.vmid, Source: source, Who: who})
	c.dirty()
}

// History is every create, clone, start, stop, destroy and conversion so far.
func (c *Cluster) History() []Event {
	c.enter()
	defer c.mu.Unlock()
	return append([]Event(nil), c.history...)
}
