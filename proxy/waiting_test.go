package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
)

// short is a limit that a test waits for.
const short = 40 * time.Millisecond

// enough is one that a test waits for too, and within which a client that says
// something at once has said it, also on a slow machine.
const enough = 800 * time.Millisecond

func distrust(conn net.Conn) error {
	return tls.Client(conn, &tls.Config{ServerName: "x.example"}).Handshake()
}

// waitForEnd is a handler that answers nobody until its context ends.
func waitForEnd(ended chan<- error) flow.Stage {
	return func(flow.Handler) flow.Handler {
		return func(ctx context.Context, _ *flow.Flow) error {
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return context.Cause(ctx)
		}
	}
}

func TestClientThatGoesAwayEndsTheWait(t *testing.T) {
	limits := proxy.Limits{HalfClosed: short}
	ways := map[string]func(w *world) (conn net.Conn, leave func()){
		"to the proxy": func(w *world) (net.Conn, func()) {
			conn := w.dial()
			return conn, func() { conn.Close() }
		},
		"to the proxy, with a reset": func(w *world) (net.Conn, func()) {
			conn := w.dial()
			return conn, func() {
				conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}
		},
		"through TLS": func(w *world) (net.Conn, func()) {
			conn := w.secure(w.tunnel("x.example:443"), "x.example")
			return conn, func() { conn.Close() }
		},
		"through TLS, having sent more": func(w *world) (net.Conn, func()) {
			conn := w.secure(w.tunnel("x.example:443"), "x.example")
			return conn, func() {
				write(w.t, conn, "GET http://x/2 HTTP/1.1\r\n\r\n")
				conn.Close()
			}
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 2)
			w := newWorld(t, proxy.Config{Limits: limits}, upstream.Config{}, waitForEnd(ended))
			conn, leave := way(w)
			write(t, conn, get("x", ""))
			eventually(t, "the flow begins", func() bool { return w.begun.Load() == 1 })
			leave()
			if err := <-ended; err == nil || !strings.Contains(err.Error(), "client went away") {
				t.Errorf("the context ended because of %v", err)
			}
			eventually(t, "the flow ends", func() bool { return w.over.Load() == 1 })
		})
	}
}

func TestClientThatClosesItsSendingSideGetsItsAnswer(t *testing.T) {
	answer := make(chan struct{})
	w := newWorld(t, proxy.Config{}, upstream.Config{}, func(flow.Handler) flow.Handler {
		return func(_ context.Context, f *flow.Flow) error {
			<-answer
			return proxy.Answer(f, 200, "text/plain", []byte(okBody))
		}
	})
	conn := w.dial()
	write(t, conn, get("x", ""))
	conn.(*net.TCPConn).CloseWrite()
	eventually(t, "the flow begins", func() bool { return w.begun.Load() == 1 })
	close(answer)
	raw, err := io.ReadAll(conn)
	if err != nil || !strings.HasSuffix(string(raw), okBody) {
		t.Errorf("%q, %v", raw, err)
	}
}

