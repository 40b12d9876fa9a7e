package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// far is one end of a WebSocket, of either version.
type far interface {
	io.ReadWriter
	CloseWrite() error
}

// end2 is an end by HTTP/2.
type end2 struct {
	*h2.Tunnel
	s    *h2.Stream
	raw  net.Conn
	over chan struct{}
}

// bridge is a WebSocket between a client and an origin of two versions.
type bridge struct {
	*world
	heard          *heard
	client, origin string // h1 or h2
	ln             net.Listener
	streams        chan *end2 // that the origin got, by HTTP/2
	request        string     // as the origin got it
	answer         string     // as the client got it
	conn           net.Conn   // the client's
}

const deflates = "permessage-deflate; server_no_context_takeover"

func newBridge(t testing.TB, client, origin string, cfg proxy.Config, up upstream.Config) *bridge {
	b := &bridge{client: client, origin: origin, heard: new(heard), streams: make(chan *end2, 8)}
	cfg.Connect = func(ctx context.Context, o flow.Origin) bool { return b.pool.TakesConnect(ctx, o) }
	b.world = newWorld2(t, cfg, up, b.heard.stage)
	if origin == "h1" {
		b.ln = listen2(t, b.world, "http/1.1")
		return b
	}
	offer := []string{"h2", "http/1.1"}
	if client == "h1" {
		offer = offer[:1] // else it would get what it asks for
	}
	b.ln = listen2(t, b.world, offer...)
	over := make(chan struct{})
	serveOrigin2(t, b.ln, h2.Config{Connect: true}, func(s *h2.Stream) {
		b.request = text2(&s.Request().Head)
		s.WriteHead(head2(":status= 200", "sec-websocket-extensions= "+deflates), false)
		tunnel := s.Tunnel()
		s.Flush()
		b.streams <- &end2{Tunnel: tunnel, s: s}
		<-over
	})
	t.Cleanup(func() { close(over) })
	return b
}

