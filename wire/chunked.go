package wire

import (
	"bytes"
	"io"
	"math"
	"slices"
	"strconv"
)

// The limits inside a chunked body. Data has none: it is not kept.
const (
	MaxChunkLine = 4 << 10  // bytes of a chunk's head with its extensions
	MaxTrailers  = 64 << 10 // bytes of the trailer section

	maxSizeDigits = 16 // of a chunk's size, until that is odd
)

type chunkState uint8

const (
	chunkStart   chunkState = iota // the first digit of a size
	chunkSize                      // more digits
	chunkPad                       // white space after them
	chunkExt                       // extensions, up to the line's end
	chunkSizeLF                    // the LF of a chunk's head
	chunkData                      // data
	chunkDataCR                    // the line end after data
	chunkDataLF                    // the LF of it
	chunkTrailer                   // the start of a trailer line
	chunkLine                      // within a trailer line
	chunkLineLF                    // after a CR in a trailer line
	chunkLastLF                    // the LF of the empty line at the end
	chunkDone                      // behind the body
)

// A chunkScanner finds the end of a chunked body (RFC 9112 §7.1) over its raw
// bytes, in pieces of any size. It changes and keeps none of them.
type chunkScanner struct {
	state  chunkState
	loose  bool  // LF alone may end a line
	size   int64 // of the chunk, then what is left of it
	line   int   // bytes of the chunk's head, or of the trailer section
	offset int   // from the start of the body
	notes  Notes
}

