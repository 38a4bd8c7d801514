package pve

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
)

// What root does on the hosts, with no check of the API in between.

// Container is a container as root sees it, and how one is put there.
type Container struct {
	Node         string // the first node by default
	VMID         int
	Config       map[string]string // "hostname", "net0", "rootfs", ...; what is missing gets a default
	Raw          [][2]string       // lxc.* lines
	ResourcePool string
	Storage      string            // for a rootfs that Config does not name
	Rootfs       map[string]string // what is baked in, for the Guest
	Systemd      int               // version of its systemd, 257 by default
	Running      bool

	// Only in snapshots:
	Status  string            // running stopped
	Booted  bool              // init runs
	Lock    string            // config lock
	Boots   int               // how often it was started
	Env     map[string]string // what its running init was given
	Pending map[string]string // changes that wait for the next start
	Deleted []string          // options that go at the next start
	Since   time.Time         // of the last boot
}

// Template says whether the container is a template.
func (c Container) Template() bool { return c.Config["template"] == "1" }

// Template is a template to put there: a Container with base volumes.
type Template = Container

// AddStorage adds a storage.
func (c *Cluster) AddStorage(s Storage) {
	c.enter()
	defer c.mu.Unlock()
	if s.Type == "" {
		s.Type = "zfspool"
	}
	if len(s.Content) == 0 {
		s.Content = []string{"rootdir", "images"}
	}
	if s.Size == 0 {
		s.Size = 100 << 30
	}
	if s.Pool == "" {
		s.Pool = map[string]string{"zfspool": "rpool/data", "lvmthin": "pve/" + s.ID}[s.Type]
	}
	if s.Path == "" && (s.Type == "dir" || s.Type == "btrfs") {
		s.Path = "/mnt/" + s.ID
	}
	s.Files = append([]Archive(nil), s.Files...)
	for i := range s.Files {
		f := &s.Files[i]
		if f.OSType == "" {
			f.OSType = "debian"
		}
		if f.Systemd == 0 {
			f.Systemd = 257
		}
	}
	st := &store{Storage: s, volumes: map[string]*volume{}}
	if old := c.storages[s.ID]; old != nil {
		st.volumes, st.order, st.pool = old.volumes, old.order, old.pool
	}
	c.storages[s.ID] = st
}

// AddResourcePool adds a resource pool with its members: VMIDs and storages.
// "a/b" is a pool in pool "a".
func (c *Cluster) AddResourcePool(name string, members ...any) {
	c.enter()
	defer c.mu.Unlock()
	if c.pools[name] == nil {
		c.pools[name] = &pool{id: name}
	}
	for _, m := range members {
		switch m := m.(type) {
		case int:
			c.member[m] = name
		case string:
			s := c.storages[m]
			if s == nil {
				panic("pve: resource pool member " + m + ": no such storage")
			}
			s.pool = name
		default:
			panic(fmt.Sprintf("pve: resource pool member %v is neither a VMID nor a storage", m))
		}
	}
}

// AddRole adds a role with privileges, each argument a list of them.
func (c *Cluster) AddRole(name string, privs ...string) {
	c.enter()
	defer c.mu.Unlock()
	for _, l := range privs {
		for _, p := range splitList(l) {
			if privBits[p] == 0 {
				panic("pve: no such privilege " + p)
			}
		}
	}
	c.access.roles[name], c.access.own[name] = privSet(strings.Join(privs, " ")), true
}

// AddUser adds a user, "name@realm", in groups.
func (c *Cluster) AddUser(id string, groups ...string) {
	c.enter()
	defer c.mu.Unlock()
	c.user(id).groups = groups
}

func (c *Cluster) user(id string) *user {
	u := c.access.users[id]
	if u == nil {
		u = &user{id: id, tokens: map[string]*token{}}
		c.access.users[id] = u
	}
	return u
}

// SetPassword lets a user log in with a password.
func (c *Cluster) SetPassword(id, password string) {
	c.enter()
	defer c.mu.Unlock()
	c.user(id).password = password
}

// AddToken makes an API token, "user@realm!name", and returns its secret.
func (c *Cluster) AddToken(id string, privsep bool) (secret string) {
	c.enter()
	defer c.mu.Unlock()
	owner, name, ok := strings.Cut(id, "!")
	if !ok {
		panic("pve: token id " + id + " has no !")
	}
	t := &token{secret: c.uuid(), privsep: privsep}
	c.user(owner).tokens[name] = t
	return t.secret
}

// SetTokenSecret replaces a token's secret.
func (c *Cluster) SetTokenSecret(id, secret string) {
	c.enter()
	defer c.mu.Unlock()
	if _, t := c.access.tokenOf(id); t != nil {
		t.secret = secret
	}
}

// SetACL grants a role at a path to users, tokens ("user@realm!name") or
// groups ("@name").
func (c *Cluster) SetACL(path, role string, propagate bool, who ...string) {
	c.enter()
	defer c.mu.Unlock()
	if _, ok := c.access.roles[role]; !ok {
		panic("pve: no such role " + role)
	}
	for _, w := range who {
		c.access.grant(path, role, propagate, w)
	}
}

// RevokeACL takes a role at a path away.
func (c *Cluster) RevokeACL(path, role string, who ...string) {
	c.enter()
	defer c.mu.Unlock()
	for _, w := range who {
		c.access.revoke(path, role, w)
	}
}

// AddContainer puts a container there, stopped or, with Running, booted.
func (c *Cluster) AddContainer(k Container) {
	c.enter()
	defer c.mu.Unlock()
	c.add(k, "vm")
}

