package store

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"time"
)

const (
	deleteFlows = 64              // that are deleted in one transaction
	retainEvery = time.Minute     // that retention looks
	vacuumPages = 256             // that a SQLite file gives back after each transaction
	deleteTries = 3               // where another node begins to use a body that is being deleted
	retainLimit = 5 * time.Minute // for one look; the next one goes on
)

// Retention says what a history keeps. Zero values keep everything.
type Retention struct {
	Keep    time.Duration // flows whose request is older are deleted
	MaxSize int64         // bytes of flows and bodies on the disk; the oldest flows go first
}

// Delete deletes flows and the bodies that nothing refers to any more. Ids of
// flows that are not there are no error; it returns how many there were. What is
// deleted stands nowhere in the project's file any more once its pages are used
// again; sealed it is all the time.
func (s *Store) Delete(ctx context.Context, ids ...int64) (deleted int, err error) {
	for some := range slices.Chunk(ids, deleteFlows) {
		n := 0
		for range deleteTries {
			if n, err = s.deleteSome(ctx, some); err == nil || !s.dialect.missesRow(err) {
				break
			}
		}
		if err != nil {
			return deleted, advise(err)
		}
		deleted += n
	}
	return deleted, nil
}

// deleteSome is one transaction.
func (s *Store) deleteSome(ctx context.Context, ids []int64) (int, error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() // after Commit it does nothing
	flows := make([]any, len(ids))
	var blocks []int64
	for i, id := range ids {
		flows[i] = id
		if block := id / blockFlows; !slices.Contains(blocks, block) {
			blocks = append(blocks, block)
		}
	}
	in := "IN (" + marks(len(flows)) + ")"
	var bodies []any
	rows, err := tx.QueryContext(ctx, s.dialect.sql(`SELECT DISTINCT body FROM flow_bodies WHERE flow `+in), flows...)
	if err == nil {
		err = each(rows, func() error {
			var id []byte
			err := rows.Scan(&id)
			bodies = append(bodies, id)
			return err
		})
	}
	if err != nil {
		return 0, err
	}
	packs, err := s.lockPacks(ctx, tx, in, flows)
	if err != nil {
		return 0, err
	}
	if _, err := tx.ExecContext(ctx, s.dialect.sql(`DELETE FROM flow_bodies WHERE flow `+in), flows...); err != nil {
		return 0, err
	}
	result, err := tx.ExecContext(ctx, s.dialect.sql(`DELETE FROM flows WHERE id `+in), flows...)
	if err != nil {
		return 0, err
	}
	deleted, err := result.RowsAffected()
	if err != nil {
		return 0, err
	}
	for _, id := range packs {
		if err := s.repack(ctx, tx, id, ids); err != nil {
			return 0, err
		}
	}
	for some := range slices.Chunk(bodies, maxRows) {
		if _, err := tx.ExecContext(ctx, s.dialect.sql(`DELETE FROM bodies WHERE id IN (`+marks(len(some))+`)
AND NOT EXISTS (SELECT 1 FROM flow_bodies WHERE body = bodies.id)`), some...); err != nil {
			return 0, err
		}
	}
	for _, block := range blocks {
		// The first statement keeps the one that fills the block from adding to
		// it; the second sees what it had added before.
		from, to := block*blockFlows, (block+1)*blockFlows
		if _, err := tx.ExecContext(ctx, s.dialect.sql(`UPDATE blocks SET bytes = (SELECT coalesce(sum(length(content)), 0) FROM flows WHERE id >= ? AND id < ?)
+ (SELECT coalesce(sum(length(content)), 0) FROM packs WHERE id >= ? AND id < ?) WHERE block = ?`), from, to, from, to, block); err != nil {
			return 0, err
		}
		if _, err := tx.ExecContext(ctx, s.dialect.sql(`DELETE FROM blocks WHERE block = ? AND NOT EXISTS (SELECT 1 FROM flows WHERE id >= ? AND id < ?)`), block, from, to); err != nil {
			return 0, err
		}
	}
	if err := tx.Commit(); err != nil {
		return 0, err
	}
	return int(deleted), s.giveBack(ctx)
}

// lockPacks returns the packs of flows, each once and in their order. Nobody else
// deletes from them until the transaction ends.
func (s *Store) lockPacks(ctx context.Context, tx *sql.Tx, in string, flows []any) (packs []int64, err error) {
	statement := `SELECT id FROM packs WHERE id IN (SELECT pack FROM flows WHERE id ` + in + `) ORDER BY id`
	if s.dialect.numbered {
		statement += ` FOR UPDATE`
	}
	rows, err := tx.QueryContext(ctx, s.dialect.sql(statement), flows...)
	if err != nil {
		return nil, err
	}
	err = each(rows, func() error {
		var id int64
		err := rows.Scan(&id)
		packs = append(packs, id)
		return err
	})
	return packs, err
}

