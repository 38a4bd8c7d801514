package journal

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds are the upper ends of the buckets of Commits.Buckets, but for the
// last, which has none.
var Bounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond,
	10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 500 * time.Millisecond, time.Second,
}

// Commits is how long transactions took since Open, fsync and all.
type Commits struct {
	Count   int64
	Writes  int64 // calls they served
	Failed  int64
	Sum     time.Duration
	Last    time.Duration
	Longest time.Duration
	Buckets [len(Bounds) + 1]int64 // not cumulative
	Running time.Duration          // age of the one under way: a disk that hangs
}

// Rows is how many rows each table has.
type Rows struct{ Deliveries, Jobs, Runners, Intents, Events, Facts int64 }

// Stats is what metrics and the watchdog want to know.
type Stats struct {
	Commits  Commits
	OpenJobs int
	Queued   int   // writes that wait for the next transaction
	Bytes    int64 // of the file; 0 in memory
	LogBytes int64 // of the write-ahead log
}

// Stats reads nothing of the file but its size: it is asked for every few
// seconds.
func (j *Journal) Stats() Stats {
	s := Stats{Commits: j.took.read(), OpenJobs: len(j.OpenJobs()), Bytes: size(j.path), LogBytes: size(j.path + "-wal")}
	j.mu.Lock()
	defer j.mu.Unlock()
	s.Queued = len(j.queue)
	return s
}

// Rows counts rows, for which it reads through an index of each table.
func (j *Journal) Rows(ctx context.Context) (n Rows, err error) {
	err = j.read("count rows", func(r *session) error {
		_, err := r.one(ctx, []any{&n.Deliveries, &n.Jobs, &n.Runners, &n.Intents, &n.Events, &n.Facts},
			`SELECT (SELECT count(*) FROM deliveries), (SELECT count(*) FROM jobs), (SELECT count(*) FROM runners),
				(SELECT count(*) FROM intents), (SELECT count(*) FROM events), (SELECT count(*) FROM facts)`)
		return err
	})
	return n, err
}

func size(name string) int64 {
	file, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return file.Size()
}

// latency collects Commits.
type latency struct {
	mu    sync.Mutex
	c     Commits
	began time.Time // of the transaction under way
}

func (l *latency) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began = time.Now()
}

func (l *latency) stop(writes int, failed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := time.Since(l.began)
	l.began = time.Time{}
	if failed {
		l.c.Failed++
		return
	}
	l.c.Count++
	l.c.Writes += int64(writes)
	l.c.Sum += d
	l.c.Last = d
	l.c.Longest = max(l.c.Longest, d)
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	l.c.Buckets[i]++
}

func (l *latency) read() Commits {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.c
	if !l.began.IsZero() {
		c.Running = time.Since(l.began)
	}
	return c
}

// lastEvent is the newest event's id.
type lastEvent struct{ id atomic.Int64 }

func (l *lastEvent) raise(id int64) {
	if id > l.id.Load() { // one writer at a time
		l.id.Store(id)
	}
}
