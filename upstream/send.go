package upstream

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// atOnce is up to how many bytes of head and body that are at hand go into one
// write, and so into one TLS record.
const atOnce = 16 << 10

// A waiter is a body whose Next may wait: see the package's doc.
type waiter interface {
	Ready() bool
}

// outgoing is a request on its way.
type outgoing struct {
	first []byte // what is written at once: the head, and the body as far as it is at hand
	// The rest, when first is not everything.
	pending []byte    // a piece that is too large for first
	body    wire.Body // what follows it; nil when nothing does
	buffers *sync.Pool
	buffer  *[]byte // where first was put together; nil when it is the head itself
}

func (o *outgoing) whole() bool { return o.body == nil && len(o.pending) == 0 }

// Send sends f.Request to f.Origin and sets f.Response and f.ResponseBody, or
// f.Upgraded. It is a flow.Handler. Errors that the client can be told are
// *flow.Error; a context that ended is returned as its cause. After an error
// nothing of f.RequestBody is in use any more. After a success it may still be
// read, by a goroutine, until its end or until f.ResponseBody is closed.
func (p *Pool) Send(ctx context.Context, f *flow.Flow) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if f.Auth != nil {
		return p.sendAs(ctx, f, f.Auth)
	}
	return p.sendPlain(ctx, f)
}

// sendPlain sends the flow as it is.
func (p *Pool) sendPlain(ctx context.Context, f *flow.Flow) error {
	if f.Request.Proto() == wire.HTTP2 {
		return p.send2(ctx, f)
	}
	if p.links.only2.Load() && p.links.speaks(f.Origin) == speaksOnly2 {
		return p.sendLinked(ctx, f)
	}
	err := p.send1(ctx, f)
	if err != nil && f.Origin.TLS && refusesHTTP1(err) {
		p.links.learn(f.Origin, speaksOnly2)
		if f.RequestBody == nil || !errors.Is(err, errGreets2) {
			return p.sendLinked(ctx, f)
		}
	}
	return err
}

// send1 sends the flow over HTTP/1.
func (p *Pool) send1(ctx context.Context, f *flow.Flow) error {
	k := p.keyOf(f)
	repeatable := repeatable(f.Request)
	var out outgoing
	for again := false; ; again = true {
		c, err := p.connect(ctx, f, k, !repeatable, again)
		if err != nil {
			out.free()
			return err
		}
		if !again {
			// Only now: a body is not touched for an origin that is not there.
			if out, err = p.gather(f, c); err != nil {
				c.discard()
				out.free()
				return bodyError(err)
			}
		}
		c.begin(ctx)
		err = c.send(f, &out)
		if err == nil {
			out.free()
			return nil
		}
		stale := !again && c.used && out.whole() && c.why(nil) == nil &&
			(c.got == 0 && (repeatable || errors.As(err, new(undelivered))) || repeatable && errors.As(err, new(leftover)))
		err = c.answerError(ctx, err)
		c.discard()
		if !stale {
			out.free()
			return err
		}
		f.Trace.Add(flow.Event{At: p.cfg.Clock().Sub(f.Start), Actor: "upstream", Action: flow.ActionRetry,
			Detail: "the kept connection to " + address(f.Origin) + " had ended: sent again on a new one"})
	}
}

// connect takes a kept connection, or makes a new one.
func (p *Pool) connect(ctx context.Context, f *flow.Flow, k key, careful, fresh bool) (*conn, error) {
	own := logsInConnection(f.Request)
	if own || p.pins.Load() {
		pinned := k.pinnedTo(f)
		if c := p.take(pinned, true, ownerOf(f)); c != nil && !fresh {
			return c, nil
		} else if c != nil {
			c.discard()
		}
		if own {
			p.pins.Store(true)
			return p.dial(ctx, pinned, only1())
		}
	}
	if !fresh {
		if c := p.take(k, careful, ownerOf(f)); c != nil {
			return c, nil
		}
	}
	return p.dial(ctx, k, only1())
}

// gather puts together what is at hand of the request.
func (p *Pool) gather(f *flow.Flow, c *conn) (outgoing, error) {
	body := f.RequestBody
	head, err := c.forHop(f)
	if err != nil {
		if body != nil {
			body.Close()
		}
		return outgoing{}, err
	}
	if body == nil {
		return outgoing{first: head}, nil
	}
	o := outgoing{first: head, body: body, buffers: &p.buffers}
	w, waits := body.(waiter)
	for !waits || w.Ready() {
		piece, err := body.Next()
		if err != nil && err != io.EOF {
			body.Close()
			return o, err
		}
		if len(o.first)+len(piece) > atOnce {
			o.pending = piece
		} else if len(piece) > 0 {
			o.append(piece)
		}
		if err == io.EOF {
			o.body = nil
			return o, nil
		}
		if o.pending != nil {
			return o, nil
		}
	}
	return o, nil
}

