package journal

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"unicode"

	"modernc.org/sqlite"
)

// A commit syncs with fdatasync(2) where there is one, as SQLite does wherever
// it is built with its own configure script: the data and the size of the file
// are on disk, its timestamps need not be.
func init() { _, _ = sqlite.Fdatasync(true) }

// session is one connection with its prepared statements. Who uses it holds
// mu. The connection is made when it is first needed.
type session struct {
	mu     sync.Mutex
	db     *sql.DB
	conn   *sql.Conn
	ready  []string // run once on the new connection
	stmts  map[string]*sql.Stmt
	closed bool
}

func newSession(path string, ready ...string) (*session, error) {
	db, err := sql.Open("sqlite", source(path))
	if err != nil {
		return nil, err
	}
	return &session{db: db, ready: ready, stmts: map[string]*sql.Stmt{}}, nil
}

// source is SQLite's name for a file, whatever characters its path has.
func source(path string) string {
	if path == memory {
		return path
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: "_txlock=immediate"}
	return u.String()
}

func (s *session) connect() error {
	if s.conn != nil {
		return nil
	}
	ctx := context.Background()
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	s.conn = conn
	for _, q := range s.ready {
		if _, err := conn.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// prepare returns the statement for query, prepared once: the queries are
// constants, so their number is bounded.
func (s *session) prepare(query string) (*sql.Stmt, error) {
	if err := s.connect(); err != nil {
		return nil, err
	}
	if st := s.stmts[query]; st != nil {
		return st, nil
	}
	st, err := s.conn.PrepareContext(context.Background(), query)
	if err == nil {
		s.stmts[query] = st
	}
	return st, err
}

// exec runs a statement to its end: one that writes is never cut short.
func (s *session) exec(query string, args ...any) (sql.Result, error) {
	st, err := s.prepare(query)
	if err != nil {
		return nil, err
	}
	return st.ExecContext(context.Background(), args...)
}

// upsert is the statement that writes a row, whether or not there is one with
// its key, the first of the columns. Replacing the row would take it out of all
// indexes and put it in again: that is twice the work, and more pages to sync.
// What is written once stays as it is in a row that is there.
func upsert(table, columns string, once ...string) string {
	names := strings.FieldsFunc(columns, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	var set []string
	for _, name := range names[1:] {
		if !slices.Contains(once, name) {
			set = append(set, name+" = excluded."+name)
		}
	}
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES (?%s) ON CONFLICT (%s) DO UPDATE SET %s",
		table, columns, strings.Repeat(", ?", len(names)-1), names[0], strings.Join(set, ", "))
}

// scanner is a row of a result.
type scanner interface{ Scan(dest ...any) error }

// each calls row for every row of the result.
func (s *session) each(ctx context.Context, row func(scanner) error, query string, args ...any) error {
	st, err := s.prepare(query)
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// one scans the only row of the result and reports whether there was one.
func (s *session) one(ctx context.Context, dest []any, query string, args ...any) (bool, error) {
	found := false
	err := s.each(ctx, func(r scanner) error {
		found = true
		return r.Scan(dest...)
	}, query, args...)
	return found, err
}

// shut waits for who uses the session and ends it.
func (s *session) shut() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, st := range s.stmts {
		st.Close()
	}
	if s.conn != nil {
		s.conn.Close()
	}
	return s.db.Close()
}
