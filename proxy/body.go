package proxy

import (
	"io"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/wire"
)

// How far a request's body has been read.
const (
	bodyNone    = iota // there is none
	bodyFresh          // nobody has asked for it
	bodyTaken          // somebody reads it
	bodyEnded          // read to its end
	bodySpoiled        // given up or broken: the connection cannot go on
)

// requestBody is the body of a request as handlers see it. Next belongs to one
// goroutine at a time; Close and Ready to any. A handler may leave it to a
// goroutine that outlives its answer; finish waits for that one.
type requestBody struct {
	c       *client
	request *wire.Request
	body    wire.Body
	end     error // what follows the piece that was returned last; nil: not known
	last    bool  // no other request may follow on the connection

	reading sync.Mutex // held in Next
	mu      sync.Mutex // guards what follows
	state   int
	framing wire.Framing
	done    chan struct{} // made by finish, closed when the state is final
}

func (b *requestBody) init(c *client, r *wire.Request, body wire.Body) {
	b.c, b.request, b.body, b.framing, b.state = c, r, body, body.Framing(), bodyFresh
}

// spoil says that where the request ends is not known.
func (b *requestBody) spoil(c *client) { b.c, b.state = c, bodySpoiled }

// Next returns the next piece. As with the bodies of answers io.EOF is an own
// call: before that, the piece that stands in the connection's buffer is in
// use, and the next request must not be read.
func (b *requestBody) Next() ([]byte, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	switch b.take() {
	case bodyEnded:
		return nil, io.EOF
	case bodySpoiled:
		return nil, io.ErrClosedPipe
	}
	if b.end == nil {
		var piece []byte
		b.c.in.enter(inBody)
		piece, b.end = b.body.Next()
		b.c.in.enter(inNothing)
		if len(piece) > 0 || b.end == nil {
			return piece, nil
		}
	}
	if b.end == io.EOF {
		b.mu.Lock()
		b.framing = b.body.Framing() // oddities of chunks show only now
		b.mu.Unlock()
		b.become(bodyEnded)
	} else {
		b.become(bodySpoiled)
	}
	return nil, b.end
}

// take notes that the body is being read, and returns the state.
func (b *requestBody) take() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == bodyFresh {
		b.state = bodyTaken
	}
	return b.state
}

// Ready tells whether Next returns without waiting.
func (b *requestBody) Ready() bool { return b.end != nil || b.c.br.Buffered() > 0 }

// Last tells whether nothing follows the piece that Next returned last: only
// io.EOF. It belongs to who calls Next.
func (b *requestBody) Last() bool { return b.end == io.EOF }

// Framing is how the request says where its body ends. Once that is reached,
// the reader's body may be another request's, so it is remembered.
func (b *requestBody) Framing() wire.Framing {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.framing
}

// Close gives up the rest of the body, and ends a Next that waits. The
// client's connection ends with the answer.
func (b *requestBody) Close() error {
	b.mu.Lock()
	open := b.state == bodyFresh || b.state == bodyTaken
	b.mu.Unlock()
	if open {
		b.c.expire()
		b.become(bodySpoiled)
	}
	return nil
}

func (b *requestBody) become(state int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == bodyEnded || b.state == bodySpoiled {
		return
	}
	b.state = state
	if b.done != nil {
		close(b.done)
	}
}

// finish sees to it that nobody reads the body any more, and tells whether all
// of it was read. If the connection could go on, it waits up to Limits.Linger
// for a reader that is at work, or reads a small rest itself.
func (b *requestBody) finish(worthWhile bool) bool {
	b.mu.Lock()
	if b.state == bodyTaken {
		b.done = make(chan struct{})
	}
	state, done := b.state, b.done
	b.mu.Unlock()
	switch {
	case state == bodyNone || state == bodyEnded:
		return true
	case state == bodyFresh && worthWhile && b.small() && b.drain():
		return true
	case state == bodyTaken && worthWhile:
		timer := time.NewTimer(b.c.s.limits.Linger)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
		case <-b.c.ctx.Done():
		}
	}
	b.mu.Lock()
	ended := b.state == bodyEnded
	b.mu.Unlock()
	if ended {
		return true
	}
	b.Close()
	b.reading.Lock() // Next has ended, and ends at once from now on
	b.c.inUse = true // but its last piece may still be on its way to the origin
	b.reading.Unlock()
	return false
}

// small tells whether a body that nobody has asked for is worth reading: not
// when the client waits to be told to send it (RFC 9110 §10.1.1).
func (b *requestBody) small() bool {
	return b.framing.Kind != wire.UntilClose && (b.framing.Kind != wire.Length || b.framing.Length <= b.c.s.limits.Drain) &&
		!b.request.HasToken("Expect", "100-continue")
}

// canGoOn tells whether the connection can go on after the body, as far as that
// is known before the answer.
func (b *requestBody) canGoOn() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state {
	case bodyNone, bodyEnded:
		return !b.last
	case bodyFresh:
		return !b.last && b.small()
	}
	return false
}

// drain reads up to Limits.Drain of a body.
func (b *requestBody) drain() bool {
	for read := int64(0); read <= b.c.s.limits.Drain; {
		piece, err := b.Next()
		if err != nil {
			return err == io.EOF
		}
		read += int64(len(piece))
	}
	return false
}

// broken tells whether the body could not be read to its end.
func (b *requestBody) broken() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state == bodySpoiled
}
