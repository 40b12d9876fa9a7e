package proxy_test

import (
	"bytes"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

func block2(fields ...string) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

// TestAHostileLoadLeavesOthersAlone: streams that are reset as soon as they are
// made, by clients that never read, do not keep a well-behaved one from its
// answers.
func TestAHostileLoadLeavesOthersAlone(t *testing.T) {
	w := newWorld2(t, proxy.Config{}, upstream.Config{}, nil)
	ln := listen2(t, w, "h2")
	serveOrigin2(t, ln, h2.Config{}, func(s *h2.Stream) { s.WriteHead(head2(":status= 204"), true) })
	at := authorityOf(ln)
	good := client2(t, w.secure2(w.tunnel(at), "h2", "http/1.1"))
	var conns []net.Conn // made here: a failure may end only the test's own goroutine
	for range 3 {
		conns = append(conns, w.secure2(w.tunnel(at), "h2", "http/1.1"))
	}
	hostile := make(chan struct{})
	go func() {
		defer close(hostile)
		head := block2(":method", "GET", ":scheme", "https", ":path", "/", ":authority", "x")
		for _, conn := range conns {
			io.WriteString(conn, h2.Preface)
			fr := http2.NewFramer(conn, nil)
			fr.WriteSettings()
			for id := uint32(1); id < 10000; id += 2 {
				if fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true, BlockFragment: head}) != nil ||
					fr.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
					break
				}
			}
			conn.Close()
		}
	}()
	for over := false; !over; {
		select {
		case <-hostile:
			over = true // and once more, behind it
		default:
		}
		if r, _ := ask(t, good, get2(at, "/")); r.Status() != 204 {
			t.Errorf("status %d", r.Status())
		}
	}
}
