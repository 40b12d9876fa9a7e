package session_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// reading has the origin read a request's body before it answers.
func reading(o *origin, path string, bodies *[]string) {
	o.handle(path, func(_ context.Context, f *flow.Flow) error {
		raw, err := readAll(f.RequestBody)
		if err != nil {
			return err
		}
		*bodies = append(*bodies, string(raw))
		return o.protected(f)
	})
}

func TestARequestWithABodyIsSentAgainWhole(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*setup)
		body   wire.Body
		method string
		want   int
		note   string
	}{
		"as a rule":          {func(*setup) {}, newStream("one ", "two"), "POST", 200, "sent again, time 1"},
		"above the limit":    {func(s *setup) { s.Limits.ResendBody = 5 }, newStream("one ", "two"), "POST", 401, "larger than limits.resend_body"},
		"announced too long": {func(s *setup) { s.Limits.ResendBody = 5 }, wire.BytesBody(wire.Framing{Kind: wire.Length, Length: 7}, []byte("one two")), "POST", 401, "larger than limits.resend_body"},
		"never":              {func(s *setup) { s.rules[0].Resend = rule.ResendNever }, newStream("one ", "two"), "GET", 401, "resend: never"},
		"safe, and it is":    {func(s *setup) { s.rules[0].Resend = rule.ResendSafe }, newStream("one ", "two"), "GET", 200, "sent again, time 1"},
		"safe, and it isn't": {func(s *setup) { s.rules[0].Resend = rule.ResendSafe }, newStream("one ", "two"), "POST", 401, "resend: safe"},
	} {
		o := newOrigin()
		s := newSetup(t, o, bearer(t))
		c.change(s)
		p := s.start(t, o)
		p.want(p.get("/a"), 200)
		o.kill()
		if body, ok := c.body.(*stream); ok {
			body.end(io.EOF)
		}
		var bodies []string
		reading(o, "/w", &bodies)
		r := p.deliver(context.Background(), newFlow(t, c.method+" /w HTTP/1.1\nHost: o", c.body))
		sent := 1
		if c.want == 200 {
			sent = 2
		}
		if r.status != c.want || len(bodies) != sent || !r.traced(c.note) || r.flow.PassedDead != (c.want == 401) {
			t.Errorf("%s: got %v after bodies %q; trace %+v", name, r, bodies, r.flow.Trace.Events)
		}
		for _, b := range bodies {
			if b != "one two" {
				t.Errorf("%s: the origin read %q", name, b)
			}
		}
		p.want(p.get("/a"), 200) // whatever became of that request, the next one has a session
		if o.loginCount() != 2 {
			t.Errorf("%s: %d logins", name, o.loginCount())
		}
	}
}

func TestARuleOfHigherPriorityFillsThePlace(t *testing.T) {
	o := newOrigin()
	low := bearer(t, func(r *rule.Rule) {
		r.Name, r.Recovery = "low", nil
		r.Updates = []rule.Update{{Token: "LOW", Target: header("authorization")}, {Token: "LOW", Target: header("X-Low")}}
	})
	s := newSetup(t, o, low, bearer(t, func(r *rule.Rule) { r.Priority = 9 }))
	s.Variables = map[string]string{"LOW": "low"}
	p := s.start(t, o)
	var got string
	o.handle("/h", func(_ context.Context, f *flow.Flow) error {
		v, _ := f.Request.Get("X-Low")
		got = authorization(f) + " " + string(v)
		return answer(f, 200, "")
	})
	r := p.get("/h")
	if got != "token-1 low" || !r.traced("was filled by a rule of higher priority") {
		t.Errorf("the origin got %q; trace %+v", got, r.flow.Trace.Events)
	}
}

func TestAPathThatNoLoginChangesIsRemembered(t *testing.T) {
	now := time.Unix(1e9, 0)
	var warned []string
	o := newOrigin()
	o.handle("/forbidden", refuse(401))
	s := newSetup(t, o, bearer(t))
	s.Now, s.Warn = func() time.Time { return now }, func(text string) { warned = append(warned, text) }
	p := s.start(t, o)
	p.want(p.get("/a"), 200)
	p.want(p.get("/forbidden"), 401)
	spent := o.loginCount()
	if spent > 5 || len(warned) != 1 || !strings.Contains(warned[0], "confirm macro") {
		t.Errorf("%d logins, warnings %q", spent, warned)
	}
	for range 5 {
		p.want(p.get("/a"), 200)
		p.want(p.get("/forbidden"), 401)
	}
	if n := o.loginCount(); n != spent {
		t.Errorf("%d more logins for a path that is remembered", n-spent)
	}
	now = now.Add(2 * time.Minute)
	p.want(p.get("/forbidden"), 401)
	if n := o.loginCount(); n == spent || n > spent+4 {
		t.Errorf("%d logins after the memory ran out, %d before", n, spent)
	}
	o.kill() // and the memory is not in the way of a real death
	p.want(p.get("/a"), 200)
}

func TestLoginsInARowThatHelpNothingStop(t *testing.T) {
	now := time.Unix(1e9, 0)
	var warned atomic.Int64
	o := newOrigin()
	s := newSetup(t, o, bearer(t))
	s.Now, s.Warn = func() time.Time { return now }, func(string) { warned.Add(1) }
	p := s.start(t, o)
	p.want(p.get("/a"), 200)
	for i := range 50 {
		path := fmt.Sprintf("/forbidden%d", i)
		o.handle(path, refuse(401))
		p.want(p.get(path), 401)
	}
	spent := o.loginCount()
	if spent > 20 || warned.Load() == 0 {
		t.Errorf("%d logins for 50 paths that none changes; %d warnings", spent, warned.Load())
	}
	p.want(p.get("/a"), 200) // which ends the distrust
	o.kill()
	p.want(p.get("/a"), 200)
}

// Sessions that die faster than requests pass: there is an end to it.
func TestARequestIsNotSentForEver(t *testing.T) {
	o := newOrigin()
	var p *proxy
	o.handle("/dying", func(_ context.Context, f *flow.Flow) error {
		// Each sending meets a death that somebody else recovers at once.
		o.kill()
		p.want(p.get("/a"), 200)
		return answer(f, 401, "")
	})
	p = startBearer(t, o)
	r := p.get("/dying")
	if r.err == nil && r.status != 401 {
		t.Errorf("got %v", r)
	}
	if n := o.count("GET /dying"); n > 20 {
		t.Errorf("sent %d times", n)
	}
}

func TestATokenThatCannotStandInItsPlaceIsNotPut(t *testing.T) {
	o := newOrigin()
	o.handle("/login", func(_ context.Context, f *flow.Flow) error { return answer(f, 200, `{"access":"a\r\nEvil: yes"}`) })
	p := startBearer(t, o, passing)
	r := p.get("/a")
	if r.err == nil && (r.flow.Request.Has("Evil") || !r.traced("cannot be put in")) {
		t.Errorf("got %v, trace %+v", r, r.flow.Trace.Events)
	}
	if r.err != nil && r.failed == nil {
		t.Errorf("got %v", r)
	}
}
