package ws

import (
	"errors"
	"unicode/utf8"
)

// Limits bound what a [Decoder] holds and does. Zero is the default that
// stands beside each.
type Limits struct {
	Message    int   // bytes kept of a message; 1 MiB
	Compressed int   // bytes of a compressed message that are kept for inflating it; 1 MiB
	Inflated   int64 // bytes that a message is inflated to, kept or not; 16 MiB
}

func (l Limits) orDefault() Limits {
	if l.Message <= 0 {
		l.Message = 1 << 20
	}
	if l.Compressed <= 0 {
		l.Compressed = 1 << 20
	}
	if l.Inflated <= 0 {
		l.Inflated = 16 << 20
	}
	return l
}

// maxStrange is how many frames may break the protocol in ways that no endpoint
// tolerates before the stream is held to be no WebSocket.
const maxStrange = 64

// keptSpare is up to which size a message's memory is used for the next one.
const keptSpare = 64 << 10

// ErrStrange ends decoding where too much is no WebSocket.
var ErrStrange = errors.New("ws: too many frames break the protocol: this is probably no WebSocket")

// A Config says what a [Decoder] decodes.
type Config struct {
	FromClient bool     // the direction, for the rules about masks
	Deflate    *Deflate // permessage-deflate of this direction; nil when it was not agreed on
	// Payloads wants messages. Without it only heads and close frames are
	// looked at, which costs next to nothing.
	Payloads bool
	Limits   Limits
}

// A Message is what one side said: a data message put together of its
// fragments, or a control frame.
type Message struct {
	// Opcode is that of the first frame: OpContinuation for a fragment that
	// continues nothing.
	Opcode Opcode
	// Data is unmasked and inflated, and cut at Limits.Message. It is valid
	// until the next call of the Decoder.
	Data       []byte
	Size       int64 // of the whole, inflated where Data is; in bytes
	Wire       int64 // of its frames on the wire, heads included; in bytes
	Frames     int
	Compressed bool // the wire had it compressed; Data is not, unless NoteInflate or NoteTooLarge says so
	Notes      Notes
}

// Cut reports whether Data is only the beginning.
func (m *Message) Cut() bool { return int64(len(m.Data)) < m.Size }

// A Decoder makes messages of one direction of a stream: Feed with what was
// received, then Next until it has no more. What Feed does is bounded by the
// size of its argument; inflating, which may take longer, is left to Next.
type Decoder struct {
	cfg      Config
	scan     Scanner
	inflater *inflater

	data    draft // the data message under way
	open    bool  // there is one
	control draft
	current *draft // of the frame under way

	queue   []draft
	next    int
	spare   []byte
	message Message

	messages  int64
	strangers int
	notes     Notes
	err       error

	closed bool
	code   int
	reason []byte
}

// draft is a message under way: its payload unmasked and not inflated, up to
// a limit.
type draft struct {
	Message
	buf  []byte
	size int64 // of the payload, kept or not
}

// NewDecoder makes a decoder of one direction.
func NewDecoder(cfg Config) *Decoder {
	cfg.Limits = cfg.Limits.orDefault()
	d := &Decoder{cfg: cfg}
	if cfg.Deflate != nil && cfg.Payloads {
		d.inflater = newInflater(*cfg.Deflate)
	}
	return d
}

// Feed takes what was received next. It keeps no part of p.
func (d *Decoder) Feed(p []byte) {
	for len(p) > 0 && d.err == nil {
		var piece Piece
		piece, p = d.scan.Next(p)
		if piece.Header == nil {
			d.err = d.scan.Err()
			return
		}
		if piece.First {
			if d.begin(piece.Header); d.err != nil {
				return // whether or not the rest of the frame has come
			}
		}
		d.add(&piece)
		if piece.Last {
			d.end(piece.Header)
		}
	}
}

// begin settles what message a frame belongs to, and what is odd about it.
func (d *Decoder) begin(h *Header) {
	odd := d.oddities(h)
	switch {
	case h.Opcode.IsControl():
		d.control = draft{Message: Message{Opcode: h.Opcode}, buf: d.memory()}
		d.current = &d.control
	case !d.cfg.Payloads:
		odd |= d.count(h)
		d.current = nil
	default:
		if h.Opcode != OpContinuation && d.open {
			d.data.Notes |= NoteInterrupted
			odd |= NoteInterrupted
			d.push(&d.data)
			d.open = false
		}
		if !d.open {
			d.data = draft{Message: Message{Opcode: h.Opcode, Compressed: d.compressed(h)}, buf: d.memory()}
			if d.open = true; h.Opcode == OpContinuation {
				odd |= NoteContinuation
			}
		}
		d.current = &d.data
	}
	if t := d.current; t != nil {
		t.Notes |= odd &^ NoteInterrupted
		t.Frames++
		t.Wire += int64(h.Size())
	}
	d.notes |= odd
	if odd&strange != 0 {
		if d.strangers++; d.strangers > maxStrange {
			d.err = ErrStrange
		}
	}
}

// count is what is done about a data frame whose payload nobody wants.
func (d *Decoder) count(h *Header) (odd Notes) {
	switch {
	case h.Opcode == OpContinuation && !d.open:
		odd = NoteContinuation
	case h.Opcode != OpContinuation && d.open:
		odd = NoteInterrupted
		d.messages++
	}
	d.open = true
	return odd
}

// compressed reports whether a message with this first frame is.
func (d *Decoder) compressed(h *Header) bool {
	return d.cfg.Deflate != nil && h.Rsv&Rsv1 != 0 && !h.Opcode.IsControl() && h.Opcode != OpContinuation
}

