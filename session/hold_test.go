package session_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// deadWords is a rule for which "please log in" in the body is dead.
func deadWords(t testing.TB) rule.Rule {
	return bearer(t, func(r *rule.Rule) { r.Dead = check(t, rule.CheckResponseContains, "please log in") })
}

// serveStream answers /s with a stream.
func serveStream(o *origin, s *stream, lines ...string) {
	o.handle("/s", func(_ context.Context, f *flow.Flow) error { return answerWith(f, 200, s, lines...) })
}

func TestABodyIsJudgedWholeAndPassedWhole(t *testing.T) {
	o := newOrigin()
	p := newSetup(t, o, deadWords(t)).start(t, o)
	s := newStream("a ", "live ", "page")
	s.end(io.EOF)
	serveStream(o, s)
	if r := p.get("/s"); r.body != "a live page" || r.err != nil {
		t.Errorf("got %v", r)
	}
}

func TestABodyBeyondTheByteLimitIsJudgedOnItsBeginning(t *testing.T) {
	o := newOrigin()
	setup := newSetup(t, o, deadWords(t))
	setup.Limits.JudgedBody = 8
	p := setup.start(t, o)
	p.get("/a")
	s := newStream("12345678", "please log in", " and the rest")
	s.end(io.EOF)
	serveStream(o, s)
	r := p.get("/s")
	if r.body != "12345678please log in and the rest" || r.err != nil || !r.traced("judged on its first 8 bytes") {
		t.Errorf("got %v, trace %+v", r, r.flow.Trace.Events)
	}
	if o.loginCount() != 1 {
		t.Errorf("%d logins", o.loginCount())
	}
}

func TestABodyThatStallsIsPassedOnAfterTheTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		p := newSetup(t, o, deadWords(t)).start(t, o)
		p.get("/a")
		s := newStream("the beginning")
		serveStream(o, s)
		f := newFlow(t, "GET /s HTTP/1.1\nHost: o", nil)
		began := time.Now()
		if err := p.handler(context.Background(), f); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited != 5*time.Second {
			t.Errorf("held for %v; want 5 s", waited)
		}
		if !isReady(f.ResponseBody) {
			t.Error("what was held is not ready")
		}
		if piece, err := f.ResponseBody.Next(); string(piece) != "the beginning" || err != nil {
			t.Errorf("then came %q, %v", piece, err)
		}
		if isReady(f.ResponseBody) {
			t.Error("what is to come is ready")
		}
		s.push(" and more")
		s.end(io.EOF)
		if rest, err := readAll(f.ResponseBody); string(rest) != " and more" || err != nil {
			t.Errorf("the rest was %q, %v", rest, err)
		}
		if f.ResponseBody.Framing().Kind != wire.UntilClose {
			t.Error("the framing changed")
		}
		f.End(time.Now(), nil)
		p.engine.Close()
	})
}

func isReady(b wire.Body) bool { return b.(interface{ Ready() bool }).Ready() }

func TestAHeldBodyThatIsClosedWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		p := newSetup(t, o, deadWords(t)).start(t, o)
		p.get("/a")
		s := newStream("the beginning")
		serveStream(o, s)
		f := newFlow(t, "GET /s HTTP/1.1\nHost: o", nil)
		if err := p.handler(context.Background(), f); err != nil {
			t.Fatal(err)
		}
		f.ResponseBody.Close()
		if !s.isClosed() {
			t.Error("the origin's body was not closed")
		}
		p.engine.Close() // and nothing waits any more
	})
}

func TestAClientThatLeavesWhileABodyIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		p := newSetup(t, o, deadWords(t)).start(t, o)
		p.get("/a")
		s := newStream("the beginning")
		serveStream(o, s)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if r := p.deliver(ctx, newFlow(t, "GET /s HTTP/1.1\nHost: o", nil)); !errors.Is(r.err, context.DeadlineExceeded) {
			t.Errorf("got %v", r)
		}
		if !s.isClosed() {
			t.Error("the origin's body was not closed")
		}
		p.engine.Close()
	})
}

func TestStreamsAreNotHeld(t *testing.T) {
	o := newOrigin()
	p := newSetup(t, o, deadWords(t)).start(t, o)
	p.get("/a")
	s := newStream("data: please log in\n\n")
	serveStream(o, s, "Content-Type: Text/Event-Stream; charset=utf-8")
	f := newFlow(t, "GET /s HTTP/1.1\nHost: o", nil)
	if err := p.handler(context.Background(), f); err != nil {
		t.Fatal(err)
	}
	if piece, err := f.ResponseBody.Next(); !strings.HasPrefix(string(piece), "data:") || err != nil {
		t.Errorf("%q, %v", piece, err)
	}
	f.ResponseBody.Close()
	f.End(time.Now(), nil)
}

func TestCodedBodiesAreJudgedDecoded(t *testing.T) {
	for name, c := range map[string]struct {
		body    string
		framing wire.Framing
		lines   []string
	}{
		"in chunks":               {"8\r\nplease l\r\n5\r\nog in\r\n0\r\n\r\n", wire.Framing{Kind: wire.Chunked}, []string{"Transfer-Encoding: chunked"}},
		"a coding nobody knows":   {"please log in", wire.Framing{Kind: wire.UntilClose}, []string{"Content-Encoding: rot13"}},
		"a coding that is broken": {"please log in", wire.Framing{Kind: wire.UntilClose}, []string{"Content-Encoding: gzip"}},
		"chunks that are none":    {"please log in", wire.Framing{Kind: wire.Chunked}, []string{"Transfer-Encoding: chunked"}},
	} {
		o := newOrigin()
		p := newSetup(t, o, deadWords(t)).start(t, o)
		p.get("/a")
		o.handle("/s", func(_ context.Context, f *flow.Flow) error {
			if o.count("GET /s") > 1 {
				return answer(f, 200, "welcome")
			}
			return answerWith(f, 200, wire.BytesBody(c.framing, []byte(c.body)), c.lines...)
		})
		if r := p.get("/s"); r.body != "welcome" {
			t.Errorf("%s: got %v; want it judged dead and sent again", name, r)
		}
	}
}
