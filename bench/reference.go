package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// A tunnel is the least that a proxy can be: the reference, and beneath it the
// CONNECT tunnel that splices bytes without looking. One client connection has
// one connection to the origin; nothing is kept, changed or looked at, beyond
// what framing HTTP/1 needs.
type tunnel struct {
	auth   *authority // nil: splice
	listen net.Listener
	wg     sync.WaitGroup
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

// startTunnel listens on addr; without intercept, it splices. The certificate
// of its authority is written to the file ca, if that is not "".
func startTunnel(addr string, intercept bool, ca string) (*tunnel, error) {
	t := &tunnel{open: map[net.Conn]struct{}{}}
	if intercept {
		auth, err := newAuthority("bench reference")
		if err != nil {
			return nil, err
		}
		t.auth = auth
		if ca != "" {
			if err := os.WriteFile(ca, auth.pem(), 0o600); err != nil {
				return nil, err
			}
		}
	}
	var err error
	if t.listen, err = net.Listen("tcp", addr); err != nil {
		return nil, err
	}
	t.wg.Add(1)
	go t.accept()
	return t, nil
}

// close ends all connections and waits for their goroutines.
func (t *tunnel) close() {
	t.listen.Close()
	t.mu.Lock()
	t.closed = true
	for c := range t.open {
		c.Close()
	}
	t.mu.Unlock()
	t.wg.Wait()
}

// track remembers a connection for close; it reports false, and closes it,
// when the tunnel is closed already.
func (t *tunnel) track(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		c.Close()
		return false
	}
	t.open[c] = struct{}{}
	return true
}

func (t *tunnel) drop(c net.Conn) {
	c.Close()
	t.mu.Lock()
	delete(t.open, c)
	t.mu.Unlock()
}

func (t *tunnel) accept() {
	defer t.wg.Done()
	for {
		c, err := t.listen.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || !t.track(c) {
			continue
		}
		t.wg.Add(1)
		go func() {
			defer t.wg.Done()
			defer t.drop(c)
			t.serve(c)
		}()
	}
}

// serve answers CONNECT; anything else is plain HTTP in absolute form.
func (t *tunnel) serve(client net.Conn) {
	s := newStream1(client)
	h, err := s.readRequest()
	if err != nil {
		return
	}
	if string(h.method()) != "CONNECT" {
		t.servePlain(client, s, h)
		return
	}
	authority := string(h.target())
	s.start += s.headLen // what follows belongs to the tunnel
	if t.auth == nil {
		t.splice(client, s, authority)
		return
	}
	if _, err := client.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")); err != nil {
		return
	}
	t.intercept(&prefixConn{client, s.buf[s.start:s.end]}, authority)
}

// splice connects two sockets; the kernel moves the bytes where it can.
func (t *tunnel) splice(client net.Conn, s *stream1, authority string) {
	up, err := net.Dial("tcp", authority)
	if err != nil {
		t.refuse(client)
		return
	}
	if !t.track(up) {
		return
	}
	defer t.drop(up)
	if _, err := client.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")); err != nil {
		return
	}
	if _, err := up.Write(s.buf[s.start:s.end]); err != nil {
		return
	}
	t.wg.Add(1)
	go func() {
		defer t.wg.Done()
		_, _ = io.Copy(up, client) // either end's end ends both
		up.Close()
		client.Close()
	}()
	_, _ = io.Copy(client, up)
}

func (t *tunnel) refuse(client net.Conn) {
	_, _ = io.WriteString(client, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
}

// intercept is the reference itself.
func (t *tunnel) intercept(client net.Conn, authority string) {
	host, _, err := net.SplitHostPort(authority)
	if err != nil {
		return
	}
	name := host
	conf := &tls.Config{
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName != "" {
				name = hello.ServerName
			}
			return t.auth.leaf(name)
		},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	in := tls.Server(client, conf)
	if in.HandshakeContext(ctx) != nil {
		return
	}
	raw, err := net.Dial("tcp", authority)
	if err != nil || !t.track(raw) {
		return
	}
	defer t.drop(raw)
	proto := in.ConnectionState().NegotiatedProtocol
	if proto == "" {
		proto = "http/1.1"
	}
	out := tls.Client(raw, &tls.Config{
		ServerName:         name,
		NextProtos:         []string{proto},
		InsecureSkipVerify: true, // the origin's certificate is for any name
	})
	if out.HandshakeContext(ctx) != nil {
		return
	}
	if proto == "h2" {
		t.relayH2(in, out)
		return
	}
	relay1(newStream1(in), newStream1(out), in, out)
}

// relay1 takes one request and one response after the other across.
func relay1(fromClient, fromOrigin *stream1, client, origin io.Writer) {
	for {
		req, err := fromClient.readRequest()
		if err != nil {
			return
		}
		if !exchange1(req, fromClient, fromOrigin, client, origin) {
			return
		}
	}
}

// exchange1 takes one exchange across, and says whether another may follow.
func exchange1(req head1, fromClient, fromOrigin *stream1, client, origin io.Writer) bool {
	toHEAD := string(req.method()) == "HEAD"
	last := req.close
	if _, err := fromClient.forward(req, origin); err != nil {
		return false
	}
	for {
		resp, err := fromOrigin.readResponse(toHEAD)
		if err != nil {
			return false
		}
		interim, closes := resp.status() < 200, resp.close
		if _, err := fromOrigin.forward(resp, client); err != nil {
			return false
		}
		if !interim {
			return !last && !closes
		}
	}
}

// servePlain forwards requests in absolute form; the authority of the first
// one is that of the connection.
func (t *tunnel) servePlain(client net.Conn, s *stream1, h head1) {
	var up net.Conn
	var from *stream1
	for {
		authority, ok := absoluteAuthority(h.target())
		if !ok {
			t.refuse(client)
			return
		}
		if up == nil {
			c, err := net.Dial("tcp", authority)
			if err != nil {
				t.refuse(client)
				return
			}
			if !t.track(c) {
				return
			}
			defer t.drop(c)
			up, from = c, newStream1(c)
		}
		if !exchange1(h, s, from, client, &originForm{w: up}) {
			return
		}
		var err error
		if h, err = s.readRequest(); err != nil {
			return
		}
	}
}

// absoluteAuthority returns host:port of an http:// target.
func absoluteAuthority(target []byte) (string, bool) {
	rest, ok := bytes.CutPrefix(target, []byte("http://"))
	if !ok {
		return "", false
	}
	if i := bytes.IndexByte(rest, '/'); i >= 0 {
		rest = rest[:i]
	}
	authority := string(rest)
	if !strings.Contains(authority, ":") {
		authority += ":80"
	}
	return authority, true
}

// originForm writes a request on, with its target turned from absolute form
// to origin form (RFC 9112 §3.2): the bytes between the method and the path
// are taken out of the first write, which holds the whole head.
type originForm struct {
	w    io.Writer
	past bool
}

func (o *originForm) Write(p []byte) (int, error) {
	if o.past {
		return o.w.Write(p)
	}
	o.past = true
	method := bytes.IndexByte(p, ' ') + 1
	skip := len("http://")
	slash := bytes.IndexByte(p[method+skip:], '/')
	if slash < 0 {
		return o.w.Write(p)
	}
	// The method moves up against the path: no copy of the message.
	from := method + skip + slash - method
	copy(p[from:], p[:method])
	if _, err := o.w.Write(p[from:]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// A prefixConn first gives what was read too far.
type prefixConn struct {
	net.Conn
	prefix []byte
}

func (c *prefixConn) Read(p []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(p, c.prefix)
		c.prefix = c.prefix[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}
