package h2_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// peer writes frames as it likes, and tells what it reads as text.
type peer struct {
	t   testing.TB
	raw net.Conn
	fr  *http2.Framer
	buf bytes.Buffer
	enc *hpack.Encoder
}

func newPeer(t testing.TB, raw net.Conn) *peer {
	p := &peer{t: t, raw: raw, fr: http2.NewFramer(raw, raw)}
	p.fr.AllowIllegalWrites, p.fr.AllowIllegalReads = true, true
	p.enc = hpack.NewEncoder(&p.buf)
	return p
}

// block compresses fields, "name= value".
func (p *peer) block(fields ...string) []byte {
	p.buf.Reset()
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "= ")
		p.enc.WriteField(hpack.HeaderField{Name: name, Value: value})
	}
	return bytes.Clone(p.buf.Bytes())
}

// head sends HEADERS, and END_STREAM if end says so.
func (p *peer) head(id uint32, end bool, fields ...string) {
	p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(fields...), EndStream: end, EndHeaders: true})
}

func (p *peer) get(id uint32, more ...string) {
	p.head(id, true, append([]string{":method= GET", ":scheme= https", ":path= /", ":authority= x"}, more...)...)
}

func (p *peer) post(id uint32, more ...string) {
	p.head(id, false, append([]string{":method= POST", ":scheme= https", ":path= /", ":authority= x"}, more...)...)
}

func (p *peer) frame(kind http2.FrameType, flags http2.Flags, id uint32, payload string) {
	p.fr.WriteRawFrame(kind, flags, id, []byte(payload))
}

// outcome reads until something decides about stream or connection: an error
// code of either, "closed", "ping" for the answer to a PING, or "answer" for
// END_STREAM on a stream.
func (p *peer) outcome() string {
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			return "closed"
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				return "connection " + f.ErrCode.String()
			}
		case *http2.RSTStreamFrame:
			return "stream " + f.ErrCode.String()
		case *http2.PingFrame:
			if f.IsAck() {
				return "ping"
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				return "answer"
			}
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				return "answer"
			}
		}
	}
}

func (p *peer) ping() { p.fr.WritePing(false, [8]byte{1}) }

// A conform is one case: what a peer does, and what has to come of it; one of
// several where RFC 9113 leaves the choice.
type conform struct {
	section, name, want string
	do                  func(p *peer)
}

