package pve

import (
	"fmt"
	"time"
)

// lockWait is how long Proxmox waits for a lock file or a cluster lock.
const lockWait = 10 * time.Second

// flock is a lock file or a cluster-wide lock. Waiters are served in order.
type flock struct {
	held  bool
	queue []*waiter
}

type waiter struct {
	got   func(ok bool)
	limit *event
}

// configLock is the lock file of a container's configuration.
func configLock(vmid int) string { return fmt.Sprintf("/run/lock/lxc/pve-config-%d.lock", vmid) }

// userLock is the cluster-wide lock of the users, ACLs and resource pools.
const userLock = "file-user_cfg"

// lockTimeout is what Proxmox says when a lock could not be had
// (PVE::Tools::lock_file, PVE::Cluster::cfs_lock).
func lockTimeout(name string) string {
	if name[0] == '/' {
		return fmt.Sprintf("can't lock file '%s' - got timeout", name)
	}
	return fmt.Sprintf("cfs-lock '%s' error: got lock request timeout", name)
}

// free reports whether nobody holds the lock.
func (c *Cluster) free(name string) bool {
	l := c.locks[name]
	return l == nil || !l.held
}

// acquire calls got(true), now or later, once the lock is the caller's, or
// got(false) once lockWait has passed. got runs under the cluster's lock.
func (c *Cluster) acquire(name string, got func(ok bool)) {
	l := c.locks[name]
	if l == nil {
		l = &flock{}
		c.locks[name] = l
	}
	if !l.held {
		l.held = true
		got(true)
		return
	}
	w := &waiter{got: got}
	l.queue = append(l.queue, w)
	w.limit = c.after(lockWait, func() {
		for i, q := range l.queue {
			if q == w {
				l.queue = append(l.queue[:i:i], l.queue[i+1:]...)
				break
			}
		}
		got(false)
	})
}

// unlock hands the lock to the next waiter.
func (c *Cluster) unlock(name string) {
	l := c.locks[name]
	if l == nil {
		return
	}
	if len(l.queue) == 0 {
		delete(c.locks, name)
		return
	}
	w := l.queue[0]
	l.queue = l.queue[1:]
	w.limit.gone = true
	w.got(true)
}

// Hold takes a lock on behalf of something on the host for d: a lock file by
// its path, or "file-user_cfg", or "storage-NAME" of a shared storage. It
// reports whether the lock was free.
func (c *Cluster) Hold(name string, d time.Duration) bool {
	c.enter()
	defer c.mu.Unlock()
	if !c.free(name) {
		return false
	}
	c.acquire(name, func(bool) {})
	c.after(d, func() { c.unlock(name) })
	return true
}

// ConfigLock is the name of a container's lock file, for Hold.
func ConfigLock(vmid int) string { return configLock(vmid) }
