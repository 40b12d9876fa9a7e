package store

import (
	"bytes"
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/store/index"
)

const (
	blockFlows = 64 // flows of a block; ids are block*64 + n
	maxNumbers = 16 // block numbers that are reserved at once
	maxRows    = 256
)

// block is one that this process fills: nobody else writes to it.
type block struct {
	number   int64
	flows    int64
	bytes    int64
	full     bool
	request  index.Signature
	response index.Signature
	unsigned bool // a flow is not in the signatures
}

// numbers are block numbers of this process alone.
type numbers struct{ next, end, size int64 }

// columns of a flow's row, in the order in which they are written and read.
const flowColumns = `id, uid, at, ended, sent, answered, tool, identity, listener, host, origin, port, tls, method, status, generation, state, flags, request_size, response_size, node, content`

// commit writes a group in one transaction. It may be called again with the same
// group, also where it is not known whether the transaction before succeeded:
// what is there already stays.
func (h *History) commit(ctx context.Context, group []*entry) error {
	for _, e := range group {
		if e.id == 0 {
			if err := h.place(ctx, e); err != nil {
				return err
			}
		}
	}
	if err := h.sealBodies(ctx, group); err != nil {
		return err
	}
	err := h.insert(ctx, group)
	if err != nil && h.s.dialect.missesRow(err) { // a body was deleted meanwhile
		for _, e := range group {
			for i := range e.bodies {
				h.sealBody(&e.bodies[i])
			}
		}
		err = h.insert(ctx, group)
	}
	return err
}

// place gives a flow its id, and seals its content for it.
func (h *History) place(ctx context.Context, e *entry) error {
	if b := h.block; b == nil || b.full || b.flows == blockFlows {
		number, err := h.number(ctx)
		if err != nil {
			return err
		}
		h.block = &block{number: number}
	}
	for i, b := range e.content.large {
		id := h.s.box.Sum(b.Raw)
		copy(e.content.b[e.content.at[i]:], id[:])
		if !slices.ContainsFunc(e.bodies, func(r bodyRow) bool { return r.id == id }) {
			e.bodies = append(e.bodies, bodyRow{id: id, raw: b.Raw})
		}
	}
	e.block, e.id = h.block, h.block.number*blockFlows+h.block.flows
	e.sealed = h.s.box.Seal(nil, h.zip.EncodeAll(e.content.b, nil), flowPlace(e.id))
	h.sign(e)
	h.block.flows++
	h.block.bytes += int64(len(e.sealed))
	return nil
}

// sign adds a flow to the signatures of its block, as a search will read it.
func (h *History) sign(e *entry) {
	stored, err := decodeContent(e.content.b)
	if err != nil || len(stored.refs) != len(e.content.large) {
		h.block.unsigned = true
		return
	}
	for i, b := range e.content.large {
		stored.refs[i].body.Raw = b.Raw
	}
	record, table := stored.Record(), h.s.signs()
	h.block.request.Add(table, record, httpql.Request)
	h.block.response.Add(table, record, httpql.Response)
	h.block.full = h.block.request.Full() || h.block.response.Full()
}

// signs gives the trigrams of the project their bits.
func (s *Store) signs() *index.Table {
	s.trigrams.Do(func() {
		key := s.box.Sum([]byte("signature"))
		s.bits, _ = index.NewTable(key[:]) // 32 bytes are a key
	})
	return s.bits
}

// signatures are those of a block as columns: NULL where they are not known.
func (b *block) signatures() (request, response any) {
	if b.unsigned {
		return nil, nil
	}
	return b.request.Append([]byte{}), b.response.Append([]byte{})
}

// flowPlace and bodyPlace are what a content is sealed for.
func flowPlace(id int64) string        { return "flow/" + strconv.FormatInt(id, 10) }
func bodyPlace(id [bodyID]byte) string { return "body/" + string(id[:]) }
func (h *History) sealBody(row *bodyRow) {
	row.sealed = h.s.box.Seal(nil, h.zip.EncodeAll(row.raw, nil), bodyPlace(row.id))
}

// writer is what writes numbers: the transaction of an import, or any connection.
func (h *History) writer() interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
} {
	if h.tx != nil {
		return h.tx
	}
	return h.s.db
}

