package store

import (
	"testing"
	"time"
)

// WithPragmas has the connection that writes a SQLite file begin with these,
// and wait for nobody.
func WithPragmas(o Options, pragmas ...string) Options {
	o.busy, o.pragmas = time.Millisecond, pragmas
	return o
}

// Do runs a statement on the connection that writes.
func Do(t testing.TB, s *Store, statement string, args ...any) {
	t.Helper()
	if _, err := s.db.ExecContext(t.Context(), s.dialect.sql(statement), args...); err != nil {
		t.Fatal(err)
	}
}

// Number asks for one number.
func Number(t testing.TB, s *Store, question string) (n int64) {
	t.Helper()
	if err := s.db.QueryRowContext(t.Context(), question).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Halt takes the connection that writes a SQLite file until it is let go.
func Halt(t testing.TB, s *Store) (goOn func()) {
	t.Helper()
	c, err := s.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return func() { c.Close() }
}

// Text asks for one text.
func Text(t testing.TB, s *Store, question string) (text string) {
	t.Helper()
	if err := s.db.QueryRowContext(t.Context(), question).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

// MakeWeeks makes the partitions of PostgreSQL.
func MakeWeeks(t testing.TB, s *Store, now time.Time) {
	t.Helper()
	if err := s.makeWeeks(t.Context(), now); err != nil {
		t.Fatal(err)
	}
}
