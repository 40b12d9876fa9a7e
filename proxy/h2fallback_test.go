package proxy_test

import (
	"context"
	"crypto/tls"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// connects is newWorld2 with extended CONNECT mirrored, too.
func connects(t testing.TB, cfg proxy.Config) *world {
	var w *world
	cfg.Connect = func(ctx context.Context, o flow.Origin) bool { return w.pool.TakesConnect(ctx, o) }
	w = newWorld2(t, cfg, upstream.Config{}, nil)
	return w
}

func handshake2(at string) *wire.Head {
	return head2(":method= CONNECT", ":protocol= websocket", ":scheme= https", ":path= /", ":authority= "+at, "sec-websocket-version= 13")
}

// A client is offered extended CONNECT where its origin takes it, so that it
// does here what it would do there, and where it has no other way.
func TestExtendedConnectIsMirrored(t *testing.T) {
	for _, c := range []struct {
		name   string
		origin h2.Config
		speaks []string // the origin
		offers []string // the client
		want   bool
	}{
		{"an origin that takes it", h2.Config{Connect: true}, []string{"h2", "http/1.1"}, []string{"h2", "http/1.1"}, true},
		{"an origin that does not", h2.Config{}, []string{"h2", "http/1.1"}, []string{"h2", "http/1.1"}, false},
		{"a client that insists on HTTP/2", h2.Config{}, []string{"http/1.1"}, []string{"h2"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := connects(t, proxy.Config{})
			ln := listen2(t, w, c.speaks...)
			serveOrigin2(t, ln, c.origin, func(s *h2.Stream) { s.WriteHead(head2(":status= 204"), true) })
			for range 2 { // found out, and remembered
				client := client2(t, w.secure2(w.tunnel(authorityOf(ln)), c.offers...))
				if err := client.Greeted(); err != nil || client.TakesConnect() != c.want {
					t.Errorf("offered: %v (%v), want %v", client.TakesConnect(), err, c.want)
				}
			}
		})
	}
}

// An origin that agrees on HTTP/2 and then says nothing holds nobody up.
func TestAnOriginThatDoesNotGreet(t *testing.T) {
	w := connects(t, proxy.Config{})
	ln := listen2(t, w, "h2")
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(io.Discard, conn)
			}()
		}
	}()
	client := client2(t, w.secure2(w.tunnel(authorityOf(ln)), "h2", "http/1.1"))
	if err := client.Greeted(); err != nil || client.TakesConnect() {
		t.Errorf("%v, offered %v", err, client.TakesConnect())
	}
}

// refusedBy opens a WebSocket by HTTP/2 at an HTTP/1 origin with such an answer.
func refusedBy(t *testing.T, answer func(key string) string) (*wire.Response, string) {
	t.Helper()
	w := connects(t, proxy.Config{})
	ln := listen2(t, w, "http/1.1")
	go func() {
		conn, err := ln.Accept()
		for err == nil {
			var r wire.Request
			if wire.NewReader(conn, wire.Limits{}).ReadRequest(&r) == nil {
				key, _ := r.Get("Sec-WebSocket-Key")
				io.WriteString(conn, answer(string(key)))
			}
			conn.Close()
			conn, err = ln.Accept()
		}
	}()
	at := authorityOf(ln)
	s, err := client2(t, w.secure2(w.tunnel(at), "h2")).Open(handshake2(at), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Done()
	s.Flush()
	r, err := s.Head()
	if err != nil {
		t.Fatal(err)
	}
	body, _ := all2(s.Body())
	return r, body
}

// What does not open a WebSocket must not look as if it did.
func TestHandshakesThatFailInHTTP1(t *testing.T) {
	for _, c := range []struct {
		name, answer, body string
		status             int
	}{
		{"refused", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nno!", "no!", 401},
		{"not understood", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "answered 200 to a handshake", 502},
		{"another key's accept", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + ws.Accept(socketKey) + "\r\n\r\n", "RFC 6455", 502},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "RFC 6455", 502},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, body := refusedBy(t, func(string) string { return c.answer })
			if r.Status() != c.status || !strings.Contains(body, c.body) {
				t.Errorf("%d %q, want %d %q", r.Status(), body, c.status, c.body)
			}
		})
	}
}

