package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/ca"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/internal/leak"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience is how long a test waits for something that must happen.
const patience = 2 * time.Minute

// A world is a proxy with everything around it that is real: an authority, a
// pool, listeners on ports of the system's choice.
type world struct {
	t           testing.TB
	ca          *ca.Authority
	server      *proxy.Server
	pool        *upstream.Pool
	addr        string // of the proxy
	begun, over atomic.Int64
	last        atomic.Pointer[flow.Flow] // that ended last
}

// newWorld starts a proxy whose handler is the pool's, in wrap if that is not
// nil. Everything ends with the test, which fails if a flow did not end once.
func newWorld(t testing.TB, cfg proxy.Config, up upstream.Config, wrap flow.Stage) *world {
	t.Helper()
	authority, err := ca.New(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, ca: authority}
	up.Roots = append(up.Roots, authority.Root())
	w.pool = upstream.New(up)
	handler := flow.Handler(w.pool.Send)
	if wrap != nil {
		handler = wrap(handler)
	}
	cfg.Handler = func(ctx context.Context, f *flow.Flow) error {
		w.begun.Add(1)
		f.OnEnd(func(f *flow.Flow) {
			w.last.Store(f)
			w.over.Add(1)
		})
		return handler(ctx, f)
	}
	cfg.CA = authority.Leaf
	w.server = proxy.New(cfg)
	ln := listen(t)
	w.addr = ln.Addr().String()
	done := make(chan error, 1)
	go func() { done <- w.server.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		w.server.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		w.pool.Close()
		if b, o := w.begun.Load(), w.over.Load(); b != o {
			t.Errorf("%d flows began, %d ended", b, o)
		}
	})
	return w
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// listenTLS is a listener with a certificate of the authority.
func listenTLS(t testing.TB, authority *ca.Authority, ln net.Listener) net.Listener {
	t.Helper()
	leaf, err := authority.Leaf("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{*leaf}, NextProtos: []string{"http/1.1"}})
}

// dial connects to the proxy.
func (w *world) dial() net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	w.t.Cleanup(func() { conn.Close() })
	return conn
}

// tunnel opens a tunnel to an authority, with further lines in its head.
func (w *world) tunnel(authority string, lines ...string) net.Conn {
	w.t.Helper()
	conn := w.dial()
	head := append([]string{"CONNECT " + authority + " HTTP/1.1", "Host: " + authority}, lines...)
	write(w.t, conn, strings.Join(head, "\r\n")+"\r\n\r\n")
	read(w.t, conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	return conn
}

// secure does the handshake of a client that trusts the authority.
func (w *world) secure(conn net.Conn, name string) *tls.Conn {
	w.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(w.ca.Root())
	secured := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: name, NextProtos: []string{"http/1.1"}})
	if err := secured.Handshake(); err != nil {
		w.t.Fatalf("handshake with the proxy: %v", err)
	}
	return secured
}

func write(t testing.TB, conn net.Conn, text string) {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatalf("writing %q: %v", text, err)
	}
}

// read takes exactly the text from the connection.
func read(t testing.TB, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	n := 0
	for n < len(want) {
		m, err := conn.Read(got[n:])
		n += m
		if !bytes.HasPrefix([]byte(want), got[:n]) || err != nil && n < len(want) {
			t.Fatalf("read\n%q (%v), want\n%q", got[:n], err, want)
		}
	}
}

// eventually polls what another goroutine or the kernel brings about.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

func authorityOf(ln net.Listener) string {
	a := ln.Addr().(*net.TCPAddr)
	return fmt.Sprintf("127.0.0.1:%d", a.Port)
}
