package journal

import "context"

const (
	// foldAt is the number of pages in the write-ahead log that are not in the
	// file yet at which they are folded into it: three times SQLite's own
	// number. The writers wait for the end of each fold, so that fewer folds
	// hold up fewer of them, and a page that is written again and again is
	// folded less often. The log stays within journal_size_limit.
	foldAt = 3000

	// looksEvery is the number of commits between two looks at how many there
	// are. Large ones may make more of it; then SQLite comes first.
	looksEvery = 16

	// backstop is the number at which SQLite does it by itself all the same,
	// while the writers wait.
	backstop = 2 * foldAt
)

// fold folds the write-ahead log into the file from time to time, beside the
// writers: SQLite does it within the commit that makes the log long enough, and
// who waits for that one waits for two syncs and a thousand pages more. It is
// called by the writer of the moment.
func (j *Journal) fold() {
	if j.commits++; j.commits%looksEvery != 0 || j.folding.Load() || j.path == memory {
		return
	}
	if left, err := j.w.checkpoint("NOOP"); err != nil || left < foldAt {
		return
	}
	j.folding.Store(true)
	j.writers.Go(func() {
		defer j.folding.Store(false)
		if err := j.foldNow(); err != nil {
			j.opts.Log.Warn("journal: fold the write-ahead log into the file", "err", explain(j.path, err))
		}
	})
}

// foldNow folds what there is, and then, while no write begins, the little that
// has come since: only a log of which nothing is left is begun anew, and only
// in a log that does not grow a sync has no more to write than the data.
func (j *Journal) foldNow() error {
	if j.path == memory {
		return nil
	}
	j.f.mu.Lock()
	defer j.f.mu.Unlock()
	if _, err := j.f.checkpoint("PASSIVE"); err != nil {
		return err
	}
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	_, err := j.f.checkpoint("PASSIVE")
	return err
}

// checkpoint returns how many pages of the log are not in the file.
func (s *session) checkpoint(mode string) (left int, err error) {
	var busy, log, folded int
	_, err = s.one(context.Background(), []any{&busy, &log, &folded}, "PRAGMA wal_checkpoint("+mode+")")
	return log - folded, err
}
