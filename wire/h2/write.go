package h2

import (
	"runtime"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/holdfast-proxy/holdfast/wire"
)

// flush writes what is queued, unless somebody is writing already: he takes it
// along. c.mu is held, and released while writing.
func (c *Conn) flush() {
	if c.flushing || len(c.out) == 0 {
		return
	}
	if c.werr != nil {
		c.out = c.out[:0]
		return
	}
	c.flushing = true
	if len(c.streams) > 1 {
		// Others that can run may have something to send, too: one write, and
		// with TLS one record, is then enough for all.
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	for len(c.out) > 0 && c.werr == nil {
		p := c.out
		c.out, c.spare, c.writing = c.spare[:0], nil, 0
		c.mu.Unlock()
		_, err := c.w.Write(p)
		c.mu.Lock()
		if cap(p) <= 2*c.limits.Queue {
			c.spare = p[:0]
		}
		if err != nil {
			// The peer may have said why it left before it closed: that is
			// still to be read, and the reader ends the streams (see Look).
			c.werr, c.writing = err, 0
		}
		c.wakeBlocked()
	}
	c.flushing = false
	if c.parting {
		c.flushed.Broadcast()
	}
}

// Flush writes what is queued.
func (c *Conn) Flush() {
	c.mu.Lock()
	c.flush()
	c.mu.Unlock()
}

// wakeBlocked wakes those who wait for a window or for room. c.mu is held.
func (c *Conn) wakeBlocked() {
	if c.blocked == 0 {
		return
	}
	for _, s := range c.streams {
		if s.sender.waits != waitNothing {
			s.wake()
		}
	}
}

// Open sends a request's head, as it stands, on a new stream. end says that
// nothing follows it. Nothing is written before the next flush. ErrNoStream
// says that the connection has no room.
func (c *Conn) Open(h *wire.Head, end bool) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.open() || len(c.streams) >= int(min(c.peer.streams, 1<<20)) {
		return nil, ErrNoStream
	}
	s := c.newStream(c.next)
	c.next += 2
	c.busy++
	method, _ := h.Get(":method")
	s.bodyless, s.connect = string(method) == "HEAD", string(method) == "CONNECT"
	c.writeBlock(s, h, end)
	return s, nil
}

// WriteHead queues a head of the answer, and waits while the peer does not take
// what is queued; end says that nothing follows it. An interim one does not end.
func (s *Stream) WriteHead(h *wire.Head, end bool) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.sender.looks = 0
	for {
		if err := s.sendable(); err != nil {
			return err
		}
		if len(c.out) < c.limits.Queue {
			c.writeBlock(s, h, end)
			return nil
		}
		s.queue()
	}
}

// queue writes out what stands in the queue, or waits until somebody has or a
// window opens. c.mu is held.
func (s *Stream) queue() {
	c := s.c
	if len(c.out) > 0 && !c.flushing {
		c.flush()
		return
	}
	c.blocked++
	s.sender.waits = waitBody
	s.cond.Wait()
	s.sender.waits = waitNothing
	c.blocked--
}

// WriteTrailers queues the trailers and ends the stream.
func (s *Stream) WriteTrailers(h *wire.Head) error { return s.WriteHead(h, true) }

// sendable tells why nothing can be sent any more. c.mu is held.
func (s *Stream) sendable() error {
	switch {
	case s.err != nil:
		return s.err
	case s.sendEnd || s.gone:
		return ErrEnded
	}
	return nil
}

// Write sends a piece of the body, and waits where the peer's windows say so;
// end says that it is the last. What it could queue without waiting is not
// flushed yet.
func (s *Stream) Write(p []byte, end bool) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.sender.looks = 0
	for {
		if err := s.sendable(); err != nil {
			return err
		}
		n := min(int64(len(p)), s.sendWindow, c.sendWindow, frameSize)
		if len(c.out) >= c.limits.Queue || c.werr != nil {
			n = 0
		}
		if n > 0 || len(p) == 0 {
			if len(p) == 0 && !end {
				return nil
			}
			last := end && int(n) == len(p)
			c.writer.WriteData(s.id, last, p[:n])
			s.sendWindow -= n
			c.sendWindow -= n
			p = p[n:]
			s.sender.looks, s.quiet = 0, 0
			if last {
				s.sendEnd = true
				s.settle()
			}
			if len(p) == 0 {
				return nil
			}
			continue
		}
		s.queue()
	}
}

// Flush writes what is queued on the connection.
func (s *Stream) Flush() { s.c.Flush() }

// writeBlock queues HEADERS and what CONTINUATION it takes. c.mu is held.
func (c *Conn) writeBlock(s *Stream, h *wire.Head, end bool) {
	raw := c.encoder.encode(h)
	first := raw[:min(len(raw), frameSize)]
	rest := raw[len(first):]
	c.writer.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: first,
		EndStream: end, EndHeaders: len(rest) == 0})
	for len(rest) > 0 {
		piece := rest[:min(len(rest), frameSize)]
		rest = rest[len(piece):]
		c.writer.WriteContinuation(s.id, len(rest) == 0, piece)
	}
	if end {
		s.sendEnd = true
		s.settle()
	}
}

// encoder compresses heads. hpack wants strings; those that were used lately
// are kept, so that a field which comes with every message allocates nothing.
type encoder struct {
	enc  *hpack.Encoder
	out  []byte
	memo [memoSize]hpack.HeaderField
}

const (
	memoSize  = 64
	memoValue = 256 // longer values are not kept
)

func (e *encoder) init() {
	e.enc = hpack.NewEncoder(e)
}

// Write takes what hpack has encoded.
func (e *encoder) Write(p []byte) (int, error) {
	e.out = append(e.out, p...)
	return len(p), nil
}

func (e *encoder) setLimit(n uint32) {
	e.enc.SetMaxDynamicTableSizeLimit(n)
	e.enc.SetMaxDynamicTableSize(n)
}

// encode returns the block of a head, valid until the next call.
func (e *encoder) encode(h *wire.Head) []byte {
	if cap(e.out) > 4*frameSize {
		e.out = nil
	}
	e.out = e.out[:0]
	for i := range h.NumFields() {
		name, value := h.Field(i)
		f := e.field(name, value)
		f.Sensitive = h.Flags(i)&wire.NeverIndex != 0
		e.enc.WriteField(f) // Write above never fails
	}
	return e.out
}

func (e *encoder) field(name, value []byte) hpack.HeaderField {
	key := uint(len(name))*7 + uint(len(value))*13
	if len(name) > 0 {
		key += uint(name[len(name)-1])
	}
	if len(value) > 0 {
		key += uint(value[len(value)-1]) + uint(value[len(value)/2])<<1
	}
	f := &e.memo[key%memoSize]
	if f.Name == string(name) && f.Value == string(value) {
		return *f
	}
	fresh := hpack.HeaderField{Name: string(name), Value: string(value)}
	if len(value) <= memoValue && len(name) <= memoValue {
		*f = fresh
	}
	return fresh
}
