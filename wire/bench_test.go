package wire_test

import (
	"io"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/wire"
)

// browserHead is what a browser sends: thirteen fields.
const browserHead = "GET /api/v1/items?page=2&sort=name HTTP/1.1\r\n" +
	"Host: shop.example.test\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Referer: https://shop.example.test/\r\n" +
	"Connection: keep-alive\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n" +
	"Upgrade-Insecure-Requests: 1\r\n" +
	"Sec-Fetch-Dest: document\r\n" +
	"Sec-Fetch-Mode: navigate\r\n" +
	"Sec-Fetch-Site: same-origin\r\n" +
	"Priority: u=0, i\r\n\r\n"

const serverHead = "HTTP/1.1 200 OK\r\n" +
	"Date: Mon, 01 Jan 2024 00:00:00 GMT\r\n" +
	"Server: nginx\r\n" +
	"Content-Type: application/json\r\n" +
	"Content-Length: 1024\r\n" +
	"Connection: keep-alive\r\n" +
	"Cache-Control: no-store\r\n" +
	"Set-Cookie: session=0123456789abcdef0123456789abcdef; Path=/; HttpOnly\r\n" +
	"Strict-Transport-Security: max-age=31536000\r\n\r\n"

// endless repeats its text for ever, in reads of at most that text.
type endless struct {
	text string
	pos  int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.text[e.pos:])
	if e.pos += n; e.pos == len(e.text) {
		e.pos = 0
	}
	return n, nil
}

// drain reads a body and counts its bytes.
func drain(b wire.Body) (n int, err error) {
	for {
		piece, err := b.Next()
		n += len(piece)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// exchangeReader returns a function that reads one message with its body.
func exchangeReader(tb testing.TB, text string, response bool) func() {
	r := wire.NewReader(&endless{text: text}, wire.Limits{})
	var req wire.Request
	var resp wire.Response
	method := []byte("GET")
	return func() {
		var f wire.Framing
		var err error
		if response {
			if err = r.ReadResponse(&resp); err == nil {
				f, err = wire.ResponseFraming(&resp, method)
			}
		} else if err = r.ReadRequest(&req); err == nil {
			f, err = wire.RequestFraming(&req)
		}
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := drain(r.Body(f)); err != nil {
			tb.Fatal(err)
		}
	}
}

var steadyPaths = []struct {
	name     string
	text     string
	response bool
}{
	{"request without body", browserHead, false},
	{"request with length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000), false},
	{"response with length", serverHead + strings.Repeat("x", 1024), true},
	{"chunked response", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
		strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", 32) + "0\r\n\r\n", true},
	{"long response", "HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n" + strings.Repeat("x", 1<<20), true},
}

func TestSteadyPathsDoNotAllocate(t *testing.T) {
	for _, p := range steadyPaths {
		t.Run(p.name, func(t *testing.T) {
			once := exchangeReader(t, p.text, p.response)
			if n := testing.AllocsPerRun(100, once); n != 0 {
				t.Errorf("%v allocations per message, want none", n)
			}
		})
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	req, err := wire.ParseRequest([]byte(browserHead))
	if err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(100, func() {
		req.Get("cookie")
		req.HasToken("connection", "close")
		req.Host()
		req.Path()
		req.KeepAlive()
	})
	if n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkReadRequest(b *testing.B) {
	r := wire.NewReader(&endless{text: browserHead}, wire.Limits{})
	var req wire.Request
	b.ReportAllocs()
	b.SetBytes(int64(len(browserHead)))
	for b.Loop() {
		if err := r.ReadRequest(&req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadResponse(b *testing.B) {
	r := wire.NewReader(&endless{text: serverHead}, wire.Limits{})
	var resp wire.Response
	b.ReportAllocs()
	b.SetBytes(int64(len(serverHead)))
	for b.Loop() {
		if err := r.ReadResponse(&resp); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMessage(b *testing.B) {
	for _, p := range steadyPaths {
		b.Run(p.name, func(b *testing.B) {
			once := exchangeReader(b, p.text, p.response)
			b.ReportAllocs()
			b.SetBytes(int64(len(p.text)))
			for b.Loop() {
				once()
			}
		})
	}
}

func BenchmarkRequestFraming(b *testing.B) {
	req, err := wire.ParseRequest([]byte(browserHead))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.RequestFraming(req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSetOnClone(b *testing.B) {
	req, err := wire.ParseRequest([]byte(browserHead))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := req.Clone().Set("Cookie", "session=fedcba9876543210fedcba9876543210; theme=dark"); err != nil {
			b.Fatal(err)
		}
	}
}
