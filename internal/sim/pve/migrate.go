package pve

import (
	"fmt"
	"strings"
)

// migration is one move of a stopped container to another node.
type migration struct {
	r       *call
	k       *ct
	target  string
	storage func(string) string // where the volumes of a storage go
	volumes []movedVolume
}

type movedVolume struct {
	key   string
	props map[string]string
	from  *store
	to    *store
	vol   *volume
}

// migrate moves a stopped container with its volumes. What is checked before
// the answer is what API2/LXC.pm of pve-container checks; the rest the worker
// finds out (LXC/Migrate.pm).
func migrate(r *call) (any, error) {
	target := r.str("target")
	switch {
	case target == r.node.name:
		return nil, badParam("target", "target is local node.")
	case r.c.nodes[target] == nil:
		return nil, die("no such cluster node '" + target + "'")
	}
	k, err := r.container()
	if err != nil {
		return nil, err
	}
	if k.running && !r.on("online") && !r.on("restart") {
		return nil, die("can't migrate running container without --online or --restart")
	}
	m := &migration{r: r, k: k, target: target}
	if err := m.route(); err != nil {
		return nil, err
	}
	t := r.c.fork(r.node, "vzmigrate", r.str("vmid"), r.who, m.work)
	return t.upid, nil
}

// route reads target-storage: one storage for all, pairs, or 1 for each its
// own.
func (m *migration) route() error {
	pairs, rest := map[string]string{}, ""
	m.storage = func(id string) string {
		switch {
		case pairs[id] != "":
			return pairs[id]
		case rest != "":
			return rest
		}
		return id
	}
	text := m.r.str("target-storage")
	if text == "" || text == "1" {
		return nil
	}
	if err := m.r.c.checkVM(m.r.who, m.k.vmid, "", "VM.Config.Disk"); err != nil {
		return err
	}
	for _, part := range splitList(text) {
		from, to, pair := strings.Cut(part, ":")
		if !pair {
			rest, to = part, part
		} else {
			pairs[from] = to
		}
		if err := m.mayUse(to); err != nil {
			return err
		}
	}
	return nil
}

func (m *migration) mayUse(id string) error {
	s, err := m.place(id)
	if err != nil {
		return err
	}
	if err := m.r.c.check(m.r.who, "/storage/"+id, "Datastore.AllocateSpace"); err != nil {
		return err
	}
	if !s.holds("rootdir") {
		return die("storage '" + id + "' does not support CT rootdirs")
	}
	return nil
}

// place is a storage on the target node.
func (m *migration) place(id string) (*store, error) {
	s := m.r.c.storages[id]
	switch {
	case s == nil:
		return nil, die("storage '" + id + "' does not exist")
	case !s.on(m.target):
		return nil, die("storage '" + id + "' is not available on node '" + m.target + "'")
	}
	return s, nil
}

// work is the worker. Like AbstractMigrate.pm it tells its log what is wrong,
// and ends with no more than that it was aborted. Believed: the words.
func (m *migration) work(t *task) {
	c := t.c
	t.lockedCT(m.k.vmid, false, func(k *ct) {
		if t.blame() {
			return
		}
		if k.running {
			m.abort(t, "lxc live migration is currently not implemented")
			return
		}
		if !c.nodes[m.target].up {
			m.abort(t, "Can't connect to destination address using public key")
			return
		}
		t.say(fmt.Sprintf("starting migration of CT %d to node '%s'", k.vmid, m.target))
		k.conf.set("lock", "migrate")
		t.undo = func() { k.conf.set("lock", "") }
		if err := m.look(); err != nil {
			m.abort(t, err.Error())
			return
		}
		t.after(t.timing.FullClone, func() { m.move(t) })
	})
}

func (m *migration) abort(t *task, why string) {
	t.say("ERROR: migration aborted (duration 00:00:01): " + why)
	t.fail("migration aborted")
}

// look finds the volumes that have to be copied, and what is in their way.
func (m *migration) look() error {
	for _, key := range volumeKeys(m.k.conf.opts) {
		props := parseMount(m.k.conf.opts[key])
		if kind := mountType(props["volume"]); kind != "volume" {
			return die("cannot migrate local " + kind + " mount point '" + key + "'")
		}
		from, name, err := m.r.c.storageOf(props["volume"])
		if err != nil {
			return err
		}
		id := from.ID
		if !from.Shared {
			id = m.storage(from.ID)
		}
		to, err := m.place(id)
		if err != nil {
			return err
		}
		v := from.find(name)
		if v == nil {
			return die("volume '" + props["volume"] + "' does not exist")
		}
		if err := movable(from, to, v); err != nil && !from.Shared {
			return fmt.Errorf("can't migrate CT - check log: can't migrate local volume '%s': %w", props["volume"], err)
		}
		m.volumes = append(m.volumes, movedVolume{key, props, from, to, v})
	}
	return nil
}

// movable is whether the storages have a common form of export (pve-storage,
// volume_transfer_formats). A ZFS subvolume goes to ZFS alone: believed.
func movable(from, to *store, v *volume) error {
	switch from.Type {
	case "dir", "zfspool", "lvmthin", "lvm", "btrfs":
	default:
		return die("storage type '" + from.Type + "' not supported")
	}
	if v.base != "" {
		return die("clone of '" + v.base + "'")
	}
	if (from.Type == "zfspool") != (to.Type == "zfspool") {
		return die("cannot migrate from storage type '" + from.Type + "' to '" + to.Type + "'")
	}
	return nil
}

// move ends the copy: the volumes are the target's, then the configuration is,
// then the lock is taken away there, whatever signal comes (AbstractMigrate.pm,
// "received interrupt - delayed"). The firewall's file is the cluster's.
func (m *migration) move(t *task) {
	for _, v := range m.volumes {
		if v.from == v.to {
			continue
		}
		made := v.to.alloc(m.k.vmid, v.vol.size)
		v.from.drop(v.vol.name)
		v.props["volume"] = v.to.ID + ":" + made.name
		m.k.conf.set(v.key, printProps(mountProps(v.key), v.props))
	}
	m.k.node, t.undo, t.deaf = m.target, nil, true
	t.c.record("migrate", m.k, 0, t.user)
	t.after(t.timing.Clone/10, func() {
		m.k.conf.set("lock", "")
		t.c.dirty()
		t.done()
	})
}
