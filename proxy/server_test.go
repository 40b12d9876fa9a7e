package proxy_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
)

const (
	okHead = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
	okBody = "ok"
)

// answerOK answers without an origin.
func answerOK(flow.Handler) flow.Handler {
	return func(_ context.Context, f *flow.Flow) error {
		return proxy.Answer(f, 200, "text/plain", []byte(okBody))
	}
}

func get(host, lines string) string {
	return "GET http://" + host + "/ HTTP/1.1\r\nHost: " + host + "\r\n" + lines + "\r\n"
}

func basic(name string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":secret")) + "\r\n"
}

func TestCredentialsNameIdentityAndTool(t *testing.T) {
	tests := map[string]struct{ lines, identity, tool string }{
		"none":                          {"", "", flow.ToolProxy},
		"an identity":                   {basic("alice"), "alice", flow.ToolProxy},
		"identity and tool":             {basic("alice+scanner"), "alice", "scanner"},
		"a tool":                        {basic("+scanner"), "", "scanner"},
		"a plus sign in the identity":   {basic("a+b@example.org+sqlmap"), "a+b@example.org", "sqlmap"},
		"nothing behind the plus sign":  {basic("alice+"), "alice", flow.ToolProxy},
		"another scheme":                {"Proxy-Authorization: Bearer abc\r\n", "", flow.ToolProxy},
		"what is no base64":             {"Proxy-Authorization: Basic ???\r\n", "", flow.ToolProxy},
		"names of whatever case":        {"PROXY-authorization: bAsIc " + basic("alice")[len("Proxy-Authorization: Basic "):], "alice", flow.ToolProxy},
		"a password with a colon in it": {"Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("bob+x:a:b+c")) + "\r\n", "bob", "x"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, proxy.Config{}, upstream.Config{}, answerOK)
			check := func(how string, before int64) {
				t.Helper()
				eventually(t, "the flow ends", func() bool { return w.over.Load() > before })
				if f := w.last.Load(); f.Identity != tt.identity || f.Tool != tt.tool {
					t.Errorf("%s: identity %q, tool %q; want %q, %q", how, f.Identity, f.Tool, tt.identity, tt.tool)
				}
			}
			conn := w.dial()
			write(t, conn, get("x.example", tt.lines))
			check("to the proxy", 0)
			var lines []string
			if tt.lines != "" {
				lines = []string{strings.TrimSuffix(tt.lines, "\r\n")}
			}
			inner := w.tunnel("x.example:80", lines...)
			write(t, inner, "GET /1 HTTP/1.1\r\n\r\n")
			check("through the tunnel", 1)
			secured := w.secure(w.tunnel("x.example:443", lines...), "x.example")
			write(t, secured, "GET /1 HTTP/1.1\r\n"+basic("mallory+evil")+"\r\n")
			check("through TLS, where other credentials are the origin's", 2)
		})
	}
}

