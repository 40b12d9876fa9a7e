package store

import (
	"bytes"
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/store/index"
)

const (
	blockFlows = 64 // flows of a block; ids are block*64 + n
	maxNumbers = 16 // block numbers that are reserved at once
	maxRows    = 256

	flowColumns = 23 // of the table flows
	mostAlike   = 8  // kinds of flows of a group that are told apart
	fewAlike    = 4  // flows for which that is not worth it
)

// block is one that this process fills: nobody else writes to it.
type block struct {
	number   int64
	flows    int64
	bytes    int64
	full     bool
	request  index.Signature
	response index.Signature
	unsigned bool   // a flow is not in the signatures
	body     []byte // an answer's that is
}

// numbers are block numbers of this process alone.
type numbers struct{ next, end, size int64 }

// commit writes a group in one transaction. It may be called again with the same
// group, also where it is not known whether the transaction before succeeded:
// what is there already stays.
func (h *History) commit(ctx context.Context, group []*entry) error {
	for _, e := range group {
		if e.id == 0 {
			if err := h.place(ctx, e); err != nil {
				return err
			}
			h.breathe()
		}
	}
	h.pack(group)
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

// place gives a flow its id, and has it in the signatures of its block.
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
	h.sign(e)
	h.block.flows++
	return nil
}

// sign adds a flow to the signatures of its block, as a search will read it.
func (h *History) sign(e *entry) {
	if e.simple {
		h.signParts(e)
	} else {
		h.signDecoded(e)
	}
	h.block.full = h.block.request.Full() || h.block.response.Full()
}

// signParts is sign for a flow whose parts are all that a search finds.
func (h *History) signParts(e *entry) {
	b, table, c := h.block, h.s.signs(), &e.content
	b.request.AddText(table, c.partBytes(partRequest), c.partBytes(partRequestBody))
	body := c.partBytes(partResponseBody)
	if bytes.Equal(body, b.body) {
		// It is in the signature but for where the head ends and it begins.
		b.response.AddText(table, c.partBytes(partResponse), body[:min(len(body), 2)])
	} else {
		b.response.AddText(table, c.partBytes(partResponse), body)
		b.body = body
	}
	if e.own.status >= 0 {
		b.response.AddStatus(table, e.own.status)
	}
}

// signDecoded is sign for all others.
func (h *History) signDecoded(e *entry) {
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
				h.breathe()
			}
		}
	}
	return nil
}

// insert is the transaction.
func (h *History) insert(ctx context.Context, group []*entry) error {
	err := h.insertBy(ctx, group, h.s.dialect.numbered)
	if err != nil && h.s.dialect.has(err) { // COPY cannot leave out what is there
		err = h.insertBy(ctx, group, false)
	}
	return err
}

func (h *History) insertBy(ctx context.Context, group []*entry, copies bool) error {
	if err := h.prepare(ctx); err != nil {
		return err
	}
	begun := time.Now()
	conn, err := h.s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after Commit it does nothing
	in := insertion{h: h, tx: tx}
	if copies {
		in.conn = conn
	}
	if err := in.all(ctx, group); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	h.s.took[commitHistory].since(begun)
	return nil
}

// insertion is what is done within a transaction.
type insertion struct {
	h    *History
	tx   *sql.Tx
	conn *sql.Conn // that of the transaction, to COPY rows by; nil: they are inserted
}

func (in *insertion) all(ctx context.Context, group []*entry) error {
	var bodies, links, packs [][]any
	var blocks []*block
	for _, e := range group {
		for i := range e.bodies {
			row := &e.bodies[i]
			if row.sealed != nil {
				bodies = append(bodies, []any{row.id[:], int64(len(row.raw)), int64(len(row.sealed)), row.sealed})
			}
			links = append(links, []any{e.id, row.id[:]})
		}
		if last := len(packs) - 1; last < 0 || packs[last][0] != e.pack.id {
			packs = append(packs, []any{e.pack.id, e.pack.sealed})
		}
		if !slices.Contains(blocks, e.block) {
			blocks = append(blocks, e.block)
		}
	}
	// In one order, so that two nodes with the same bodies do not wait for each
	// other.
	slices.SortFunc(bodies, func(a, b []any) int { return bytes.Compare(a[0].([]byte), b[0].([]byte)) })
	for _, step := range []struct {
		into, columns string
		rows          [][]any
	}{{"bodies", "id, size, bytes, content", bodies}, {"flow_bodies", "flow, body", links}, {"packs", "id, content", packs}} {
		// Bodies are shared: others may bring the same.
		if err := in.rows(ctx, step.into, step.columns, step.rows, step.into != "bodies"); err != nil {
			return err
		}
	}
	if err := in.flows(ctx, group); err != nil {
		return err
	}
	for _, b := range blocks {
		request, response := b.signatures()
		// The process that fills a block is the only one, so that its own
		// account of it is the whole.
		err := in.exec(ctx, statement{"blocks", 1}, func() string {
			return `INSERT INTO blocks (block, flows, bytes, request, response) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (block) DO UPDATE SET flows = excluded.flows, bytes = excluded.bytes, request = excluded.request, response = excluded.response`
		}, b.number, b.flows, b.bytes, request, response)
		if err != nil {
			return err
		}
	}
	return nil
}

