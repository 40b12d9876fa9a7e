package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What the origin serves. Sizes are those of the payload.
const (
	pathSmall   = "/1k"      // 1 KB of JSON
	pathPage    = "/30k"     // 30 KB of HTML
	pathBig     = "/mb/"     // followed by a number of megabytes (10^6 bytes)
	pathDenied  = "/401"     // always 401
	pathLogin   = "/login"   // hands out benchToken
	pathPrivate = "/private" // 200 with benchToken, else 401

	maxMegabytes = 10_000
)

// benchToken is what a rule under test must put into the Authorization field.
const benchToken = "bench-token-5f3a9c1e7d2b4860"

// An origin answers on loopback, in plain text and over TLS (h2 and http/1.1 by
// ALPN), with one ECDSA certificate for whatever name is asked for.
type origin struct {
	plain, secure net.Listener
	extra         []net.Listener // TLS on further loopback addresses, one per host name
	tls           *tls.Config
	answers       answers
	// respond answers instead, over HTTP/1.1, what has the given head; nil:
	// nobody does.
	respond atomic.Pointer[func(head []byte) []byte]

	requests   atomic.Int64 // answered
	authorized atomic.Int64 // of these, carrying benchToken
	conns      atomic.Int64 // accepted
	wg         sync.WaitGroup
	mu         sync.Mutex
	open       map[net.Conn]struct{}
	closed     bool
}

// startOrigin listens on the host of addr (its port is for the TLS listener; 0
// takes a free one). The caller closes it.
func startOrigin(addr string) (*origin, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	auth, err := newAuthority("bench origin")
	if err != nil {
		return nil, err
	}
	leaf, err := auth.leaf("origin.bench.test")
	if err != nil {
		return nil, err
	}
	o := &origin{
		tls: &tls.Config{
			Certificates: []tls.Certificate{*leaf},
			NextProtos:   []string{"h2", "http/1.1"},
		},
		answers: newAnswers(),
		open:    map[net.Conn]struct{}{},
	}
	if o.secure, err = net.Listen("tcp", addr); err != nil {
		return nil, err
	}
	if o.plain, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
		o.secure.Close()
		return nil, err
	}
	o.wg.Add(2)
	go o.accept(o.secure, true)
	go o.accept(o.plain, false)
	return o, nil
}

// hostAddrs makes the origin reachable at n more loopback addresses, so that
// n host names need neither a resolver nor an entry in /etc/hosts, and returns
// them as host:port.
func (o *origin) hostAddrs(n int) ([]string, error) {
	_, port, _ := net.SplitHostPort(o.secure.Addr().String())
	for i := len(o.extra); i < n; i++ {
		addr := fmt.Sprintf("127.0.%d.%d:%s", 1+i/250, 1+i%250, port)
		l, err := net.Listen("tcp4", addr)
		if err != nil {
			return nil, fmt.Errorf("a loopback address per host name: %w", err)
		}
		o.extra = append(o.extra, l)
		o.wg.Add(1)
		go o.accept(l, true)
	}
	addrs := make([]string, n)
	for i := range addrs {
		addrs[i] = o.extra[i].Addr().String()
	}
	return addrs, nil
}

// close ends all connections and waits for their goroutines.
func (o *origin) close() {
	o.mu.Lock()
	o.closed = true
	for c := range o.open {
		c.Close()
	}
	o.mu.Unlock()
	o.secure.Close()
	o.plain.Close()
	for _, l := range o.extra {
		l.Close()
	}
	o.wg.Wait()
}

func (o *origin) accept(l net.Listener, secure bool) {
	defer o.wg.Done()
	for {
		c, err := l.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				time.Sleep(10 * time.Millisecond) // out of descriptors: some may be closed soon
				continue
			}
			return
		}
		o.mu.Lock()
		if o.closed {
			o.mu.Unlock()
			c.Close()
			return
		}
		o.open[c] = struct{}{}
		o.wg.Add(1)
		o.mu.Unlock()
		o.conns.Add(1)
		go o.serve(c, secure)
	}
}

func (o *origin) serve(raw net.Conn, secure bool) {
	defer o.wg.Done()
	defer func() {
		raw.Close()
		o.mu.Lock()
		delete(o.open, raw)
		o.mu.Unlock()
	}()
	conn := raw
	if secure {
		t := tls.Server(raw, o.tls)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		err := t.HandshakeContext(ctx)
		cancel()
		if err != nil {
			return
		}
		conn = t
		if t.ConnectionState().NegotiatedProtocol == "h2" {
			serveOriginH2(o, t)
			return
		}
	}
	o.serveHTTP1(conn)
}

