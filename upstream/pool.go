package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// Tick is how often waits are looked at, and so how late one may end. Where a
// limit is shorter than four ticks, the pool ticks faster.
const Tick = 250 * time.Millisecond

// restChecked is how long a connection rests until it is looked at before it
// is used again: servers close idle connections after seconds, not sooner.
const restChecked = time.Second

// Config says how a pool reaches origins. Its zero value works.
type Config struct {
	// Dial opens a connection; the address is host:port as in the flow's
	// origin. Nil is the operating system's resolver and both families of
	// addresses at once (RFC 8305). Any goroutine may call it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Refuse is asked about the address that was reached; its error is
	// returned by Send. It is how a proxy does not talk to itself.
	Refuse func(remote net.Addr) error
	// Ways say which origins are reached otherwise: by a proxy, at another
	// address, with a certificate of ours, with other demands on TLS.
	Ways Ways
	// Insecure accepts any certificate of an origin.
	Insecure bool
	// Roots are trusted besides those of the system.
	Roots []*x509.Certificate
	// MinTLS is the lowest version of TLS, TLS 1.2 when zero.
	MinTLS uint16
	// Policy says what to do with answers whose framing is ambiguous, that are
	// no HTTP/1 (see docs/manual.md, "Framing"), or by HTTP/2 and malformed
	// (RFC 9113 §8.1.1): wire.Strict refuses most. wire.Raw sends one request
	// on a connection by HTTP/1.
	Policy wire.Policy
	Limits Limits
	Clock  func() time.Time // nil is time.Now
}

// Limits bound waits and memory. Zero is the default that stands beside each;
// a negative time is no limit.
type Limits struct {
	Dial      time.Duration // until connected, names resolved: 10 s
	Handshake time.Duration // of TLS: 10 s
	FirstByte time.Duration // from the last byte written to the first of the answer: 5 min
	Stall     time.Duration // without the origin taking a byte that is being written: 2 min
	Silence   time.Duration // within a body or a tunnel: 1 h
	Idle      time.Duration // until an unused connection is closed: 90 s

	IdlePerOrigin int           // connections kept for one origin for so long: 256
	Surplus       time.Duration // until one beyond these is closed, longest unused first: 5 s
	IdleTotal     int           // connections kept in all; the longest unused goes first: 2048
	Interim       int           // 1xx answers to one request: 64
	LargeHeads    int           // of answers, of more than wire.LargeHead, held at a time; further ones wait up to 30 s and FirstByte, by HTTP/2 not at all: 32

	Message wire.Limits // of an answer's head
}

func (l Limits) resolved() Limits {
	orTime := func(d *time.Duration, standard time.Duration) {
		if *d == 0 {
			*d = standard
		}
	}
	orTime(&l.Dial, 10*time.Second)
	orTime(&l.Handshake, 10*time.Second)
	orTime(&l.FirstByte, 5*time.Minute)
	orTime(&l.Stall, 2*time.Minute)
	orTime(&l.Silence, time.Hour)
	orTime(&l.Idle, 90*time.Second)
	orTime(&l.Surplus, 5*time.Second)
	orCount := func(n *int, standard int) {
		if *n == 0 {
			*n = standard
		}
	}
	orCount(&l.IdlePerOrigin, 256)
	orCount(&l.IdleTotal, 2048)
	orCount(&l.Interim, 64)
	orCount(&l.LargeHeads, 32)
	return l
}

// tick is the time between two looks at the connections.
func (l Limits) tick() time.Duration {
	tick := Tick
	for _, d := range []time.Duration{l.FirstByte, l.Stall, l.Silence, l.Idle, l.Surplus} {
		if d > 0 {
			tick = min(tick, max(d/4, time.Millisecond))
		}
	}
	return tick
}

// A key says which flows may share a connection.
type key struct {
	origin flow.Origin
	// identity keeps apart identities whose connections carry authentication
	// of their own (client certificates, NTLM); else "".
	identity string
	client   uint64 // the client's connection that it is pinned to
	pinned   bool   // to identity and client: see pin.go
	login    string // whose NTLM login the connection carries, or the number of the one that is under way
	tunnel   bool   // by an HTTP proxy that sees nothing of it, although the origin speaks no TLS
}

