package pve

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// keepTasks bounds a node's task history; the index files of Proxmox hold one
// to two thousand entries (PVE::RESTEnvironment, 50 kB twice).
const keepTasks = 1500

// task is one worker process and what it left behind.
type task struct {
	c       *Cluster
	upid    string
	node    *node
	kind    string
	id      string
	user    string
	pid     int
	pstart  int64
	began   time.Time
	ended   time.Time
	exit    string
	log     []string
	warned  int
	live    bool
	stopped bool          // a signal was caught: only the clean-up goes on
	held    []string      // locks of the process
	undo    func()        // what an error rolls back
	caught  func()        // what is done first when a signal was caught
	prefix  string        // before an error's text
	grace   time.Duration // how long the clean-up after a signal takes
	deaf    bool          // a signal changes nothing any more
	onEnd   []func()
	timing  Timing
}

// fork starts a worker and runs work in it. The worker's UPID is the answer
// to the request that started it.
func (c *Cluster) fork(n *node, kind, id, user string, work func(*task)) *task {
	c.pid++
	now := c.clock.Now()
	t := &task{c: c, node: n, kind: kind, id: id, user: user, pid: c.pid, began: now, live: true, timing: c.timing,
		pstart: int64(now.Sub(n.boot) / (10 * time.Millisecond))}
	t.upid = fmt.Sprintf("UPID:%s:%08X:%08X:%08X:%s:%s:%s:", n.name, t.pid, t.pstart, now.Unix(), kind, id, user)
	c.tasks[t.upid] = t
	if c.pace != nil {
		c.pace(t)
	}
	n.tasks = append(n.tasks, t)
	if len(n.tasks) > keepTasks {
		if old := n.tasks[0]; !old.live {
			delete(c.tasks, old.upid)
			n.tasks = n.tasks[1:]
		}
	}
	work(t)
	return t
}

// blame asks whether this task is to fail, and makes it fail if so.
func (t *task) blame() bool {
	text := ""
	if q := t.c.failNext[t.kind]; len(q) > 0 {
		text, t.c.failNext[t.kind] = q[0], q[1:]
	} else if t.c.fault != nil {
		id, _ := strconv.Atoi(t.id)
		text = t.c.fault(t.kind, id)
	}
	if text == "" {
		return false
	}
	if n, ok := strings.CutPrefix(text, "WARNINGS: "); ok {
		t.warned = max(atoi(n), 1)
		return false
	}
	t.rollback()
	t.end(text, "TASK ERROR: "+text)
	return true
}

// say adds lines to the log.
func (t *task) say(lines ...string) { t.log = append(t.log, lines...) }

// warn adds a warning: the task can end with "WARNINGS: n" at best.
func (t *task) warn(line string) {
	t.warned++
	t.say("WARN: " + line)
}

// after goes on with fn in d, if the worker still lives.
func (t *task) after(d time.Duration, fn func()) {
	t.c.after(d, func() {
		if t.live && !t.stopped {
			fn()
		}
	})
}

// acquire goes on with fn once the worker has the lock, and fails if it cannot
// be had in time.
func (t *task) acquire(name string, fn func()) {
	if name[0] == '/' && !t.c.free(name) {
		t.say("trying to acquire lock...")
		then := fn
		fn = func() { t.say(" OK"); then() }
	}
	t.c.acquire(name, func(ok bool) {
		switch {
		case ok && (!t.live || t.stopped):
			t.c.unlock(name)
		case ok:
			t.held = append(t.held, name)
			fn()
		case t.live && !t.stopped:
			t.fail(lockTimeout(name))
		}
	})
}

// release gives one lock back.
func (t *task) release(name string) {
	for i, h := range t.held {
		if h == name {
			t.held = append(t.held[:i:i], t.held[i+1:]...)
			t.c.unlock(name)
			return
		}
	}
}

// done ends the task well.
func (t *task) done() {
	if t.warned > 0 {
		t.end(fmt.Sprintf("WARNINGS: %d", t.warned), fmt.Sprintf("TASK WARNINGS: %d", t.warned))
		return
	}
	t.end("OK", "TASK OK")
}

// fail ends the task with an error after rolling back what it had done.
func (t *task) fail(text string) {
	t.rollback()
	text = t.prefix + text
	t.end(text, "TASK ERROR: "+text)
}

func (t *task) rollback() {
	if t.undo != nil {
		t.undo()
		t.undo = nil
	}
}

// end closes the task; the process's locks are free then, whatever it did.
func (t *task) end(exit string, lines ...string) {
	t.say(lines...)
	t.live, t.exit, t.ended = false, exit, t.c.clock.Now()
	held := t.held
	t.held = nil
	for _, name := range held {
		t.c.unlock(name)
	}
	onEnd := t.onEnd
	t.onEnd = nil
	for _, fn := range onEnd {
		fn()
	}
}

// terminate sends the worker TERM.
func (t *task) terminate() {
	if !t.live || t.deaf {
		return
	}
	text := "received interrupt" // believed; PVE::RESTEnvironment::fork_worker
	if t.prefix != "" {
		text = "interrupted by signal"
	}
	if t.caught != nil {
		t.caught()
	}
	t.stopped = true
	t.c.after(t.grace, func() {
		if t.live {
			t.stopped = false
			t.fail(text)
		}
	})
}

// kill sends the worker KILL: nothing is rolled back, nothing more is logged.
func (t *task) kill() {
	if t.live {
		t.end("unexpected status")
	}
}

// KillWorker kills a task's worker process (SIGKILL).
func (c *Cluster) KillWorker(upid string) {
	c.enter()
	defer c.mu.Unlock()
	if t := c.tasks[upid]; t != nil {
		t.kill()
	}
}

// FailNext makes the next task of that type ("vzclone") fail with that text.
// Several calls queue up.
func (c *Cluster) FailNext(kind, exitstatus string) {
	c.enter()
	defer c.mu.Unlock()
	c.failNext[kind] = append(c.failNext[kind], exitstatus)
}
