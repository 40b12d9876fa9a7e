package proxy_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// endless is a body that never ends and never waits.
type endless struct{ piece []byte }

func (b *endless) Next() ([]byte, error) { return b.piece, nil }
func (b *endless) Framing() wire.Framing { return wire.Framing{Kind: wire.UntilClose} }
func (b *endless) Close() error          { return nil }

// hostileOrigin drips, never ends its head, or never reads, by the path. It
// ends with the test.
func hostileOrigin(t *testing.T) (authority string) {
	ln := listen(t)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				var request [1 << 10]byte
				n, _ := conn.Read(request[:])
				switch text := string(request[:n]); {
				case strings.Contains(text, "/drip"):
					tick := time.NewTicker(short)
					defer tick.Stop()
					for _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: "); err == nil; _, err = conn.Write([]byte{'a'}) {
						select {
						case <-tick.C:
						case <-stop:
							return
						}
					}
				case strings.Contains(text, "/endless"):
					line := []byte("X: " + strings.Repeat("a", 8<<10) + "\r\n")
					for _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n"); err == nil; _, err = conn.Write(line) {
					}
				default:
					<-stop
				}
			})
		}
	})
	t.Cleanup(func() {
		close(stop)
		ln.Close()
		wg.Wait()
	})
	return authorityOf(ln)
}

// ending reads a connection to its end and tells what came first.
func ending(conn net.Conn) string {
	raw, err := io.ReadAll(conn)
	switch line, _, _ := strings.Cut(string(raw), "\r\n"); {
	case isTimeout(err):
		return "no end"
	case strings.HasPrefix(line, "HTTP/1.1 ") && !strings.Contains(line, "established"):
		return line[len("HTTP/1.1 "):][:3]
	case strings.Contains(string(raw), "\r\n\r\nHTTP/1.1 "):
		return string(raw[bytes.Index(raw, []byte("\r\n\r\n"))+len("\r\n\r\nHTTP/1.1 "):][:3])
	}
	return "closed"
}

// ask2 is a header block that asks for a path, with further fields.
func ask2(path string, more ...hpack.HeaderField) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range append([]hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: "x"}, {Name: ":path", Value: path}}, more...) {
		e.WriteField(f)
	}
	return b.Bytes()
}

// speak2 begins HTTP/2 by prior knowledge.
func speak2(conn net.Conn) *http2.Framer {
	io.WriteString(conn, h2.Preface)
	fr := http2.NewFramer(conn, conn)
	fr.AllowIllegalWrites = true
	fr.WriteSettings()
	return fr
}

// A hostile client says something; how its connection ends is compared.
type hostile struct {
	name string
	say  func(w *world, conn net.Conn)
	want string // endings, separated by spaces; "": it leaves when it has spoken
}

func drip(conn net.Conn, text string) {
	tick := time.NewTicker(short)
	defer tick.Stop()
	for i := range text {
		if _, err := conn.Write([]byte{text[i]}); err != nil {
			return
		}
		<-tick.C
	}
}