func TestLimitsOfWaiting(t *testing.T) {
	wantEnd := func(t *testing.T, conn net.Conn) {
		t.Helper()
		if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("%v, want the end", err)
		}
	}
	wantProblem := func(t *testing.T, conn net.Conn, want int) {
		t.Helper()
		if status, _ := readProblem(t, conn); status != want {
			t.Errorf("status %d, want %d", status, want)
		}
		wantEnd(t, conn)
	}
	t.Run("for the rest of a head", func(t *testing.T) {
		w := newWorld(t, proxy.Config{Limits: proxy.Limits{Head: short, Linger: short}}, upstream.Config{}, nil)
		conn := w.dial()
		write(t, conn, "GET http://x/ HTT")
		wantProblem(t, conn, 408)
	})
	t.Run("for a request", func(t *testing.T) {
		w := newWorld(t, proxy.Config{Limits: proxy.Limits{Idle: enough}}, upstream.Config{}, answerOK)
		wantEnd(t, w.dial())
		conn := w.dial()
		write(t, conn, get("x", ""))
		read(t, conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nCache-Control: no-store\r\n\r\nok")
		wantEnd(t, conn)
		wantEnd(t, w.tunnel("x.example:443"))
	})
	t.Run("for the handshake", func(t *testing.T) {
		w := newWorld(t, proxy.Config{Limits: proxy.Limits{Handshake: short}}, upstream.Config{}, nil)
		conn := w.tunnel("x.example:443")
		write(t, conn, "\x16\x03\x01\x02")
		wantEnd(t, conn)
	})
	t.Run("for the body", func(t *testing.T) {
		w := newWorld(t, proxy.Config{Limits: proxy.Limits{Body: short, Linger: short}}, upstream.Config{}, nil)
		ln := listen(t)
		conn := w.dial()
		write(t, conn, "POST http://"+authorityOf(ln)+"/ HTTP/1.1\r\nContent-Length: 10\r\n\r\n012")
		wantProblem(t, conn, 408)
	})
	t.Run("for a client that does not read", func(t *testing.T) {
		w := newWorld(t, proxy.Config{Limits: proxy.Limits{Stall: short}}, upstream.Config{}, func(flow.Handler) flow.Handler {
			return func(_ context.Context, f *flow.Flow) error {
				return proxy.Answer(f, 200, "text/plain", bytes.Repeat([]byte("x"), 64<<20))
			}
		})
		write(t, w.dial(), get("x", ""))
		eventually(t, "the flow ends", func() bool { return w.over.Load() == 1 })
		if w.last.Load().Err == nil {
			t.Error("the flow ended well")
		}
	})
	t.Run("for the rest of a request that is answered", func(t *testing.T) {
		w := newWorld(t, proxy.Config{Limits: proxy.Limits{Linger: short}}, upstream.Config{}, nil)
		ln := listen(t)
		conn := w.dial()
		write(t, conn, "POST http://"+authorityOf(ln)+"/ HTTP/1.1\r\nContent-Length: 10\r\n\r\n012")
		origin, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer origin.Close()
		write(t, origin, okHead+okBody)
		read(t, conn, okHead+okBody)
		wantEnd(t, conn)
	})
	t.Run("in a tunnel without bytes", func(t *testing.T) {
		w := newWorld(t, proxy.Config{Limits: proxy.Limits{Tunnel: short}}, upstream.Config{}, nil)
		ln := listen(t)
		conn := w.dial()
		write(t, conn, get(authorityOf(ln), ""))
		origin, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer origin.Close()
		write(t, origin, "HTTP/1.1 101 x\r\n\r\n")
		read(t, conn, "HTTP/1.1 101 x\r\n\r\n")
		wantEnd(t, conn)
	})
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestShutdown(t *testing.T) {
	t.Run("lets flows under way end, and ends idle connections", func(t *testing.T) {
		begun, answer := make(chan struct{}), make(chan struct{})
		w := newWorld(t, proxy.Config{}, upstream.Config{}, func(flow.Handler) flow.Handler {
			return func(_ context.Context, f *flow.Flow) error {
				close(begun)
				<-answer
				return proxy.Answer(f, 200, "text/plain", []byte(okBody))
			}
		})
		idle, busy := w.dial(), w.dial()
		write(t, busy, get("x", ""))
		<-begun
		done := make(chan error, 1)
		go func() { done <- w.server.Shutdown(t.Context()) }()
		if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the idle connection: %v", err)
		}
		close(answer)
		if raw, err := io.ReadAll(busy); err != nil || !strings.HasSuffix(string(raw), okBody) {
			t.Errorf("the busy one: %q, %v", raw, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if conn, err := net.Dial("tcp", w.addr); err == nil {
			conn.Close()
			t.Error("it still listens")
		}
		if err := w.server.Serve(t.Context(), listen(t)); err == nil {
			t.Error("a closed server serves")
		}
	})
	t.Run("cuts off what takes too long", func(t *testing.T) {
		ended := make(chan error, 1)
		w := newWorld(t, proxy.Config{}, upstream.Config{}, waitForEnd(ended))
		write(t, w.dial(), get("x", ""))
		eventually(t, "the flow begins", func() bool { return w.begun.Load() == 1 })
		ctx, cancel := context.WithTimeout(t.Context(), short)
		defer cancel()
		if err := w.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		if w.over.Load() != 1 {
			t.Error("the flow did not end")
		}
	})
}

// TestDisconnectsAnywhere ends either connection after each byte: every flow
// ends once (the world checks that), and the client never sees a whole answer
// that is none.
func TestDisconnectsAnywhere(t *testing.T) {
	body := "5\r\nhello\r\n0\r\n\r\n"
	answer := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nworld\r\n0\r\n\r\n"
	for _, mode := range []string{"proxy", "tls"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, proxy.Config{Limits: proxy.Limits{HalfClosed: short, Linger: short}}, upstream.Config{}, nil)
			ln := listen(t)
			if mode == "tls" {
				ln = listenTLS(t, w.ca, ln)
			}
			host := authorityOf(ln)
			request := "POST / HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body
			connect := func() net.Conn { return w.secure(w.tunnel(host), "127.0.0.1") }
			if mode == "proxy" {
				request = strings.Replace(request, "/", "http://"+host+"/", 1)
				connect = w.dial
			}
			after := make(chan int)
			served := make(chan struct{})
			go func() {
				defer close(served)
				want := make([]byte, len("POST / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"+body))
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					conn.SetDeadline(time.Now().Add(patience))
					if _, err := io.ReadFull(conn, want); err == nil {
						io.WriteString(conn, answer[:<-after])
					}
					conn.Close()
				}
			}()
			for n := range len(request) {
				conn := connect()
				write(t, conn, request[:n])
				conn.Close()
			}
			for n := 0; n <= len(answer); n++ {
				conn := connect()
				write(t, conn, request)
				after <- n
				raw, _ := io.ReadAll(conn)
				if n < len(answer) && strings.HasPrefix(string(raw), "HTTP/1.1 200") && string(raw) != answer[:n] {
					t.Errorf("of %d bytes the client read\n%q", n, raw)
				}
				if n == len(answer) && string(raw) != answer {
					t.Errorf("the whole answer became\n%q", raw)
				}
				conn.Close()
			}
			ln.Close()
			<-served
		})
	}
}

