package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
	"github.com/dayfly-ci/dayfly/internal/host"
	"github.com/dayfly-ci/dayfly/internal/proxmox"
)

// half is what is known of a node's root half that answers.
type half struct {
	client *host.Client
	cores  int                   // of its node; 0: an older release
	boots  map[fleet.VMID]string // of the containers that run, as it told last; nil: not yet; owned by the loop
	work   *look                 // at the worker processes on its node
}

// halves are the root halves that answer, by node.
type halves struct {
	mu   sync.Mutex
	by   map[string]*half
	lost map[string]time.Time // since when those that answered do not
	told map[string]int       // cores of the nodes of those that ever answered
}

// on is the root half of a node; nil: none answers.
func (h *halves) on(node string) *half {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.by[node]
}

func (h *halves) set(node string, one *half) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by, h.lost, h.told = map[string]*half{}, map[string]time.Time{}, map[string]int{}
	}
	if one == nil {
		delete(h.by, node)
		h.lost[node] = time.Now()
	} else {
		h.by[node], h.told[node] = one, one.cores
		delete(h.lost, node)
	}
}

// cores is how many a node has by what its root half told; 0: none ever did.
func (h *halves) cores(node string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told[node]
}

// away is since when a node has no root half that answers, at the latest since
// the daemon began; zero: it has one.
func (h *halves) away(node string, began time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by[node] != nil {
		return time.Time{}
	}
	if at, known := h.lost[node]; known {
		return at
	}
	return began
}

// lone reports whether a node has no root half that answers, and may be where one
// of those is that are to answer and do not.
func (h *halves) lone(node string, want int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.by[node] == nil && len(h.by) < want
}

func (h *halves) all() map[string]*half {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.by)
}

// followHalves stays in touch with every root half. Without one, dayfly
// delivers by env, looks for what it would be told, and has less evidence.
func (d *Daemon) followHalves(ctx context.Context) {
	for _, c := range d.cfg.Hosts {
		d.work.Go(func() {
			again := fleet.Retry{Min: time.Second, Max: 15 * time.Second}
			for failures := 0; ctx.Err() == nil; {
				began := time.Now()
				err := d.followHalf(ctx, c)
				if time.Since(began) > time.Minute {
					failures = 0
				}
				failures++
				d.reportHalf(ctx, c, err)
				sleep(ctx, again.Delay(failures, uint64(began.UnixNano())))
			}
		})
	}
}

// sleep waits, or not if ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// The troubles of root halves begin so.
const halfAway = "root half "

// reportHalf makes it known that a root half cannot be used, and what that
// means.
func (d *Daemon) reportHalf(ctx context.Context, c *host.Client, err error) {
	if ctx.Err() != nil {
		return
	}
	hint := `see "systemctl status dayfly-host" on its node; until it answers, JIT configs there go by env, and ends of containers are looked for`
	switch {
	case errors.Is(err, host.ErrPeer):
		hint = `there, host.user must be the user that this daemon runs as, and keys those that "dayfly host keys" made for both; until then JIT configs go by env`
	case errors.Is(err, host.ErrContract):
		hint = `install the same release of dayfly on its node and run "systemctl restart dayfly-host" there; until then JIT configs go by env`
	}
	d.inbox.post(func(*state) { d.trouble(halfAway+c.Where(), err.Error(), hint) })
}

// followHalf greets a root half and hears what it tells until it fails.
func (d *Daemon) followHalf(ctx context.Context, c *host.Client) error {
	hello, err := c.Hello(ctx)
	if err != nil {
		return err
	}
	if hello.First > d.cfg.First || hello.Last < d.cfg.Last {
		return fmt.Errorf("root half at %s: it touches VMIDs %d to %d only, the range is %d to %d",
			c.Where(), hello.First, hello.Last, d.cfg.First, d.cfg.Last)
	}
	h := &half{client: c, cores: hello.Cores, work: newLook(never)}
	d.halves.set(hello.Node, h)
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		d.halves.set(hello.Node, nil)
		d.looks.containers.poke(hello.Node)
	}()
	d.inbox.post(func(*state) {
		d.fine(halfAway + c.Where())
		d.log.Info("root half answers", "node", hello.Node, "version", hello.Version)
	})
	d.inbox.poke()
	d.looks.containers.poke(hello.Node) // what ended while nobody told
	d.work.Go(func() { h.work.run(ctx, func(ctx context.Context) error { return d.lookAtWork(ctx, hello.Node, h) }) })
	for mark := ""; ; {
		view, err := c.Watch(ctx, mark)
		if err != nil {
			return err
		}
		if view.Mark != mark {
			mark = view.Mark
			d.inbox.post(func(s *state) { d.viewed(s, hello.Node, h, view) })
		}
	}
}

// notByUs is what is said of a container that boots a second time.
const notByUs = "its container was started again, and not by dayfly: a guest that has run uses no JIT config again, and goes down"

