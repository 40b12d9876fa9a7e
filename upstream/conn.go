package upstream

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// largeWait is how long the head of an answer above wire.LargeHead waits for
// others to end.
const largeWait = 30 * time.Second

// What a connection that is in use waits for.
const (
	phaseWrite  = iota // the origin to take the request
	phaseAnswer        // the first byte of the answer
	phaseBody          // the rest of the answer, or bytes of a tunnel
)

// conn is one connection to an origin. One flow at a time has it.
type conn struct {
	pool *Pool
	key  key      // changes with shelf
	raw  net.Conn // TCP
	rw   net.Conn // raw, or TLS on it
	br   *wire.Reader
	// proxy is the HTTP proxy that raw leads to and that is asked in
	// absolute-form; nil: what is written is read by the origin.
	proxy *Proxy

	then          *key       // what key becomes with the next answer that is no 401
	used          bool       // has answered before
	owner         uint64     // who alone may use it again; 0: anybody
	wary          bool       // more may come than the answer it gave last
	got           int        // bytes of the answer to the flow that has it
	rested        uint32     // the tick at which it became idle
	before, after *conn      // in Pool.lru, guarded by Pool.mu
	shelf         *shelf     // where it rests, guarded by Pool.mu
	flow          *flow.Flow // that reads the head of an answer
	large         bool       // its flow has one of Pool.large
	bare          bool       // br has given its buffer back, guarded by Pool.mu while idle

	state atomic.Uint64 // the phase, and the tick of the last progress in it

	mu     sync.Mutex      // guards what follows
	ctx    context.Context // of the flow that has it
	doomed error           // why the watcher ended the wait; the connection is no good any more
	closed bool
	// ended (the answer) and copied (the request) settle who gives the
	// connection back when an answer ends first: the later one.
	ended, copied bool
}

// Read is where br reads from.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.rw.Read(p)
	c.got += n
	return n, err
}

// begin gives the connection to a flow.
func (c *conn) begin(ctx context.Context) {
	c.got = 0
	c.mu.Lock()
	c.ctx, c.ended, c.copied = ctx, false, false
	c.mu.Unlock()
	c.enter(phaseWrite)
}

// takeLarge waits for a slot for the head of an answer that goes beyond
// wire.LargeHead. The flow gives it back at its end.
func (c *conn) takeLarge() error {
	if c.large || c.flow == nil {
		return nil
	}
	if !c.pool.large.Take() {
		wait := largeWait
		if limit := c.pool.limits.FirstByte; limit > 0 {
			wait = min(wait, limit)
		}
		timer := time.NewTimer(wait)
		defer timer.Stop()
		c.mu.Lock()
		ctx := c.ctx
		c.mu.Unlock()
		if ctx == nil { // closed
			return net.ErrClosed
		}
		select {
		case c.pool.large <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			return crowdedError(address(c.key.origin))
		}
	}
	c.large = true
	c.flow.OnEnd(func(*flow.Flow) { c.pool.large.Give() })
	return nil
}

// enter notes that the connection now waits for something else, or that there
// was progress.
func (c *conn) enter(phase uint64) {
	c.state.Store(phase<<32 | uint64(c.pool.ticks.Load()))
}

// touch notes progress in whatever phase it is; when another goroutine enters
// one meanwhile, that counts.
func (c *conn) touch() {
	if v, now := c.state.Load(), c.pool.ticks.Load(); uint32(v) != now {
		c.state.CompareAndSwap(v, v&^uint64(1<<32-1)|uint64(now))
	}
}

// release takes the connection from its flow, and tells whether it is good
// for another.
func (c *conn) release() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ctx = nil
	return c.doomed == nil && !c.closed
}

// look is the watcher's: has the flow that has this connection waited enough?
func (c *conn) look(now uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil || c.doomed != nil {
		return
	}
	if c.ctx.Err() != nil {
		c.doomLocked(context.Cause(c.ctx))
		return
	}
	state := c.state.Load()
	limits, phase, waited := &c.pool.limits, state>>32, now-uint32(state)
	switch {
	case phase == phaseWrite && c.pool.exceeded(limits.Stall, waited):
		c.doomLocked(errStall)
	case phase == phaseAnswer && c.pool.exceeded(limits.FirstByte, waited):
		c.doomLocked(errFirstByte)
	case phase == phaseBody && c.pool.exceeded(limits.Silence, waited):
		c.doomLocked(errSilence)
	}
}

// doom ends every wait on the connection; the first reason is remembered.
func (c *conn) doom(why error) {
	c.mu.Lock()
	c.doomLocked(why)
	c.mu.Unlock()
}

func (c *conn) doomLocked(why error) {
	if c.doomed == nil {
		c.doomed = why
		c.rw.SetDeadline(time.Unix(1, 0))
	}
}

// until has every wait on the connection end with the context, as long as
// settle was not called. That says why the connection is no good any more; nil
// is that it will not be hit later by an end that came at the same moment.
func (c *conn) until(ctx context.Context) (settle func() error) {
	stop := context.AfterFunc(ctx, func() { c.doom(context.Cause(ctx)) })
	return func() error {
		if !stop() {
			c.doom(context.Cause(ctx))
		}
		return c.why(nil)
	}
}

// why is the reason for which waits were ended, or err.
func (c *conn) why(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doomed != nil {
		return c.doomed
	}
	return err
}

// close ends the connection at once. Any goroutine may call it, also twice.
// TLS's farewell is left out: it could block, and HTTP's own framing has said
// already where the messages end.
func (c *conn) close() {
	c.mu.Lock()
	first := !c.closed
	c.closed, c.ctx = true, nil
	c.mu.Unlock()
	if first {
		c.raw.Close()
		c.pool.remove(c)
	}
}

func (c *conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// discard is close for the one who reads from the connection.
func (c *conn) discard() {
	c.close()
	c.br.Release()
}
