package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/ca"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
)

// entryWorld is a proxy that can open tunnels, with a listener of any kind
// beside the forward one.
func entryWorld(t *testing.T, cfg proxy.Config, kinds ...*proxy.Listener) (w *world, tunnels func() []*flow.Flow) {
	t.Helper()
	var mu sync.Mutex
	var all []*flow.Flow
	cfg.Tunnel = func(ctx context.Context, f *flow.Flow) error { return w.pool.Tunnel(ctx, f) }
	cfg.Tunnelled = func(f *flow.Flow) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, f)
	}
	w = newWorld(t, cfg, upstream.Config{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, port, _ := net.SplitHostPort(address); strings.HasSuffix(host, ".example") {
			address = net.JoinHostPort("127.0.0.1", port)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}, nil)
	for _, ln := range kinds {
		if ln.Listener == nil {
			ln.Listener = listen(t)
		}
		served := make(chan error, 1)
		go func() { served <- w.server.Serve(context.Background(), ln) }()
		t.Cleanup(func() {
			w.server.Close()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
	return w, func() []*flow.Flow {
		mu.Lock()
		defer mu.Unlock()
		return append([]*flow.Flow(nil), all...)
	}
}

// rootFile is the authority's root certificate as curl wants it.
func (w *world) rootFile() string {
	path := filepath.Join(w.t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, w.ca.RootPEM(), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// curl runs curl and returns what it prints, and its error with stderr.
func curl(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal("these tests need curl")
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"-sS", "--max-time", "20", "--noproxy", ""}, arguments...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = &curlError{err, stderr.String()}
	}
	return string(out), err
}

type curlError struct {
	error
	stderr string
}

func (e *curlError) Error() string { return e.error.Error() + ": " + e.stderr }

// portOf is the port of a listener as text.
func portOf(ln net.Listener) string {
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

func TestWaysIntoTheProxyByCurl(t *testing.T) {
	only := &proxy.Listener{TLS: true}
	w, _ := entryWorld(t, proxy.Config{}, only)
	plain, secured := listen(t), listenTLS(t, w.ca, listen(t))
	go echo(plain)
	go echo(secured)
	root := w.rootFile()
	tests := map[string]struct {
		proxy     []string
		url, want string
		identity  string
		tool      string
	}{
		"SOCKS5, name resolved by us":       {[]string{"-x", "socks5h://" + w.addr}, "http://shop.example:" + portOf(plain) + "/a", "GET /a ", "", flow.ToolProxy},
		"SOCKS5, an address":                {[]string{"-x", "socks5://" + w.addr}, "http://" + authorityOf(plain) + "/a", "GET /a ", "", flow.ToolProxy},
		"SOCKS5 and TLS":                    {[]string{"-x", "socks5h://" + w.addr}, "https://" + authorityOf(secured) + "/a", "GET /a ", "", flow.ToolProxy},
		"SOCKS5 with a name":                {[]string{"-x", "socks5h://alice+scanner:x@" + w.addr}, "https://" + authorityOf(secured) + "/a", "GET /a ", "alice", "scanner"},
		"TLS to the proxy":                  {[]string{"-x", "https://" + w.addr, "--proxy-cacert", root}, "http://" + authorityOf(plain) + "/a", "GET /a ", "", flow.ToolProxy},
		"TLS to the proxy, and through it":  {[]string{"-x", "https://alice@" + w.addr, "--proxy-cacert", root}, "https://" + authorityOf(secured) + "/a", "GET /a ", "alice", flow.ToolProxy},
		"TLS to the proxy, not checked":     {[]string{"-x", "https://" + w.addr, "--proxy-insecure"}, "https://" + authorityOf(secured) + "/a", "GET /a ", "", flow.ToolProxy},
		"TLS to a listener that wants that": {[]string{"-x", "https://" + only.Addr().String(), "--proxy-cacert", root}, "http://" + authorityOf(plain) + "/a", "GET /a ", "", flow.ToolProxy},
		"SOCKS5 to the proxy's own page":    {[]string{"-x", "socks5h://" + w.addr}, "http://holdfast/", "{\"name\":\"holdfast\",\"what\":\"This is Holdfast, an intercepting proxy.\"}\n", "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			out, err := curl(t, append(tt.proxy, "--cacert", root, tt.url)...)
			if err != nil || out != tt.want {
				t.Fatalf("%v\n%.300q", err, out)
			}
			if tt.tool == "" {
				return
			}
			eventually(t, "the flow ends", func() bool { return w.over.Load() > 0 && w.over.Load() == w.begun.Load() })
			if f := w.last.Load(); f.Identity != tt.identity || f.Tool != tt.tool {
				t.Errorf("identity %q, tool %q", f.Identity, f.Tool)
			}
		})
	}
	t.Run("no TLS to a listener that wants that", func(t *testing.T) {
		out, err := curl(t, "-x", "http://"+only.Addr().String(), "http://"+authorityOf(plain)+"/a")
		if err != nil || !strings.Contains(out, "speaks TLS") {
			t.Errorf("%v %q", err, out)
		}
	})
}

func TestSOCKSByBytes(t *testing.T) {
	w, _ := entryWorld(t, proxy.Config{})
	request := "\x05\x01\x00"
	tests := map[string]struct{ send, want string }{
		"BIND":                       {request + "\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"},
		"UDP ASSOCIATE":              {request + "\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50", "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"},
		"another type of address":    {request + "\x05\x01\x00\x02", "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00"},
		"no port":                    {request + "\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x00", "\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"},
		"no method that is known":    {"\x05\x01\x01", "\x05\xff"},
		"names before no names":      {"\x05\x02\x00\x02", "\x05\x02"},
		"IPv6":                       {request + "\x05\x01\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50", "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
		"a name with a line's end":   {request + "\x05\x01\x00\x03\x03a\r\n\x00\x50", "\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"},
		"user name with no password": {"\x05\x01\x02" + "\x01\x05alice\x00", "\x05\x02\x01\x00"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, one := range []bool{false, true} { // byte by byte, too
				conn := w.dial()
				if one {
					for i := range tt.send {
						write(t, conn, tt.send[i:i+1])
					}
				} else {
					write(t, conn, tt.send)
				}
				read(t, conn, tt.want)
			}
		})
	}
}

func TestPassword(t *testing.T) {
	w, _ := entryWorld(t, proxy.Config{Password: "correct horse"})
	origin := listenTLS(t, w.ca, listen(t))
	go echo(origin)
	root := w.rootFile()
	url := "https://" + authorityOf(origin) + "/"
	for name, way := range map[string]string{"HTTP": "http", "SOCKS5": "socks5h", "TLS": "https"} {
		t.Run(name, func(t *testing.T) {
			base := []string{"--cacert", root, "--proxy-cacert", root, "-x", way + "://" + w.addr}
			if out, err := curl(t, append(base, "--proxy-user", "alice+x:correct horse", url)...); err != nil || out != "GET / " {
				t.Errorf("with the password: %v %q", err, out)
			}
			eventually(t, "the flow ends", func() bool { return w.over.Load() > 0 && w.over.Load() == w.begun.Load() })
			if f := w.last.Load(); f.Identity != "alice" || f.Tool != "x" {
				t.Errorf("flow of %q, %q", f.Identity, f.Tool)
			}
			before := w.begun.Load()
			for _, user := range []string{"", "alice:wrong", "alice:", "alice:correct horse "} {
				arguments := append(base, url)
				if user != "" {
					arguments = append(arguments, "--proxy-user", user)
				}
				if out, err := curl(t, arguments...); err == nil {
					t.Errorf("as %q: %q", user, out)
				}
			}
			if w.begun.Load() != before {
				t.Error("a request went on")
			}
		})
	}
	t.Run("is asked for, and the connection goes on", func(t *testing.T) {
		out, err := curl(t, "-v", "--stderr", "-", "--proxy-anyauth", "--proxy-user", "alice:correct horse", "-x", "http://"+w.addr, "http://holdfast/ca.pem")
		if err != nil || !strings.Contains(out, "407 Proxy Authentication Required") || !strings.Contains(out, `Proxy-Authenticate: Basic realm="holdfast"`) ||
			!strings.Contains(out, "Re-using existing connection") {
			t.Errorf("%v %s", err, out)
		}
	})
	t.Run("is asked for its own page", func(t *testing.T) {
		conn := w.dial()
		write(t, conn, "GET / HTTP/1.1\r\n\r\n")
		if status, reason := readProblem(t, conn); status != 407 || reason != flow.ReasonProxyPassword {
			t.Errorf("%d %s", status, reason)
		}
	})
}

func TestReverse(t *testing.T) {
	origin := listen(t)
	go hostEcho(origin)
	port := origin.Addr().(*net.TCPAddr).Port
	to := flow.Origin{Host: "shop.example", Port: uint16(port)}
	rewrites := &proxy.Listener{Kind: proxy.Reverse, Origin: to, Tool: "rev"}
	keeps := &proxy.Listener{Kind: proxy.Reverse, Origin: to, KeepHost: true}
	secured := &proxy.Listener{Kind: proxy.Reverse, Origin: to, TLS: true}
	w, _ := entryWorld(t, proxy.Config{}, rewrites, keeps, secured)
	root := w.rootFile()
	want := "shop.example:" + portOf(origin)
	for name, tt := range map[string]struct{ url, want string }{
		"the Host field is the origin's": {"http://" + rewrites.Addr().String() + "/a", want},
		"TLS where the client likes":     {"https://" + rewrites.Addr().String() + "/a", want},
		"the Host field is kept":         {"http://" + keeps.Addr().String() + "/a", keeps.Addr().String()},
		"TLS alone":                      {"https://" + secured.Addr().String() + "/a", want},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := curl(t, "--cacert", root, tt.url)
			if err != nil || out != tt.want {
				t.Errorf("%v %q, want %q", err, out, tt.want)
			}
		})
	}
}

func TestInvisible(t *testing.T) {
	ln := &proxy.Listener{Kind: proxy.Invisible}
	w, tunnels := entryWorld(t, proxy.Config{PassThrough: proxy.PassThrough{Hosts: patterns(t, "bank.example")}}, ln)
	plain, secured := listen(t), listen(t)
	go hostEcho(plain)
	go hostEcho(exampleTLS(t, w, secured))
	root := w.rootFile()
	to := "::" + ln.Addr().String()
	for name, tt := range map[string]struct{ url, want string }{
		"the Host field says where": {"http://shop.example:" + portOf(plain) + "/a", "shop.example:" + portOf(plain)},
		"SNI says where":            {"https://shop.example:" + portOf(secured) + "/a", "shop.example:" + portOf(secured)},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := curl(t, "--cacert", root, "--connect-to", to, tt.url)
			if err != nil || out != tt.want {
				t.Errorf("%v %q, want %q", err, out, tt.want)
			}
		})
	}
	t.Run("a client that knows of it", func(t *testing.T) {
		if out, err := curl(t, "-x", "http://"+ln.Addr().String(), "http://shop.example:"+portOf(plain)+"/"); err != nil || out != "shop.example:"+portOf(plain) {
			t.Errorf("%v %q", err, out)
		}
	})
	for name, request := range map[string]string{
		"no Host field":     "GET / HTTP/1.1\r\n\r\n",
		"the proxy itself":  "GET / HTTP/1.1\r\nHost: " + ln.Addr().String() + "\r\n\r\n",
		"localhost is that": "GET / HTTP/1.1\r\nHost: localhost:" + portOf(ln) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			write(t, conn, request)
			if status, _ := readProblem(t, conn); status != 400 && status != 508 {
				t.Errorf("status %d", status)
			}
		})
	}
	if len(tunnels()) > 0 {
		t.Error("tunnels were opened")
	}
}

