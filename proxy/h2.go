package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// client2 is the HTTP/2 on a client's connection. The connection's goroutine
// reads frames; each stream has one that drives the handler.
type client2 struct {
	c    *client
	conn *h2.Conn
	left bool // the watcher's: the client was told to go

	wg   sync.WaitGroup // workers
	mu   sync.Mutex
	idle []chan *exchange2 // workers without a stream, the last one used last
	over bool              // workers end when they have none
}

// maxWorkers is how many workers of a connection wait for a stream. A goroutine
// that has served one has a stack that is large enough for the next.
const maxWorkers = 32

// isPreface2 tells whether what looks like the head of a request is the
// beginning of HTTP/2's preface (RFC 9113 §3.4): a client with prior knowledge.
func isPreface2(r *wire.Request) bool {
	return string(r.Method()) == "PRI" && string(r.Bytes()) == h2.PrefaceHead
}

// configFor offers a client HTTP/2 if the origin speaks it, if nobody can tell,
// or if the client would not take anything else.
func (s *Server) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	begun, ok := hello.Conn.(*begunConn)
	if !ok || s.cfg.HTTP2 == nil || !slices.Contains(hello.SupportedProtos, "h2") {
		return nil, nil
	}
	if !slices.Contains(hello.SupportedProtos, "http/1.1") {
		return s.tls2, nil
	}
	c := begun.c
	c.in.enter(inNothing) // dialling has limits of its own
	speaks, err := s.cfg.HTTP2(c.ctx, begun.origin)
	c.in.enter(inHandshake)
	if speaks || err != nil {
		c.mirrored = speaks
		return s.tls2, nil
	}
	return nil, nil
}

// serve2 runs the connection over HTTP/2 to its end. begun says that the first
// part of the preface has been read.
func (c *client) serve2(begun bool) {
	l := &c.s.limits
	limits := h2.Limits{Streams: l.Streams, Message: l.Message, Large: c.s.large}
	limits.Looks.Head = c.s.looks(l.Head)
	limits.Looks.Body = c.s.looks(l.Body)
	limits.Looks.Window = c.s.looks(l.Stall)
	limits.Looks.Write = limits.Looks.Window
	limits.Looks.Tunnel = c.s.looks(l.Tunnel)
	t := &client2{c: c}
	t.conn = h2.New(c.br, c.rw, h2.Config{Begun: begun, Limits: limits, Policy: c.s.cfg.Policy, Connect: c.offersConnect(),
		Accept: t.accept, Over: c.expire, Refused: func(err error) {
			c.s.cfg.OnError(fmt.Errorf("request of %v: %w", c.raw.RemoteAddr(), err))
		}})
	c.br.Idle()
	c.streams.Store(t)
	c.in.enter(inStreams)
	if c.s.closing.Load() {
		return
	}
	t.conn.Start(false)
	err := t.conn.Run()
	c.in.enter(inNothing)
	c.cancel(errGone) // nobody is left to answer
	var fault *h2.ConnError
	if errors.As(err, &fault) && !fault.Remote {
		c.s.cfg.OnError(fmt.Errorf("connection of %v: %w", c.raw.RemoteAddr(), err))
		c.linger() // so that GOAWAY is not lost with bytes unread
	}
	c.raw.Close() // ends writes that wait
	t.dismiss(true)
	t.wg.Wait()
}

// offersConnect tells whether the client is offered extended CONNECT: if its
// origin takes it, so that the client does what it would do there. Where the
// client speaks HTTP/2 all the same, its WebSockets would have no other way.
func (c *client) offersConnect() bool {
	return !c.mirrored || c.s.cfg.Connect == nil || c.s.cfg.Connect(c.ctx, *c.tunnel)
}

// looks is a limit in looks of the watcher.
func (s *Server) looks(limit time.Duration) uint32 {
	if limit <= 0 {
		return 0
	}
	return uint32(limit/s.tick) + 1
}

// look2 is the watcher's visit to a connection with HTTP/2.
func (c *client) look2(ticks int) {
	t := c.streams.Load()
	if t.conn.Look() != nil {
		c.raw.Close()
		return
	}
	if t.conn.Active() > 0 {
		return
	}
	if ticks == 1 {
		t.dismiss(false)
	}
	switch {
	case t.left && ticks > 1, c.s.closing.Load() && ticks > 1:
		c.expire()
	case !t.left && c.s.over(c.s.limits.Idle, ticks):
		t.left = true
		c.leave2()
	}
}

// leave2 tells a client with HTTP/2 to make no further requests here. It is
// called with s.mu held, while the connection is one of the server's.
func (c *client) leave2() {
	if t := c.streams.Load(); t != nil {
		c.s.wg.Add(1)
		go func() { // writing may wait
			defer c.s.wg.Done()
			t.conn.Shutdown()
		}()
	}
}

// exchange2 is what one stream needs, in one piece of memory.
type exchange2 struct {
	t      *client2
	s      *h2.Stream
	flow   flow.Flow
	ctx    context.Context
	cancel context.CancelCauseFunc
	// tunnelled says that the stream was a tunnel through the proxy, and is over.
	tunnelled bool
}

