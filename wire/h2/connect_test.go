package h2_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"golang.org/x/net/http2"

	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// connectCases are sent to a server that offers extended CONNECT, RFC 8441 and
// RFC 9113 §8.5.
var connectCases = []conform{
	{"8441 4", "extended CONNECT", "answer", func(p *peer) { p.connect() }},
	{"8441 4", "a tunnel of an unknown protocol", "answer", func(p *peer) {
		p.head(1, true, ":method= CONNECT", ":protocol= foo", ":scheme= foo", ":path= /", ":authority= x")
	}},
	{"8441 4", "no :authority", "answer", func(p *peer) {
		p.head(1, true, ":method= CONNECT", ":protocol= websocket", ":scheme= https", ":path= /", "host= x")
	}},
	{"8441 4", ":protocol with GET", "stream PROTOCOL_ERROR", func(p *peer) {
		p.head(1, true, ":method= GET", ":protocol= websocket", ":scheme= https", ":path= /", ":authority= x")
	}},
	{"8441 4", "no :scheme", "stream PROTOCOL_ERROR", func(p *peer) {
		p.head(1, true, ":method= CONNECT", ":protocol= websocket", ":path= /", ":authority= x")
	}},
	{"8441 4", "no :path", "stream PROTOCOL_ERROR", func(p *peer) {
		p.head(1, true, ":method= CONNECT", ":protocol= websocket", ":scheme= https", ":authority= x")
	}},
	{"8441 4", ":protocol twice", "stream PROTOCOL_ERROR", func(p *peer) { p.connect(":protocol= websocket") }},
	{"8441 4", "an empty :protocol", "stream PROTOCOL_ERROR", func(p *peer) {
		p.head(1, true, ":method= CONNECT", ":protocol= ", ":scheme= https", ":path= /", ":authority= x")
	}},
	{"8441 4", ":protocol is no token", "stream PROTOCOL_ERROR", func(p *peer) {
		p.head(1, true, ":method= CONNECT", ":protocol= web socket", ":scheme= https", ":path= /", ":authority= x")
	}},
	{"8441 4", ":protocol behind a field", "stream PROTOCOL_ERROR", func(p *peer) {
		p.head(1, true, ":method= CONNECT", ":scheme= https", ":path= /", ":authority= x", "a= b", ":protocol= websocket")
	}},
	{"8441 4", ":authority twice", "stream PROTOCOL_ERROR", func(p *peer) { p.connect(":authority= y") }},
	{"8441 5", ":scheme wss", "stream PROTOCOL_ERROR", func(p *peer) {
		p.head(1, true, ":method= CONNECT", ":protocol= websocket", ":scheme= wss", ":path= /", ":authority= x")
	}},
	{"8.3.1", ":path without a slash", "stream PROTOCOL_ERROR", func(p *peer) {
		p.head(1, true, ":method= CONNECT", ":protocol= websocket", ":scheme= https", ":path= chat", ":authority= x")
	}},
	{"8.5", "CONNECT", "answer", func(p *peer) { p.head(1, true, ":method= CONNECT", ":authority= x:1") }},
	{"8.5", "CONNECT without :authority", "stream PROTOCOL_ERROR", func(p *peer) { p.head(1, true, ":method= CONNECT") }},
	{"8.5", "CONNECT with :authority twice", "stream PROTOCOL_ERROR", func(p *peer) { p.head(1, true, ":method= CONNECT", ":authority= x", ":authority= y") }},
	{"8.5", "CONNECT with a scheme", "stream PROTOCOL_ERROR", func(p *peer) { p.head(1, true, ":method= CONNECT", ":authority= x", ":scheme= https") }},
	{"8.5", "HEADERS inside a tunnel", "stream PROTOCOL_ERROR", func(p *peer) {
		p.head(1, false, ":method= CONNECT", ":protocol= websocket", ":scheme= https", ":path= /", ":authority= x")
		p.head(1, true, "x= y")
	}},
	{"8441 3", "the setting is neither 0 nor 1", "connection PROTOCOL_ERROR", func(p *peer) { p.fr.WriteSettings(http2.Setting{ID: 8, Val: 2}) }},
	{"8441 3", "the setting is taken back", "connection PROTOCOL_ERROR", func(p *peer) {
		p.fr.WriteSettings(http2.Setting{ID: 8, Val: 1})
		p.fr.WriteSettings(http2.Setting{ID: 8, Val: 0})
	}},
}

