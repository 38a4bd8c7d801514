package journal

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dayfly-ci/dayfly/internal/fleet"
)

// later is the schema and two steps that a later dayfly could have.
func later(t *testing.T, second string) []string {
	t.Helper()
	steps, err := migrations(schemaFiles)
	if err != nil {
		t.Fatal(err)
	}
	return append(steps, "ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 7", second)
}

// dumped is a closed journal made from the dump of one that an older dayfly
// wrote.
func dumped(t *testing.T, dump string) string {
	t.Helper()
	script, err := os.ReadFile(filepath.Join("testdata", dump))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "journal")
	db := bare(t, path)
	if _, err := db.Exec(string(script)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// bare is the file without the journal.
func bare(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// number asks the file for one.
func number(t *testing.T, path, query string) (n int) {
	t.Helper()
	db := bare(t, path)
	defer db.Close()
	if err := db.QueryRow(query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// checkDumped looks for what schema-1.sql holds.
func checkDumped(t *testing.T, j *Journal) {
	t.Helper()
	ctx := context.Background()
	if jobs := j.OpenJobs(); len(jobs) != 1 || jobs[0].ID != 41 || jobs[0].Labels[1] != "linux" || jobs[0].Status != fleet.Queued {
		t.Errorf("open jobs %+v, want job 41", jobs)
	}
	runners, err := j.Runners(ctx)
	if err != nil || len(runners) != 1 || runners[0].Name != "dayfly-a-1" || runners[0].VMID != 90001 || runners[0].Cloned.IsZero() {
		t.Errorf("runners %+v, error %v; want dayfly-a-1", runners, err)
	}
	intents, err := j.Unfinished(ctx)
	if err != nil || len(intents) != 1 || intents[0].Action.Kind != fleet.Launch {
		t.Errorf("unfinished %+v, error %v; want a launch", intents, err)
	}
	if value, known, err := j.Get(ctx, "instance"); err != nil || !known || string(value) != "lab" {
		t.Errorf("fact %q, %v, error %v; want lab", value, known, err)
	}
	if j.LastEvent() != 9 {
		t.Errorf("last event %d, want 9", j.LastEvent())
	}
}

// Every schema that was ever released can be opened, with all that is in it.
func TestJournalsOfOlderSchemasOpen(t *testing.T) {
	dumps, err := filepath.Glob("testdata/schema-*.sql")
	if err != nil || len(dumps) == 0 {
		t.Fatalf("no dumps: %v", err)
	}
	for _, dump := range dumps {
		j := openHere(t, dumped(t, filepath.Base(dump)))
		checkDumped(t, j)
		if err := accept(j, context.Background(), 42); err != nil {
			t.Errorf("%s: %v", dump, err)
		}
	}
}

func TestUpgradeCopiesFirst(t *testing.T) {
	path := dumped(t, "schema-1.sql")
	j, err := openAt(context.Background(), path, Options{}, later(t, "CREATE TABLE more (id INTEGER)"))
	if err != nil {
		t.Fatal(err)
	}
	checkDumped(t, j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := number(t, path, "SELECT priority FROM jobs WHERE id = 41"); got != 7 {
		t.Errorf("the new column holds %d, want 7", got)
	}
	// As the dayfly of schema 1 would find it, which has kept a copy.
	backup := path + ".schema-1"
	if file, err := os.Stat(backup); err != nil || file.Mode().Perm() != 0o600 {
		t.Fatalf("copy %v, error %v; want mode 0600", file, err)
	}
	checkDumped(t, openHere(t, backup)) // the copy is a journal of the old schema
	_, err = openAt(context.Background(), path, Options{}, later(t, "")[:1])
	if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), backup) {
		t.Errorf("the older dayfly says %v, want ErrNewer and the copy's name", err)
	}
}

// A step that fails is undone as a whole, the steps before it stay, and the
// next try goes on from there.
func TestFailedUpgradeChangesNothingHalfway(t *testing.T) {
	path := dumped(t, "schema-1.sql")
	_, err := openAt(context.Background(), path, Options{}, later(t, "CREATE TABLE more (id INTEGER); SELECT nonsense"))
	if err == nil || !strings.Contains(err.Error(), "upgrade to schema 6") {
		t.Fatalf("%v, want an error about schema 6", err)
	}
	if got := number(t, path, "PRAGMA user_version"); got != 5 {
		t.Errorf("schema %d after the failure, want 5", got)
	}
	if got := number(t, path, "SELECT count(*) FROM sqlite_schema WHERE name = 'more'"); got != 0 {
		t.Error("half of the failed step is there")
	}
	j, err := openAt(context.Background(), path, Options{}, later(t, "CREATE TABLE more (id INTEGER)"))
	if err != nil {
		t.Fatal(err)
	}
	checkDumped(t, j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestMigrationsAreNumberedWithoutGap(t *testing.T) {
	for want, names := range map[string][]string{
		"":                       {"0001_a.sql", "0002_b.sql"},
		"migration schema/0003_": {"0001_a.sql", "0003_c.sql"},
		"migration schema/0000_": {"0000_a.sql"},
	} {
		dir := fstest.MapFS{}
		for _, name := range names {
			dir["schema/"+name] = &fstest.MapFile{}
		}
		_, err := migrations(dir)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%v: error %v, want %q", names, err, want)
		}
	}
}
