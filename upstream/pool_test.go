package upstream_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/ca"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/internal/leak"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
)

func TestMain(m *testing.M) { leak.Main(m) }

const (
	patience = 2 * time.Minute
	// closedPort is one on which nothing listens: tcpmux's.
	closedPort = 1
	okAnswer   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
)

// origin is a listener whose connections the test takes one by one.
type origin struct {
	t testing.TB
	net.Listener
	at flow.Origin
}

func newOrigin(t testing.TB, authority *ca.Authority) *origin {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	o := &origin{t: t, Listener: ln, at: flow.Origin{Host: "127.0.0.1", Port: uint16(ln.Addr().(*net.TCPAddr).Port)}}
	if authority != nil {
		leaf, err := authority.Leaf("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		o.at.TLS = true
		o.Listener = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{*leaf}})
	}
	return o
}

// accept takes the next connection.
func (o *origin) accept() net.Conn {
	o.t.Helper()
	conn, err := o.Accept()
	if err != nil {
		o.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	o.t.Cleanup(func() { conn.Close() })
	return conn
}

// serve answers requests on each connection with what answer makes of its
// number and the request's number on it; "" closes.
func (o *origin) serve(answer func(conn, request int) string) (requests func() int) {
	var mu sync.Mutex
	var conns []net.Conn
	count, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		var wg sync.WaitGroup
		defer wg.Wait()
		for n := 1; ; n++ {
			conn, err := o.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				r := wire.NewReader(conn, wire.Limits{})
				for i := 1; ; i++ {
					var req wire.Request
					if err := r.ReadRequest(&req); errors.As(err, new(*wire.ParseError)) {
						io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
						return
					} else if err != nil || !drain(r, &req) {
						return
					}
					mu.Lock()
					count++
					mu.Unlock()
					text := answer(n, i)
					if text == "" {
						return
					}
					text, last := strings.CutSuffix(text, "<close>")
					if _, err := io.WriteString(conn, text); err != nil || last {
						return
					}
				}
			})
		}
	}()
	o.t.Cleanup(func() {
		o.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		<-done
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return count
	}
}

func drain(r *wire.Reader, req *wire.Request) bool {
	framing, err := wire.RequestFraming(req)
	if err != nil {
		return false
	}
	for body := r.Body(framing); ; {
		if _, err := body.Next(); err != nil {
			return err == io.EOF
		}
	}
}

func newPool(t testing.TB, cfg upstream.Config) *upstream.Pool {
	p := upstream.New(cfg)
	t.Cleanup(p.Close)
	return p
}

// request makes a flow of a head and, if not "", a body with a length.
func request(t testing.TB, at flow.Origin, method, body string) *flow.Flow {
	t.Helper()
	head := method + " / HTTP/1.1\r\nHost: x\r\n"
	if body != "" {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	r, err := wire.ParseRequest([]byte(head + "\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	f := &flow.Flow{Origin: at, Received: r, Request: r, Start: time.Now()}
	if body != "" {
		f.RequestBody = wire.BytesBody(wire.Framing{Kind: wire.Length, Length: int64(len(body))}, []byte(body))
	}
	return f
}

// answer reads the whole answer.
func answer(t testing.TB, f *flow.Flow) string {
	t.Helper()
	var b bytes.Buffer
	b.Write(f.Response.Bytes())
	for f.ResponseBody != nil {
		piece, err := f.ResponseBody.Next()
		b.Write(piece)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("reading the answer after %q: %v", b.Bytes(), err)
		}
	}
	return b.String()
}

func send(t testing.TB, p *upstream.Pool, f *flow.Flow) {
	t.Helper()
	if err := p.Send(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if got := answer(t, f); got != okAnswer {
		t.Fatalf("the answer is %q", got)
	}
}

func wantReason(t testing.TB, err error, reason string) *flow.Error {
	t.Helper()
	var e *flow.Error
	if !errors.As(err, &e) || e.Reason != reason || e.Detail == "" || e.Next == "" {
		t.Fatalf("the error is %v, want one of %s with a next step", err, reason)
	}
	return e
}

func retries(f *flow.Flow) (n int) {
	for _, e := range f.Trace.Events {
		if e.Action == flow.ActionRetry {
			n++
		}
	}
	return n
}

func TestConnectionIsUsedAgain(t *testing.T) {
	for _, secured := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secured), func(t *testing.T) {
			authority := newAuthority(t)
			o := newOrigin(t, nil)
			if secured {
				o = newOrigin(t, authority)
			}
			o.serve(func(conn, n int) string {
				if conn > 1 {
					return "HTTP/1.1 500 another connection\r\nContent-Length: 0\r\n\r\n"
				}
				return okAnswer
			})
			p := newPool(t, upstream.Config{Roots: []*x509.Certificate{authority.Root()}})
			for range 5 {
				send(t, p, request(t, o.at, "GET", ""))
				send(t, p, request(t, o.at, "POST", "body"))
			}
		})
	}
}

