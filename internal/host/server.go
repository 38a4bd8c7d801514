//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// Config is what a root half works with.
type Config struct {
	Node        string // as Proxmox calls it
	Version     string
	First, Last fleet.VMID   // our range
	Pool        string       // resource pool of the runners' containers
	Key         fleet.Secret // of the instance: signs manifests
	Log         *slog.Logger

	PVE         string        // where pmxcfs is: /etc/pve
	Cgroup      string        // where cgroup2 is: /sys/fs/cgroup
	Proc        string        // /proc
	Tasks       string        // Proxmox's list of tasks at work: /var/log/pve/tasks/active
	PCT         []string      // the node's tool, with what goes before it
	Rules       [][]string    // commands that list the packet filter's rules; none: not looked at
	FirewallNap time.Duration // between two looks at them
}

// Node is the configuration of a Proxmox node, but for what is the operator's.
// What changes a container runs as a unit of its own, outside of the root
// half's confinement.
func Node() Config {
	return Config{
		PVE: "/etc/pve", Cgroup: "/sys/fs/cgroup", Proc: "/proc", Tasks: "/var/log/pve/tasks/active",
		PCT: []string{"/usr/bin/systemd-run", "--quiet", "--collect", "--wait", "--pipe",
			"--property=RuntimeMaxSec=110", "/usr/sbin/pct"},
		Rules: [][]string{
			{"/usr/sbin/iptables-save", "-t", "filter"}, {"/usr/sbin/nft", "list", "ruleset"},
		},
		FirewallNap: 250 * time.Millisecond,
	}
}

// Server is a root half. Serve its Handler, and Run it.
type Server struct {
	cfg      Config
	log      *slog.Logger
	requests chan struct{} // bounds those at work
	firewall atomic.Int32  // which of the rules' lists named the last interface
	guard    guard

	mu      sync.Mutex
	slots   map[fleet.VMID]*slot
	spool   []fleet.VMID // those whose slots keep evidence, oldest first
	view    View
	changed chan struct{} // closed when view changes
}

// requestsAtOnce bounds the requests at work, those that only wait excepted.
const requestsAtOnce = 64

// New makes a root half.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.First < 100 || cfg.Last < cfg.First:
		return nil, fmt.Errorf("root half: VMID range %d to %d", cfg.First, cfg.Last)
	case cfg.Pool == "" || cfg.Node == "":
		return nil, errors.New("root half: the node and the runners' resource pool must be named")
	case len(cfg.Key.Reveal()) < 16:
		return nil, errors.New("root half: the instance's key is shorter than 16 bytes")
	case len(cfg.PCT) == 0:
		return nil, errors.New("root half: no tool to repair with")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.FirewallNap <= 0 {
		cfg.FirewallNap = 250 * time.Millisecond
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, requests: make(chan struct{}, requestsAtOnce),
		slots: map[fleet.VMID]*slot{}, changed: make(chan struct{}),
	}
	s.view = View{Mark: s.nextMark(0), Running: []Running{}}
	return s, nil
}

// Handler serves the contract. Who may connect is the listener's affair.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/hello", s.answer(func(*http.Request) (any, error) {
		return Hello{Contract, s.cfg.Version, s.cfg.Node, s.cfg.First, s.cfg.Last, runtime.NumCPU()}, nil
	}))
	mux.HandleFunc("GET /v1/watch", s.answer(func(r *http.Request) (any, error) {
		return s.watch(r.Context(), r.URL.Query().Get("after")), nil
	}))
	mux.HandleFunc("POST /v1/containers/{vmid}/inject", s.bounded(func(r *http.Request, id fleet.VMID) (any, error) {
		var in Injection
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		done, err := s.inject(r.Context(), id, in)
		s.tell("inject", id, err)
		return done, err
	}))
	mux.HandleFunc("POST /v1/containers/{vmid}/repair", s.bounded(func(r *http.Request, id fleet.VMID) (any, error) {
		var what Repair
		if err := decode(r, &what); err != nil {
			return nil, err
		}
		// What it has begun it ends, though nobody waits for it any more.
		err := s.repair(context.WithoutCancel(r.Context()), id, what)
		s.tell("repair", id, err)
		return struct{}{}, err
	}))
	mux.HandleFunc("GET /v1/containers/{vmid}/busy", s.held(func(g *grip) (any, error) { return s.work(g) }))
	mux.HandleFunc("GET /v1/containers/{vmid}/stats", s.held(func(g *grip) (any, error) { return s.sample(g), nil }))
	mux.HandleFunc("GET /v1/containers/{vmid}/collect", s.bounded(func(_ *http.Request, id fleet.VMID) (any, error) {
		return s.collect(id)
	}))
	return s.contract(mux)
}

func (s *Server) tell(what string, id fleet.VMID, err error) {
	if err != nil {
		s.log.Warn(what, "vmid", int(id), "err", err)
		return
	}
	s.log.Info(what, "vmid", int(id))
}

// held makes a handler of a look into a container that runs.
func (s *Server) held(look func(*grip) (any, error)) http.HandlerFunc {
	return s.bounded(func(_ *http.Request, id fleet.VMID) (any, error) {
		_, m, err := s.admit(id)
		if err != nil {
			return nil, err
		}
		g, err := s.grip(id, m.Name)
		if err != nil {
			return nil, err
		}
		defer s.letGo(g)
		return look(g)
	})
}

// collect returns what the boot that runs has left so far, or the last one.
func (s *Server) collect(id fleet.VMID) (Evidence, error) {
	_, m, err := s.admit(id)
	if err != nil {
		return Evidence{}, err
	}
	g, err := s.grip(id, m.Name)
	if err == nil {
		defer s.letGo(g)
		return s.evidence(g), nil
	}
	sl, locked := s.lock(id)
	if !locked {
		return Evidence{}, errStuck(id)
	}
	defer sl.unlock()
	if sl.last != nil && sl.last.Name == m.Name {
		return *sl.last, nil
	}
	return Evidence{}, err
}
