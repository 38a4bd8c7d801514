package pve

import (
	"fmt"
	"strings"
	"time"
)

// creating is one create under way.
type creating struct {
	ct      *ct
	opts    map[string]string // the configuration, written when the archive is unpacked
	mounts  map[string]string
	archive string
	pool    string
	lock    string // given in the request, set at the end
	start   bool
	made    []string
}

// create makes a container from an archive. The parameters are looked at
// before any permission, the id and the resource pool before the rest.
func create(r *call) (any, error) {
	k, err := r.readCreate()
	if err != nil {
		return nil, err
	}
	if err := r.checkCreate(k); err != nil {
		return nil, err
	}
	if err := r.c.unused(k.ct.vmid); err != nil {
		return nil, die(fmt.Sprintf("unable to create CT %d - %s", k.ct.vmid, err.Error()))
	}
	k.ct.conf.set("lock", "create")
	r.c.cts[k.ct.vmid] = k.ct
	r.c.record("create", k.ct, 0, r.who)
	t := r.c.fork(r.node, "vzcreate", r.str("vmid"), r.who, func(t *task) { r.c.createWork(t, k) })
	return t.upid, nil
}

// notOptions are parameters of create that are no options of the container.
var notOptions = []string{"node", "vmid", "ostemplate", "restore", "force", "unique", "start", "pool", "storage", "password",
	"ssh-public-keys", "ignore-unpack-errors", "bwlimit", "ha-managed", "lock"}

func (r *call) readCreate() (*creating, error) {
	k := &creating{ct: &ct{vmid: r.vmid(), node: r.node.name, conf: newConf(), systemd: 257}, opts: map[string]string{},
		mounts: map[string]string{}, archive: r.str("ostemplate"), pool: r.str("pool"), lock: r.str("lock"), start: r.on("start")}
	if err := r.c.unused(k.ct.vmid); err != nil {
		return nil, err
	}
	if s := r.str("ssh-public-keys"); s != "" && !strings.HasPrefix(s, "ssh-") && !strings.HasPrefix(s, "ecdsa-") {
		return nil, die("SSH public key validation error")
	}
	for key, v := range r.params {
		k.opts[key] = v
	}
	for _, key := range notOptions {
		delete(k.opts, key)
	}
	return k, nil
}

func (r *call) checkCreate(k *creating) error {
	c, vmid := r.c, k.ct.vmid
	if k.pool != "" && c.pools[k.pool] == nil {
		return denied("pool '" + k.pool + "' does not exist")
	}
	if !c.may(r.who, vmPath(vmid), privBits["VM.Allocate"], false) &&
		(k.pool == "" || !c.may(r.who, "/pool/"+k.pool, privBits["VM.Allocate"], false)) {
		return denied("")
	}
	unpriv := k.opts["unprivileged"] != "0"
	delete(k.opts, "unprivileged")
	if !unpriv && r.who != "root@pam" {
		if err := c.check(r.who, "/", "Sys.Modify"); err != nil {
			return err
		}
	}
	if err := c.mayChange(changes{who: r.who, vmid: vmid, pool: k.pool, set: k.opts, unpriv: unpriv}); err != nil {
		return err
	}
	content := "vztmpl"
	if r.on("restore") {
		content = "backup"
	}
	if err := c.mayUseVolume(r.who, vmid, k.archive, content); err != nil {
		return err
	}
	if unpriv {
		k.opts["unprivileged"] = "1"
	}
	return r.checkMounts(k)
}

// checkMounts looks at where the volumes are to go.
func (r *call) checkMounts(k *creating) error {
	fallback := r.str("storage")
	if fallback == "" {
		fallback = "local"
	}
	for _, key := range volumeKeys(k.opts) {
		v := k.opts[key]
		if numberRE.MatchString(v) {
			v = fallback + ":" + v
		}
		delete(k.opts, key)
		k.mounts[key] = v
	}
	if len(k.mounts) == 0 {
		k.mounts["rootfs"] = fallback + ":4"
	} else if k.mounts["rootfs"] == "" {
		return die("mount points configured, but 'rootfs' not set - aborting")
	}
	for _, key := range sortedKeys(k.mounts) {
		volid := parseMount(k.mounts[key])["volume"]
		if mountType(volid) != "volume" {
			continue // only root@pam gets here
		}
		s, _, err := r.c.storageOf(volid)
		if err != nil {
			return err
		}
		if !s.on(r.node.name) {
			return die("storage '" + s.ID + "' is not available on node '" + r.node.name + "'")
		}
		if !s.holds("rootdir") {
			return badParam("storage", "storage '"+s.ID+"' does not support container directories")
		}
		if err := r.c.check(r.who, "/storage/"+s.ID, "Datastore.AllocateSpace"); err != nil {
			return err
		}
	}
	return nil
}