func TestStaleConnection(t *testing.T) {
	tests := map[string]struct {
		method, body string
		second       string // what the origin does with the second request on its first connection
		sent         int    // requests that the origin read
		retries      int
		broken       bool
	}{
		"GET goes again when the connection ends at the second request":          {"GET", "", "", 3, 1, false},
		"GET with a body too, since the body is at hand":                         {"GET", "body", "", 3, 1, false},
		"POST does not: it may have been carried out":                            {"POST", "body", "", 2, 0, true},
		"GET does not after a byte of the answer":                                {"GET", "", "H<close>", 2, 0, true},
		"an unknown method is not known to be idempotent, and so does not":       {"get", "", "", 2, 0, true},
		"what comes behind the first answer is not taken for the second's start": {"GET", "", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokX<close>", 2, 0, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, nil)
			sent := o.serve(func(conn, n int) string {
				if conn == 1 && n == 2 {
					return tt.second
				}
				return okAnswer
			})
			p := newPool(t, upstream.Config{})
			send(t, p, request(t, o.at, "GET", ""))
			f := request(t, o.at, tt.method, tt.body)
			err := p.Send(t.Context(), f)
			if tt.broken {
				wantReason(t, err, flow.ReasonBroken)
			} else if err != nil {
				t.Fatal(err)
			} else if got := answer(t, f); got != okAnswer {
				t.Fatalf("the answer is %q", got)
			}
			if sent() != tt.sent || retries(f) != tt.retries {
				t.Errorf("the origin read %d requests, the trace has %d retries; want %d and %d", sent(), retries(f), tt.sent, tt.retries)
			}
		})
	}
}

func TestConnectionThatEndedMeanwhileIsNotUsedForPOST(t *testing.T) {
	o := newOrigin(t, nil)
	p := newPool(t, upstream.Config{})
	first := make(chan error, 1)
	f := request(t, o.at, "GET", "")
	go func() { first <- p.Send(t.Context(), f) }()
	conn := o.accept()
	readRequest(t, conn)
	io.WriteString(conn, okAnswer)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	answer(t, f)
	conn.Close()
	sent := o.serve(func(int, int) string { return okAnswer })
	post := request(t, o.at, "POST", "body")
	send(t, p, post)
	if sent() != 1 || retries(post) != 0 {
		t.Errorf("%d requests, %d retries", sent(), retries(post))
	}
}

func readRequest(t testing.TB, conn net.Conn) {
	t.Helper()
	var req wire.Request
	if err := wire.NewReader(conn, wire.Limits{}).ReadRequest(&req); err != nil {
		t.Fatal(err)
	}
}

func TestNewConnectionThatEndsIsBroken(t *testing.T) {
	o := newOrigin(t, nil)
	sent := o.serve(func(int, int) string { return "" })
	wantReason(t, newPool(t, upstream.Config{}).Send(t.Context(), request(t, o.at, "GET", "")), flow.ReasonBroken)
	if sent() != 1 {
		t.Errorf("sent %d times", sent())
	}
}

func TestKeptConnectionsAreBounded(t *testing.T) {
	limits := upstream.Limits{IdlePerOrigin: 2, IdleTotal: 5, Surplus: 20 * time.Millisecond}
	p := newPool(t, upstream.Config{Limits: limits})
	a, b := newOrigin(t, nil), newOrigin(t, nil)
	inA, outA := hold(t, p, a, 4)
	inB, outB := hold(t, p, b, 2)
	outA()
	outB() // one too many in all; one too many for a is left, for a while
	conns := append(inA(), inB()...)
	for _, conn := range conns[:2] {
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("one that was unused longest: %v, want its end", err)
		}
	}
	for _, conn := range conns[2:] {
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("one that is kept: %v", err)
		}
	}
}

