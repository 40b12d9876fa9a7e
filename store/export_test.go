package store

import (
	"context"
	"database/sql"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
)

// Touch changes nothing under a key and tells of it.
func (s *Store) Touch(ctx context.Context, key string, commit bool) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after Commit it does nothing
	c, err := s.changed(ctx, tx, key)
	if err != nil || !commit {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.feed.tell(c)
	return nil
}

// Count is how many rows a table has.
func Count(t *testing.T, s *Store, table string) (n int) {
	t.Helper()
	if err := s.db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Live is what a query is asked about the exchange in memory, as if it had an
// id.
func (x *Exchange) Live(id int64) *flow.Record {
	live := *x
	f := *x.Flow
	f.Response = answer(x.Flow)
	live.Flow = &f
	return (&Stored{ID: id, Exchange: live}).Record()
}

// Exec runs a statement on the project.
func Exec(t *testing.T, s *Store, statement string, args ...any) {
	t.Helper()
	if _, err := s.db.ExecContext(t.Context(), s.dialect.sql(statement), args...); err != nil {
		t.Fatal(err)
	}
}

// Update does as if a node were bringing the project up to date until it is let
// go.
func Update(t testing.TB, dsn string) (release func()) {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	locker, err := oneAtATime(t.Context(), db)
	if err == nil {
		err = locker.SessionLock(t.Context(), conn)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		conn.Close()
		db.Close()
	}
}
