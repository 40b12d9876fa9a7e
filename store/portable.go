package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/wire"
)

// Hider takes credentials out of what leaves a project. Its results may be what
// it was given, which it does not change.
type Hider interface {
	// Head is given an HTTP/1 head as it stood on the wire, Field the name and
	// the value of a field of HTTP/2 or of a trailer.
	Head(head []byte) []byte
	Field(name, value []byte) []byte
	// Body is given a body and the head that it came with, Text any other text.
	Body(head *wire.Head, b *Body) *Body
	Text(text []byte) []byte
}

// Encode is the flow with its bodies as bytes that [DecodeStored] reads; not
// sealed, and without what hide takes out. hide may be nil.
func (f *Stored) Encode(hide Hider) []byte {
	x := f.Exchange
	x.tunnel = f.Upgraded
	content := encoder{hide: hide}
	content.flow(&x)
	var e encoder
	e.text(f.Node)
	e.bytes(content.b)
	for _, b := range content.large {
		e.bytes(b.Raw)
	}
	return e.b
}

// DecodeStored reads what [Stored.Encode] wrote, whatever it is given. The flow
// has no ID.
func DecodeStored(raw []byte) (*Stored, error) {
	d := decoder{b: raw}
	node := d.text()
	f, err := decodeContent(d.bytes())
	if err != nil {
		return nil, err
	}
	for _, ref := range f.refs {
		ref.body.Raw = d.bytes()
	}
	if d.err != nil || len(d.b) > 0 || clearly(node).odd || clearly(f.State).odd {
		return nil, errContent
	}
	f.Node, f.refs = node, nil
	return f, nil
}

// Figures are how much a project has.
type Figures struct {
	Flows, Last int64 // Last is the highest id, 0 without any
	// Oldest and Newest are when the flows began; zero without any.
	Oldest, Newest time.Time
	State          int64 // rows
	Bytes          int64 // of contents, compressed
}

// Figures counts. It reads whole columns: in a large project it takes seconds.
func (s *Store) Figures(ctx context.Context) (f Figures, err error) {
	var oldest, newest int64
	err = s.read.QueryRowContext(ctx, `SELECT count(*), coalesce(max(id), 0), coalesce(min(at), 0), coalesce(max(at), 0) FROM flows`).
		Scan(&f.Flows, &f.Last, &oldest, &newest)
	if err == nil {
		err = s.read.QueryRowContext(ctx, `SELECT count(*) FROM state WHERE length(value) > 0`).Scan(&f.State)
	}
	if err == nil {
		err = s.read.QueryRowContext(ctx, `SELECT CAST(coalesce((SELECT sum(bytes) FROM blocks), 0) + coalesce((SELECT sum(bytes) FROM bodies), 0) AS BIGINT)`).Scan(&f.Bytes)
	}
	if err != nil {
		return f, advise(err)
	}
	if f.Flows > 0 {
		f.Oldest, f.Newest = time.UnixMicro(oldest).UTC(), time.UnixMicro(newest).UTC()
	}
	return f, nil
}

// LoadAll returns the rows of all owners. Those that were removed are not among
// them.
func (s *Store) LoadAll(ctx context.Context) (all []Row, err error) {
	rows, err := s.read.QueryContext(ctx, `SELECT DISTINCT owner FROM state ORDER BY owner`)
	if err != nil {
		return nil, advise(err)
	}
	var owners []string
	err = each(rows, func() error {
		var owner string
		err := rows.Scan(&owner)
		owners = append(owners, owner)
		return err
	})
	for _, owner := range owners {
		if err != nil {
			break
		}
		var some []Row
		some, err = s.Load(ctx, "", owner)
		for _, r := range some {
			if len(r.Value) > 0 {
				all = append(all, r)
			}
		}
	}
	return all, err
}

// ErrNotEmpty is that something was to be imported into a project that has
// something.
var ErrNotEmpty = errors.New("the project is not empty")

// Import fills an empty project, in one transaction. Its methods belong to the
// goroutine that fill runs in.
type Import struct {
	ctx   context.Context
	h     *History
	group []*entry
	size  int64
}

// Import has fill bring flows and rows, and writes all of them or, where it
// fails, nothing. ErrNotEmpty: the project has flows or rows.
func (s *Store) Import(ctx context.Context, fill func(*Import) error) error {
	zip, err := newZip()
	if err != nil {
		return err
	}
	defer zip.Close()
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return advise(err)
	}
	defer tx.Rollback() // after Commit it does nothing
	var has int64
	if err := tx.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM (SELECT id FROM flows LIMIT 1) AS f) + (SELECT count(*) FROM state WHERE length(value) > 0)`).Scan(&has); err != nil {
		return advise(err)
	}
	if has > 0 {
		return ErrNotEmpty
	}
	im := &Import{ctx: ctx, h: newHistory(s, HistoryOptions{MaxBody: math.MaxInt64}, zip)}
	im.h.tx = tx
	if err = fill(im); err == nil {
		err = im.flush()
	}
	if err == nil {
		err = tx.Commit()
	}
	return advise(err)
}

// Flow adds a flow, with a new id. Its bodies are the import's from then on.
func (im *Import) Flow(f *Stored) error {
	x := f.Exchange
	x.tunnel = f.Upgraded
	e := newEntry(&x, math.MaxInt64, false)
	e.common.node = clearly(f.Node)
	im.group, im.size = append(im.group, e), im.size+e.held
	if len(im.group) < groupFlows && im.size < batchBytes {
		return nil
	}
	return im.flush()
}

func (im *Import) flush() error {
	group, h := im.group, im.h
	im.group, im.size = nil, 0
	for _, e := range group {
		if err := h.place(im.ctx, e); err != nil {
			return err
		}
		for i := range e.bodies {
			h.sealBody(&e.bodies[i])
		}
	}
	h.pack(group)
	in := insertion{h: h, tx: h.tx}
	return in.all(im.ctx, group)
}

// State adds a row. It has no fence any more: leases begin anew.
func (im *Import) State(r Row) error {
	for _, text := range []string{r.Kind, r.Owner, r.Name} {
		if strings.IndexByte(text, 0) >= 0 || strings.ToValidUTF8(text, "") != text {
			return errContent
		}
	}
	_, err := im.h.tx.ExecContext(im.ctx, im.h.s.dialect.sql(`INSERT INTO state (kind, owner, name, version, fence, changed, value) VALUES (?, ?, ?, ?, 0, ?, ?)`),
		r.Kind, r.Owner, r.Name, int64(r.Version), time.Now().UnixMicro(), im.h.s.box.Seal(nil, r.Value, r.place()))
	return err
}

// Delete deletes a project that is a file, and what stands beside it. One that
// somebody has open is not deleted.
func Delete(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	db, err := sql.Open(sqlite().driver, "file:"+(&url.URL{Path: path}).EscapedPath()+"?_pragma=busy_timeout(0)")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	// Only who is alone can leave the mode of a log.
	var mode string
	err = db.QueryRowContext(ctx, `PRAGMA journal_mode = DELETE`).Scan(&mode)
	if closed := db.Close(); err == nil {
		err = closed
	}
	if err == nil && mode != "delete" {
		err = errors.New("mode " + mode)
	}
	if err != nil {
		return fmt.Errorf("%s is in use, or is no project (%w): end the Holdfast that has it open", path, err)
	}
	for _, beside := range []string{"-wal", "-shm", claimSuffix} {
		if err := os.Remove(path + beside); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.Remove(path)
}