var frameCases = []conform{
	{"3.4", "the first frame is no SETTINGS", "connection PROTOCOL_ERROR", nil},
	{"4.1", "a frame of unknown type", "ping", func(p *peer) { p.frame(0xbe, 0xff, 0, "12345678"); p.ping() }},
	{"4.1", "undefined flags on PING", "ping", func(p *peer) { p.frame(http2.FramePing, 0x16, 0, "12345678") }},
	{"4.1", "the reserved bit of a stream number", "ping", func(p *peer) { p.frame(http2.FramePing, 0, 1<<31, "12345678") }},
	{"4.2", "DATA of the largest allowed size", "answer", func(p *peer) {
		p.post(1)
		p.fr.WriteData(1, true, make([]byte, 1<<14))
	}},
	{"4.2", "DATA beyond the allowed size", "connection FRAME_SIZE_ERROR", func(p *peer) {
		p.post(1)
		p.fr.WriteData(1, true, make([]byte, 1<<14+1))
	}},
	{"4.2", "HEADERS beyond the allowed size", "connection FRAME_SIZE_ERROR", func(p *peer) {
		p.frame(http2.FrameHeaders, 5, 1, strings.Repeat("\x00", 1<<14+1))
	}},
	{"4.3", "a block that does not decode", "connection COMPRESSION_ERROR", func(p *peer) { p.frame(http2.FrameHeaders, 5, 1, "\x40") }},
	{"4.3", "PRIORITY inside a block", "connection PROTOCOL_ERROR", func(p *peer) {
		p.frame(http2.FrameHeaders, 1, 1, "\x82")
		p.frame(http2.FramePriority, 0, 1, "\x00\x00\x00\x00\x01")
	}},
	{"4.3", "HEADERS of another stream inside a block", "connection PROTOCOL_ERROR", func(p *peer) {
		p.frame(http2.FrameHeaders, 1, 1, "\x82")
		p.frame(http2.FrameHeaders, 5, 3, "\x82")
	}},
	{"5.1", "idle: DATA", "connection PROTOCOL_ERROR", func(p *peer) { p.fr.WriteData(1, true, []byte("x")) }},
	{"5.1", "idle: RST_STREAM", "connection PROTOCOL_ERROR", func(p *peer) { p.fr.WriteRSTStream(1, 8) }},
	{"5.1", "idle: WINDOW_UPDATE", "connection PROTOCOL_ERROR", func(p *peer) { p.fr.WriteWindowUpdate(1, 100) }},
	{"5.1", "idle: CONTINUATION", "connection PROTOCOL_ERROR", func(p *peer) { p.frame(http2.FrameContinuation, 4, 1, "\x82") }},
	{"5.1", "half-closed: DATA", "stream STREAM_CLOSED", func(p *peer) { p.get(1, "hold= 1"); p.fr.WriteData(1, true, []byte("x")) }},
	{"5.1", "half-closed: HEADERS", "stream STREAM_CLOSED", func(p *peer) { p.get(1, "hold= 1"); p.get(1) }},
	{"5.1", "half-closed: CONTINUATION", "connection PROTOCOL_ERROR", func(p *peer) {
		p.get(1, "hold= 1")
		p.frame(http2.FrameContinuation, 4, 1, "\x82")
	}},
	{"5.1", "closed by RST_STREAM: DATA", "stream STREAM_CLOSED", func(p *peer) {
		p.post(1, "hold= 1")
		p.fr.WriteRSTStream(1, 8)
		p.fr.WriteData(1, true, []byte("x"))
	}},
	{"5.1", "closed by RST_STREAM: HEADERS", "connection STREAM_CLOSED", func(p *peer) {
		p.post(1, "hold= 1")
		p.fr.WriteRSTStream(1, 8)
		p.get(1)
	}},
	{"5.1", "closed: DATA", "stream STREAM_CLOSED", func(p *peer) { p.get(1); p.outcome(); p.fr.WriteData(1, true, []byte("x")) }},
	{"5.1", "closed: HEADERS", "connection STREAM_CLOSED", func(p *peer) { p.get(1); p.outcome(); p.get(1) }},
	{"5.1", "closed: WINDOW_UPDATE is late, not wrong", "ping", func(p *peer) { p.get(1); p.outcome(); p.fr.WriteWindowUpdate(1, 200); p.ping() }},
	{"5.1.1", "an even number", "connection PROTOCOL_ERROR", func(p *peer) { p.get(2) }},
	{"5.1.1", "a lower number", "connection STREAM_CLOSED", func(p *peer) { p.get(5); p.outcome(); p.get(3) }},
	{"5.1.2", "more streams than allowed", "stream REFUSED_STREAM", func(p *peer) {
		for id := uint32(1); id <= 5*2+1; id += 2 {
			p.get(id, "hold= 1")
		}
	}},
	{"5.3.1", "HEADERS that depend on themselves", "stream PROTOCOL_ERROR", func(p *peer) {
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true,
			BlockFragment: p.block(":method= GET", ":scheme= https", ":path= /"), Priority: http2.PriorityParam{StreamDep: 1, Weight: 3}})
	}},
	{"5.3.1", "PRIORITY that depends on itself", "connection PROTOCOL_ERROR", func(p *peer) { p.frame(http2.FramePriority, 0, 1, "\x00\x00\x00\x01\x01") }},
	{"5.3", "PRIORITY is tolerated", "ping", func(p *peer) { p.frame(http2.FramePriority, 0, 7, "\x00\x00\x00\x03\x01"); p.ping() }},
	{"5.5", "an unknown frame inside a block", "connection PROTOCOL_ERROR", func(p *peer) {
		p.frame(http2.FrameHeaders, 1, 1, "\x82")
		p.frame(0xbe, 0, 1, "x")
	}},
	{"6.1", "DATA on stream 0", "connection PROTOCOL_ERROR", func(p *peer) { p.fr.WriteData(0, true, []byte("x")) }},
	{"6.1", "DATA with more padding than payload", "connection PROTOCOL_ERROR", func(p *peer) {
		p.post(1)
		p.frame(http2.FrameData, 9, 1, "\x09abc")
	}},
	{"6.1", "DATA with padding", "answer", func(p *peer) { p.post(1); p.frame(http2.FrameData, 9, 1, "\x02abc\x00\x00") }},
	{"6.2", "HEADERS on stream 0", "connection PROTOCOL_ERROR", func(p *peer) { p.get(0) }},
	{"6.2", "HEADERS with more padding than payload", "connection PROTOCOL_ERROR", func(p *peer) { p.frame(http2.FrameHeaders, 0xd, 1, "\x09\x82") }},
	{"6.2", "HEADERS with priority and padding", "answer", func(p *peer) {
		p.frame(http2.FrameHeaders, 0x2d, 1, "\x01\x00\x00\x00\x00\x0f"+string(p.block(":method= GET", ":scheme= https", ":path= /"))+"\x00")
	}},
	{"6.3", "PRIORITY on stream 0", "connection PROTOCOL_ERROR", func(p *peer) { p.frame(http2.FramePriority, 0, 0, "\x00\x00\x00\x01\x01") }},
	{"6.3", "PRIORITY of four bytes", "connection FRAME_SIZE_ERROR", func(p *peer) { p.frame(http2.FramePriority, 0, 1, "\x00\x00\x00\x03") }},
	{"6.4", "RST_STREAM on stream 0", "connection PROTOCOL_ERROR", func(p *peer) { p.fr.WriteRSTStream(0, 8) }},
	{"6.4", "RST_STREAM of three bytes", "connection FRAME_SIZE_ERROR", func(p *peer) { p.post(1, "hold= 1"); p.frame(http2.FrameRSTStream, 0, 1, "\x00\x00\x00") }},
	{"6.5", "SETTINGS ACK with payload", "connection FRAME_SIZE_ERROR", func(p *peer) { p.frame(http2.FrameSettings, 1, 0, "\x00\x00\x00\x00\x00\x00") }},
	{"6.5", "SETTINGS on a stream", "connection PROTOCOL_ERROR", func(p *peer) { p.frame(http2.FrameSettings, 0, 1, "") }},
	{"6.5", "SETTINGS of five bytes", "connection FRAME_SIZE_ERROR", func(p *peer) { p.frame(http2.FrameSettings, 0, 0, "\x00\x03\x00\x00\x00") }},
	{"6.5.2", "ENABLE_PUSH 2", "connection PROTOCOL_ERROR", func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: 2, Val: 2}) }},
	{"6.5.2", "INITIAL_WINDOW_SIZE 2^31", "connection FLOW_CONTROL_ERROR", func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: 4, Val: 1 << 31}) }},
	{"6.5.2", "MAX_FRAME_SIZE 16383", "connection PROTOCOL_ERROR", func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: 5, Val: 1<<14 - 1}) }},
	{"6.5.2", "MAX_FRAME_SIZE 2^24", "connection PROTOCOL_ERROR", func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: 5, Val: 1 << 24}) }},
	{"6.5.2", "an unknown setting", "ping", func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: 0xff, Val: 1}); p.ping() }},
	{"6.7", "PING", "ping", func(p *peer) { p.ping() }},
	{"6.7", "an unwanted PING ACK", "ping", func(p *peer) { p.fr.WritePing(true, [8]byte{}); p.ping() }},
	{"6.7", "PING on a stream", "connection PROTOCOL_ERROR", func(p *peer) { p.frame(http2.FramePing, 0, 1, "12345678") }},
	{"6.7", "PING of six bytes", "connection FRAME_SIZE_ERROR", func(p *peer) { p.frame(http2.FramePing, 0, 0, "123456") }},
	{"6.8", "GOAWAY on a stream", "connection PROTOCOL_ERROR", func(p *peer) { p.frame(http2.FrameGoAway, 0, 1, "\x00\x00\x00\x00\x00\x00\x00\x00") }},
	{"6.9", "WINDOW_UPDATE by nothing", "connection PROTOCOL_ERROR", func(p *peer) { p.frame(http2.FrameWindowUpdate, 0, 0, "\x00\x00\x00\x00") }},
	{"6.9", "WINDOW_UPDATE by nothing on a stream", "stream PROTOCOL_ERROR", func(p *peer) {
		p.post(1, "hold= 1")
		p.frame(http2.FrameWindowUpdate, 0, 1, "\x00\x00\x00\x00")
	}},
	{"6.9", "WINDOW_UPDATE of three bytes", "connection FRAME_SIZE_ERROR", func(p *peer) { p.frame(http2.FrameWindowUpdate, 0, 0, "\x00\x00\x01") }},
	{"6.9.1", "the connection's window beyond 2^31-1", "connection FLOW_CONTROL_ERROR", func(p *peer) {
		p.fr.WriteWindowUpdate(0, 1<<31-1)
		p.fr.WriteWindowUpdate(0, 1<<31-1)
	}},
	{"6.9.1", "a stream's window beyond 2^31-1", "stream FLOW_CONTROL_ERROR", func(p *peer) {
		p.post(1, "hold= 1")
		p.fr.WriteWindowUpdate(1, 1<<31-1)
		p.fr.WriteWindowUpdate(1, 1<<31-1)
	}},
	{"6.9.1", "a window of one byte is kept to", "one byte", func(p *peer) {
		p.fr.WriteSettings(http2.Setting{ID: 4, Val: 1})
		p.get(1)
	}},
	{"6.9.2", "a window that shrinks below nothing", "answer", func(p *peer) {
		p.fr.WriteSettings(http2.Setting{ID: 4, Val: 3})
		p.get(1)
		p.fr.WriteSettings(http2.Setting{ID: 4, Val: 2})
		p.fr.WriteWindowUpdate(1, 1<<20)
	}},
	{"6.9.2", "INITIAL_WINDOW_SIZE makes a window too large", "connection FLOW_CONTROL_ERROR", func(p *peer) {
		p.post(1, "hold= 1")
		p.fr.WriteWindowUpdate(1, 1<<31-1-65535)
		p.fr.WriteSettings(http2.Setting{ID: 4, Val: 1<<31 - 1})
	}},
	{"6.9.1", "more DATA than the window", "stream FLOW_CONTROL_ERROR", func(p *peer) {
		p.post(1, "hold= 1")
		for range 17 {
			p.fr.WriteData(1, false, make([]byte, 1<<14))
		}
	}},
	{"6.10", "several CONTINUATION frames", "answer", func(p *peer) {
		b := p.block(":method= GET", ":scheme= https", ":path= /")
		p.frame(http2.FrameHeaders, 1, 1, string(b[:1]))
		p.frame(http2.FrameContinuation, 0, 1, string(b[1:2]))
		p.frame(http2.FrameContinuation, 4, 1, string(b[2:]))
	}},
	{"6.10", "CONTINUATION behind END_HEADERS", "connection PROTOCOL_ERROR", func(p *peer) {
		p.post(1, "hold= 1")
		p.frame(http2.FrameContinuation, 4, 1, "\x82")
	}},
	{"6.10", "CONTINUATION on stream 0", "connection PROTOCOL_ERROR", func(p *peer) {
		p.frame(http2.FrameHeaders, 1, 1, "\x82")
		p.frame(http2.FrameContinuation, 4, 0, "\x82")
	}},
	{"8.4", "PUSH_PROMISE of a client", "connection PROTOCOL_ERROR", func(p *peer) {
		p.post(1, "hold= 1")
		p.frame(http2.FramePushPromise, 4, 1, "\x00\x00\x00\x02\x82")
	}},
}

