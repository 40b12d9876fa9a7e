package session_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
)

// taken is a rule that takes token T from header X-T and from a JSON body, and
// puts it into X-Mine.
func taken(t testing.TB) rule.Rule {
	return rule.Rule{Name: "take", Enabled: true, Dead: check(t, rule.CheckStatusCode, 401), Recovery: []string{"login"},
		Updates: []rule.Update{{Token: "T", Source: &rule.Source{Type: rule.SourceResponseHeader, Name: "X-T"}, Target: header("X-Mine")},
			{Token: "B", Source: &rule.Source{Type: rule.SourceJSON, Path: "b"}, Target: header("X-Body")}}}
}

// carried is what a request of now carries as T.
func carried(p *proxy, o *origin) string {
	p.t.Helper()
	var got string
	o.handle("/carried", func(_ context.Context, f *flow.Flow) error {
		v, _ := f.Request.Get("X-Mine")
		got = string(v)
		return answer(f, 200, "")
	})
	p.want(p.get("/carried"), 200)
	return got
}

// Answers come in any order. The token of the request that was stamped last
// wins, and what a recovery brought is never overwritten by an answer to a
// request from before it.
func TestTheNewestRequestsTokenWinsInAnyOrder(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 2))
		o := newOrigin()
		dead := false
		o.handle("/login", func(_ context.Context, f *flow.Flow) error {
			dead = false
			return answer(f, 200, `{"b":"-"}`, "X-T: recovered-"+strconv.Itoa(o.count("POST /login")))
		})
		o.handle("/dies", func(_ context.Context, f *flow.Flow) error {
			if dead {
				return answer(f, 401, "")
			}
			return answer(f, 200, "")
		})
		s := newSetup(t, o, taken(t))
		s.Macros = nil
		s.Macros = append(s.Macros, step(t, "login", "POST http://o/login HTTP/1.1\n\n"))
		p := s.start(t, o)
		want := "recovered-1"
		if got := carried(p, o); got != want {
			t.Fatalf("after the cold start: %q", got)
		}
		// Requests are open in sent, in the order of their stamps; few values,
		// so that the same one comes from several.
		type open struct {
			stamp int
			value string
			let   chan struct{}
			done  chan result
		}
		var sent []open
		newest := 0 // stamp whose value is in force; recoveries count too
		for stamp := 1; stamp <= 30; stamp++ {
			switch n := random.IntN(10); {
			case n < 5: // one more is sent
				one := open{stamp, fmt.Sprintf("v%d", random.IntN(3)), make(chan struct{}), make(chan result, 1)}
				there := make(chan struct{})
				path := fmt.Sprintf("/open%d", stamp)
				o.handle(path, func(_ context.Context, f *flow.Flow) error {
					close(there)
					<-one.let
					return answer(f, 200, "", "X-T: "+one.value)
				})
				go func() { one.done <- p.get(path) }()
				<-there
				sent = append(sent, one)
			case n < 9 && len(sent) > 0: // one is answered
				i := random.IntN(len(sent))
				one := sent[i]
				sent = append(sent[:i], sent[i+1:]...)
				close(one.let)
				<-one.done
				if one.stamp > newest {
					newest, want = one.stamp, one.value
				}
			case n == 9:
				dead = true
				p.want(p.get("/dies"), 200)
				newest, want = stamp, fmt.Sprintf("recovered-%d", o.count("POST /login"))
			}
			if got := carried(p, o); got != want {
				t.Fatalf("seed %d, after step %d: requests carry %q; want %q", seed, stamp, got, want)
			}
		}
		for _, one := range sent {
			close(one.let)
			<-one.done
		}
	}
}

