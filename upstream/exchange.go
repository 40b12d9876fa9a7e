package upstream

import (
	"io"
	"sync/atomic"

	"github.com/holdfast-proxy/holdfast/wire"
)

// An exchange is one request and its answer on a connection, and the body of
// the answer. It serves one flow: whoever closes it late cannot hit the next
// flow's, unless the flow was released, which says that there is nobody.
type exchange struct {
	response wire.Response
	c        *conn
	body     wire.Body
	up       *upload // copies the request's body; nil when that was written at once
	bare     bool    // the answer has no head
	odd      bool    // a 1xx answer was framed ambiguously
	keep     bool    // both messages allow the connection to be used again
	last     error   // what follows the piece that was returned last; nil: not known
	ended    bool
	use      atomic.Int32 // inUse, interrupted or over: whose the connection is
	framing  wire.Framing // once ended
	err      error        // once ended
}

// Next returns the next piece of the answer's body. The last piece comes
// without io.EOF, which an own call returns: only then is nobody using the
// piece, which stands in a buffer of the connection, and the connection can go
// to another flow.
func (x *exchange) Next() ([]byte, error) {
	if x.ended {
		return nil, x.err
	}
	if x.last == nil {
		var piece []byte
		piece, x.last = x.body.Next()
		if len(piece) > 0 || x.last == nil {
			x.c.touch()
			return piece, nil
		}
	}
	x.err = x.last
	if x.err != io.EOF {
		x.err = x.c.why(x.err)
	}
	x.end(x.err == io.EOF)
	return nil, x.err
}

// reset readies an exchange, new or of a flow that has ended.
func (x *exchange) reset(c *conn) {
	response := x.response
	*x = exchange{c: c, response: response}
}

// Ready tells whether Next returns without waiting.
func (x *exchange) Ready() bool {
	return x.ended || x.last != nil || x.c.br.Buffered() > 0
}

// Framing is how the answer says where its body ends.
func (x *exchange) Framing() wire.Framing {
	if x.ended { // the connection, and its reader's body with it, is another flow's
		return x.framing
	}
	return x.body.Framing()
}

// Close gives up the rest of the body, and the connection with it.
func (x *exchange) Close() error {
	if !x.ended {
		x.err = io.ErrClosedPipe
		x.end(x.last == io.EOF)
	}
	return nil
}

// Interrupt has a Next that waits return at once, with an error. Any goroutine
// may call it; the body must still be closed.
func (x *exchange) Interrupt() {
	if x.use.CompareAndSwap(inUse, interrupted) {
		x.c.close()
	}
}

// What becomes of the connection: once it is over, it is somebody else's, and
// an interruption must not hit it.
const (
	inUse int32 = iota
	interrupted
	over
)

// end gives the connection back or closes it.
func (x *exchange) end(whole bool) {
	x.ended = true
	c := x.c
	if x.body != nil { // oddities of chunks show only now
		x.framing = x.body.Framing()
	}
	keep := x.use.CompareAndSwap(inUse, over) && whole && x.keep && !x.framing.Ambiguous && c.br.Buffered() == 0
	if x.up != nil {
		if keep && c.handOver() {
			return
		}
		if !keep {
			c.close()
			x.up.stop()
		}
		keep = keep && x.up.ok
	}
	c.giveBack(keep)
}

// giveBack ends the flow's use of the connection.
func (c *conn) giveBack(keep bool) {
	if c.release() && keep {
		c.pool.put(c, true)
	} else {
		c.discard()
	}
}

// handOver leaves the connection to the upload, if that still runs.
func (c *conn) handOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	return !c.copied
}

// An upload copies a request's body to the origin.
type upload struct {
	c       *conn
	pending []byte    // written first
	body    wire.Body // nil when pending is all
	done    chan struct{}
	// Set before done is closed:
	ok      bool  // all was written
	bodyErr error // the body could not be read
}

func (c *conn) startUpload(out *outgoing) *upload {
	u := &upload{c: c, pending: out.pending, body: out.body, done: make(chan struct{})}
	c.pool.run(u.run)
	return u
}

func (u *upload) run() {
	defer close(u.done)
	c := u.c
	u.ok = u.copy() && (u.body == nil || !u.body.Framing().Ambiguous)
	c.mu.Lock()
	c.copied = true
	mine := c.ended
	c.mu.Unlock()
	if mine {
		c.giveBack(u.ok)
	}
}

func (u *upload) copy() bool {
	piece, err := u.pending, error(nil)
	if u.body == nil {
		err = io.EOF
	}
	for {
		if len(piece) > 0 {
			if _, werr := u.c.rw.Write(piece); werr != nil {
				// The answer may be there all the same; its reader decides.
				if u.body != nil {
					u.body.Close()
				}
				return false
			}
			u.c.touch()
		}
		if err == io.EOF {
			u.c.endRequest(u.body)
			return true
		}
		piece, err = u.body.Next()
		if err != nil && err != io.EOF {
			if !u.c.isClosed() { // else stop has closed the body
				u.bodyErr = bodyError(err)
				u.c.doom(u.bodyErr)
			}
			return false
		}
	}
}

// stop ends the upload and waits for that. The connection is closed already,
// so a write ends by itself.
func (u *upload) stop() {
	if _, waits := u.body.(waiter); waits {
		u.body.Close()
	}
	<-u.done
}

// A tunnel is a connection on which HTTP is over. Read and Write may be called
// by two goroutines, Close and CloseWrite by any.
type tunnel struct{ x *exchange }

// Read returns first what has arrived behind the head of the answer.
func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.x.c.br.Read(p)
	t.x.c.touch()
	if err != nil && err != io.EOF {
		err = t.x.c.why(err)
	}
	return n, err
}

func (t *tunnel) Write(p []byte) (int, error) {
	t.x.c.touch()
	return t.x.c.rw.Write(p)
}

// CloseWrite tells the origin that nothing more will come.
func (t *tunnel) CloseWrite() error {
	if half, ok := t.x.c.rw.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Abort is Close by a reset: the origin sees that this was no orderly end.
func (t *tunnel) Abort() {
	if tcp, ok := t.x.c.raw.(interface{ SetLinger(sec int) error }); ok {
		tcp.SetLinger(0)
	}
	t.Close()
}

func (t *tunnel) Close() error {
	t.x.c.close()
	if t.x.up != nil {
		t.x.up.stop()
	}
	return nil
}
