package h2

import (
	"io"
	"sync"

	"golang.org/x/net/http2"

	"github.com/holdfast-proxy/holdfast/wire"
)

// What a receiver waits for.
const (
	waitNothing = iota
	waitHead
	waitBody
)

// A patience is one side's wait: looks since the last progress while it lasts.
type patience struct {
	waits uint8
	looks uint32
}

func (p *patience) exceeds(limit uint32) bool {
	if p.waits == waitNothing {
		return false
	}
	p.looks++
	return limit > 0 && p.looks > limit
}

// A Stream is one request and its answer. One goroutine at a time may receive
// (Head, Body), one may send (WriteHead, Write, WriteTrailers); Reset, Err and
// Done belong to any.
type Stream struct {
	c    *Conn
	id   uint32
	cond sync.Cond // on c.mu: something arrived, or can be sent

	// All guarded by c.mu, but what a reader owns.
	request  wire.Request     // server
	heads    []*wire.Response // client: not asked for yet
	interims int
	headSeen bool
	bodyless bool // client: the request is HEAD
	connect  bool // the request is CONNECT, and was not refused
	tooLarge bool // server: the request's head
	crowded  bool // server: no slot was free for the request's head
	slots    int  // of Limits.Large

	recv, spare []byte // arrived; the piece that the reader has
	declared    int64  // by Content-Length, -1 if not
	got         int64
	recvEnd     bool
	recvWindow  int64
	credit      int // read, and not granted again
	trailers    wire.Head
	body        Body

	sendWindow int64
	sendEnd    bool
	headSent   bool

	receiver, sender patience
	tunnel           bool
	quiet            uint32 // looks without a byte in either direction of a tunnel

	err    error // why it ended early
	gone   bool  // not among c.streams any more
	done   bool
	onFail func(error)
}

// newStream registers a stream. c.mu is held.
func (c *Conn) newStream(id uint32) *Stream {
	s := &Stream{c: c, id: id, declared: -1, recvWindow: int64(c.limits.Window), sendWindow: c.peer.window}
	s.cond.L = &c.mu
	s.body.s = s
	c.streams[id] = s
	return s
}

// ID is the stream's number.
func (s *Stream) ID() uint32 { return s.id }

// Request is the request's head on a server's side. It belongs to the caller.
func (s *Stream) Request() *wire.Request { return &s.request }

// TooLarge tells that the request's head exceeded the limits: Request has what
// was kept, and 431 is the answer.
func (s *Stream) TooLarge() bool { return s.tooLarge }

// Forget drops the request's head and gives its slots back, on a server's side:
// for a stream that will last.
func (s *Stream) Forget() {
	s.c.mu.Lock()
	s.request = wire.Request{}
	for ; s.slots > 0; s.slots-- {
		s.c.limits.Large.Give()
	}
	s.c.mu.Unlock()
}

// Crowded tells that the request's head is above wire.LargeHead and no slot was
// free for it: Request has its beginning, and 503 is the answer.
func (s *Stream) Crowded() bool { return s.crowded }

// OnFail has fn called, once, when the stream ends early; at once if it has. fn
// must not wait, nor call the connection.
func (s *Stream) OnFail(fn func(error)) {
	s.c.mu.Lock()
	err := s.err
	s.onFail = fn
	s.c.mu.Unlock()
	if err != nil {
		fn(err)
	}
}

// Err is why the stream ended early, or nil.
func (s *Stream) Err() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.err
}

// Body is what the peer sends behind the head; nil when that ended the stream.
func (s *Stream) Body() *Body {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.recvEnd && len(s.recv) == 0 && s.trailers.NumFields() == 0 {
		return nil
	}
	if s.declared > 0 {
		s.body.framing.Length = s.declared
	}
	s.body.framing.Kind, s.body.framing.Trailers = wire.Stream, &s.trailers
	return &s.body
}

// Head waits for the next head of the answer: any number of interim ones, then
// the final one. It belongs to a client.
func (s *Stream) Head() (*wire.Response, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.receiver.looks = 0
	for len(s.heads) == 0 {
		if s.err != nil {
			return nil, s.err
		}
		if s.recvEnd {
			return nil, &StreamError{Stream: s.id, Code: ProtocolError, Reason: "no answer"}
		}
		s.wait(waitHead)
	}
	r := s.heads[0]
	s.heads = s.heads[1:]
	return r, nil
}

// HasHead tells whether Head returns without waiting.
func (s *Stream) HasHead() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return len(s.heads) > 0 || s.err != nil
}

// wait has a receiver wait for wake. c.mu is held.
func (s *Stream) wait(what uint8) {
	s.receiver.waits = what
	s.cond.Wait()
	s.receiver.waits = waitNothing
}

func (s *Stream) wake() { s.cond.Broadcast() }

// take keeps bytes of the body. c.mu is held.
func (s *Stream) take(p []byte) {
	if s.body.closed {
		s.c.grant(nil, len(p))
		return
	}
	if s.recv == nil && len(p) > 0 {
		s.recv = buffer(len(p))
	}
	s.recv = append(s.recv, p...)
}

// receivedEnd notes END_STREAM. c.mu is held.
func (s *Stream) receivedEnd() {
	s.recvEnd = true
	s.settle()
}

// settle takes a stream that both sides have ended off the list.
func (s *Stream) settle() {
	if (s.recvEnd && s.sendEnd || s.err != nil) && !s.gone {
		s.gone = true
		delete(s.c.streams, s.id)
		if s.err == nil && s.c.cfg.Client {
			s.c.whole[s.c.wholes%wholeRing] = s.id
			s.c.wholes++
		}
	}
}