var messageCases = []conform{
	{"8.1", "a second head without END_STREAM", "stream PROTOCOL_ERROR", func(p *peer) { p.post(1, "hold= 1"); p.head(1, false, "x= y") }},
	{"8.1", "trailers", "answer", func(p *peer) { p.post(1); p.head(1, true, "x= y") }},
	{"8.1", "a pseudo-header among the trailers", "stream PROTOCOL_ERROR", func(p *peer) { p.post(1, "hold= 1"); p.head(1, true, ":method= GET") }},
	{"8.1.1", "a body shorter than Content-Length", "stream PROTOCOL_ERROR", func(p *peer) {
		p.post(1, "hold= 1", "content-length= 4")
		p.fr.WriteData(1, true, []byte("abc"))
	}},
	{"8.1.1", "a body longer than Content-Length, in two frames", "stream PROTOCOL_ERROR", func(p *peer) {
		p.post(1, "hold= 1", "content-length= 1")
		p.fr.WriteData(1, false, []byte("a"))
		p.fr.WriteData(1, true, []byte("b"))
	}},
	{"8.1.1", "no body but Content-Length", "stream PROTOCOL_ERROR", func(p *peer) { p.get(1, "content-length= 4") }},
	{"8.1.1", "lengths that differ", "stream PROTOCOL_ERROR", func(p *peer) { p.post(1, "content-length= 1", "content-length= 2") }},
	{"8.2.1", "an upper case name", "stream PROTOCOL_ERROR", func(p *peer) { p.get(1, "X-Test= ok") }},
	{"8.2.1", "a colon in a name", "stream PROTOCOL_ERROR", func(p *peer) { p.get(1, "x:y= ok") }},
	{"8.2.1", "a space in a name", "stream PROTOCOL_ERROR", func(p *peer) { p.get(1, "x y= ok") }},
	{"8.2.1", "a line feed in a value", "stream PROTOCOL_ERROR", func(p *peer) { p.get(1, "x= a\nb: c") }},
	{"8.2.1", "CR in :path", "stream PROTOCOL_ERROR", func(p *peer) { p.head(1, true, ":method= GET", ":scheme= https", ":path= /\r\nx: y") }},
	{"8.2.2", "Connection", "stream PROTOCOL_ERROR", func(p *peer) { p.get(1, "connection= keep-alive") }},
	{"8.2.2", "Transfer-Encoding", "stream PROTOCOL_ERROR", func(p *peer) { p.post(1, "transfer-encoding= chunked") }},
	{"8.2.2", "TE other than trailers", "stream PROTOCOL_ERROR", func(p *peer) { p.get(1, "te= trailers, deflate") }},
	{"8.2.2", "TE: trailers", "answer", func(p *peer) { p.get(1, "te= trailers") }},
	{"8.3", "an unknown pseudo-header", "stream PROTOCOL_ERROR", func(p *peer) { p.head(1, true, ":method= GET", ":scheme= https", ":path= /", ":test= ok") }},
	{"8.3", ":status in a request", "stream PROTOCOL_ERROR", func(p *peer) { p.head(1, true, ":method= GET", ":scheme= https", ":path= /", ":status= 200") }},
	{"8.3", "a pseudo-header behind a field", "stream PROTOCOL_ERROR", func(p *peer) { p.head(1, true, ":method= GET", ":scheme= https", "x= y", ":path= /") }},
	{"8.3.1", "an empty :path", "stream PROTOCOL_ERROR", func(p *peer) { p.head(1, true, ":method= GET", ":scheme= https", ":path= ") }},
	{"8.3.1", "no :method", "stream PROTOCOL_ERROR", func(p *peer) { p.head(1, true, ":scheme= https", ":path= /") }},
	{"8.3.1", "no :scheme", "stream PROTOCOL_ERROR", func(p *peer) { p.head(1, true, ":method= GET", ":path= /") }},
	{"8.3.1", "no :path", "stream PROTOCOL_ERROR", func(p *peer) { p.head(1, true, ":method= GET", ":scheme= https") }},
	{"8.3.1", ":method twice", "stream PROTOCOL_ERROR", func(p *peer) { p.head(1, true, ":method= GET", ":method= GET", ":scheme= https", ":path= /") }},
	{"8.3.1", ":scheme twice", "stream PROTOCOL_ERROR", func(p *peer) {
		p.head(1, true, ":method= GET", ":scheme= https", ":scheme= https", ":path= /")
	}},
	{"8.3.1", ":path twice", "stream PROTOCOL_ERROR", func(p *peer) { p.head(1, true, ":method= GET", ":scheme= https", ":path= /", ":path= /") }},
	{"8.5", "CONNECT with a path", "stream PROTOCOL_ERROR", func(p *peer) { p.head(1, true, ":method= CONNECT", ":authority= x", ":path= /") }},
}

