package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

var (
	errGone      = errors.New("the client went away")
	errCutShort  = errors.New("the answer broke off, and the client's connection with it")
	errUnwritten = errors.New("the client took no more of the answer")
)

// client is one connection of a client. One goroutine runs it; what the
// watcher looks at besides is atomic.
type client struct {
	s     *Server
	entry *Listener
	// number is the connection's own, for Flow.Client.
	number uint64
	raw    net.Conn
	rw     net.Conn // raw, or TLS on it
	br     *wire.Reader

	ctx     context.Context
	cancel  context.CancelCauseFunc
	interim func(*wire.Response) error // writes 1xx answers; made once

	tunnel *flow.Origin // where CONNECT asked to go; nil on the proxy's own port
	seen   caller       // the last credentials, taken apart
	route  route        // the last authority, taken apart

	unaware bool // the client does not know of the proxy: see meant
	inner   bool // what comes stood inside of TLS that was ended here
	// promised says that HTTP/2 was agreed on and nothing has come yet. Go's
	// net/http agrees, and asks a proxy for tunnels by HTTP/1 all the same.
	promised bool
	// mirrored says that HTTP/2 was offered because the origin speaks it.
	mirrored bool

	early      []byte // its last unread bytes belong before what rw has; nil while not needed
	unread     int
	spare      *exchange // of the request before, where its memory is free
	oddInterim bool      // a 1xx answer was framed ambiguously
	inUse      bool      // somebody else may still use bytes in br's memory
	large      bool      // has one of Server.large

	nap                 nap
	in, out             stage
	inWaited, outWaited waited // the watcher's
	left                int    // the watcher's: looks since the client closed its sending side
	secured             atomic.Bool
	streams             atomic.Pointer[client2] // HTTP/2, once it is spoken
}

// An exchange is what one request needs, in one piece of memory.
type exchange struct {
	flow    flow.Flow
	request wire.Request
	body    requestBody
}

func newClient(ctx context.Context, s *Server, conn net.Conn, entry *Listener) *client {
	c := &client{s: s, entry: entry, number: s.accepted.Add(1), raw: conn, rw: conn}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	c.seen = c.nobody()
	c.br = wire.NewReader(c, s.limits.Message)
	c.br.OnLarge(c.takeLarge)
	c.interim = c.writeInterim
	c.nap.able = canRest(conn)
	return c
}

// earlySize is as much as most heads of plain requests have.
const earlySize = 512

// Read is where br reads from. The first byte after a rest begins a head.
//
// A reader without a buffer asks for one byte. On plain TCP that would be a
// system call for one byte; early takes what comes with it.
func (c *client) Read(p []byte) (int, error) {
	if c.unread > 0 {
		n := copy(p, c.early[len(c.early)-c.unread:])
		c.unread -= n
		return n, nil
	}
	if len(p) == 1 && c.rw == c.raw {
		if c.early == nil {
			c.early = make([]byte, earlySize)
		}
		n, err := c.read(c.early)
		if n == 0 {
			return 0, err
		}
		p[0] = c.early[0]
		c.unread = n - 1
		copy(c.early[len(c.early)-c.unread:], c.early[1:n])
		return 1, err
	}
	if c.large && c.in.phase() == inHead {
		return c.readLarge(p)
	}
	return c.read(p)
}

// breath is long enough that the runtime looks for connections that are ready.
const breath = 50 * time.Microsecond

// readLarge reads a part of a head for which there is a slot. While all of it is
// there, reading never waits, and on a busy processor everybody else would wait
// for the whole of it.
func (c *client) readLarge(p []byte) (int, error) {
	p = p[:min(len(p), wire.LargeHead)]
	n, err := c.read(p)
	if n == len(p) {
		time.Sleep(breath)
	}
	return n, err
}

func (c *client) read(p []byte) (int, error) {
	n, err := c.rw.Read(p)
	if n > 0 {
		switch c.in.phase() {
		case inIdle:
			c.in.enter(inHead)
			c.nap.over(c.raw)
		case inBody, inTunnel, inStreams:
			c.in.progress()
		}
	}
	return n, err
}

// serve runs the connection to its end. begin tells whether requests can be read
// from it.
func (c *client) serve(begin func() bool) {
	defer c.cancel(errGone)
	if begin() {
		for c.next() {
		}
	}
	c.raw.Close()
	if !c.inUse {
		c.br.Release()
	}
	c.giveLarge()
}