// append adds a piece to first, which leaves the head's own memory.
func (o *outgoing) append(piece []byte) {
	if o.buffer == nil {
		if v, ok := o.buffers.Get().(*[]byte); ok {
			o.buffer = v
		} else {
			v := make([]byte, 0, atOnce)
			o.buffer = &v
		}
		o.first = append((*o.buffer)[:0], o.first...)
	}
	o.first = append(o.first, piece...)
}

// free gives the buffer back.
func (o *outgoing) free() {
	if o.buffer != nil {
		o.buffers.Put(o.buffer)
		o.buffer, o.first = nil, nil
	}
}

// send writes the request and reads the head of the answer. When it fails, no
// goroutine uses the connection or the body any more.
func (c *conn) send(f *flow.Flow, out *outgoing) error {
	n, writeErr := c.writeFirst(out.first)
	if writeErr != nil && n == 0 && c.used {
		if out.body != nil {
			out.body.Close()
		}
		return undelivered{writeErr}
	}
	x, _ := f.Memory.(*exchange)
	if f.Memory = nil; x == nil || len(f.Earlier) > 0 { // whose answers are kept
		x = new(exchange)
	}
	x.reset(c)
	switch {
	case writeErr == nil && !out.whole():
		x.up = c.startUpload(out)
	case writeErr == nil:
		c.endRequest(f.RequestBody)
	}
	c.enter(phaseAnswer)
	// Also after a failed write: an origin that refuses a large request may
	// answer and close without reading it.
	c.flow, c.large = f, false
	err := x.readHead(f)
	c.flow = nil
	if err == nil {
		c.enter(phaseBody)
		err = x.frame(f)
	}
	if err == nil {
		return nil
	}
	if x.up != nil {
		c.close()
		x.up.stop()
		if x.up.bodyErr != nil {
			return x.up.bodyErr
		}
	} else if out.body != nil {
		out.body.Close()
	}
	if writeErr != nil && c.got == 0 {
		return writeErr
	}
	return err
}

// breath is long enough that the runtime looks for connections that are ready.
const breath = 50 * time.Microsecond

// writeFirst writes the head, and what of the body goes with it. A very large
// head is written in parts, so that others have the processor in between: an
// origin that takes it all never makes the writing wait.
func (c *conn) writeFirst(p []byte) (n int, err error) {
	const part = wire.LargeHead
	for len(p)-n > part && err == nil {
		var wrote int
		wrote, err = c.rw.Write(p[n : n+part])
		n += wrote
		time.Sleep(breath)
	}
	if err != nil {
		return n, err
	}
	wrote, err := c.rw.Write(p[n:])
	return n + wrote, err
}

// readHead reads answers until the final one.
func (x *exchange) readHead(f *flow.Flow) error {
	for n := 0; ; n++ {
		if headless, err := x.readOne(f); headless || err != nil {
			return err
		}
		status := x.response.Status()
		if status < 100 || status > 199 || status == 101 {
			return nil
		}
		if n >= x.c.pool.limits.Interim {
			return errInterim
		}
		x.frameInterim(f)
		if f.Interim != nil {
			if err := f.Interim(&x.response); err != nil {
				return clientError{err}
			}
		}
		x.c.touch()
	}
}

// frame settles what follows the head of the answer.
func (x *exchange) frame(f *flow.Flow) error {
	c, method := x.c, f.Request.Method()
	status := x.response.Status()
	if err := c.fromHop(&x.response); err != nil {
		return err
	}
	c.pin(f, &x.response)
	if status == 101 || status/100 == 2 && string(method) == "CONNECT" {
		f.Response, f.Upgraded = &x.response, &tunnel{x: x}
		return nil
	}
	framing, err := x.framed(f)
	if err != nil {
		return err
	}
	c.wary = f.RequestBody != nil || framing.Kind == wire.None
	if f.RequestBody != nil {
		c.owner = ownerOf(f)
	}
	x.keep = !x.odd && c.pool.cfg.Policy != wire.Raw && string(method) != "CONNECT" && framing.Kind != wire.UntilClose && !framing.Ambiguous &&
		x.response.KeepAlive() && f.Request.KeepAlive() && !ambiguous(f)
	f.Response = &x.response
	f.ResponseBody = nil
	if x.up == nil && !c.large {
		f.Memory = x
	}
	if framing.Kind == wire.None || framing.Kind == wire.Length && framing.Length == 0 {
		x.end(true)
		return nil
	}
	x.body = c.br.Body(framing)
	f.ResponseBody = x
	return nil
}

// ambiguous tells whether the request can be read in more than one way. Its
// origin may then see two requests and answer twice.
func ambiguous(f *flow.Flow) bool {
	if f.RequestBody != nil {
		return f.RequestBody.Framing().Ambiguous
	}
	framing, err := wire.RequestFraming(f.Request)
	return err != nil || framing.Ambiguous || framing.Kind != wire.None && framing.Length != 0
}

// repeatable tells whether a request may be sent twice. The handshake of a
// WebSocket is one by either version's method.
func repeatable(r *wire.Request) bool { return idempotent(r.Method()) || ws.Asks(r) }

// idempotent is RFC 9110 §9.2.2. Methods are case-sensitive (§9.1), so "get"
// is some other method about which nothing is known.
func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}