// rawBlock sends bytes as a whole header block.
func rawBlock(block string) func(p *peer) {
	return func(p *peer) { p.frame(http2.FrameHeaders, 5, 1, block) }
}

// request is a block of static indexes: GET, https, / (RFC 7541 appendix A).
const request = "\x82\x87\x84"

var hpackCases = []conform{
	{"7541 2.3.3", "an index beyond the tables", "connection COMPRESSION_ERROR", rawBlock(request + "\xff\x46")},
	{"7541 4.2", "a table size update behind a field", "connection COMPRESSION_ERROR", rawBlock(request + "\x20")},
	{"7541 4.2", "a table size update in front", "answer", rawBlock("\x20" + request)},
	{"7541 4.2", "two table size updates in front", "answer", rawBlock("\x20\x3f\xe1\x1f" + request)},
	{"7541 5.2", "Huffman padding longer than 7 bits", "connection COMPRESSION_ERROR", rawBlock(request + "\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")},
	{"7541 5.2", "Huffman padding of zeros", "connection COMPRESSION_ERROR", rawBlock(request + "\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90")},
	{"7541 5.2", "EOS inside a string", "connection COMPRESSION_ERROR", rawBlock(request + "\x00\x85\xf2\xb2\x4a\x84\xff\x88\xf9\x63\xe7\xff\xff\xff\xff\xff")},
	{"7541 6.1", "index 0", "connection COMPRESSION_ERROR", rawBlock(request + "\x80")},
	{"7541 6.2", "literals of every form", "answer", rawBlock(request + "\x40\x01a\x01b" + "\x00\x01c\x01d" + "\x10\x01e\x01f" + "\xbe")},
	{"7541 6.3", "a table size beyond the setting", "connection COMPRESSION_ERROR", rawBlock("\x3f\xe2\x1f" + request)},
	{"7541 5.1", "an integer without end", "connection COMPRESSION_ERROR", rawBlock(request + "\xff\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")},
	{"7541 5.2", "a string longer than the block", "connection COMPRESSION_ERROR", rawBlock(request + "\x00\x05ab")},
}

