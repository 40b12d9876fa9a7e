package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// newWorld2 is newWorld with HTTP/2 towards clients, mirrored from the origins.
func newWorld2(t testing.TB, cfg proxy.Config, up upstream.Config, wrap flow.Stage) *world {
	t.Helper()
	var w *world
	cfg.HTTP2 = func(ctx context.Context, o flow.Origin) (bool, error) { return w.pool.SpeaksHTTP2(ctx, o) }
	w = newWorld(t, cfg, up, wrap)
	return w
}

// listen2 is a listener with a certificate that offers the protocols by ALPN.
func listen2(t testing.TB, w *world, protocols ...string) net.Listener {
	t.Helper()
	leaf, err := w.ca.Leaf("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return tls.NewListener(listen(t), &tls.Config{Certificates: []tls.Certificate{*leaf}, NextProtos: protocols})
}

// origin2 is an origin whose streams are answered by a function, each in a
// goroutine of its own.
type origin2 struct {
	ln          net.Listener
	mu          sync.Mutex
	connections int
	wg          sync.WaitGroup
	open        []net.Conn
}

func serveOrigin2(t testing.TB, ln net.Listener, cfg h2.Config, answer func(*h2.Stream)) *origin2 {
	t.Helper()
	o := &origin2{ln: ln}
	o.wg.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			o.mu.Lock()
			o.connections++
			o.open = append(o.open, raw)
			o.mu.Unlock()
			o.wg.Go(func() {
				defer raw.Close()
				one := cfg
				one.Accept = func(s *h2.Stream) {
					o.wg.Go(func() {
						defer s.Done()
						answer(s)
						s.Flush()
					})
				}
				conn := h2.New(raw, raw, one)
				conn.Start(false)
				conn.Run()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		o.closeAll()
		o.wg.Wait()
	})
	return o
}

func (o *origin2) closeAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, raw := range o.open {
		raw.Close()
	}
}

// client2 is an HTTP/2 client on a connection; it ends with the test.
func client2(t testing.TB, raw net.Conn) *h2.Conn {
	t.Helper()
	c := h2.New(raw, raw, h2.Config{Client: true, Policy: wire.Raw})
	c.Start(false)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run()
		raw.Close()
	}()
	t.Cleanup(func() {
		raw.Close()
		<-done
	})
	return c
}

// secure2 does the handshake of a client that offers protocols.
func (w *world) secure2(conn net.Conn, protocols ...string) *tls.Conn {
	w.t.Helper()
	secured := tls.Client(conn, &tls.Config{RootCAs: w.ca.Pool(), ServerName: "127.0.0.1", NextProtos: protocols})
	if err := secured.Handshake(); err != nil {
		w.t.Fatalf("handshake with the proxy: %v", err)
	}
	return secured
}

func head2(lines ...string) *wire.Head {
	h := new(wire.Head)
	h.Reset(wire.HTTP2)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "= ")
		h.AppendField([]byte(name), []byte(value), 0)
	}
	return h
}

func text2(h *wire.Head) string {
	var b strings.Builder
	for i := range h.NumFields() {
		name, value := h.Field(i)
		fmt.Fprintf(&b, "%s= %s\n", name, value)
	}
	return b.String()
}

func all2(b wire.Body) (string, error) {
	var all []byte
	for b != nil {
		p, err := b.Next()
		all = append(all, p...)
		if err == io.EOF {
			break
		}
		if err != nil {
			return string(all), err
		}
	}
	return string(all), nil
}

func get2(authority, path string, more ...string) *wire.Head {
	return head2(append([]string{":method= GET", ":path= " + path, ":scheme= https", ":authority= " + authority}, more...)...)
}

