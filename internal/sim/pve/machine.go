package pve

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Machine is what the nodes' containers are really made of and run on. Without
// one, time passes and nothing is made. Locks, tasks, storages and the words
// that are said stay the cluster's own. All calls but Publish come without the
// cluster's lock and may take their time.
type Machine interface {
	Make(Volume) error                     // an empty file system
	Unpack(v Volume, archive string) error // into a volume that was made; archive is a path
	Link(base, v Volume) error             // a clone that shares what does not change
	Copy(from, v Volume) error             // a clone that shares nothing
	Rename(from, to Volume) error
	Remove(Volume) error
	// Start returns when init was executed. The channel is closed once
	// nothing of the container runs any more.
	Start(Launch) (ended <-chan struct{}, err error)
	Kill(vmid int) error                                // returns when it has ended
	Shutdown(vmid int, limit time.Duration) (down bool) // asks init, and waits
	Interfaces(vmid int) ([]NetInterface, error)        // as inside
	// Publish writes a file of /etc/pve, "lxc/101.conf", or removes it when
	// the text is empty. It is called under the cluster's lock.
	Publish(name, text string)
}

// Volume is a volume as a Machine sees it.
type Volume struct {
	Storage string // e.g. local-zfs
	Path    string // of the storage, where it has one
	Name    string // subvol-101-disk-0
	Size    int64  // bytes
}

// Launch is a container to start.
type Launch struct {
	VMID    int
	Options map[string]string // as in its configuration
	Raw     [][2]string
	Volumes map[string]Volume // "rootfs" and mount points
}

// NetInterface is a network device of a container, as "ip --json a" shows it.
type NetInterface struct {
	Name, MAC   string
	Inet, Inet6 []string // with prefixes
}

// machineVolume is the volume as the machine knows it. A linked clone is known
// without its base's name.
func (s *store) machineVolume(v *volume) Volume {
	return Volume{Storage: s.ID, Path: s.Path, Name: v.name[strings.LastIndexByte(v.name, '/')+1:], Size: v.size}
}

// work has the machine do something and goes on with then; without a machine,
// at once. A worker that ended meanwhile leaves the container to its unit.
func (t *task) work(do func(Machine) error, then func()) {
	c := t.c
	if c.machine == nil {
		then()
		return
	}
	c.spawn(func() {
		err := do(c.machine)
		c.enter()
		defer c.mu.Unlock()
		switch {
		case !t.live || t.stopped:
		case err != nil:
			t.fail(err.Error())
		default:
			then()
		}
	})
}

// workOn is work that makes a volume. If the worker is gone when it is made,
// so is the volume: what was rolled back may not come into being afterwards.
func (t *task) workOn(s *store, v *volume, do func(Machine, Volume) error, then func()) {
	made := s.machineVolume(v)
	c := t.c
	if c.machine == nil {
		then()
		return
	}
	c.spawn(func() {
		err := do(c.machine, made)
		c.enter()
		defer c.mu.Unlock()
		if !t.live || t.stopped {
			if s.find(v.name) != v {
				c.discard(made)
			}
			return
		}
		if err != nil {
			t.fail(err.Error())
			return
		}
		then()
	})
}

// spawn runs something of the machine's beside everything else. Settle waits
// for it.
func (c *Cluster) spawn(f func()) { c.busy.run(f) }

// Settle waits until the machine has nothing to do. Without a machine it
// never has.
func (c *Cluster) Settle() { c.busy.wait() }

// errands are work that goes on. Unlike with a sync.WaitGroup, more may begin
// while somebody waits for it to end.
type errands struct {
	mu   sync.Mutex
	n    int
	over chan struct{} // closed when n is 0 again
}

func (e *errands) run(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n++; e.n == 1 {
		e.over = make(chan struct{})
	}
	go func() {
		defer e.end()
		f()
	}()
}

func (e *errands) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n--; e.n == 0 {
		close(e.over)
	}
}

// wait waits until none goes on.
func (e *errands) wait() {
	e.mu.Lock()
	n, over := e.n, e.over
	e.mu.Unlock()
	if n > 0 {
		<-over
	}
}

// discard has the machine remove a volume that is rolled back.
func (c *Cluster) discard(v Volume) {
	if c.machine != nil {
		c.spawn(func() { _ = c.machine.Remove(v) }) // what stays is seen on the storage
	}
}

// discardID is discard of a volume id that still is in its store.
func (c *Cluster) discardID(volid string) {
	s, name, err := c.storageOf(volid)
	if err != nil {
		return
	}
	if v := s.find(name); v != nil {
		c.discard(s.machineVolume(v))
	}
}

// launch starts a container on the machine and follows it to its end.
func (c *Cluster) launch(t *task, k *ct) {
	l := Launch{VMID: k.vmid, Options: k.conf.copyOpts(), Raw: append([][2]string(nil), k.conf.raw...), Volumes: map[string]Volume{}}
	for _, key := range volumeKeys(k.conf.opts) {
		if s, name, err := c.storageOf(parseMount(k.conf.opts[key])["volume"]); err == nil {
			if v := s.find(name); v != nil {
				l.Volumes[key] = s.machineVolume(v)
			}
		}
	}
	k.starts, k.stopper = true, ""
	c.spawn(func() {
		ended, err := c.machine.Start(l)
		c.enter()
		defer c.mu.Unlock()
		if err != nil {
			c.startFailed(t, k, err)
			return
		}
		c.boot(k, t.user)
		t.started(k)
		boot := k.boots
		go c.follow(k, boot, ended)
	})
}

func (c *Cluster) startFailed(t *task, k *ct, err error) {
	k.running, k.starts, k.failed = false, false, c.clock.Now()
	c.wake(k)
	if t.live {
		t.say(err.Error())
		t.fail(fmt.Sprintf("startup for container '%d' failed", k.vmid))
	}
}

// follow sees a container go down by itself.
func (c *Cluster) follow(k *ct, boot int, ended <-chan struct{}) {
	<-ended
	c.enter()
	defer c.mu.Unlock()
	if c.cts[k.vmid] == k && k.boots == boot && k.booted {
		c.halt(k, k.stopper) // whoever stopped it may be a moment later
	}
}

// shutdownMachine asks init, and kills it at last.
func (c *Cluster) shutdownMachine(t *task, k *ct, limit time.Duration, force bool, then func()) {
	down := false
	k.stopper = t.user
	t.work(func(m Machine) error { down = m.Shutdown(k.vmid, limit); return nil }, func() {
		switch {
		case down:
			c.halt(k, t.user)
			then()
		case force:
			c.stopWork(t, k, then)
		default:
			t.disobeyed(k, limit)
		}
	})
}

// realInterfaces are the devices of a container that really runs.
func (r *call) realInterfaces(vmid int) (any, error) {
	var list []NetInterface
	var err error
	r.wait(func(got func(bool)) {
		r.c.spawn(func() {
			list, err = r.c.machine.Interfaces(vmid)
			r.c.enter()
			defer r.c.mu.Unlock()
			got(true)
		})
	})
	if err != nil {
		return nil, nil // it has gone down meanwhile
	}
	out := []*netInterface{}
	for _, i := range list {
		n := &netInterface{Name: i.Name, HWAddr: i.MAC, Hardware: i.MAC, Addresses: []ipAddress{}}
		for _, a := range i.Inet {
			n.add(a, "inet")
		}
		for _, a := range i.Inet6 {
			n.add(a, "inet6")
		}
		out = append(out, n)
	}
	return out, nil
}
