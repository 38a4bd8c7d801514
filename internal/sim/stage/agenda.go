package stage

import (
	"container/heap"
	"sync"
	"time"
)

// Agenda runs functions at their times, one at a time and in one order: by
// time, then by when they were put there. The runtime starts timers of one
// instant in any order; a world that shares one Agenda replays alike. The zero
// value is ready for use. The functions must not wait.
type Agenda struct {
	mu      sync.Mutex
	entries entries
	seq     int
	timer   *time.Timer
	armed   time.Time
	running bool
}

// Entry is one function on an Agenda.
type Entry struct {
	agenda *Agenda
	at     time.Time
	seq    int
	f      func()
	index  int // in the heap; -1 once it is gone
}

// After runs f once d has passed, in a timer's goroutine, even when d is 0.
func (a *Agenda) After(d time.Duration, f func()) *Entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seq++
	e := &Entry{agenda: a, at: time.Now().Add(max(d, 0)), seq: a.seq, f: f}
	heap.Push(&a.entries, e)
	a.arm()
	return e
}

// Stop takes the entry off the agenda, if it has not begun. A nil Entry is off.
func (e *Entry) Stop() {
	if e == nil {
		return
	}
	a := e.agenda
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.index >= 0 {
		heap.Remove(&a.entries, e.index)
		a.arm()
	}
}

// arm sets the timer to the first entry; the agenda's lock is held.
func (a *Agenda) arm() {
	if a.running || len(a.entries) == 0 {
		return
	}
	at := a.entries[0].at
	if a.timer != nil {
		if a.armed.Equal(at) {
			return
		}
		a.timer.Stop()
	}
	a.armed = at
	a.timer = time.AfterFunc(time.Until(at), a.tick)
}

// tick runs what is due, without the lock.
func (a *Agenda) tick() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running {
		return
	}
	a.running, a.timer = true, nil
	for len(a.entries) > 0 && !a.entries[0].at.After(time.Now()) {
		e := heap.Pop(&a.entries).(*Entry)
		a.mu.Unlock()
		e.f()
		a.mu.Lock()
	}
	a.running = false
	a.arm()
}

// entries is a heap by time and sequence.
type entries []*Entry

func (h entries) Len() int { return len(h) }

func (h entries) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].seq < h[j].seq
}

func (h entries) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *entries) Push(x any) {
	e := x.(*Entry)
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *entries) Pop() any {
	old := *h
	e := old[len(old)-1]
	e.index = -1
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
