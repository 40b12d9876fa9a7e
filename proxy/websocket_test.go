package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

const socketKey = "dGhlIHNhbXBsZSBub25jZQ=="

// heard is what a flow's hooks were told.
type heard struct {
	mu       sync.Mutex
	messages []string
	closes   []string
}

func (h *heard) stage(next flow.Handler) flow.Handler {
	return func(ctx context.Context, f *flow.Flow) error {
		err := next(ctx, f)
		f.OnMessage(func(_ *flow.Flow, m *flow.Message) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.messages = append(h.messages, fmt.Sprintf("%s %s %.100s", m.From, m.Opcode, m.Data))
		})
		f.OnClose(func(_ *flow.Flow, c *flow.Close) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.closes = append(h.closes, fmt.Sprintf("%s %d after %d", c.From, c.Code, c.Messages))
		})
		return err
	}
}

func (h *heard) take() (messages, closes []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	messages, closes = h.messages, h.closes
	h.messages, h.closes = nil, nil
	return messages, closes
}

// A socketWorld is a proxy with a WebSocket open through it.
type socketWorld struct {
	*world
	heard *heard
	ln    net.Listener
	mode  string
}

func newSocketWorld(t testing.TB, mode string, listens bool) *socketWorld {
	s := &socketWorld{heard: new(heard), mode: mode}
	var stage flow.Stage
	if listens {
		stage = s.heard.stage
	}
	s.world = newWorld(t, proxy.Config{}, upstream.Config{}, stage)
	if s.ln = listen(t); strings.Contains(mode, "wss") {
		s.ln = listenTLS(t, s.ca, s.ln)
	}
	return s
}

// open makes the handshake and returns both ends.
func (s *socketWorld) open(extension string) (client, origin net.Conn) {
	s.t.Helper()
	host, target := authorityOf(s.ln), "/chat"
	switch s.mode {
	case "wss":
		client = s.secure(s.tunnel(host), "127.0.0.1")
	case "ws":
		client = s.tunnel(host)
	case "absolute http", "absolute ws", "absolute wss":
		client, target = s.dial(), strings.TrimPrefix(s.mode, "absolute ")+"://"+host+"/chat"
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := s.ln.Accept()
		if err != nil {
			conn = nil
		}
		accepted <- conn
	}()
	request := "Host: " + host + "\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: " + socketKey + "\r\nSec-WebSocket-Version: 13\r\n\r\n"
	write(s.t, client, "GET "+target+" HTTP/1.1\r\n"+request)
	if origin = <-accepted; origin == nil {
		s.t.Fatal("the proxy did not connect")
	}
	origin.SetDeadline(time.Now().Add(patience))
	s.t.Cleanup(func() { origin.Close() })
	read(s.t, origin, "GET /chat HTTP/1.1\r\n"+request)
	answer := "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + ws.Accept(socketKey) + "\r\n" + extension + "\r\n"
	write(s.t, origin, answer)
	read(s.t, client, answer)
	return client, origin
}

// streams are the cases of package ws, as bytes with their extension line.
func streams(t testing.TB) (all []struct {
	name, extension string
	wire            []byte
}) {
	t.Helper()
	files, err := filepath.Glob("../wire/ws/testdata/cases/*.txt")
	if err != nil || len(files) < 9 {
		t.Fatalf("%d files of cases (%v)", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for block := range strings.SplitSeq(strings.TrimSpace(string(raw)), "\n\n") {
			var c struct {
				name, extension string
				wire            []byte
			}
			for line := range strings.SplitSeq(block, "\n") {
				key, value, _ := strings.Cut(line, ": ")
				switch key {
				case "case":
					c.name = value
				case "extension":
					c.extension = "Sec-WebSocket-Extensions: " + value + "\r\n"
				case "wire":
					c.wire = append(c.wire, unpack(t, value)...)
				}
			}
			all = append(all, c)
		}
	}
	return all
}

// unpack reads the bytes of a case: see the README beside them.
func unpack(t testing.TB, text string) (b []byte) {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		if text[0] == '{' {
			inside, rest, _ := strings.Cut(text[1:], "}")
			count, what, _ := strings.Cut(inside, " ")
			n, err := strconv.Atoi(count)
			if err != nil {
				t.Fatal(err)
			}
			b, text = append(b, bytes.Repeat(unpack(t, what), n)...), rest
		} else if text[0] == '"' {
			plain, rest, _ := strings.Cut(text[1:], `"`)
			b, text = append(b, plain...), rest
		} else {
			word, rest, _ := strings.Cut(text, " ")
			one, err := hex.DecodeString(word)
			if err != nil {
				t.Fatal(err)
			}
			b, text = append(b, one...), rest
		}
	}
	return b
}

