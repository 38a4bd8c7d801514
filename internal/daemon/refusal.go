package daemon

import (
	"fmt"
	"sync"
	"time"
)

// refusals logs deliveries that are refused: anybody may send them, so of each
// kind there is one line a minute, and the number of the others.
type refusals struct {
	mu     sync.Mutex
	untold map[string]int // kind → refused since its last line
}

const refusalEvery = time.Minute

// refused logs a refusal, or counts it. There are few kinds.
func (d *Daemon) refused(kind, guid, text string) {
	r := &d.refusals
	r.mu.Lock()
	defer r.mu.Unlock()
	if n, quiet := r.untold[kind]; quiet {
		r.untold[kind] = n + 1
		return
	}
	d.log.Warn("delivery refused", "delivery", guid, "err", text)
	d.quiet(kind)
}

// quiet begins a minute without a line of a kind.
func (d *Daemon) quiet(kind string) {
	d.refusals.untold[kind] = 0
	time.AfterFunc(refusalEvery, func() { d.countRefused(kind) })
}

// countRefused ends a minute of quiet with the number of what was not told.
func (d *Daemon) countRefused(kind string) {
	r := &d.refusals
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.untold[kind]
	delete(r.untold, kind)
	select {
	case <-d.over:
		return
	default:
	}
	if n > 0 {
		d.log.Warn(fmt.Sprintf("%d more deliveries refused within a minute", n), "err", kind)
		d.quiet(kind)
	}
}
