package h2

import (
	"bytes"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/holdfast-proxy/holdfast/wire"
)

// block is a header block that is being read.
type block struct {
	open      bool // END_HEADERS has not come
	id        uint32
	end       bool // END_STREAM
	dependent bool // the stream was said to depend on itself
	frames    int
	raw       []byte // what came so far, when it came in several frames
	size      int    // decoded, as RFC 9113 §6.5.2 counts
	large     bool   // beyond the limits: not kept, but decoded for the table's sake
	slot      bool   // one of Limits.Large is taken for it
	crowded   bool   // none was free: not kept either
}

// takeSlot makes sure that the block may be a large one.
func (c *Conn) takeSlot() bool {
	b := &c.block
	b.slot = b.slot || c.limits.Large.Take()
	return b.slot
}

// giveSlot gives the block's slot back, unless a stream has it.
func (c *Conn) giveSlot() {
	if c.block.slot {
		c.block.slot = false
		c.limits.Large.Give()
	}
}

// ownSlot hands the block's slot to the stream that keeps the head. c.mu is held.
func (s *Stream) ownSlot() {
	if b := &s.c.block; b.slot {
		b.slot = false
		s.slots++
	}
}

func (c *Conn) onHeaders(f *http2.HeadersFrame) error {
	b := &c.block
	*b = block{id: f.StreamID, end: f.StreamEnded(), raw: b.raw[:0],
		dependent: f.HasPriority() && f.Priority.StreamDep == f.StreamID}
	if f.HeadersEnded() {
		return c.decode(f.HeaderBlockFragment())
	}
	b.open = true
	return c.fragment(f.HeaderBlockFragment())
}

func (c *Conn) onContinuation(f *http2.ContinuationFrame) error {
	b := &c.block
	if !b.open {
		return connErr(ProtocolError, "CONTINUATION without HEADERS")
	}
	if b.frames++; b.frames > c.limits.Continuations {
		return connErr(EnhanceYourCalm, "more than %d CONTINUATION frames", c.limits.Continuations)
	}
	if err := c.fragment(f.HeaderBlockFragment()); err != nil || !f.HeadersEnded() {
		return err
	}
	b.open = false
	raw := b.raw
	err := c.decode(raw)
	if cap(b.raw) > frameSize {
		b.raw = nil
	}
	return err
}

func (c *Conn) fragment(p []byte) error {
	b := &c.block
	if len(b.raw)+len(p) > c.limits.Message.Head {
		return connErr(EnhanceYourCalm, "a header block of more than %d bytes", c.limits.Message.Head)
	}
	if len(b.raw)+len(p) > wire.LargeHead && !c.takeSlot() {
		// Only what was decoded can be left away, and decoding takes all of it.
		return connErr(EnhanceYourCalm, "too many large header blocks at once")
	}
	b.raw = append(b.raw, p...)
	return nil
}

// decode takes a whole block apart and hands the head on.
func (c *Conn) decode(raw []byte) error {
	defer c.giveSlot()
	c.scratch.Reset(wire.HTTP2)
	c.decoder.SetEmitEnabled(true)
	if lateSizeUpdate(raw) {
		return connErr(Compression, "a table size update behind a field") // RFC 7541 §4.2
	}
	if _, err := c.decoder.Write(raw); err != nil {
		return connErr(Compression, "%v", err)
	}
	if err := c.decoder.Close(); err != nil {
		return connErr(Compression, "%v", err)
	}
	onHead := c.onRequest
	if c.cfg.Client {
		onHead = c.onResponse
	}
	err := onHead()
	if c.block.size > wire.LargeHead {
		c.scratch = wire.Head{} // its memory is too much to be kept
	}
	return err
}

// decoded takes one field from the decoder.
func (c *Conn) decoded(f hpack.HeaderField) {
	b := &c.block
	b.size += len(f.Name) + len(f.Value) + 32
	if b.size > c.limits.Message.Head || c.scratch.NumFields() >= c.limits.Message.Fields {
		b.large = true
		c.decoder.SetEmitEnabled(false)
		return
	}
	if b.size > wire.LargeHead && !c.takeSlot() {
		b.crowded = true
		c.decoder.SetEmitEnabled(false)
		return
	}
	var flags wire.FieldFlags
	if f.Sensitive {
		flags = wire.NeverIndex
	}
	c.scratch.AppendField([]byte(f.Name), []byte(f.Value), flags)
}

