package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// frontWorld is newWorld2 whose proxy can open tunnels.
func frontWorld(t *testing.T, cfg proxy.Config, wrap flow.Stage) *world {
	var w *world
	cfg.Tunnel = func(ctx context.Context, f *flow.Flow) error { return w.pool.Tunnel(ctx, f) }
	w = newWorld2(t, cfg, upstream.Config{}, wrap)
	return w
}

// front is a connection to the proxy by TLS and HTTP/2, of this module's client.
func (w *world) front() *h2.Conn {
	w.t.Helper()
	raw := w.secure2(w.dial(), "h2", "http/1.1")
	if p := raw.ConnectionState().NegotiatedProtocol; p != "h2" {
		w.t.Fatalf("the proxy chose %q", p)
	}
	return client2(w.t, raw)
}

func basic2(name string) string {
	_, value, _ := strings.Cut(strings.TrimSuffix(basic(name), "\r\n"), ": ")
	return "proxy-authorization= " + value
}

// streamTunnel is a tunnel as a connection, with the deadlines of one that ends
// with the test anyway.
type streamTunnel struct {
	*h2.Tunnel
	net.Conn
	s *h2.Stream
}

func (c *streamTunnel) Read(p []byte) (int, error)  { return c.Tunnel.Read(p) }
func (c *streamTunnel) Write(p []byte) (int, error) { return c.Tunnel.Write(p) }
func (c *streamTunnel) CloseWrite() error           { return c.Tunnel.CloseWrite() }
func (c *streamTunnel) Close() error                { c.s.Done(); return nil }
func (c *streamTunnel) SetDeadline(time.Time) error { return nil }

// connect2 asks for a tunnel, and returns it, or the answer that refused it.
func connect2(t *testing.T, c *h2.Conn, authority string, more ...string) (*streamTunnel, *wire.Response, string) {
	t.Helper()
	s, err := c.Open(head2(append([]string{":method= CONNECT", ":authority= " + authority}, more...)...), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Done)
	s.Flush()
	r, err := s.Head()
	if err != nil {
		t.Fatal(err)
	}
	if r.Status() == 200 {
		one, _ := net.Pipe() // for the addresses
		return &streamTunnel{s.Tunnel(), one, s}, r, ""
	}
	body, err := all2(s.Body())
	if err != nil {
		t.Errorf("the body broke off: %v", err)
	}
	return nil, r, body
}

func mustConnect2(t *testing.T, c *h2.Conn, authority string, more ...string) *streamTunnel {
	t.Helper()
	tunnel, r, body := connect2(t, c, authority, more...)
	if tunnel == nil {
		t.Fatalf("%s%s", text2(&r.Head), body)
	}
	return tunnel
}

// What a client speaks inside of a tunnel through HTTP/2 is what it would be
// through HTTP/1: looked into, with the origin's ALPN, and its credentials hold.
func TestCONNECTByHTTP2(t *testing.T) {
	w := frontWorld(t, proxy.Config{Password: "secret"}, nil)
	echo := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" {
			t.Error("the origin was given the proxy's credentials")
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(rw, "%s %s %d", r.Proto, r.URL.Path, len(body))
	})
	for protocol, want := range map[string]string{"h2": "HTTP/2.0", "http/1.1": "HTTP/1.1", "": "HTTP/1.1"} {
		t.Run("inside: "+protocol, func(t *testing.T) {
			ln := listen(t)
			if protocol != "" {
				ln = listen2(t, w, protocol)
			}
			serveHTTP(t, ln, protocol == "h2", echo)
			at := authorityOf(ln)
			tunnel := mustConnect2(t, w.front(), at, basic2("alice+scan"))
			var conn net.Conn = tunnel
			if protocol != "" {
				secured := w.secure2(tunnel, "h2", "http/1.1")
				if p := secured.ConnectionState().NegotiatedProtocol; p != protocol {
					t.Fatalf("offered %q", p)
				}
				conn = secured
			}
			if protocol == "h2" {
				if r, body := ask(t, client2(t, conn), get2(at, "/in")); r.Status() != 200 || body != want+" /in 0" {
					t.Errorf("%d %q", r.Status(), body)
				}
			} else {
				write(t, conn, "GET /in HTTP/1.1\r\nHost: "+at+"\r\n\r\n")
				reader := wire.NewReader(conn, wire.Limits{})
				var r wire.Response
				if err := reader.ReadResponse(&r); err != nil || r.Status() != 200 {
					t.Fatalf("%v %q", err, r.Bytes())
				}
				read(t, conn2{reader, conn}, want+" /in 0")
			}
			eventually(t, "the flow ends", func() bool { return w.over.Load() == w.begun.Load() })
			if f := w.last.Load(); f == nil || f.Identity != "alice" || f.Tool != "scan" || f.Origin.TLS != (protocol != "") {
				t.Errorf("%+v", f)
			}
		})
	}
}

