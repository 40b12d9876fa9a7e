package wire

import (
	"errors"
	"io"
	"sync"
)

// pageSize is the buffer of a reader: as much as a TLS record carries.
const pageSize = 16 << 10

// maxEmptyReads bounds how often a source may return neither bytes nor error.
const maxEmptyReads = 100

type page [pageSize]byte

// pages lets buffers outlive readers. It is a cache: nothing can be observed
// through it.
var pages = sync.Pool{New: func() any { return new(page) }}

// The sizes that a buffer grows to for a long head.
const (
	grown0 = 2 * pageSize
	grown1 = 4 * pageSize // LargeHead
	grown2 = 16 * pageSize
	grown3 = 65 * pageSize // DefaultHead and a page; beyond it nothing is kept
)

// grown are buffers of these sizes, kept as pages are.
var grown = [...]sync.Pool{{New: sized(grown0)}, {New: sized(grown1)}, {New: sized(grown2)}, {New: sized(grown3)}}

func sized(n int) func() any {
	return func() any {
		b := make([]byte, n)
		return &b
	}
}

// grow returns a buffer of at least n bytes.
func grow(n int) []byte {
	for i, size := range [...]int{grown0, grown1, grown2, grown3} {
		if n <= size {
			return *grown[i].Get().(*[]byte)
		}
	}
	return make([]byte, n)
}

// ungrow gives a buffer back that grow made, and that nobody looks at any more.
func ungrow(b []byte) {
	b = b[:cap(b)]
	for i, size := range [...]int{grown0, grown1, grown2, grown3} {
		if len(b) == size {
			grown[i].Put(&b)
		}
	}
}

// ErrUnread is returned when a head is asked for while the body before it has
// not been read to its end.
var ErrUnread = errors.New("wire: the body before has not been read to its end")

// A Reader reads HTTP/1 messages from one direction of a connection, one after
// the other: ReadRequest or ReadResponse, framing, [Reader.Body] until io.EOF,
// and again. Bytes beyond a message stay for the next. It buffers 16 KiB, while
// it reads a longer head up to Limits.Head.
type Reader struct {
	src    io.Reader
	limits Limits
	page   *page        // what buf stands on, nil when it has grown
	buf    []byte       // nil when idle
	rd, wr int          // buf[rd:wr] has been read and not been taken
	err    error        // came together with the last bytes
	lazy   bool         // wait for the first byte without a buffer
	large  func() error // see OnLarge
	first  [1]byte
	// Two bodies by turns: closing the last one late does not close this one.
	bodies [2]connBody
	body   int // the index of the current one
}

// NewReader reads from src, which is asked with buffers of up to 16 KiB.
func NewReader(src io.Reader, l Limits) *Reader {
	return &Reader{src: src, limits: l.orDefault()}
}

// Reset makes r ready for another connection under the same limits.
func (r *Reader) Reset(src io.Reader) {
	r.Release()
	*r = Reader{src: src, limits: r.limits, large: r.large}
}

// OnLarge has fn called within ReadRequest and ReadResponse before a head takes
// more than [LargeHead]; its error ends the reading and is returned. It may wait,
// and may be called several times for one head.
func (r *Reader) OnLarge(fn func() error) { r.large = fn }

// ReadRequest reads the next head into into, whose memory it reuses. Up to 16
// empty lines before the request line are dropped (RFC 9112 §2.2); they are not
// part of the head, but noted.
//
// It returns io.EOF when the source ended before the first byte of a head,
// io.ErrUnexpectedEOF within one, *ParseError for what cannot be a request or
// exceeds the limits, ErrUnread, or the error of the source. After an error of
// the source, such as a deadline, it may be called again and loses nothing.
func (r *Reader) ReadRequest(into *Request) error { return r.readHead(&into.Head, false) }

// ReadResponse is ReadRequest for responses, interim ones (1xx) included.
// Empty lines before the status line are refused.
func (r *Reader) ReadResponse(into *Response) error { return r.readHead(&into.Head, true) }

func (r *Reader) readHead(h *Head, response bool) error {
	if !r.Between() {
		return ErrUnread
	}
	r.shrink()
	h.Reset(HTTP1)
	p := headParser{head: h, limits: r.limits, response: response}
	empty := 0
	for {
		cut := false
		if !response && p.pos == 0 && p.scanned == 0 {
			var n, lines int
			n, lines, cut = skipEmptyLines(r.buf[r.rd:r.wr])
			r.rd += n
			if empty += lines; empty > maxEmptyLines {
				return &ParseError{Reason: "too many empty lines before the request line", Status: 400}
			}
		}
		if r.rd < r.wr && !cut {
			done, err := p.feed(r.buf[r.rd:r.wr])
			if err != nil {
				return err
			}
			if done {
				r.rd += p.pos
				if empty > 0 {
					h.odd |= NoteEmptyLines
				}
				r.shrink() // h has a copy
				return nil
			}
		}
		if err := r.fill(); err != nil {
			if r.rd < r.wr {
				return errShort(err)
			}
			return err
		}
	}
}