func TestNameOfSNIWinsOverAnAddress(t *testing.T) {
	w, _ := entryWorld(t, proxy.Config{})
	origin := listen(t)
	go hostEcho(exampleTLS(t, w, origin))
	root := w.rootFile()
	for _, way := range []string{"socks5", "http"} {
		arguments := []string{"--cacert", root, "-x", way + "://" + w.addr, "--resolve", "shop.test:" + portOf(origin) + ":127.0.0.1"}
		if way == "http" {
			arguments = append(arguments, "--connect-to", "::127.0.0.1:"+portOf(origin))
		}
		if out, err := curl(t, append(arguments, "https://shop.test:"+portOf(origin)+"/")...); err != nil || out != "shop.test:"+portOf(origin) {
			t.Errorf("%s: %v %q", way, err, out)
		}
		eventually(t, "the flow ends", func() bool { return w.over.Load() > 0 && w.over.Load() == w.begun.Load() })
		if o := w.last.Load().Origin; o.Host != "shop.test" || o.Address != "127.0.0.1" {
			t.Errorf("%s: origin %+v", way, o)
		}
	}
}

// exampleTLS shows a certificate for whatever name SNI says.
func exampleTLS(t *testing.T, w *world, ln net.Listener) net.Listener {
	t.Helper()
	return tls.NewListener(ln, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return w.ca.Leaf(h.ServerName)
	}})
}

