package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// A target says where the load goes.
type target struct {
	proxy string   // host:port; "" is straight to the origin
	plain string   // the origin's host:port for plain HTTP
	tls   string   // the origin's host:port for TLS
	hosts []string // TLS addresses, one per host name
	next  *atomic.Int64
}

// hostName is the name used with the i-th of target.hosts.
func hostName(i int) string { return fmt.Sprintf("h%d.bench.test", i) }

const dialTimeout = 10 * time.Second

// connect opens a byte stream to addr of the origin, by CONNECT when there is
// a proxy.
func (t *target) connect(addr string, deadline time.Time) (net.Conn, error) {
	to := t.proxy
	if to == "" {
		to = addr
	}
	conn, err := net.DialTimeout("tcp", to, dialTimeout)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(deadline); err != nil {
		conn.Close()
		return nil, err
	}
	if t.proxy == "" {
		return conn, nil
	}
	if err := handshakeConnect(conn, addr); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// handshakeConnect asks for a tunnel. Nothing can follow the answer's head
// before we speak, so a reader of its own may read it.
func handshakeConnect(conn net.Conn, addr string) error {
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", addr, addr); err != nil {
		return err
	}
	s := &stream1{r: conn, buf: make([]byte, 4<<10)}
	h, err := s.readHead()
	if err != nil {
		return fmt.Errorf("answer to CONNECT: %w", err)
	}
	if code := h.status(); code != 200 {
		return fmt.Errorf("answer to CONNECT: status %d", code)
	}
	return nil
}

// secure makes a TLS client connection. Certificates are verified once per
// proxy, by the probe; see checkLeaf.
func secure(conn net.Conn, name, proto string) (net.Conn, error) {
	t := tls.Client(conn, &tls.Config{ServerName: name, NextProtos: []string{proto}, InsecureSkipVerify: true})
	if err := t.Handshake(); err != nil {
		conn.Close()
		if strings.HasSuffix(err.Error(), "no application protocol") {
			// An alert has no exported error to compare with (RFC 7301 §3.2).
			return nil, unable{fmt.Errorf("TLS to the proxy: it does not offer %s", proto)}
		}
		return nil, fmt.Errorf("TLS to the proxy: %w", err)
	}
	if got := t.ConnectionState().NegotiatedProtocol; got != proto && (got != "" || proto == "h2") {
		conn.Close()
		return nil, unable{fmt.Errorf("TLS to the proxy: it chose %q, not %s", got, proto)}
	}
	return t, nil
}

// A client1 speaks HTTP/1.1.
type client1 struct {
	t       *target
	w       work
	request []byte
	until   time.Time
	conn    net.Conn
	s       *stream1
}

func newClient1(t *target, w work) *client1 {
	c := &client1{t: t, w: w, s: newStream1(nil)}
	switch {
	case !w.secure && t.proxy != "":
		c.request = requestBytes("http://"+t.plain+w.path, t.plain)
	case !w.secure:
		c.request = requestBytes(w.path, t.plain)
	case w.hosts == 0:
		c.request = requestBytes(w.path, t.tls)
	}
	return c
}

// requestBytes is a GET of about the size that a browser sends.
func requestBytes(target, host string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n"+
		"User-Agent: %s\r\nAccept: %s\r\nAccept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n"+
		"Cookie: theme=dark; session=0123456789abcdef\r\nX-Requested-With: XMLHttpRequest\r\n\r\n",
		target, host, benchAgent, benchAccept)
}

const (
	benchAgent  = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
	benchAccept = "text/html,application/json;q=0.9,*/*;q=0.8"
)

func (c *client1) batch() int { return 1 }

func (c *client1) deadline(t time.Time) {
	c.until = t
	if c.conn != nil {
		_ = c.conn.SetDeadline(t) // a closed connection says so on use
	}
}

func (c *client1) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *client1) open() error {
	addr, name := c.t.tls, ""
	switch {
	case !c.w.secure && c.t.proxy != "":
		addr = c.t.proxy
	case !c.w.secure:
		addr = c.t.plain
	case c.w.hosts > 0:
		i := int(c.t.next.Add(1)-1) % len(c.t.hosts)
		addr, name = c.t.hosts[i], hostName(i)
		c.request = requestBytes(c.w.path, name)
	}
	var conn net.Conn
	var err error
	if c.w.secure {
		if conn, err = c.t.connect(addr, c.until); err == nil {
			conn, err = secure(conn, name, "http/1.1")
		}
	} else if conn, err = net.DialTimeout("tcp", addr, dialTimeout); err == nil {
		err = conn.SetDeadline(c.until)
	}
	if err != nil {
		return err
	}
	c.conn, c.s.r, c.s.start, c.s.end = conn, conn, 0, 0
	return nil
}

func (c *client1) exchange(rec *recorder) error {
	start := time.Now()
	if c.conn == nil {
		if err := c.open(); err != nil {
			return err
		}
	}
	keep, err := c.once(rec, start)
	if err != nil || !keep || c.w.fresh {
		c.close()
	}
	return err
}

func (c *client1) once(rec *recorder, start time.Time) (keep bool, err error) {
	if _, err := c.conn.Write(c.request); err != nil {
		return false, err
	}
	h, err := c.s.readResponse(false)
	if err != nil {
		return false, noEOF(err)
	}
	code, keep := h.status(), !h.close
	if c.w.unit == "MB" {
		rec.first = append(rec.first, time.Since(start))
	}
	n, err := c.s.forward(h, nil)
	if err != nil {
		return false, noEOF(err)
	}
	if code != 200 || n != c.w.size {
		return keep, fmt.Errorf("answer with status %d and %d bytes, not 200 and %d", code, n, c.w.size)
	}
	rec.ok(start, n)
	return keep, nil
}

// noEOF makes the end of a connection an error within an exchange.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
