package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// connect opens a tunnel that is a stream on a connection to the proxy (RFC 9113
// §8.5). Behind the answer it is what a connection is behind CONNECT by HTTP/1:
// a client of its own, under the same limits, one of Limits.Connections.
func (x *exchange2) connect(asked *client, authority []byte) (flow.Handler, error) {
	origin, err := asked.find(true, authority)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, f *flow.Flow) error {
		s, outer := x.t.c.s, x.t.c.raw
		select {
		case s.slots <- struct{}{}:
		default:
			return &flow.Error{Status: 503, Reason: flow.ReasonConnections,
				Detail: fmt.Sprintf("%d connections and tunnels are open, the most there may be.", cap(s.slots)),
				Next:   "Repeat the request when some have ended; limits.connections in the configuration says how many there may be."}
		}
		conn := &streamConn{tunnel: x.s.Tunnel(), outer: outer}
		inner := newClient(ctx, s, conn, asked.entry)
		inner.seen = asked.seen
		defer inner.cancel(errGone)
		if !s.enrol(inner) {
			<-s.slots
			return &flow.Error{Status: 503, Reason: flow.ReasonClosing, Detail: "Holdfast is ending.", Next: "Repeat the request when it runs again."}
		}
		defer s.dismiss(inner)
		begin := func() bool { return inner.begin(origin) }
		if why := s.passes(outer, origin); why != "" {
			raw := origin
			raw.TLS = false
			passed, err := inner.open(raw, why)
			if err != nil {
				return err
			}
			defer passed.Upgraded.Close()
			begin = func() bool { inner.carry(passed, nil); return false }
		}
		f.Response = established2()
		if err := x.s.WriteHead(&f.Response.Head, false); err != nil {
			return unwritten(err)
		}
		x.s.Flush()
		x.s.Forget()
		x.tunnelled = true
		inner.serve(begin)
		return nil
	}, nil
}

func established2() *wire.Response {
	r := new(wire.Response)
	r.Reset(wire.HTTP2)
	r.AppendField([]byte(":status"), []byte("200"), 0)
	return r
}

// streamConn is a stream of HTTP/2 as the connection of a client. Close and
// SetReadDeadline may be called from any goroutine and never wait: the watcher
// calls them. The stream is given free by the one who serves it.
type streamConn struct {
	tunnel *h2.Tunnel
	outer  net.Conn // that the stream is on

	writing sync.Mutex // held by Write and CloseWrite

	mu      sync.Mutex // and never wait with it
	closed  bool
	hard    bool // closing is an error (RFC 9113 §8.5)
	expired bool
	timer   *time.Timer
	timers  int // set so far
}

// Read is net.Conn's.
func (c *streamConn) Read(p []byte) (int, error) {
	for {
		if err := c.stopped(); err != nil {
			return 0, err
		}
		n, err := c.tunnel.Read(p)
		if !errors.Is(err, wire.ErrClosed) {
			return n, lost(err)
		} // a deadline, perhaps one that was taken back meanwhile
	}
}

func (c *streamConn) stopped() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return net.ErrClosed
	case c.expired:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// lost keeps apart what ends the client's stream and what ends an origin's,
// which has a meaning of its own for those who hand bytes on.
func lost(err error) error {
	if isReset2(err) {
		return fmt.Errorf("the client's tunnel broke off: %v", err)
	}
	return err
}

// Write is net.Conn's. It waits for the client's window.
func (c *streamConn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	n, err := c.tunnel.Write(p)
	return n, lost(err)
}

// CloseWrite sends END_STREAM.
func (c *streamConn) CloseWrite() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return lost(c.tunnel.CloseWrite())
}

// SetLinger with 0 has Close reset the stream, as it would a connection.
func (c *streamConn) SetLinger(sec int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hard = sec == 0
	return nil
}

// Close is net.Conn's. Where a Write waits, it resets the stream.
func (c *streamConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	c.setTimer(0, false)
	hard := c.hard
	if !hard && c.writing.TryLock() {
		defer c.writing.Unlock()
	} else {
		hard = true
	}
	c.tunnel.Leave(hard)
	return nil
}

// SetReadDeadline is net.Conn's.
func (c *streamConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	left := time.Until(t)
	c.expired = !t.IsZero() && left <= 0
	c.setTimer(left, !t.IsZero() && left > 0)
	if c.expired {
		c.tunnel.Interrupt()
	} else {
		c.tunnel.Resume()
	}
	return nil
}

// setTimer replaces the deadline to come. c.mu is held.
func (c *streamConn) setTimer(after time.Duration, wanted bool) {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	c.timers++
	if !wanted {
		return
	}
	number := c.timers
	c.timer = time.AfterFunc(after, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.timers == number {
			c.expired = true
			c.tunnel.Interrupt()
		}
	})
}

// SetWriteDeadline does nothing: the watcher ends writes, and crypto/tls, which
// sets one for its last alert, does not need it.
func (c *streamConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is that for reading.
func (c *streamConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// LocalAddr is that of the connection.
func (c *streamConn) LocalAddr() net.Addr { return c.outer.LocalAddr() }

// RemoteAddr is that of the connection.
func (c *streamConn) RemoteAddr() net.Addr { return c.outer.RemoteAddr() }

// state is what peerState tells of a socket. That the stream was reset cancels
// its flows at once.
func (c *streamConn) state() int {
	if c.tunnel.Ended() {
		return peerHalf
	}
	return peerHere
}
