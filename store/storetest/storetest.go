// Package storetest runs one test on both kinds of projects: a SQLite file, and
// a schema of its own on a real PostgreSQL server.
//
// The server is the one that PGHOST, PGPORT and PGUSER name, by default
// 127.0.0.1:5432 and the user postgres, database test. Where there is none, the
// half on PostgreSQL is said to be skipped, and fails where CI is set: a green
// run must not hide that half of it was not run.
//
// It makes no flows and knows no sessions: that is for the tests.
package storetest

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/seal"
)

// deadlock is an error of PostgreSQL after which a statement may be tried again,
// and patience how long an end is waited for.
const (
	deadlock = "40P01"
	patience = 2 * time.Minute
)

// Project is a project of one test.
type Project struct{ DSN string }

// Each runs a test with a project of both kinds.
func Each(t *testing.T, test func(t *testing.T, p Project)) {
	t.Run("sqlite", func(t *testing.T) { test(t, File(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, Project{Postgres(t)}) })
}

// File is a project that is a file of this test.
func File(t testing.TB) Project { return Project{filepath.Join(t.TempDir(), "project.db")} }

// Open opens the project, with a key of zeros where o has none. It is closed
// when the test ends, if not before.
func (p Project) Open(t testing.TB, o store.Options) *store.Store {
	t.Helper()
	s, err := p.Try(t, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Try is Open for a test that wants the error.
func (p Project) Try(t testing.TB, o store.Options) (*store.Store, error) {
	t.Helper()
	o.DSN = p.DSN
	if o.Key == nil {
		o.Key = make([]byte, seal.KeySize)
	}
	return store.Open(t.Context(), o)
}

// Postgres makes an empty schema and returns the DSN of it. It is dropped when
// the test ends.
func Postgres(t testing.TB) string {
	t.Helper()
	u := url.URL{Scheme: "postgres", User: url.User(cmp.Or(os.Getenv("PGUSER"), "postgres")), Path: "/" + cmp.Or(os.Getenv("PGDATABASE"), "test"),
		Host: cmp.Or(os.Getenv("PGHOST"), "127.0.0.1") + ":" + cmp.Or(os.Getenv("PGPORT"), "5432")}
	db, err := sql.Open("pgx", u.String())
	if err == nil {
		err = db.PingContext(t.Context())
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("PostgreSQL: %v", err)
		}
		t.Skipf("no PostgreSQL at %s: %v; set PGHOST, PGPORT, PGUSER and PGDATABASE", u.Redacted(), err)
	}
	schema := "holdfast_test_" + strings.ToLower(rand.Text())
	if _, err := db.ExecContext(t.Context(), "CREATE SCHEMA "+schema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer db.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for {
			_, err := db.ExecContext(ctx, "DROP SCHEMA "+schema+" CASCADE")
			if err == nil {
				return
			}
			// The server may still be at work for a process that was killed.
			if e := new(pgconn.PgError); !errors.As(err, &e) || e.Code != deadlock {
				t.Errorf("%s is left: %v", schema, err)
				return
			}
		}
	})
	u.RawQuery = url.Values{"search_path": {schema}}.Encode()
	return u.String()
}
