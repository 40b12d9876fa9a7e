package proxy_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
)

// TestCurl drives the proxy with a client that others wrote.
func TestCurl(t *testing.T) {
	path, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal("these tests need curl")
	}
	w := newWorld(t, proxy.Config{}, upstream.Config{}, nil)
	roots := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(roots, w.ca.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	plain, secured := listen(t), listenTLS(t, w.ca, listen(t))
	for _, ln := range []net.Listener{plain, secured} {
		go echo(ln)
	}
	large := strings.Repeat("0123456789", 300_000)
	file := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(file, []byte(large), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		arguments []string
		want      string
		identity  string
	}{
		"GET":                     {[]string{"http://" + authorityOf(plain) + "/a?b"}, "GET /a?b ", ""},
		"GET through TLS":         {[]string{"https://" + authorityOf(secured) + "/a?b"}, "GET /a?b ", ""},
		"POST":                    {[]string{"--data", "x=y", "https://" + authorityOf(secured) + "/"}, "POST / x=y", ""},
		"POST in chunks":          {[]string{"-H", "Transfer-Encoding: chunked", "--data", "x=y", "https://" + authorityOf(secured) + "/"}, "POST / 3\r\nx=y\r\n0\r\n\r\n", ""},
		"POST with Expect":        {[]string{"-H", "Expect: 100-continue", "--data-binary", "@" + file, "http://" + authorityOf(plain) + "/"}, "POST / " + large, ""},
		"a tunnel without TLS":    {[]string{"-p", "http://" + authorityOf(plain) + "/"}, "GET / ", ""},
		"HTTP/1.0":                {[]string{"-0", "http://" + authorityOf(plain) + "/"}, "GET / ", ""},
		"an identity":             {[]string{"--proxy-user", "alice+scanner:x", "http://" + authorityOf(plain) + "/"}, "GET / ", "alice"},
		"an identity through TLS": {[]string{"--proxy-user", "alice+scanner:x", "https://" + authorityOf(secured) + "/"}, "GET / ", "alice"},
		"two with one connection": {[]string{"https://" + authorityOf(secured) + "/1", "https://" + authorityOf(secured) + "/2"}, "GET /1 GET /2 ", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), path, append([]string{"-sS", "--max-time", "20", "--noproxy", "",
				"-x", "http://" + w.addr, "--cacert", roots}, tt.arguments...)...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil || string(out) != tt.want {
				t.Fatalf("curl: %v\n%s\n%.200q", err, stderr.Bytes(), out)
			}
			eventually(t, "the flow ends", func() bool { return w.over.Load() > 0 && w.over.Load() == w.begun.Load() })
			if got := w.last.Load().Identity; got != tt.identity {
				t.Errorf("identity %q, want %q", got, tt.identity)
			}
		})
	}
}

// echo answers with the method, the target and the body as they arrived.
func echo(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			r := wire.NewReader(conn, wire.Limits{})
			for {
				var req wire.Request
				if r.ReadRequest(&req) != nil {
					return
				}
				framing, err := wire.RequestFraming(&req)
				if err != nil {
					return
				}
				if req.HasToken("Expect", "100-continue") {
					io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
				}
				said := []byte(string(req.Method()) + " " + string(req.Target()) + " ")
				for body := r.Body(framing); err != io.EOF; {
					var piece []byte
					if piece, err = body.Next(); err != nil && err != io.EOF {
						return
					}
					said = append(said, piece...)
				}
				conn.Write(append([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
					wire.AppendLastChunk(wire.AppendChunk(nil, said), nil)...))
			}
		}()
	}
}
