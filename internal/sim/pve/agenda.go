package pve

import (
	"container/heap"
	"time"
)

// agenda holds what will happen later, in one order for one seed: by time, then
// by when it was put there. One timer serves the whole cluster.
type agenda struct {
	events eventHeap
	seq    int
	timer  *time.Timer
	armed  time.Time
}

type event struct {
	at   time.Time
	seq  int
	fn   func()
	gone bool
}

type eventHeap []*event

func (h eventHeap) Len() int      { return len(h) }
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h eventHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].seq < h[j].seq
}
func (h *eventHeap) Push(x any) { *h = append(*h, x.(*event)) }
func (h *eventHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// after runs fn under the lock once d has passed; at once when d is not
// positive, so that an instantly answering cluster needs no timers.
func (c *Cluster) after(d time.Duration, fn func()) *event {
	e := &event{fn: fn}
	if d <= 0 {
		fn()
		e.gone = true
		return e
	}
	a := &c.agenda
	a.seq++
	e.at, e.seq = time.Now().Add(d), a.seq
	heap.Push(&a.events, e)
	c.arm()
	return e
}

// arm sets the timer to the first event.
func (c *Cluster) arm() {
	a := &c.agenda
	for len(a.events) > 0 && a.events[0].gone {
		heap.Pop(&a.events)
	}
	if len(a.events) == 0 {
		return
	}
	at := a.events[0].at
	if a.timer != nil {
		if a.armed.Equal(at) {
			return
		}
		a.timer.Stop()
	}
	a.armed = at
	a.timer = c.clock.AfterFunc(time.Until(at), c.tick)
}

// tick runs what is due when the timer says so.
func (c *Cluster) tick() {
	c.enter()
	defer c.mu.Unlock()
	c.agenda.timer = nil
	c.arm()
}

// enter takes the cluster's lock and does first what is due: of things at one
// moment, the agenda's come before requests, whatever the scheduler does.
func (c *Cluster) enter() {
	c.mu.Lock()
	a := &c.agenda
	if len(a.events) == 0 {
		return
	}
	now := time.Now()
	for len(a.events) > 0 && !a.events[0].at.After(now) {
		e := heap.Pop(&a.events).(*event)
		if !e.gone {
			e.gone = true
			e.fn()
		}
	}
}

// notices are the calls of Guest that are due, in order.
type notices struct {
	queue   []func()
	running bool
}

// notify calls fn later, outside the lock, after every earlier notice.
func (c *Cluster) notify(fn func()) {
	if c.guest == nil {
		return
	}
	c.notices.queue = append(c.notices.queue, fn)
	if c.notices.running {
		return
	}
	c.notices.running = true
	c.clock.AfterFunc(0, c.deliver)
}

func (c *Cluster) deliver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.notices.queue) > 0 {
		fn := c.notices.queue[0]
		c.notices.queue = c.notices.queue[1:]
		c.mu.Unlock()
		fn()
		c.mu.Lock()
	}
	c.notices.running = false
}