// open makes the handshake and returns both ends.
func (b *bridge) open() (client, origin far) {
	b.t.Helper()
	at := authorityOf(b.ln)
	accepted := make(chan net.Conn, 1)
	if b.origin == "h1" {
		go func() {
			conn, err := b.ln.Accept()
			for err == nil && conn.(*tls.Conn).Handshake() != nil { // the one that asked for HTTP/2
				conn, err = b.ln.Accept()
			}
			accepted <- conn
		}()
	}
	var conn net.Conn
	var s *h2.Stream
	if b.client == "h1" {
		conn = b.secure(b.tunnel(at), "127.0.0.1")
		write(b.t, conn, "GET /chat?a=b HTTP/1.1\r\nHost: "+at+"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+socketKey+
			"\r\nSec-WebSocket-Version: 13\r\nX-Case: Kept\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
	} else {
		conn = b.secure2(b.tunnel(at), "h2")
		var err error
		if s, err = client2(b.t, conn).Open(head2(":method= CONNECT", ":protocol= websocket", ":scheme= https", ":path= /chat?a=b", ":authority= "+at,
			"sec-websocket-version= 13", "x-case= Kept", "sec-websocket-extensions= permessage-deflate"), false); err != nil {
			b.t.Fatal(err)
		}
		s.Flush()
		b.t.Cleanup(s.Done)
	}
	b.conn = conn
	if b.origin == "h1" {
		origin = b.accept1(<-accepted)
	} else {
		select {
		case one := <-b.streams:
			origin = one
		case <-time.After(patience):
			b.t.Fatal("no stream came to the origin")
		}
	}
	if s != nil {
		r, err := s.Head()
		if err != nil {
			b.t.Fatal(err)
		}
		b.answer = text2(&r.Head)
		return &end2{Tunnel: s.Tunnel(), s: s, raw: conn}, origin
	}
	var r wire.Response
	reader := wire.NewReader(conn, wire.Limits{})
	if err := reader.ReadResponse(&r); err != nil {
		b.t.Fatal(err)
	}
	b.answer = string(r.Bytes())
	return &end1{conn.(*tls.Conn), reader}, origin
}

// end1 is an end by HTTP/1.1, behind the handshake.
type end1 struct {
	*tls.Conn
	from io.Reader
}

func (e *end1) Read(p []byte) (int, error) { return e.from.Read(p) }

// accept1 answers the handshake on a connection to the origin.
func (b *bridge) accept1(conn net.Conn) far {
	b.t.Helper()
	if conn == nil {
		b.t.Fatal("no connection came to the origin")
	}
	conn.SetDeadline(time.Now().Add(patience))
	b.t.Cleanup(func() { conn.Close() })
	reader := wire.NewReader(conn, wire.Limits{})
	var r wire.Request
	if err := reader.ReadRequest(&r); err != nil {
		b.t.Fatal(err)
	}
	b.request = string(r.Bytes())
	key, _ := r.Get("Sec-WebSocket-Key")
	write(b.t, conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+ws.Accept(string(key))+
		"\r\nSec-WebSocket-Extensions: "+deflates+"\r\n\r\n")
	return &end1{conn.(*tls.Conn), reader}
}

// bridges calls fn for each pair of versions.
func bridges(t *testing.T, fn func(t *testing.T, client, origin string)) {
	for _, client := range []string{"h1", "h2"} {
		for _, origin := range []string{"h1", "h2"} {
			t.Run("client "+client+", origin "+origin, func(t *testing.T) { fn(t, client, origin) })
		}
	}
}

// Either version's handshake becomes the other's, and nothing else changes.
func TestAHandshakeIsConverted(t *testing.T) {
	bridges(t, func(t *testing.T, client, origin string) {
		b := newBridge(t, client, origin, proxy.Config{}, upstream.Config{})
		b.open()
		at := authorityOf(b.ln)
		request := map[string]string{
			"h1 h1": "GET /chat\\?a=b HTTP/1.1\r\nHost: " + at + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " + socketKey +
				"\r\nSec-WebSocket-Version: 13\r\nX-Case: Kept\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
			"h1 h2": ":method= CONNECT\n:protocol= websocket\n:scheme= https\n:authority= " + at + "\n:path= /chat\\?a=b\nsec-websocket-version= 13\nx-case= Kept\nsec-websocket-extensions= permessage-deflate\n",
			"h2 h1": "GET /chat\\?a=b HTTP/1.1\r\nHost: " + at + "\r\nsec-websocket-version: 13\r\nx-case: Kept\r\nsec-websocket-extensions: permessage-deflate\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: [A-Za-z0-9+/]{22}==\r\n\r\n",
			"h2 h2": ":method= CONNECT\n:protocol= websocket\n:scheme= https\n:path= /chat\\?a=b\n:authority= " + at + "\nsec-websocket-version= 13\nx-case= Kept\nsec-websocket-extensions= permessage-deflate\n",
		}[client+" "+origin]
		if !regexp.MustCompile("^" + request + "$").MatchString(b.request) {
			t.Errorf("the origin got\n%q want\n%q", b.request, request)
		}
		accept := "Sec-WebSocket-Accept: " + ws.Accept(socketKey) + "\r\n"
		head101 := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + accept
		answer := map[string]string{
			"h1 h1": head101 + "Sec-WebSocket-Extensions: " + deflates + "\r\n\r\n",
			"h1 h2": head101 + "sec-websocket-extensions: " + deflates + "\r\n\r\n",
			"h2 h1": ":status= 200\nsec-websocket-extensions= " + deflates + "\n",
			"h2 h2": ":status= 200\nsec-websocket-extensions= " + deflates + "\n",
		}[client+" "+origin]
		if b.answer != answer {
			t.Errorf("the client got\n%q want\n%q", b.answer, answer)
		}
	})
}

// Whatever is sent, in both directions at once, arrives as it was sent, and
// either side's end is its own.
func TestEveryWebSocketCasePassesBetweenTheVersions(t *testing.T) {
	bridges(t, func(t *testing.T, client, origin string) {
		b := newBridge(t, client, origin, proxy.Config{}, upstream.Config{})
		all := streams(t)
		for i := 0; i < len(all); i += 8 { // the relay knows nothing of frames, so some are enough
			c := all[i]
			one, other := b.open()
			errs := make(chan error, 2)
			for _, to := range []far{one, other} {
				go func() {
					for p := range slices.Chunk(c.wire, max(1, len(c.wire)/7)) {
						if _, err := to.Write(p); err != nil {
							errs <- err
							return
						}
					}
					errs <- to.CloseWrite()
				}()
			}
			for side, from := range map[string]far{"client": one, "origin": other} {
				if got, err := io.ReadAll(from); err != nil || !bytes.Equal(got, c.wire) {
					t.Errorf("%s: the %s got %d bytes (%v), want %d as sent", c.name, side, len(got), err, len(c.wire))
				}
			}
			for range 2 {
				if err := <-errs; err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			}
		}
		eventually(t, "the end of every flow", func() bool { return b.over.Load() == b.begun.Load() })
	})
}

func TestMessagesAreHeardByEitherVersion(t *testing.T) {
	bridges(t, func(t *testing.T, client, origin string) {
		b := newBridge(t, client, origin, proxy.Config{}, upstream.Config{})
		one, other := b.open()
		compressed := "\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00" // RFC 7692 §7.2.3.1
		send(t, one, other, text(ws.OpText, true, "hello"))
		send(t, other, one, compressed)
		send(t, other, one, text(ws.OpClose, false, "\x11\x31gone"))
		send(t, one, other, text(ws.OpClose, true, "\x11\x31"))
		one.CloseWrite()
		other.CloseWrite()
		eventually(t, "the end of the flow", func() bool { return b.over.Load() == 1 })
		messages, closes := b.heard.take()
		slices.Sort(messages)
		slices.Sort(closes)
		if got, want := strings.Join(messages, "; "), "client close \x111; client text hello; origin close \x111gone; origin text Hello"; got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
		if got, want := strings.Join(closes, "; "), "client 4401 after 1; origin 4401 after 1"; got != want {
			t.Errorf("heard of closes %q, want %q", got, want)
		}
		if err := b.last.Load().Err; err != nil {
			t.Errorf("the flow ended with %v", err)
		}
	})
}

// send has one end write and the other read the same.
func send(t testing.TB, from, to far, text string) {
	t.Helper()
	if _, err := io.WriteString(from, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if n, err := io.ReadFull(to, got); err != nil || string(got) != text {
		t.Fatalf("read %q (%v), want %q", got[:n], err, text)
	}
}

// breakOff ends both directions of an end at once: by a reset.
func breakOff(e far) {
	if two, ok := e.(*end2); ok {
		two.Reset(h2.Cancel)
	} else {
		tcp := e.(*end1).NetConn().(*net.TCPConn)
		tcp.SetLinger(0)
		tcp.Close()
	}
}

// A reset is passed on as one, behind what was said before it.
func TestAWebSocketThatIsResetByEitherVersion(t *testing.T) {
	bridges(t, func(t *testing.T, client, origin string) {
		for _, who := range []string{"client", "origin"} {
			b := newBridge(t, client, origin, proxy.Config{}, upstream.Config{})
			one, other := b.open()
			if who == "origin" {
				one, other = other, one
			}
			last := text(ws.OpText, true, "last")
			send(t, one, other, last)
			if two, ok := one.(*end2); ok { // what was sent in front of RST_STREAM is not lost
				io.WriteString(two, last)
				two.Reset(h2.Cancel)
				if _, err := io.ReadFull(other, make([]byte, len(last))); err != nil {
					t.Errorf("the %s's last words were lost: %v", who, err)
				}
			} else {
				breakOff(one)
			}
			got, err := io.ReadAll(other)
			if len(got) > 0 || err == nil && client+origin != "h1h1" { // between connections an end is an end
				t.Errorf("reset by the %s: %q arrived and then %v, want an error", who, got, err)
			}
			var stream *h2.StreamError
			if _, two := other.(*end2); two && (!errors.As(err, &stream) || !stream.Remote || stream.Code != h2.Cancel) {
				t.Errorf("reset by the %s: %v, want CANCEL", who, err)
			}
			eventually(t, "the end of the flow", func() bool { return b.over.Load() == 1 })
		}
	})
}

// The loss of a connection is the reset of what went through it.
func TestAWebSocketWhoseConnectionIsLost(t *testing.T) {
	for _, who := range []string{"client", "origin"} {
		b := newBridge(t, "h2", "h2", proxy.Config{}, upstream.Config{})
		one, other := b.open()
		if who == "client" {
			b.conn.Close()
		} else {
			b.pool.Close()
			one, other = other, one
		}
		var stream *h2.StreamError
		if _, err := io.ReadAll(other); !errors.As(err, &stream) || !stream.Remote || stream.Code != h2.Cancel {
			t.Errorf("the %s's connection is lost: %v, want CANCEL", who, err)
		}
		eventually(t, "the end of the flow", func() bool { return b.over.Load() == 1 })
	}
}

// The origin has said all and wants to hear no more: what it said arrives, and
// then the client is told so.
func TestAnOriginThatHasHeardEnough(t *testing.T) {
	for _, client := range []string{"h1", "h2"} {
		b := newBridge(t, client, "h2", proxy.Config{}, upstream.Config{})
		one, other := b.open()
		said := strings.Repeat("x", 1<<20) // more than the windows on the way hold
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.WriteString(other, said)
			other.CloseWrite()
			other.(*end2).Reset(h2.NoError)
		}()
		read, stop := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stop)
			for {
				select {
				case <-read:
					b.conn.Close()
					return
				default:
				}
				if _, err := io.WriteString(one, "more"); err != nil {
					return
				}
			}
		}()
		if got, err := io.ReadAll(one); len(got) != len(said) {
			t.Errorf("client %s: %d bytes arrived of %d (%v)", client, len(got), len(said), err)
		}
		close(read)
		<-done
		<-stop
		eventually(t, "the end of the flow", func() bool { return b.over.Load() == 1 })
	}
}