// scan takes p up to the end of the body and returns how much that is.
func (c *chunkScanner) scan(p []byte) (int, error) {
	n := 0
	for n < len(p) && c.state != chunkDone {
		k, err := c.run(p[n:])
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// run takes bytes of one sort: data if the state was chunkData at the start,
// trailers if it was chunkTrailer or later, else what frames them. It returns
// how many it took, at least one.
func (c *chunkScanner) run(p []byte) (n int, err error) {
	if c.state == chunkData {
		n = int(min(int64(len(p)), c.size))
		c.offset += n
		if c.size -= int64(n); c.size == 0 {
			c.state = chunkDataCR
		}
		return n, nil
	}
	trailers := c.state >= chunkTrailer
	for n < len(p) && c.state != chunkData && c.state != chunkDone && trailers == (c.state >= chunkTrailer) {
		var reason string
		if trailers {
			reason = c.trailerByte(p[n])
		} else {
			reason = c.headByte(p[n])
		}
		if reason != "" {
			return n, &ParseError{c.offset, reason, 400}
		}
		n++
		c.offset++
	}
	return n, nil
}

// headByte takes a byte of a chunk's head or of the line end after its data.
func (c *chunkScanner) headByte(b byte) (reason string) {
	if c.line++; c.line > MaxChunkLine {
		return "the head of a chunk is too long"
	}
	switch c.state {
	case chunkStart, chunkSize:
		if d := hexDigit(b); d >= 0 {
			if c.size > math.MaxInt64>>4 {
				return "the size of a chunk is too large"
			}
			if c.line > maxSizeDigits {
				c.notes |= NoteOddChunk // beyond what others look at, maybe
			}
			c.size = c.size<<4 | int64(d)
			c.state = chunkSize
			return ""
		}
		if c.state == chunkStart {
			return "a chunk does not start with its size"
		}
		return c.afterSize(b)
	case chunkPad:
		return c.afterSize(b)
	case chunkExt:
		switch b {
		case '\r':
			c.state = chunkSizeLF
		case '\n':
			return c.bareLF(c.sizeEnd)
		}
	case chunkSizeLF:
		if b != '\n' {
			return "a CR in the head of a chunk does not end it"
		}
		c.sizeEnd()
	case chunkDataCR:
		switch b {
		case '\r':
			c.state = chunkDataLF
		case '\n':
			return c.bareLF(c.nextChunk)
		default:
			return "the data of a chunk is longer than its size"
		}
	case chunkDataLF:
		if b != '\n' {
			return "a CR after the data of a chunk does not end the line"
		}
		c.nextChunk()
	}
	return ""
}

// afterSize takes what may follow the digits of a size. Some servers pad it
// with spaces.
func (c *chunkScanner) afterSize(b byte) string {
	switch b {
	case ' ', '\t':
		c.notes |= NoteOddChunk
		c.state = chunkPad
	case ';':
		c.state = chunkExt
	case '\r':
		c.state = chunkSizeLF
	case '\n':
		return c.bareLF(c.sizeEnd)
	default:
		return "the size of a chunk is no hexadecimal number"
	}
	return ""
}

// bareLF ends a line by LF alone, if that is allowed.
func (c *chunkScanner) bareLF(end func()) string {
	if !c.loose {
		return "LF without CR ends a line of the chunked body"
	}
	c.notes |= NoteLooseChunk
	end()
	return ""
}

// sizeEnd follows the head of a chunk. The last one has size 0.
func (c *chunkScanner) sizeEnd() {
	c.line = 0
	if c.state = chunkData; c.size == 0 {
		c.state = chunkTrailer
	}
}

func (c *chunkScanner) nextChunk() { c.state, c.line, c.size = chunkStart, 0, 0 }

// trailerByte takes a byte after the last chunk's head (RFC 9112 §7.1.2): lines
// of any sort up to an empty one.
func (c *chunkScanner) trailerByte(b byte) (reason string) {
	if c.line++; c.line > MaxTrailers {
		return "the trailer section is too long"
	}
	switch {
	case c.state == chunkLastLF && b != '\n', c.state == chunkLineLF && b != '\n' && !c.loose:
		return "a CR in the trailer section does not end a line"
	case b == '\n' && c.state == chunkLastLF:
		c.state = chunkDone
	case b == '\n' && c.state == chunkLineLF:
		c.state = chunkTrailer
	case b == '\n' && c.state == chunkTrailer:
		return c.bareLF(func() { c.state = chunkDone })
	case b == '\n':
		return c.bareLF(func() { c.state = chunkTrailer })
	case b == '\r' && c.state == chunkTrailer:
		c.state = chunkLastLF
	case b == '\r':
		c.state = chunkLineLF
	default:
		c.state = chunkLine
	}
	return ""
}

func hexDigit(b byte) int {
	switch {
	case '0' <= b && b <= '9':
		return int(b - '0')
	case 'a' <= b|0x20 && b|0x20 <= 'f':
		return int(b|0x20-'a') + 10
	}
	return -1
}

// AppendChunk appends payload as one chunk; an empty one appends nothing,
// since it would end the body.
func AppendChunk(dst, payload []byte) []byte {
	if len(payload) == 0 {
		return dst
	}
	dst = append(strconv.AppendInt(dst, int64(len(payload)), 16), "\r\n"...)
	return append(append(dst, payload...), "\r\n"...)
}

// AppendLastChunk appends the end of a chunked body. trailers are field lines
// with their line ends, without an empty one; nil for none.
func AppendLastChunk(dst, trailers []byte) []byte {
	return append(append(append(dst, "0\r\n"...), trailers...), "\r\n"...)
}

// DecodeChunked decodes a kept chunked body, loosely (see Framing.LooseChunks).
// trailers are the lines after the last chunk, without the empty one that ends
// them. With an error comes what was good before it: ErrTooLarge for a payload
// of more than limit bytes (DefaultDecode if that is not positive),
// io.ErrUnexpectedEOF, or *ParseError, also for bytes behind the end.
func DecodeChunked(raw []byte, limit int) (payload, trailers []byte, err error) {
	if limit <= 0 {
		limit = DefaultDecode
	}
	p := Payload(BytesBody(Framing{Kind: Chunked, LooseChunks: true}, raw))
	for err == nil {
		var piece []byte
		piece, err = p.Next()
		if len(piece) > limit-len(payload) {
			return append(payload, piece[:limit-len(payload)]...), nil, ErrTooLarge
		}
		payload = append(payload, piece...)
	}
	if err == io.EOF {
		err = nil
		if len(p.raw) > 0 {
			err = &ParseError{p.chunks.offset, "bytes behind the end of the chunked body", 400}
		}
	}
	return payload, p.Trailers(), err
}

// Trailers are the fields behind a kept body that is complete: raw is all of it,
// as it stood on the wire. nil: there are none, or they cannot be read.
func Trailers(f Framing, raw []byte) *Head {
	if f.Kind != Chunked {
		return f.Trailers
	}
	_, lines, err := DecodeChunked(raw, len(raw))
	if err != nil || len(lines) == 0 {
		return nil
	}
	r, err := ParseResponse(slices.Concat([]byte("HTTP/1.1 200 OK\r\n"), lines, []byte("\r\n")))
	if err != nil {
		return nil // what cannot be read is no field
	}
	return &r.Head
}

// A PayloadBody yields what a body carries, without chunk framing.
type PayloadBody struct {
	body     Body
	chunks   chunkScanner
	chunked  bool
	raw      []byte // of the last piece, not scanned yet
	end      error  // came with it
	trailers []byte
}

// Payload is a view of b without its chunk framing; of any other framing it
// passes the pieces on. Reading it reads b.
func Payload(b Body) *PayloadBody {
	f := b.Framing()
	return &PayloadBody{body: b, chunked: f.Kind == Chunked, chunks: chunkScanner{loose: f.LooseChunks}}
}

// Framing is that of the body underneath.
func (p *PayloadBody) Framing() Framing { return p.body.Framing() }

// Close closes the body underneath.
func (p *PayloadBody) Close() error { return p.body.Close() }

// Trailers are the lines of the trailer section, with their line ends and
// without the empty line behind them. They are complete once Next returned
// io.EOF.
func (p *PayloadBody) Trailers() []byte {
	if p.chunks.state != chunkDone {
		return nil
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(p.trailers, []byte("\n")), []byte("\r"))
}

// Next is the next piece of payload, with the errors of [Body].
func (p *PayloadBody) Next() ([]byte, error) {
	if !p.chunked {
		return p.body.Next()
	}
	for {
		piece, err := p.scan()
		if err != nil {
			return piece, err
		}
		if piece != nil {
			// The end may stand right behind: it comes with this piece.
			if err := p.frames(); err != nil {
				return piece, err
			}
			if len(p.raw) == 0 && p.end != nil {
				return piece, p.finish()
			}
			return piece, nil
		}
		if p.end != nil {
			return nil, p.finish()
		}
		p.raw, p.end = p.body.Next()
	}
}

// finish is what the end of the body underneath means.
func (p *PayloadBody) finish() error {
	if p.end == io.EOF {
		return io.ErrUnexpectedEOF // chunkDone was told by frames
	}
	err := p.end
	p.end = nil // the body underneath may recover from it
	return err
}

// scan returns the next data of the current piece, nil when there is none.
func (p *PayloadBody) scan() ([]byte, error) {
	if err := p.frames(); err != nil || len(p.raw) == 0 {
		return nil, err
	}
	n, err := p.chunks.run(p.raw)
	piece := p.raw[:n:n]
	p.raw = p.raw[n:]
	return piece, err
}

// frames takes framing up to the next data. It returns io.EOF behind the end
// of the body.
func (p *PayloadBody) frames() error {
	for len(p.raw) > 0 && p.chunks.state != chunkData {
		if p.chunks.state == chunkDone {
			return io.EOF
		}
		trailers := p.chunks.state >= chunkTrailer
		n, err := p.chunks.run(p.raw)
		if trailers {
			p.trailers = append(p.trailers, p.raw[:n]...)
		}
		p.raw = p.raw[n:]
		if err != nil {
			return err
		}
	}
	if p.chunks.state == chunkDone {
		return io.EOF
	}
	return nil
}
