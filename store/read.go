package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
)

// maxContent bounds what one content may come to, uncompressed.
const maxContent = 1 << 30

// ErrNoFlow is that a project has no flow of that id.
var ErrNoFlow = errors.New("the project has no such flow")

// Stored is a flow as a project has it. Its Flow has no streams; messages that
// cannot be parsed any more are nil.
type Stored struct {
	ID       int64
	Node     string
	Upgraded bool // it became a WebSocket, or another tunnel
	Exchange

	refs   []bodyRef // bodies that were not read yet
	shared []byte    // the content, where its memory is that of a pack
}

// Flow reads one flow; ErrNoFlow where there is none.
func (s *Store) Flow(ctx context.Context, id int64) (*Stored, error) {
	all, err := s.flows(ctx, `WHERE id = ?`, id)
	if err == nil && len(all) == 0 {
		return nil, fmt.Errorf("%d: %w", id, ErrNoFlow)
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// Flows reads up to limit flows in the order of their ids: from one on upwards,
// or, newest first, from it downwards; 0 is then the newest.
func (s *Store) Flows(ctx context.Context, from int64, limit int, newestFirst bool) ([]*Stored, error) {
	switch {
	case !newestFirst:
		return s.flows(ctx, `WHERE id >= ? ORDER BY id LIMIT ?`, from, limit)
	case from == 0:
		return s.flows(ctx, `ORDER BY id DESC LIMIT ?`, limit)
	}
	return s.flows(ctx, `WHERE id <= ? ORDER BY id DESC LIMIT ?`, from, limit)
}

// IDs are up to limit ids above one, in their order. Ids do not rise with time
// where several processes write: each fills numbers of its own.
func (s *Store) IDs(ctx context.Context, after int64, limit int) (ids []int64, err error) {
	rows, err := s.read.QueryContext(ctx, s.dialect.sql(`SELECT id FROM flows WHERE id > ? ORDER BY id LIMIT ?`), after, limit)
	if err == nil {
		err = each(rows, func() error {
			var id int64
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		})
	}
	return ids, advise(err)
}

// flows reads those that a clause says, with their bodies.
func (s *Store) flows(ctx context.Context, clause string, args ...any) ([]*Stored, error) {
	rows, err := s.read.QueryContext(ctx, s.dialect.sql(`SELECT `+rowColumns+` FROM flows `+clause), args...)
	if err != nil {
		return nil, advise(err)
	}
	var found []row
	err = each(rows, func() error {
		var r row
		err := r.scan(rows)
		found = append(found, r)
		return err
	})
	if err != nil {
		return nil, advise(err)
	}
	var all []*Stored
	contents := unpacker{s: s}
	for i := range found {
		stored, damage, err := contents.open(ctx, &found[i], true)
		if err == nil {
			err = damage
		}
		if err != nil {
			return nil, advise(err)
		}
		if stored != nil {
			all = append(all, stored)
		}
	}
	if err := s.readBodies(ctx, all); err != nil {
		return nil, advise(err)
	}
	return all, nil
}

// decodeContent reads a content as it was before it was compressed.
func decodeContent(plain []byte) (*Stored, error) {
	d := decoder{b: plain}
	stored := d.flow()
	if d.err != nil {
		return nil, d.err
	}
	stored.refs = d.refs
	return stored, nil
}

// readBodies gives flows their large bodies. One that is gone, since its flow is
// being deleted, is as one that was cut.
func (s *Store) readBodies(ctx context.Context, all []*Stored) error {
	wanted := make(map[[bodyID]byte][]*Body)
	var ids []any
	for _, stored := range all {
		for i := range stored.refs {
			ref := &stored.refs[i]
			if wanted[ref.id] == nil {
				ids = append(ids, ref.id[:])
			}
			wanted[ref.id] = append(wanted[ref.id], ref.body)
		}
		stored.refs = nil
	}
	for some := range slices.Chunk(ids, maxRows) {
		rows, err := s.read.QueryContext(ctx, s.dialect.sql(`SELECT id, content FROM bodies WHERE id IN (`+marks(len(some))+`)`), some...)
		if err != nil {
			return err
		}
		err = each(rows, func() error {
			var name, sealed []byte
			if err := rows.Scan(&name, &sealed); err != nil {
				return err
			}
			if len(name) != bodyID {
				return errContent
			}
			id := [bodyID]byte(name)
			zipped, err := s.box.Open(nil, sealed, bodyPlace(id))
			var raw []byte
			if err == nil {
				raw, err = s.unzip.DecodeAll(zipped, nil)
			}
			if err != nil {
				return fmt.Errorf("the body %x: %w", name, err)
			}
			for _, b := range wanted[id] {
				b.Raw = raw
			}
			delete(wanted, id)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, gone := range wanted {
		for _, b := range gone {
			b.Cut = true
		}
	}
	return nil
}

// Record lets a query be asked about the flow, as it could be in memory. A body
// that was cut is asked as far as it is kept.
func (f *Stored) Record() *flow.Record {
	r := &flow.Record{Flow: f.Flow, State: f.State, Row: f.ID, Node: f.Node, RequestPresence: httpql.Known, ResponsePresence: httpql.Known}
	if f.Flow.Request != nil {
		r.RequestBody = f.sent().text(&f.Flow.Request.Head)
	}
	if f.Flow.Response != nil {
		r.ResponseBody = f.Response.text(&f.Flow.Response.Head)
		r.Trailers = f.Response.trailers()
	}
	return r
}

func newUnzip() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(readers), zstd.WithDecoderMaxMemory(maxContent))
}
