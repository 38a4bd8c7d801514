package pve

import (
	"time"

	"github.com/dayfly-ci/dayfly/internal/sim/stage"
)

// wakeup is a request that may go on.
type wakeup struct {
	ch chan<- bool
	ok bool
}

// wait lets begin start something that calls its argument once, now or later,
// and returns what that was called with. It does not hold the cluster's lock
// meanwhile. Requests that are woken at the same moment go on one after the
// other, in the order in which they were woken.
func (r *call) wait(begin func(got func(ok bool))) bool {
	ch := make(chan bool, 1)
	var returned, early, ok bool
	begin(func(v bool) {
		if !returned {
			early, ok = true, v
			return
		}
		r.c.ready = append(r.c.ready, wakeup{ch, v})
		r.c.wakeNext()
	})
	returned = true
	if early {
		return ok
	}
	r.yield()
	r.c.mu.Unlock()
	select {
	case ok = <-ch:
		r.c.mu.Lock()
	case <-r.c.closed:
		r.c.mu.Lock() // for those who gave it up to wait
		stage.Hangup()
	}
	r.woken = true
	return ok
}

// wakeNext wakes a request unless one that was woken is still at work.
func (c *Cluster) wakeNext() {
	if c.waking || len(c.ready) == 0 {
		return
	}
	w := c.ready[0]
	c.ready = c.ready[1:]
	c.waking = true
	w.ch <- w.ok
}

// yield lets the next request go on when this one ends or waits again.
func (r *call) yield() {
	if r.woken {
		r.woken, r.c.waking = false, false
		r.c.wakeNext()
	}
}

// acquire waits for a lock, up to lockWait.
func (r *call) acquire(name string) error {
	if !r.wait(func(got func(bool)) { r.c.acquire(name, got) }) {
		return die(lockTimeout(name))
	}
	return nil
}

// sleep lets time pass.
func (r *call) sleep(d time.Duration) {
	r.wait(func(got func(bool)) { r.c.after(d, func() { got(true) }) })
}

// pvedaemon has that many workers, each with one request at a time, and
// pveproxy waits that long for one (facts page, section 7.4).
const (
	daemonWorkers = 3
	proxyWait     = 30 * time.Second
)

// worker waits for a worker of the node's pvedaemon. Requests that wait for
// locks, or for a container that starts, fill them up.
func (r *call) worker() error {
	n := r.node
	if n.busy < daemonWorkers {
		n.busy++
		return nil
	}
	ok := r.wait(func(got func(bool)) {
		w := &waiter{got: got}
		n.queue = append(n.queue, w)
		w.limit = r.c.after(proxyWait, func() {
			for i, q := range n.queue {
				if q == w {
					n.queue = append(n.queue[:i:i], n.queue[i+1:]...)
					break
				}
			}
			got(false)
		})
	})
	if !ok {
		return &refusal{code: 596, message: "Connection timed out", empty: true}
	}
	return nil
}

// dismiss gives a worker to the next request that waits for one.
func (c *Cluster) dismiss(n *node) {
	if len(n.queue) == 0 {
		n.busy--
		return
	}
	w := n.queue[0]
	n.queue = n.queue[1:]
	w.limit.gone = true
	w.got(true)
}
