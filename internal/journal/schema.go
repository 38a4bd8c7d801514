package journal

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// application marks the file as dayfly's: "dayf" (sqlite.org/fileformat.html
// §1.3.10).
const application = 0x64617966

//go:embed schema/*.sql
var schemaFiles embed.FS

// migrations are the numbered files of the schema; number n leads from version
// n-1 to n. They only go forward and a released one never changes.
func migrations(dir fs.FS) ([]string, error) {
	names, err := fs.Glob(dir, "schema/*.sql")
	if err != nil {
		return nil, err
	}
	steps := make([]string, len(names))
	for i, name := range names {
		if want := fmt.Sprintf("schema/%04d_", i+1); !strings.HasPrefix(name, want) {
			return nil, fmt.Errorf("migration %s: not numbered %s…", name, want)
		}
		b, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, err
		}
		steps[i] = string(b)
	}
	return steps, nil
}

// upgrade checks the file before anything is written to it, then brings it to
// the newest schema.
func (j *Journal) upgrade(ctx context.Context, steps []string) error {
	version, err := j.version(ctx, len(steps))
	if err != nil {
		return err
	}
	if err := j.verify(ctx); err != nil {
		return err
	}
	if err := j.settings(); err != nil {
		return err
	}
	if version > 0 && version < len(steps) {
		if err := j.backup(version); err != nil {
			return fmt.Errorf("back up before upgrade: %w", err)
		}
	}
	for i := version; i < len(steps); i++ {
		if err := j.w.migrate(steps[i], i+1); err != nil {
			return fmt.Errorf("upgrade to schema %d: %w", i+1, err)
		}
	}
	return nil
}

// version is the file's schema version, 0 for a new file.
func (j *Journal) version(ctx context.Context, newest int) (int, error) {
	var app, version, tables int
	for query, n := range map[string]*int{
		"PRAGMA application_id":              &app,
		"PRAGMA user_version":                &version,
		"SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if _, err := j.w.one(ctx, []any{n}, query); err != nil {
			return 0, err
		}
	}
	switch {
	case app == 0 && version == 0 && tables == 0:
		return 0, nil
	case app != application:
		return 0, fmt.Errorf("%s is an SQLite file, but not a dayfly journal: choose another path", j.path)
	case version > newest:
		return 0, newer(j.path, version, newest)
	}
	return version, nil
}

func newer(path string, version, newest int) error {
	way := ""
	for n := newest; n > 0 && way == ""; n-- { // an upgrade may have skipped some
		if _, err := os.Stat(backupName(path, n)); err == nil {
			way = ", or put the copy " + backupName(path, n) + " in its place"
		}
	}
	return fmt.Errorf("%w: %s has schema %d, this dayfly knows none after %d: run the dayfly that wrote it%s",
		ErrNewer, path, version, newest, way)
}

// checked is the size up to which every Open checks the whole file.
const checked = 4 << 20

// leastPage is the smallest page of SQLite; all others are multiples of it.
const leastPage = 512

// verify looks for damage. SQLite finds damage only where it reads, so the
// whole file is read: always if that takes no time, and after a crash (a
// write-ahead log was left) whatever it takes.
func (j *Journal) verify(ctx context.Context) error {
	file, err := os.Stat(j.path)
	if err != nil || file.Size() == 0 {
		return nil // in memory, or new
	}
	log, err := os.Stat(j.path + "-wal")
	crashed := err == nil && log.Size() > 0
	if !crashed && file.Size()%leastPage != 0 {
		// SQLite reads what is missing of the last page as zeros, and may find
		// nothing wrong with them.
		return corrupt(j.path, errors.New("its last page is cut short"))
	}
	if file.Size() > checked && !crashed {
		return nil
	}
	var found string
	if _, err := j.w.one(ctx, []any{&found}, "PRAGMA quick_check(1)"); err != nil {
		return err
	}
	if found != "ok" {
		return corrupt(j.path, fmt.Errorf("%s", found))
	}
	return nil
}

// settings are of the file and of the connection that writes.
func (j *Journal) settings() error {
	for _, q := range []string{
		"PRAGMA auto_vacuum = INCREMENTAL", // only before the first table; lets Prune give room back
		"PRAGMA journal_mode = WAL",
		"PRAGMA synchronous = FULL", // a commit is on disk; WAL's default is less
		"PRAGMA cache_size = -2048", // KiB
		"PRAGMA temp_store = MEMORY",
		"PRAGMA journal_size_limit = 16777216",
		fmt.Sprintf("PRAGMA wal_autocheckpoint = %d", backstop), // see fold
	} {
		if _, err := j.w.exec(q); err != nil {
			return fmt.Errorf("%s: %w", strings.ToLower(q), err)
		}
	}
	return nil
}

// migrate runs one step and notes it in the same transaction.
func (s *session) migrate(step string, version int) error {
	script := fmt.Sprintf("BEGIN IMMEDIATE; %s; PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT;",
		step, application, version)
	_, err := s.conn.ExecContext(context.Background(), script)
	if err != nil {
		_, _ = s.exec("ROLLBACK")
	}
	return err
}

func backupName(path string, version int) string {
	return fmt.Sprintf("%s.schema-%d", path, version)
}

// backup copies the journal as it is now to a file beside it, whole or not at
// all. VACUUM INTO takes an empty file and keeps its mode, but does not sync it
// (sqlite.org/lang_vacuum.html).
func (j *Journal) backup(version int) error {
	if j.path == memory {
		return nil
	}
	name := backupName(j.path, version)
	part := name + ".part"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := j.w.exec("VACUUM INTO ?", part); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(part, name); err != nil {
		return err
	}
	j.opts.Log.Info("journal: copied before an upgrade", "file", name)
	return syncDir(filepath.Dir(name))
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
