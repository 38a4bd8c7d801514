package journal_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dayfly-ci/dayfly/internal/journal"
)

// refuses checks that a journal is not opened, why, what the error tells the
// operator, and that the file stays as it was.
func refuses(t *testing.T, path string, want error, says ...string) {
	t.Helper()
	before := readFile(t, path)
	_, err := journal.Open(context.Background(), path, journal.Options{})
	if err == nil || want != nil && !errors.Is(err, want) {
		t.Fatalf("open: %v, want %v", err, want)
	}
	for _, s := range append(says, path) {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not say %q", err, s)
		}
	}
	if !bytes.Equal(before, readFile(t, path)) {
		t.Error("the file was changed")
	}
}

// written is a closed journal with some history.
func written(t *testing.T) string {
	t.Helper()
	path := filepath.Join(scratch(t), "journal")
	j := open(t, path, journal.Options{})
	for i := range 60 {
		if _, err := j.Accept(context.Background(), delivery(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func statement(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(query); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedFileIsRefusedAndKept(t *testing.T) {
	path := written(t)
	whole := readFile(t, path)
	const page = 4096
	cases := map[string]func([]byte) []byte{
		"another file":    func([]byte) []byte { return bytes.Repeat([]byte("not a database. "), 1000) },
		"cut in half":     func(b []byte) []byte { return b[:len(b)/2] },
		"cut within page": func(b []byte) []byte { return b[:len(b)-100] },
		"header lost":     func(b []byte) []byte { return append(make([]byte, 100), b[100:]...) },
	}
	for p := 2; p < len(whole)/page; p++ {
		cases[fmt.Sprint("page ", p, " overwritten")] = func(b []byte) []byte {
			copy(b[p*page:], bytes.Repeat([]byte{0xa5}, page))
			return b
		}
	}
	for name, damage := range cases {
		t.Run(name, func(t *testing.T) {
			writeFile(t, path, damage(bytes.Clone(whole)))
			refuses(t, path, journal.ErrCorrupt, "is kept", "move it", "start dayfly again")
		})
	}
	writeFile(t, path, whole)
	open(t, path, journal.Options{}) // the test itself did no damage
}

func TestNewerSchemaIsRefusedAndKept(t *testing.T) {
	path := written(t)
	statement(t, path, "PRAGMA user_version = 999")
	refuses(t, path, journal.ErrNewer, "schema 999", "run the dayfly that wrote it")
}

func TestForeignDatabaseIsRefusedAndKept(t *testing.T) {
	path := filepath.Join(scratch(t), "other")
	statement(t, path, "CREATE TABLE jobs (id INTEGER)")
	refuses(t, path, nil, "not a dayfly journal", "choose another path")
}

func TestMissingDirectoryIsAnError(t *testing.T) {
	path := filepath.Join(scratch(t), "missing", "journal")
	if _, err := journal.Open(context.Background(), path, journal.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("open in a missing directory: %v, want one that is os.ErrNotExist", err)
	}
}

func TestSecondOpenNamesTheHolder(t *testing.T) {
	path := filepath.Join(scratch(t), "journal")
	first := open(t, path, journal.Options{})
	refuses(t, path, journal.ErrInUse, fmt.Sprintf("another dayfly (pid %d) uses", os.Getpid()))
	if _, err := first.Accept(context.Background(), delivery(0)); err != nil {
		t.Fatalf("the first was disturbed: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if got := open(t, path, journal.Options{}).OpenJobs(); len(got) != 1 {
		t.Fatalf("%d open jobs after the first was closed, want 1", len(got))
	}
}

func TestOpenInAnotherProcessNamesIt(t *testing.T) {
	path := filepath.Join(scratch(t), "journal")
	cmd := spawn(t, "hold", path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	refuses(t, path, journal.ErrInUse, fmt.Sprintf("pid %d", cmd.Process.Pid))
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	open(t, path, journal.Options{})
}

func TestFilesAreForTheOwnerOnly(t *testing.T) {
	path := filepath.Join(scratch(t), "odd name?&#%20", "journal")
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	j := open(t, path, journal.Options{})
	if _, err := j.Accept(context.Background(), delivery(0)); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 4 {
		t.Fatalf("%v, error %v; want the file, its log, its index and its lock", entries, err)
	}
	for _, e := range entries {
		if file, err := e.Info(); err != nil || file.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", e.Name(), file.Mode())
		}
	}
}