func TestListenerNamesWhatTheClientDoesNot(t *testing.T) {
	w := newWorld(t, proxy.Config{Label: "main", Tool: "t"}, upstream.Config{}, answerOK)
	ln := &proxy.Listener{Listener: listen(t), Label: "second", Identity: "bob"}
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(t.Context(), ln) }()
	first := w.dial()
	write(t, first, get("x.example", ""))
	eventually(t, "the flow ends", func() bool { return w.over.Load() == 1 })
	if f := w.last.Load(); f.Listener != "main" || f.Tool != "t" || f.Identity != "" {
		t.Errorf("the first listener's flow: %q %q %q", f.Listener, f.Tool, f.Identity)
	}
	second, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	write(t, second, get("x.example", ""))
	eventually(t, "the flow ends", func() bool { return w.over.Load() == 2 })
	if f := w.last.Load(); f.Listener != "second" || f.Tool != "t" || f.Identity != "bob" {
		t.Errorf("the second listener's flow: %q %q %q", f.Listener, f.Tool, f.Identity)
	}
	w.server.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestFlowSaysWhereItGoes(t *testing.T) {
	w := newWorld(t, proxy.Config{}, upstream.Config{}, answerOK)
	tests := map[string]struct {
		target string
		want   flow.Origin
	}{
		"default port":        {"http://Shop.Example/a", flow.Origin{Host: "shop.example", Port: 80}},
		"own port":            {"http://shop.example:8443/a", flow.Origin{Host: "shop.example", Port: 8443}},
		"https to a proxy":    {"HTTPS://shop.example", flow.Origin{TLS: true, Host: "shop.example", Port: 443}},
		"IPv6":                {"http://[2001:DB8::1]:81/", flow.Origin{Host: "2001:db8::1", Port: 81}},
		"credentials":         {"http://a:b@shop.example/", flow.Origin{Host: "shop.example", Port: 80}},
		"an empty port":       {"http://shop.example:/", flow.Origin{Host: "shop.example", Port: 80}},
		"a query and no path": {"http://shop.example?x=http://y/", flow.Origin{Host: "shop.example", Port: 80}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := w.over.Load()
			write(t, w.dial(), "GET "+tt.target+" HTTP/1.1\r\n\r\n")
			eventually(t, "the flow ends", func() bool { return w.over.Load() > before })
			f := w.last.Load()
			if f.Origin != tt.want {
				t.Errorf("origin %+v, want %+v", f.Origin, tt.want)
			}
			if string(f.Received.Target()) != tt.target || strings.Contains(string(f.Request.Target()), "shop") {
				t.Errorf("received %q, sent %q", f.Received.Target(), f.Request.Target())
			}
		})
	}
}