// Whatever is sent, in both directions at once, arrives as it was sent: nothing
// is decoded, closed or answered on the way.
func TestEveryWebSocketCaseIsRelayedVerbatim(t *testing.T) {
	for mode, step := range map[string]int{"wss": 0, "ws": 1, "absolute http": 0} {
		t.Run(mode, func(t *testing.T) {
			s := newSocketWorld(t, mode, true)
			for _, c := range streams(t) {
				client, origin := s.open(c.extension)
				errs := make(chan error, 2)
				send := func(to net.Conn) {
					for p := range slices.Chunk(c.wire, max(1, len(c.wire)/(1+7*step))) {
						if _, err := to.Write(p); err != nil {
							errs <- err
							return
						}
					}
					errs <- to.(interface{ CloseWrite() error }).CloseWrite()
				}
				go send(client)
				go send(origin)
				for side, conn := range map[string]net.Conn{"client": client, "origin": origin} {
					got, err := io.ReadAll(conn)
					if err != nil || !bytes.Equal(got, c.wire) {
						t.Errorf("%s: the %s got %d bytes (%v), want %d as sent", c.name, side, len(got), err, len(c.wire))
					}
				}
				for range 2 {
					if err := <-errs; err != nil {
						t.Errorf("%s: %v", c.name, err)
					}
				}
				client.Close()
				origin.Close()
			}
		})
	}
}

func text(op ws.Opcode, isMasked bool, payload string) string {
	return string(ws.AppendFrame(nil, ws.Header{Fin: true, Opcode: op, Masked: isMasked, Mask: [4]byte{9, 8, 7, 6}}, []byte(payload)))
}

func TestMessagesAreHeard(t *testing.T) {
	for _, mode := range []string{"wss", "ws", "absolute http", "absolute ws", "absolute wss"} {
		t.Run(mode, func(t *testing.T) {
			s := newSocketWorld(t, mode, true)
			client, origin := s.open("Sec-WebSocket-Extensions: permessage-deflate\r\n")
			write(t, client, text(ws.OpText, true, "hello"))
			read(t, origin, text(ws.OpText, true, "hello"))
			compressed := "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00" // RFC 7692 §7.2.3.2
			for i := range compressed {                                                      // each byte leaves at once
				write(t, origin, compressed[i:i+1])
				read(t, client, compressed[i:i+1])
			}
			bye := text(ws.OpClose, false, "\x11\x31bye")
			write(t, origin, bye)
			read(t, client, bye)
			// The close has been told before it arrived.
			if _, closes := s.heard.take(); !slices.Equal(closes, []string{"origin 4401 after 2"}) {
				t.Errorf("closes: %q", closes)
			}
			client.Close()
			origin.Close()
			eventually(t, "the end of the flow", func() bool { return s.over.Load() == 1 })
		})
	}
}

func TestWhatWasHeardInOrder(t *testing.T) {
	s := newSocketWorld(t, "ws", true)
	client, origin := s.open("Sec-WebSocket-Extensions: permessage-deflate\r\n")
	write(t, origin, "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00"+text(ws.OpPing, false, "p"))
	origin.Close()
	if _, err := io.ReadAll(client); err != nil {
		t.Fatal(err)
	}
	client.Close()
	eventually(t, "the end of the flow", func() bool { return s.over.Load() == 1 })
	messages, _ := s.heard.take()
	if want := []string{"origin text Hello", "origin text Hello", "origin ping p"}; !slices.Equal(messages, want) {
		t.Errorf("%q, want %q", messages, want)
	}
}

// What is no WebSocket ends decoding, with a note, and nothing else.
func TestABrokenStreamIsRelayedOn(t *testing.T) {
	s := newSocketWorld(t, "ws", true)
	client, origin := s.open("")
	broken := "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff" + strings.Repeat("no frame ", 5000)
	go io.WriteString(origin, broken)
	read(t, client, broken)
	write(t, client, text(ws.OpText, true, "still here"))
	read(t, origin, text(ws.OpText, true, "still here"))
	client.Close()
	origin.Close()
	eventually(t, "the end of the flow", func() bool { return s.over.Load() == 1 })
	if trace := fmt.Sprint(s.last.Load().Trace.Events); !strings.Contains(trace, "what the origin sends is decoded no further: the length") {
		t.Errorf("trace: %s", trace)
	}
	if messages, _ := s.heard.take(); !slices.Equal(messages, []string{"client text still here"}) {
		t.Errorf("%q", messages)
	}
}

// One side closes; what the other still sends arrives.
func TestHalfClosedWebSockets(t *testing.T) {
	for _, mode := range []string{"wss", "ws", "absolute http"} {
		for _, first := range []string{"client", "origin"} {
			t.Run(mode+", the "+first+" first", func(t *testing.T) {
				s := newSocketWorld(t, mode, true)
				one, other := s.open("")
				if first == "origin" {
					one, other = other, one
				}
				write(t, one, "last words")
				one.(interface{ CloseWrite() error }).CloseWrite()
				if got, err := io.ReadAll(other); string(got) != "last words" || err != nil {
					t.Fatalf("%q, %v", got, err)
				}
				write(t, other, "an answer")
				read(t, one, "an answer")
				if tlsConn, ok := other.(*tls.Conn); ok {
					tlsConn.CloseWrite()
				}
				other.Close()
				if got, err := io.ReadAll(one); len(got) > 0 || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
	}
}