// flows inserts the rows of flows. What many of them have in common a file is
// given once: a value costs more than its row.
func (in *insertion) flows(ctx context.Context, group []*entry) error {
	alike := mostAlike
	if in.h.s.dialect.numbered {
		alike = 0
	}
	var mixed []*entry
	for ; alike > 0 && len(group) > 0; alike-- {
		var same, others []*entry
		for _, e := range group {
			if e.common == group[0].common {
				same = append(same, e)
			} else {
				others = append(others, e)
			}
		}
		if group = others; len(same) < fewAlike {
			mixed = append(mixed, same...)
		} else if err := in.alike(ctx, same); err != nil {
			return err
		}
	}
	mixed = append(mixed, group...)
	rows := make([][]any, len(mixed))
	for i, e := range mixed {
		rows[i] = append(e.ownValues(e.common.values(make([]any, 0, flowColumns))), []byte{})
	}
	return in.rows(ctx, "flows", commonColumns+", "+ownColumns+", content", rows, true)
}

// alike inserts the rows of flows with the same common columns.
func (in *insertion) alike(ctx context.Context, flows []*entry) error {
	for len(flows) > 0 {
		n := in.h.s.dialect.rowsOf(len(flows))
		args := flows[0].common.values(in.h.args[:0])
		for _, e := range flows[:n] {
			args = e.ownValues(args)
		}
		err := in.exec(ctx, statement{"alike", n}, func() string { return insertAlike(n) }, args...)
		clear(args)
		if in.h.args = args; err != nil {
			return err
		}
		flows = flows[n:]
	}
	return nil
}

// insertAlike is a statement: its first values are the common columns of all
// rows.
func insertAlike(rows int) string {
	common := make([]string, strings.Count(commonColumns, ",")+1)
	for i := range common {
		common[i] = "?" + strconv.Itoa(i+1)
	}
	row := "(" + strings.Join(common, ", ") + ", " + marks(strings.Count(ownColumns, ",")+1) + ", x'')"
	return "INSERT INTO flows (" + commonColumns + ", " + ownColumns + ", content) VALUES " + row + strings.Repeat(", "+row, rows-1) + " ON CONFLICT DO NOTHING"
}

// rows inserts rows, many in a statement; those that are there stay. COPY is
// for rows that nobody else has.
func (in *insertion) rows(ctx context.Context, into, columns string, rows [][]any, ours bool) error {
	if len(rows) == 0 {
		return nil
	}
	if in.conn != nil && ours {
		return in.conn.Raw(func(driver any) error {
			_, err := driver.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{into}, strings.Split(columns, ", "), pgx.CopyFromRows(rows))
			return err
		})
	}
	for len(rows) > 0 {
		n := in.h.s.dialect.rowsOf(len(rows))
		args := in.h.args[:0]
		for _, r := range rows[:n] {
			args = append(args, r...)
		}
		err := in.exec(ctx, statement{into, n}, func() string { return insertRows(into, columns, n) }, args...)
		clear(args)
		if in.h.args = args; err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// insertRows is a statement.
func insertRows(into, columns string, rows int) string {
	row := "(" + marks(strings.Count(columns, ",")+1) + ")"
	return "INSERT INTO " + into + " (" + columns + ") VALUES " + row + strings.Repeat(", "+row, rows-1) + " ON CONFLICT DO NOTHING"
}

// statement is one that is prepared: a table, and how many rows it writes.
type statement struct {
	into string
	rows int
}

// exec runs a statement. Those of a file are prepared when they are first
// wanted; pgx does that itself.
func (in *insertion) exec(ctx context.Context, name statement, text func() string, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h := in.h
	if h.s.dialect.numbered {
		_, err := in.tx.ExecContext(ctx, h.s.dialect.sql(text()), args...)
		return err
	}
	ready := h.prepared[name]
	// A statement is short, and another goroutine that waits for ctx to end it
	// costs more.
	ctx = context.WithoutCancel(ctx)
	switch {
	case ready == nil && h.tx == nil: // the transaction has the one connection
		h.wanted[name] = text()
		_, err := in.tx.ExecContext(ctx, h.wanted[name], args...)
		return err
	case ready == nil:
		var err error
		if ready, err = h.tx.PrepareContext(ctx, text()); err != nil {
			return err
		}
		h.prepared[name] = ready
	case h.tx == nil:
		ready = in.tx.StmtContext(ctx, ready)
	}
	_, err := ready.ExecContext(ctx, args...)
	return err
}

// prepare prepares the statements that were wanted.
func (h *History) prepare(ctx context.Context) error {
	for name, text := range h.wanted {
		ready, err := h.s.db.PrepareContext(ctx, text)
		if err != nil {
			return err
		}
		h.prepared[name] = ready
		delete(h.wanted, name)
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
