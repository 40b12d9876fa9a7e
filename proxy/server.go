package proxy

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// Tick is how often waits are looked at, and so how late one may end. Where a
// limit is shorter than four ticks, the server ticks faster.
const Tick = 500 * time.Millisecond

// A LeafSource gives the certificate to be shown for a host: a name, or an IP
// literal without brackets. Any goroutine calls it.
type LeafSource func(host string) (*tls.Certificate, error)

// Config says what a server does with flows. Only Handler is needed.
type Config struct {
	Handler flow.Handler
	// CA gives certificates for tunnels with TLS in them; without it such
	// tunnels are refused.
	CA LeafSource
	// Password is what proxy credentials must have; "" takes any and none.
	// Clients that do not know of the proxy cannot be asked for it.
	Password string
	// Tunnel connects to f.Origin and sets f.Upgraded, for tunnels that are
	// passed through and for those that speak no HTTP; Tunnelled hears of each
	// that has ended. Without Tunnel, there are none.
	Tunnel      flow.Handler
	Tunnelled   func(*flow.Flow)
	PassThrough PassThrough
	// Local answers requests to the proxy itself: those that name no origin,
	// and those to the host [LocalHost]. Nil explains what a proxy is.
	Local flow.Handler
	// HTTP2 tells whether an origin speaks HTTP/2, so that clients which
	// intercepted TLS leads there are offered the same. It may dial. With an
	// error they are offered it, too. Nil: clients are offered HTTP/1 only. Any
	// goroutine calls it.
	HTTP2 func(ctx context.Context, o flow.Origin) (bool, error)
	// Connect tells whether an origin that speaks HTTP/2 takes extended CONNECT
	// (RFC 8441), so that its clients are offered the same. It may wait a
	// little. Nil: they are always. Any goroutine calls it.
	Connect func(ctx context.Context, o flow.Origin) bool
	// Policy says what to do with requests whose framing is ambiguous (see
	// docs/manual.md, "Framing") and with those by HTTP/2 that are malformed
	// (RFC 9113 §8.1.1), whose streams wire.Strict resets.
	Policy wire.Policy
	IDs    *flow.IDs        // nil makes its own
	Clock  func() time.Time // nil is time.Now
	// Label and Tool are those of flows that come by a listener which does
	// not say otherwise; Tool is flow.ToolProxy when empty.
	Label, Tool string
	Limits      Limits
	// OnError hears of connections that failed outside of a flow: a request
	// that cannot be read, a handshake that the client refused. Nil drops
	// them. Any goroutine calls it.
	OnError func(error)
	// Spare is asked when no descriptor is left for a connection: it closes what
	// is not needed and tells whether there was any. Nil: there is not.
	Spare func() bool
	// Warn hears that no further connections can be accepted, at most once a
	// minute for each listener. Nil drops it. Any goroutine calls it.
	Warn func(string)
}

// Limits bound waits and memory. Zero is the default that stands beside each;
// a negative time is no limit.
type Limits struct {
	Head        time.Duration // from a request's first byte to its blank line: 30 s
	Idle        time.Duration // until the next request begins, or the first in a tunnel: 5 min
	Handshake   time.Duration // of TLS: 10 s
	Body        time.Duration // without a byte of a body that is being read: 2 min
	Stall       time.Duration // without the client taking a byte that is being written: 10 min
	Linger      time.Duration // for the rest of a request that is answered already: 5 s
	Speak       time.Duration // for a client's first bytes in a tunnel, until the origin may speak first: 1 s
	HalfClosed  time.Duration // for the answer, once the client has closed its sending side: 2 s
	Tunnel      time.Duration // without a byte either way after an upgrade: 1 h
	Streams     int           // of HTTP/2 at a time on one connection: 256
	Connections int           // at a time; further ones wait to be accepted: 20000
	LargeHeads  int           // of more than wire.LargeHead, held at a time; further ones wait up to Head, by HTTP/2 not at all: 32
	Drain       int64         // bytes read of a body that nobody wanted: 256 KiB
	Message     wire.Limits   // of a request's head
}

