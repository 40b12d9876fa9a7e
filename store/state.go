package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"
	"time"
)

// Bounds of the state.
const (
	commitTimeout = 15 * time.Second // for one transaction, its wait for the file included
	// Removed rows are remembered for keepRemoved, so that other nodes see
	// them go, and looked for every pruneEvery transactions.
	keepRemoved = 10 * time.Minute
	pruneEvery  = 1024
)

// Row is one thing of the state: a session, a token, a cookie, a count. Kind,
// owner and name are in the clear, and are text without NUL; the value is
// sealed.
type Row struct {
	Kind, Owner, Name string
	// Version orders the rows of one name: the higher one is kept, whenever it
	// comes. A row with a higher fence is newer in any case.
	Version, Fence uint64
	// Must has [Store.Save] write nothing at all when this row is not newer
	// than what is kept.
	Must bool
	// Lease is whose fence the row has: a row with Must is outdated where that
	// lease has a newer one. "": nobody's.
	Lease string
	// Value is what is kept; empty removes the row. Its version is remembered
	// for a while.
	Value []byte
}

// ErrOutdated is what [Store.Save] returns when a row that must be newer than
// what is kept is not.
var ErrOutdated = errors.New("what is kept is newer")

// save is one call of Save that waits.
type save struct {
	rows []Row
	done chan error // has one place
}

// saves are the calls of Save that wait for the next transaction: all that came
// while one was under way share the next, and its one write to the disk.
type saves struct {
	mu      sync.Mutex
	waiting []*save
	running bool
	closed  bool
	group   sync.WaitGroup
	count   int // of transactions
}

// Save makes rows durable, all of them or none, and then returns. A row that is
// not newer than what is kept is left out; see [Row.Must]. When ctx ends first,
// the rows may be written all the same. Calls at the same time share a
// transaction; the order of rows with one name is by version, not by call.
func (s *Store) Save(ctx context.Context, rows ...Row) error {
	if len(rows) == 0 {
		return nil
	}
	job := &save{rows: rows, done: make(chan error, 1)}
	q := &s.saves
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return errors.New("the project is closed")
	}
	q.waiting = append(q.waiting, job)
	if !q.running {
		q.running = true
		q.group.Go(s.commitAll)
	}
	q.mu.Unlock()
	select {
	case err := <-job.done:
		return advise(err)
	case <-ctx.Done():
		return advise(ctx.Err())
	}
}