// number is the number of a block that nobody has. One is reserved at first, and
// more at a time by those who need many.
func (h *History) number(ctx context.Context) (int64, error) {
	n := &h.reserved
	if n.next == n.end {
		size := min(max(1, 2*n.size), maxNumbers)
		var end int64
		row := h.writer().QueryRowContext(ctx, h.s.dialect.sql(`UPDATE numbers SET next = next + ? WHERE name = 'block' RETURNING next`), size)
		if err := row.Scan(&end); err != nil {
			return 0, err
		}
		*n = numbers{next: end - size, end: end, size: size}
	}
	n.next++
	return n.next - 1, nil
}

// sealBodies seals those bodies that the project does not have.
func (h *History) sealBodies(ctx context.Context, group []*entry) error {
	var ids []any
	for _, e := range group {
		for i := range e.bodies {
			ids = append(ids, e.bodies[i].id[:])
		}
	}
	has := make(map[[bodyID]byte]bool)
	for some := range slices.Chunk(ids, maxRows) {
		rows, err := h.s.read.QueryContext(ctx, h.s.dialect.sql(`SELECT id FROM bodies WHERE id IN (`+marks(len(some))+`)`), some...)
		if err != nil {
			return err
		}
		err = each(rows, func() error {
			var id []byte
			err := rows.Scan(&id)
			if len(id) == bodyID {
				has[[bodyID]byte(id)] = true
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, e := range group {
		for i := range e.bodies {
			if row := &e.bodies[i]; !has[row.id] && row.sealed == nil {
				h.sealBody(row)
				has[row.id] = true // the next one of the group needs no other
			}
		}
	}
	return nil
}

// insert is the transaction.
func (h *History) insert(ctx context.Context, group []*entry) error {
	tx, err := h.s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := h.insertIn(ctx, tx, group); err != nil {
		return err
	}
	return tx.Commit()
}

// insertIn is what the transaction does.
func (h *History) insertIn(ctx context.Context, tx *sql.Tx, group []*entry) error {
	var bodies, links, flows [][]any
	var blocks []*block
	for _, e := range group {
		for i := range e.bodies {
			row := &e.bodies[i]
			if row.sealed != nil {
				bodies = append(bodies, []any{row.id[:], int64(len(row.raw)), int64(len(row.sealed)), row.sealed})
			}
			links = append(links, []any{e.id, row.id[:]})
		}
		flows = append(flows, append(append([]any{e.id}, e.clear...), e.node, e.sealed))
		if !slices.Contains(blocks, e.block) {
			blocks = append(blocks, e.block)
		}
	}
	// In one order, so that two nodes with the same bodies do not wait for each
	// other.
	slices.SortFunc(bodies, func(a, b []any) int { return bytes.Compare(a[0].([]byte), b[0].([]byte)) })
	for _, step := range []struct {
		into string
		rows [][]any
	}{{"bodies (id, size, bytes, content)", bodies}, {"flow_bodies (flow, body)", links}, {"flows (" + flowColumns + ")", flows}} {
		if err := h.s.insertRows(ctx, tx, step.into, step.rows); err != nil {
			return err
		}
	}
	for _, b := range blocks {
		request, response := b.signatures()
		// The process that fills a block is the only one, so that its own
		// account of it is the whole.
		_, err := tx.ExecContext(ctx, h.s.dialect.sql(`INSERT INTO blocks (block, flows, bytes, request, response) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (block) DO UPDATE SET flows = excluded.flows, bytes = excluded.bytes, request = excluded.request, response = excluded.response`),
			b.number, b.flows, b.bytes, request, response)
		if err != nil {
			return err
		}
	}
	return nil
}

// insertRows inserts rows, many in a statement; those that are there stay.
func (s *Store) insertRows(ctx context.Context, tx *sql.Tx, into string, rows [][]any) error {
	for some := range slices.Chunk(rows, maxRows) {
		row := "(" + marks(len(some[0])) + ")"
		var args []any
		for _, r := range some {
			args = append(args, r...)
		}
		statement := "INSERT INTO " + into + " VALUES " + row + strings.Repeat(", "+row, len(some)-1) + " ON CONFLICT DO NOTHING"
		if _, err := tx.ExecContext(ctx, s.dialect.sql(statement), args...); err != nil {
			return err
		}
	}
	return nil
}

// marks are n placeholders.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

// each calls read for every row, and closes them.
func each(rows *sql.Rows, read func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := read(); err != nil {
			return err
		}
	}
	return rows.Err()
}