// Bodies pass while they are looked at.
func TestATokenIsTakenFromAPassingBody(t *testing.T) {
	for name, c := range map[string]struct {
		pieces []string
		limit  int64
		end    error
		want   string
		note   string
	}{
		"in pieces":                {[]string{`{"b":`, `"new"}`}, 0, io.EOF, "new", "extract token B"},
		"too large":                {[]string{`{"b":"new","c":"`, strings.Repeat("x", 50), `"}`}, 40, io.EOF, "start", "no token was looked for"},
		"larger by the last piece": {[]string{`{"b":"new"}`, strings.Repeat(" ", 50)}, 40, io.EOF, "start", "no token was looked for"},
		"that breaks off":          {[]string{`{"b":"new"}`}, 0, errScript, "start", ""},
	} {
		o := newOrigin()
		o.handle("/login", func(_ context.Context, f *flow.Flow) error { return answer(f, 200, `{"b":"start"}`, "X-T: t") })
		setup := newSetup(t, o, taken(t))
		setup.Limits.JudgedBody = c.limit
		setup.Macros[0] = step(t, "login", "POST http://o/login HTTP/1.1\n\n")
		p := setup.start(t, o)
		s := newStream(c.pieces[0])
		serveStream(o, s)
		f := newFlow(t, "GET /s HTTP/1.1\nHost: o", nil)
		if err := p.handler(context.Background(), f); err != nil {
			t.Fatal(name, err)
		}
		first, err := f.ResponseBody.Next()
		if err != nil || isReady(f.ResponseBody) {
			t.Errorf("%s: first piece %q, %v", name, first, err)
		}
		for _, piece := range c.pieces[1:] {
			s.push(piece)
		}
		s.end(c.end)
		rest, err := readAll(f.ResponseBody)
		if string(first)+string(rest) != strings.Join(c.pieces, "") || (err == nil) != (c.end == io.EOF) {
			t.Errorf("%s: the client got %q, %v", name, string(first)+string(rest), err)
		}
		f.End(time.Now(), nil)
		if c.note != "" && !(result{flow: f}).traced(c.note) {
			t.Errorf("%s: the trace does not say %q: %+v", name, c.note, f.Trace.Events)
		}
		var got string
		o.handle("/carried", func(_ context.Context, f *flow.Flow) error {
			v, _ := f.Request.Get("X-Body")
			got = string(v)
			return answer(f, 200, "")
		})
		p.get("/carried")
		if got != c.want {
			t.Errorf("%s: then requests carry %q; want %q", name, got, c.want)
		}
	}
}

// A token that the recovery did not renew died with its session: an answer of
// the old one does not bring it back, one of the new one does.
func TestATokenThatDiedDoesNotComeBack(t *testing.T) {
	o := newOrigin()
	o.handle("/login", func(_ context.Context, f *flow.Flow) error { return answer(f, 200, `{"b":"x"}`) })
	setup := newSetup(t, o, taken(t))
	setup.Macros[0] = step(t, "login", "POST http://o/login HTTP/1.1\n\n")
	p := setup.start(t, o)
	p.get("/carried")
	let, there := make(chan struct{}), make(chan struct{})
	o.handle("/late", func(_ context.Context, f *flow.Flow) error {
		close(there)
		<-let
		return answer(f, 200, "", "X-T: old")
	})
	done := make(chan result)
	go func() { done <- p.get("/late") }()
	<-there
	var died sync.Once
	o.handle("/dies", func(_ context.Context, f *flow.Flow) error {
		status := 200
		died.Do(func() { status = 401 })
		return answer(f, status, "")
	})
	p.want(p.get("/dies"), 200)
	close(let)
	if r := <-done; !r.traced("belong to an old session") {
		t.Errorf("trace %+v", r.flow.Trace.Events)
	}
	if got := carried(p, o); got != "" {
		t.Errorf("requests carry %q of the dead session", got)
	}
	o.handle("/new", func(_ context.Context, f *flow.Flow) error { return answer(f, 200, "", "X-T: new") })
	p.get("/new")
	if got := carried(p, o); got != "new" {
		t.Errorf("requests carry %q; want the new session's token", got)
	}
}

func TestNothingIsTakenOrPutWhereTheSwitchesAreOff(t *testing.T) {
	o := newOrigin()
	setup := newSetup(t, o, taken(t))
	setup.rules[0].Recovery = nil
	setup.globals = rule.Globals{}
	p := setup.start(t, o)
	o.handle("/new", func(_ context.Context, f *flow.Flow) error { return answer(f, 200, "", "X-T: new") })
	p.want(p.get("/new"), 200)
	if got := carried(p, o); got != "" {
		t.Errorf("requests carry %q", got)
	}
	if r := p.deliver(context.Background(), newFlow(t, "GET /x HTTP/1.1\nHost: o", nil)); !r.flow.PassedDead || r.status != 401 {
		t.Errorf("a dead answer without a recovery: %v", r)
	}
}
