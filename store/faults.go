package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors of a SQLite file that say what to do next. They are wrapped by what
// [Open] and the methods of [Store] return.
var (
	ErrBusy     = errors.New("another program holds the project and does not let go")
	ErrReadOnly = errors.New("the project cannot be written to")
	ErrDamaged  = errors.New("the project's file is damaged, or is none")
	ErrFull     = errors.New("the disk is full")
	ErrDisk     = errors.New("the disk refuses to read or write the project")
	ErrSlow     = errors.New("the project did not answer in time")
)

// ErrPooled is that a PostgreSQL server stands behind a pooler that nobody spoke
// of, see [Options.Direct].
var ErrPooled = errors.New("a pooler such as PgBouncer shares the server's connections between transactions, and statements are prepared on another one")

// sqliteCode is the primary result code of an error of SQLite, 0 of others.
func sqliteCode(err error) (primary, extended int) {
	var e *driver.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff, e.Code()
	}
	return 0, 0
}

// advise adds the next step to an error.
func advise(err error) error {
	for _, advised := range []error{nil, ErrBusy, ErrReadOnly, ErrDamaged, ErrFull, ErrDisk, ErrSlow} {
		if errors.Is(err, advised) {
			return err
		}
	}
	next := func(kind error, step string) error { return fmt.Errorf("%w: %s (%w)", kind, step, err) }
	switch primary, _ := sqliteCode(err); primary {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return next(ErrBusy, "end it (another sqlite3 or a backup, mostly), or use another project with --project")
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return next(ErrReadOnly, "give yourself the right to write the file and its directory, in which SQLite keeps a -wal and a -shm file, or use another project with --project")
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return next(ErrDamaged, damagedNext)
	case sqlite3.SQLITE_FULL:
		return next(ErrFull, "make room, or have the history keep less (history.max_size, history.keep)")
	case sqlite3.SQLITE_IOERR:
		return next(ErrDisk, "see what the system's log says of it (dmesg; a file system with errors is made read-only), or use another project with --project")
	case sqlite3.SQLITE_CANTOPEN:
		return next(ErrReadOnly, "see whether the directory exists and you may write to it")
	}
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && (pg.Code == "26000" || pg.Code == "42P05"): // no such prepared statement; one more of that name
		return next(ErrPooled, "say with --listen-dsn where the server itself is, or give --store default_query_exec_mode=exec")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return next(ErrReadOnly, "give yourself the right to write the file and its directory, or use another project with --project or --home")
	case errors.Is(err, syscall.ENOSPC):
		return next(ErrFull, "make room")
	case errors.Is(err, syscall.EIO):
		return next(ErrDisk, "see what the system's log says of it (dmesg)")
	case errors.Is(err, context.DeadlineExceeded):
		return next(ErrSlow, "see whether another program holds it (another sqlite3 or a backup, mostly), and whether the disk or the server answers")
	}
	return err
}

// examined is an error of opening a SQLite file that nobody understands, or that
// the file is damaged, which is seen in many ways.
func (s *Store) examined(ctx context.Context, err error) error {
	if code, _ := sqliteCode(err); code != sqlite3.SQLITE_ERROR || s.dialect.numbered {
		return err
	}
	var found string
	failed := s.db.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&found)
	if code, _ := sqliteCode(failed); code == sqlite3.SQLITE_CORRUPT || failed == nil && found != "ok" {
		return fmt.Errorf("%w: %s (%w)", ErrDamaged, damagedNext, err)
	}
	return err
}

// damagedNext is what to do about ErrDamaged.
const damagedNext = "keep a copy, try `sqlite3 FILE .recover`, or use another project with --project"

// odd reports whether an error is about what was to be written, so that it
// would come again each time. All others are of the disk or of the network.
func (d dialect) odd(err error) bool {
	if !d.numbered {
		switch primary, _ := sqliteCode(err); primary {
		case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE:
			return true
		}
		return false
	}
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	class := e.Code[:min(2, len(e.Code))]
	return strings.Contains("22 23 54", class) // data, constraints, limits of a program
}

// missesRow reports whether a row that was referred to is gone.
func (d dialect) missesRow(err error) bool {
	if !d.numbered {
		_, extended := sqliteCode(err)
		return extended == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
	}
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "23503"
}

// has reports whether PostgreSQL refused a row since it has one of that key.
func (d dialect) has(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "23505"
}