func (d *Decoder) oddities(h *Header) (odd Notes) {
	switch {
	case d.cfg.FromClient && !h.Masked:
		odd |= NoteUnmasked
	case !d.cfg.FromClient && h.Masked:
		odd |= NoteMasked
	}
	reserved := h.Rsv
	if d.compressed(h) {
		reserved &^= Rsv1
	}
	if reserved != 0 {
		odd |= NoteReservedBits
	}
	if h.Opcode.IsReserved() {
		odd |= NoteReservedOpcode
	}
	if !h.IsMinimal() {
		odd |= NoteLongForm
	}
	if h.Opcode.IsControl() {
		if !h.Fin {
			odd |= NoteControlSplit
		}
		if h.Length > MaxControl {
			odd |= NoteControlLong
		}
	}
	if d.closed {
		odd |= NoteAfterClose
	}
	return odd
}

// add keeps a copy of a payload as far as somebody wants it.
func (d *Decoder) add(p *Piece) {
	t := d.current
	if t == nil {
		return
	}
	n := len(p.Payload)
	t.size += int64(n)
	t.Wire += int64(n)
	limit := 0
	switch {
	case !d.cfg.Payloads && t.Opcode == OpClose:
		limit = MaxControl
	case !d.cfg.Payloads:
	case t.Compressed:
		limit = d.cfg.Limits.Compressed
	default:
		limit = d.cfg.Limits.Message
	}
	if n = min(n, limit-len(t.buf)); n <= 0 {
		return
	}
	from := len(t.buf)
	t.buf = append(t.buf, p.Payload[:n]...)
	if p.Header.Masked {
		Mask(t.buf[from:], p.Header.Mask, p.Offset)
	}
}

// end settles a frame that is complete.
func (d *Decoder) end(h *Header) {
	if !h.Opcode.IsControl() {
		if !h.Fin {
			return
		}
		if d.open = false; d.cfg.Payloads {
			d.push(&d.data)
		} else {
			d.messages++
		}
		return
	}
	if h.Opcode == OpClose {
		code, reason, ok := ParseClose(d.control.buf)
		if !ok {
			d.control.Notes |= NoteCloseCode
		}
		if !utf8.Valid(reason) && int64(len(d.control.buf)) == d.control.size {
			d.control.Notes |= NoteUTF8
		}
		if !d.closed {
			d.closed, d.code, d.reason = true, code, append([]byte(nil), reason...)
		}
	}
	d.push(&d.control)
}

// push hands a message over to Next.
func (d *Decoder) push(t *draft) {
	d.notes |= t.Notes
	if !t.Opcode.IsControl() {
		d.messages++
	}
	if d.cfg.Payloads {
		d.queue = append(d.queue, *t)
	} else {
		d.free(t.buf)
	}
	t.buf = nil
}

func (d *Decoder) memory() []byte {
	b := d.spare
	d.spare = nil
	return b[:0]
}

func (d *Decoder) free(b []byte) {
	if cap(b) <= keptSpare && cap(b) > cap(d.spare) {
		d.spare = b
	}
}

// Next returns the next message that is complete; nil when there is none
// before further bytes come. It is valid until the next call of the Decoder.
func (d *Decoder) Next() *Message {
	if d.message.Data != nil {
		d.free(d.message.Data)
		d.message.Data = nil
	}
	if d.next == len(d.queue) {
		clear(d.queue)
		d.queue, d.next = d.queue[:0], 0
		return nil
	}
	t := &d.queue[d.next]
	d.next++
	m := &d.message
	*m = t.Message
	m.Data, m.Size = t.buf, t.size
	if m.Compressed {
		d.inflate(m)
		m.Data = m.Data[:min(len(m.Data), d.cfg.Limits.Message)]
	}
	if m.Opcode == OpText && (!m.Compressed || m.Notes&(NoteInflate|NoteTooLarge) == 0) && !isText(m.Data, m.Cut() || m.Notes&(NoteInterrupted|NoteCut) != 0) {
		m.Notes |= NoteUTF8
	}
	d.notes |= m.Notes
	return m
}

func (d *Decoder) inflate(m *Message) {
	if m.Cut() { // more than Limits.Compressed
		d.inflater.lose()
		m.Notes |= NoteTooLarge
		return
	}
	limits := &d.cfg.Limits
	data, size, err := d.inflater.inflate(m.Data, d.memory(), limits.Message, limits.Inflated)
	switch err {
	case nil:
		d.free(m.Data)
		m.Data, m.Size = data, size
	case errInflated:
		m.Notes |= NoteTooLarge
	default:
		m.Notes |= NoteInflate
	}
}

// isText reports whether b is UTF-8, or may be the beginning of such a text.
func isText(b []byte, begun bool) bool {
	for i := 0; begun && i < utf8.UTFMax-1 && i < len(b); i++ {
		if tail := b[len(b)-1-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				b = b[:len(b)-1-i]
			}
			break
		}
	}
	return utf8.Valid(b)
}

// End says that the stream has ended. Next may have a last message then, which
// is not complete.
func (d *Decoder) End() {
	if d.err != nil {
		return
	}
	if !d.scan.Between() || d.open {
		d.notes |= NoteCut
	}
	if !d.open {
		return
	}
	if d.open = false; d.cfg.Payloads {
		d.data.Notes |= NoteCut
		d.push(&d.data)
	} else {
		d.messages++
	}
}

// Closed returns the code and the reason of the first close frame; ok is false
// while there was none.
func (d *Decoder) Closed() (code int, reason []byte, ok bool) { return d.code, d.reason, d.closed }

// Messages is how many data messages were complete so far.
func (d *Decoder) Messages() int64 { return d.messages }

// Notes are what was odd so far.
func (d *Decoder) Notes() Notes { return d.notes }

// Err is why decoding has ended before the stream: ErrLength or ErrStrange.
func (d *Decoder) Err() error { return d.err }