func (t *client2) accept(s *h2.Stream) {
	x := &exchange2{t: t, s: s}
	t.mu.Lock()
	if n := len(t.idle); n > 0 {
		worker := t.idle[n-1]
		t.idle = t.idle[:n-1]
		t.mu.Unlock()
		worker <- x
		return
	}
	t.mu.Unlock()
	t.wg.Add(1)
	go t.work(x)
}

// work serves one stream after the other.
func (t *client2) work(x *exchange2) {
	defer t.wg.Done()
	more := make(chan *exchange2, 1)
	for x != nil {
		x.run()
		t.mu.Lock()
		if t.over || len(t.idle) >= maxWorkers {
			t.mu.Unlock()
			return
		}
		t.idle = append(t.idle, more)
		t.mu.Unlock()
		x = <-more
	}
}

// dismiss ends the workers that wait.
func (t *client2) dismiss(over bool) {
	t.mu.Lock()
	idle := t.idle
	t.idle, t.over = nil, t.over || over
	t.mu.Unlock()
	for _, worker := range idle {
		worker <- nil
	}
}

// run answers one request.
func (x *exchange2) run() {
	f, c, s := &x.flow, x.t.c, x.s
	defer s.Done()
	if s.Err() != nil {
		return // reset before its turn: nobody waits for an answer
	}
	x.ctx, x.cancel = context.WithCancelCause(c.ctx)
	defer x.cancel(nil)
	s.OnFail(func(error) { x.cancel(errGone) })
	f.Start = c.s.cfg.Clock()
	f.ID = c.s.cfg.IDs.Next(f.Start)
	f.Listener, f.Client, f.Connection = c.entry.Label, c.number, c.ctx
	f.Received, f.Request = s.Request(), s.Request()
	f.Interim = x.interim
	if body := s.Body(); body != nil && string(f.Request.Method()) != "CONNECT" { // else it is the tunnel's
		f.RequestBody = body
	}
	err := x.handle()
	if err == nil && !x.tunnelled {
		err = x.misunderstood()
	}
	if err == nil && !x.tunnelled {
		err = x.deliver()
	} else if err != nil && x.ctx.Err() == nil && !errors.Is(err, errUnwritten) {
		if written := x.refuse(err); written != nil {
			err = written
		}
	}
	s.Flush()
	f.End(c.s.cfg.Clock(), err)
}

// handle has the request answered.
func (x *exchange2) handle() error {
	handler, err := x.direct()
	if err != nil {
		return err
	}
	if err = handler(x.ctx, &x.flow); err == nil && x.flow.Response == nil {
		return errors.New("internal error: the handler set no response")
	}
	return err
}

// direct sets the flow's tool, identity and origin. Through CONNECT they are
// those of the tunnel; on the proxy's own port the request says them.
func (x *exchange2) direct() (flow.Handler, error) {
	f, c := &x.flow, x.t.c
	f.Identity, f.Tool = c.seen.identity, c.seen.tool
	if c.tunnel != nil {
		f.Origin = *c.tunnel
		c.meant(f)
	}
	if x.s.Crowded() {
		return nil, crowdedError()
	}
	if x.s.TooLarge() {
		return nil, &flow.Error{Status: 431, Reason: flow.ReasonBadRequest,
			Detail: "The head of the request is too large.", Next: "Send fewer or shorter fields."}
	}
	if c.tunnel != nil {
		return c.handlerFor(f.Origin), nil
	}
	// recognize and find keep what they found last, for one goroutine.
	one := &client{s: c.s, entry: c.entry, seen: c.nobody()}
	one.recognize(f.Request)
	if one.seen.denied {
		return nil, deniedError()
	}
	f.Identity, f.Tool = one.seen.identity, one.seen.tool
	authority, ok := f.Request.Get(":authority")
	if string(f.Request.Method()) == "CONNECT" && !f.Request.Has(":protocol") {
		return x.connect(one, authority)
	}
	if !ok || len(authority) == 0 {
		f.Origin = flow.Origin{Host: LocalHost, Port: 80}
		return c.local(), nil
	}
	scheme, _ := f.Request.Get(":scheme")
	origin, err := one.find(string(scheme) == "https", authority)
	f.Origin = origin
	if err != nil {
		return nil, err
	}
	if f.Request.Has("Proxy-Authorization") {
		f.Edit().Del("Proxy-Authorization") // RFC 9110 §11.7: it is for this proxy
	}
	return c.handlerFor(origin), nil
}

// interim writes a 1xx answer.
func (x *exchange2) interim(r *wire.Response) error {
	head := &r.Head
	if r.Proto() != wire.HTTP2 {
		if r.Status() == 101 {
			return nil
		}
		converted, _, err := h2.ResponseTo2(r)
		if err != nil {
			return nil // one that HTTP/2 cannot say is not sent; the final answer decides
		}
		head = &converted.Head
	}
	if err := x.s.WriteHead(head, false); err != nil {
		return fmt.Errorf("%w: %w", errUnwritten, err)
	}
	x.s.Flush()
	return nil
}

// refuse tells the client of a handler's failure.
func (x *exchange2) refuse(err error) error {
	f, c := &x.flow, x.t.c
	e := toldError(err, new(requestBody))
	c.s.refused(f, e)
	head, body := problem(e, style{html: prefersHTML(f.Received), flow: f.ID.String()})
	if err := answer(f, head, body); err != nil {
		return err
	}
	return x.deliver()
}