// viewed applies what a root half tells of the containers that run. Only that a
// boot which it told of is over is a fact: who is not in the view may have
// started since.
func (d *Daemon) viewed(s *state, node string, h *half, view host.View) {
	now := map[fleet.VMID]string{}
	for _, r := range view.Running {
		now[r.VMID] = r.Boot
	}
	for _, r := range s.inOrder() {
		was := h.boots[r.VMID]
		if r.Node == node && h.boots != nil && now[r.VMID] != "" && now[r.VMID] != was && (was != "" || !r.Ended.IsZero()) {
			d.log.Warn("container was started again", "runner", r.Name, "vmid", int(r.VMID), "node", node, "reason", notByUs)
			d.save(r, again, notByUs)
		}
		if r.Node != node || was == "" || now[r.VMID] == was {
			continue
		}
		if now[r.VMID] != "" || r.Pending != fleet.None && r.Pending != fleet.Deregister {
			d.looks.containers.poke(node) // it has started anew, or an action on it is about to tell
			continue
		}
		r.touched = time.Now() // what was listed before knows less
		d.contained(r, proxmox.Container{
			Node: r.Node, VMID: r.VMID, Name: r.Name, State: fleet.Stopped, Storage: r.Storage, Launched: !r.Launched.IsZero(),
		})
	}
	h.boots = now
}

const (
	never     = 24 * time.Hour
	workEvery = 2 * time.Second
)

// working lists the runners on a node whose containers may have a worker.
func (s *state) working(node string) []fleet.Runner {
	var list []fleet.Runner
	for _, r := range s.inOrder() {
		phase := r.Phase()
		if r.Node == node && r.Container == fleet.Running && r.Ended.IsZero() && r.Took.IsZero() &&
			(phase == fleet.Launching || phase == fleet.Idle) {
			list = append(list, r.Runner)
		}
	}
	return list
}

// paceHalves has the processes looked at while a job may begin.
func (d *Daemon) paceHalves(s *state) {
	for node, h := range d.halves.all() {
		every := never
		if len(s.working(node)) > 0 {
			every = workEvery
		}
		h.work.set(every)
	}
}

// lookAtWork asks which of a node's runners have begun a job: the host sees it
// before GitHub says so.
func (d *Daemon) lookAtWork(ctx context.Context, node string, h *half) error {
	list, err := ask(ctx, d, func(s *state) []fleet.Runner { return s.working(node) })
	if err != nil {
		return err
	}
	for _, r := range list {
		w, err := h.client.Busy(ctx, r.VMID)
		if err == nil && w.Worker {
			d.inbox.post(func(s *state) { d.worked(s, r.Name) })
		}
	}
	return nil
}

// worked notes that a runner's worker process was seen.
func (d *Daemon) worked(s *state, name string) {
	r := s.runners[name]
	if r == nil || !r.Took.IsZero() || !r.Ended.IsZero() {
		return
	}
	r.Took = time.Now()
	d.listened(r, r.Took, "seen by its job's process")
	d.save(r, worker, "seen on its node")
	d.looks.jobs.poke(string(r.Scope))
}

// busyThere reports whether the node shows a job at work in the container:
// that goes before what GitHub says.
func (d *Daemon) busyThere(ctx context.Context, r fleet.Runner) bool {
	h := d.halves.on(r.Node)
	if h == nil || r.Container != fleet.Running || !r.Ended.IsZero() {
		return false
	}
	w, err := h.client.Busy(ctx, r.VMID)
	return err == nil && w.Worker
}

// mend has a node's root half remove what a cut-off task left of a runner that
// is gone. It refuses while a task may work on it.
func (d *Daemon) mend(ctx context.Context, r fleet.Runner) {
	h := d.halves.on(r.Node)
	if h == nil {
		return
	}
	if err := h.client.Repair(ctx, r.VMID, r.Name, host.Remove); err != nil {
		d.log.Debug("not repaired", "runner", r.Name, "vmid", int(r.VMID), "err", err)
		return
	}
	d.log.Info("repaired: what a task left is removed", "runner", r.Name, "vmid", int(r.VMID), "node", r.Node)
}

// ways says how JIT configs reach containers now.
func (d *Daemon) ways(s *state) string {
	var by []string
	all := d.halves.all()
	rest := false
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		if all[name] != nil {
			by = append(by, name)
		} else {
			rest = true
		}
	}
	switch {
	case len(by) == 0:
		return envWay
	case !rest:
		return hostWay
	}
	return fmt.Sprintf("%s on %s, %s elsewhere", hostWay, strings.Join(by, " and "), envWay)
}

// way is how a JIT config reaches a container on a node now.
func (d *Daemon) way(node string) string {
	if d.halves.on(node) != nil {
		return hostWay
	}
	return envWay
}

// The ways of delivery.
const (
	envWay  = "env"
	hostWay = "host"
)