// A Pool sends flows. Any goroutine may call its methods.
type Pool struct {
	cfg    Config
	limits Limits
	tls    *tls.Config
	routes *routes
	large  wire.Slots
	pins   atomic.Bool // a connection was pinned
	tick   time.Duration
	ticks  atomic.Uint32 // looks so far: a coarse clock without a system call

	mu      sync.Mutex
	shelves map[key]*shelf
	lru     rest // all idle connections, the longest unused first
	open    map[*conn]struct{}
	closed  bool
	retired bool          // nothing is kept that is not in use
	stop    chan struct{} // ends the watcher; nil while there is no connection
	// running are the goroutines that are under way: the watcher, those of
	// connections, and those that copy bodies. A sync.WaitGroup will not do: a flow
	// may begin one while Close waits. ended tells of the last.
	running int
	ended   *sync.Cond

	links  links // HTTP/2
	logins logins

	buffers sync.Pool // of *[]byte with room for atOnce, for putting requests together
}

// A shelf is where the connections of one key rest. It is there as long as one
// of them is open, so that a connection finds back without its key. Pool.mu
// guards it.
type shelf struct {
	idle []*conn // the last is the one used last
	open int     // connections that are open, idle or not
}

// New makes a pool. It starts nothing until the first connection.
func New(cfg Config) *Pool {
	p := &Pool{cfg: cfg, limits: cfg.Limits.resolved(), shelves: map[key]*shelf{}, open: map[*conn]struct{}{}}
	p.ended = sync.NewCond(&p.mu)
	p.large = make(wire.Slots, p.limits.LargeHeads)
	p.links.init()
	p.tick = p.limits.tick()
	p.tls = p.tlsConfig()
	p.routes = newRoutes(cfg.Ways, p.tls)
	if p.cfg.Clock == nil {
		p.cfg.Clock = time.Now
	}
	if p.cfg.Dial == nil {
		p.cfg.Dial = (&net.Dialer{}).DialContext
	}
	return p
}

// Close closes every connection, so that flows under way fail, and waits until
// no goroutine of the pool is left. Calling it again does nothing.
func (p *Pool) Close() {
	p.mu.Lock()
	if !p.closed && p.stop != nil {
		close(p.stop)
	}
	p.closed = true
	for c := range p.open {
		c.doom(errClosing)
		c.raw.Close()
	}
	clear(p.open)
	clear(p.shelves)
	p.lru = rest{}
	p.mu.Unlock()
	p.links.wake()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.running > 0 {
		p.ended.Wait()
	}
}

// run runs f in a goroutine that Close waits for. p.mu is not held.
func (p *Pool) run(f func()) {
	p.mu.Lock()
	p.running++
	p.mu.Unlock()
	go func() {
		defer p.ran()
		f()
	}()
}

// ran is the end of one of running.
func (p *Pool) ran() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running--; p.running == 0 {
		p.ended.Broadcast()
	}
}

// Retire closes the connections that are not in use, and has the others be closed
// when they no longer are. What is sent later gets a connection of its own.
func (p *Pool) Retire() {
	p.mu.Lock()
	p.retired = true
	p.mu.Unlock()
	for p.Shed() {
	}
}

// Rests reports whether no connection is open.
func (p *Pool) Rests() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open) == 0
}

// take returns an idle connection that looks alive and that the owner may use,
// or nil.
func (p *Pool) take(k key, careful bool, owner uint64) *conn {
	for {
		p.mu.Lock()
		c, unfit := p.pick(k, owner)
		p.mu.Unlock()
		if unfit != nil {
			unfit.close()
		}
		if c == nil {
			return nil
		}
		rested := time.Duration(p.ticks.Load()-c.rested) * p.tick
		// On one that has only been made, TLS 1.3's session tickets lie unread.
		if (c.used && (careful || c.wary) || rested > restChecked) && !quiet(c.raw) {
			c.close()
			continue
		}
		return c
	}
}

// put keeps a connection for the next flow; used says that it has answered one.
func (p *Pool) put(c *conn, used bool) {
	c.rested = p.ticks.Load()
	c.used, c.bare = used, false
	p.mu.Lock()
	if p.closed || p.retired {
		p.mu.Unlock()
		c.close()
		return
	}
	c.shelf.idle = append(c.shelf.idle, c)
	p.lru.push(c)
	var evicted *conn
	if p.lru.n > p.limits.IdleTotal {
		evicted = p.lru.first
		p.pull(evicted.shelf, 0) // of its shelf it has rested longest, too
	}
	p.mu.Unlock()
	if evicted != nil {
		evicted.close()
	}
}

