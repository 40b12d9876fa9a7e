package config_test

import (
	"io"
	"testing"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/wire"
)

func TestSample(t *testing.T) {
	for _, c := range []struct{ about, text, origin, head, body string }{
		{"a URL", "https://Shop.example", "https://shop.example/", "GET / HTTP/1.1\r\nHost: Shop.example\r\n\r\n", ""},
		{"method and URL", "DELETE http://shop.example:8080/a?b=%zz#x\n", "http://shop.example:8080/", "DELETE /a?b=%zz HTTP/1.1\r\nHost: shop.example:8080\r\n\r\n", ""},
		{"fields", "POST https://shop.example/a\nX-A: 1\n\na=b\n", "https://shop.example/", "POST /a HTTP/1.1\r\nHost: shop.example\r\nX-A: 1\r\nContent-Length: 3\r\n\r\n", "a=b"},
		{"raw", "GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n", "https://shop.example/", "GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n", ""},
		{"a length of its own", "POST /a HTTP/1.1\nHost: x\nContent-Length: 99\n\nabc", "https://x/", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n", "abc"},
		{"chunks", "POST /a HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n1\r\na\r\n0\r\n\r\n\n", "https://x/", "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n0\r\n\r\n"},
	} {
		t.Run(c.about, func(t *testing.T) {
			f, err := config.Sample([]byte(c.text), true)
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Origin.URL([]byte("/")); got != c.origin {
				t.Errorf("origin %s, want %s", got, c.origin)
			}
			if got := string(f.Request.Bytes()); got != c.head {
				t.Errorf("head %q, want %q", got, c.head)
			}
			if got := read(t, f.RequestBody); got != c.body {
				t.Errorf("body %q, want %q", got, c.body)
			}
		})
	}
	for _, text := range []string{"", "GET /a HTTP/1.1\n\n", "GET HTTP/1.1\n", "a b c d", "GET https:///a", "GET ftp://x/", "GET https://x:99999/"} {
		if f, err := config.Sample([]byte(text), true); err == nil {
			t.Errorf("%q is %q", text, f.Request.Bytes())
		}
	}
}

func TestSampleAnswer(t *testing.T) {
	for _, c := range []struct {
		text   string
		status int
		body   string
	}{
		{"HTTP/1.1 401 Unauthorized\nA: b\n\nno\n", 401, "no"},
		{"HTTP/2 200\ncontent-length: 7\n\n{}", 200, "{}"},
		{"HTTP/1.1 200\n", 200, ""},
	} {
		f, err := config.Sample([]byte("https://x/"), true)
		if err != nil {
			t.Fatal(err)
		}
		if err := config.SampleAnswer(f, []byte(c.text)); err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if got := read(t, f.ResponseBody); f.Response.Status() != c.status || got != c.body {
			t.Errorf("%q: status %d, body %q", c.text, f.Response.Status(), got)
		}
	}
	f, _ := config.Sample([]byte("https://x/"), true)
	if err := config.SampleAnswer(f, []byte("<html>")); err == nil {
		t.Error("HTML without a status line is taken for an answer")
	}
}

func read(t *testing.T, b wire.Body) string {
	t.Helper()
	if b == nil {
		return ""
	}
	raw, err := b.Next()
	if err != io.EOF {
		t.Fatalf("reading the body: %v", err)
	}
	return string(raw)
}