// lateSizeUpdate tells whether a table size update stands behind a field. The
// decoder sees that only while its table holds something.
func lateSizeUpdate(p []byte) bool {
	field := false
	for len(p) > 0 {
		var prefix uint
		strings := 0
		switch first := p[0]; {
		case first&0x80 != 0: // §6.1
			prefix = 7
		case first&0xc0 == 0x40: // §6.2.1
			prefix, strings = 6, 1
		case first&0xe0 == 0x20: // §6.3
			if field {
				return true
			}
			prefix = 5
		default: // §6.2.2, §6.2.3
			prefix, strings = 4, 1
		}
		if p[0]&0xe0 != 0x20 {
			field = true
		}
		n, rest, ok := integer(p, prefix)
		if !ok {
			return false // the decoder will say what is wrong
		}
		if p = rest; strings == 1 && n == 0 {
			strings = 2
		}
		for range strings {
			if len(p) == 0 {
				return false
			}
			n, rest, ok := integer(p, 7)
			if !ok || n > uint64(len(rest)) {
				return false
			}
			p = rest[n:]
		}
	}
	return false
}

// integer is RFC 7541 §5.1.
func integer(p []byte, prefix uint) (n uint64, rest []byte, ok bool) {
	mask := uint64(1)<<prefix - 1
	n = uint64(p[0]) & mask
	p = p[1:]
	if n < mask {
		return n, p, true
	}
	for shift := uint(0); len(p) > 0 && shift < 35; shift += 7 {
		b := p[0]
		p = p[1:]
		n += uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			return n, p, true
		}
	}
	return 0, nil, false
}

// onRequest is a server's header block: a request, or its trailers.
func (c *Conn) onRequest() error {
	c.mu.Lock()
	b := &c.block
	s := c.streams[b.id]
	if s != nil {
		defer c.mu.Unlock()
		return c.onTrailers(s)
	}
	switch {
	case b.id%2 == 0:
		defer c.mu.Unlock()
		return connErr(ProtocolError, "a client's stream with the even number %d", b.id)
	case b.id <= c.last:
		defer c.mu.Unlock()
		if c.wasReset(b.id) {
			return c.nuisanceLocked()
		}
		return connErr(StreamClosed, "HEADERS on closed stream %d", b.id)
	case c.shutdown == leaving:
		defer c.mu.Unlock()
		return c.nuisanceLocked() // §6.8: ignored, the client knows that
	}
	c.last = b.id
	if len(c.streams) >= c.limits.Streams || c.busy >= c.limits.Streams {
		defer c.mu.Unlock()
		return c.refuse(b.id, RefusedStream, "more streams than allowed")
	}
	s = c.newStream(b.id)
	if b.dependent {
		defer c.mu.Unlock()
		return c.spoil(s, ProtocolError, "the stream depends on itself")
	}
	s.request = wire.Request{Head: *cloneHead(&c.scratch)}
	if s.connect = isConnect(&c.scratch); s.connect {
		s.declared = -1 // what follows is no content: RFC 9110 §9.3.6
	} else {
		s.declared = contentLength(&c.scratch)
	}
	s.tooLarge, s.crowded = b.large, b.crowded
	if reason := c.malformedRequest(); reason != "" && !b.large && !b.crowded {
		defer c.mu.Unlock()
		return c.spoil(s, ProtocolError, reason)
	}
	s.ownSlot()
	s.headSeen = true
	if b.end {
		s.receivedEnd()
	}
	c.busy++
	c.mu.Unlock()
	c.cfg.Accept(s)
	return nil
}

// tooCrowded is why a large head is not kept.
const tooCrowded = "too many heads of more than 64 KiB are held at the moment"

func cloneHead(h *wire.Head) *wire.Head { return &(&wire.Request{Head: *h}).Clone().Head }

func (c *Conn) malformedRequest() string {
	if c.cfg.Policy != wire.Strict {
		return ""
	}
	if c.block.end {
		if n := contentLength(&c.scratch); n > 0 {
			return "the body contradicts its Content-Length"
		}
	}
	return malformedRequest(&c.scratch, c.cfg.Connect)
}

