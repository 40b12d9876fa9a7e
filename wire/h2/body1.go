package h2

import (
	"io"

	"github.com/holdfast-proxy/holdfast/wire"
)

// body1 is the body of an HTTP/2 message in the form of HTTP/1.
type body1 struct {
	wire.Body
	framing wire.Framing
	left    int64
	buffer  []byte
	ended   bool
}

// BodyTo1 gives the body of an HTTP/2 message the framing of HTTP/1 that the
// head made by RequestTo1 or ResponseTo1 states: in chunks, with the trailers
// behind them; as long as Content-Length says and not a byte longer or shorter;
// or until the connection closes.
func BodyTo1(b wire.Body, framing wire.Framing) wire.Body {
	return &body1{Body: b, framing: framing, left: framing.Length}
}

// Next returns the next piece as it stands on an HTTP/1 connection.
func (b *body1) Next() ([]byte, error) {
	if b.ended {
		return nil, io.EOF
	}
	piece, err := b.Body.Next()
	b.ended = err == io.EOF
	switch b.framing.Kind {
	case wire.Chunked:
		b.buffer = b.buffer[:0]
		if len(piece) > 0 {
			b.buffer = wire.AppendChunk(b.buffer, piece)
		}
		if err == io.EOF {
			b.buffer = wire.AppendLastChunk(b.buffer, TrailersTo1(b.Body.Framing().Trailers))
		}
		return b.buffer, err
	case wire.Length:
		if b.left -= int64(len(piece)); b.left < 0 || err == io.EOF && b.left > 0 {
			return nil, &wire.ParseError{Reason: "the body contradicts its Content-Length", Status: 400}
		}
	}
	return piece, err
}

// Framing is that of the HTTP/1 form.
func (b *body1) Framing() wire.Framing { return b.framing }

// Ready tells whether Next returns without waiting.
func (b *body1) Ready() bool {
	w, waits := b.Body.(interface{ Ready() bool })
	return b.ended || !waits || w.Ready()
}

// Interrupt has a Next that waits return at once, with an error.
func (b *body1) Interrupt() {
	if i, ok := b.Body.(interface{ Interrupt() }); ok {
		i.Interrupt()
	}
}
