package proxy

import (
	"net"
	"runtime"
	"sync/atomic"
	"time"
)

// restTicks is for how many looks a connection is idle until it rests.
const restTicks = 2

// A nap has a connection that is idle wait in a way that costs less. Reading
// the next request holds the stack of a reader of HTTP on top of one of TLS,
// and the memory of the request before, which the next one is read into. That
// is right between two requests of a busy client, and most of what a tunnel
// costs that nobody uses. So the watcher has the read time out after a while,
// and the connection waits for the socket alone: see rest.
//
// What it holds settles who may touch the deadline: the watcher only from
// napAllowed on, the connection's goroutine only before and after.
type nap struct {
	able  bool // there is a socket to wait for
	state atomic.Int32
}

const (
	napNone    = iota
	napAllowed // by the connection's goroutine, which reads
	napComing  // the watcher is about to expire the read
	napHere    // it has
)

// allow says that the next read may be expired.
func (n *nap) allow() {
	if n.able {
		n.state.Store(napAllowed)
	}
}

// begin is the watcher's: it expires the read, if that is allowed.
func (n *nap) begin(conn net.Conn) {
	if n.state.CompareAndSwap(napAllowed, napComing) {
		conn.SetReadDeadline(time.Unix(1, 0))
		n.state.Store(napHere)
	}
}

// begun tells whether it was the watcher who ended a read for a nap.
func (n *nap) begun() bool { return n.state.Load() >= napComing }

// over takes the permission back, and the deadline if it was set meanwhile.
func (n *nap) over(conn net.Conn) {
	if n.state.Load() == napNone || n.state.CompareAndSwap(napAllowed, napNone) {
		return
	}
	for n.state.Load() == napComing {
		runtime.Gosched() // the watcher is between two lines
	}
	conn.SetReadDeadline(time.Time{})
	n.state.Store(napNone)
}

// rest waits until there is something to read, and tells whether there may be.
// A read was expired before, so nothing is left in any buffer that could be a
// request: what is waited for has not arrived. The phase stays inIdle, with the
// same limit since when it began.
func (c *client) rest() bool {
	c.spare, c.early = nil, nil
	c.nap.over(c.raw)
	if c.s.closing.Load() {
		return false // quit's deadline may just have been taken away
	}
	return awaitReadable(c.raw) == nil
}