// repack takes the contents of flows that were deleted out of a pack, or deletes
// it where no other flow is in it.
func (s *Store) repack(ctx context.Context, tx *sql.Tx, id int64, deleted []int64) error {
	var used bool
	err := tx.QueryRowContext(ctx, s.dialect.sql(`SELECT EXISTS (SELECT 1 FROM flows WHERE id >= ? AND id < ? AND pack = ?)`), id, id+blockFlows, id).Scan(&used)
	if err != nil {
		return err
	}
	if !used {
		_, err = tx.ExecContext(ctx, s.dialect.sql(`DELETE FROM packs WHERE id = ?`), id)
		return err
	}
	var sealed []byte
	if err := tx.QueryRowContext(ctx, s.dialect.sql(readPack), id).Scan(&sealed); err != nil {
		return err
	}
	contents, err := s.openPack(id, sealed)
	if err != nil {
		return nil // nobody can read what is in it, and the others may still be saved
	}
	for _, flow := range deleted {
		if at := flow - id; at >= 0 && at < int64(len(contents)) {
			contents[at] = nil
		}
	}
	if sealed, err = s.closePack(id, contents); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, s.dialect.sql(`UPDATE packs SET content = ? WHERE id = ?`), sealed, id)
	return err
}

// giveBack returns some free pages of a SQLite file to the disk.
func (s *Store) giveBack(ctx context.Context) error {
	if s.dialect.numbered {
		return nil
	}
	rows, err := s.db.QueryContext(ctx, `PRAGMA incremental_vacuum(`+strconv.Itoa(vacuumPages)+`)`)
	if err != nil {
		return err
	}
	return each(rows, func() error { return nil })
}

// Retain deletes what is older than it should be or too much, the oldest first,
// and returns how many flows that were.
func (s *Store) Retain(ctx context.Context, r Retention, now time.Time) (deleted int, err error) {
	for r.Keep > 0 {
		n, err := s.deleteWhere(ctx, `WHERE at < ? ORDER BY at LIMIT ?`, now.Add(-r.Keep).UnixMicro(), deleteFlows)
		if deleted += n; err != nil {
			return deleted, advise(err)
		}
		if n < deleteFlows {
			break
		}
	}
	if r.Keep > 0 {
		if err := s.dropWeeks(ctx, now.Add(-r.Keep)); err != nil {
			return deleted, advise(err)
		}
	}
	for r.MaxSize > 0 {
		size, err := s.Size(ctx)
		if err != nil {
			return deleted, err
		}
		if size <= r.MaxSize {
			break
		}
		ids, err := s.oldest(ctx, size-r.MaxSize)
		if err != nil || len(ids) == 0 {
			return deleted, advise(err)
		}
		n, err := s.Delete(ctx, ids...)
		if deleted += n; err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}

// oldest returns the oldest flows, as many as take so many bytes that nothing
// else needs, and deleteFlows at most. What small flows share is not counted.
func (s *Store) oldest(ctx context.Context, excess int64) (ids []int64, err error) {
	rows, err := s.read.QueryContext(ctx, s.dialect.sql(`SELECT id, length(content) + (
SELECT coalesce(sum(bytes), 0) FROM bodies WHERE bodies.id IN (SELECT body FROM flow_bodies WHERE flow = flows.id)
AND NOT EXISTS (SELECT 1 FROM flow_bodies AS later WHERE later.body = bodies.id AND later.flow > flows.id))
FROM flows ORDER BY id LIMIT ?`), deleteFlows)
	if err != nil {
		return nil, err
	}
	return ids, each(rows, func() error {
		var id, bytes int64
		err := rows.Scan(&id, &bytes)
		if excess > 0 {
			ids = append(ids, id)
		}
		excess -= bytes
		return err
	})
}

func (s *Store) deleteWhere(ctx context.Context, clause string, args ...any) (int, error) {
	rows, err := s.read.QueryContext(ctx, s.dialect.sql(`SELECT id FROM flows `+clause), args...)
	if err != nil {
		return 0, err
	}
	var ids []int64
	if err := each(rows, func() error {
		var id int64
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	}); err != nil || len(ids) == 0 {
		return 0, err
	}
	return s.Delete(ctx, ids...)
}

// Size is how many bytes the project takes: the pages of a SQLite file that are
// in use; of a PostgreSQL schema the contents of flows and bodies.
func (s *Store) Size(ctx context.Context) (size int64, err error) {
	question := `SELECT (page_count - freelist_count) * page_size FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()`
	if s.dialect.numbered {
		question = `SELECT (SELECT coalesce(sum(bytes), 0) FROM blocks)::bigint + (SELECT coalesce(sum(bytes), 0) FROM bodies)::bigint`
	}
	err = s.read.QueryRowContext(ctx, question).Scan(&size)
	return size, advise(err)
}

// retain keeps the history within its retention until it is closed.
func (h *History) retain() {
	for {
		ctx, cancel := context.WithTimeout(h.ctx, retainLimit)
		now := time.Now()
		err := h.s.makeWeeks(ctx, now)
		if err == nil {
			_, err = h.s.Retain(ctx, h.o.Retention, now)
		}
		cancel()
		h.retained(err)
		select {
		case <-time.After(retainEvery):
		case <-h.stop:
			return
		}
	}
}

// retained says once that old flows cannot be deleted.
func (h *History) retained(err error) {
	h.mu.Lock()
	was := h.kept
	h.kept = err != nil && h.ctx.Err() == nil && !h.closed
	say := h.kept && !was
	h.mu.Unlock()
	if say {
		h.s.warn("old flows cannot be deleted, or weeks not be made: %v; it is tried again every minute", err)
	}
}
