package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// Either side goes away at each byte of what it sends: the other gets what
// came before, then the end, and the flow has one outcome (newWorld counts).
func TestAWebSocketThatBreaksOffAtEachByte(t *testing.T) {
	whole := text(ws.OpText, true, "first") + text(ws.OpPing, true, "") + text(ws.OpText, true, strings.Repeat("x", 130)) + text(ws.OpClose, true, "\x03\xe8")
	for _, mode := range []string{"wss", "ws", "absolute http"} {
		for _, who := range []string{"client", "origin"} {
			t.Run(mode+", the "+who, func(t *testing.T) {
				s := newSocketWorld(t, mode, true)
				for cut := 0; cut <= len(whole); cut += 1 + cut/20 {
					one, other := s.open("")
					if who == "origin" {
						one, other = other, one
					}
					if cut > 0 {
						write(t, one, whole[:cut])
					}
					one.Close()
					if got, err := io.ReadAll(other); string(got) != whole[:cut] {
						t.Errorf("cut at %d: %d bytes arrived, %v", cut, len(got), err)
					}
					other.Close()
				}
				eventually(t, "the end of every flow", func() bool { return s.over.Load() == s.begun.Load() })
				notes := fmt.Sprint(s.last.Load().Trace.Events)
				if side := "from the " + who; !strings.Contains(notes, side) && who == "origin" {
					t.Errorf("the last flow has no note %q: %s", side, notes) // an origin does not mask
				}
			})
		}
	}
}

// A reset is passed on, so that neither side waits for the other.
func TestAWebSocketThatIsReset(t *testing.T) {
	for _, who := range []string{"client", "origin"} {
		s := newSocketWorld(t, "ws", true)
		one, other := s.open("")
		if who == "origin" {
			one, other = other, one
		}
		write(t, one, text(ws.OpText, true, "last"))
		read(t, other, text(ws.OpText, true, "last"))
		one.(*net.TCPConn).SetLinger(0)
		one.Close()
		if got, _ := io.ReadAll(other); len(got) > 0 {
			t.Errorf("%q arrived", got)
		}
		eventually(t, "the end of the flow", func() bool { return s.over.Load() == 1 })
	}
}

// BenchmarkWebSocket is a stream of frames of 1 KB from the client to the
// origin: with nobody who listens, for closes only, and for messages.
func BenchmarkWebSocket(b *testing.B) {
	frames := []byte(strings.Repeat(text(ws.OpText, true, strings.Repeat("x", 1024)), 15))
	for _, c := range []struct {
		name  string
		stage flow.Stage
	}{
		{"nobody listens", nil},
		{"closes", listenFor(func(f *flow.Flow) { f.OnClose(func(*flow.Flow, *flow.Close) {}) })},
		{"messages", listenFor(func(f *flow.Flow) { f.OnMessage(func(*flow.Flow, *flow.Message) {}) })},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := &socketWorld{mode: "ws", ln: listen(b), world: newWorld(b, proxy.Config{}, upstream.Config{}, c.stage)}
			client, origin := s.open("")
			done := make(chan int64, 1)
			go func() {
				n, _ := io.Copy(io.Discard, origin)
				done <- n
			}()
			b.SetBytes(int64(len(frames)))
			b.ReportAllocs()
			n := int64(0)
			for b.Loop() {
				if _, err := client.Write(frames); err != nil {
					b.Fatal(err)
				}
				n += int64(len(frames))
			}
			client.(*net.TCPConn).CloseWrite()
			if got := <-done; got != n {
				b.Errorf("%d bytes arrived of %d", got, n)
			}
			origin.Close()
		})
	}
}

func listenFor(register func(*flow.Flow)) flow.Stage {
	return func(next flow.Handler) flow.Handler {
		return func(ctx context.Context, f *flow.Flow) error {
			err := next(ctx, f)
			register(f)
			return err
		}
	}
}
