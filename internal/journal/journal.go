package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultKeep     = 14 * 24 * time.Hour
	defaultKeepJobs = 20000
	memory          = ":memory:"
)

// Options say how long history is kept. The zero value is the default.
type Options struct {
	Now      func() time.Time // time.Now if nil
	Keep     time.Duration    // age of history, 14 days if zero
	KeepJobs int              // completed jobs in history, 20,000 if zero
	Log      *slog.Logger     // discarded if nil
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Keep <= 0 {
		o.Keep = defaultKeep
	}
	if o.KeepJobs <= 0 {
		o.KeepJobs = defaultKeepJobs
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Journal is the open file. Its methods may be called concurrently.
type Journal struct {
	path string
	opts Options
	lock *os.File
	w    *session // under the writer of the moment, see drain
	r    *session // the same as w for a journal in memory
	f    *session // folds the log; the same as w for a journal in memory
	open openJobs
	last lastEvent
	took latency

	commits int         // since Open; under the writer of the moment
	folding atomic.Bool // the log is being folded

	mu      sync.Mutex // of what follows
	queue   []*write
	alarm   time.Time // when the queue is looked at again; zero: not by itself
	writing bool
	closed  bool
	writers sync.WaitGroup
}

// Open opens the journal at path, and makes it if there is none. The path
// ":memory:" is a journal that Close forgets. Errors: ErrInUse, ErrCorrupt,
// ErrNewer, ErrFull.
func Open(ctx context.Context, path string, opts Options) (*Journal, error) {
	steps, err := migrations(schemaFiles)
	if err != nil {
		return nil, err
	}
	return openAt(ctx, path, opts, steps)
}

// openAt opens the journal with the schema that steps lead to.
func openAt(ctx context.Context, path string, opts Options, steps []string) (*Journal, error) {
	j := &Journal{path: path, opts: opts.withDefaults()}
	if err := j.start(ctx, steps); err != nil {
		return nil, fmt.Errorf("open journal: %w", errors.Join(explain(j.path, err), j.release()))
	}
	return j, nil
}

func (j *Journal) start(ctx context.Context, steps []string) (err error) {
	if j.path != memory {
		if j.path, err = filepath.Abs(j.path); err != nil {
			return err
		}
		if j.lock, err = lock(j.path); err != nil {
			return err
		}
		if err := j.touch(); err != nil {
			return err
		}
	}
	if err := j.connect(); err != nil {
		return err
	}
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	if err := j.upgrade(ctx, steps); err != nil {
		return err
	}
	return j.load(ctx)
}

func (j *Journal) connect() (err error) {
	if j.w, err = newSession(j.path, "PRAGMA busy_timeout = 5000"); err != nil {
		return err
	}
	if j.path == memory {
		j.r, j.f = j.w, j.w
		return nil
	}
	if j.r, err = newSession(j.path, "PRAGMA busy_timeout = 5000", "PRAGMA cache_size = -1024", "PRAGMA query_only = ON"); err != nil {
		return err
	}
	j.f, err = newSession(j.path, "PRAGMA synchronous = FULL", "PRAGMA query_only = ON")
	return err
}

// load reads what is kept in memory.
func (j *Journal) load(ctx context.Context) error {
	jobs, err := scanJobs(ctx, j.w, openJobsQuery)
	if err != nil {
		return fmt.Errorf("read open jobs: %w", err)
	}
	j.open.put(jobs)
	var id int64
	if _, err := j.w.one(ctx, []any{&id}, `SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'`); err != nil {
		return fmt.Errorf("read last event: %w", err)
	}
	j.last.id.Store(id)
	return nil
}

// touch makes the file, so that it has its mode before SQLite writes to it;
// SQLite gives its other files the same mode. The file is never opened again
// beside SQLite: closing it would drop SQLite's locks (sqlite.org/howtocorrupt.html
// §2.2).
func (j *Journal) touch() error {
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	file, err := f.Stat()
	if err == nil && file.Mode().Perm()&0o077 != 0 {
		j.opts.Log.Warn("journal: others may read the file",
			"file", j.path, "mode", file.Mode().Perm().String())
	}
	return err
}

// Close waits for the writes under way and closes the file. It may be called
// twice.
func (j *Journal) Close() error {
	j.mu.Lock()
	done := j.closed
	j.closed = true
	j.begin()
	j.mu.Unlock()
	j.writers.Wait()
	if done {
		return nil
	}
	if err := j.release(); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}

// release closes the writer last: the last connection to go folds the
// write-ahead log into the file and removes it.
func (j *Journal) release() error {
	var errs []error
	for _, s := range []*session{j.r, j.f} {
		if s != nil && s != j.w {
			errs = append(errs, s.shut())
		}
	}
	if j.w != nil {
		errs = append(errs, j.w.shut())
	}
	if j.lock != nil {
		errs = append(errs, j.lock.Close())
	}
	return errors.Join(errs...)
}

// read calls do with the connection that does not wait for writes.
func (j *Journal) read(what string, do func(*session) error) error {
	j.r.mu.Lock()
	defer j.r.mu.Unlock()
	if j.r.closed {
		return fmt.Errorf("%s: %w", what, ErrClosed)
	}
	if err := do(j.r); err != nil {
		return fmt.Errorf("%s: %w", what, explain(j.path, err))
	}
	return nil
}