func TestServerConformance(t *testing.T) {
	for _, c := range append(append(frameCases, messageCases...), hpackCases...) {
		t.Run(c.section+" "+c.name, func(t *testing.T) { c.run(t, h2.Config{Limits: h2.Limits{Streams: 5}}) })
	}
}

// run has the peer do what the case says to a server.
func (c *conform) run(t *testing.T, cfg h2.Config) {
	client, server := pair(t)
	hold := make(chan struct{})
	defer close(hold)
	serve(t, server, cfg, func(s *h2.Stream) {
		if s.Request().Has("hold") {
			<-hold
			return
		}
		if b := s.Body(); b != nil {
			if _, err := readAll(b); err != nil {
				return
			}
		}
		s.WriteHead(head(":status= 200"), false)
		s.Write([]byte("hello"), true)
		s.Flush()
	})
	p := newPeer(t, client)
	io.WriteString(client, h2.Preface)
	if c.do == nil {
		p.ping()
	} else {
		p.fr.WriteSettings()
		c.do(p)
	}
	if c.want == "one byte" {
		oneByte(t, p)
		return
	}
	if got := p.outcome(); got != c.want {
		t.Errorf("%s, want %s", got, c.want)
	}
}

// oneByte expects the answer's body to begin with one byte alone.
func oneByte(t *testing.T, p *peer) {
	t.Helper()
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := f.(*http2.DataFrame); ok {
			if len(d.Data()) != 1 {
				t.Errorf("%d bytes came, the window was one", len(d.Data()))
			}
			return
		}
	}
}

