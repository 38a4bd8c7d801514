package journal

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// maxBatch bounds a transaction, and with it how long one caller waits for the
// others.
const maxBatch = 256

// write is one caller's change. apply may run twice, so that it must leave
// nothing behind but rows and what it gives tx.
type write struct {
	apply func(*tx) error
	now   time.Time     // of the call
	due   time.Time     // when it must be in the queue no longer
	done  chan struct{} // closed when err is final
	then  func(error)   // called with it, if set
	err   error
	jobs  []fleet.Job // changed by it
	event int64       // its last event
}

func (j *Journal) newWrite(patience time.Duration, apply func(*tx) error) *write {
	return &write{apply: apply, now: j.opts.Now(), due: time.Now().Add(patience), done: make(chan struct{})}
}

// tx is what a write may do inside the transaction.
type tx struct {
	*session
	now   time.Time
	jobs  []fleet.Job
	event int64
}

// or is at, or the time of the call where the caller gave none: a zero time
// would look very old to Prune.
func (t *tx) or(at time.Time) time.Time {
	if at.IsZero() {
		return t.now
	}
	return at
}

// Patience is how long a write may stay in the queue to share the commit of one
// that comes soon. A commit costs the same for one write and for a hundred: a
// sync, and waking up for it.
const (
	urgent  = time.Duration(0)
	brief   = 5 * time.Millisecond   // who waits for it can wait that long
	patient = 25 * time.Millisecond  // who waits for it is in no hurry
	idle    = 100 * time.Millisecond // nobody waits for it
)

// enough is the number of patient writes that wait for no more: a commit among
// so many costs each next to nothing, and a flood of them is answered as soon
// as one of the urgent.
const enough = 3

// write runs apply in a transaction and returns when it is durable.
//
// Callers that come while a transaction is being committed gather in the queue
// and share the next one. A context that ends takes the change back if it was
// not begun; else the error is an ErrUnknownOutcome.
func (j *Journal) write(ctx context.Context, patience time.Duration, what string, apply func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	w := j.newWrite(patience, apply)
	if !j.enqueue(w) {
		return fmt.Errorf("%s: %w", what, ErrClosed)
	}
	select {
	case <-w.done:
		if w.err != nil {
			return fmt.Errorf("%s: %w", what, explain(j.path, w.err))
		}
		return nil
	case <-ctx.Done():
		if j.withdraw(w) {
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
		return fmt.Errorf("%s: %w: %w", what, ctx.Err(), fleet.ErrUnknownOutcome)
	}
}

// enqueue gives w to the goroutine that writes.
func (j *Journal) enqueue(w *write) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return false
	}
	j.queue = append(j.queue, w)
	j.begin()
	return true
}

// begin starts the goroutine that writes, which lives only as long as a write is
// due; mu is held.
func (j *Journal) begin() {
	if !j.writing && j.due() {
		j.writing = true
		j.writers.Go(j.drain)
	}
}

// due reports whether a write is, and else sets the alarm for the first that
// will be; mu is held. The others in the queue go with it.
func (j *Journal) due() bool {
	if len(j.queue) == 0 || j.closed || len(j.queue) >= maxBatch {
		return len(j.queue) > 0
	}
	first, awaited := j.queue[0].due, 0
	for _, w := range j.queue {
		if w.due.Before(first) {
			first = w.due
		}
		if w.then == nil {
			awaited++
		}
	}
	if awaited >= enough {
		return true
	}
	left := time.Until(first)
	if left > 0 && (j.alarm.IsZero() || first.Before(j.alarm)) {
		j.alarm = first
		time.AfterFunc(left, j.flush)
	}
	return left <= 0
}

func (j *Journal) flush() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.alarm = time.Time{}
	j.begin()
}

func (j *Journal) withdraw(w *write) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := slices.Index(j.queue, w)
	if i < 0 {
		return false
	}
	j.queue = slices.Delete(j.queue, i, i+1)
	return true
}

func (j *Journal) drain() {
	runtime.Gosched() // who was begun together with the first caller joins it
	for batch := j.take(); len(batch) > 0; batch = j.take() {
		j.commit(batch)
	}
}

// take is the next batch; an empty one ends the goroutine.
func (j *Journal) take() []*write {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	if j.due() {
		n = min(len(j.queue), maxBatch)
	}
	batch := slices.Clone(j.queue[:n])
	j.queue = slices.Delete(j.queue, 0, n)
	j.writing = n > 0
	return batch
}

// commit makes the batch durable and tells its callers. One write that fails
// must not fail the others, so after an error of its own making each gets a
// transaction for itself.
func (j *Journal) commit(batch []*write) {
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	defer j.fold()
	err := j.transact(batch)
	if err != nil && len(batch) > 1 && !hopeless(err) {
		for _, w := range batch {
			w.finish(j.transact([]*write{w}))
		}
		return
	}
	for _, w := range batch {
		w.finish(err)
	}
}

func (w *write) finish(err error) {
	w.err = err
	close(w.done)
	if w.then != nil {
		w.then(err)
	}
}

// transact runs one transaction and, once it is durable, renews what is kept
// in memory.
func (j *Journal) transact(batch []*write) error {
	j.took.start()
	err := j.w.transact(batch)
	j.took.stop(len(batch), err != nil)
	if err != nil {
		return err
	}
	for _, w := range batch {
		j.open.put(w.jobs)
		j.last.raise(w.event)
	}
	return nil
}

func (s *session) transact(batch []*write) error {
	if _, err := s.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := s.apply(batch)
	if err == nil {
		_, err = s.exec("COMMIT")
	}
	if err != nil {
		// After some errors SQLite has rolled back already, and says so with
		// an error that is of no use (sqlite.org/lang_transaction.html).
		_, _ = s.exec("ROLLBACK")
	}
	return err
}

func (s *session) apply(batch []*write) error {
	for _, w := range batch {
		t := &tx{session: s, now: w.now}
		if err := w.apply(t); err != nil {
			return err
		}
		w.jobs, w.event = t.jobs, t.event
	}
	return nil
}
