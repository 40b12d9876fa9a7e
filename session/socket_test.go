package session_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// noTunnel stands for the connection that a handshake has made.
type noTunnel struct{}

func (noTunnel) Read([]byte) (int, error)    { return 0, io.EOF }
func (noTunnel) Write(p []byte) (int, error) { return len(p), nil }
func (noTunnel) Close() error                { return nil }

// A socketEngine is an engine before an origin that answers each login with
// another token and every handshake with 101.
type socketEngine struct {
	t      *testing.T
	engine *session.Engine
	logins int
	open   flow.Handler
	start  time.Time
}

func newSocketEngine(t *testing.T) *socketEngine {
	t.Helper()
	file, _, err := config.Parse("rules.yaml", []byte(`
macros:
  - name: login
    steps:
      - request: "POST https://a.example/login HTTP/1.1"
        extract: [{token_name: T, source: {type: ResponseHeader, name: T}}]
rules:
  - name: live
    scope: {pattern: a.example}
    validation: {close_codes: [4401, 1008]}
    reauth_macro: login
    token_updates: [{token_name: T, target: {type: RequestHeader, name: Authorization}}]
`), config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := &socketEngine{t: t, start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	e.engine, err = session.New(session.Config{Rules: file.Set, Macros: file.Macros, Now: func() time.Time { return e.start },
		Send: func(_ context.Context, f *flow.Flow) (err error) {
			e.logins++
			f.Response, err = wire.ParseResponse(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nT: token%d\r\n\r\n", e.logins))
			return err
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.engine.Close)
	e.open = e.engine.Stage(func(_ context.Context, f *flow.Flow) (err error) {
		f.Response, err = wire.ParseResponse([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"))
		f.Upgraded = noTunnel{}
		return err
	})
	return e
}

// handshake opens a WebSocket and says which token it carried.
func (e *socketEngine) handshake() (f *flow.Flow, token string, err error) {
	e.t.Helper()
	req, err := wire.ParseRequest([]byte("GET /live HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\n\r\n"))
	if err != nil {
		e.t.Fatal(err)
	}
	f = &flow.Flow{Tool: flow.ToolProxy, Received: req, Request: req, Start: e.start, Origin: flow.Origin{TLS: true, Host: "a.example", Port: 443}}
	err = e.open(e.t.Context(), f)
	value, _ := f.Request.Get("Authorization")
	return f, strings.TrimPrefix(string(value), "Bearer "), err
}

// ends has a peer close a WebSocket after so many messages and that time.
func (e *socketEngine) ends(f *flow.Flow, from flow.Peer, code int, messages int64, after time.Duration) {
	f.SaidClose(&flow.Close{From: from, Time: f.Start.Add(after), Code: code, Messages: messages})
}

func TestWhichClosesEndASession(t *testing.T) {
	for name, c := range map[string]struct {
		from flow.Peer
		code int
		dead bool
	}{
		"the origin's own code":       {flow.Server, 4401, true},
		"another one of the list":     {flow.Server, 1008, true},
		"a normal end":                {flow.Server, 1000, false},
		"a code that is not listed":   {flow.Server, 4403, false},
		"no code":                     {flow.Server, ws.CodeNone, false},
		"the code, but of the client": {flow.Client, 4401, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := newSocketEngine(t)
			f, token, err := e.handshake()
			if err != nil || token != "token1" {
				t.Fatalf("%q, %v", token, err)
			}
			e.ends(f, c.from, c.code, 1, time.Second)
			want := "token1"
			if c.dead {
				want = "token2"
			}
			if _, token, err := e.handshake(); err != nil || token != want {
				t.Errorf("the next handshake carries %q, %v; want %q", token, err, want)
			}
			if traced := strings.Contains(fmt.Sprint(f.Trace.Events), "close code"); traced != c.dead {
				t.Errorf("trace: %v", f.Trace.Events)
			}
		})
	}
}

// All WebSockets of a session that has died are closed, some of them late: the
// new session is not theirs.
func TestALateCloseOfAnOldSessionIsNotTheNewOnes(t *testing.T) {
	e := newSocketEngine(t)
	var old []*flow.Flow
	for range 10 {
		f, _, err := e.handshake()
		if err != nil {
			t.Fatal(err)
		}
		old = append(old, f)
	}
	for _, f := range old {
		e.ends(f, flow.Server, 4401, 1, time.Minute)
		if _, token, err := e.handshake(); err != nil || token != "token2" {
			t.Fatalf("%q, %v", token, err)
		}
	}
	if e.logins != 2 {
		t.Errorf("%d logins for one death", e.logins)
	}
}

// What a login was worth shows before the close.
func TestSessionsThatAreClosedAtOnceAreFailedLogins(t *testing.T) {
	for name, c := range map[string]struct {
		messages int64
		after    time.Duration
		good     bool
	}{
		"closed at once":       {0, time.Second, false},
		"after a message":      {1, time.Second, true},
		"after a silent while": {0, time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := newSocketEngine(t)
			opened := 0
			for range 10 {
				f, _, err := e.handshake()
				if err != nil {
					if refused, ok := err.(*flow.Error); !ok || refused.Reason != flow.ReasonLocked {
						t.Fatal(err)
					}
					break
				}
				opened++
				e.ends(f, flow.Server, 4401, c.messages, c.after)
			}
			if want := map[bool]int{true: 10, false: 3}[c.good]; opened != want || e.logins != want {
				t.Errorf("%d handshakes with %d logins, want %d", opened, e.logins, want)
			}
		})
	}
}
