package proxy_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// told reads frames until a stream ends, and writes them as text.
func told(t *testing.T, conn net.Conn, fr *http2.Framer) string {
	t.Helper()
	var b strings.Builder
	var fields []string
	dec := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		mark := ""
		if f.Sensitive {
			mark = " (never indexed)"
		}
		fields = append(fields, f.Name+": "+f.Value+mark)
	})
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Errorf("after\n%s%v", b.String(), err)
			return b.String()
		}
		h := f.Header()
		fmt.Fprintf(&b, "%v %d", h.Type, h.StreamID)
		ended := false
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				b.WriteString(" ack")
			}
			f.ForeachSetting(func(s http2.Setting) error { fmt.Fprintf(&b, " %v", s); return nil })
		case *http2.WindowUpdateFrame:
			fmt.Fprintf(&b, " +%d", f.Increment)
		case *http2.HeadersFrame:
			fields = nil
			dec.Write(f.HeaderBlockFragment())
			ended = f.StreamEnded()
			for _, line := range fields {
				b.WriteString("\n  " + line)
			}
		case *http2.DataFrame:
			ended = f.StreamEnded()
			fmt.Fprintf(&b, " %q", f.Data())
		}
		if ended {
			b.WriteString(" end\n")
			return b.String()
		}
		b.WriteByte('\n')
	}
}

// TestTheFramesOfOneExchange is what both ends see of a request with a body and
// trailers both ways, frame by frame.
func TestTheFramesOfOneExchange(t *testing.T) {
	w := newWorld2(t, proxy.Config{}, upstream.Config{}, nil)
	ln := listen2(t, w, "h2")
	at := authorityOf(ln)
	origin := make(chan string, 1)
	go func() {
		raw, err := ln.Accept()
		if err != nil {
			origin <- err.Error()
			return
		}
		defer raw.Close()
		raw.SetDeadline(time.Now().Add(patience))
		preface := make([]byte, len(h2.Preface))
		io.ReadFull(raw, preface)
		fr := http2.NewFramer(raw, raw)
		fr.WriteSettings()
		origin <- string(preface) + told(t, raw, fr)
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: block2(":status", "200", "content-type", "application/grpc")})
		fr.WriteData(1, false, []byte("answer"))
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: block2("grpc-status", "0")})
		raw.(*tls.Conn).CloseWrite()
		io.Copy(io.Discard, raw)
	}()
	conn := w.secure2(w.tunnel(at), "h2", "http/1.1")
	io.WriteString(conn, h2.Preface)
	fr := http2.NewFramer(conn, conn)
	fr.WriteSettings()
	block := block2(":method", "POST", ":authority", "shop.example", ":path", "/svc", ":scheme", "https", "te", "trailers", "cookie", "a=1", "cookie", "b=2")
	block = append(block, "\x10\x01k\x06secret"...) // never indexed, RFC 7541 §6.2.3
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: block})
	fr.WriteData(1, false, []byte("question"))
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: block2("x-sum", "8")})
	wantOrigin := h2.Preface + `SETTINGS 0 [INITIAL_WINDOW_SIZE = 262144] [MAX_HEADER_LIST_SIZE = HEAD] [ENABLE_PUSH = 0]
WINDOW_UPDATE 0 +16711681
HEADERS 1
  :method: POST
  :authority: shop.example
  :path: /svc
  :scheme: https
  te: trailers
  cookie: a=1
  cookie: b=2
  k: secret (never indexed)
DATA 1 "question"
HEADERS 1
  x-sum: 8 end
`
	wantClient := `SETTINGS 0 [INITIAL_WINDOW_SIZE = 262144] [MAX_HEADER_LIST_SIZE = HEAD] [MAX_CONCURRENT_STREAMS = 256] [ENABLE_CONNECT_PROTOCOL = 1]
WINDOW_UPDATE 0 +4128769
SETTINGS 0 ack
HEADERS 1
  :status: 200
  content-type: application/grpc
DATA 1 "answer"
HEADERS 1
  grpc-status: 0 end
`
	list := fmt.Sprint(wire.DefaultHead)
	got := strings.Replace(<-origin, "SETTINGS 0 ack\n", "", 1) // its place depends on who is faster
	if want := strings.Replace(wantOrigin, "HEAD]", list+"]", 1); got != want {
		t.Errorf("the origin saw\n%s\nwant\n%s", got, want)
	}
	if got, want := told(t, conn, fr), strings.Replace(wantClient, "HEAD]", list+"]", 1); got != want {
		t.Errorf("the client saw\n%s\nwant\n%s", got, want)
	}
}
