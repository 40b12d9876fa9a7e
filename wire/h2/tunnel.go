package h2

import (
	"errors"
	"io"

	"github.com/holdfast-proxy/holdfast/wire"
)

// A Tunnel is a stream on which a CONNECT was answered with success: its DATA
// are bytes both ways (RFC 9113 §8.5). With :protocol they are those of the
// protocol that it names (RFC 8441 §5). Read and Write may be called by two
// goroutines; CloseWrite belongs to the one that writes, Reset to any.
type Tunnel struct {
	s    *Stream
	body *Body
	rest []byte // read, and not taken yet
}

// Tunnel makes a tunnel of the stream. From now on neither the limit of a body
// nor that of a window counts, but Limits.Looks.Tunnel. A server's side calls it
// when it has queued the head of its answer, a client's when it has got that.
func (s *Stream) Tunnel() *Tunnel {
	s.c.mu.Lock()
	s.tunnel, s.quiet = true, 0
	s.c.mu.Unlock()
	return &Tunnel{s: s, body: s.Body()}
}

// Read returns what the peer has sent; io.EOF is END_STREAM. That the stream
// ended early is a *[StreamError] or a *[LostError], or why Look ended it.
func (t *Tunnel) Read(p []byte) (int, error) {
	if t.body == nil {
		return 0, io.EOF
	}
	if len(t.rest) == 0 {
		piece, err := t.body.Next()
		if err != nil {
			return 0, err
		}
		t.rest = piece
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// Write sends bytes at once, and waits where the peer's windows say so.
func (t *Tunnel) Write(p []byte) (int, error) {
	if err := t.s.Write(p, false); err != nil {
		return 0, err
	}
	t.s.Flush()
	return len(p), nil
}

// CloseWrite sends END_STREAM: nothing more will come from this side.
func (t *Tunnel) CloseWrite() error {
	err := t.s.Write(nil, true)
	t.s.Flush()
	if errors.Is(err, ErrEnded) {
		return nil
	}
	return err
}

// Reset ends the tunnel in both directions, if it has not ended.
func (t *Tunnel) Reset(code Code) { t.s.Reset(code) }

// Interrupt has a Read that waits, and each that would, return [wire.ErrClosed]
// until Resume. Both may be called from any goroutine.
func (t *Tunnel) Interrupt() {
	if t.body != nil {
		t.body.Interrupt()
	}
}

// Resume ends what Interrupt began.
func (t *Tunnel) Resume() {
	t.s.c.mu.Lock()
	t.s.body.stopped = false
	t.s.c.mu.Unlock()
}

// Ended tells whether the peer has sent END_STREAM, read or not.
func (t *Tunnel) Ended() bool {
	t.s.c.mu.Lock()
	defer t.s.c.mu.Unlock()
	return t.s.recvEnd
}

// Leave ends the tunnel without waiting for anything, from any goroutine: with
// END_STREAM, or with RST_STREAM where hard says so. What tells the peer leaves
// with the next flush, at the latest by Stream.Done. Without hard, no Write may be
// under way.
func (t *Tunnel) Leave(hard bool) {
	c := t.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case hard:
		c.resetStream(t.s, ConnectError, &StreamError{Stream: t.s.id, Code: ConnectError, Reason: "reset on this side"})
	case t.s.sendable() == nil:
		c.writer.WriteData(t.s.id, true, nil)
		t.s.sendEnd = true
		t.s.settle()
	}
	t.s.body.stopped = true
	t.s.wake()
}

// isConnect tells whether a request's head asks for a tunnel.
func isConnect(h *wire.Head) bool {
	method, _ := h.Get(":method")
	return string(method) == "CONNECT"
}