func TestAnInvalidPreface(t *testing.T) {
	client, server := pair(t)
	srv := serve(t, server, h2.Config{}, func(*h2.Stream) {})
	io.WriteString(client, "GET / HTTP/1.1\r\n\r\n")
	if got := newPeer(t, client).outcome(); got != "connection PROTOCOL_ERROR" {
		t.Error(got)
	}
	var fault *h2.ConnError
	if err := srv.ended(t); !errors.As(err, &fault) || fault.Code != h2.ProtocolError {
		t.Errorf("Run returned %v", err)
	}
}

// floods are what Limits are for.
var floods = []conform{
	{"", "PING", "connection ENHANCE_YOUR_CALM", func(p *peer) { p.ping() }},
	{"", "SETTINGS", "connection ENHANCE_YOUR_CALM", func(p *peer) { p.fr.WriteSettings() }},
	{"", "empty DATA", "connection ENHANCE_YOUR_CALM", func(p *peer) { p.fr.WriteData(1, false, nil) }},
	{"", "PRIORITY", "connection ENHANCE_YOUR_CALM", func(p *peer) { p.frame(http2.FramePriority, 0, 9, "\x00\x00\x00\x03\x01") }},
	{"", "tiny window updates", "connection ENHANCE_YOUR_CALM", func(p *peer) { p.fr.WriteWindowUpdate(0, 1) }},
	{"", "unknown frames", "connection ENHANCE_YOUR_CALM", func(p *peer) { p.frame(0xbe, 0, 0, "") }},
}