// createWork makes the volumes, unpacks the archive, and joins the resource
// pool last.
func (c *Cluster) createWork(t *task, k *creating) {
	t.prefix = fmt.Sprintf("unable to create CT %d - ", k.ct.vmid)
	t.undo = func() {
		for _, id := range k.made {
			c.discardID(id)
			s, name, _ := c.storageOf(id)
			_, _ = s.remove(name)
		}
		delete(c.cts, k.ct.vmid)
		c.record("destroy", k.ct, 0, t.user)
	}
	if t.blame() {
		return
	}
	keys := volumeKeys(k.mounts)
	c.createNext(t, k, keys, t.timing.Create/time.Duration(10*len(keys)))
}

func (c *Cluster) createNext(t *task, k *creating, keys []string, d time.Duration) {
	if len(keys) == 0 {
		c.unpack(t, k)
		return
	}
	key := keys[0]
	props := parseMount(k.mounts[key])
	m := newDiskRE.FindStringSubmatch(props["volume"])
	if m == nil { // a bind mount or a volume that is there already
		k.opts[key] = printProps(mountProps(key), props)
		c.createNext(t, k, keys[1:], d)
		return
	}
	s := c.storages[m[1]]
	t.acquire(s.lockName(), func() {
		v := s.alloc(k.ct.vmid, sizeOf(m[2]+"G"))
		k.made = append(k.made, s.ID+":"+v.name)
		props["volume"], props["size"] = s.ID+":"+v.name, sizeText(v.size)
		k.opts[key] = printProps(mountProps(key), props)
		t.say(s.made(v)...)
		t.after(d, func() {
			t.workOn(s, v, Machine.Make, func() {
				t.release(s.lockName())
				t.say(c.formatted(s, v)...)
				c.createNext(t, k, keys[1:], d)
			})
		})
	})
}

// unpack finds the archive and has it extracted.
func (c *Cluster) unpack(t *task, k *creating) {
	s, name, err := c.storageOf(k.archive)
	if err != nil {
		t.fail(err.Error())
		return
	}
	a := s.file(name)
	if a == nil {
		text := "volume '" + k.archive + "' does not exist"
		t.say(text)
		t.fail(text)
		return
	}
	archive := s.Path + "/template/cache/" + strings.TrimPrefix(name, "vztmpl/")
	t.say("extracting archive '" + archive + "'")
	t.after(t.timing.Create*8/10, func() { c.extract(t, k, a, archive) })
}

// extract fills the root file system and sets the container up.
func (c *Cluster) extract(t *task, k *creating, a *Archive, archive string) {
	root, name, _ := c.storageOf(parseMount(k.opts["rootfs"])["volume"])
	v := root.find(name)
	t.workOn(root, v, func(m Machine, v Volume) error { return m.Unpack(v, archive) }, func() {
		t.say("Total bytes read: 199577600 (191MiB, 22MiB/s)", "Detected container architecture: amd64")
		for _, kind := range []string{"ed25519", "rsa", "ecdsa"} {
			t.say("Creating SSH host key 'ssh_host_"+kind+"_key' - this may take some time ...",
				"done: "+c.hostKey(a)+" root@"+hostnameOr(k.opts, k.ct.vmid))
		}
		c.setUp(k, a)
		t.warnNesting(k.ct.systemd, k.opts["features"])
		done := func() { c.finishCreate(t, k) }
		if k.pool == "" {
			done()
			return
		}
		c.joinPool(t, k.ct.vmid, k.pool, done)
	})
}

// hostKey is the fingerprint of a host key that was just made.
func (c *Cluster) hostKey(a *Archive) string {
	if a.HostKey != "" {
		return a.HostKey
	}
	return "SHA256:" + strings.ReplaceAll(c.uuid()+"0000000", "-", "A")
}

func hostnameOr(opts map[string]string, vmid int) string {
	if h := opts["hostname"]; h != "" {
		return h
	}
	return fmt.Sprintf("CT%d", vmid)
}

// setUp fills in what a request may leave out.
func (c *Cluster) setUp(k *creating, a *Archive) {
	defaults := map[string]string{"arch": "amd64", "memory": "512", "swap": "512", "hostname": hostnameOr(k.opts, k.ct.vmid), "ostype": a.OSType}
	for key, v := range defaults {
		if k.opts[key] == "" {
			k.opts[key] = v
		}
	}
	for _, key := range sortedKeys(k.opts) {
		v := k.opts[key]
		switch {
		case isNet(key):
			k.opts[key] = c.printNet(key, v)
		case key == "description":
			k.opts[key] = description(v)
		case key == "tags":
			k.opts[key] = tagList(v)
		}
	}
	k.ct.rootfs, k.ct.systemd = copyMap(a.Rootfs), a.Systemd
}

func (c *Cluster) finishCreate(t *task, k *creating) {
	t.after(t.timing.Create/10, func() {
		for key, v := range k.opts {
			k.ct.conf.set(key, v)
		}
		k.ct.conf.set("lock", k.lock)
		t.undo = nil
		c.dirty()
		if k.start {
			c.startTask(t.node, k.ct.vmid, t.user, false)
		}
		t.done()
	})
}

// file finds an archive by its name, "vztmpl/x.tar.zst".
func (s *store) file(name string) *Archive {
	for i := range s.Files {
		if s.Files[i].Name == name {
			return &s.Files[i]
		}
	}
	return nil
}
