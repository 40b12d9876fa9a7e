package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// maxTries is how often a request is sent in all when the origin says each time
// that it has not looked at it.
const maxTries = 3

// send2 sends a flow whose request came by HTTP/2: as it is to an origin that
// speaks it, else as HTTP/1.1.
func (p *Pool) send2(ctx context.Context, f *flow.Flow) error {
	if p.links.speaks(f.Origin) != speaks1 {
		err := p.sendLinked(ctx, f)
		if !errors.Is(err, errNotHTTP2) && !errors.Is(err, errNoConnect) {
			return err
		}
	}
	if f.Request.Has(":protocol") {
		return p.sendUpgrade(ctx, f)
	}
	head, notes, err := h2.RequestTo1(f.Request, f.RequestBody != nil)
	if err != nil {
		return convertError(err)
	}
	p.note(f, "the origin does not speak HTTP/2: sent as HTTP/1.1", notes)
	request, body := f.Request, f.RequestBody
	if body != nil {
		framing, err := wire.RequestFraming(head)
		if err != nil {
			return convertError(err)
		}
		f.RequestBody = h2.BodyTo1(body, framing)
	}
	f.Request = head
	err = p.send1(ctx, f)
	f.Request, f.RequestBody = request, body
	return err
}

func (p *Pool) note(f *flow.Flow, what string, notes []string) {
	if len(notes) > 0 {
		what += "; " + strings.Join(notes, "; ")
	}
	f.Trace.Add(flow.Event{At: p.cfg.Clock().Sub(f.Start), Actor: "upstream", Action: flow.ActionNote, Detail: what})
}

func convertError(err error) error {
	return &flow.Error{Status: 400, Reason: flow.ReasonBadRequest, Cause: err,
		Detail: "The origin speaks another version of HTTP, in which the request would mean something else: " + err.Error() + ".",
		Next:   "Correct the request, or send it in the version that the origin speaks."}
}

// sendLinked sends a flow over HTTP/2.
func (p *Pool) sendLinked(ctx context.Context, f *flow.Flow) error {
	k := p.linkKey(f.Origin, f.Identity)
	head := &f.Request.Head
	if f.Request.Proto() != wire.HTTP2 {
		convert := h2.RequestTo2
		if ws.Asks(f.Request) && f.RequestBody == nil && p.takesConnect(ctx, k) {
			convert = h2.SocketTo2
		}
		converted, notes, err := convert(f.Request, f.Origin.TLS)
		if err != nil {
			return convertError(err)
		}
		p.note(f, "the origin speaks HTTP/2 only: the request was sent in it", notes)
		head = &converted.Head
	}
	fail := func(err error) error {
		if errors.Is(err, errNoConnect) && f.Request.Proto() != wire.HTTP2 {
			return connectError(f) // it speaks no HTTP/1 either
		}
		return err
	}
	connect := isConnect(head)
	out := outgoing2{source: f.RequestBody, buffers: &p.buffers}
	defer out.free()
	for try := 1; ; try++ {
		l, s, err := p.stream(ctx, k, head, out.source == nil && !connect)
		if err != nil {
			return fail(err)
		}
		if try == 1 {
			if err := out.gather(); err != nil {
				s.Reset(h2.Cancel)
				s.Done()
				return bodyError(err)
			}
		}
		kept := l.served.Load()
		err = p.roundtrip2(ctx, f, s, &out, connect)
		if err == nil {
			l.served.Store(true)
			return nil
		}
		again, how := out.whole && try < maxTries && ctx.Err() == nil, ""
		switch {
		case !again:
		case unprocessed(err):
			how = "the origin did not process the request: sent again"
		case kept && try == 1 && repeatable(f.Request) && errors.As(err, new(*h2.LostError)) && !p.isClosed():
			how = "the kept connection to " + address(f.Origin) + " had ended: sent again on a new one"
		case needsHTTP1(err) && connect:
			return fail(errNoConnect)
		case needsHTTP1(err):
			p.links.learn(f.Origin, speaks1)
			return errNotHTTP2
		}
		if how == "" {
			return p.linkError(ctx, l, f, err)
		}
		f.Trace.Add(flow.Event{At: p.cfg.Clock().Sub(f.Start), Actor: "upstream", Action: flow.ActionRetry, Detail: how})
	}
}