// A crowd larger than what is kept goes on using its connections.
func TestCrowdKeepsItsConnections(t *testing.T) {
	p := newPool(t, upstream.Config{Limits: upstream.Limits{IdlePerOrigin: 2, Surplus: time.Minute, FirstByte: patience}})
	o := newOrigin(t, nil)
	in, out := hold(t, p, o, 5)
	out()
	for _, conn := range in() {
		go func() {
			var req wire.Request
			if err := wire.NewReader(conn, wire.Limits{}).ReadRequest(&req); err != nil {
				t.Errorf("a connection was not used again: %v", err)
			}
			io.WriteString(conn, okAnswer)
		}()
	}
	var again []*flow.Flow
	for range in() {
		f := request(t, o.at, "GET", "")
		if err := p.Send(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		again = append(again, f)
	}
	for _, f := range again {
		answer(t, f)
	}
}

// hold has n flows to an origin under way at once; in returns the origin's
// ends, out finishes the flows.
func hold(t *testing.T, p *upstream.Pool, o *origin, n int) (in func() []net.Conn, out func()) {
	var flows []*flow.Flow
	var conns []net.Conn
	for range n {
		f := request(t, o.at, "GET", "")
		done := make(chan error, 1)
		go func() { done <- p.Send(t.Context(), f) }()
		conn := o.accept()
		readRequest(t, conn)
		io.WriteString(conn, okAnswer)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		flows, conns = append(flows, f), append(conns, conn)
	}
	return func() []net.Conn { return conns }, func() {
		for _, f := range flows {
			answer(t, f)
		}
	}
}

func TestUnusedConnectionIsClosed(t *testing.T) {
	o := newOrigin(t, nil)
	p := newPool(t, upstream.Config{Limits: upstream.Limits{Idle: 20 * time.Millisecond}})
	in, out := hold(t, p, o, 1)
	out()
	if _, err := in()[0].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the idle connection: %v, want its end", err)
	}
	if n := p.Shelves(); n != 0 {
		t.Errorf("the pool remembers %d origins to which it has no connection", n)
	}
}

