package store

import (
	"context"
	"testing"
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