func patterns(t *testing.T, texts ...string) (all flow.HostPatterns) {
	t.Helper()
	for _, text := range texts {
		p, err := flow.ParseHostPattern(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// hostEcho answers with the Host field.
func hostEcho(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			buffer := make([]byte, 4096)
			for {
				n, err := conn.Read(buffer)
				if err != nil {
					return
				}
				_, rest, _ := strings.Cut(string(buffer[:n]), "Host: ")
				host, _, _ := strings.Cut(rest, "\r\n")
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(len(host))+"\r\n\r\n"+host)
			}
		}()
	}
}

func TestIPv6(t *testing.T) {
	six, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatalf("this machine has no ::1: %v", err)
	}
	ln := &proxy.Listener{Listener: six}
	w, _ := entryWorld(t, proxy.Config{}, ln)
	plain, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plain.Close() })
	go hostEcho(plain)
	url := "http://" + plain.Addr().String() + "/"
	root := w.rootFile()
	for _, way := range []string{"http", "socks5", "socks5h", "https"} {
		if out, err := curl(t, "-x", way+"://"+six.Addr().String(), "--proxy-cacert", root, url); err != nil || out != plain.Addr().String() {
			t.Errorf("%s: %v %q", way, err, out)
		}
		if out, err := curl(t, "-p", "-x", way+"://"+six.Addr().String(), "--proxy-cacert", root, url); err != nil || out != plain.Addr().String() {
			t.Errorf("%s, tunnelled: %v %q", way, err, out)
		}
	}
}

