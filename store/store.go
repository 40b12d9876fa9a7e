package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/klauspost/compress/zstd"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/holdfast-proxy/holdfast/store/index"
	"github.com/holdfast-proxy/holdfast/store/seal"
)

//go:embed migrations
var migrations embed.FS

// Bounds.
const (
	readers     = 4 // connections that read a SQLite file at once
	nodeConns   = 8 // connections of a node to PostgreSQL, listening not counted
	busyTimeout = 10 * time.Second
)

// Options are how a project is opened.
type Options struct {
	// DSN is the path of a SQLite file, which is made where it is missing, or a
	// postgres:// URL.
	DSN string
	// Direct is the DSN of the same database past a pooler that shares
	// connections between transactions: what is listened to, and a schema
	// that is brought up to date, want a connection of their own. "" is DSN;
	// a file has none.
	Direct string
	// Key seals contents: 32 bytes, see [Key].
	Key []byte
	// Warn is told what a person should know. It must not block.
	Warn func(format string, args ...any)

	// For tests: how long to wait for a SQLite file that is locked, 0 being
	// busyTimeout, and more pragmas of the connection that writes.
	busy    time.Duration
	pragmas []string
}

// Store is an open project.
type Store struct {
	dialect dialect
	db      *sql.DB // writes; of a SQLite file one connection
	read    *sql.DB // reads; of PostgreSQL it is db
	direct  string  // DSN of connections that are nobody else's
	channel string  // where PostgreSQL tells of changes
	feed    feed
	box     *seal.Box
	unzip   *zstd.Decoder
	warn    func(format string, args ...any)
	saves   saves
	took    [commitKinds]latencies

	trigrams sync.Once // makes bits
	bits     *index.Table

	mu      sync.Mutex // guards history
	history *History   // nil: none is written
}