// conn2 reads from what has buffered the connection.
type conn2 struct {
	io.Reader
	net.Conn
}

func (c conn2) Read(p []byte) (int, error) { return c.Reader.Read(p) }

// serveHTTP is Go's server, until the test ends.
func serveHTTP(t *testing.T, ln net.Listener, two bool, h http.Handler) {
	t.Helper()
	s := &http.Server{Handler: h}
	done := make(chan struct{})
	if two {
		if err := http2.ConfigureServer(s, nil); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		defer close(done)
		s.Serve(ln)
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
}

// Clients of others: net/http by CONNECT over x/net's HTTP/2, and net/http with
// a proxy whose URL says https, which offers the proxy HTTP/2, and speaks HTTP/1
// to it all the same where it wants a tunnel.
func TestGoByHTTP2ToTheProxy(t *testing.T) {
	w := frontWorld(t, proxy.Config{}, nil)
	ln, plain := listen2(t, w, "h2", "http/1.1"), listen(t)
	echo := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { io.Copy(rw, r.Body) })
	serveHTTP(t, ln, true, echo)
	serveHTTP(t, plain, false, echo)
	body := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // above every window there is on the way
	config := &tls.Config{RootCAs: w.ca.Pool(), ServerName: "127.0.0.1"}
	post := func(t *testing.T, rt http.RoundTripper, url string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := rt.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if got, err := io.ReadAll(answer.Body); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes came back, want %d: %v", len(got), len(body), err)
		}
	}
	t.Run("CONNECT by x/net", func(t *testing.T) {
		outer := &http2.Transport{TLSClientConfig: config}
		t.Cleanup(outer.CloseIdleConnections)
		inner := &http.Transport{TLSClientConfig: config.Clone(), ForceAttemptHTTP2: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return xnetTunnel(outer, w.addr, address)
		}}
		t.Cleanup(inner.CloseIdleConnections)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { post(t, inner, "https://"+authorityOf(ln)+"/") })
			wg.Go(func() { post(t, inner, "http://"+authorityOf(plain)+"/") })
		}
		wg.Wait()
	})
	for _, force := range []bool{true, false} {
		t.Run(fmt.Sprintf("net/http, HTTP/2 forced: %v", force), func(t *testing.T) {
			rt := &http.Transport{TLSClientConfig: config.Clone(), ForceAttemptHTTP2: force,
				Proxy: http.ProxyURL(&url.URL{Scheme: "https", Host: w.addr, User: url.User("bob")})}
			t.Cleanup(rt.CloseIdleConnections)
			post(t, rt, "https://"+authorityOf(ln)+"/")
			if !force { // net/http has no HTTP/2 for http:// once a proxy has taken it up on its offer
				post(t, rt, "http://"+authorityOf(plain)+"/")
			}
			eventually(t, "the flows end", func() bool { return w.over.Load() == w.begun.Load() })
			if f := w.last.Load(); f.Identity != "bob" {
				t.Errorf("flow of %q", f.Identity)
			}
		})
	}
}

// xnetTunnel has x/net's client open a tunnel.
func xnetTunnel(rt *http2.Transport, proxy, authority string) (net.Conn, error) {
	from, to := io.Pipe()
	r, err := http.NewRequest("CONNECT", "https://"+proxy, from)
	if err != nil {
		return nil, err
	}
	r.Host = authority
	answer, err := rt.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != 200 {
		answer.Body.Close()
		return nil, errors.New(answer.Status)
	}
	one, _ := net.Pipe()
	return &xnetConn{Conn: one, answer: answer.Body, request: to}, nil
}

type xnetConn struct {
	net.Conn
	answer  io.ReadCloser
	request *io.PipeWriter
}

func (c *xnetConn) Read(p []byte) (int, error)       { return c.answer.Read(p) }
func (c *xnetConn) Write(p []byte) (int, error)      { return c.request.Write(p) }
func (c *xnetConn) Close() error                     { c.request.Close(); return c.answer.Close() }
func (c *xnetConn) SetDeadline(time.Time) error      { return nil }
func (c *xnetConn) SetReadDeadline(time.Time) error  { return nil }
func (c *xnetConn) SetWriteDeadline(time.Time) error { return nil }