func TestPassThrough(t *testing.T) {
	var mu sync.Mutex
	var warnings []string
	w, tunnels := entryWorld(t, proxy.Config{PassThrough: proxy.PassThrough{Hosts: patterns(t, "*.bank.example"), After: 3,
		Covered: func(host string) bool { return host == "covered.example" },
		Warn: func(text string) {
			mu.Lock()
			defer mu.Unlock()
			warnings = append(warnings, text)
		}}})
	own, err := ca.New(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	origin := tls.NewListener(listen(t), &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return own.Leaf(h.ServerName)
	}})
	go hostEcho(origin)
	theirs := filepath.Join(t.TempDir(), "theirs.pem")
	if err := os.WriteFile(theirs, own.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(way, host string, more ...string) error {
		_, err := curl(t, append(more, "--cacert", theirs, "-x", way+"://"+w.addr, "https://"+host+":"+portOf(origin)+"/")...)
		return err
	}
	for _, way := range []string{"http", "socks5h", "https"} {
		if err := ask(way, "www.bank.example", "--proxy-insecure"); err != nil {
			t.Errorf("%s to a host on the list: %v", way, err)
		}
	}
	if err := ask("socks5", "www.bank.example", "--resolve", "www.bank.example:"+portOf(origin)+":127.0.0.1"); err != nil {
		t.Errorf("by address, where SNI names a host on the list: %v", err)
	}
	for i := range 3 {
		if err := ask("http", "app.example"); err == nil {
			t.Errorf("refusal %d: the certificate was accepted", i)
		}
		if err := ask("http", "covered.example"); err == nil {
			t.Errorf("refusal %d: the certificate was accepted", i)
		}
	}
	eventually(t, "the refusals are counted", func() bool { return len(w.server.Passed()) == 1 })
	if p := w.server.Passed()[0]; p.Host != "app.example" || p.Client != "127.0.0.1" {
		t.Errorf("%+v", p)
	}
	if err := ask("socks5h", "app.example"); err != nil {
		t.Errorf("to the host that is passed through: %v", err)
	}
	if err := ask("http", "covered.example"); err == nil {
		t.Error("a host that is covered was passed through")
	}
	mu.Lock()
	if len(warnings) != 2 || !strings.Contains(strings.Join(warnings, ""), "app.example 3 times: from now on it is passed through") ||
		!strings.Contains(strings.Join(warnings, ""), "a rule covers that host") {
		t.Errorf("warnings: %q", warnings)
	}
	mu.Unlock()
	w.server.Forget()
	if err := ask("http", "app.example"); err == nil {
		t.Error("a host that was forgotten is passed through")
	}
	eventually(t, "five tunnels end", func() bool { return len(tunnels()) == 5 })
	for _, f := range tunnels() {
		if f.Origin.TLS || len(f.Trace.Events) == 0 || !strings.HasSuffix(f.Origin.Host, ".example") {
			t.Errorf("tunnel to %+v, trace %+v", f.Origin, f.Trace.Events)
		}
	}
	if w.begun.Load() != 0 {
		t.Error("something was looked into")
	}
}

