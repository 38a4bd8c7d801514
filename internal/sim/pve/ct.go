package pve

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ct is one container.
type ct struct {
	vmid    int
	node    string
	conf    *conf
	running bool      // its command socket answers
	booted  bool      // init runs
	starts  bool      // a start is under way
	dying   bool      // it is being stopped
	failed  time.Time // when a start failed last
	since   time.Time // init was executed
	boots   int
	stopper string // who has its machine end it
	pid     int
	env     map[string]string // of the running init
	host    string            // hostname of the running init
	own     []string          // addresses that its guest gave its loopback
	rootfs  map[string]string
	systemd int
	stat    *vmStat // what pvestatd saw last; nil: nothing yet
	waiting []func(bool)
}

// vmStat is what pvestatd reports about a container.
type vmStat struct {
	status string
	uptime int64
	facts
}

func (t *ct) lock() string    { return t.conf.opts["lock"] }
func (t *ct) template() bool  { return t.conf.opts["template"] == "1" }
func (t *ct) protected() bool { return t.conf.opts["protection"] == "1" }
func (t *ct) hostname() string {
	if h := t.conf.opts["hostname"]; h != "" {
		return h
	}
	return "CT" + strconv.Itoa(t.vmid)
}

// A container whose init could not be executed shows as running for a moment
// after its start has failed, and keeps its devices busy for longer, as
// recorded; how long is believed.
const (
	shownAfterFailure = time.Second
	busyAfterFailure  = time.Minute
)

func (c *Cluster) status(t *ct) string {
	if t.running || c.clock.Now().Sub(t.failed) < shownAfterFailure {
		return "running"
	}
	return "stopped"
}

// checkLock is PVE::AbstractConfig::check_lock.
func (t *ct) checkLock() error {
	if l := t.lock(); l != "" {
		return die("CT is locked (" + l + ")")
	}
	return nil
}

// container finds the container in the path on the node of the request.
func (r *call) container() (*ct, error) {
	t := r.c.cts[r.vmid()]
	if t == nil || t.node != r.node.name {
		return nil, missingConfig(r.node.name, r.vmid())
	}
	return t, nil
}

// locked takes the config lock, runs fn on the container as it is then, and
// gives the lock back.
func (r *call) locked(fn func(*ct) error) error {
	name := configLock(r.vmid())
	if err := r.acquire(name); err != nil {
		return err
	}
	defer r.c.unlock(name)
	t, err := r.container()
	if err != nil {
		return err
	}
	return fn(t)
}

// sorted are the containers by VMID.
func (c *Cluster) sorted() []*ct {
	out := make([]*ct, 0, len(c.cts))
	for _, t := range c.cts {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *ct) int { return a.vmid - b.vmid })
	return out
}

// facts are worked out when they are asked for and kept until the
// configuration changes.
func (t *ct) facts() *facts {
	if t.conf.facts == nil {
		t.conf.facts = &facts{name: t.hostname(), tags: t.conf.opts["tags"], template: bit(t.template()), cpus: t.cpus(),
			maxmem: t.memory("memory"), maxswap: t.memory("swap"), maxdisk: t.disk()}
	}
	return t.conf.facts
}

// cpus is how many a container may use; on a node of two unless it says less.
func (t *ct) cpus() float64 {
	if n := atoi(t.conf.opts["cores"]); n > 0 {
		return float64(n)
	}
	if f, err := strconv.ParseFloat(t.conf.opts["cpulimit"], 64); err == nil && f > 0 {
		return f
	}
	return 2
}

func (t *ct) memory(key string) int64 {
	v, ok := t.conf.opts[key]
	if !ok {
		return 512 << 20
	}
	return int64(atoi(v)) << 20
}

func (t *ct) disk() int64 {
	for _, part := range strings.Split(t.conf.opts["rootfs"], ",") {
		if s, ok := strings.CutPrefix(part, "size="); ok {
			return sizeOf(s)
		}
	}
	return 4 << 30 // what Proxmox takes for a container without one
}

// uptime in seconds; a container's own clock starts a little late, so that it
// can be negative just after a start, as recorded.
func (c *Cluster) uptime(t *ct) int64 {
	if !t.booted {
		return 0
	}
	return int64(c.clock.Now().Sub(t.since)/time.Second) - 1
}

// halt takes a container down: what was inside is gone, pending changes are
// made (by the post-stop hook), and whoever waits for it goes on.
func (c *Cluster) halt(t *ct, who string) {
	if !t.running {
		if t.starts {
			t.starts = false
			c.wake(t)
		}
		return
	}
	was := t.booted
	t.running, t.booted, t.starts, t.dying, t.env, t.pid = false, false, false, false, nil, 0
	t.conf.apply()
	c.record("stop", t, 0, who)
	c.wake(t)
	if was {
		node, vmid := t.node, t.vmid
		c.notify(func() { c.guest.Halt(node, vmid) })
	}
}

// boot executes init.
func (c *Cluster) boot(t *ct, who string) {
	t.booted, t.starts, t.since, t.boots = true, false, c.clock.Now(), t.boots+1
	c.pid++
	t.pid = c.pid
	t.host = t.hostname()
	t.env = parseEnv(t.conf.opts["env"])
	t.own = nil
	c.record("start", t, 0, who)
	c.wake(t)
	run := Running{Node: t.node, VMID: t.vmid, Hostname: t.host, Env: copyMap(t.env), Rootfs: copyMap(t.rootfs), Boot: t.boots}
	c.notify(func() { c.guest.Boot(run) })
}

// wake lets the reads go on that wait for init.
func (c *Cluster) wake(t *ct) {
	waiting := t.waiting
	t.waiting = nil
	for _, got := range waiting {
		got(true)
	}
}

// untilBooted waits while a container is being started: whoever asks it
// something then is not answered before init runs.
func (r *call) untilBooted(t *ct) {
	if !t.starts {
		return
	}
	r.wait(func(got func(bool)) { t.waiting = append(t.waiting, got) })
}

func parseEnv(s string) map[string]string {
	out := map[string]string{}
	if s == "" {
		return out
	}
	for _, kv := range strings.Split(s, "\x00") {
		k, v, _ := strings.Cut(kv, "=")
		out[k] = v
	}
	return out
}

func copyMap(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// newMAC is a random address with the datacenter's prefix.
func (c *Cluster) newMAC() string {
	n := c.rng.Intn(1 << 24)
	return fmt.Sprintf("%s:%02X:%02X:%02X", c.options["mac_prefix"], n>>16&255, n>>8&255, n&255)
}