func (l Limits) resolved() Limits {
	for _, t := range []struct {
		limit    *time.Duration
		standard time.Duration
	}{
		{&l.Head, 30 * time.Second}, {&l.Idle, 5 * time.Minute}, {&l.Handshake, 10 * time.Second},
		{&l.Body, 2 * time.Minute}, {&l.Stall, 10 * time.Minute}, {&l.Linger, 5 * time.Second},
		{&l.HalfClosed, 2 * time.Second}, {&l.Tunnel, time.Hour}, {&l.Speak, time.Second},
	} {
		if *t.limit == 0 {
			*t.limit = t.standard
		}
	}
	if l.Connections == 0 {
		l.Connections = 20000
	}
	if l.LargeHeads == 0 {
		l.LargeHeads = 32
	}
	if l.Drain == 0 {
		l.Drain = 256 << 10
	}
	return l
}

func (l Limits) tick() time.Duration {
	tick := Tick
	for _, d := range []time.Duration{l.Head, l.Idle, l.Handshake, l.Body, l.Stall, l.HalfClosed, l.Tunnel} {
		if d > 0 {
			tick = min(tick, max(d/4, time.Millisecond))
		}
	}
	return tick
}

// A Listener is a listener of some kind whose flows are labelled. Empty fields
// are those of Config.
type Listener struct {
	net.Listener
	Kind     Kind
	TLS      bool        // nothing but TLS is taken; else the first byte decides
	Origin   flow.Origin // of a Reverse listener
	KeepHost bool        // requests of a Reverse listener keep their Host field
	Label    string      // Flow.Listener
	Tool     string      // Flow.Tool, unless the credentials name one
	Identity string      // Flow.Identity, unless the credentials name one
}

// A Server serves proxy clients on any number of listeners. Any goroutine may
// call its methods.
type Server struct {
	cfg    Config
	limits Limits
	tick   time.Duration
	tls    *tls.Config // nil without a CA
	tls2   *tls.Config // the same for clients that are offered HTTP/2
	front  *tls.Config // for TLS with the proxy itself
	passed passing
	slots  chan struct{}
	large  wire.Slots
	// accepted numbers the connections of clients, from 1.
	accepted atomic.Uint64
	pieces   sync.Pool // of *[]byte: the first write of an answer

	base   context.Context // of every flow
	cancel context.CancelFunc
	stop   chan struct{}

	mu        sync.Mutex
	clients   map[*client]struct{}
	listeners map[net.Listener]struct{}
	shielded  []net.Addr
	closing   atomic.Bool // written with mu held
	watching  bool
	unwatched bool
	unwatch   chan struct{}
	watched   chan struct{}  // closed when the watcher has ended
	wg        sync.WaitGroup // Serve and connections
}

// New makes a server. It starts nothing until Serve.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, limits: cfg.Limits.resolved(), clients: map[*client]struct{}{},
		listeners: map[net.Listener]struct{}{}, stop: make(chan struct{}),
		unwatch: make(chan struct{}), watched: make(chan struct{})}
	s.tick = s.limits.tick()
	s.slots = make(chan struct{}, s.limits.Connections)
	s.large = make(wire.Slots, s.limits.LargeHeads)
	s.base, s.cancel = context.WithCancel(context.Background())
	if s.cfg.Clock == nil {
		s.cfg.Clock = time.Now
	}
	if s.cfg.IDs == nil {
		s.cfg.IDs = new(flow.IDs)
		rand.Read(s.cfg.IDs.Seed[:]) // never fails, says its doc
	}
	if s.cfg.Tool == "" {
		s.cfg.Tool = flow.ToolProxy
	}
	if s.cfg.Spare == nil {
		s.cfg.Spare = func() bool { return false }
	}
	if s.cfg.Warn == nil {
		s.cfg.Warn = func(string) {}
	}
	if s.cfg.OnError == nil {
		s.cfg.OnError = func(error) {}
	}
	if s.cfg.CA != nil {
		s.tls, s.tls2 = s.tlsConfig("http/1.1"), s.tlsConfig("h2", "http/1.1")
		s.tls.GetConfigForClient = s.greeted
		s.front = s.tlsConfig("http/1.1")
		if s.cfg.HTTP2 != nil {
			s.front = s.tlsConfig("h2", "http/1.1")
		}
	}
	return s
}

// maxUnsent is how many bytes wait in the kernel for a client that does not
// take them.
const maxUnsent = 256 << 10