// connect sends a good extended CONNECT, with further pseudo-headers.
func (p *peer) connect(more ...string) {
	p.head(1, true, append([]string{":method= CONNECT", ":protocol= websocket", ":scheme= https", ":path= /", ":authority= x"}, more...)...)
}

func TestConnectConformance(t *testing.T) {
	for _, c := range connectCases {
		t.Run(c.section+" "+c.name, func(t *testing.T) { c.run(t, h2.Config{Connect: true}) })
	}
	refused := conform{want: "stream PROTOCOL_ERROR", do: func(p *peer) { p.connect() }}
	t.Run("8441 3 extended CONNECT, which was not offered", func(t *testing.T) { refused.run(t, h2.Config{}) })
	passed := conform{want: "answer", do: func(p *peer) { p.connect(":protocol= a b", ":authority= y") }}
	t.Run("malformed, and not refused", func(t *testing.T) { passed.run(t, h2.Config{Policy: wire.Lenient}) })
}

// opened is a tunnel between two connections.
func opened(t *testing.T, limits h2.Limits) (client, server *h2.Tunnel, c, s *running) {
	t.Helper()
	near, far := pair(t)
	got, over := make(chan *h2.Tunnel, 1), make(chan struct{})
	s = serve(t, far, h2.Config{Connect: true, Limits: limits}, func(s *h2.Stream) {
		s.WriteHead(head(":status= 200", "content-length= 3"), false) // which means nothing: RFC 9110 §8.6
		tunnel := s.Tunnel()
		s.Flush()
		got <- tunnel
		<-over
	})
	greeted := make(chan struct{})
	c = run(t, near, h2.Config{Client: true, Limits: limits, Greeted: func() { close(greeted) }})
	if <-greeted; !c.TakesConnect() {
		t.Fatal("extended CONNECT was not offered")
	}
	stream, err := c.Open(head(":method= CONNECT", ":protocol= websocket", ":scheme= https", ":path= /", ":authority= x", "content-length= 7"), false)
	if err != nil {
		t.Fatal(err)
	}
	stream.Flush()
	t.Cleanup(func() { stream.Done(); close(over) })
	if r, err := stream.Head(); err != nil || r.Status() != 200 {
		t.Fatal(r, err)
	}
	return stream.Tunnel(), <-got, c, s
}

func TestATunnelCarriesBytesBothWays(t *testing.T) {
	client, server, _, _ := opened(t, h2.Limits{})
	text := bytes.Repeat([]byte("tunnel "), 300_000) // more than the windows
	for _, way := range [][2]*h2.Tunnel{{client, server}, {server, client}} {
		go func() {
			way[0].Write(text)
			way[0].CloseWrite()
			way[0].CloseWrite() // again does nothing
		}()
		if got, err := io.ReadAll(way[1]); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%d bytes came (%v), want %d", len(got), err, len(text))
		}
	}
}

func TestATunnelIsReset(t *testing.T) {
	client, server, _, _ := opened(t, h2.Limits{})
	client.Write([]byte("last words"))
	client.Reset(h2.Cancel)
	got, err := io.ReadAll(server)
	var stream *h2.StreamError
	if string(got) != "last words" || !errors.As(err, &stream) || !stream.Remote || stream.Code != h2.Cancel {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := server.Write([]byte("more")); !errors.As(err, &stream) {
		t.Errorf("writing behind a reset: %v", err)
	}
}

// Only silence in both directions ends a tunnel, and other limits do not count.
func TestATunnelsSilence(t *testing.T) {
	limits := h2.Limits{}
	limits.Looks.Tunnel, limits.Looks.Body, limits.Looks.Head, limits.Looks.Window = 3, 1, 1, 1
	client, server, c, s := opened(t, limits)
	said := []byte("word")
	for range 20 {
		if _, err := server.Write(said); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, make([]byte, len(said))); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			c.Look()
			s.Look()
		}
	}
	for range 3 {
		c.Look()
	}
	_, err := client.Read(said)
	c.Flush() // as the one who is told does
	if !errors.Is(err, h2.ErrSilent) {
		t.Errorf("the silent side: %v", err)
	}
	var stream *h2.StreamError
	if _, err := server.Read(said); !errors.As(err, &stream) || stream.Code != h2.Cancel {
		t.Errorf("its peer: %v", err)
	}
}
