package pve

import (
	"fmt"
	"strings"
	"time"
)

// cloning is one clone under way.
type cloning struct {
	src, dst *ct
	full     bool
	pool     string
	target   string
	volumes  []cloneVolume
	made     []string // volume ids
}

// cloneVolume is one mount point to clone.
type cloneVolume struct {
	key   string
	from  *store
	to    *store
	name  string
	props map[string]string
}

// clone starts the copy of a container. Everything up to the worker is done
// before the answer: the source carries the lock "disk" from here to the end
// of the worker, so that a second clone of it is refused at once (it is not
// queued), and the new container exists, locked, in no resource pool.
func clone(r *call) (any, error) {
	c := r.c
	pool := r.str("pool")
	if pool != "" && c.pools[pool] == nil {
		return nil, denied("pool '" + pool + "' does not exist")
	}
	k := &cloning{pool: pool, target: r.node.name}
	if t := r.str("target"); t != "" && t != "localhost" {
		if c.nodes[t] == nil {
			return nil, die("no such cluster node '" + t + "'")
		}
		k.target = t
	}
	if s := r.str("storage"); s != "" && c.storages[s] == nil {
		return nil, die("storage '" + s + "' does not exist")
	}
	err := r.locked(func(t *ct) error {
		if err := t.checkLock(); err != nil {
			return err
		}
		t.conf.set("lock", "disk")
		k.src = t
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := r.prepareClone(k); err != nil {
		k.src.conf.set("lock", "")
		return nil, err
	}
	t := c.fork(r.node, "vzclone", r.str("vmid"), r.who, func(t *task) { c.cloneWork(t, k) })
	return t.upid, nil
}

// prepareClone checks what is to be copied and makes the new configuration.
func (r *call) prepareClone(k *cloning) error {
	newid := r.num("newid")
	if err := r.c.unused(newid); err != nil {
		return err
	}
	opts := k.src.conf.copyOpts()
	k.full = !k.src.template()
	if r.has("full") {
		k.full = r.on("full")
	}
	if !k.full && r.has("storage") {
		return die("parameter 'storage' not allowed for linked clones")
	}
	snap := r.str("snapname")
	if snap != "" {
		s := k.src.conf.snapshot(snap)
		if s == nil {
			return die("snapshot '" + snap + "' does not exist")
		}
		opts = copyMap(s.opts)
	}
	dst := &ct{vmid: newid, node: r.node.name, conf: newConf(), rootfs: copyMap(k.src.rootfs), systemd: k.src.systemd}
	for _, key := range sortedKeys(opts) {
		if err := r.cloneOption(k, dst, key, opts[key], snap); err != nil {
			return err
		}
	}
	dst.conf.raw = append([][2]string(nil), k.src.conf.raw...)
	if h := r.str("hostname"); h != "" {
		dst.conf.set("hostname", h)
	}
	if d := r.str("description"); d != "" {
		dst.conf.set("description", description(d))
	}
	dst.conf.set("lock", "create")
	k.dst = dst
	r.c.cts[newid] = dst
	if f := r.c.firewall[k.src.vmid]; f != nil {
		r.c.firewall[newid] = f.clone()
	}
	r.c.record("clone", dst, k.src.vmid, r.who)
	return nil
}

// cloneOption copies one option. Nothing here looks at features, devices or
// raw lines: whoever may clone gets them.
func (r *call) cloneOption(k *cloning, dst *ct, key, v, snap string) error {
	switch {
	case key == "lock" || key == "template" || key == "parent" || key == "snaptime" || strings.HasPrefix(key, "unused"):
		return nil
	case key == "rootfs" || isMountPoint(key):
		return r.cloneMount(k, key, v, snap)
	case isNet(key):
		net, _ := parseProps(r.c.schema.formats["net"], key, v)
		if err := r.c.checkBridge(r.who, net); err != nil {
			return err
		}
		net["hwaddr"] = r.c.newMAC()
		v = printProps(r.c.schema.formats["net"], net)
	}
	dst.conf.set(key, v)
	return nil
}

func (r *call) cloneMount(k *cloning, key, v, snap string) error {
	props := parseMount(v)
	volid := props["volume"]
	if kind := mountType(volid); kind != "volume" {
		return die(fmt.Sprintf("unable to clone mountpoint '%s' (type %s)", key, kind))
	}
	from, name, err := r.c.storageOf(volid)
	if err != nil {
		return err
	}
	to := from
	if s := r.str("storage"); s != "" {
		to = r.c.storages[s]
	}
	if err := r.c.check(r.who, "/storage/"+to.ID, "Datastore.AllocateSpace"); err != nil {
		return err
	}
	if k.full && k.src.running && snap == "" {
		return die("Cannot do full clones on a running container without snapshots")
	}
	if !k.full && !from.can("clone", name, snap != "") {
		return die("Linked clone feature for '" + volid + "' is not available")
	}
	if k.target != r.node.name && !to.Shared {
		return die("can't clone CT to node '" + k.target + "' (CT uses local storage)")
	}
	k.volumes = append(k.volumes, cloneVolume{key: key, from: from, to: to, name: name, props: props})
	return nil
}

// cloneWork is the worker: volumes one after the other, then the resource
// pool, then the locks.
func (c *Cluster) cloneWork(t *task, k *cloning) {
	t.prefix, t.grace = "clone failed: ", time.Second
	t.caught = func() { k.src.conf.set("lock", "") }
	t.undo = func() { c.undoClone(t, k) }
	if t.blame() {
		return
	}
	if c.since("9") { // since pve-container 6.1.3
		t.say(fmt.Sprintf("creating a clone of container %d with ID %d", k.src.vmid, k.dst.vmid))
	}
	sortBy(k.volumes, func(a, b cloneVolume) bool { return a.key == "rootfs" && b.key != "rootfs" })
	d := t.timing.Clone
	if k.full {
		d = t.timing.FullClone
	}
	c.cloneNext(t, k, 0, d/time.Duration(max(len(k.volumes), 1)))
}

// cloneNext clones volume number i, which takes d.
func (c *Cluster) cloneNext(t *task, k *cloning, i int, d time.Duration) {
	if i == len(k.volumes) {
		c.cloneJoin(t, k)
		return
	}
	v := k.volumes[i]
	lock := v.to.lockName()
	if k.full {
		t.say(fmt.Sprintf("create full clone of mountpoint %s (%s:%s)", v.key, v.from.ID, v.name))
	} else {
		t.say(fmt.Sprintf("create linked clone of mount point %s (%s:%s)", v.key, v.from.ID, v.name))
	}
	t.acquire(lock, func() {
		if !k.full {
			// The storage's lock is held while the volume is made.
			t.after(d*6/10, func() {
				base := v.from.find(v.name)
				if base == nil {
					t.fail("no such volume '" + v.from.ID + ":" + v.name + "'")
					return
				}
				made := v.to.link(base, k.dst.vmid)
				from := v.from.machineVolume(base)
				t.workOn(v.to, made, func(m Machine, to Volume) error { return m.Link(from, to) }, func() {
					t.say(v.to.made(made)...)
					t.release(lock)
					k.add(v, made)
					t.after(d*3/10, func() { c.cloneNext(t, k, i+1, d) })
				})
			})
			return
		}
		made := v.to.alloc(k.dst.vmid, sizeOf(v.props["size"]))
		k.made = append(k.made, v.to.ID+":"+made.name)
		t.say(v.to.made(made)...)
		t.after(d/20, func() {
			t.release(lock)
			t.say(c.formatted(v.to, made)...)
			t.after(d*17/20, func() { c.copyVolume(t, k, v, made, func() { c.cloneNext(t, k, i+1, d) }) })
		})
	})
}

// copyVolume is the rsync of a full clone.
func (c *Cluster) copyVolume(t *task, k *cloning, v cloneVolume, made *volume, then func()) {
	src := v.from.find(v.name)
	if src == nil {
		t.fail("no such volume '" + v.from.ID + ":" + v.name + "'")
		return
	}
	// Believed: a template's system fills an eighth of its disk.
	if made.written = src.size / 8; v.to.used() > v.to.Size {
		t.say("rsync: [receiver] write failed: No space left on device (28)")
		t.fail("command 'rsync --stats -X -A --numeric-ids -aH --whole-file --sparse --one-file-system' failed: exit code 11")
		return
	}
	from := v.from.machineVolume(src)
	t.workOn(v.to, made, func(m Machine, to Volume) error { return m.Copy(from, to) }, func() {
		t.say(rsyncStats...)
		k.add(v, made)
		then()
	})
}

func (k *cloning) add(v cloneVolume, made *volume) {
	if !k.full {
		k.made = append(k.made, v.to.ID+":"+made.name)
	}
	v.props["volume"] = v.to.ID + ":" + made.name
	k.dst.conf.set(v.key, printProps(mountProps(v.key), v.props))
}

// cloneJoin puts the new container into its resource pool, late, and takes the
// locks away.
func (c *Cluster) cloneJoin(t *task, k *cloning) {
	rest := t.timing.Clone / 10
	finish := func() {
		t.after(rest, func() {
			k.src.conf.set("lock", "")
			k.dst.conf.set("lock", "")
			k.dst.node = k.target
			t.undo = nil
			c.dirty()
			t.done()
		})
	}
	if k.pool == "" {
		finish()
		return
	}
	c.joinPool(t, k.dst.vmid, k.pool, finish)
}

// joinPool adds a container to a resource pool, under the lock of user.cfg.
func (c *Cluster) joinPool(t *task, vmid int, pool string, then func()) {
	c.acquire(userLock, func(ok bool) {
		switch {
		case !t.live:
			if ok {
				c.unlock(userLock)
			}
		case !ok:
			t.fail(fmt.Sprintf("can't add VM %d to pool '%s': %s", vmid, pool, lockTimeout(userLock)))
		default:
			if c.pools[pool] != nil {
				c.member[vmid] = pool
			}
			c.unlock(userLock)
			then()
		}
	})
}

// undoClone removes the half-made container. A membership in a resource pool
// that was made already stays, and so does the right to see that VMID.
func (c *Cluster) undoClone(t *task, k *cloning) {
	for _, id := range k.made {
		c.discardID(id)
		s, name, _ := c.storageOf(id)
		lines, _ := s.remove(name)
		t.say(lines...)
	}
	delete(c.cts, k.dst.vmid)
	delete(c.firewall, k.dst.vmid)
	k.src.conf.set("lock", "")
	c.record("destroy", k.dst, 0, t.user)
}

// unused refuses a VMID that is taken anywhere in the cluster.
func (c *Cluster) unused(vmid int) error {
	if t := c.cts[vmid]; t != nil {
		return die(fmt.Sprintf("CT %d already exists on node '%s'", vmid, t.node))
	}
	return nil
}

// rsyncStats is what the copy of a full clone prints.
var rsyncStats = []string{
	"", "Number of files: 8,720 (reg: 6,684, dir: 985, link: 1,051)",
	"Number of created files: 8,718 (reg: 6,684, dir: 983, link: 1,051)",
	"Number of deleted files: 0", "Number of regular files transferred: 6,683",
	"Total file size: 205,722,566 bytes", "Total transferred file size: 201,756,964 bytes",
	"Literal data: 201,756,964 bytes", "Matched data: 0 bytes", "File list size: 262,104",
	"File list generation time: 0.027 seconds", "File list transfer time: 0.000 seconds",
	"Total bytes sent: 202,343,418", "Total bytes received: 135,694", "",
	"sent 202,343,418 bytes  received 135,694 bytes  12,271,461.33 bytes/sec",
	"total size is 205,722,566  speedup is 1.02",
}
