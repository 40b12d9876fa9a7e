package testenv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/ca"
)

// Rotation says which shapes replace a refresh token when it is used.
type Rotation int

const (
	// RotateLikeOriginals rotates those of /api and /oauth, and leaves those
	// of /auth usable again and again, as DummyJSON does.
	RotateLikeOriginals Rotation = iota
	RotateAll
	RotateNone
)

// An Origin says what the server is like. The zero value is an HTTP server
// whose sessions live for an hour.
type Origin struct {
	Addr  string // to listen on; "" is 127.0.0.1:0
	TLS   bool
	HTTP2 bool // offers h2 by ALPN too, which needs TLS
	// Authority signs the certificates; nil makes a new one.
	Authority *ca.Authority
	// Clock decides what has expired; nil is time.Now.
	Clock func() time.Time
	// Identities are added to emilys, alice and bob.
	Identities []Identity

	// AccessTTL is the life of access tokens in /auth, /api and /oauth, with
	// the resolution of the clock. 0 is an hour, or what a request to /auth
	// asks for.
	AccessTTL time.Duration
	// RefreshTTL is the life of refresh tokens; 0 is 30 days.
	RefreshTTL time.Duration
	// CookieTTL is the life of a session that the HTML form made; 0 is an
	// hour.
	CookieTTL time.Duration
	// HideExpiry leaves exp, expires_in and Max-Age out, so that only a dead
	// answer tells.
	HideExpiry bool
	// DieAfter is how many protected requests a session serves: it is dead
	// from the next on. 0 is any number.
	DieAfter int

	Rotation Rotation
	// ReuseRevokes ends everything that goes back to one login when a
	// refresh token of it is used a second time (RFC 9700 §4.14.2).
	ReuseRevokes bool
	// SingleSession ends the sessions that an identity has in a shape when
	// it logs in there again.
	SingleSession bool
	// ManySessions lets an identity have any number of them: none replaces
	// another.
	ManySessions bool
	// OneAtATime answers 409 to a request whose session has another one under
	// way, as applications do that lock their sessions and do not wait.
	OneAtATime bool
	// LastingCSRF lets a CSRF token be used any number of times.
	LastingCSRF bool
	// CSRFField is the name of the forms' field; "" is "_csrf".
	CSRFField string
	// RollCookie sets a new value of the session's cookie with every live
	// answer to one. Older values are good until a newer one has been used.
	RollCookie bool

	// Gzip compresses answers of text and JSON for clients that accept it.
	Gzip bool
	// Guarded answers the paths below /guarded/ for live sessions; others
	// get 401. Several goroutines call it.
	Guarded http.Handler

	// Observe sees every request before it is handled; it must not read the
	// body. Several goroutines call it.
	Observe func(*http.Request)
}

// A Server is a running origin. All its methods may be called by any
// goroutine, except that Close is the last.
type Server struct {
	URL  string // scheme and authority, without a slash at the end
	Addr string // host:port

	origin    Origin
	authority *ca.Authority
	routes    map[string]route
	book      *book
	gates     *gates

	mu     sync.Mutex // guards the three below
	http   *http.Server
	served chan struct{} // closed when http's Serve has returned
	cancel func()        // of the context of all requests

	connections sync.WaitGroup
	sockets     sockets
	freePort    func() // lets others have the port
}

// Start listens and serves until Close.
func (o Origin) Start() (*Server, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	s := &Server{origin: o, authority: o.Authority, gates: newGates(), freePort: func() {}}
	s.book = newBook(&s.origin)
	s.routes = s.table()
	if o.TLS && s.authority == nil {
		var err error
		// The real time: clients do not verify certificates by our clock.
		if s.authority, err = ca.New(time.Now); err != nil {
			return nil, fmt.Errorf("origin: %w", err)
		}
	}
	if o.Addr == "" {
		var err error
		if o.Addr, s.freePort, err = keepPort(); err != nil {
			return nil, fmt.Errorf("origin: %w", err)
		}
	}
	listener, err := net.Listen("tcp", o.Addr)
	if err != nil {
		s.freePort()
		return nil, fmt.Errorf("origin: %w", err)
	}
	s.Addr, s.URL = listener.Addr().String(), "http://"+listener.Addr().String()
	if o.TLS {
		s.URL = "https://" + s.Addr
	}
	s.start(listener)
	return s, nil
}

// start begins to serve; mu is held, or nobody knows s yet.
func (s *Server) start(listener net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	s.sockets.refuse(false)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(s.origin.HTTP2)
	server := &http.Server{
		Handler:   http.HandlerFunc(s.serve),
		ErrorLog:  log.New(io.Discard, "", 0),
		ConnState: s.connState,
		// A request whose body nobody has read does not notice that its
		// connection is closed; stop tells it.
		BaseContext: func(net.Listener) context.Context { return ctx },
		Protocols:   protocols,
		// OPTIONS * goes to the handler like everything else.
		DisableGeneralOptionsHandler: true,
	}
	serve := server.Serve
	if s.origin.TLS {
		server.TLSConfig = &tls.Config{GetCertificate: certificates(s.authority)}
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	served := make(chan struct{})
	s.http, s.served, s.cancel = server, served, cancel
	go func() {
		defer close(served)
		_ = serve(listener) // always http.ErrServerClosed: Close and Refuse end it
	}()
}

// certificates answers every name, and clients that send none because they
// dialled an address.
func certificates(from *ca.Authority) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName != "" {
			return from.Leaf(hello.ServerName)
		}
		host, _, err := net.SplitHostPort(hello.Conn.LocalAddr().String())
		if err != nil {
			return nil, err
		}
		return from.Leaf(host)
	}
}