// unprocessed is RFC 9113 §8.7.
func unprocessed(err error) bool {
	var stream *h2.StreamError
	var lost *h2.LostError
	return errors.As(err, &stream) && stream.Unprocessed || errors.As(err, &lost) && lost.Unprocessed
}

// needsHTTP1 tells that the origin wants the request by HTTP/1.1 (RFC 9113 §7).
func needsHTTP1(err error) bool {
	var stream *h2.StreamError
	return errors.As(err, &stream) && stream.Remote && stream.Code == h2.HTTP11Required
}

// roundtrip2 sends what is at hand of the body and waits for the head of the
// answer. When it fails, nobody uses the stream or the body any more.
func (p *Pool) roundtrip2(ctx context.Context, f *flow.Flow, s *h2.Stream, out *outgoing2, connect bool) error {
	x := &exchange2{s: s}
	x.stop = context.AfterFunc(ctx, func() { s.Reset(h2.Cancel) })
	err := x.begin(p, out)
	if err == nil {
		s.Flush()
		err = x.readHead(f)
	} else if s.HasHead() {
		err = x.readHead(f) // an early answer ended the request
	}
	if err != nil {
		x.abandon()
		if x.up != nil && x.up.bodyErr != nil {
			return x.up.bodyErr
		}
		return err
	}
	if connect {
		if f.Response.Status()/100 == 2 {
			// What has arrived is handed on even when the client is gone: whoever
			// has the tunnel ends it, not the context.
			x.stop()
			f.Upgraded, f.ResponseBody = &tunnel2{Tunnel: s.Tunnel(), s: s}, nil
			return nil
		}
		s.Write(nil, true) // there is no tunnel, so nothing follows
		s.Flush()
	}
	body := s.Body()
	if body == nil {
		f.ResponseBody = nil
		x.finish()
		return nil
	}
	x.body = body
	f.ResponseBody = x
	return nil
}

// exchange2 is one request and its answer on a stream, and the body of the
// answer.
type exchange2 struct {
	s     *h2.Stream
	body  *h2.Body
	up    *upload2
	stop  func() bool
	ended bool
	err   error
}

// begin sends what is at hand, and has a goroutine send the rest.
func (x *exchange2) begin(p *Pool, out *outgoing2) error {
	if out.source == nil {
		return nil
	}
	if out.whole {
		return sendPiece(x.s, out.first, true, out.trailers)
	}
	if err := sendPiece(x.s, out.first, false, nil); err != nil {
		return err
	}
	x.s.Flush()
	x.up = &upload2{s: x.s, pending: out.pending, body: out, done: make(chan struct{})}
	p.run(func() {
		defer close(x.up.done)
		x.up.run()
	})
	return nil
}

func sendPiece(s *h2.Stream, p []byte, last bool, trailers *wire.Head) error {
	if last && trailers != nil {
		if err := s.Write(p, false); err != nil {
			return err
		}
		return s.WriteTrailers(trailers)
	}
	return s.Write(p, last)
}

// readHead reads answers until the final one.
func (x *exchange2) readHead(f *flow.Flow) error {
	for {
		r, err := x.s.Head()
		if err != nil {
			return err
		}
		if status := r.Status(); status < 100 || status > 199 {
			f.Response = r
			return nil
		}
		if f.Interim != nil {
			if err := f.Interim(r); err != nil {
				return clientError{err}
			}
		}
	}
}

