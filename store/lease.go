package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Lease says that its owner is the one who does what only one of a fleet may do
// at a time. It is a value: who holds it may have lost it meanwhile, which the
// fence tells with each write.
type Lease struct {
	Key   string // opaque
	Owner string // a node
	// Fence rises with each acquisition of the key, by whomever.
	Fence int64
}

// Held is the error of [Store.Acquire] while somebody has the lease.
type Held struct {
	Owner string
	Fence int64
	// For is how long the lease lasts, if it is not renewed.
	For time.Duration
}

func (h *Held) Error() string {
	return fmt.Sprintf("held by %s for another %s, fence %d", h.Owner, h.For.Round(time.Millisecond), h.Fence)
}

// ErrFenced is the error of a write under a lease that somebody else has
// acquired since. The write has changed nothing.
var ErrFenced = errors.New("store: another node has acquired the lease since")

// Acquire takes the lease of a key for a time, by the database's clock. It does
// not wait: the error is a [*Held] where somebody else has it. The same owner
// gets it anew, under a higher fence: it may not have heard that it got it, or
// not have been able to give it back. An owner that does not renew it loses it after that time.
func (s *Store) Acquire(ctx context.Context, key, owner string, length time.Duration) (Lease, error) {
	// Most who ask are too late, and reading locks and writes nothing.
	held, err := s.held(ctx, key)
	if err != nil {
		return Lease{}, err
	}
	if held != nil && held.For > 0 && held.Owner != owner {
		return Lease{}, held
	}
	l := Lease{Key: key, Owner: owner}
	now := s.dialect.now
	// The row's lock is waited for before the condition is asked, so the clock
	// is read behind it.
	err = s.db.QueryRowContext(ctx, s.dialect.sql(`INSERT INTO leases (key, owner, fence, expires, outcome) VALUES (?, ?, 1, `+now+` + ?, ?)
		ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, fence = leases.fence + 1, expires = `+now+` + ?, outcome = excluded.outcome
		WHERE leases.expires <= `+now+` OR leases.owner = excluded.owner RETURNING fence`), key, owner, length.Microseconds(), []byte{}, length.Microseconds()).Scan(&l.Fence)
	if err == nil {
		return l, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return Lease{}, err
	}
	if held, err = s.held(ctx, key); err != nil {
		return Lease{}, err
	}
	return Lease{}, held
}

// held is what became of a lease; nil where it never was.
func (s *Store) held(ctx context.Context, key string) (*Held, error) {
	var h Held
	var left int64
	err := s.read.QueryRowContext(ctx, s.dialect.sql(`SELECT owner, fence, expires - `+s.dialect.now+` FROM leases WHERE key = ?`), key).Scan(&h.Owner, &h.Fence, &left)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, err
	}
	h.For = max(time.Duration(left)*time.Microsecond, 0)
	return &h, nil
}

// Renew has the lease last for a time from now. ErrFenced: it is another's; an
// owner that was late and that nobody has followed keeps it.
func (s *Store) Renew(ctx context.Context, l Lease, length time.Duration) error {
	return s.changeLease(ctx, l, `UPDATE leases SET expires = `+s.dialect.now+` + ? WHERE key = ? AND fence = ? AND owner = ?`, length.Microseconds())
}

// Release gives the lease back. The outcome, up to 64 KiB, is for those who
// wait for it, see [Store.Outcome]. ErrFenced: it is another's.
func (s *Store) Release(ctx context.Context, l Lease, outcome []byte) error {
	if len(outcome) > maxOutcome {
		return fmt.Errorf("store: an outcome of %d bytes", len(outcome))
	}
	sealed := []byte{}
	if len(outcome) > 0 {
		sealed = s.box.Seal(nil, outcome, "lease "+l.Key)
	}
	return s.changeLease(ctx, l, `UPDATE leases SET owner = '', expires = 0, outcome = ? WHERE key = ? AND fence = ? AND owner = ?`, sealed)
}

const maxOutcome = 64 << 10

func (s *Store) changeLease(ctx context.Context, l Lease, statement string, arg any) error {
	r, err := s.db.ExecContext(ctx, s.dialect.sql(statement), arg, l.Key, l.Fence, l.Owner)
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err == nil && n == 0 {
		err = ErrFenced
	}
	return err
}

// Outcome is what the last owner of a lease said when it gave it back, and the
// fence that it had; nothing while somebody has it, and after one who did not.
func (s *Store) Outcome(ctx context.Context, key string) (outcome []byte, fence int64, err error) {
	var sealed []byte
	err = s.db.QueryRowContext(ctx, s.dialect.sql(`SELECT outcome, fence FROM leases WHERE key = ?`), key).Scan(&sealed, &fence)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, 0, nil
	case err != nil || len(sealed) == 0:
		return nil, fence, err
	}
	outcome, err = s.box.Open(nil, sealed, "lease "+key)
	return outcome, fence, err
}

// guard sees to it that the transaction writes under the newest fence of the
// lease, and that nobody acquires it before the transaction has ended.
func (s *Store) guard(ctx context.Context, tx *sql.Tx, key string, fence int64) error {
	r, err := tx.ExecContext(ctx, s.dialect.sql(`UPDATE leases SET fence = fence WHERE key = ? AND fence <= ?`), key, fence)
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err == nil && n == 0 {
		err = ErrFenced
	}
	return err
}
