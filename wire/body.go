package wire

import (
	"errors"
	"io"
)

// ErrClosed is returned by a body that was closed before its end.
var ErrClosed = errors.New("wire: the body is closed")

// A Body is a stream of pieces as they stand on the wire: of a chunked HTTP/1
// body with chunk heads, extensions and trailers.
type Body interface {
	// Next returns the next piece, valid until the next call. The last piece,
	// which may be empty, comes together with io.EOF; with any other error
	// comes what was good before it. A body cut short is io.ErrUnexpectedEOF,
	// one that is not framed as it should be *ParseError. After an error of
	// the connection, such as a deadline, Next may be called again.
	Next() ([]byte, error)
	// Framing is how the body ends. After io.EOF its notes include what the
	// body itself had of oddities.
	Framing() Framing
	// Close gives up the rest. It does not read it: a connection whose body
	// was closed early cannot be used again. Closing twice is fine.
	Close() error
}

// connBody is a body on its connection.
type connBody struct {
	r       *Reader
	framing Framing
	left    int64
	chunks  chunkScanner
	open    bool  // the end has not been reached
	err     error // why it never will be
}

func (b *connBody) Framing() Framing { return b.framing }

func (b *connBody) Close() error {
	if b.open && b.err == nil {
		b.err = ErrClosed
	}
	return nil
}

func (b *connBody) Next() ([]byte, error) {
	switch {
	case !b.open:
		return nil, io.EOF
	case b.err != nil:
		return nil, b.err
	}
	r := b.r
	if r.rd == r.wr {
		if err := r.fill(); err != nil {
			return nil, b.ended(err)
		}
	}
	piece := r.buf[r.rd:r.wr:r.wr]
	switch b.framing.Kind {
	case Length:
		if int64(len(piece)) >= b.left {
			piece = piece[:b.left:b.left]
			b.open = false
		}
		b.left -= int64(len(piece))
	case Chunked:
		n, err := b.chunks.scan(piece)
		b.framing.add(b.chunks.notes)
		if err != nil && b.framing.AnyChunks {
			b.framing.Kind = UntilClose
			b.framing.add(NoteOddChunk)
			break
		}
		piece = piece[:n:n]
		b.open, b.err = b.chunks.state != chunkDone, err
	}
	r.rd += len(piece)
	switch {
	case b.err != nil:
		return piece, b.err
	case !b.open:
		return piece, io.EOF
	}
	return piece, nil
}

// ended is what an error of the connection means for the body.
func (b *connBody) ended(err error) error {
	if err != io.EOF {
		return err
	}
	if b.framing.Kind == UntilClose || b.framing.Kind == Stream {
		b.open = false
		return io.EOF
	}
	b.err = io.ErrUnexpectedEOF
	return b.err
}

// BytesBody is a body that was kept: raw is all of it as it stood on the wire,
// and is not copied. It comes as one piece. If raw is shorter than a Length
// says, the piece comes with io.ErrUnexpectedEOF; no other framing is checked.
func BytesBody(f Framing, raw []byte) Body {
	b := &keptBody{framing: f, raw: raw, end: io.EOF}
	if f.Kind == Length && int64(len(raw)) < f.Length {
		b.end = io.ErrUnexpectedEOF
	}
	return b
}

type keptBody struct {
	framing Framing
	raw     []byte
	end     error
}

func (b *keptBody) Framing() Framing { return b.framing }

func (b *keptBody) Close() error {
	if b.raw != nil {
		b.raw, b.end = nil, ErrClosed
	}
	return nil
}

func (b *keptBody) Next() ([]byte, error) {
	raw := b.raw
	b.raw = nil
	return raw, b.end
}

// errorBody is a body that cannot be had.
type errorBody struct {
	framing Framing
	err     error
}

func (b *errorBody) Next() ([]byte, error) { return nil, b.err }
func (b *errorBody) Framing() Framing      { return b.framing }
func (b *errorBody) Close() error          { return nil }