// ask sends a request without a body and returns status and body.
func ask(t testing.TB, c *h2.Conn, h *wire.Head) (*wire.Response, string) {
	t.Helper()
	s, err := c.Open(h, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Done()
	s.Flush()
	r, err := s.Head()
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	if s.Body() == nil {
		return r, ""
	}
	body, err := all2(s.Body())
	if err != nil {
		t.Errorf("the body broke off: %v", err)
	}
	return r, body
}

func TestHTTP2PassesAsItIs(t *testing.T) {
	w := newWorld2(t, proxy.Config{Policy: wire.Raw}, upstream.Config{Policy: wire.Raw}, nil)
	seen := make(chan string, 1)
	ln := listen2(t, w, "h2", "http/1.1")
	serveOrigin2(t, ln, h2.Config{Policy: wire.Raw}, func(s *h2.Stream) {
		body, err := all2(s.Body())
		if err != nil {
			t.Error(err)
		}
		seen <- text2(&s.Request().Head) + "\n" + body + "\n" + text2(s.Body().Framing().Trailers)
		s.WriteHead(head2(":status= 103", "link= early"), false)
		s.WriteHead(head2(":status= 200", "Odd-Case= yes", "set-cookie= a", "set-cookie= b"), false)
		s.Write([]byte("hello"), false)
		s.WriteTrailers(head2("grpc-status= 0"))
	})
	at := authorityOf(ln)
	conn := w.secure2(w.tunnel(at), "h2", "http/1.1")
	if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
		t.Fatalf("the client was offered %q, and the origin speaks h2", got)
	}
	c := client2(t, conn)
	request := head2(":path= /x?y", ":method= POST", "X-Case= Kept", ":scheme= https", "cookie= a=1", "cookie= b=2", ":authority= "+at, ":odd= 1")
	s, err := c.Open(request, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Done()
	s.Write([]byte("body"), false)
	s.WriteTrailers(head2("x-sum= 4"))
	s.Flush()
	if got, want := <-seen, text2(request)+"\nbody\nx-sum= 4\n"; got != want {
		t.Errorf("the origin saw\n%swant\n%s", got, want)
	}
	for _, want := range []string{":status= 103\nlink= early\n", ":status= 200\nOdd-Case= yes\nset-cookie= a\nset-cookie= b\n"} {
		r, err := s.Head()
		if err != nil || text2(&r.Head) != want {
			t.Fatalf("the client got %v, %v; want %q", r, err, want)
		}
	}
	body, err := all2(s.Body())
	if err != nil || body != "hello" || text2(s.Body().Framing().Trailers) != "grpc-status= 0\n" {
		t.Errorf("body %q (%v), trailers %q", body, err, text2(s.Body().Framing().Trailers))
	}
}

func TestClientsAreOfferedWhatTheOriginSpeaks(t *testing.T) {
	w := newWorld2(t, proxy.Config{}, upstream.Config{}, nil)
	closed := listen(t)
	closed.Close()
	for _, c := range []struct {
		name, want string
		ln         net.Listener
		offer      []string
	}{
		{"an origin with HTTP/2", "h2", listen2(t, w, "h2", "http/1.1"), []string{"h2", "http/1.1"}},
		{"an origin with HTTP/2, a client with HTTP/1", "http/1.1", listen2(t, w, "h2", "http/1.1"), []string{"http/1.1"}},
		{"an origin without", "http/1.1", listen2(t, w, "http/1.1"), []string{"h2", "http/1.1"}},
		{"an origin without, a client that insists", "h2", listen2(t, w, "http/1.1"), []string{"h2"}},
		{"nobody there", "h2", closed, []string{"h2", "http/1.1"}},
	} {
		if c.ln != closed {
			serveOrigin2(t, c.ln, h2.Config{}, func(s *h2.Stream) {})
		}
		conn := w.secure2(w.tunnel(authorityOf(c.ln)), c.offer...)
		if got := conn.ConnectionState().NegotiatedProtocol; got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		conn.Close()
	}
}

func TestHTTP2ClientHTTP1Origin(t *testing.T) {
	w := newWorld2(t, proxy.Config{}, upstream.Config{}, nil)
	ln := listen2(t, w, "http/1.1")
	seen := make(chan string, 2)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r := wire.NewReader(conn, wire.Limits{})
		for range 2 {
			var req wire.Request
			if err := r.ReadRequest(&req); err != nil {
				return
			}
			framing, _ := wire.RequestFraming(&req)
			body := ""
			if framing.Kind != wire.None {
				body, _ = all2(r.Body(framing))
			}
			seen <- string(req.Bytes()) + body
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nServer: Old\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n")
		}
	}()
	at := authorityOf(ln)
	c := client2(t, w.secure2(w.tunnel(at), "h2"))
	s, err := c.Open(head2(":method= POST", ":path= /p", ":scheme= https", ":authority= "+at, "x-a= b", "cookie= a=1", "cookie= b=2"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Done()
	s.Write([]byte("hey"), false)
	s.WriteTrailers(head2("x-sum= 3"))
	s.Flush()
	r, err := s.Head()
	if err != nil {
		t.Fatal(err)
	}
	if got := text2(&r.Head); got != ":status= 200\nserver= Old\n" {
		t.Errorf("the client got %q", got)
	}
	if body, err := all2(s.Body()); body != "abc" || err != nil || text2(s.Body().Framing().Trailers) != "x-sum= 3\n" {
		t.Errorf("body %q (%v) trailers %q", body, err, text2(s.Body().Framing().Trailers))
	}
	want := "POST /p HTTP/1.1\r\nHost: " + at + "\r\nx-a: b\r\ncookie: a=1; b=2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhey\r\n0\r\nx-sum: 3\r\n\r\n"
	if got := <-seen; got != want {
		t.Errorf("the origin saw\n%q want\n%q", got, want)
	}
	if r, body := ask(t, c, get2(at, "/2")); r.Status() != 200 || body != "abc" {
		t.Errorf("the second answer was %d %q", r.Status(), body)
	}
	if got, want := <-seen, "GET /2 HTTP/1.1\r\nHost: "+at+"\r\n\r\n"; got != want {
		t.Errorf("the origin saw\n%q want\n%q", got, want)
	}
}

func TestHTTP1ClientHTTP2Origin(t *testing.T) {
	w := newWorld2(t, proxy.Config{}, upstream.Config{}, nil)
	ln := listen2(t, w, "h2")
	seen := make(chan string, 1)
	serveOrigin2(t, ln, h2.Config{}, func(s *h2.Stream) {
		body := ""
		if s.Body() != nil {
			body, _ = all2(s.Body())
			body += text2(s.Body().Framing().Trailers)
		}
		seen <- text2(&s.Request().Head) + body
		s.WriteHead(head2(":status= 200", "server= new"), false)
		s.Write([]byte("abc"), false)
		s.WriteTrailers(head2("x-sum= 3"))
	})
	at := authorityOf(ln)
	conn := w.secure2(w.tunnel(at), "http/1.1")
	write(t, conn, "GET /first HTTP/1.1\r\nHost: "+at+"\r\n\r\n")
	<-seen
	read(t, conn, "HTTP/1.1 200 OK\r\nserver: new\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 3\r\n\r\n")
	write(t, conn, "POST /p?q HTTP/1.1\r\nHost: "+at+"\r\nX-A: b\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhey\r\n0\r\nX-Sum: 3\r\n\r\n")
	if got, want := <-seen, ":method= POST\n:scheme= https\n:authority= "+at+"\n:path= /p?q\nx-a= b\nheyx-sum= 3\n"; got != want {
		t.Errorf("the origin saw\n%q want\n%q", got, want)
	}
	read(t, conn, "HTTP/1.1 200 OK\r\nserver: new\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 3\r\n\r\n")
	write(t, conn, "GET / HTTP/1.1\r\nHost: "+at+"\r\n\r\n")
	<-seen
	read(t, conn, "HTTP/1.1 200 OK\r\nserver: new\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 3\r\n\r\n")
}

func TestAnAnswerWithoutABodyEndsForHTTP1(t *testing.T) {
	w := newWorld2(t, proxy.Config{}, upstream.Config{}, nil)
	ln := listen2(t, w, "h2")
	serveOrigin2(t, ln, h2.Config{}, func(s *h2.Stream) { s.WriteHead(head2(":status= 404", "server= new"), true) })
	at := authorityOf(ln)
	conn := w.secure2(w.tunnel(at), "http/1.1")
	for _, c := range [][2]string{{"GET", "Content-Length: 0\r\n"}, {"HEAD", ""}, {"GET", "Content-Length: 0\r\n"}} {
		write(t, conn, c[0]+" / HTTP/1.1\r\nHost: "+at+"\r\n\r\n")
		read(t, conn, "HTTP/1.1 404 Not Found\r\nserver: new\r\n"+c[1]+"\r\n")
	}
}

func TestGRPCStreamsBothWays(t *testing.T) {
	w := newWorld2(t, proxy.Config{}, upstream.Config{}, nil)
	ln := listen2(t, w, "h2")
	serveOrigin2(t, ln, h2.Config{}, func(s *h2.Stream) {
		s.WriteHead(head2(":status= 200", "content-type= application/grpc"), false)
		s.Flush()
		for body := s.Body(); ; {
			p, err := body.Next()
			s.Write(bytes.ToUpper(p), false)
			s.Flush()
			if err != nil {
				break
			}
		}
		s.WriteTrailers(head2("grpc-status= 0", "grpc-message= fine"))
	})
	c := client2(t, w.secure2(w.tunnel(authorityOf(ln)), "h2", "http/1.1"))
	s, err := c.Open(head2(":method= POST", ":scheme= https", ":path= /svc/Chat", ":authority= x", "te= trailers"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Done()
	s.Flush()
	if _, err := s.Head(); err != nil {
		t.Fatal(err)
	}
	body := s.Body()
	for _, word := range []string{"one", "two", "three"} { // each answered before the next is sent
		s.Write([]byte(word), false)
		s.Flush()
		if p, err := body.Next(); string(p) != strings.ToUpper(word) || err != nil {
			t.Fatalf("%q came back for %q (%v)", p, word, err)
		}
	}
	s.Write(nil, true)
	s.Flush()
	if rest, err := all2(body); rest != "" || err != nil || text2(body.Framing().Trailers) != "grpc-status= 0\ngrpc-message= fine\n" {
		t.Errorf("the end was %q, %v, trailers %q", rest, err, text2(body.Framing().Trailers))
	}
}

func TestManyClientsShareOneConnectionToTheOrigin(t *testing.T) {
	w := newWorld2(t, proxy.Config{}, upstream.Config{}, nil)
	ln := listen2(t, w, "h2")
	o := serveOrigin2(t, ln, h2.Config{}, func(s *h2.Stream) {
		s.WriteHead(head2(":status= 200"), false)
		s.Write(s.Request().Path(), true)
	})
	var wg sync.WaitGroup
	for i := range 8 {
		c := client2(t, w.secure2(w.tunnel(authorityOf(ln)), "h2", "http/1.1"))
		for j := range 8 {
			wg.Go(func() {
				for k := range 10 {
					path := fmt.Sprintf("/%d.%d.%d", i, j, k)
					s, err := c.Open(get2("x", path), true)
					if err != nil {
						t.Error(err)
						return
					}
					s.Flush()
					_, err = s.Head()
					if err != nil {
						t.Error(err)
					} else if body, err := all2(s.Body()); body != path || err != nil {
						t.Errorf("%q for %s (%v)", body, path, err)
					}
					s.Done()
				}
			})
		}
	}
	wg.Wait()
	if o.connections != 1 {
		t.Errorf("the origin saw %d connections, want 1", o.connections)
	}
}

// TestCurlByHTTP2 has a client that nobody here wrote.
func TestCurlByHTTP2(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal("curl is needed: ", err)
	}
	w := newWorld2(t, proxy.Config{}, upstream.Config{}, nil)
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, w.ca.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(rw, "%s %s %d", r.Method, r.Proto, n)
	})
	leaf, _ := w.ca.Leaf("127.0.0.1")
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	secured := &http.Server{Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{*leaf}}, Protocols: protocols}
	plain := &http.Server{Handler: handler, Protocols: protocols}
	lnTLS, lnPlain := listen(t), listen(t)
	go secured.ServeTLS(lnTLS, "", "")
	go plain.Serve(lnPlain)
	t.Cleanup(func() { secured.Close(); plain.Close() })
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, bytes.Repeat([]byte("x"), 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		args       []string
	}{
		{"https, HTTP/2", "GET HTTP/2.0 0", []string{"--http2", "https://" + authorityOf(lnTLS)}},
		{"https, HTTP/1.1", "GET HTTP/1.1 0", []string{"--http1.1", "https://" + authorityOf(lnTLS)}},
		{"an upload by HTTP/2", "PUT HTTP/2.0 3145728", []string{"--http2", "-T", large, "https://" + authorityOf(lnTLS) + "/up"}},
		{"prior knowledge in a tunnel", "GET HTTP/2.0 0", []string{"--http2-prior-knowledge", "-p", "http://" + authorityOf(lnPlain)}},
		{"a post by prior knowledge", "POST HTTP/2.0 5", []string{"--http2-prior-knowledge", "-p", "-d", "hello", "http://" + authorityOf(lnPlain)}},
	} {
		args := append([]string{"-sS", "--max-time", "20", "--noproxy", "", "-x", "http://" + w.addr, "--cacert", root}, c.args...)
		out, err := exec.Command(curl, args...).CombinedOutput()
		if err != nil || string(out) != c.want {
			t.Errorf("%s: %q (%v), want %q", c.name, out, err, c.want)
		}
	}
}