// IsPostgres reports whether a DSN is of a PostgreSQL server.
func IsPostgres(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

// Shared reports whether other nodes may have the project open.
func (s *Store) Shared() bool { return s.dialect.numbered }

// Open opens a project, makes it where there is none, and brings it up to date.
// Its errors name the place and the next step.
func Open(ctx context.Context, o Options) (*Store, error) {
	box, err := seal.New(o.Key)
	if err != nil {
		return nil, err
	}
	s := &Store{dialect: sqlite(), box: box, warn: o.Warn}
	if s.unzip, err = newUnzip(); err != nil {
		return nil, err
	}
	if s.warn == nil {
		s.warn = func(string, ...any) {}
	}
	if IsPostgres(o.DSN) {
		s.dialect = postgres()
		s.db, err = sql.Open(s.dialect.driver, pooled(o))
		if err == nil {
			s.db.SetMaxOpenConns(nodeConns)
			s.read = s.db
		}
		s.direct = cmp.Or(o.Direct, o.DSN)
	} else {
		err = s.openFile(o)
	}
	if err == nil {
		err = s.prepare(ctx)
	}
	if err != nil {
		err = s.explain(o.DSN, s.examined(ctx, err))
		s.Close()
		return nil, err
	}
	return s, nil
}

// pooled is the DSN of what the store asks. Past a pooler that shares connections
// between transactions, a prepared statement is on another one the next time;
// so nothing is prepared there, if the DSN does not say otherwise.
func pooled(o Options) string {
	const mode = "default_query_exec_mode" // pgx's, see its ParseConfig
	u, err := url.Parse(o.DSN)
	if o.Direct == "" || err != nil || u.Query().Has(mode) {
		return o.DSN
	}
	q := u.Query()
	q.Set(mode, "exec")
	u.RawQuery = q.Encode()
	return u.String()
}

// openFile opens a SQLite file, readable by its owner only.
func (s *Store) openFile(o Options) error {
	path := o.DSN
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	dsn := func(more ...string) string {
		q := url.Values{"_pragma": {fmt.Sprintf("busy_timeout(%d)", cmp.Or(o.busy, busyTimeout).Milliseconds()), "foreign_keys(1)"}}
		for _, m := range more {
			key, value, _ := strings.Cut(m, "=")
			q.Add(key, value)
		}
		return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
	}
	ours := []string{"_txlock=immediate", "_pragma=journal_mode(wal)", "_pragma=synchronous(full)", "_pragma=auto_vacuum(incremental)"}
	for _, p := range o.pragmas {
		ours = append(ours, "_pragma="+p)
	}
	// Committed is on disk: a token that an answer depends on may be in it.
	if s.db, err = sql.Open(s.dialect.driver, dsn(ours...)); err != nil {
		return err
	}
	s.db.SetMaxOpenConns(1)
	s.db.SetConnMaxIdleTime(0)
	if s.read, err = sql.Open(s.dialect.driver, dsn("_pragma=query_only(1)")); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(readers)
	return nil
}

// prepare brings the schema up to date and sees to it that the key is the
// project's.
func (s *Store) prepare(ctx context.Context) error {
	if err := s.db.PingContext(ctx); err != nil {
		return err
	}
	folder, err := fs.Sub(migrations, "migrations/"+s.dialect.name)
	if err != nil {
		return err
	}
	// Numbers leave room: what an older version lacks may have a lower one.
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithAllowOutofOrder(true)}
	db := s.db
	if s.dialect.numbered { // the lock is a connection's
		if db, err = sql.Open(s.dialect.driver, s.direct); err != nil {
			return err
		}
		defer db.Close()
		locker, err := oneAtATime(ctx, db)
		if err != nil {
			return err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(s.dialect.migrations, db, folder, options...)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return err
	}
	is, ours, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if is > ours {
		return fmt.Errorf("%w: it is of version %d, this Holdfast knows %d; use a newer Holdfast", ErrNewer, is, ours)
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	return s.prepareFeed(ctx)
}

// migrateWait is how many seconds a node waits for another one that brings the
// same project up to date. It looks each second.
const migrateWait = 300

// oneAtATime has one node at a time bring a project up to date. Projects in other
// schemas of the database do not wait for it.
func oneAtATime(ctx context.Context, db *sql.DB) (lock.SessionLocker, error) {
	var schema string
	if err := db.QueryRowContext(ctx, `SELECT coalesce(current_schema(), '')`).Scan(&schema); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte("holdfast " + schema))
	return lock.NewPostgresSessionLocker(lock.WithLockID(int64(binary.BigEndian.Uint64(sum[:]))), lock.WithLockTimeout(1, migrateWait))
}

// Errors of [Open], besides those of the system.
var (
	ErrNewer = errors.New("the project is of a newer version")
	ErrKey   = errors.New("the project was sealed with another key")
)

// check compares the key with the one that the project began with.
func (s *Store) check(ctx context.Context) error {
	sum := s.box.Sum([]byte("check"))
	if _, err := s.db.ExecContext(ctx, s.dialect.sql(`INSERT INTO project (name, value) VALUES ('key', ?) ON CONFLICT (name) DO NOTHING`), sum[:]); err != nil {
		return err
	}
	var has []byte
	if err := s.db.QueryRowContext(ctx, `SELECT value FROM project WHERE name = 'key'`).Scan(&has); err != nil {
		return err
	}
	if string(has) != string(sum[:]) {
		return fmt.Errorf("%w: use the --home that it was made with, or put that one's %s in the place of this one's", ErrKey, KeyFile)
	}
	return nil
}

// explain says which project an error is about.
func (s *Store) explain(dsn string, err error) error {
	if s.dialect.numbered {
		u, parse := url.Parse(dsn)
		if dsn = "the PostgreSQL store"; parse == nil {
			dsn = u.Redacted()
		}
	}
	return fmt.Errorf("%s: %w", dsn, advise(err))
}

// Close ends the history, and all connections. A Save under way ends first; other
// reads and writes fail.
func (s *Store) Close() error {
	s.closeSaves()
	var errs []error
	s.mu.Lock()
	history := s.history
	s.mu.Unlock()
	if history != nil {
		errs = append(errs, history.Close())
	}
	if s.unzip != nil {
		s.unzip.Close()
	}
	if s.read != nil && s.read != s.db {
		errs = append(errs, s.read.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(errs...)
}
