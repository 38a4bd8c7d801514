package pve

import (
	"fmt"
	"strings"
	"time"
)

// skipLock refuses skiplock to everybody but root@pam itself.
func (r *call) skipLock() error {
	if r.on("skiplock") && r.who != "root@pam" {
		return badParam("skiplock", "Only root may use this option.")
	}
	return nil
}

// start begins a start. Whether the container is locked, a template or there
// at all is found out by the worker.
func start(r *call) (any, error) {
	if err := r.skipLock(); err != nil {
		return nil, err
	}
	if t := r.c.cts[r.vmid()]; t != nil && t.running {
		return nil, die(fmt.Sprintf("CT %d already running", t.vmid))
	}
	return r.c.startTask(r.node, r.vmid(), r.who, r.on("skiplock")).upid, nil
}

func (c *Cluster) startTask(n *node, vmid int, who string, skipLock bool) *task {
	return c.fork(n, "vzstart", fmt.Sprint(vmid), who, func(t *task) {
		t.lockedCT(vmid, true, func(k *ct) {
			if k.template() {
				t.fail("you can't start a CT if it's a template")
				return
			}
			if err := k.checkLock(); err != nil && !skipLock && k.lock() != "mounted" {
				t.fail(err.Error())
				return
			}
			if t.blame() {
				return
			}
			c.startWork(t, k)
		})
	})
}

// lockedCT goes on with fn once the worker holds a container's config lock and
// has read its configuration.
func (t *task) lockedCT(vmid int, skipLock bool, fn func(*ct)) {
	t.acquire(configLock(vmid), func() {
		k := t.c.cts[vmid]
		if k == nil || k.node != t.node.name {
			t.fail(missingConfig(t.node.name, vmid).Error())
			return
		}
		if err := k.checkLock(); err != nil && !skipLock {
			t.fail(err.Error())
			return
		}
		fn(k)
	})
}

// startWork is the start under the lock: pending changes are made, the command
// socket appears early, init runs at the end. A read that asks the container
// something in between is not answered before that.
func (c *Cluster) startWork(t *task, k *ct) {
	k.conf.apply()
	d := t.timing.Start
	if text := c.volumeMissing(k); text != "" {
		t.after(d/4, func() { t.fail(text) })
		return
	}
	k.starts = d > 0
	if badEntrypoint(k) {
		t.after(d, func() {
			k.failed, k.starts = c.clock.Now(), false
			c.wake(k)
			t.say("sync_wait: 34 An error occurred in another process (expected sequence number 7)",
				fmt.Sprintf("__lxc_start: 2127 Failed to spawn container \"%d\"", k.vmid))
			t.fail(fmt.Sprintf("startup for container '%d' failed", k.vmid))
		})
		return
	}
	// From here on the container's own unit does the work, and goes on if the
	// worker is killed.
	there := func() bool { return c.cts[k.vmid] == k && (k.starts || d <= 0) }
	c.after(d/4, func() {
		if there() {
			k.running = true
			c.dirty()
		}
	})
	c.after(d, func() {
		if !there() || !k.running {
			t.started(k)
			return
		}
		if c.machine != nil {
			c.launch(t, k)
			return
		}
		c.boot(k, t.user)
		t.started(k)
	})
}

// started ends a start.
func (t *task) started(k *ct) {
	if t.live {
		t.warnNesting(k.systemd, k.conf.opts["features"])
		t.done()
	}
}

// stopWork kills the container.
func (c *Cluster) stopWork(t *task, k *ct, then func()) {
	vmid := k.vmid
	k.stopper = t.user
	t.work(func(m Machine) error { return m.Kill(vmid) }, func() {
		c.halt(k, t.user)
		then()
	})
}

// warnNesting is the warning about a systemd that wants nesting
// (PVE::LXC::Setup, since Proxmox VE 7.1).
func (t *task) warnNesting(systemd int, features string) {
	if systemd >= 232 && parseMount(features)["nesting"] != "1" {
		t.warn(fmt.Sprintf("Systemd %d detected. You may need to enable nesting.", systemd))
	}
}

// volumeMissing looks for a volume that is not there.
func (c *Cluster) volumeMissing(k *ct) string {
	for _, key := range volumeKeys(k.conf.opts) {
		volid := parseMount(k.conf.opts[key])["volume"]
		if mountType(volid) != "volume" {
			continue
		}
		s, name, err := c.storageOf(volid)
		if err != nil {
			return err.Error()
		}
		if s.find(name) == nil {
			if s.Type == "lvmthin" {
				return "no such logical volume " + s.group() + "/" + name
			}
			return "volume '" + volid + "' does not exist" // believed
		}
	}
	return ""
}

// badEntrypoint reports an init that is not in the container: whatever is
// neither a common path nor something the template has baked in. Believed.
func badEntrypoint(k *ct) bool {
	e := k.conf.opts["entrypoint"]
	if e == "" {
		return false
	}
	path := strings.Fields(e)[0]
	if _, ok := k.rootfs[path]; ok {
		return false
	}
	switch path {
	case "/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash", "/init":
		return false
	}
	return true
}

