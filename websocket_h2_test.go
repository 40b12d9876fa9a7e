package holdfast_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// withConnect tells whether net/http offers extended CONNECT in this process,
// which it decides when it starts. If not, the test is run in one that does.
func withConnect(t *testing.T) bool {
	t.Helper()
	const setting = "http2xconnect=1"
	if strings.Contains(os.Getenv("GODEBUG"), setting) {
		return true
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=10m")
	again.Env = append(os.Environ(), "GODEBUG="+setting)
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("in a process with %s: %v\n%s", setting, err, out)
	}
	return false
}

// socket2 is a WebSocket on a stream of a client that speaks HTTP/2.
type socket2 struct {
	*h2.Tunnel
	s    *h2.Stream
	scan ws.Scanner
	have []byte
}

// open2 makes a handshake by HTTP/2 and returns its status; the socket is nil
// if that is no success.
func (w *world) open2(conn *h2.Conn, path string) (*socket2, int) {
	w.t.Helper()
	head := new(wire.Head)
	head.Reset(wire.HTTP2)
	for _, f := range [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "https"}, {":path", path},
		{":authority", w.origin.Addr}, {"sec-websocket-version", "13"}, {"sec-websocket-extensions", "permessage-deflate"}} {
		head.AppendField([]byte(f[0]), []byte(f[1]), 0)
	}
	s, err := conn.Open(head, false)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Done)
	s.Flush()
	r, err := s.Head()
	if err != nil {
		w.t.Fatal(err)
	}
	if r.Status() != 200 {
		return nil, r.Status()
	}
	return &socket2{Tunnel: s.Tunnel(), s: s}, 200
}

// connect2 is a client's HTTP/2 to the origin, through CONNECT.
func (w *world) connect2(offer ...string) *h2.Conn {
	w.t.Helper()
	raw, err := net.Dial("tcp", w.h.Addr())
	if err != nil {
		w.t.Fatal(err)
	}
	raw.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(raw, "CONNECT %s HTTP/1.1\r\n\r\n", w.origin.Addr)
	established := make([]byte, len("HTTP/1.1 200 Connection established\r\n\r\n"))
	if _, err := io.ReadFull(raw, established); err != nil {
		w.t.Fatal(err)
	}
	secured := tls.Client(raw, &tls.Config{RootCAs: w.h.CA().Pool(), ServerName: "127.0.0.1", NextProtos: offer})
	conn := h2.New(secured, secured, h2.Config{Client: true})
	conn.Start(false)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn.Run()
		raw.Close()
	}()
	w.t.Cleanup(func() {
		raw.Close()
		<-done
	})
	if err := conn.Greeted(); err != nil || !conn.TakesConnect() {
		w.t.Fatalf("extended CONNECT is not offered (%v)", err)
	}
	return conn
}

// frame reads the next frame.
func (s *socket2) frame() (ws.Opcode, string, error) {
	var payload []byte
	for {
		for len(s.have) > 0 {
			var piece ws.Piece
			piece, s.have = s.scan.Next(s.have)
			if payload = append(payload, piece.Payload...); piece.Last {
				return piece.Header.Opcode, string(payload), nil
			}
		}
		var buffer [4096]byte
		n, err := s.Read(buffer[:])
		if s.have = append(s.have, buffer[:n]...); err != nil {
			return 0, "", err
		}
	}
}

// say sends a text and wants it back.
func (s *socket2) say(text string) error {
	mask := ws.Header{Fin: true, Opcode: ws.OpText, Masked: true, Mask: [4]byte{1, 2, 3, 4}}
	s.Write(ws.AppendFrame(nil, mask, []byte(text)))
	if op, got, err := s.frame(); err != nil || op != ws.OpText || got != text {
		return fmt.Errorf("%v %q came back (%w), want %q", op, got, err, text)
	}
	return nil
}