// Next returns the next piece of the answer's body.
func (x *exchange2) Next() ([]byte, error) {
	if x.ended {
		return nil, x.err
	}
	piece, err := x.body.Next()
	if err == nil {
		return piece, nil
	}
	x.ended, x.err = true, err
	if err == io.EOF {
		x.finish()
	} else {
		x.abandon()
		if x.up != nil && x.up.bodyErr != nil {
			x.err = x.up.bodyErr
		}
	}
	return nil, x.err
}

// Ready tells whether Next returns without waiting.
func (x *exchange2) Ready() bool { return x.ended || x.body.Ready() }

// Last tells whether only io.EOF follows the piece that was returned last.
func (x *exchange2) Last() bool { return !x.ended && x.body.Last() }

// Framing is that of an HTTP/2 stream, with its trailers.
func (x *exchange2) Framing() wire.Framing { return x.body.Framing() }

// Close gives up the rest of the body.
func (x *exchange2) Close() error {
	if !x.ended {
		x.ended, x.err = true, io.ErrClosedPipe
		x.abandon()
	}
	return nil
}

// Interrupt has a Next that waits return at once, with an error. Any goroutine
// may call it; the body must still be closed.
func (x *exchange2) Interrupt() { x.body.Interrupt() }

// finish is the end of a whole answer. A request that is still being sent goes
// on: the origin may read it behind its answer.
func (x *exchange2) finish() {
	if x.up == nil {
		x.stop()
		x.s.Done()
		return
	}
	if x.up.leave(func() { x.stop(); x.s.Done() }) {
		x.stop()
		x.s.Done()
	}
}

// abandon resets the stream and ends the upload.
func (x *exchange2) abandon() {
	x.stop()
	x.s.Reset(h2.Cancel)
	if x.up != nil {
		x.up.body.source.Close()
		<-x.up.done
	}
	x.s.Done()
}

// linkError says why no answer came over HTTP/2.
func (p *Pool) linkError(ctx context.Context, l *link, f *flow.Flow, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var known *flow.Error
	var client clientError
	if errors.As(err, &client) {
		return err
	}
	if errors.As(err, &known) {
		return known
	}
	addr := address(f.Origin)
	e := &flow.Error{Status: 502, Reason: flow.ReasonBroken, Cause: err,
		Detail: fmt.Sprintf("%s closed the connection before its answer was there.", addr),
		Next:   "Repeat the request; if it happens again, the origin fails on it."}
	var stream *h2.StreamError
	var conn *h2.ConnError
	switch {
	case errors.Is(err, errClosing):
		return closingError(err)
	case rejectsOurs(err):
		return clientCertError(addr, err)
	case errors.As(err, &stream) && stream.Remote:
		e.Detail = fmt.Sprintf("%s reset the stream of the request: %v.", addr, stream.Code)
	case errors.As(err, &stream):
		e.Reason = flow.ReasonBadResponse
		e.Detail = fmt.Sprintf("What %s answered is not HTTP/2 as RFC 9113 has it: %s.", addr, stream.Reason)
	case errors.As(err, &conn) && conn.Remote:
		e.Detail = fmt.Sprintf("%s ended the HTTP/2 connection: %v %s.", addr, conn.Code, conn.Reason)
	case errors.As(err, &conn):
		e.Reason = flow.ReasonBadResponse
		e.Detail = fmt.Sprintf("What %s sent is not HTTP/2 as RFC 9113 has it: %s.", addr, conn.Reason)
	case errors.Is(err, h2.ErrSilent):
		e.Status, e.Reason = 504, flow.ReasonTimeout
		e.Detail = fmt.Sprintf("%s did not answer within %v.", addr, p.limits.FirstByte)
		e.Next = "Check what keeps the origin busy, or raise the limit."
	case errors.Is(err, h2.ErrWindow), errors.Is(err, h2.ErrStuck):
		e.Status, e.Reason = 504, flow.ReasonTimeout
		e.Detail = fmt.Sprintf("%s took nothing of the request for %v.", addr, p.limits.Stall)
	}
	return e
}