func (o *origin) setMortal(m *mortal) { o.setResponder(m.respond) }

func (o *origin) setResponder(f func(head []byte) []byte) { o.respond.Store(&f) }

func (o *origin) serveHTTP1(conn net.Conn) {
	s := newStream1(conn)
	for {
		h, err := s.readRequest()
		if err != nil {
			return
		}
		target := string(h.target())
		authorized := bytes.Contains(h.raw, []byte(benchToken))
		var reply []byte
		if respond := o.respond.Load(); respond != nil {
			reply = (*respond)(h.raw)
		}
		if _, err := s.forward(h, nil); err != nil {
			return
		}
		if reply != nil {
			if _, err := conn.Write(reply); err != nil {
				return
			}
			continue
		}
		a := o.answer(originPath(target), authorized)
		if _, err := conn.Write(a.http1); err != nil {
			return
		}
		for left := a.streamed; left > 0; left -= int64(len(o.answers.block)) {
			if _, err := conn.Write(o.answers.block[:min(left, int64(len(o.answers.block)))]); err != nil {
				return
			}
		}
		if h.close {
			return
		}
	}
}

// answer counts a request and chooses what it gets.
func (o *origin) answer(path string, authorized bool) *answer {
	o.requests.Add(1)
	if authorized {
		o.authorized.Add(1)
	}
	return o.answers.lookup(path, authorized)
}

// originPath takes the scheme and the authority off an absolute-form target,
// which some proxies leave there.
func originPath(target string) string {
	if _, rest, ok := strings.Cut(target, "://"); ok {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			return rest[i:]
		}
		return "/"
	}
	return target
}

// An answer is a response made ready for both protocols.
type answer struct {
	status   int
	kind     string
	body     []byte
	streamed int64  // bytes of answers.block that follow, beyond body
	http1    []byte // head and body
}

func newAnswer(status int, reason, kind string, body []byte, streamed int64) *answer {
	a := &answer{status: status, kind: kind, body: body, streamed: streamed}
	a.http1 = fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nServer: bench\r\nDate: Mon, 06 Jan 2025 10:00:00 GMT\r\n"+
		"Content-Type: %s\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n",
		status, reason, kind, int64(len(body))+streamed)
	a.http1 = append(a.http1, body...)
	return a
}

// answers is everything the origin can say.
type answers struct {
	fixed                     map[string]*answer
	missing, allowed, refused *answer
	block                     []byte // what a download is made of
}

func newAnswers() answers {
	const json, html = "application/json", "text/html; charset=utf-8"
	small := fill(`{"id":1,"name":"bench","tags":["a","b"],"pad":"`, `"}`, 1000)
	page := fill("<!doctype html><html><head><title>bench</title></head><body>", "</body></html>", 30_000)
	refused := newAnswer(401, "Unauthorized", json, []byte(`{"error":"unauthorized"}`), 0)
	return answers{
		fixed: map[string]*answer{
			pathSmall:  newAnswer(200, "OK", json, small, 0),
			pathPage:   newAnswer(200, "OK", html, page, 0),
			pathDenied: refused,
			pathLogin:  newAnswer(200, "OK", json, []byte(`{"access_token":"`+benchToken+`"}`), 0),
		},
		missing: newAnswer(404, "Not Found", json, []byte(`{"error":"not found"}`), 0),
		allowed: newAnswer(200, "OK", json, small, 0),
		refused: refused,
		block:   bytes.Repeat([]byte("0123456789abcdef"), 16<<10),
	}
}

func (as *answers) lookup(path string, authorized bool) *answer {
	path, _, _ = strings.Cut(path, "?")
	if a, ok := as.fixed[path]; ok {
		return a
	}
	if path == pathPrivate {
		if authorized {
			return as.allowed
		}
		return as.refused
	}
	if n, err := strconv.Atoi(strings.TrimPrefix(path, pathBig)); err == nil && strings.HasPrefix(path, pathBig) &&
		0 <= n && n <= maxMegabytes {
		return newAnswer(200, "OK", "application/octet-stream", nil, int64(n)*1_000_000)
	}
	return as.missing
}

// fill makes a text of exactly size bytes that is neither all one letter nor
// random.
func fill(head, tail string, size int) []byte {
	b := make([]byte, 0, size)
	b = append(b, head...)
	for i := 0; len(b) < size-len(tail); i++ {
		b = append(b, "session holdfast origin "[i%24])
	}
	return append(b, tail...)
}