// A client that speaks HTTP/2 is kept logged in by the handshake's answer and
// by close codes, whatever the origin speaks.
func TestWebSocketsByHTTP2AreKeptLoggedIn(t *testing.T) {
	if !withConnect(t) {
		return
	}
	for _, origin2 := range []bool{true, false} {
		for _, dead := range []string{"401", "403", "302", "open"} {
			w := socketWorld(t, testenv.Origin{TLS: true, HTTP2: origin2}, "check_type: {type: StatusCode, value: [401, 403, 302]}, close_codes: [4401]")
			offer := []string{"h2", "http/1.1"}
			if !origin2 {
				offer = offer[:1] // else it would be given HTTP/1.1
			}
			conn := w.connect2(offer...)
			const lives = 4
			for i := range lives {
				s, status := w.open2(conn, "/ws?dead="+dead)
				if status != 200 {
					t.Fatalf("origin with HTTP/2 %v, dead is %s: handshake %d was answered %d", origin2, dead, i, status)
				}
				if err := s.say("hello"); err != nil {
					t.Fatal(err)
				}
				w.origin.KillAll()
				op, payload, err := s.frame()
				if code, _, _ := ws.ParseClose([]byte(payload)); err != nil || op != ws.OpClose || code != testenv.CloseDead {
					t.Errorf("life %d ended with %v %q (%v)", i, op, payload, err)
				}
				s.CloseWrite()
				if rest, err := io.ReadAll(s); len(rest) > 0 {
					t.Errorf("behind the close came %q (%v)", rest, err)
				}
			}
			if s := w.origin.Stats(); s.Logins != lives || s.DeadAnswers != 0 {
				t.Errorf("origin with HTTP/2 %v, dead is %s: %d logins, %d dead answers; want %d and none", origin2, dead, s.Logins, s.DeadAnswers, lives)
			}
			w.traced(`"method":"CONNECT"`)
			w.traced("header:authorization: token T")
		}
	}
}

// A dead answer to a handshake by HTTP/2 is never seen, and the handshake is
// sent again even where only safe requests are.
func TestAHandshakeByHTTP2IsSentAgain(t *testing.T) {
	if !withConnect(t) {
		return
	}
	for _, origin2 := range []bool{true, false} {
		w := newWorld(t, testenv.Origin{TLS: true, HTTP2: origin2}, strings.NewReplacer("CHECK", "check_type: {type: StatusCode, value: [401]}",
			"reauth_macro: login", "reauth_macro: login\n    resend: safe").Replace(socketRules))
		conn := w.connect2("h2")
		const opens = 4
		for i := range opens {
			s, status := w.open2(conn, "/ws?dead=401")
			if status != 200 {
				t.Fatalf("handshake %d was answered %d", i, status)
			}
			if err := s.say("hello"); err != nil {
				t.Error(err)
			}
			w.origin.KillAll()
			s.CloseWrite()
			io.Copy(io.Discard, s)
		}
		if s := w.origin.Stats(); s.Logins != opens || s.DeadAnswers != opens-1 {
			t.Errorf("%d logins, %d dead answers; want %d and %d", s.Logins, s.DeadAnswers, opens, opens-1)
		}
		w.traced("401: the answer is a dead session's")
	}
}

// Many streams of one client go through one connection to the origin, and end
// with the session.
func TestManyWebSocketsOnOneConnection(t *testing.T) {
	if !withConnect(t) {
		return
	}
	w := socketWorld(t, testenv.Origin{TLS: true, HTTP2: true}, "check_type: {type: StatusCode, value: [401]}, close_codes: [4401]")
	conn := w.connect2("h2", "http/1.1")
	const streams = 64
	errs := make(chan error, streams)
	opened := make(chan struct{}, streams)
	for i := range streams {
		go func() {
			err := fmt.Errorf("stream %d did not open", i)
			open := sync.OnceFunc(func() { opened <- struct{}{} })
			defer func() { // also where open2 ends the goroutine
				open()
				errs <- err
			}()
			s, status := w.open2(conn, "/ws")
			if s == nil {
				err = fmt.Errorf("stream %d: %d", i, status)
				return
			}
			err = s.say(strings.Repeat("x", 2000+i))
			open()
			if err == nil {
				op, _, failed := s.frame()
				if err = failed; err == nil && op != ws.OpClose {
					err = fmt.Errorf("stream %d: %v", i, op)
				}
			}
		}()
	}
	for range streams {
		<-opened
	}
	w.origin.KillAll()
	for range streams {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	s := w.origin.Stats()
	if s.Logins != 1 || s.Connections > 3 { // the login goes out by HTTP/1.1
		t.Errorf("%d logins, %d connections for %d streams", s.Logins, s.Connections, streams)
	}
}