func TestCONNECTByHTTP2IsRefused(t *testing.T) {
	w := frontWorld(t, proxy.Config{Password: "secret", Limits: proxy.Limits{Connections: 3}}, nil)
	c := w.front()
	good := basic2("alice")
	ln := listen(t)
	go serveLines(ln, "")
	for name, tt := range map[string]struct {
		authority string
		head      []string
		status    int
		reason    string
	}{
		"without the password":  {authorityOf(ln), nil, 407, flow.ReasonProxyPassword},
		"with a wrong one":      {authorityOf(ln), []string{"proxy-authorization= Basic YTpi"}, 407, flow.ReasonProxyPassword},
		"to the proxy itself":   {w.addr, []string{good}, 508, flow.ReasonLoop},
		"to what is no address": {"a b:443", []string{good}, 400, flow.ReasonBadRequest},
	} {
		_, r, body := connect2(t, c, tt.authority, tt.head...)
		if r == nil || r.Status() != tt.status || !strings.Contains(body, `"reason":"`+tt.reason+`"`) {
			t.Errorf("%s: %v %s", name, r, body)
		} else if _, asked := r.Get("proxy-authenticate"); asked != (tt.status == 407) {
			t.Errorf("%s: asked for credentials: %v", name, asked)
		}
	}
	// A tunnel is one of Limits.Connections, as is the connection, and the one
	// that is waited for; it gives its place back.
	first := mustConnect2(t, c, authorityOf(ln), good)
	if _, r, body := connect2(t, c, authorityOf(ln), good); r.Status() != 503 || !strings.Contains(body, flow.ReasonConnections) {
		t.Errorf("above the limit: %d %s", r.Status(), body)
	}
	write(t, first, "\x00\r\n")
	read(t, first, "you said \x00\r\n")
	first.Close()
	eventually(t, "the place is free", func() bool {
		tunnel, _, _ := connect2(t, c, authorityOf(ln), good)
		return tunnel != nil
	})
}

// Bytes that are no HTTP, hosts that are passed through, and servers that speak
// first: as by HTTP/1.
func TestOtherProtocolsInStreams(t *testing.T) {
	w := frontWorld(t, proxy.Config{Limits: proxy.Limits{Speak: short}, PassThrough: proxy.PassThrough{Hosts: patterns(t, "localhost")}}, nil)
	greets, waits := listen(t), listen(t)
	go serveLines(greets, "220 ready\r\n")
	go serveLines(waits, "")
	c := w.front()
	for name, tt := range map[string]struct{ authority, first string }{
		"the server first": {authorityOf(greets), "220 ready\r\n"},
		"the client first": {authorityOf(waits), ""},
		"passed through":   {"localhost:" + portOf(waits), ""},
	} {
		tunnel := mustConnect2(t, c, tt.authority)
		read(t, tunnel, tt.first)
		write(t, tunnel, "HELO me\r\n")
		read(t, tunnel, "you said HELO me\r\n")
		if err := tunnel.CloseWrite(); err != nil {
			t.Error(name, err)
		}
		if n, err := tunnel.Read(make([]byte, 1)); n > 0 || err != io.EOF {
			t.Errorf("%s: the end: %d %v", name, n, err)
		}
	}
	if _, r, body := connect2(t, c, "localhost:1"); r.Status() != 502 {
		t.Errorf("passed through to nowhere: %d %s", r.Status(), body)
	}
	late := mustConnect2(t, c, authorityOf(waits))
	time.AfterFunc(3*short, func() { io.WriteString(late, "GET /late HTTP/1.1\r\nHost: x\r\n\r\n") })
	if status, _ := readProblem(t, late); status != 502 { // the origin speaks no HTTP: it was asked as HTTP
		t.Error(status)
	}
}

// A tunnel's end is its own: the others on the connection go on.
func TestTunnelsInStreamsEndAlone(t *testing.T) {
	entered, left := make(chan struct{}, 1), make(chan struct{}, 1)
	w := frontWorld(t, proxy.Config{Limits: proxy.Limits{Head: enough}}, func(next flow.Handler) flow.Handler {
		return func(ctx context.Context, f *flow.Flow) error {
			if !strings.HasPrefix(string(f.Request.Target()), "/wait") {
				return proxy.Answer(f, 200, "text/plain", []byte("ok"))
			}
			entered <- struct{}{}
			<-ctx.Done()
			left <- struct{}{}
			return context.Cause(ctx)
		}
	})
	c := w.front()
	const request = "GET / HTTP/1.1\r\nHost: h.example\r\n\r\n"
	slow, reset := mustConnect2(t, c, "h.example:80"), mustConnect2(t, c, "h.example:80")
	alive := func() {
		t.Helper()
		s := mustConnect2(t, c, "h.example:80")
		write(t, s, request)
		if got := readAnswer(t, s); got != 200 {
			t.Errorf("another tunnel: %d", got)
		}
		s.Close()
	}
	// The client resets the stream within a flow.
	write(t, reset, "GET /wait HTTP/1.1\r\nHost: h.example\r\n\r\n")
	<-entered
	reset.Tunnel.Reset(h2.Cancel)
	<-left
	alive()
	// One that says too little is told so.
	write(t, slow, "GET / HT")
	if status := readAnswer(t, slow); status != 408 {
		t.Errorf("half a head: %d", status)
	}
	alive()
	// The server ends while one is under way: nothing is left (see newWorld).
	last := mustConnect2(t, c, "h.example:80")
	write(t, last, "GET /wait HTTP/1.1\r\nHost: h.example\r\n\r\n")
	<-entered
	w.server.Close()
	<-left
}