// Shed closes the idle connection that was not used for longest, so that its
// descriptor is free for another. false: there is none.
func (p *Pool) Shed() bool {
	p.mu.Lock()
	c := p.lru.first
	if c != nil {
		p.pull(c.shelf, 0) // of its shelf it has rested longest, too
	}
	p.mu.Unlock()
	if c != nil {
		c.close()
	}
	return c != nil
}

// add registers a new connection, and starts the watcher with the first.
func (p *Pool) add(c *conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosing
	}
	p.open[c] = struct{}{}
	p.shelve(c)
	if p.stop == nil {
		p.stop = make(chan struct{})
		p.running++
		go p.watch(p.stop)
	}
	return nil
}

func (p *Pool) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(c)
}

// forget strikes off a connection that is not idle and is being closed. p.mu
// is held.
func (p *Pool) forget(c *conn) {
	if _, known := p.open[c]; known {
		delete(p.open, c)
		p.unshelve(c)
	}
}

// shelve gives a connection the shelf of its key, to which put brings it. p.mu
// is held.
func (p *Pool) shelve(c *conn) {
	s := p.shelves[c.key]
	if s == nil {
		s = new(shelf)
		p.shelves[c.key] = s
	}
	s.open++
	c.shelf = s
}

func (p *Pool) unshelve(c *conn) {
	if c.shelf.open--; c.shelf.open == 0 {
		delete(p.shelves, c.key)
	}
}

// watch ends waits and closes idle connections.
func (p *Pool) watch(stop chan struct{}) {
	defer p.ran()
	ticker := time.NewTicker(p.tick)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			p.look(p.ticks.Add(1))
			if p.leave(stop) {
				return
			}
		}
	}
}

// leave ends the watcher of a retired pool that has nothing to watch.
func (p *Pool) leave(stop chan struct{}) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.retired || len(p.open) > 0 || p.stop != stop {
		return false
	}
	p.stop = nil
	return true
}

func (p *Pool) look(now uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := p.lru.first; c != nil && p.exceeded(p.limits.Idle, now-c.rested); c = p.lru.first {
		p.pull(c.shelf, 0)
		p.forget(c)
		c.raw.Close() // no close_notify: nothing is under way that could be cut off
	}
	for _, s := range p.shelves {
		p.trim(s, now)
	}
	// Buffers go back only now: with a flow right behind it is in use again,
	// and asking for the first byte without a buffer costs a system call.
	for c := p.lru.last; c != nil && !c.bare; c = c.before {
		if now-c.rested > 1 {
			c.br.Idle()
			c.bare = true
		}
	}
	for c := range p.open {
		c.look(now)
	}
	p.lookLinks(now)
}

// trim closes connections to one origin that are more than are kept, once they
// have not been used for a while. Closing them when they come back would cost a
// handshake for each request of a crowd that is larger than what is kept.
// p.mu is held.
func (p *Pool) trim(s *shelf, now uint32) {
	n := 0
	for n < len(s.idle)-p.limits.IdlePerOrigin && p.exceeded(p.limits.Surplus, now-s.idle[n].rested) {
		c := s.idle[n]
		p.lru.remove(c)
		p.forget(c)
		c.raw.Close()
		n++
	}
	if n > 0 {
		s.idle = append([]*conn(nil), s.idle[n:]...) // what a crowd needed is not kept either
	}
}

// exceeded tells whether so many ticks are longer than the limit.
func (p *Pool) exceeded(limit time.Duration, ticks uint32) bool {
	return limit > 0 && time.Duration(ticks)*p.tick > limit
}

// rest is a list of connections in the order in which they became idle.
type rest struct {
	first, last *conn
	n           int
}

func (r *rest) push(c *conn) {
	c.before, c.after = r.last, nil
	if r.last != nil {
		r.last.after = c
	} else {
		r.first = c
	}
	r.last = c
	r.n++
}

func (r *rest) remove(c *conn) {
	if c.before != nil {
		c.before.after = c.after
	} else {
		r.first = c.after
	}
	if c.after != nil {
		c.after.before = c.before
	} else {
		r.last = c.before
	}
	c.before, c.after = nil, nil
	r.n--
}

var errClosing = errors.New("the pool is closed")