// takeLarge waits for a slot for a head that goes beyond wire.LargeHead. The
// head's time stands still meanwhile: it is not the client's.
func (c *client) takeLarge() error {
	if c.large {
		return nil
	}
	if c.large = c.s.large.Take(); c.large {
		return nil
	}
	var late <-chan time.Time // never, without a limit
	if limit := c.s.limits.Head; limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		late = timer.C
	}
	c.in.enter(inNothing)
	defer c.in.enter(inHead)
	select {
	case c.s.large <- struct{}{}:
		c.large = true
		return nil
	case <-late:
		return crowdedError()
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}

// giveLarge gives the slot back, once nothing holds the head any more.
func (c *client) giveLarge() {
	if c.large {
		c.large = false
		c.s.large.Give()
	}
}

// next serves one request and tells whether another may follow.
func (c *client) next() bool {
	x := c.fresh()
	if !c.br.IsLarge() {
		c.giveLarge()
	}
	if c.br.Buffered() > 0 {
		c.in.enter(inHead)
	} else {
		c.br.Idle()
		c.in.enter(inIdle)
		c.nap.allow()
		if c.s.closing.Load() {
			return false
		}
	}
	if err := c.br.ReadRequest(&x.request); err != nil {
		if isTimeout(err) && c.nap.begun() {
			return c.rest()
		}
		c.unreadable(err)
		return false
	}
	c.in.enter(inNothing)
	agreed := c.promised
	c.promised = false
	switch {
	case isPreface2(&x.request):
		c.serve2(true)
		return false
	case agreed && !bytes.HasPrefix(x.request.Version(), []byte("HTTP/1.")):
		c.complain(fmt.Errorf("connection of %v: what came is no preface of HTTP/2, which was agreed on", c.raw.RemoteAddr()))
		return false
	}
	if c.tunnel == nil && string(x.request.Method()) == "CONNECT" {
		return c.connect(&x.request)
	}
	return c.exchange(x)
}

// exchange answers one request.
func (c *client) exchange(x *exchange) bool {
	f := &x.flow
	f.Start = c.s.cfg.Clock()
	f.ID = c.s.cfg.IDs.Next(f.Start)
	f.Listener, f.Client, f.Connection = c.entry.Label, c.number, c.ctx
	f.Received, f.Request = &x.request, &x.request
	if !isVersion10(x.request.Version()) {
		f.Interim = c.interim // RFC 9110 §15.2: never to an HTTP/1.0 client
	}
	c.out.enter(outWaiting)
	keep := false
	err := c.handle(x)
	written := err
	if err == nil {
		keep, err = c.deliver(x)
		written = err
	} else if c.ctx.Err() == nil && !errors.Is(err, errUnwritten) {
		keep, written = c.refuse(x, err)
	}
	c.out.enter(outNothing)
	c.noteBodies(x)
	f.End(c.s.cfg.Clock(), err)
	again := c.settle(x, keep, written)
	if again && f.Reusable() && !c.large && len(x.request.Bytes()) <= maxSpare {
		// Now, so that a connection at rest holds nothing of the answer.
		f.Reset()
		x.body = requestBody{}
		c.spare = x
	}
	return again
}

// fresh is memory for the next request: that of the one before, if nobody
// holds on to its flow.
func (c *client) fresh() *exchange {
	x := c.spare
	if x == nil {
		return new(exchange)
	}
	c.spare = nil
	return x
}

// handle fills the flow and has it answered.
func (c *client) handle(x *exchange) error {
	f := &x.flow
	framing, err := c.frame(x)
	if err != nil {
		x.body.spoil(c)
		return err
	}
	if framing.Kind != wire.None && (framing.Kind != wire.Length || framing.Length > 0) {
		x.body.init(c, &x.request, c.br.Body(framing))
		f.RequestBody = &x.body
	}
	x.body.last = framing.Ambiguous
	handler, err := c.direct(x)
	if err != nil {
		return err
	}
	err = handler(c.ctx, f)
	if err == nil && f.Response == nil {
		return errors.New("internal error: the handler set no response")
	}
	return err
}