// Body is the body of the message whose head was read last, as framed by f. It
// is valid until the body after the next one is asked for, its pieces until the
// next call of any method of it or of r. It does not allocate.
func (r *Reader) Body(f Framing) Body {
	if !r.Between() {
		return &errorBody{f, ErrUnread}
	}
	r.body ^= 1
	b := &r.bodies[r.body]
	*b = connBody{r: r, framing: f, left: f.Length, open: f.Kind != None && !(f.Kind == Length && f.Length <= 0)}
	b.chunks.loose = f.LooseChunks
	return b
}

// Between tells whether the last body was read to its end, so that the next
// message may follow. Only such a connection can be used again. It does not
// know of a body that was never asked for.
func (r *Reader) Between() bool { return !r.bodies[r.body].open }

// Buffered is how many bytes were read from the source and not taken yet.
func (r *Reader) Buffered() int { return r.wr - r.rd }

// Peek returns the next n bytes without taking them, at most 16 KiB. With
// fewer comes the reason.
func (r *Reader) Peek(n int) ([]byte, error) {
	for r.Buffered() < n {
		if r.Buffered() >= pageSize {
			return r.buf[r.rd:r.wr], io.ErrShortBuffer
		}
		if err := r.fill(); err != nil {
			return r.buf[r.rd:r.wr], err
		}
	}
	return r.buf[r.rd : r.rd+n], nil
}

// Read takes bytes past all framing, buffered ones first: for a tunnel that
// the connection has become.
func (r *Reader) Read(p []byte) (int, error) {
	if r.rd < r.wr {
		n := copy(p, r.buf[r.rd:r.wr])
		if r.rd += n; r.rd == r.wr {
			r.drop() // a tunnel has buffers of its own
		}
		return n, nil
	}
	if err := r.err; err != nil {
		r.err = nil
		return 0, err
	}
	return r.src.Read(p)
}

// Idle gives the buffer back when nothing is in it and no body is under way.
// The next read waits for one byte in r itself before it takes a buffer again.
// That byte costs a read of its own: on TLS a copy, on plain TCP a system call.
func (r *Reader) Idle() {
	if r.rd == r.wr && r.Between() {
		r.drop()
		r.lazy = true
	}
}

// Release gives the buffer back with whatever is in it, when the connection is
// over. Pieces and peeked bytes are not valid any more.
func (r *Reader) Release() { r.drop() }

func (r *Reader) drop() {
	if r.page != nil {
		pages.Put(r.page)
	} else if r.buf != nil {
		ungrow(r.buf)
	}
	r.page, r.buf, r.rd, r.wr = nil, nil, 0, 0
}

func (r *Reader) take() {
	r.page = pages.Get().(*page)
	r.buf = r.page[:]
	r.rd, r.wr, r.lazy = 0, 0, false
}

// shrink returns to a pooled buffer after a long head, or to one that holds no
// more than what was sent ahead.
func (r *Reader) shrink() {
	if r.buf == nil || r.page != nil {
		return
	}
	rest := r.buf[r.rd:r.wr]
	if len(rest) > pageSize {
		if len(rest) <= LargeHead && len(r.buf) > LargeHead {
			less := grow(LargeHead)
			n := copy(less, rest)
			r.drop()
			r.buf, r.wr = less, n
		}
		return
	}
	large := r.buf
	r.take()
	r.wr = copy(r.buf, rest)
	ungrow(large)
}

// IsLarge tells whether r still holds more than [LargeHead]: a client sent
// further requests behind a long head.
func (r *Reader) IsLarge() bool { return len(r.buf) > LargeHead }

// fill reads once from the source, into a whole buffer if that is empty.
func (r *Reader) fill() error {
	if err := r.err; err != nil {
		r.err = nil
		return err
	}
	if r.buf == nil && r.lazy {
		if _, err := r.read(r.first[:]); err != nil {
			return err
		}
		r.take()
		r.buf[0], r.wr = r.first[0], 1
		return nil
	}
	if err := r.room(); err != nil {
		return err
	}
	n, err := r.read(r.buf[r.wr:])
	r.wr += n
	return err
}

// room makes space for at least a quarter of the buffer.
func (r *Reader) room() error {
	switch {
	case r.buf == nil:
		r.take()
	case r.rd == r.wr:
		r.rd, r.wr = 0, 0
	case r.rd > 0 && len(r.buf)-r.wr < len(r.buf)/4:
		r.wr = copy(r.buf, r.buf[r.rd:r.wr])
		r.rd = 0
	}
	if r.wr < len(r.buf) {
		return nil
	}
	// A long head; the parser refuses it at its limit.
	if len(r.buf) >= LargeHead && r.large != nil {
		if err := r.large(); err != nil {
			return err
		}
	}
	more := grow(2 * len(r.buf))
	if most := r.limits.Head + pageSize; len(r.buf) < most {
		more = more[:min(len(more), most)]
	}
	n := copy(more, r.buf[r.rd:r.wr])
	r.drop()
	r.buf, r.wr = more, n
	return nil
}

// read returns at least one byte or an error; one that comes with bytes is
// kept for later.
func (r *Reader) read(p []byte) (int, error) {
	for range maxEmptyReads {
		n, err := r.src.Read(p)
		if n > 0 {
			r.err = err
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}