// onTrailers is a second block on a stream of ours or of the peer's. c.mu is
// held.
func (c *Conn) onTrailers(s *Stream) error {
	b := &c.block
	switch {
	case s.recvEnd:
		return c.spoil(s, StreamClosed, "HEADERS behind END_STREAM")
	case b.dependent:
		return c.spoil(s, ProtocolError, "the stream depends on itself")
	case !b.end:
		return c.spoil(s, ProtocolError, "a second head") // §8.1
	case b.large:
		return c.spoil(s, EnhanceYourCalm, "the trailers are too large")
	case b.crowded:
		return c.spoil(s, EnhanceYourCalm, tooCrowded)
	}
	if c.cfg.Policy == wire.Strict {
		if s.connect {
			return c.spoil(s, ProtocolError, "HEADERS inside a tunnel") // §8.5
		}
		if reason := malformedTrailers(&c.scratch); reason != "" {
			return c.spoil(s, ProtocolError, reason)
		}
		if s.declared >= 0 && s.got != s.declared {
			return c.spoil(s, ProtocolError, "the body contradicts its Content-Length")
		}
	}
	s.ownSlot()
	s.trailers = *cloneHead(&c.scratch)
	s.receivedEnd()
	s.wake()
	return nil
}

// onResponse is a client's header block: an interim or final answer, or its
// trailers.
func (c *Conn) onResponse() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.block
	s := c.streams[b.id]
	switch {
	case s == nil && c.idle(b.id):
		return connErr(ProtocolError, "HEADERS on idle stream %d", b.id)
	case s == nil && c.wasReset(b.id):
		return c.nuisanceLocked()
	case s == nil:
		return connErr(StreamClosed, "HEADERS on closed stream %d", b.id)
	case s.headSeen || s.recvEnd:
		return c.onTrailers(s)
	case b.large:
		return c.spoil(s, EnhanceYourCalm, "the head of the answer is too large")
	case b.crowded:
		return c.spoil(s, EnhanceYourCalm, tooCrowded)
	case b.dependent:
		return c.spoil(s, ProtocolError, "the stream depends on itself")
	}
	r := &wire.Response{Head: *cloneHead(&c.scratch)}
	status := r.Status()
	interim := status >= 100 && status <= 199
	if c.cfg.Policy == wire.Strict {
		if reason := malformedResponse(&r.Head, interim, b.end); reason != "" {
			return c.spoil(s, ProtocolError, reason)
		}
	}
	if interim && !b.end {
		if s.interims++; s.interims > c.limits.Interim {
			return c.spoil(s, EnhanceYourCalm, "too many interim answers")
		}
		s.ownSlot()
		s.heads = append(s.heads, r)
		s.wake()
		return nil
	}
	s.headSeen = true
	s.connect = s.connect && status/100 == 2 // else what follows is an answer's body
	if s.declared = contentLength(&r.Head); s.bodyless || status == 304 || s.connect {
		s.declared = -1 // it describes what GET would get, or nothing: RFC 9110 §8.6
	}
	if b.end && c.cfg.Policy == wire.Strict && s.declared > 0 {
		return c.spoil(s, ProtocolError, "the body contradicts its Content-Length")
	}
	s.ownSlot()
	s.heads = append(s.heads, r)
	if b.end {
		s.receivedEnd()
	}
	s.wake()
	return nil
}

// contentLength is the length that a message states, or -1. Several equal ones
// are one.
func contentLength(h *wire.Head) int64 {
	length := int64(-1)
	for i := range h.NumFields() {
		name, v := h.Field(i)
		if len(name) != len("content-length") || !bytes.EqualFold(name, []byte("content-length")) {
			continue
		}
		n, ok := number(v)
		if !ok || length >= 0 && n != length {
			return -1
		}
		length = n
	}
	return length
}

func number(v []byte) (int64, bool) {
	if len(v) == 0 || len(v) > 18 {
		return 0, false
	}
	n := int64(0)
	for _, ch := range v {
		if ch < '0' || ch > '9' {
			return 0, false
		}
		n = 10*n + int64(ch-'0')
	}
	return n, true
}