func TestFloodsEndTheConnection(t *testing.T) {
	for _, c := range floods {
		t.Run(c.name, func(t *testing.T) {
			client, server := pair(t)
			hold := make(chan struct{})
			defer close(hold)
			srv := serve(t, server, h2.Config{}, func(s *h2.Stream) { <-hold })
			p := newPeer(t, client)
			io.WriteString(client, h2.Preface)
			p.fr.WriteSettings()
			p.post(1)
			go io.Copy(io.Discard, client)
			for range 5000 {
				c.do(p)
			}
			var fault *h2.ConnError
			if err := srv.ended(t); !errors.As(err, &fault) || fault.Code != h2.EnhanceYourCalm {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

func TestRapidResetRunsFewHandlers(t *testing.T) {
	client, server := pair(t)
	hold := make(chan struct{})
	handlers := make(chan bool, 1<<16)
	srv := serve(t, server, h2.Config{Limits: h2.Limits{Streams: 10}}, func(s *h2.Stream) {
		handlers <- true
		<-hold
	})
	p := newPeer(t, client)
	io.WriteString(client, h2.Preface)
	p.fr.WriteSettings()
	go io.Copy(io.Discard, client)
	for id := uint32(1); id < 20000; id += 2 {
		p.get(id)
		p.fr.WriteRSTStream(id, 8)
	}
	var fault *h2.ConnError
	if err := srv.ended(t); !errors.As(err, &fault) || fault.Code != h2.EnhanceYourCalm {
		t.Errorf("Run returned %v", err)
	}
	if n := len(handlers); n > 10 {
		t.Errorf("%d handlers ran for one client, 10 are allowed", n)
	}
	close(hold)
}

func TestHeadsAreBounded(t *testing.T) {
	for _, c := range []conform{
		{"", "many CONTINUATION frames", "connection ENHANCE_YOUR_CALM", func(p *peer) {
			p.frame(http2.FrameHeaders, 1, 1, "\x82")
			for range 100 {
				p.frame(http2.FrameContinuation, 0, 1, "")
			}
		}},
		{"", "a block without end", "connection ENHANCE_YOUR_CALM", func(p *peer) {
			p.frame(http2.FrameHeaders, 1, 1, "\x82")
			for range 100 {
				p.frame(http2.FrameContinuation, 0, 1, strings.Repeat("\x84", 1<<14))
			}
		}},
		{"", "a bomb: one large entry, referred to often", "431", func(p *peer) {
			p.frame(http2.FrameHeaders, 4, 1, request+"\x40\x01a\x7f\x81\x1e"+strings.Repeat("x", 4000)+strings.Repeat("\xbe", 12000))
			p.fr.WriteData(1, true, nil)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, server := pair(t)
			large := make(chan int, 1)
			serve(t, server, h2.Config{}, func(s *h2.Stream) {
				if s.TooLarge() {
					large <- len(text(&s.Request().Head))
				}
			})
			p := newPeer(t, client)
			io.WriteString(client, h2.Preface)
			p.fr.WriteSettings()
			if c.want == "431" {
				c.do(p)
				if n := <-large; n > 1<<20 {
					t.Errorf("%d bytes were kept of it", n)
				}
				return
			}
			go c.do(p)
			if got := p.outcome(); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestWaitsEnd(t *testing.T) {
	client, server := pair(t)
	limits := h2.Limits{}
	limits.Looks.Window, limits.Looks.Body = 3, 3
	failed := make(chan error, 1)
	srv := serve(t, server, h2.Config{Limits: limits}, func(s *h2.Stream) {
		s.WriteHead(head(":status= 200"), false)
		failed <- s.Write(make([]byte, 100), true)
	})
	p := newPeer(t, client)
	io.WriteString(client, h2.Preface)
	p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	p.get(1)
	for {
		srv.Look()
		select {
		case err := <-failed:
			if !errors.Is(err, h2.ErrWindow) {
				t.Errorf("writing ended with %v", err)
			}
			if got := p.outcome(); got != "stream CANCEL" {
				t.Errorf("the peer saw %s", got)
			}
			return
		default:
		}
	}
}

// TestClientConformance is the other side: what a hostile origin does to the
// request on stream 1.
func TestClientConformance(t *testing.T) {
	answer := func(fields ...string) func(p *peer) { return func(p *peer) { p.head(1, true, fields...) } }
	cases := []conform{
		{"6.5.2", "ENABLE_PUSH 1 of a server", "connection PROTOCOL_ERROR", func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: 2, Val: 1}) }},
		{"8.4", "PUSH_PROMISE that nobody allowed", "connection PROTOCOL_ERROR", func(p *peer) { p.frame(http2.FramePushPromise, 4, 1, "\x00\x00\x00\x02\x82") }},
		{"5.1", "HEADERS on an idle stream", "connection PROTOCOL_ERROR", func(p *peer) { p.head(3, true, ":status= 200") }},
		{"5.1.1", "HEADERS on an even stream", "connection PROTOCOL_ERROR", func(p *peer) { p.head(2, true, ":status= 200") }},
		{"8.1", "DATA before the head", "stream PROTOCOL_ERROR", func(p *peer) { p.fr.WriteData(1, true, []byte("x")) }},
		{"8.1", "an interim answer that ends the stream", "stream PROTOCOL_ERROR", answer(":status= 103")},
		{"8.1.1", "a body that contradicts Content-Length", "stream PROTOCOL_ERROR", func(p *peer) {
			p.head(1, false, ":status= 200", "content-length= 3")
			p.fr.WriteData(1, true, []byte("abcd"))
		}},
		{"8.1.1", "no body but Content-Length", "stream PROTOCOL_ERROR", answer(":status= 200", "content-length= 3")},
		{"8.2.1", "an upper case name", "stream PROTOCOL_ERROR", answer(":status= 200", "X-A= b")},
		{"8.2.1", "line ends in a value", "stream PROTOCOL_ERROR", answer(":status= 200", "x= a\r\nb: c")},
		{"8.2.2", "Transfer-Encoding", "stream PROTOCOL_ERROR", answer(":status= 200", "transfer-encoding= chunked")},
		{"8.3.2", "no :status", "stream PROTOCOL_ERROR", answer("x= y")},
		{"8.3.2", ":status twice", "stream PROTOCOL_ERROR", answer(":status= 200", ":status= 200")},
		{"8.3.2", ":status of two digits", "stream PROTOCOL_ERROR", answer(":status= 20")},
		{"8.3", "a pseudo-header of requests", "stream PROTOCOL_ERROR", answer(":status= 200", ":path= /")},
		{"8.6", "101", "stream PROTOCOL_ERROR", answer(":status= 101")},
		{"8.1", "too many interim answers", "stream ENHANCE_YOUR_CALM", func(p *peer) {
			for range 100 {
				p.head(1, false, ":status= 103")
			}
		}},
	}
	for _, c := range frameCases { // those that do not depend on the side
		switch {
		case c.do == nil, strings.Contains(c.want, "answer"), strings.Contains(c.want, "byte"), c.section[0] == '8',
			strings.HasPrefix(c.section, "5.1"), strings.Contains(c.name, "depend"), c.section == "6.9.2", c.section == "6.9.1",
			strings.Contains(c.name, "HEADERS on"), strings.Contains(c.name, "inside"), strings.Contains(c.name, "RST_STREAM of"),
			strings.Contains(c.name, "CONTINUATION"), strings.Contains(c.name, "DATA"), strings.Contains(c.name, "on a stream"):
			continue
		}
		cases = append(cases, c)
	}
	cases = append(cases, conform{"6.9.1", "more DATA than the window", "stream FLOW_CONTROL_ERROR", func(p *peer) {
		p.head(1, false, ":status= 200")
		for range 17 {
			p.fr.WriteData(1, false, make([]byte, 1<<14))
		}
	}})
	cases = append(cases, originCases()...)
	for _, c := range cases {
		t.Run(c.section+" "+c.name, func(t *testing.T) {
			server, client := pair(t)
			conn := run(t, client, h2.Config{Client: true})
			s, err := conn.Open(head(":method= GET", ":scheme= https", ":path= /"), true)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Done()
			s.Flush()
			p := newPeer(t, server)
			if _, err := io.ReadFull(server, make([]byte, len(h2.Preface))); err != nil {
				t.Fatal(err)
			}
			if got := p.outcome(); got != "answer" {
				t.Fatalf("the request did not come: %s", got)
			}
			p.fr.WriteSettings()
			c.do(p)
			if got := p.outcome(); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestGoAwaySaysWhatWasNotProcessed(t *testing.T) {
	server, client := pair(t)
	conn := run(t, client, h2.Config{Client: true})
	var streams []*h2.Stream
	for range 2 {
		s, err := conn.Open(head(":method= POST", ":scheme= https", ":path= /"), true)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Done()
		streams = append(streams, s)
	}
	conn.Flush()
	p := newPeer(t, server)
	io.ReadFull(server, make([]byte, len(h2.Preface)))
	p.fr.WriteSettings()
	p.fr.WriteGoAway(1, http2.ErrCodeNo, []byte("bye"))
	p.head(1, true, ":status= 204")
	if r, err := streams[0].Head(); err != nil || r.Status() != 204 {
		t.Errorf("the stream that was to be answered ended with %v", err)
	}
	_, err := streams[1].Head()
	var refused *h2.StreamError
	if !errors.As(err, &refused) || !refused.Unprocessed {
		t.Errorf("the other stream ended with %v", err)
	}
	if _, err := conn.Open(head(":method= GET"), true); !errors.Is(err, h2.ErrNoStream) {
		t.Errorf("a further stream: %v", err)
	}
}

// TestAConnectionThatEndsAnywhere cuts a conversation at each byte: both sides
// end, and every stream has exactly one outcome.
func TestAConnectionThatEndsAnywhere(t *testing.T) {
	var script bytes.Buffer
	p := newPeer(t, nil)
	p.fr = http2.NewFramer(&script, nil)
	script.WriteString(h2.Preface)
	p.fr.WriteSettings()
	p.post(1, "content-length= 5")
	p.fr.WriteData(1, false, []byte("hel"))
	p.fr.WriteData(1, true, []byte("lo"))
	p.get(3)
	whole := script.Bytes()
	for cut := range len(whole) + 1 {
		client, server := pair(t)
		outcomes := make(chan string, 8)
		srv := serve(t, server, h2.Config{}, func(s *h2.Stream) {
			body := ""
			if b := s.Body(); b != nil {
				var err error
				if body, err = readAll(b); err != nil {
					outcomes <- "broken"
					return
				}
			}
			outcomes <- fmt.Sprintf("%d %q", s.ID(), body)
			s.WriteHead(head(":status= 200"), true)
			s.Flush()
		})
		client.Write(whole[:cut])
		client.(*net.TCPConn).CloseWrite()
		go io.Copy(io.Discard, client)
		if err := srv.ended(t); errors.As(err, new(*h2.ConnError)) {
			t.Errorf("cut at %d: %v, which is no fault of the peer", cut, err)
		}
		if cut == len(whole) {
			got := []string{<-outcomes, <-outcomes}
			if !(strings.Contains(strings.Join(got, " "), `1 "hello"`) && strings.Contains(strings.Join(got, " "), `3 ""`)) {
				t.Errorf("the whole conversation: %q", got)
			}
		}
	}
}