// connState keeps count of connections, whose goroutines Close waits for.
func (s *Server) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.connections.Add(1)
		s.book.total(func(c *Stats) { c.Connections++ })
	case http.StateClosed, http.StateHijacked:
		s.connections.Done()
	}
}

// stop closes the listener and all connections and waits for their
// goroutines. mu is held.
func (s *Server) stop() {
	if s.http == nil {
		return
	}
	s.sockets.refuse(true)
	_ = s.http.Close() // the listener's error is of no interest: it is closed
	s.cancel()
	<-s.served
	s.connections.Wait()
	s.sockets.end()
	s.http = nil
}

// Close ends the server, opens all gates and waits for every goroutine.
func (s *Server) Close() {
	s.gates.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	s.freePort()
	s.freePort = func() {}
}

// Refuse makes the origin unreachable: the listener and all connections are
// closed, new ones are refused. Refuse(false) listens on the same port again,
// which nobody else is given meanwhile where Addr was empty (Linux only).
// Sessions live on meanwhile.
func (s *Server) Refuse(refuse bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refuse {
		s.stop()
		return nil
	}
	if s.http != nil {
		return nil
	}
	listener, err := net.Listen("tcp", s.Addr)
	if err != nil {
		return fmt.Errorf("origin: %w", err)
	}
	s.start(listener)
	return nil
}

// CAPEM is the certificate that clients have to trust; nil without TLS.
func (s *Server) CAPEM() []byte {
	if s.authority == nil {
		return nil
	}
	return s.authority.RootPEM()
}

// Pool holds what CAPEM holds; nil without TLS.
func (s *Server) Pool() *x509.CertPool {
	if s.authority == nil {
		return nil
	}
	return s.authority.Pool()
}

// Client is a new client that trusts the origin, follows no redirect and
// keeps no cookie.
func (s *Server) Client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: s.Pool()},
			ForceAttemptHTTP2:   s.origin.HTTP2,
			MaxIdleConnsPerHost: 128,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Stats is the state of all counters at one moment.
func (s *Server) Stats() Stats { return s.book.stats() }

// Applied says how many times a write with this idempotency id took effect.
func (s *Server) Applied(id string) int { return s.book.appliedCount(id) }

// Owner says whose token or cookie value this is, and whether its session is
// live. name is "" for a value that was never given out.
func (s *Server) Owner(token string) (name string, live bool) { return s.book.owner(token) }

// Kill ends the sessions of one identity: access tokens and cookies are dead
// from now on. Refresh tokens stay good.
func (s *Server) Kill(name string) { s.end(name, false) }

// KillSession is Kill for the one session of an access token or cookie.
func (s *Server) KillSession(credential string) {
	s.book.killSession(credential)
	s.sweep()
}

// KillAll is Kill for everybody.
func (s *Server) KillAll() { s.end("", false) }

// Revoke is Kill, and the refresh tokens are refused as well.
func (s *Server) Revoke(name string) { s.end(name, true) }

// RevokeAll is Revoke for everybody.
func (s *Server) RevokeAll() { s.end("", true) }

// end kills sessions, and closes the WebSockets that lived by them.
func (s *Server) end(name string, refreshTokens bool) {
	s.book.kill(name, refreshTokens)
	s.sweep()
}

// FailLogins makes the next n logins fail as with a wrong password, whatever
// their password is.
func (s *Server) FailLogins(n int) { s.book.failLogins(n) }

// FailNext answers the next n requests for a path with a status instead of
// handling them; 429 and 503 come with Retry-After: 1. Status 0 closes the
// connection without an answer.
func (s *Server) FailNext(path string, status, n int) { s.book.failNext(path, status, n) }

// Hold has every request for a path wait at a gate before it is handled.
func (s *Server) Hold(path, gate string) { s.gates.hold(path, gate, false) }

// HoldAnswer has every request for a path handled at once, and its answer
// wait at a gate.
func (s *Server) HoldAnswer(path, gate string) { s.gates.hold(path, gate, true) }

// Release opens a gate: whoever waits there goes on, and later ones do not
// wait.
func (s *Server) Release(gate string) { s.gates.release(gate) }

// Shut closes a gate that was opened before. A gate begins shut.
func (s *Server) Shut(gate string) { s.gates.shut(gate) }

// WaitHeld returns when n requests or more wait at a gate, or with the error
// of the context.
func (s *Server) WaitHeld(ctx context.Context, gate string, n int) error {
	if err := s.gates.waitHeld(ctx, gate, n); err != nil {
		return fmt.Errorf("waiting for %d requests at gate %q: %w", n, gate, err)
	}
	return nil
}

// errClosed is what a gate says when the server is being closed.
var errClosed = errors.New("the origin is closing")