// AddTemplate puts a template there.
func (c *Cluster) AddTemplate(k Template) {
	c.enter()
	defer c.mu.Unlock()
	k.Config = copyMap(k.Config)
	k.Config["template"] = "1"
	c.add(k, "base")
}

func (c *Cluster) add(k Container, kind string) {
	if k.Node == "" {
		k.Node = c.names[0]
	}
	if c.cts[k.VMID] != nil || c.nodes[k.Node] == nil {
		panic(fmt.Sprintf("pve: add container %d on %s: taken, or no such node", k.VMID, k.Node))
	}
	t := &ct{vmid: k.VMID, node: k.Node, conf: newConf(), rootfs: copyMap(k.Rootfs), systemd: k.Systemd}
	if t.systemd == 0 {
		t.systemd = 257
	}
	t.conf.raw = k.Raw
	defaults := map[string]string{"arch": "amd64", "hostname": "CT" + strconv.Itoa(k.VMID), "memory": "512", "swap": "512", "ostype": "debian", "unprivileged": "1"}
	if len(k.Config) > 5 { // a whole configuration is taken as it is
		defaults = nil
	}
	for key, v := range defaults {
		t.conf.set(key, v)
	}
	for key, v := range k.Config {
		t.conf.set(key, v)
	}
	c.ownVolumes(t, k.Storage, kind)
	c.cts[k.VMID] = t
	if k.ResourcePool != "" {
		if c.pools[k.ResourcePool] == nil {
			c.pools[k.ResourcePool] = &pool{id: k.ResourcePool}
		}
		c.member[k.VMID] = k.ResourcePool
	}
	if k.Running {
		t.running = true
		c.boot(t, "")
	}
	t.stat = c.stat(t)
}

// ownVolumes makes sure that the container's volumes are on their storages.
func (c *Cluster) ownVolumes(t *ct, storage, kind string) {
	if t.conf.opts["rootfs"] == "" {
		s := c.storages[storage]
		if s == nil {
			panic(fmt.Sprintf("pve: container %d has neither a rootfs nor a storage", t.vmid))
		}
		t.conf.set("rootfs", s.ID+":"+s.volumeName(kind, t.vmid, 0)+",size=4G")
	}
	for _, key := range volumeKeys(t.conf.opts) {
		props := parseMount(t.conf.opts[key])
		s, name, err := c.storageOf(props["volume"])
		if err != nil || mountType(props["volume"]) != "volume" || s.find(name) != nil {
			continue
		}
		v := &volume{name: name, owner: t.vmid, size: sizeOf(props["size"]), format: s.format()}
		if base, _, linked := strings.Cut(name, "/"); linked && s.Type == "zfspool" {
			v.base = base
		}
		s.add(v)
	}
}

// Container is a container as root sees it now.
func (c *Cluster) Container(vmid int) (Container, bool) {
	c.enter()
	defer c.mu.Unlock()
	t := c.cts[vmid]
	if t == nil {
		return Container{}, false
	}
	return c.snapshot(t), true
}

// Containers are all containers as root sees them now, by VMID.
func (c *Cluster) Containers() []Container {
	c.enter()
	defer c.mu.Unlock()
	out := make([]Container, 0, len(c.cts))
	for _, t := range c.sorted() {
		out = append(out, c.snapshot(t))
	}
	return out
}

func (c *Cluster) snapshot(t *ct) Container {
	k := Container{Node: t.node, VMID: t.vmid, Config: t.conf.copyOpts(), Raw: t.conf.raw, ResourcePool: c.member[t.vmid],
		Rootfs: copyMap(t.rootfs), Systemd: t.systemd, Running: t.running, Status: c.status(t), Booted: t.booted, Lock: t.lock(),
		Boots: t.boots, Pending: copyMap(t.conf.pending), Deleted: sortedKeys(t.conf.gone), Since: t.since}
	if t.booted {
		k.Env = copyMap(t.env)
	}
	return k
}

// Volumes are the volume ids on a storage, sorted.
func (c *Cluster) Volumes(storage string) []string {
	c.enter()
	defer c.mu.Unlock()
	out := []string{}
	if s := c.storages[storage]; s != nil {
		for _, name := range s.order {
			out = append(out, storage+":"+name)
		}
	}
	sort.Strings(out)
	return out
}

// SetOption sets an option in a container's file, as an editor would: even
// the lock.
func (c *Cluster) SetOption(vmid int, key, value string) {
	c.enter()
	defer c.mu.Unlock()
	if t := c.cts[vmid]; t != nil {
		t.conf.set(key, value)
		c.dirty()
	}
}

// Unlock is "pct unlock": it clears the config lock.
func (c *Cluster) Unlock(vmid int) { c.SetOption(vmid, "lock", "") }

// Remove is "pct destroy" of a container that is stopped and not locked, done
// at once. It reports whether there was one.
func (c *Cluster) Remove(vmid int) bool {
	c.enter()
	defer c.mu.Unlock()
	k := c.cts[vmid]
	if k == nil || k.running || k.lock() != "" {
		return false
	}
	for _, volid := range ownedVolumes(k) {
		c.discardID(volid)
		if s, name, err := c.storageOf(volid); err == nil {
			_, _ = s.remove(name)
		}
	}
	delete(c.member, vmid)
	delete(c.firewall, vmid)
	delete(c.cts, vmid)
	c.record("destroy", k, 0, "")
	c.dirty()
	return true
}

// FillStorage sets how many bytes of a storage are used beside what containers
// write.
func (c *Cluster) FillStorage(id string, used int64) {
	c.enter()
	defer c.mu.Unlock()
	c.storages[id].Used = used
}