// fail ends the stream early. c.mu is held.
func (s *Stream) fail(err error) {
	if s.err != nil || s.gone {
		return
	}
	s.err = err
	s.settle()
	if s.onFail != nil {
		s.onFail(err)
	}
	s.wake()
}

// resetStream ends a stream by RST_STREAM. c.mu is held.
func (c *Conn) resetStream(s *Stream, code Code, why error) {
	if s.gone {
		return
	}
	c.writer.WriteRSTStream(s.id, http2.ErrCode(code))
	c.remember(s.id)
	s.fail(why)
}

// Reset ends the stream, if it has not ended, with a code for the peer.
func (s *Stream) Reset(code Code) {
	s.c.mu.Lock()
	s.c.resetStream(s, code, &StreamError{Stream: s.id, Code: code, Reason: "reset on this side"})
	s.c.flush()
	s.c.mu.Unlock()
}

// Done says that nobody will use the stream any more. If it has not ended, it
// is reset: without an error when the answer was complete (RFC 9113 §8.1).
// Further calls do nothing.
func (s *Stream) Done() {
	c := s.c
	c.mu.Lock()
	if s.done {
		c.mu.Unlock()
		return
	}
	s.done = true
	code := Cancel
	if !c.cfg.Client && s.sendEnd {
		code = NoError
	}
	s.body.closed = true
	c.resetStream(s, code, ErrEnded)
	if !s.body.atEnd && len(s.recv) > 0 {
		c.grant(nil, len(s.recv)) // nobody will read it
		s.recv = nil
	}
	for ; s.slots > 0; s.slots-- {
		c.limits.Large.Give()
	}
	c.busy--
	c.flush()
	over := c.isOver()
	c.mu.Unlock()
	c.freed()
	if over {
		c.cfg.Over()
	}
}

// grant lets the peer send as much again as was read; it is told when half of
// a window is used up. s is nil when the stream is over. c.mu is held.
func (c *Conn) grant(s *Stream, n int) {
	c.credit += n
	if c.credit >= c.limits.ConnWindow/2 {
		c.writer.WriteWindowUpdate(0, uint32(c.credit))
		c.recvWindow += int64(c.credit)
		c.credit = 0
	}
	if s == nil || s.recvEnd || s.gone {
		return
	}
	s.credit += n
	if s.credit >= c.limits.Window/2 {
		c.writer.WriteWindowUpdate(s.id, uint32(s.credit))
		s.recvWindow += int64(s.credit)
		s.credit = 0
	}
}

// A Body is the received side of a stream. Next and Ready belong to one
// goroutine at a time, Close and Interrupt to any.
type Body struct {
	s       *Stream
	framing wire.Framing
	atEnd   bool // guarded by c.mu, as are the next two
	closed  bool
	stopped bool
}

// Next returns what has arrived, and waits when that is nothing. io.EOF comes
// by a call of its own.
func (b *Body) Next() ([]byte, error) {
	s := b.s
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.receiver.looks = 0
	for len(s.recv) == 0 {
		switch {
		case b.closed || b.stopped:
			return nil, wire.ErrClosed
		case s.recvEnd:
			b.atEnd = true
			recycle(s.spare)
			recycle(s.recv)
			s.spare, s.recv = nil, nil
			return nil, io.EOF
		case s.err != nil:
			return nil, s.err
		}
		s.wait(waitBody)
	}
	piece := s.recv
	s.recv, s.spare = s.spare[:0], piece
	if cap(s.recv) == 0 {
		s.recv = nil
	}
	c.grant(s, len(piece))
	if len(c.out) > 0 && !s.recvEnd {
		c.flush() // the peer may be waiting for the window
	}
	return piece, nil
}

// Ready tells whether Next returns without waiting.
func (b *Body) Ready() bool {
	c := b.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(b.s.recv) > 0 || b.s.recvEnd || b.s.err != nil || b.closed || b.stopped
}

// Last tells whether nothing follows the piece that Next returned last: only
// io.EOF, and no trailers.
func (b *Body) Last() bool {
	s := b.s
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.recvEnd && len(s.recv) == 0 && s.trailers.NumFields() == 0
}

// Framing is of kind wire.Stream; its trailers are complete behind io.EOF.
func (b *Body) Framing() wire.Framing { return b.framing }

// Close gives up the rest. A client's stream is reset by it.
func (b *Body) Close() error {
	s := b.s
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.atEnd || b.closed {
		return nil
	}
	b.closed = true
	if n := len(s.recv); n > 0 {
		s.recv = nil
		c.grant(nil, n)
	}
	if c.cfg.Client && !s.recvEnd {
		c.resetStream(s, Cancel, wire.ErrClosed)
	}
	s.wake()
	c.flush()
	return nil
}

// Interrupt has a Next that waits return at once, with an error.
func (b *Body) Interrupt() {
	b.s.c.mu.Lock()
	b.stopped = true
	b.s.wake()
	b.s.c.mu.Unlock()
}

// Buffers of bodies outlive streams. A small one holds most answers.
const smallBuffer = 4 << 10

type small [smallBuffer]byte

var smalls = sync.Pool{New: func() any { return new(small) }}

func buffer(n int) []byte {
	if n > smallBuffer {
		return make([]byte, 0, n)
	}
	return smalls.Get().(*small)[:0]
}

func recycle(b []byte) {
	if cap(b) == smallBuffer {
		smalls.Put((*small)(b[:smallBuffer]))
	}
}
