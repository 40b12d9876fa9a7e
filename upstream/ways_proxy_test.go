package upstream_test

import (
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/ca"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
)

// A middle is a proxy between the pool and its origins: HTTP or SOCKS 5, over
// real sockets.
type middle struct {
	t  testing.TB
	ln net.Listener
	at upstream.Proxy

	login  string                   // user:password that is wanted; "" none
	refuse string                   // an HTTP proxy's answer in place of a tunnel
	code   byte                     // a SOCKS proxy's
	greet  string                   // sent with the answer to CONNECT, as by an origin that speaks first
	find   func(addr string) string // where an address is; nil: as it says

	mu    sync.Mutex
	asked []string // what was asked for, in order
	conns []net.Conn
	wg    sync.WaitGroup
}

// newMiddle starts a proxy. Its fields are set by prepare before it serves.
func newMiddle(t testing.TB, scheme string, authority *ca.Authority, prepare func(*middle)) *middle {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &middle{t: t, ln: ln, at: upstream.Proxy{Scheme: scheme, Host: "127.0.0.1", Port: uint16(ln.Addr().(*net.TCPAddr).Port)}}
	if prepare != nil {
		prepare(m)
	}
	if scheme == upstream.SchemeHTTPS {
		leaf, err := authority.Leaf("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		m.ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{*leaf}})
	}
	m.wg.Go(func() {
		for {
			conn, err := m.ln.Accept()
			if err != nil {
				return
			}
			m.keep(conn)
			m.wg.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(patience))
				if strings.HasPrefix(scheme, "http") {
					m.serveHTTP(conn)
				} else {
					m.serveSOCKS(conn)
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		m.mu.Lock()
		for _, conn := range m.conns {
			conn.Close()
		}
		m.mu.Unlock()
		m.wg.Wait()
	})
	return m
}

func (m *middle) keep(conn net.Conn) {
	m.mu.Lock()
	m.conns = append(m.conns, conn)
	m.mu.Unlock()
}

// seen is what was asked for.
func (m *middle) seen() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.asked)
}

func (m *middle) note(what string) {
	m.mu.Lock()
	m.asked = append(m.asked, what)
	m.mu.Unlock()
}

// with is the proxy as one user sees it.
func (m *middle) with(user, password string) upstream.Proxy {
	p := m.at
	p.User, p.Password = user, password
	return p
}

func (m *middle) dial(addr string) (net.Conn, error) {
	if m.find != nil {
		addr = m.find(addr)
	}
	conn, err := net.Dial("tcp", addr)
	if err == nil {
		m.keep(conn)
	}
	return conn, err
}

// relay copies both ways until one side ends.
func (m *middle) relay(client io.ReadWriteCloser, origin net.Conn) {
	m.wg.Go(func() {
		io.Copy(origin, client)
		origin.Close()
	})
	io.Copy(client, origin)
	client.Close()
}

func (m *middle) serveHTTP(conn net.Conn) {
	r := wire.NewReader(conn, wire.Limits{})
	for {
		var req wire.Request
		if r.ReadRequest(&req) != nil {
			return
		}
		method, target := string(req.Method()), string(req.Target())
		m.note(method + " " + target)
		auth, _ := req.Get("Proxy-Authorization")
		switch {
		case m.login != "" && string(auth) != "Basic "+base64.StdEncoding.EncodeToString([]byte(m.login)):
			io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n")
			return
		case m.refuse != "":
			io.WriteString(conn, m.refuse)
			return
		}
		if method == "CONNECT" {
			origin, err := m.dial(target)
			if err != nil {
				io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
				return
			}
			io.WriteString(conn, "HTTP/1.1 200 Connection established\r\nContent-Length: 99\r\n\r\n"+m.greet)
			m.relay(struct {
				io.Reader
				io.WriteCloser
			}{r, conn}, origin)
			return
		}
		if !drain(r, &req) || !m.forward(conn, &req) {
			return
		}
	}
}

// forward sends a request in absolute-form on, in origin-form.
func (m *middle) forward(conn net.Conn, req *wire.Request) bool {
	authority, path, _ := strings.Cut(strings.TrimPrefix(string(req.Target()), "http://"), "/")
	origin, err := m.dial(authority)
	if err != nil {
		return false
	}
	defer origin.Close()
	origin.SetDeadline(time.Now().Add(patience))
	if req.SetTarget([]byte("/"+path)) != nil {
		return false
	}
	req.Del("Proxy-Authorization")
	origin.Write(req.Bytes())
	r := wire.NewReader(origin, wire.Limits{})
	var answer wire.Response
	if r.ReadResponse(&answer) != nil {
		return false
	}
	framing, err := wire.ResponseFraming(&answer, req.Method())
	if err != nil {
		return false
	}
	conn.Write(answer.Bytes())
	for body := r.Body(framing); ; {
		piece, err := body.Next()
		conn.Write(piece)
		if err != nil {
			return err == io.EOF
		}
	}
}

func (m *middle) serveSOCKS(conn net.Conn) {
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(conn, b); err != nil {
			return make([]byte, n)
		}
		return b
	}
	methods := read(int(read(2)[1]))
	if m.login == "" {
		conn.Write([]byte{5, 0})
	} else if !slices.Contains(methods, 2) {
		conn.Write([]byte{5, 0xff})
		return
	} else {
		conn.Write([]byte{5, 2})
		user := read(int(read(2)[1]))
		password := read(int(read(1)[0]))
		if string(user)+":"+string(password) != m.login {
			conn.Write([]byte{1, 1})
			return
		}
		conn.Write([]byte{1, 0})
	}
	var host string
	switch kind := read(4)[3]; kind {
	case 1:
		addr, _ := netip.AddrFromSlice(read(4))
		host = addr.String()
	case 4:
		addr, _ := netip.AddrFromSlice(read(16))
		host = addr.String()
	case 3:
		host = string(read(int(read(1)[0])))
	}
	port := read(2)
	addr := net.JoinHostPort(host, strconv.Itoa(int(port[0])<<8|int(port[1])))
	m.note(addr)
	if m.code != 0 {
		conn.Write([]byte{5, m.code, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	origin, err := m.dial(addr)
	if err != nil {
		conn.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	conn.Write([]byte{5, 0, 0, 3, 4, 'h', 'e', 'r', 'e', 0, 80})
	m.relay(conn, origin)
}

// newOriginFor is newOrigin with the certificate of another host.
func newOriginFor(t testing.TB, authority *ca.Authority, host string) *origin {
	t.Helper()
	o := newOrigin(t, nil)
	leaf, err := authority.Leaf(host)
	if err != nil {
		t.Fatal(err)
	}
	o.at.TLS = true
	o.Listener = tls.NewListener(o.Listener, &tls.Config{Certificates: []tls.Certificate{*leaf}})
	return o
}