// Serve accepts connections until the server is closed, which returns nil, or
// the listener fails. When ctx ends, the server is closed as by Close. The
// listener is closed in any case.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer ln.Close()
	if !s.enter(ln) {
		return errors.New("proxy: the server is closed")
	}
	defer s.wg.Done()
	unhook := context.AfterFunc(ctx, s.abort)
	defer unhook()
	labels, ok := ln.(*Listener)
	if !ok {
		labels = &Listener{Listener: ln}
	}
	boundUnsent(labels.Listener)
	entry := *labels
	entry.Label, entry.Tool = or(labels.Label, s.cfg.Label), or(labels.Tool, s.cfg.Tool)
	var told time.Time
	for pause := time.Duration(0); ; {
		if !s.slot(&told) {
			return nil
		}
		conn, err := ln.Accept()
		if err == nil {
			pause = 0
			s.start(conn, &entry)
			continue
		}
		<-s.slots
		if s.closing.Load() {
			return nil
		}
		if errors.Is(err, syscall.EMFILE) && s.cfg.Spare() {
			continue
		}
		var passing interface{ Temporary() bool } // too many open files, and the like
		if !errors.As(err, &passing) || !passing.Temporary() {
			return fmt.Errorf("proxy: accepting connections: %w", err)
		}
		s.cfg.OnError(fmt.Errorf("accepting connections: %w", err))
		s.warn(&told, fmt.Sprintf("no further connection can be accepted: %v; those that are open go on, and others are taken as soon as some have ended", err))
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(pause):
		case <-s.stop:
			return nil
		}
	}
}

// slot waits until there may be another connection; false: the server is
// closing.
func (s *Server) slot(told *time.Time) bool {
	select {
	case s.slots <- struct{}{}:
		return true
	default:
	}
	s.warn(told, fmt.Sprintf("%d connections are open, the most there may be; further ones wait until some have ended", cap(s.slots)))
	select {
	case s.slots <- struct{}{}:
		return true
	case <-s.stop:
		return false
	}
}

// warnAgain is for how long a listener does not repeat its warning.
const warnAgain = time.Minute

func (s *Server) warn(told *time.Time, text string) {
	if now := time.Now(); now.Sub(*told) > warnAgain {
		*told = now
		s.cfg.Warn(text)
	}
}

// enter registers a listener and starts the watcher with the first one.
func (s *Server) enter(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	s.listeners[ln] = struct{}{}
	s.wg.Add(1)
	if !s.watching {
		s.watching = true
		go s.watch()
	}
	return true
}

// start serves one connection in a goroutine of its own, to which the slot
// belongs that was taken for it.
func (s *Server) start(conn net.Conn, entry *Listener) {
	c := newClient(s.base, s, conn, entry)
	if !s.enrol(c) {
		conn.Close()
		<-s.slots
		return
	}
	go func() {
		c.serve(c.arrive)
		s.dismiss(c)
	}()
}

// enrol has the watcher look at a connection, unless the server is closing.
func (s *Server) enrol(c *client) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	s.clients[c] = struct{}{}
	s.wg.Add(1)
	return true
}

// dismiss is the end of a connection, and of its slot.
func (s *Server) dismiss(c *client) {
	s.mu.Lock()
	delete(s.clients, c)
	s.mu.Unlock()
	<-s.slots
	s.wg.Done()
}

// Shutdown stops accepting, ends idle connections, and waits for the flows
// under way. When ctx ends before they do, they are cut off; its error is
// returned then. No goroutine of the server is left when it returns.
func (s *Server) Shutdown(ctx context.Context) error {
	s.quit()
	done := make(chan struct{})
	go func() {
		s.finish()
		close(done)
	}()
	select {
	case <-done:
		s.abort()
		return nil
	case <-ctx.Done():
		s.abort()
		<-done
		return context.Cause(ctx)
	}
}

// Close cuts off every connection and waits until no goroutine of the server
// is left. Calling it again does nothing.
func (s *Server) Close() {
	s.abort()
	s.finish()
}

// finish waits for everything, the watcher last: it still ends waits.
func (s *Server) finish() {
	s.wg.Wait()
	s.mu.Lock()
	if !s.unwatched {
		s.unwatched = true
		close(s.unwatch)
	}
	watching := s.watching
	s.mu.Unlock()
	if watching {
		<-s.watched
	}
}

// quit stops accepting and ends idle connections. The watcher goes on ending
// those that become idle.
func (s *Server) quit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing.Swap(true) {
		close(s.stop)
		for ln := range s.listeners {
			ln.Close()
		}
	}
	for c := range s.clients {
		if c.in.phase() == inIdle {
			c.expire()
		}
		c.leave2()
	}
}

// abort ends everything without waiting for it.
func (s *Server) abort() {
	s.quit()
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		c.raw.Close()
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