// notRunning is the check of everything that needs a running container. A
// container that is not there does not run either.
func (r *call) notRunning(kind string) error {
	if t := r.c.cts[r.vmid()]; t == nil || !t.running {
		return die(fmt.Sprintf("%s %d not running", kind, r.vmid()))
	}
	return nil
}

func stop(r *call) (any, error) {
	if err := r.skipLock(); err != nil {
		return nil, err
	}
	if err := r.notRunning("CT"); err != nil {
		return nil, err
	}
	c, vmid, skip := r.c, r.vmid(), r.on("skiplock")
	t := c.fork(r.node, "vzstop", r.str("vmid"), r.who, func(t *task) {
		t.lockedCT(vmid, skip, func(k *ct) {
			if t.blame() {
				return
			}
			t.after(t.timing.Stop/4, func() { k.dying = true })
			t.after(t.timing.Stop, func() { c.stopWork(t, k, t.done) })
		})
	})
	return t.upid, nil
}

// shutdown asks init to power off, and with forceStop kills it at last.
func shutdown(r *call) (any, error) {
	if err := r.notRunning("CT"); err != nil {
		return nil, err
	}
	limit := 60 * time.Second
	if r.has("timeout") {
		limit = time.Duration(r.num("timeout")) * time.Second
	}
	c, vmid, force := r.c, r.vmid(), r.on("forceStop")
	t := c.fork(r.node, "vzshutdown", r.str("vmid"), r.who, func(t *task) {
		t.lockedCT(vmid, false, func(k *ct) {
			if t.blame() {
				return
			}
			c.shutdownWork(t, k, limit, force, t.done)
		})
	})
	return t.upid, nil
}

func (c *Cluster) shutdownWork(t *task, k *ct, limit time.Duration, force bool, then func()) {
	if c.machine != nil {
		c.shutdownMachine(t, k, limit, force, then)
		return
	}
	obeys := t.timing.Shutdown <= limit
	if g, ok := c.guest.(Obedience); ok && !g.Obeys(k.node, k.vmid) {
		obeys = false
	}
	if obeys {
		t.after(t.timing.Shutdown, func() { c.halt(k, t.user); then() })
		return
	}
	t.after(limit, func() {
		if !k.running {
			then()
			return
		}
		if !force {
			t.disobeyed(k, limit)
			return
		}
		t.after(t.timing.Stop, func() { c.stopWork(t, k, then) })
	})
}

// disobeyed is the end of a shutdown that init did not listen to.
func (t *task) disobeyed(k *ct, limit time.Duration) {
	t.say(fmt.Sprintf("command 'lxc-stop -n %d --nokill --timeout %d' failed: exit code 1", k.vmid, limit/time.Second))
	t.fail("container did not stop")
}

// reboot stops and starts a container in one task; one that does not stop in
// time is killed.
func reboot(r *call) (any, error) {
	if err := r.notRunning("VM"); err != nil { // "VM" is what Proxmox says here
		return nil, err
	}
	limit := 60 * time.Second
	if r.has("timeout") {
		limit = time.Duration(r.num("timeout")) * time.Second
	}
	c, vmid := r.c, r.vmid()
	t := c.fork(r.node, "vzreboot", r.str("vmid"), r.who, func(t *task) {
		t.lockedCT(vmid, true, func(k *ct) {
			if t.blame() {
				return
			}
			if !k.running {
				t.done()
				return
			}
			c.shutdownWork(t, k, limit, true, func() { c.startWork(t, k) })
		})
	})
	return t.upid, nil
}

// suspend and resume need a checkpoint support that containers do not have;
// the check is real, the failure of the task believed.
func suspend(r *call) (any, error) {
	if err := r.notRunning("CT"); err != nil {
		return nil, err
	}
	return r.checkpoint("vzsuspend", fmt.Sprintf("-n %d -s -D /var/lib/vz/dump", r.vmid())), nil
}

func resume(r *call) (any, error) {
	if t := r.c.cts[r.vmid()]; t != nil && t.running {
		return nil, die(fmt.Sprintf("CT %d already running", t.vmid))
	}
	return r.checkpoint("vzresume", fmt.Sprintf("-n %d -r --foreground -D /var/lib/vz/dump", r.vmid())), nil
}

func (r *call) checkpoint(kind, args string) string {
	return r.c.fork(r.node, kind, r.str("vmid"), r.who, func(t *task) {
		t.fail("command 'lxc-checkpoint " + args + "' failed: exit code 1")
	}).upid
}

// PowerOff is the container's init powering off by itself.
func (c *Cluster) PowerOff(vmid int) {
	c.enter()
	defer c.mu.Unlock()
	if t := c.cts[vmid]; t != nil && t.booted {
		c.halt(t, "")
	}
}
