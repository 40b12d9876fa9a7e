package session_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// unauthenticated is a rule for which a gRPC call's status 16 is dead.
func unauthenticated(t testing.TB, kind string, value any) rule.Rule {
	return bearer(t, func(r *rule.Rule) { r.Dead = check(t, kind, value) })
}

// call is a gRPC body with trailers behind its messages.
func call(status string, messages ...string) *stream {
	s := newStream(messages...)
	trailers := new(wire.Head)
	trailers.Reset(wire.HTTP2)
	_ = trailers.AppendField([]byte("grpc-status"), []byte(status), 0) // a plain field cannot fail
	s.framing = wire.Framing{Kind: wire.Stream, Trailers: trailers}
	return s
}

// serveCalls answers /s with a call that fails for want of a live session.
func serveCalls(o *origin, message string, lines ...string) {
	o.handle("/s", func(_ context.Context, f *flow.Flow) error {
		s := call("16")
		if o.isLive(f) {
			s = call("0", message)
		}
		s.end(io.EOF)
		return answerWith(f, 200, s, lines...)
	})
}

func TestADeathThatOnlyTrailersTellIsRecovered(t *testing.T) {
	status := map[string]any{"name": "Grpc-Status", "pattern": "16"}
	for name, tt := range map[string]struct {
		kind  string
		value any
		lines string
	}{
		"gRPC":                   {rule.CheckHeaderContains, status, "Content-Type: application/grpc+proto"},
		"gRPC, by what it lacks": {rule.CheckHTTPQL, `resp.code.eq:200 AND NOT resp.header["grpc-status"].eq:"0"`, "Content-Type: application/grpc"},
		"one of several":         {rule.CheckAny, []any{map[string]any{"type": "StatusCode", "value": 401}, map[string]any{"type": "HeaderContains", "value": status}}, "Content-Type: application/grpc"},
		"announced":              {rule.CheckHeaderContains, status, "Trailer: X-Sum , grpc-status"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin()
			p := newSetup(t, o, unauthenticated(t, tt.kind, tt.value)).start(t, o)
			serveCalls(o, "hello", tt.lines)
			for i := range 3 {
				if r := p.get("/s"); r.body != "hello" || r.err != nil || r.traced("resend") != (i > 0) {
					t.Errorf("call %d: %v", i, r)
				}
				o.kill()
			}
			if o.loginCount() != 3 {
				t.Errorf("%d logins for 2 deaths", o.loginCount())
			}
		})
	}
}

func TestTrailersOfChunksAreJudged(t *testing.T) {
	o := newOrigin()
	p := newSetup(t, o, unauthenticated(t, rule.CheckHeaderContains, []any{"X-Session", "expired"})).start(t, o)
	o.handle("/s", func(_ context.Context, f *flow.Flow) error {
		raw := "2\r\nhi\r\n0\r\nX-Sum: 1\r\nx-session: expired\r\n\r\n"
		if o.isLive(f) {
			raw = "2\r\nhi\r\n0\r\nX-Sum: 1\r\nx-session: fine\r\n\r\n"
		}
		return answerWith(f, 200, wire.BytesBody(wire.Framing{Kind: wire.Chunked}, []byte(raw)), "Transfer-Encoding: chunked", "Trailer: X-Sum, X-Session")
	})
	p.get("/s")
	o.kill()
	if r := p.get("/s"); !strings.Contains(r.body, "fine") || r.err != nil || o.loginCount() != 2 {
		t.Errorf("%v, %d logins", r, o.loginCount())
	}
}

// A call whose messages have begun passes as they come: its client may be
// waiting for one before it says the next. One that says nothing waits no
// longer than any body does, and an answer without such fields not at all.
func TestAStreamIsNotHeldForItsTrailers(t *testing.T) {
	for name, tt := range map[string]struct {
		lines    string
		messages []string
		waits    time.Duration
	}{
		"with a message":   {"Content-Type: application/grpc", []string{"first"}, 0},
		"silent":           {"Content-Type: application/grpc", nil, 5 * time.Second},
		"not announced":    {"Content-Type: text/plain", nil, 0},
		"others announced": {"Trailer: X-Sum", nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin()
				p := newSetup(t, o, unauthenticated(t, rule.CheckHeaderContains, []any{"grpc-status", "16"})).start(t, o)
				p.get("/a")
				s := call("16", tt.messages...)
				serveStream(o, s, tt.lines)
				f := newFlow(t, "GET /s HTTP/1.1\nHost: o", nil)
				began := time.Now()
				if err := p.handler(context.Background(), f); err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(began); waited != tt.waits {
					t.Errorf("held for %v; want %v", waited, tt.waits)
				}
				s.push(" more")
				s.end(io.EOF)
				raw, err := readAll(f.ResponseBody)
				if want := strings.Join(append(tt.messages, " more"), ""); string(raw) != want || err != nil {
					t.Errorf("%q, %v", raw, err)
				}
				if got := f.ResponseBody.Framing().Trailers; got == nil || got.NumFields() != 1 {
					t.Error("the trailers are gone")
				}
				f.End(time.Now(), nil)
				p.engine.Close()
			})
		})
	}
}