func TestRequestsThatGoNowhere(t *testing.T) {
	w := newWorld(t, proxy.Config{}, upstream.Config{}, nil)
	_, port, _ := net.SplitHostPort(w.addr)
	tests := map[string]struct{ request, want string }{
		"to the proxy itself":             {get(w.addr, ""), "508 request_to_self"},
		"to the proxy by another name":    {get("localhost:"+port, ""), "508 request_to_self"},
		"to the unspecified address":      {get("0.0.0.0:"+port, ""), "508 request_to_self"},
		"a tunnel to the proxy itself":    {"CONNECT " + w.addr + " HTTP/1.1\r\n\r\n", "508 request_to_self"},
		"a path that is nowhere":          {"GET /shop HTTP/1.1\r\nHost: shop.example\r\n\r\n", "400 request_malformed"},
		"another scheme":                  {"GET ftp://shop.example/ HTTP/1.1\r\n\r\n", "400 request_malformed"},
		"a port that is none":             {get("shop.example:99999", ""), "400 request_malformed"},
		"no host":                         {get(":80", ""), "400 request_malformed"},
		"an IPv6 address without bracket": {get("::1", ""), "400 request_malformed"},
		"a tunnel to nowhere":             {"CONNECT / HTTP/1.1\r\n\r\n", "400 request_malformed"},
		"an origin that is not there":     {get("nowhere.invalid", ""), "502 origin_unreachable"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			conn := w.dial()
			write(t, conn, tt.request)
			status, reason := readProblem(t, conn)
			if got := fmt.Sprintf("%d %s", status, reason); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestLoopByNameIsFoundWhenDialled(t *testing.T) {
	var w *world
	w = newWorld(t, proxy.Config{}, upstream.Config{
		Refuse: func(remote net.Addr) error {
			if w.server.IsSelf(remote) {
				return &flow.Error{Status: 508, Reason: flow.ReasonLoop, Detail: "d", Next: "n"}
			}
			return nil
		},
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, w.addr) // as a resolver would
		},
	}, nil)
	conn := w.dial()
	write(t, conn, get("innocent.example", ""))
	if status, reason := readProblem(t, conn); status != 508 || reason != flow.ReasonLoop {
		t.Errorf("%d %s", status, reason)
	}
}

func TestLocalPages(t *testing.T) {
	w := newWorld(t, proxy.Config{Local: proxy.LocalPages([]byte("PEM"), nil)}, upstream.Config{}, nil)
	tests := map[string]struct{ request, status, kind, body string }{
		"its page, asked directly":       {"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "200", "application/json", "http://holdfast/ca.pem"},
		"its page for a browser":         {get("holdfast", "Accept: text/html,*/*\r\n"), "200", "text/html", "/ca.pem"},
		"the certificate":                {"GET http://HOLDFAST/ca.pem HTTP/1.1\r\n\r\n", "200", "application/x-x509-ca-cert", "PEM"},
		"a problem as a page":            {"GET /x HTTP/1.1\r\nAccept: text/html,application/json;q=0.5\r\n\r\n", "400", "text/html", "<h1>"},
		"a problem for those who prefer": {"GET /x HTTP/1.1\r\nAccept: application/json, text/html\r\n\r\n", "400", "application/problem+json", "request_malformed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			conn := w.dial()
			write(t, conn, strings.Replace(tt.request, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
			raw, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			head, body, _ := strings.Cut(string(raw), "\r\n\r\n")
			if !strings.HasPrefix(head, "HTTP/1.1 "+tt.status) || !strings.Contains(head, "Content-Type: "+tt.kind) || !strings.Contains(body, tt.body) {
				t.Errorf("got\n%s", raw)
			}
		})
	}
	t.Run("through a tunnel with TLS", func(t *testing.T) {
		conn := w.secure(w.tunnel("holdfast:443"), "holdfast")
		write(t, conn, "GET /ca.pem HTTP/1.1\r\n\r\n")
		read(t, conn, "HTTP/1.1 200 OK\r\nContent-Type: application/x-x509-ca-cert\r\nContent-Length: 3\r\nCache-Control: no-store\r\n\r\nPEM")
	})
}

func TestProblemsKeepTheConnectionWhenTheyCan(t *testing.T) {
	refusal := &flow.Error{Status: 503, Reason: flow.ReasonLocked, Detail: "Ärger \"x\".", Next: "Unlock.", Cause: errors.New("secret")}
	refuse := func(flow.Handler) flow.Handler { return func(context.Context, *flow.Flow) error { return refusal } }
	tests := map[string]struct {
		request string
		goesOn  bool
	}{
		"nothing to read":          {get("x", ""), true},
		"a small body unread":      {"POST http://x/ HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", true},
		"a large body unread":      {"POST http://x/ HTTP/1.1\r\nContent-Length: 3000000\r\n\r\nabc", false},
		"a client that waits":      {"POST http://x/ HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", false},
		"a client that wants less": {get("x", "Connection: close\r\n"), false},
		"HTTP/1.0":                 {"GET http://x/ HTTP/1.0\r\n\r\n", false},
		"HTTP/1.0 that goes on":    {"GET http://x/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, proxy.Config{}, upstream.Config{}, refuse)
			conn := w.dial()
			write(t, conn, tt.request)
			if status, reason := readProblem(t, conn); status != 503 || reason != flow.ReasonLocked {
				t.Fatalf("%d %s", status, reason)
			}
			if tt.goesOn {
				write(t, conn, get("x", ""))
				readProblem(t, conn)
			} else if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("after the answer: %v, want the end", err)
			}
			eventually(t, "the flow ends", func() bool { return w.over.Load() == w.begun.Load() })
			f := w.last.Load()
			if f.Err != error(refusal) || f.Response == nil || f.Response.Status() != 503 {
				t.Errorf("the record has %v and %v", f.Err, f.Response)
			}
			if status, _ := f.Response.Get("Proxy-Status"); string(status) != `holdfast; error=proxy_internal_response; reason=session_locked; details="?rger \"x\"."` {
				t.Errorf("Proxy-Status: %s", status)
			}
		})
	}
}

func TestOriginsCertificateIsVerified(t *testing.T) {
	w := newWorld(t, proxy.Config{}, upstream.Config{}, nil)
	ln := listenTLS(t, newAuthority(t), listen(t))
	go func() {
		if conn, err := ln.Accept(); err == nil {
			io.Copy(io.Discard, conn) // does the handshake
			conn.Close()
		}
	}()
	conn := w.secure(w.tunnel(authorityOf(ln)), "127.0.0.1")
	write(t, conn, "GET / HTTP/1.1\r\n\r\n")
	if status, reason := readProblem(t, conn); status != 502 || reason != flow.ReasonTLS {
		t.Errorf("%d %s", status, reason)
	}
}

func TestClientHelloTogetherWithCONNECT(t *testing.T) {
	w := newWorld(t, proxy.Config{}, upstream.Config{}, answerOK)
	conn := &eagerConn{Conn: w.dial(), before: "CONNECT x.example:443 HTTP/1.1\r\n\r\n", skip: len("HTTP/1.1 200 Connection established\r\n\r\n")}
	secured := w.secure(conn, "x.example")
	write(t, secured, "GET / HTTP/1.1\r\n\r\n")
	read(t, secured, "HTTP/1.1 200 OK\r\n")
}

// eagerConn puts text before the first write, and takes its answer off the
// first reads.
type eagerConn struct {
	net.Conn
	before string
	skip   int
}

func (e *eagerConn) Write(p []byte) (int, error) {
	if e.before != "" {
		_, err := e.Conn.Write(append([]byte(e.before), p...))
		e.before = ""
		return len(p), err
	}
	return e.Conn.Write(p)
}

func (e *eagerConn) Read(p []byte) (int, error) {
	if e.skip > 0 {
		if _, err := io.ReadFull(e.Conn, make([]byte, e.skip)); err != nil {
			return 0, err
		}
		e.skip = 0
	}
	return e.Conn.Read(p)
}

func TestClientThatDoesNotTrustIsReported(t *testing.T) {
	heard := make(chan error, 1)
	w := newWorld(t, proxy.Config{OnError: func(err error) { heard <- err }}, upstream.Config{}, answerOK)
	conn := w.tunnel("x.example:443")
	if err := distrust(conn); err == nil {
		t.Fatal("the handshake went well")
	}
	if err := <-heard; !strings.Contains(err.Error(), "http://holdfast/") || !strings.Contains(err.Error(), "x.example") {
		t.Errorf("reported: %v", err)
	}
}

func TestAtMostSoManyConnections(t *testing.T) {
	w := newWorld(t, proxy.Config{Limits: proxy.Limits{Connections: 1}}, upstream.Config{}, answerOK)
	first, second := w.dial(), w.dial()
	write(t, second, get("x", ""))
	write(t, first, get("x", ""))
	read(t, first, "HTTP/1.1 200 OK\r\n")
	if n := w.begun.Load(); n != 1 {
		t.Errorf("%d flows began", n)
	}
	first.Close()
	read(t, second, "HTTP/1.1 200 OK\r\n")
}

func TestHandlerThatSetsNothing(t *testing.T) {
	for name, err := range map[string]error{"and no error": nil, "and an error of its own": errors.New("secret"), "and a deadline": context.DeadlineExceeded} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, proxy.Config{}, upstream.Config{}, func(flow.Handler) flow.Handler {
				return func(context.Context, *flow.Flow) error { return err }
			})
			conn := w.dial()
			write(t, conn, get("x", ""))
			if status, _ := readProblem(t, conn); status != 502 && status != 504 {
				t.Errorf("status %d", status)
			}
		})
	}
}

func TestAnswerWithoutEndEndsTheConnection(t *testing.T) {
	w := newWorld(t, proxy.Config{}, upstream.Config{}, func(flow.Handler) flow.Handler {
		return func(_ context.Context, f *flow.Flow) (err error) {
			f.Response, err = wire.ParseResponse([]byte("HTTP/1.1 200 OK\r\n\r\n"))
			return err
		}
	})
	conn := w.dial()
	write(t, conn, get("x", ""))
	read(t, conn, "HTTP/1.1 200 OK\r\n\r\n")
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("then %v, want the end", err)
	}
}
