package upstream_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
)

func by(proxy upstream.Proxy) upstream.Ways {
	return upstream.Ways{Proxies: []upstream.ProxyFor{{Proxy: proxy}}}
}

func patterns(t testing.TB, all ...string) flow.HostPatterns {
	t.Helper()
	var out flow.HostPatterns
	for _, s := range all {
		p, err := flow.ParseHostPattern(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// withHead makes a flow of a whole head.
func withHead(t testing.TB, at flow.Origin, head string) *flow.Flow {
	t.Helper()
	r, err := wire.ParseRequest([]byte(head))
	if err != nil {
		t.Fatal(err)
	}
	return &flow.Flow{Origin: at, Received: r, Request: r, Start: time.Now()}
}

func ok(conn, request int) string { return okAnswer }

func TestTunnelsToTLSOrigins(t *testing.T) {
	authority := newAuthority(t)
	for _, scheme := range []string{upstream.SchemeHTTP, upstream.SchemeHTTPS, upstream.SchemeSOCKS5, upstream.SchemeSOCKS5H} {
		for _, login := range []string{"", "user:p@ss:word"} {
			t.Run(scheme+" "+login, func(t *testing.T) {
				o := newOrigin(t, authority)
				requests := o.serve(ok)
				m := newMiddle(t, scheme, authority, func(m *middle) { m.login = login })
				proxy := m.at
				if login != "" {
					proxy = m.with("user", "p@ss:word")
				}
				p := newPool(t, upstream.Config{Roots: []*x509.Certificate{authority.Root()}, Ways: by(proxy)})
				for range 3 {
					send(t, p, request(t, o.at, "GET", ""))
				}
				want := o.Addr().String()
				if strings.HasPrefix(scheme, "http") {
					want = "CONNECT " + want
				}
				if got := m.seen(); !slices.Equal(got, []string{want}) {
					t.Errorf("the proxy was asked for %q, want %q once", got, want)
				}
				if requests() != 3 {
					t.Errorf("%d requests reached the origin", requests())
				}
			})
		}
	}
}

func TestNamesAreResolvedByTheProxy(t *testing.T) {
	for _, c := range []struct {
		scheme, host, want string
	}{
		{upstream.SchemeSOCKS5H, "shop.invalid", "shop.invalid"},
		{upstream.SchemeSOCKS5, "localhost", "127.0.0.1|::1"},
		{upstream.SchemeSOCKS5, "::1", "::1"},
		{upstream.SchemeHTTP, "shop.invalid", "CONNECT shop.invalid"},
	} {
		t.Run(c.scheme+" "+c.host, func(t *testing.T) {
			authority := newAuthority(t)
			o := newOriginFor(t, authority, c.host)
			o.serve(ok)
			m := newMiddle(t, c.scheme, authority, func(m *middle) { m.find = func(string) string { return o.Addr().String() } })
			p := newPool(t, upstream.Config{Roots: []*x509.Certificate{authority.Root()}, Ways: by(m.at)})
			send(t, p, request(t, flow.Origin{TLS: true, Host: c.host, Port: o.at.Port}, "GET", ""))
			asked := m.seen()
			if len(asked) != 1 {
				t.Fatalf("the proxy was asked for %q", asked)
			}
			host := strings.Trim(asked[0][:strings.LastIndexByte(asked[0], ':')], "[]")
			if !slices.Contains(strings.Split(c.want, "|"), host) {
				t.Errorf("the proxy was asked for %q, want %s", asked, c.want)
			}
		})
	}
}

func TestPlainRequestsByProxy(t *testing.T) {
	o := newOrigin(t, nil)
	o.serve(ok)
	addr := o.Addr().String()
	for _, c := range []struct{ about, head, want string }{
		{"absolute-form", "GET /a?b=%zz HTTP/1.1\r\nhOST:" + addr + "\r\n\r\n", "GET http://" + addr + "/a?b=%zz"},
		{"another Host, which a proxy would mend", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "CONNECT " + addr},
		{"no Host", "GET / HTTP/1.1\r\n\r\n", "CONNECT " + addr},
		{"an upgrade", "GET / HTTP/1.1\r\nHost: " + addr + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "CONNECT " + addr},
		{"an odd target", "OPTIONS * HTTP/1.1\r\nHost: " + addr + "\r\n\r\n", "CONNECT " + addr},
	} {
		t.Run(c.about, func(t *testing.T) {
			m := newMiddle(t, upstream.SchemeHTTP, nil, func(m *middle) { m.login = "u:p" })
			p := newPool(t, upstream.Config{Ways: by(m.with("u", "p"))})
			for range 2 {
				f := withHead(t, o.at, c.head)
				send(t, p, f)
				if got := string(f.Request.Bytes()); got != c.head {
					t.Errorf("the flow's request became %q", got)
				}
				noted := len(f.Trace.Events) == 1 && f.Trace.Events[0].Action == flow.ActionNote
				if noted != strings.HasPrefix(c.want, "GET") {
					t.Errorf("the trace is %+v", f.Trace.Events)
				}
			}
			if got := m.seen(); got[0] != c.want {
				t.Errorf("the proxy was asked for %q, want %q", got, c.want)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			if fromUs := slices.DeleteFunc(slices.Clone(m.conns), func(c net.Conn) bool { return c.RemoteAddr().String() == addr }); len(fromUs) != 1 {
				t.Errorf("%d connections to the proxy, want 1", len(fromUs))
			}
		})
	}
}

// An origin that speaks before it is spoken to is heard.
func TestTunnelKeepsEarlyBytes(t *testing.T) {
	o := newOrigin(t, nil)
	m := newMiddle(t, upstream.SchemeHTTP, nil, func(m *middle) { m.greet = okAnswer })
	p := newPool(t, upstream.Config{Ways: by(m.at)})
	send(t, p, request(t, o.at, "GET", "")) // the request's Host is x: a tunnel
}

func TestWhichWay(t *testing.T) {
	o := newOrigin(t, nil)
	o.serve(ok)
	first := newMiddle(t, upstream.SchemeSOCKS5H, nil, func(m *middle) { m.find = func(string) string { return o.Addr().String() } })
	second := newMiddle(t, upstream.SchemeSOCKS5H, nil, func(m *middle) { m.find = func(string) string { return o.Addr().String() } })
	p := newPool(t, upstream.Config{
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.Contains(addr, "invalid") {
				addr = o.Addr().String()
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
		Ways: upstream.Ways{
			Direct: patterns(t, "*.local.invalid", "b.corp.invalid"),
			Proxies: []upstream.ProxyFor{
				{Hosts: patterns(t, "*.corp.invalid"), Proxy: first.at},
				{Proxy: second.at},
			},
		}})
	for _, c := range []struct {
		host          string
		first, second int
	}{
		{"a.corp.invalid", 1, 0}, {"b.corp.invalid", 1, 0}, {"c.corp.invalid", 2, 0},
		{"other.invalid", 2, 1}, {"x.local.invalid", 2, 1},
	} {
		send(t, p, request(t, flow.Origin{Host: c.host, Port: 80}, "GET", ""))
		if a, b := len(first.seen()), len(second.seen()); a != c.first || b != c.second {
			t.Errorf("after %s the proxies were asked %d and %d times, want %d and %d", c.host, a, b, c.first, c.second)
		}
	}
}

func TestProxyFailures(t *testing.T) {
	authority := newAuthority(t)
	// One that was free would go to the next listener.
	closed := upstream.Proxy{Scheme: upstream.SchemeHTTP, Host: "127.0.0.1", Port: closedPort}
	start := func(scheme string, prepare func(*middle)) upstream.Proxy {
		return newMiddle(t, scheme, authority, prepare).at
	}
	guarded := func(m *middle) { m.login = "right:one" }
	wrong := func(p upstream.Proxy) upstream.Proxy { p.User, p.Password = "wrong", "hunter2"; return p }
	renamed := func(p upstream.Proxy, scheme string) upstream.Proxy { p.Scheme = scheme; return p }
	unreachable := func(m *middle) { m.find = func(string) string { return closed.Address() } }
	for _, c := range []struct {
		about  string
		proxy  upstream.Proxy
		reason string
		detail string
	}{
		{"nobody there", closed, flow.ReasonProxyDown, "refuses connections"},
		{"a name that does not resolve", upstream.Proxy{Scheme: "http", Host: "proxy.invalid", Port: 1}, flow.ReasonProxyDown, "does not resolve"},
		{"407 without credentials", start("http", guarded), flow.ReasonProxyLogin, "wants credentials"},
		{"407 with wrong ones", wrong(start("http", guarded)), flow.ReasonProxyLogin, "does not take the credentials"},
		{"407 by TLS", wrong(start("https", guarded)), flow.ReasonProxyLogin, "does not take"},
		{"502", start("http", unreachable), flow.ReasonProxyRefused, "cannot reach"},
		{"403", start("http", func(m *middle) { m.refuse = "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n" }), flow.ReasonProxyRefused, "403 No"},
		{"no HTTP", start("http", func(m *middle) { m.refuse = "hello\r\n\r\n" }), flow.ReasonProxyDown, "no proxy of that kind"},
		{"SOCKS without credentials", start("socks5h", guarded), flow.ReasonProxyLogin, "wants credentials"},
		{"SOCKS with wrong ones", wrong(start("socks5h", guarded)), flow.ReasonProxyLogin, "does not take the credentials"},
		{"SOCKS forbids", start("socks5", func(m *middle) { m.code = 2 }), flow.ReasonProxyRefused, "rules forbid"},
		{"SOCKS is refused", start("socks5h", unreachable), flow.ReasonProxyRefused, "connection was refused"},
		{"HTTP to SOCKS", renamed(start("socks5", nil), "http"), flow.ReasonProxyDown, "127.0.0.1"},
		{"SOCKS to HTTP", renamed(start("http", nil), "socks5"), flow.ReasonProxyDown, "127.0.0.1"},
		{"TLS to HTTP", renamed(start("http", nil), "https"), flow.ReasonProxyDown, "TLS handshake with the proxy"},
	} {
		t.Run(c.about, func(t *testing.T) {
			p := newPool(t, upstream.Config{Roots: []*x509.Certificate{authority.Root()}, Ways: by(c.proxy),
				Limits: upstream.Limits{Dial: patience / 20}})
			for _, secured := range []bool{true, false} {
				f := request(t, flow.Origin{TLS: secured, Host: "127.0.0.1", Port: 9}, "GET", "")
				e := wantReason(t, p.Send(t.Context(), f), c.reason)
				if !strings.Contains(e.Detail, c.detail) {
					t.Errorf("the detail is %q", e.Detail)
				}
				if text := e.Error() + e.Next; strings.Contains(text, "hunter2") {
					t.Errorf("the password stands in %q", text)
				}
			}
		})
	}
	t.Run("an https proxy that is not trusted", func(t *testing.T) {
		p := newPool(t, upstream.Config{Ways: by(start("https", nil))})
		e := wantReason(t, p.Send(t.Context(), request(t, flow.Origin{TLS: true, Host: "x", Port: 9}, "GET", "")), flow.ReasonProxyDown)
		if !strings.Contains(e.Detail, "does not verify") {
			t.Errorf("the detail is %q", e.Detail)
		}
	})
	t.Run("407 to a request in absolute-form", func(t *testing.T) {
		m := newMiddle(t, "http", nil, guarded)
		p := newPool(t, upstream.Config{Ways: by(m.at)})
		f := withHead(t, flow.Origin{Host: "shop.example", Port: 80}, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
		wantReason(t, p.Send(t.Context(), f), flow.ReasonProxyLogin)
		if f.Response != nil {
			t.Error("the proxy's answer was given to the client")
		}
	})
}

// A proxy that does not answer is given up at the limit, at the context's end,
// and when the pool is closed.
func TestSilentProxy(t *testing.T) {
	for _, scheme := range []string{upstream.SchemeHTTP, upstream.SchemeHTTPS, upstream.SchemeSOCKS5} {
		start := func(t *testing.T) (upstream.Proxy, <-chan net.Conn) {
			o := newOrigin(t, nil)
			accepted := make(chan net.Conn, 1)
			go func() {
				conn, err := o.Accept()
				if err == nil {
					accepted <- conn
				}
				close(accepted)
			}()
			t.Cleanup(func() {
				for conn := range accepted {
					conn.Close()
				}
			})
			return upstream.Proxy{Scheme: scheme, Host: "127.0.0.1", Port: o.at.Port}, accepted
		}
		to := flow.Origin{TLS: true, Host: "127.0.0.1", Port: 9}
		t.Run(scheme+" limit", func(t *testing.T) {
			proxy, _ := start(t)
			p := newPool(t, upstream.Config{Ways: by(proxy), Limits: upstream.Limits{Dial: 20 * time.Millisecond, Handshake: 20 * time.Millisecond}})
			wantReason(t, p.Send(t.Context(), request(t, to, "GET", "")), flow.ReasonProxyDown)
		})
		t.Run(scheme+" context", func(t *testing.T) {
			proxy, accepted := start(t)
			p := newPool(t, upstream.Config{Ways: by(proxy)})
			why := errors.New("enough")
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				conn := <-accepted
				cancel(why)
				conn.Read(make([]byte, 1))
				io.Copy(io.Discard, conn)
				conn.Close()
			}()
			if err := p.Send(ctx, request(t, to, "GET", "")); !errors.Is(err, why) {
				t.Errorf("the error is %v", err)
			}
		})
		t.Run(scheme+" close", func(t *testing.T) {
			proxy, accepted := start(t)
			p := newPool(t, upstream.Config{Ways: by(proxy)})
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				conn := <-accepted
				conn.Read(make([]byte, 1)) // so it is the pool's
				p.Close()
				conn.Close()
			}()
			wantReason(t, p.Send(t.Context(), request(t, to, "GET", "")), flow.ReasonClosing)
			<-closed
		})
	}
}

func TestNamesGoElsewhere(t *testing.T) {
	authority := newAuthority(t)
	o := newOriginFor(t, authority, "shop.invalid")
	o.serve(ok)
	addr := o.Addr().String()
	m := newMiddle(t, upstream.SchemeSOCKS5, nil, nil)
	for _, c := range []struct {
		about, address string
		proxies        []upstream.ProxyFor
	}{
		{"to an address", "127.0.0.1", nil},
		{"to an address and port", addr, nil},
		{"to another name", "localhost", nil},
		{"behind a proxy", addr, by(m.at).Proxies},
	} {
		t.Run(c.about, func(t *testing.T) {
			p := newPool(t, upstream.Config{Roots: []*x509.Certificate{authority.Root()},
				Ways: upstream.Ways{Proxies: c.proxies, Names: []upstream.Name{{Hosts: patterns(t, "shop.invalid"), Address: c.address}}}})
			port := o.at.Port
			if c.address == addr {
				port = 443
			}
			send(t, p, request(t, flow.Origin{TLS: true, Host: "shop.invalid", Port: port}, "GET", ""))
		})
	}
	t.Run("plain ones by an HTTP proxy, in a tunnel", func(t *testing.T) {
		plain := newOrigin(t, nil)
		plain.serve(ok)
		m := newMiddle(t, upstream.SchemeHTTP, nil, nil)
		p := newPool(t, upstream.Config{Ways: upstream.Ways{Proxies: by(m.at).Proxies,
			Names: []upstream.Name{{Hosts: patterns(t, "shop.invalid"), Address: plain.Addr().String()}}}})
		send(t, p, withHead(t, flow.Origin{Host: "shop.invalid", Port: 80}, "GET / HTTP/1.1\r\nHost: shop.invalid\r\n\r\n"))
		if got := m.seen(); got[0] != "CONNECT "+plain.Addr().String() {
			t.Errorf("the proxy was asked for %q", got)
		}
	})
	t.Run("where nobody is", func(t *testing.T) {
		p := newPool(t, upstream.Config{Ways: upstream.Ways{Names: []upstream.Name{{Address: "127.0.0.1:1"}}}})
		e := wantReason(t, p.Send(t.Context(), request(t, flow.Origin{Host: "shop.invalid", Port: 80}, "GET", "")), flow.ReasonUnreachable)
		if !strings.Contains(e.Detail, "shop.invalid:80 at 127.0.0.1:1") {
			t.Errorf("the detail is %q", e.Detail)
		}
	})
}

func TestSourceAddress(t *testing.T) {
	o := newOrigin(t, nil)
	source := "127.0.0.1"
	if runtime.GOOS == "linux" {
		source = "127.0.0.2" // elsewhere that is no address of the machine
	}
	p := newPool(t, upstream.Config{Ways: upstream.Ways{Settings: []upstream.Settings{{Source: netip.MustParseAddr(source)}}}})
	from := make(chan string, 1)
	go func() {
		conn, err := o.Accept()
		if err != nil {
			from <- err.Error()
			return
		}
		defer conn.Close()
		conn.Read(make([]byte, 1024))
		io.WriteString(conn, okAnswer)
		from <- conn.RemoteAddr().(*net.TCPAddr).IP.String()
	}()
	send(t, p, request(t, o.at, "GET", ""))
	if got := <-from; got != source {
		t.Errorf("the origin saw %s", got)
	}
	p = newPool(t, upstream.Config{Ways: upstream.Ways{Settings: []upstream.Settings{{Source: netip.MustParseAddr("192.0.2.77")}}}})
	e := wantReason(t, p.Send(t.Context(), request(t, o.at, "GET", "")), flow.ReasonUnreachable)
	if !strings.Contains(e.Detail, "192.0.2.77") {
		t.Errorf("the detail is %q", e.Detail)
	}
}

// Finding the way costs no memory once the origin is known.
func TestWayIsRemembered(t *testing.T) {
	o := newOrigin(t, nil)
	o.serve(ok)
	ways := upstream.Ways{Direct: patterns(t, "127.0.0.1"), Proxies: by(upstream.Proxy{Scheme: "http", Host: "x", Port: 1}).Proxies}
	for i := range 200 {
		ways.Names = append(ways.Names, upstream.Name{Hosts: patterns(t, fmt.Sprintf("h%d.*.example", i)), Address: "127.0.0.1"})
	}
	p := newPool(t, upstream.Config{Ways: ways})
	f := request(t, o.at, "GET", "")
	send(t, p, f)
	if n := testing.AllocsPerRun(100, func() { p.KeyOf(f) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