func TestOtherProtocols(t *testing.T) {
	w, tunnels := entryWorld(t, proxy.Config{Limits: proxy.Limits{Speak: short}})
	speaks := listen(t) // a server that speaks first
	go serveLines(speaks, "220 ready\r\n")
	waits := listen(t)
	go serveLines(waits, "")
	secured := listenTLS(t, w.ca, listen(t))
	go serveLines(secured, "220 ready\r\n")
	ended := 0
	over := func(what string) {
		t.Helper()
		ended++
		eventually(t, what+" ends", func() bool { return len(tunnels()) == ended })
	}
	talk := func(what string, conn net.Conn, first string) {
		t.Helper()
		read(t, conn, first)
		write(t, conn, "HELO me\r\n")
		read(t, conn, "you said HELO me\r\n")
		conn.Close()
		over(what)
	}
	talk("the server first", w.tunnel(authorityOf(speaks)), "220 ready\r\n")
	talk("the client first", w.tunnel(authorityOf(waits)), "")
	binary := w.tunnel(authorityOf(waits))
	write(t, binary, "\x00\x01\r\n")
	read(t, binary, "you said \x00\x01\r\n")
	binary.Close()
	over("binary")
	inside := tls.Client(w.tunnel(authorityOf(secured)), &tls.Config{RootCAs: pool(w), ServerName: "127.0.0.1"})
	talk("inside TLS", inside, "220 ready\r\n")
	half := w.tunnel(authorityOf(waits))
	write(t, half, "no line")
	write(t, half, "\r\n")
	read(t, half, "you said no line\r\n")
	half.Close()
	over("one that hesitates")
	// A client that waits long and then speaks HTTP, as browsers do.
	late := w.tunnel(authorityOf(waits))
	time.AfterFunc(3*short, func() { io.WriteString(late, "GET /late HTTP/1.1\r\nHost: x\r\n\r\n") })
	if status, reason := readProblem(t, late); status != 502 || reason != flow.ReasonBadResponse {
		t.Errorf("%d %s", status, reason) // the origin speaks no HTTP: it was asked as HTTP
	}
	if w.begun.Load() != 1 {
		t.Errorf("%d requests", w.begun.Load())
	}
}

func pool(w *world) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(w.ca.Root())
	return p
}

// serveLines greets and then says each line again.
func serveLines(ln net.Listener, greeting string) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			io.WriteString(conn, greeting)
			var line []byte
			one := make([]byte, 1)
			for {
				if _, err := conn.Read(one); err != nil {
					return
				}
				if line = append(line, one...); one[0] == '\n' {
					io.WriteString(conn, "you said "+string(line))
					line = nil
				}
			}
		}()
	}
}

func TestPython(t *testing.T) {
	path, err := exec.LookPath("python3")
	if err != nil || exec.Command(path, "-c", "import requests").Run() != nil {
		t.Fatal("these tests need python3-requests")
	}
	w, _ := entryWorld(t, proxy.Config{Password: "pw"})
	origin := listenTLS(t, w.ca, listen(t))
	go hostEcho(origin)
	const script = `
import requests, sys
url, root, good, bad = sys.argv[1:]
print(requests.get(url, proxies={"https": good}, verify=root).text)
try:
    requests.get(url, proxies={"https": bad}, verify=root)
except requests.exceptions.ProxyError as e:
    print("407" in str(e))
`
	out, err := exec.CommandContext(t.Context(), path, "-c", script, "https://"+authorityOf(origin)+"/", w.rootFile(),
		"http://alice+py:pw@"+w.addr, "http://alice+py:no@"+w.addr).CombinedOutput()
	if err != nil || string(out) != authorityOf(origin)+"\nTrue\n" {
		t.Fatalf("%v %s", err, out)
	}
	eventually(t, "the flow ends", func() bool { return w.over.Load() == 1 })
	if f := w.last.Load(); f.Identity != "alice" || f.Tool != "py" {
		t.Errorf("%q %q", f.Identity, f.Tool)
	}
}
