package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// packBytes is from how many bytes of contents on a pack takes no more flows. What
// reads one flow reads the whole pack.
const packBytes = 128 << 10

// A pack is the contents of flows that were written at once, compressed and sealed
// together, since that costs a flow a fraction of what it costs alone. Their ids
// follow one another within a block; the pack has the first of them as its own.
//
// Uncompressed it is, as varints, how many contents there are and how long each
// is, and then the contents. That of a flow that was deleted is empty.
type pack struct {
	id     int64
	block  *block
	flows  int64
	sealed []byte
}

func packPlace(id int64) string { return "pack/" + strconv.FormatInt(id, 10) }

// pack puts the contents of flows that have their ids into packs.
func (h *History) pack(group []*entry) {
	for begin := 0; begin < len(group); {
		first := group[begin]
		end, size := begin+1, len(first.content.b)
		for end < len(group) && group[end].id == first.id+int64(end-begin) && group[end].block == first.block && size < packBytes {
			size += len(group[end].content.b)
			end++
		}
		if first.pack == nil {
			h.packOne(group[begin:end], size)
			h.breathe()
		}
		begin = end
	}
}

func (h *History) packOne(flows []*entry, size int) {
	plain := appendLengths(h.plain[:0], len(flows), func(i int) int { return len(flows[i].content.b) })
	for _, e := range flows {
		plain = append(plain, e.content.b...)
	}
	p := &pack{id: flows[0].id, block: flows[0].block, flows: int64(len(flows))}
	h.zipped = h.zip.EncodeAll(plain, h.zipped[:0])
	p.sealed = h.s.box.Seal(nil, h.zipped, packPlace(p.id))
	p.block.bytes += int64(len(p.sealed))
	for _, e := range flows {
		e.pack, e.common.pack = p, p.id
	}
	if h.plain = plain; cap(plain) > maxScratch {
		h.plain, h.zipped = nil, nil
	}
}

// maxScratch bounds the memory that is kept for the next pack.
const maxScratch = 1 << 20

// unpack has flows packed anew, each by itself.
func unpack(flows []*entry) {
	for _, e := range flows {
		if p := e.pack; p != nil && p.flows > 0 {
			p.block.bytes -= int64(len(p.sealed))
			p.flows = 0 // the next one has the same
		}
		e.pack = nil
	}
}

// newZip compresses contents. Its window is what it takes of memory, several times;
// packs are smaller.
func newZip() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
}

func appendLengths(dst []byte, n int, length func(i int) int) []byte {
	dst = binary.AppendUvarint(dst, uint64(n))
	for i := range n {
		dst = binary.AppendUvarint(dst, uint64(length(i)))
	}
	return dst
}

// openPack reads the contents of a pack. They share memory.
func (s *Store) openPack(id int64, sealed []byte) ([][]byte, error) {
	zipped, err := s.box.Open(nil, sealed, packPlace(id))
	var plain []byte
	if err == nil {
		plain, err = s.unzip.DecodeAll(zipped, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("the pack %d: %w", id, err)
	}
	d := decoder{b: plain}
	n := d.count()
	lengths := make([]uint64, min(n, blockFlows))
	if n > blockFlows {
		d.fail()
	}
	for i := range lengths {
		lengths[i] = d.uint()
	}
	contents := make([][]byte, len(lengths))
	for i, length := range lengths {
		contents[i] = d.take(length)
	}
	if d.err != nil || len(d.b) > 0 {
		return nil, fmt.Errorf("the pack %d: %w", id, errContent)
	}
	return contents, nil
}

// closePack seals contents again.
func (s *Store) closePack(id int64, contents [][]byte) ([]byte, error) {
	zip, err := newZip()
	if err != nil {
		return nil, err
	}
	defer zip.Close()
	plain := appendLengths(nil, len(contents), func(i int) int { return len(contents[i]) })
	for _, content := range contents {
		plain = append(plain, content...)
	}
	return s.box.Seal(nil, zip.EncodeAll(plain, nil), packPlace(id)), nil
}

// A row is one of the table flows, as far as it says where the content is.
type row struct {
	id      int64
	node    string
	pack    *int64 // nil: the content stands in the row
	content []byte // sealed
}

// rowColumns are those of a row, in the order in which scan reads them.
const rowColumns = "id, node, pack, content"

func (r *row) scan(rows *sql.Rows) error { return rows.Scan(&r.id, &r.node, &r.pack, &r.content) }

// unpacker opens rows. It remembers the last pack: ids in their order are read
// fastest.
type unpacker struct {
	s     *Store
	packs *sql.Stmt // reads a pack by its id; nil: none is prepared

	id       int64 // of the last pack, 0: none
	contents [][]byte
	damaged  error // the pack cannot be read
	read     int   // bytes that were uncompressed
}

// open reads the content of a row. Its large bodies are not there yet: see
// readBodies. nil: the flow has been deleted meanwhile. What is returned shares
// the memory of the pack until it is kept. damage is about this flow, err about
// the database.
func (u *unpacker) open(ctx context.Context, r *row, keep bool) (_ *Stored, damage, err error) {
	var content []byte
	switch {
	case r.pack == nil:
		var zipped []byte
		if zipped, damage = u.s.box.Open(nil, r.content, flowPlace(r.id)); damage == nil {
			content, damage = u.s.unzip.DecodeAll(zipped, nil)
		}
		u.read += len(content)
	default:
		if *r.pack != u.id {
			if err := u.next(ctx, *r.pack); err != nil {
				return nil, nil, err
			}
		}
		damage = u.damaged
		if at := r.id - u.id; at >= 0 && at < int64(len(u.contents)) {
			content = u.contents[at]
		}
		if damage == nil && len(content) == 0 {
			return nil, nil, nil
		}
		if keep {
			content = bytes.Clone(content)
		}
	}
	var stored *Stored
	if damage == nil {
		stored, damage = decodeContent(content)
	}
	if damage != nil {
		return nil, fmt.Errorf("flow %d: %w", r.id, damage), nil
	}
	stored.ID, stored.Node = r.id, r.node
	if r.pack != nil && !keep {
		stored.shared = content
	}
	return stored, nil, nil
}

// detach gives a flow memory of its own, so that it does not hold its pack.
func (f *Stored) detach() {
	if f.shared == nil {
		return
	}
	own, err := decodeContent(bytes.Clone(f.shared))
	if err != nil {
		return // it could be decoded before
	}
	own.ID, own.Node = f.ID, f.Node
	if f.refs == nil { // they have been read
		for _, ref := range own.refs {
			for _, b := range [][2]*Body{{own.Received, f.Received}, {own.Sent, f.Sent}, {own.Response, f.Response}} {
				if ref.body == b[0] {
					ref.body.Raw, ref.body.Cut = b[1].Raw, b[1].Cut
				}
			}
		}
		own.refs = nil
	}
	*f = *own
}

const readPack = `SELECT content FROM packs WHERE id = ?`

// next reads another pack. One that is gone has no contents.
func (u *unpacker) next(ctx context.Context, id int64) error {
	var sealed []byte
	var err error
	if u.packs != nil {
		err = u.packs.QueryRowContext(ctx, id).Scan(&sealed)
	} else {
		err = u.s.read.QueryRowContext(ctx, u.s.dialect.sql(readPack), id).Scan(&sealed)
	}
	u.id, u.contents, u.damaged = id, nil, nil
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		u.id = 0
		return err
	}
	u.contents, u.damaged = u.s.openPack(id, sealed)
	for _, content := range u.contents {
		u.read += len(content)
	}
	return nil
}
