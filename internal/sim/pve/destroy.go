package pve

import "fmt"

// destroy removes a container. With force=1 it is killed first, all in one
// task under one lock.
func destroy(r *call) (any, error) {
	t, err := r.container()
	if err != nil {
		return nil, err
	}
	if err := t.destroyable(r.on("force")); err != nil {
		return nil, err
	}
	c, vmid, force, purge := r.c, r.vmid(), r.on("force"), r.on("purge")
	k := c.fork(r.node, "vzdestroy", r.str("vmid"), r.who, func(t *task) {
		t.acquire(configLock(vmid), func() {
			k := c.cts[vmid]
			if k == nil || k.node != t.node.name {
				t.fail(missingConfig(t.node.name, vmid).Error())
				return
			}
			if err := k.destroyable(force); err != nil {
				t.fail(err.Error())
				return
			}
			if t.blame() {
				return
			}
			c.destroyWork(t, k, purge)
		})
	})
	return k.upid, nil
}

// destroyable are the checks, made before the answer and again by the worker.
func (t *ct) destroyable(force bool) error {
	if t.protected() {
		return die(fmt.Sprintf("can't remove CT %d - protection mode enabled", t.vmid))
	}
	if err := t.checkLock(); err != nil {
		return err
	}
	if t.running && !force {
		return die(fmt.Sprintf("unable to destroy CT %d - container is running", t.vmid))
	}
	return nil
}

// destroyWork frees the volumes; until then an error leaves the container as
// it was. From there on it is a locked rest that only root can clear away.
func (c *Cluster) destroyWork(t *task, k *ct, purge bool) {
	if k.running {
		t.say(fmt.Sprintf("forced to stop CT %d before destroying!", k.vmid))
		t.after(t.timing.Stop/4, func() { k.dying = true })
		t.after(t.timing.Stop, func() { c.stopWork(t, k, func() { c.destroyNext(t, k, 0, purge) }) })
		return
	}
	c.destroyNext(t, k, 0, purge)
}

func (c *Cluster) destroyNext(t *task, k *ct, i int, purge bool) {
	keys := ownedVolumes(k)
	if i >= len(keys) {
		c.destroyRest(t, k, purge)
		return
	}
	volid := keys[i]
	s, name, err := c.storageOf(volid)
	if err != nil {
		c.destroyNext(t, k, i+1, purge) // believed: only a warning
		return
	}
	t.acquire(s.lockName(), func() {
		t.after(t.timing.Destroy*6/10, func() {
			if c.clock.Now().Sub(k.failed) < busyAfterFailure && s.Type == "lvmthin" {
				lv := s.group() + "/" + name
				t.fail("lvremove '" + lv + "' error:   Logical volume " + lv + " contains a filesystem in use.")
				return
			}
			gone := s.find(name)
			lines, err := s.remove(name)
			if err != nil {
				t.fail(err.Error())
				return
			}
			next := func() {
				t.say(lines...)
				t.release(s.lockName())
				c.destroyNext(t, k, i+1, purge)
			}
			if gone == nil {
				next()
				return
			}
			v := s.machineVolume(gone)
			t.work(func(m Machine) error { return m.Remove(v) }, next)
		})
	})
}

// ownedVolumes are the volumes that go with a container, unused ones too.
func ownedVolumes(k *ct) []string {
	var out []string
	for _, key := range volumeKeys(k.conf.opts) {
		if v := parseMount(k.conf.opts[key])["volume"]; mountType(v) == "volume" {
			out = append(out, v)
		}
	}
	for _, key := range sortedKeys(k.conf.opts) {
		if unusedRE.MatchString(key) {
			out = append(out, k.conf.opts[key])
		}
	}
	return out
}

// destroyRest takes away the rights, the membership and the firewall, and the
// configuration last.
func (c *Cluster) destroyRest(t *task, k *ct, purge bool) {
	k.conf = newConf()
	k.conf.set("lock", "destroyed")
	c.acquire(userLock, func(ok bool) {
		switch {
		case !ok && t.live:
			t.fail("cfs-lock '" + userLock + "' error: got lock request timeout")
			return
		case !ok:
			return
		case !t.live:
			c.unlock(userLock)
			return
		}
		delete(c.member, k.vmid)
		delete(c.access.acl, vmPath(k.vmid))
		c.unlock(userLock)
		delete(c.firewall, k.vmid)
		if purge {
			t.say(fmt.Sprintf("purging CT %d from related configurations..", k.vmid))
		}
		t.after(t.timing.Destroy*4/10, func() {
			delete(c.cts, k.vmid)
			c.record("destroy", k, 0, t.user)
			t.done()
		})
	})
}