func hostiles(origin string) []hostile {
	say := func(text string) func(*world, net.Conn) {
		return func(_ *world, conn net.Conn) { io.WriteString(conn, text) }
	}
	slowly := func(text string) func(*world, net.Conn) {
		return func(_ *world, conn net.Conn) { drip(conn, text+strings.Repeat("a", 1<<10)) }
	}
	connect := "CONNECT x.example:80 HTTP/1.1\r\n\r\n"
	pad := "X: " + strings.Repeat("a", 8<<10-5) + "\r\n"
	return []hostile{
		{"a slow head", slowly("GET http://x/ HTTP/1.1\r\nX: "), "408"},
		{"a slow CONNECT", slowly("CONNECT x:443 HTTP/1.1\r\nX: "), "408"},
		{"a slow handshake", func(w *world, conn net.Conn) {
			io.WriteString(conn, connect)
			drip(conn, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"+strings.Repeat("a", 200))
		}, "closed"},
		{"a slow head in a tunnel", func(w *world, conn net.Conn) {
			io.WriteString(conn, connect)
			drip(conn, "GET / HTTP/1.1\r\nX: "+strings.Repeat("a", 1<<10))
		}, "408"},
		{"a slow head by HTTP/2", func(_ *world, conn net.Conn) {
			fr := speak2(conn)
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: ask2("/"), EndStream: true})
		}, "closed"},
		{"a body that stops", say("POST http://" + origin + "/unread HTTP/1.1\r\nContent-Length: 100\r\n\r\n1"), "408 504"},
		{"half of a request and half closed", func(_ *world, conn net.Conn) {
			io.WriteString(conn, "GET http://x/ HT")
			conn.(*net.TCPConn).CloseWrite()
		}, "closed"},
		{"a large head that stops", say("GET http://x/ HTTP/1.1\r\n" + strings.Repeat(pad, 20)), "408 503"},
		{"a head that is too large", say("GET http://x/ HTTP/1.1\r\n" + strings.Repeat(pad, 40)), "431 503"},
		{"a name that is too long", say("CONNECT " + strings.Repeat("a", 100<<10) + ":443 HTTP/1.1\r\n\r\n"), "400 503"},
		{"streams reset at once", func(_ *world, conn net.Conn) {
			fr := speak2(conn)
			for id := uint32(1); id < 5000; id += 2 {
				fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: ask2("/"), EndStream: true, EndHeaders: true})
				if fr.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
					return
				}
			}
		}, ""},
		{"a flood of PING", func(_ *world, conn net.Conn) {
			for fr, i := speak2(conn), 0; i < 5000 && fr.WritePing(false, [8]byte{}) == nil; i++ {
			}
		}, ""},
		{"a flood of SETTINGS", func(_ *world, conn net.Conn) {
			for fr, i := speak2(conn), 0; i < 5000 && fr.WriteSettings(http2.Setting{ID: 4, Val: 9}) == nil; i++ {
			}
		}, ""},
		{"a flood of CONTINUATION", func(_ *world, conn net.Conn) {
			fr := speak2(conn)
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: ask2("/"), EndStream: true})
			for i := 0; i < 100 && fr.WriteContinuation(1, false, nil) == nil; i++ {
			}
		}, "closed"},
		{"an origin that drips", say("GET http://" + origin + "/drip HTTP/1.1\r\nConnection: close\r\n\r\n"), "504"},
		{"an origin whose head never ends", say("GET http://" + origin + "/endless HTTP/1.1\r\nConnection: close\r\n\r\n"), "502 503"},
		{"an origin that reads nothing", func(_ *world, conn net.Conn) {
			io.WriteString(conn, "POST http://"+origin+"/unread HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n")
			for piece, err := make([]byte, 64<<10), error(nil); err == nil; {
				_, err = conn.Write(piece)
			}
		}, "504 closed"},
	}
}