// settle makes the connection ready for the next request, or ends it in a way
// that lets the client read its answer: closing with bytes unread would reset
// the connection, and an answer under way would be lost with it. written is
// nil when the answer was delivered whole.
func (c *client) settle(x *exchange, keep bool, written error) bool {
	keep = keep && !x.body.last && !c.oddInterim && x.request.KeepAlive() && c.ctx.Err() == nil
	finished := x.body.finish(keep)
	keep = keep && !x.body.framing.Ambiguous
	switch {
	case keep && finished && c.ctx.Err() == nil:
		return !c.s.closing.Load() || c.br.Buffered() > 0 // what a client sent ahead is answered
	case written != nil:
		c.breakOff(x)
	case !finished || c.br.Buffered() > 0:
		c.linger()
	default:
		c.closeWrite()
	}
	return false
}

// breakOff closes the connection within an answer so that the client can tell.
// Lengths and chunks show it; an answer that lasts until the connection closes
// needs a reset, or with TLS the absence of close_notify.
func (c *client) breakOff(x *exchange) {
	body := x.flow.ResponseBody
	if body == nil || body.Framing().Kind != wire.UntilClose || c.raw != c.rw {
		return
	}
	if tcp, ok := c.raw.(interface{ SetLinger(sec int) error }); ok {
		tcp.SetLinger(0)
	}
}

// unreadable ends a connection on which no request could be read.
func (c *client) unreadable(err error) {
	phase := c.in.phase()
	c.in.enter(inNothing)
	var parse *wire.ParseError
	var told *flow.Error
	switch {
	case err == io.EOF || c.ctx.Err() != nil || phase == inIdle:
		return // the client has ended, or rested too long
	case errors.As(err, &parse):
		c.s.cfg.OnError(fmt.Errorf("request of %v: %w", c.raw.RemoteAddr(), err))
		if !c.promised { // else it is no preface, and the end of the connection (RFC 9113 §3.4)
			c.lastWord(badRequest(err))
		}
	case errors.As(err, &told):
		c.s.cfg.OnError(fmt.Errorf("request of %v: %w", c.raw.RemoteAddr(), err))
		c.br.Release() // what it would have been kept for is over
		c.lastWord(told)
	case isTimeout(err):
		c.lastWord(&flow.Error{Status: 408, Reason: flow.ReasonBadRequest, Cause: err,
			Detail: fmt.Sprintf("The request's head was not complete after %v.", c.s.limits.Head),
			Next:   "Send the whole head at once."})
	default:
		c.s.cfg.OnError(fmt.Errorf("request of %v: %w", c.raw.RemoteAddr(), err))
	}
}

// write has the client take bytes.
func (c *client) write(p []byte) error {
	c.out.enter(outWriting)
	_, err := c.rw.Write(p)
	c.out.enter(outWaiting)
	return err
}

func (c *client) writeInterim(r *wire.Response) error {
	if r.Proto() == wire.HTTP2 {
		converted, _, err := h2.ResponseTo1(r, false, true)
		if err != nil {
			return nil // one that HTTP/1 cannot say is not sent; the final answer decides
		}
		r = converted
	}
	c.oddInterim = c.oddInterim || interimIsOdd(r)
	if err := c.write(r.Bytes()); err != nil {
		return fmt.Errorf("%w: %w", errUnwritten, err)
	}
	return nil
}

// closeWrite says that the answer is complete: with TLS by close_notify.
func (c *client) closeWrite() {
	if half, ok := c.rw.(interface{ CloseWrite() error }); ok {
		c.out.enter(outWriting)
		half.CloseWrite()
		c.out.enter(outNothing)
	}
}

// linger closes the sending side and reads on, so that what was sent is not
// lost, until the client closes or Limits.Linger is over.
func (c *client) linger() {
	c.closeWrite()
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok && c.raw != c.rw {
		half.CloseWrite()
	}
	if c.s.limits.Linger > 0 {
		c.raw.SetReadDeadline(time.Now().Add(c.s.limits.Linger))
	}
	var sink [4 << 10]byte
	for left := lingerBytes; left > 0; {
		n, err := c.raw.Read(sink[:])
		if err != nil {
			return
		}
		left -= n
	}
}

// maxSpare is up to how long a head may be, in bytes, for the next one to use its
// memory: a connection at rest holds it.
const maxSpare = 8 << 10

// lingerBytes bounds what linger throws away.
const lingerBytes = 16 << 20

func isVersion10(v []byte) bool { return string(v) == "HTTP/1.0" }