// What the client asks for by HTTP/2 goes by HTTP/1.1 to an origin whose HTTP/2
// does not take it, and nowhere if that speaks nothing else.
func TestAnOriginWhoseHTTP2TakesNoConnect(t *testing.T) {
	for _, c := range []struct {
		name     string
		speaks   []string
		protocol string
		want     int
	}{
		{"and that speaks HTTP/1.1", []string{"h2", "http/1.1"}, "websocket", 200},
		{"and that speaks nothing else", []string{"h2"}, "websocket", 501},
		{"which is for no WebSocket", []string{"h2", "http/1.1"}, "connect-udp", 501},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := connects(t, proxy.Config{Policy: wire.Lenient}) // else what was not offered is refused
			ln := listen2(t, w, c.speaks...)
			go func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					go func() {
						defer conn.Close()
						if secured := conn.(*tls.Conn); secured.Handshake() != nil || secured.ConnectionState().NegotiatedProtocol != "http/1.1" {
							h := h2.New(conn, conn, h2.Config{Accept: func(s *h2.Stream) { t.Error("a stream came"); s.Done() }})
							h.Start(false)
							h.Run()
							return
						}
						reader := wire.NewReader(conn, wire.Limits{})
						var r wire.Request
						if reader.ReadRequest(&r) == nil {
							key, _ := r.Get("Sec-WebSocket-Key")
							io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+ws.Accept(string(key))+"\r\n\r\n")
							io.Copy(conn, reader)
						}
					}()
				}
			}()
			at := authorityOf(ln)
			client := client2(t, w.secure2(w.tunnel(at), "h2", "http/1.1"))
			for range 2 {
				head := handshake2(at)
				head.SetFieldValue(1, []byte(c.protocol))
				s, err := client.Open(head, false)
				if err != nil {
					t.Fatal(err)
				}
				s.Flush()
				r, err := s.Head()
				if err != nil || r.Status() != c.want {
					t.Fatalf("%v (%v), want %d", r, err, c.want)
				}
				if c.want == 200 {
					tunnel := s.Tunnel()
					io.WriteString(tunnel, "echo")
					if _, err := io.ReadFull(tunnel, make([]byte, 4)); err != nil {
						t.Error(err)
					}
				}
				s.Done()
			}
		})
	}
}

// What the origin says that it has not processed is sent again, and what it
// wants by HTTP/1.1 goes there, for WebSockets alone.
func TestAHandshakeThatTheOriginPutsOff(t *testing.T) {
	w := connects(t, proxy.Config{})
	ln := listen2(t, w, "h2")
	var tries atomic.Int32
	serveOrigin2(t, ln, h2.Config{Connect: true}, func(s *h2.Stream) {
		switch {
		case string(s.Request().Method()) != "CONNECT":
			s.WriteHead(head2(":status= 204"), true)
		case tries.Add(1) == 1:
			s.Reset(h2.RefusedStream)
		case tries.Load() == 2:
			s.WriteHead(head2(":status= 200"), false)
			s.Tunnel().CloseWrite()
		default:
			s.Reset(h2.HTTP11Required)
		}
	})
	at := authorityOf(ln)
	client := client2(t, w.secure2(w.tunnel(at), "h2", "http/1.1"))
	for _, want := range []int{200, 501, 204} {
		head := handshake2(at)
		if want == 204 {
			head = get2(at, "/")
		}
		s, err := client.Open(head, want == 204)
		if err != nil {
			t.Fatal(err)
		}
		s.Flush()
		if r, err := s.Head(); err != nil || r.Status() != want {
			t.Fatalf("%v (%v), want %d", r, err, want)
		}
		s.Done()
	}
}

// CONNECT through CONNECT is the origin's business, whatever it speaks.
func TestConnectInsideOfATunnelByHTTP2(t *testing.T) {
	w := connects(t, proxy.Config{})
	ln := listen2(t, w, "h2")
	serveOrigin2(t, ln, h2.Config{}, func(s *h2.Stream) {
		if text2(&s.Request().Head) != ":method= CONNECT\n:authority= db:5432\n" {
			s.WriteHead(head2(":status= 403"), true)
			return
		}
		s.WriteHead(head2(":status= 200"), false)
		tunnel := s.Tunnel()
		s.Flush()
		io.Copy(tunnel, tunnel)
		tunnel.CloseWrite()
	})
	client := client2(t, w.secure2(w.tunnel(authorityOf(ln)), "h2", "http/1.1"))
	s, err := client.Open(head2(":method= CONNECT", ":authority= db:5432"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Done()
	s.Flush()
	if r, err := s.Head(); err != nil || r.Status() != 200 {
		t.Fatal(r, err)
	}
	tunnel := s.Tunnel()
	io.WriteString(tunnel, "no HTTP at all")
	tunnel.CloseWrite()
	if got, err := io.ReadAll(tunnel); string(got) != "no HTTP at all" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// Malformed handshakes are refused under the framing policy, before the origin
// hears of them.
func TestMalformedHandshakesByHTTP2(t *testing.T) {
	for _, policy := range []wire.Policy{wire.Strict, wire.Raw} {
		w := connects(t, proxy.Config{Policy: policy})
		ln := listen2(t, w, "h2")
		serveOrigin2(t, ln, h2.Config{Connect: true, Policy: wire.Raw}, func(s *h2.Stream) { s.WriteHead(head2(":status= 418"), true) })
		at := authorityOf(ln)
		client := client2(t, w.secure2(w.tunnel(at), "h2", "http/1.1"))
		s, err := client.Open(head2(":method= CONNECT", ":protocol= websocket", ":path= /", ":authority= "+at), false)
		if err != nil {
			t.Fatal(err)
		}
		s.Flush()
		switch r, err := s.Head(); {
		case policy == wire.Strict && (err == nil || !strings.Contains(err.Error(), http2.ErrCodeProtocol.String())):
			t.Errorf("strict: %v, %v", r, err)
		case policy == wire.Raw && (err != nil || r.Status() != 418):
			t.Errorf("raw: %v, %v", r, err)
		}
		s.Done()
	}
}