// TestAWellBehavedClientAmongHostileOnes has each kind of hostile client a few
// times at once: each is ended by the limit that is there for it, and the
// well-behaved one gets all its answers meanwhile.
func TestAWellBehavedClientAmongHostileOnes(t *testing.T) {
	const each, wait = 4, 2 * time.Second
	origin := hostileOrigin(t)
	limits := proxy.Limits{Head: wait, Idle: patience, Handshake: wait, Body: wait, Stall: wait, Linger: short, HalfClosed: wait,
		Tunnel: wait, LargeHeads: 2, Message: wire.Limits{Head: 256 << 10}}
	up := upstream.Config{Limits: upstream.Limits{FirstByte: wait, Stall: wait, LargeHeads: 2, Message: wire.Limits{Head: 256 << 10}}}
	piece := make([]byte, 64<<10)
	w := newWorld(t, proxy.Config{Limits: limits}, up, func(next flow.Handler) flow.Handler {
		return func(ctx context.Context, f *flow.Flow) error {
			switch {
			case string(f.Request.Path()) == "/unending":
				response, err := wire.ParseResponse([]byte("HTTP/1.1 200 OK\r\n\r\n"))
				f.Response, f.ResponseBody = response, &endless{piece}
				return err
			case f.Origin.Host == "x":
				return proxy.Answer(f, 200, "text/plain", []byte(okBody))
			}
			return next(ctx, f)
		}
	})
	before := heap()
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, h := range hostiles(origin) {
		for range each {
			conn := w.dial()
			wg.Go(func() {
				defer conn.Close()
				if h.want == "" {
					h.say(w, conn)
					return
				}
				wg.Go(func() { h.say(w, conn) })
				if got := ending(conn); !strings.Contains(h.want, got) {
					t.Errorf("%s: %s, want %s", h.name, got, h.want)
				}
			})
		}
	}
	for range each {
		one, two := w.dial(), w.dial()
		write(t, one, "GET http://x/unending HTTP/1.1\r\n\r\n")
		fr := speak2(two)
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: ask2("/unending"), EndStream: true, EndHeaders: true})
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	answers := 0
	for conn, over := w.dial(), false; !over; answers++ {
		write(t, conn, get("x", ""))
		read(t, conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nCache-Control: no-store\r\n\r\nok")
		select {
		case <-ended:
			over = true
		default:
		}
	}
	eventually(t, "every flow ends", func() bool { return w.begun.Load() == w.over.Load() })
	const most = 16 << 20
	if grown := heap() - before; grown > most {
		t.Errorf("%d bytes more are held than before, want at most %d", grown, most)
	}
	t.Logf("%d answers", answers)
}

// heap is what is held after a collection, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestLargeHeadsAreBounded has all slots taken: further large heads are told
// so, small ones pass, and large ones do again once a slot is free.
func TestLargeHeadsAreBounded(t *testing.T) {
	answer := make(chan struct{})
	w := newWorld(t, proxy.Config{Limits: proxy.Limits{LargeHeads: 2, Head: 2 * time.Second, Linger: short}}, upstream.Config{}, func(flow.Handler) flow.Handler {
		return func(_ context.Context, f *flow.Flow) error {
			if len(f.Request.Bytes()) > wire.LargeHead {
				<-answer
			}
			return proxy.Answer(f, 200, "text/plain", []byte(okBody))
		}
	})
	large := get("x", "X: "+strings.Repeat("a", 100<<10)+"\r\n")
	held := []net.Conn{w.dial(), w.dial()}
	for _, conn := range held {
		write(t, conn, large)
	}
	eventually(t, "both flows begin", func() bool { return w.begun.Load() == 2 })

	late := w.dial()
	write(t, late, large)
	if status, text := readProblem(t, late); status != 503 || !strings.Contains(text, "large_heads") {
		t.Errorf("%d, %s", status, text)
	}
	small := w.dial()
	write(t, small, get("x", ""))
	read(t, small, "HTTP/1.1 200 OK\r\n")

	two := w.dial()
	fr := speak2(two)
	ask := func(id uint32) string {
		fields := []hpack.HeaderField{}
		for range 30 {
			fields = append(fields, hpack.HeaderField{Name: "x", Value: strings.Repeat("a", 3000)})
		}
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: ask2("/", fields...), EndStream: true, EndHeaders: true})
		return told(t, two, fr)
	}
	if got := ask(1); !strings.Contains(got, ":status: 503") {
		t.Errorf("by HTTP/2:\n%s", got)
	}
	close(answer)
	for _, conn := range held {
		read(t, conn, "HTTP/1.1 200 OK\r\n")
	}
	eventually(t, "the slots are free", func() bool { return w.over.Load() >= 3 })
	again := w.dial()
	write(t, again, large)
	read(t, again, "HTTP/1.1 200 OK\r\n")
	if got := ask(3); !strings.Contains(got, ":status: 200") {
		t.Errorf("by HTTP/2, once a slot is free:\n%s", got)
	}
}
