package proxy

import (
	"sync/atomic"
	"time"
)

// What a connection's reading side waits for.
const (
	inNothing   = iota
	inHandshake // TLS
	inIdle      // the first byte of a request
	inHead      // the rest of its head
	inBody      // a piece of its body
	inTunnel    // bytes of a tunnel
	inStreams   // frames of HTTP/2
)

// What its writing side does.
const (
	outNothing = iota // no flow is under way
	outWaiting        // for the handler, or for the next piece of an answer
	outWriting        // the client is to take bytes
)

// What peerState can tell.
const (
	peerHere = iota // connected, or not known
	peerHalf        // has closed its sending side, or everything
	peerGone
)

// A stage is what one side of a connection is waiting for, and a number that
// rises with each change and with progress. One goroutine at a time writes it;
// the watcher reads it. It replaces deadlines: two atomic additions instead of
// two changes of a timer.
type stage struct{ v atomic.Uint64 }

func (s *stage) enter(phase uint64) { s.v.Store((s.v.Load()>>8+1)<<8 | phase) }
func (s *stage) progress()          { s.v.Add(1 << 8) }
func (s *stage) phase() uint64      { return s.v.Load() & 0xff }

// waited counts for how many looks a value has been the same. It belongs to
// the watcher.
type waited struct {
	last  uint64
	ticks int
}

func (w *waited) look(v uint64) int {
	if v == w.last {
		w.ticks++
	} else {
		w.last, w.ticks = v, 0
	}
	return w.ticks
}

// watch ends what waits longer than its limit, until the server is finished.
func (s *Server) watch() {
	defer close(s.watched)
	ticker := time.NewTicker(s.tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.unwatch:
			return
		}
		s.mu.Lock()
		for c := range s.clients {
			c.look()
		}
		s.mu.Unlock()
	}
}

// look is the watcher's visit to one connection.
func (c *client) look() {
	l := &c.s.limits
	in, out := c.in.v.Load(), c.out.v.Load()
	inTicks, outTicks := c.inWaited.look(in), c.outWaited.look(out)
	limit := time.Duration(-1)
	switch in & 0xff {
	case inHandshake:
		limit = l.Handshake
	case inIdle:
		if limit = l.Idle; c.s.closing.Load() {
			limit = 1
		} else if inTicks == restTicks {
			c.nap.begin(c.raw)
		}
	case inHead:
		limit = l.Head
	case inBody:
		limit = l.Body
	case inTunnel:
		limit = l.Tunnel
	case inStreams:
		c.look2(inTicks)
	}
	if c.s.over(limit, inTicks) {
		c.expire()
	}
	switch out & 0xff {
	case outWriting:
		if c.s.over(l.Stall, outTicks) {
			c.raw.Close()
		}
	case outWaiting:
		c.lookGone(min(inTicks, outTicks))
	}
}

// over tells whether so many looks are longer than the limit.
func (s *Server) over(limit time.Duration, ticks int) bool {
	return limit > 0 && time.Duration(ticks)*s.tick > limit
}

// lookGone cancels a flow that has waited for at least a tick and whose client
// has left. With TLS closing one side only is not a thing that HTTP clients
// do; without, a client like "printf … | nc" does it and waits for the answer.
func (c *client) lookGone(ticks int) {
	if ticks == 0 {
		c.left = 0
		return
	}
	switch c.peer() {
	case peerHere:
		c.left = 0
	case peerHalf:
		if c.left++; c.secured.Load() || c.s.over(c.s.limits.HalfClosed, c.left) {
			c.cancel(errGone)
		}
	case peerGone:
		c.cancel(errGone)
	}
}

func (c *client) peer() int {
	if s, ok := c.raw.(*streamConn); ok {
		return s.state()
	}
	return peerState(c.raw)
}

// expire makes the connection's reads fail from now on.
func (c *client) expire() { c.raw.SetReadDeadline(time.Unix(1, 0)) }
