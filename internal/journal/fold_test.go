package journal

import (
	"context"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// The log is folded while writers come and go, and begun anew after it: it
// does not grow with their number.
func TestLogIsFoldedBesideTheWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := openHere(t, path)
	next := fleet.JobID(0)
	writes := func(n int) {
		var group sync.WaitGroup
		for range n {
			next++
			id := next
			group.Go(func() {
				if err := accept(j, context.Background(), id); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
	// pages is how many pages of the log are not in the file.
	pages := func() int {
		j.w.mu.Lock()
		defer j.w.mu.Unlock()
		left, err := j.w.checkpoint("NOOP")
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
	writes(1)
	if left := pages(); left < 1 || left >= foldAt {
		t.Fatalf("%d pages of the log are not in the file after a write", left)
	}
	for before := 0; pages() > before; {
		before = pages()
		writes(20)
	}
	for j.folding.Load() {
		runtime.Gosched()
	}
	if left := pages(); left > foldAt/2 {
		t.Errorf("%d pages are left after a fold", left)
	}
	log := size(path + "-wal")
	if writes(10); size(path+"-wal") != log {
		t.Errorf("the log went on from %d to %d bytes after a fold, want it begun anew", log, size(path+"-wal"))
	}
	// It must be so under load, too.
	for range 40 {
		writes(100)
	}
	if got, most := size(path+"-wal"), int64(backstop*4096); got > most {
		t.Errorf("the log has %d bytes, want less than SQLite would let it have, %d", got, most)
	}
}