func TestFirstByteArrivesBeforeTheLastIsSent(t *testing.T) {
	w := newWorld(t, proxy.Config{}, upstream.Config{}, nil)
	ln := listenTLS(t, w.ca, listen(t))
	conn := w.secure(w.tunnel(authorityOf(ln)), "127.0.0.1")
	write(t, conn, "GET /events HTTP/1.1\r\n\r\n")
	origin, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	read(t, origin, "GET /events HTTP/1.1\r\n\r\n")
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
	write(t, origin, head)
	read(t, conn, head)
	for i := range 20 {
		event := fmt.Sprintf("data: %d\n\n", i)
		write(t, origin, event)
		read(t, conn, event) // nothing more was sent yet
	}
}

// TestLargeBodiesUseBoundedMemory streams up and down at once, and looks now and
// then at what is held. What the process has from the system says less: it has
// what a collector that is late has left, too.
func TestLargeBodiesUseBoundedMemory(t *testing.T) {
	const size, looks, bound = 64 << 20, 8, 24 << 20
	for _, mode := range []string{"proxy", "tls"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, proxy.Config{}, upstream.Config{}, nil)
			ln := listen(t)
			conn := net.Conn(nil)
			target := "/"
			if mode == "tls" {
				ln = listenTLS(t, w.ca, ln)
				conn = w.secure(w.tunnel(authorityOf(ln)), "127.0.0.1")
			} else {
				conn, target = w.dial(), "http://"+authorityOf(ln)+"/"
			}
			conn.SetDeadline(time.Now().Add(6 * patience))
			before, most := heap(), int64(0)
			failed := make(chan error, 2)
			go func() {
				origin, err := ln.Accept()
				if err != nil {
					failed <- err
					return
				}
				defer origin.Close()
				poured := make(chan struct{})
				go func() {
					pour(origin, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size), size)
					close(poured)
				}()
				got, err := drainRequest(origin)
				if err == nil && got != size {
					err = fmt.Errorf("the origin read %d bytes of body", got)
				}
				<-poured
				failed <- err
			}()
			go pour(conn, fmt.Sprintf("POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n", target, size), size)
			for n := range looks {
				if got, err := io.CopyN(io.Discard, conn, size/looks); err != nil {
					t.Fatalf("after %d bytes: %v", n*size/looks+int(got), err)
				}
				most = max(most, heap()-before)
			}
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
			if most > bound {
				t.Errorf("%d bytes more were held than before, want at most %d", most, bound)
			}
			t.Logf("at most %d bytes more were held than before", most)
		})
	}
}

// drainRequest reads one request and counts the bytes of its body.
func drainRequest(conn net.Conn) (n int, err error) {
	r := wire.NewReader(conn, wire.Limits{})
	var req wire.Request
	if err := r.ReadRequest(&req); err != nil {
		return 0, err
	}
	framing, err := wire.RequestFraming(&req)
	if err != nil {
		return 0, err
	}
	for body := r.Body(framing); ; {
		piece, err := body.Next()
		n += len(piece)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// pour writes a head and size bytes.
func pour(to io.Writer, head string, size int) {
	io.WriteString(to, head)
	block := bytes.Repeat([]byte("x"), 32<<10)
	for size > 0 {
		n, err := to.Write(block[:min(size, len(block))])
		if err != nil {
			return
		}
		size -= n
	}
}