// Also not of one whose connection was used again before it ended: a client
// that goes round many hosts must not grow the pool.
func TestNothingRemainsOfAnOriginThatIsLeft(t *testing.T) {
	o := newOrigin(t, nil)
	o.serve(func(_, request int) string {
		if request == 1 {
			return okAnswer
		}
		return "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
	})
	p := newPool(t, upstream.Config{})
	send(t, p, request(t, o.at, "GET", ""))
	if n := p.Shelves(); n != 1 {
		t.Errorf("connections of %d keys, want 1", n)
	}
	f := request(t, o.at, "GET", "")
	if err := p.Send(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	answer(t, f)
	if n := p.Shelves(); n != 0 {
		t.Errorf("the pool remembers %d origins to which it has no connection", n)
	}
}

func TestLimitsOfWaiting(t *testing.T) {
	const short = 40 * time.Millisecond
	t.Run("for the answer", func(t *testing.T) {
		o := newOrigin(t, nil)
		p := newPool(t, upstream.Config{Limits: upstream.Limits{FirstByte: short}})
		e := wantReason(t, p.Send(t.Context(), request(t, o.at, "GET", "")), flow.ReasonTimeout)
		if e.Status != 504 {
			t.Errorf("status %d", e.Status)
		}
	})
	t.Run("for the greeting of HTTP/2", func(t *testing.T) {
		o := newOrigin(t, nil)
		p := newPool(t, upstream.Config{Limits: upstream.Limits{FirstByte: short}})
		e := wantReason(t, p.Send(t.Context(), by2(t, o.at)), flow.ReasonTimeout)
		if e.Status != 504 {
			t.Errorf("status %d", e.Status)
		}
	})
	t.Run("within the body", func(t *testing.T) {
		o := newOrigin(t, nil)
		o.serve(func(int, int) string { return "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc" })
		p := newPool(t, upstream.Config{Limits: upstream.Limits{Silence: short}})
		f := request(t, o.at, "GET", "")
		if err := p.Send(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		if piece, err := f.ResponseBody.Next(); string(piece) != "abc" || err != nil {
			t.Fatalf("%q, %v", piece, err)
		}
		if _, err := f.ResponseBody.Next(); err == nil || err == io.EOF {
			t.Errorf("a body that stopped ends with %v", err)
		}
	})
	t.Run("for the origin to take the request", func(t *testing.T) {
		o := newOrigin(t, nil)
		p := newPool(t, upstream.Config{Limits: upstream.Limits{FirstByte: short}})
		wantReason(t, p.Send(t.Context(), request(t, o.at, "POST", strings.Repeat("x", 64<<20))), flow.ReasonTimeout)
	})
	t.Run("for the connection", func(t *testing.T) {
		p := newPool(t, upstream.Config{Limits: upstream.Limits{Dial: short},
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}})
		wantReason(t, p.Send(t.Context(), request(t, flow.Origin{Host: "x.example", Port: 1}, "GET", "")), flow.ReasonTimeout)
	})
	t.Run("for the handshake", func(t *testing.T) {
		o := newOrigin(t, nil)
		o.at.TLS = true
		p := newPool(t, upstream.Config{Limits: upstream.Limits{Handshake: short}})
		wantReason(t, p.Send(t.Context(), request(t, o.at, "GET", "")), flow.ReasonTimeout)
	})
}

func TestContextEndsAWait(t *testing.T) {
	cause := errors.New("nobody waits any more")
	o := newOrigin(t, nil)
	p := newPool(t, upstream.Config{})
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Send(ctx, request(t, o.at, "GET", "")) }()
	conn := o.accept()
	readRequest(t, conn)
	cancel(cause)
	if err := <-done; err != cause {
		t.Errorf("Send returned %v, want the cause", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the origin's end: %v, want it closed", err)
	}
	if err := p.Send(ctx, request(t, o.at, "GET", "")); err != cause {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestCloseEndsFlowsUnderWay(t *testing.T) {
	o := newOrigin(t, nil)
	p := upstream.New(upstream.Config{})
	done := make(chan error, 1)
	go func() { done <- p.Send(t.Context(), request(t, o.at, "POST", strings.Repeat("x", 64<<20))) }()
	o.accept()
	p.Close()
	wantReason(t, <-done, flow.ReasonClosing)
	wantReason(t, p.Send(t.Context(), request(t, o.at, "GET", "")), flow.ReasonClosing)
	p.Close()
}

func TestBodyClosedEarlyOrLate(t *testing.T) {
	o := newOrigin(t, nil)
	sent := o.serve(func(int, int) string { return okAnswer })
	p := newPool(t, upstream.Config{})
	early := request(t, o.at, "GET", "")
	if err := p.Send(t.Context(), early); err != nil {
		t.Fatal(err)
	}
	early.ResponseBody.Close()
	if _, err := early.ResponseBody.Next(); err == nil || err == io.EOF {
		t.Errorf("a closed body goes on with %v", err)
	}
	old := request(t, o.at, "GET", "")
	send(t, p, old)
	next := request(t, o.at, "GET", "")
	if err := p.Send(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	old.ResponseBody.Close() // must not hit the flow that has the connection now
	if got := answer(t, next); got != okAnswer || sent() != 3 {
		t.Errorf("the answer is %q after %d requests", got, sent())
	}
}

func TestRefusedOrigins(t *testing.T) {
	loop := &flow.Error{Status: 508, Reason: flow.ReasonLoop, Detail: "d", Next: "n"}
	closed := flow.Origin{Host: "127.0.0.1", Port: closedPort}
	plain := newOrigin(t, nil)
	plain.serve(func(int, int) string { return okAnswer })
	noTLS := plain.at
	noTLS.TLS = true
	authority := newAuthority(t)
	untrusted := newOrigin(t, authority)
	untrusted.serve(func(int, int) string { return okAnswer })
	other := untrusted.at
	other.Host = "localhost"
	talker := newOrigin(t, nil)
	talker.serve(func(int, int) string { return strings.Repeat("HTTP/1.1 103 x\r\n\r\n", 100) })
	tests := map[string]struct {
		cfg    upstream.Config
		at     flow.Origin
		reason string
		text   string
	}{
		"nobody listens":                {at: closed, reason: flow.ReasonUnreachable, text: "No connection"},
		"a name that does not resolve":  {at: flow.Origin{Host: "nowhere.invalid", Port: 80}, reason: flow.ReasonUnreachable},
		"https to a port that is http":  {at: noTLS, reason: flow.ReasonUnreachable, text: "does not speak TLS"},
		"an authority that is unknown":  {at: untrusted.at, reason: flow.ReasonTLS, text: "not trusted"},
		"a certificate for others":      {cfg: upstream.Config{Roots: []*x509.Certificate{authority.Root()}}, at: other, reason: flow.ReasonTLS, text: "localhost"},
		"an address that is refused":    {cfg: upstream.Config{Refuse: func(net.Addr) error { return loop }}, at: plain.at, reason: flow.ReasonLoop},
		"interim answers without end":   {at: talker.at, reason: flow.ReasonBadResponse, text: "interim"},
		"plain HTTP to a port with TLS": {at: flow.Origin{Host: "127.0.0.1", Port: untrusted.at.Port}, reason: flow.ReasonBroken},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := wantReason(t, newPool(t, tt.cfg).Send(t.Context(), request(t, tt.at, "GET", "")), tt.reason)
			if !strings.Contains(e.Detail, tt.text) {
				t.Errorf("the detail is %q, want something with %q", e.Detail, tt.text)
			}
			if tt.reason == flow.ReasonTLS && !strings.Contains(e.Next, "--insecure-upstream") {
				t.Errorf("the next step is %q", e.Next)
			}
		})
	}
	t.Run("any certificate does when told so", func(t *testing.T) {
		send(t, newPool(t, upstream.Config{Insecure: true}), request(t, untrusted.at, "GET", ""))
	})
}

func TestTLSIsResumed(t *testing.T) {
	authority := newAuthority(t)
	o := newOrigin(t, authority)
	p := newPool(t, upstream.Config{Roots: []*x509.Certificate{authority.Root()}})
	for n, want := range []bool{false, true} {
		f := request(t, o.at, "GET", "")
		done := make(chan error, 1)
		go func() { done <- p.Send(t.Context(), f) }()
		conn := o.accept()
		readRequest(t, conn)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		answer(t, f)
		if got := conn.(*tls.Conn).ConnectionState().DidResume; got != want {
			t.Errorf("connection %d: resumed %v, want %v", n+1, got, want)
		}
	}
}

// slowBody waits for each piece, as a client's connection does.
type slowBody struct {
	pieces chan string
	closed chan struct{}
	once   sync.Once
}

func (b *slowBody) Ready() bool           { return false }
func (b *slowBody) Framing() wire.Framing { return wire.Framing{Kind: wire.Length, Length: 10} }
func (b *slowBody) Close() error          { b.once.Do(func() { close(b.closed) }); return nil }
func (b *slowBody) Next() ([]byte, error) {
	select {
	case p, ok := <-b.pieces:
		if !ok {
			return nil, io.ErrUnexpectedEOF
		}
		return []byte(p), nil
	case <-b.closed:
		return nil, io.ErrClosedPipe
	}
}

func TestBodyThatBreaksOffBreaksTheRequestOff(t *testing.T) {
	o := newOrigin(t, nil)
	p := newPool(t, upstream.Config{})
	f := request(t, o.at, "POST", "0123456789")
	body := &slowBody{pieces: make(chan string), closed: make(chan struct{})}
	f.RequestBody = body
	done := make(chan error, 1)
	go func() { done <- p.Send(t.Context(), f) }()
	conn := o.accept()
	readRequest(t, conn)
	body.pieces <- "01234"
	if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	close(body.pieces)
	if err := <-done; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Send returned %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the origin's end: %v, want it closed", err)
	}
}

func TestOriginThatEndsStopsTheBody(t *testing.T) {
	o := newOrigin(t, nil)
	p := newPool(t, upstream.Config{})
	f := request(t, o.at, "POST", "0123456789")
	body := &slowBody{pieces: make(chan string), closed: make(chan struct{})}
	f.RequestBody = body
	done := make(chan error, 1)
	go func() { done <- p.Send(t.Context(), f) }()
	conn := o.accept()
	readRequest(t, conn)
	conn.Close()
	wantReason(t, <-done, flow.ReasonBroken)
	select {
	case <-body.closed:
	default:
		t.Error("the body was not closed when Send returned")
	}
}

func newAuthority(t testing.TB) *ca.Authority {
	t.Helper()
	authority, err := ca.New(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}