// commitAll writes what waits until nothing does.
func (s *Store) commitAll() {
	q := &s.saves
	for {
		q.mu.Lock()
		batch := q.waiting
		q.waiting = nil
		if len(batch) == 0 {
			q.running = false
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		errs, err := s.commit(batch)
		for i, job := range batch {
			if err != nil {
				job.done <- err
				continue
			}
			job.done <- errs[i]
		}
	}
}

// commit writes a batch in one transaction. The errors of single calls are
// ErrOutdated or nil.
func (s *Store) commit(batch []*save) (errs []error, err error) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() // after Commit it does nothing
	// First of all, and in order: two nodes wait for each other's owners, and do
	// not each hold what the other waits for.
	changes, err := s.changedAll(ctx, tx, batch)
	if err != nil {
		return nil, err
	}
	errs = make([]error, len(batch))
	for i, job := range batch {
		if errs[i], err = s.putAll(ctx, tx, job.rows); err != nil {
			return nil, err
		}
	}
	if s.saves.count++; s.saves.count%pruneEvery == 1 {
		if _, err := tx.ExecContext(ctx, s.dialect.sql(`DELETE FROM state WHERE length(value) = 0 AND changed < ?`), time.Now().Add(-keepRemoved).UnixMicro()); err != nil {
			return nil, err
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	s.took[commitState].since(begun)
	for _, c := range changes {
		s.feed.tell(c)
	}
	return errs, nil
}

// changedAll notes the owners of the rows as changed.
func (s *Store) changedAll(ctx context.Context, tx *sql.Tx, batch []*save) (changes []Change, err error) {
	var owners []string
	for _, job := range batch {
		for i := range job.rows {
			owners = append(owners, job.rows[i].Owner)
		}
	}
	slices.Sort(owners)
	for _, owner := range slices.Compact(owners) {
		c, err := s.changed(ctx, tx, owner)
		if err != nil {
			return nil, err
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// putAll writes the rows of one call.
func (s *Store) putAll(ctx context.Context, tx *sql.Tx, rows []Row) (outdated, err error) {
	// Not prepared: behind a pooler that could be on one connection, and its end
	// on another.
	put := s.dialect.sql(`INSERT INTO state (kind, owner, name, version, fence, changed, value) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (kind, owner, name) DO UPDATE SET version = excluded.version, fence = excluded.fence, changed = excluded.changed, value = excluded.value
		WHERE (excluded.fence, excluded.version) > (state.fence, state.version)`)
	must := slices.ContainsFunc(rows, func(r Row) bool { return r.Must })
	if must {
		if _, err := tx.ExecContext(ctx, `SAVEPOINT one`); err != nil {
			return nil, err
		}
	}
	for i := range rows {
		r := &rows[i]
		value := []byte{}
		if len(r.Value) > 0 {
			value = s.box.Seal(nil, r.Value, r.place())
		}
		if r.Must && r.Lease != "" {
			err := s.guard(ctx, tx, r.Lease, int64(r.Fence))
			if errors.Is(err, ErrFenced) {
				outdated = ErrOutdated
				break
			}
			if err != nil {
				return nil, err
			}
		}
		result, err := tx.ExecContext(ctx, put, r.Kind, r.Owner, r.Name, int64(r.Version), int64(r.Fence), time.Now().UnixMicro(), value)
		if err != nil {
			return nil, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return nil, err
		}
		if n == 0 && r.Must {
			outdated = ErrOutdated
			break
		}
	}
	switch {
	case outdated != nil:
		_, err = tx.ExecContext(ctx, `ROLLBACK TO SAVEPOINT one`)
	case must:
		_, err = tx.ExecContext(ctx, `RELEASE SAVEPOINT one`)
	}
	return outdated, err
}

// place is what a row's value is sealed for.
func (r *Row) place() string { return "state\x00" + r.Kind + "\x00" + r.Owner + "\x00" + r.Name }

// Load returns the rows of an owner, of one kind or for "" of all. Removed ones
// are among them as long as they are remembered, with no value.
func (s *Store) Load(ctx context.Context, kind, owner string) (rows []Row, err error) {
	found, err := s.read.QueryContext(ctx, s.dialect.sql(`SELECT kind, owner, name, version, fence, value FROM state
		WHERE owner = ? AND (kind = ? OR ? = '') ORDER BY kind, name`), owner, kind, kind)
	if err != nil {
		return nil, advise(err)
	}
	defer found.Close()
	for found.Next() {
		var r Row
		var version, fence int64
		var sealed []byte
		if err := found.Scan(&r.Kind, &r.Owner, &r.Name, &version, &fence, &sealed); err != nil {
			return nil, err
		}
		r.Version, r.Fence = uint64(version), uint64(fence)
		if len(sealed) > 0 {
			if r.Value, err = s.box.Open(nil, sealed, r.place()); err != nil {
				return nil, err
			}
		}
		rows = append(rows, r)
	}
	return rows, found.Err()
}

// Forget removes the rows of one kind and owner, whatever their version is, and
// returns how many there were.
func (s *Store) Forget(ctx context.Context, kind, owner string) (int, error) {
	result, err := s.db.ExecContext(ctx, s.dialect.sql(`UPDATE state SET value = ?, version = version + 1, changed = ?
		WHERE kind = ? AND owner = ? AND length(value) > 0`), []byte{}, time.Now().UnixMicro(), kind, owner)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// closeSaves refuses more and waits for those under way.
func (s *Store) closeSaves() {
	s.saves.mu.Lock()
	s.saves.closed = true
	s.saves.mu.Unlock()
	s.saves.group.Wait()
}