// Who does not read is not written to without end, whatever lies between.
func TestAWebSocketsFlowControl(t *testing.T) {
	bridges(t, func(t *testing.T, client, origin string) {
		size := int64(16 << 20) // the kernel takes a lot for a connection
		if client == origin {
			size = 4 << 20
		}
		for _, who := range []string{"client", "origin"} {
			if client == "h1" && (origin == "h1" || who == "origin") {
				continue
			}
			b := newBridge(t, client, origin, proxy.Config{}, upstream.Config{})
			from, to := b.open()
			if who == "origin" {
				from, to = to, from
			}
			written := make(chan int64, 1)
			wrote := make(chan struct{}, size>>16)
			go func() {
				n, piece := int64(0), bytes.Repeat([]byte("x"), 1<<16)
				for n < size {
					m, err := from.Write(piece)
					if n += int64(m); err != nil {
						break
					}
					wrote <- struct{}{}
				}
				from.CloseWrite()
				written <- n
			}()
			for quiet := false; !quiet; { // until the writer waits
				select {
				case <-wrote:
				case <-time.After(200 * time.Millisecond):
					quiet = true
				}
			}
			select {
			case n := <-written:
				t.Errorf("%d bytes were taken that nobody read", n)
			default:
			}
			n, err := io.Copy(io.Discard, to)
			if got := <-written; err != nil || got != size || n != size {
				t.Errorf("the %s wrote %d bytes, %d arrived (%v)", who, got, n, err)
			}
			to.CloseWrite()
			eventually(t, "the end of the flow", func() bool { return b.over.Load() == 1 })
		}
	})
}

// Silence ends a WebSocket; a word of either side does not, even if the other
// never says one, and the limits of bodies are not those of WebSockets.
func TestAWebSocketsSilence(t *testing.T) {
	bridges(t, func(t *testing.T, client, origin string) {
		t.Parallel()
		const limit = 3 * time.Second // a slow machine is in time with a word
		b := newBridge(t, client, origin, proxy.Config{Limits: proxy.Limits{Tunnel: limit, Body: limit / 4, Stall: limit / 4}},
			upstream.Config{Limits: upstream.Limits{Stall: limit / 4}})
		one, other := b.open()
		ticker := time.NewTicker(limit / 5)
		defer ticker.Stop()
		var begun time.Time
		for range 7 {
			<-ticker.C
			begun = time.Now() // no later than the last word
			send(t, other, one, "word")
		}
		if got, err := io.ReadAll(one); len(got) > 0 {
			t.Errorf("%q (%v)", got, err)
		}
		if d := time.Since(begun); d < limit {
			t.Errorf("it ended after %v of silence, want %v", d, limit)
		}
		io.Copy(io.Discard, other)
		eventually(t, "the end of the flow", func() bool { return b.over.Load() == 1 })
	})
}
