package journal

import (
	"errors"
	"fmt"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// The kinds of errors, for errors.Is.
var (
	ErrInUse   = errors.New("journal in use")   // by another process, or another Open of this one
	ErrFull    = errors.New("disk full")        // nothing was written; reads go on, writes may be tried again
	ErrCorrupt = errors.New("journal corrupt")  // the file was kept
	ErrNewer   = errors.New("journal is newer") // written by a later dayfly; the file was kept
	ErrClosed  = errors.New("journal closed")
)

// explain gives an error of SQLite or the system its kind and, where a person must act, says
// what to do.
func explain(path string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return corrupt(path, err)
	case sqlite3.SQLITE_BUSY:
		return fmt.Errorf("another program holds %s, end it: %w", path, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN:
		if full(path) {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	return err
}

// hopeless reports whether what failed one write will fail every other, after
// as long a wait.
func hopeless(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_IOERR)
}

func corrupt(path string, cause error) error {
	return fmt.Errorf("%w: %w; %s is kept as it is: stop dayfly, move it and %[3]s-wal away and start dayfly again: "+
		"it finds its containers and runners again, only history is lost", ErrCorrupt, cause, path)
}

// full reports whether an I/O error comes from want of room: SQLite says
// SQLITE_FULL only for ENOSPC in a write, not when the shared-memory file
// cannot grow, nor for a file size limit (os_unix.c, unixWrite and unixShmMap).
func full(path string) bool {
	const room = 1 << 20 // less than any write here may need
	var fs syscall.Statfs_t
	if syscall.Statfs(path, &fs) == nil && (fs.Bavail*uint64(fs.Bsize) < room || fs.Files > 0 && fs.Ffree == 0) {
		return true
	}
	var file syscall.Stat_t
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit) != nil {
		return false
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if syscall.Stat(name, &file) == nil && uint64(file.Size)+room > limit.Cur {
			return true
		}
	}
	return false
}