func TestAnIdleTunnelInAStreamEnds(t *testing.T) {
	w := frontWorld(t, proxy.Config{Limits: proxy.Limits{Idle: 50 * short, Speak: 100 * short}}, nil)
	tunnel := mustConnect2(t, w.front(), "h.example:80")
	if n, err := tunnel.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		t.Errorf("%d %v", n, err)
	}
}

// readAnswer is the status of an answer with its length.
func readAnswer(t *testing.T, conn net.Conn) int {
	t.Helper()
	reader := wire.NewReader(conn, wire.Limits{})
	var r wire.Response
	if err := reader.ReadResponse(&r); err != nil {
		t.Fatal(err)
	}
	framing, err := wire.ResponseFraming(&r, []byte("GET"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := all2(reader.Body(framing)); err != nil {
		t.Fatal(err)
	}
	return r.Status()
}

// A client that does not take what a tunnel has for it holds up nobody else,
// and is cut off after Limits.Stall.
func TestAStreamThatIsNotTakenStalls(t *testing.T) {
	w := frontWorld(t, proxy.Config{Limits: proxy.Limits{Stall: 10 * short}}, func(next flow.Handler) flow.Handler {
		return func(ctx context.Context, f *flow.Flow) error {
			size := 8 << 20
			if string(f.Request.Target()) == "/small" {
				size = 1
			}
			return proxy.Answer(f, 200, "text/plain", bytes.Repeat([]byte("x"), size))
		}
	})
	c := w.front()
	stalled := mustConnect2(t, c, "h.example:80")
	write(t, stalled, "GET / HTTP/1.1\r\nHost: h.example\r\n\r\n")
	eventually(t, "the flow of the one that takes nothing ends", func() bool { return w.over.Load() == 1 })
	err := error(nil)
	for err == nil {
		_, err = stalled.Read(make([]byte, 64<<10))
	}
	var code *h2.StreamError
	if !errors.As(err, &code) || code.Code != h2.ConnectError {
		t.Errorf("it ended with %v", err)
	}
	next := mustConnect2(t, c, "h.example:80")
	write(t, next, "GET /small HTTP/1.1\r\nHost: h.example\r\n\r\n")
	if status := readAnswer(t, next); status != 200 {
		t.Errorf("another tunnel: %d", status)
	}
}

// What is neither HTTP/2's preface nor HTTP/1, where HTTP/2 was agreed on, is not
// answered in the language of either.
func TestWhatIsNoPrefaceEndsTheConnection(t *testing.T) {
	w := frontWorld(t, proxy.Config{}, nil)
	for _, text := range []string{"NOT THE PREFACE\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"} {
		conn := w.secure2(w.dial(), "h2")
		write(t, conn, text)
		got, _ := io.ReadAll(conn)
		if bytes.Contains(got, []byte("HTTP/1")) {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// Requests in absolute form, as HTTP/2 has it: :scheme and :authority.
func TestAbsoluteFormByHTTP2(t *testing.T) {
	w := frontWorld(t, proxy.Config{}, nil)
	plain, secured := listen(t), listen2(t, w, "http/1.1")
	echo := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, r.Host, r.URL, r.Header["Proxy-Authorization"])
	})
	serveHTTP(t, plain, false, echo)
	serveHTTP(t, secured, false, echo)
	c := w.front()
	for scheme, ln := range map[string]net.Listener{"http": plain, "https": secured} {
		r, body := ask(t, c, head2(":method= GET", ":scheme= "+scheme, ":authority= "+authorityOf(ln), ":path= /a?b",
			basic2("carol+x")))
		if r.Status() != 200 || body != authorityOf(ln)+"/a?b []" {
			t.Errorf("%s: %d %q", scheme, r.Status(), body)
		}
		eventually(t, "the flow ends", func() bool { return w.over.Load() == w.begun.Load() })
		if f := w.last.Load(); f.Identity != "carol" || f.Tool != "x" {
			t.Errorf("flow of %q, %q", f.Identity, f.Tool)
		}
	}
}
