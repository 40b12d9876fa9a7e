package proxy

import (
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// atOnce is up to how many bytes of an answer's head and body that are at hand
// leave in one write, and so in one TLS record.
const atOnce = 16 << 10

// A waiter is a body whose Next may wait; of other bodies it is assumed that
// it never does.
type waiter interface{ Ready() bool }

func ready(b wire.Body) bool {
	w, ok := b.(waiter)
	return !ok || w.Ready()
}

// deliver writes the answer, and tells whether it allows the connection to be
// used again. The body is read to its end or closed.
func (c *client) deliver(x *exchange) (keep bool, err error) {
	f := &x.flow
	if f.Upgraded != nil {
		return false, c.upgrade(f)
	}
	if f.Response == nil {
		return false, fmt.Errorf("internal error: the handler set no response")
	}
	if f.Response.Proto() == wire.HTTP2 {
		if err := c.answerTo1(x); err != nil {
			return false, err
		}
	}
	buffer := c.piece()
	first, rest, eof, err := gather((*buffer)[:0], f)
	werr := c.write(first)
	c.s.pieces.Put(buffer)
	for werr == nil {
		if len(rest) > 0 {
			werr = c.write(rest)
		}
		if eof || werr != nil || err != nil {
			break
		}
		rest, err = f.ResponseBody.Next()
		if err == io.EOF {
			err, eof = nil, true
		}
	}
	if (err != nil || werr != nil) && f.ResponseBody != nil {
		f.ResponseBody.Close()
	}
	if werr != nil {
		return false, fmt.Errorf("%w: %w", errUnwritten, werr)
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", errCutShort, err)
	}
	return f.Response.KeepAlive() && reusable(f), nil
}

// gather puts together what is at hand of the answer. rest is a piece that is
// too large to be copied; eof says that nothing follows it.
func gather(to []byte, f *flow.Flow) (first, rest []byte, eof bool, err error) {
	first = append(to, f.Response.Bytes()...)
	if f.ResponseBody == nil {
		return first, nil, true, nil
	}
	for len(rest) == 0 && ready(f.ResponseBody) {
		piece, err := f.ResponseBody.Next()
		if len(first)+len(piece) > atOnce {
			rest = piece
		} else {
			first = append(first, piece...)
		}
		if err == io.EOF {
			return first, rest, true, nil
		}
		if err != nil {
			return first, rest, false, err
		}
	}
	return first, rest, false, nil
}

// reusable tells whether the client can see where the answer ends.
func reusable(f *flow.Flow) bool {
	if f.ResponseBody != nil {
		framing := f.ResponseBody.Framing()
		return framing.Kind != wire.UntilClose && !framing.Ambiguous
	}
	framing, err := wire.ResponseFraming(f.Response, f.Received.Method())
	return err == nil && !framing.Ambiguous &&
		(framing.Kind == wire.None || framing.Kind == wire.Length && framing.Length == 0)
}

// piece is a buffer for the first write of an answer.
func (c *client) piece() *[]byte {
	if v, ok := c.s.pieces.Get().(*[]byte); ok {
		return v
	}
	v := make([]byte, 0, atOnce)
	return &v
}

// upgrade hands bytes both ways until both sides have closed. One side may
// close first and go on reading.
func (c *client) upgrade(f *flow.Flow) error {
	origin := f.Upgraded
	defer origin.Close()
	answer, err := c.upgradeTo1(f)
	if err != nil {
		return fmt.Errorf("%w: %w", errCutShort, err)
	}
	if err := c.write(answer.Bytes()); err != nil {
		return fmt.Errorf("%w: %w", errUnwritten, err)
	}
	c.out.enter(outNothing)
	c.in.enter(inTunnel)
	socket := c.s.listenIn(f)
	defer socket.end()
	err = c.bothWays(origin, socket)
	c.in.enter(inNothing)
	return err
}

// bothWays hands bytes on until both sides have closed; one that fails takes
// the other with it.
func (c *client) bothWays(origin flow.Tunnel, socket *socket) error {
	fail := func(err error) {
		if isEnough(err) {
			c.linger() // what the client still sends must not cost it what it was sent
			return
		}
		if tcp, ok := c.raw.(interface{ SetLinger(sec int) error }); ok && isReset2(err) {
			tcp.SetLinger(0) // RFC 9113 §8.5: RST answers to RST_STREAM
		}
		c.raw.Close()
	}
	return bothWays(end{c.br, c.rw, fail}, origin, socket, c.in.progress)
}

// An end is the client's of a tunnel.
type end struct {
	io.Reader
	io.Writer // with CloseWrite, where one side alone can be closed
	fail      func(error)
}

func bothWays(client end, origin flow.Tunnel, socket *socket, progress func()) error {
	up := make(chan error, 1)
	go func() { up <- oneWay(client, origin, origin, client, socket.ear(flow.Client), progress) }()
	err := oneWay(client, origin, client.Writer, origin, socket.ear(flow.Server), progress)
	upErr := <-up
	if isEnough(upErr) {
		client.fail(upErr)
	} else if err == nil {
		err = upErr
	}
	return err
}

// isReset2 tells that a stream of HTTP/2 ended without END_STREAM.
func isReset2(err error) bool {
	return errors.As(err, new(*h2.StreamError)) || errors.As(err, new(*h2.LostError))
}

// isEnough tells that the origin has said all and wants to hear no more (RFC
// 9113 §8.1): what it said still has to be delivered.
func isEnough(err error) bool {
	var stream *h2.StreamError
	return errors.As(err, &stream) && stream.Remote && stream.Code == h2.NoError
}

func oneWay(client end, origin flow.Tunnel, to io.Writer, from io.Reader, heard *ear, progress func()) error {
	err := splice(to, from, heard, progress)
	if isEnough(err) && to == origin {
		return err
	}
	if err != nil {
		client.fail(err)
		if hard, ok := origin.(interface{ Abort() }); ok && isReset2(err) {
			hard.Abort()
		}
		origin.Close()
	} else if half, ok := to.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	return err
}

// splice copies until the source has closed; each piece leaves at once, and
// what an ear does with it cannot change it.
func splice(to io.Writer, from io.Reader, heard *ear, progress func()) error {
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			progress()
			heard.before(buffer[:n])
			if _, werr := to.Write(buffer[:n]); werr != nil {
				return werr
			}
			heard.after()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
