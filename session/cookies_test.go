package session_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/wire"
)

// cookies is what an identity's jar would send to http://o/.
func (p *proxy) cookies(identity string) string {
	all, ok := p.engine.Cookies(identity)
	if !ok {
		return "no such identity"
	}
	j := jar.New(jar.Options{})
	j.Import(all, time.Now())
	return j.Header(jar.URL{Host: "o", Path: "/"}, time.Now())
}

func feeding(s *setup) *setup {
	s.Feed = session.Feed{Tools: []string{flow.ToolProxy}, Observe: true}
	return s
}

// setting has a path answered with cookies.
func (o *origin) setting(path string, status int, set ...string) {
	o.handle(path, func(_ context.Context, f *flow.Flow) error {
		var lines []string
		for _, s := range set {
			lines = append(lines, "Set-Cookie: "+s)
		}
		return answer(f, status, "", lines...)
	})
}

func usesJar(r *rule.Rule) { r.Actions = []rule.Action{{UseCookies: &rule.UseCookies{}}} }

func TestWhatFeedsTheJar(t *testing.T) {
	one := func(r *rule.Rule) { r.Scope.Pattern, r.Scope.Target = "http://o/ruled", "url" }
	for _, c := range []struct {
		name, tool, identity string
		path                 string
		feed                 session.Feed
		status               int
		change               func(*rule.Rule)
		want                 string
	}{
		{name: "the default is nothing", feed: session.Feed{}, path: "/any"},
		{name: "no rule", path: "/any", want: "a=1"},
		{name: "a rule", path: "/ruled", want: "a=1"},
		{name: "another tool", tool: "scanner", path: "/any"},
		{name: "another tool under a rule", tool: "scanner", path: "/ruled"},
		{name: "a tool of the list", tool: "Scanner", feed: session.Feed{Tools: []string{"zap", "scanner"}}, path: "/any", want: "a=1"},
		{name: "anonymous", identity: session.Anonymous, path: "/any"},
		{name: "nobody", identity: "zoe", path: "/any"},
		{name: "a tool that sends the jar's cookies", feed: session.Feed{Ruled: true, Tools: []string{"proxy"}}, tool: "scanner", path: "/ruled", change: usesJar, want: "a=1"},
		{name: "a tool that sends the jar's cookies, and is not listed", feed: session.Feed{Tools: []string{"proxy"}}, tool: "scanner", path: "/ruled", change: usesJar},
		{name: "an error of the application", path: "/any", status: 500, want: "a=1"},
		{name: "a dead answer is passed", path: "/ruled", status: 401, change: func(r *rule.Rule) { r.Recovery = nil }},
		{name: "a dead answer that no login changes", path: "/ruled", status: 401, change: func(r *rule.Rule) { r.OnFailure = rule.FailPass }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOrigin()
			if c.status == 0 {
				c.status = 200
			}
			o.setting("/any", c.status, "a=1")
			o.setting("/ruled", c.status, "a=1")
			if c.change == nil {
				c.change = func(*rule.Rule) {}
			}
			s := newSetup(t, o, bearer(t, one, c.change))
			if s.Feed = c.feed; c.feed.Tools == nil && c.name != "the default is nothing" {
				feeding(s)
			}
			p := s.start(t, o)
			f := newFlow(t, "GET "+c.path+" HTTP/1.1\nHost: o", nil)
			if f.Identity = c.identity; c.tool != "" {
				f.Tool = c.tool
			}
			r := p.deliver(context.Background(), f)
			if r.err != nil {
				t.Fatal(r)
			}
			if got := p.cookies(""); got != c.want {
				t.Errorf("the jar has %q, want %q; trace %+v", got, c.want, r.flow.Trace.Events)
			}
			if told := r.traced(`extract cookie "a" added`); told != (c.want != "") {
				t.Errorf("the trace says so: %v; %+v", told, r.flow.Trace.Events)
			}
			for _, e := range r.flow.Trace.Events {
				if strings.Contains(e.Detail, "a=1") {
					t.Errorf("a value is in the trace: %+v", e)
				}
			}
		})
	}
}

func TestALogoutThatIsJudgedDeadLeavesTheCookie(t *testing.T) {
	o := newOrigin()
	o.setting("/set", 200, "sid=1")
	dead := false
	o.handle("/page", func(_ context.Context, f *flow.Flow) error {
		if dead = !dead; dead {
			return answer(f, 401, "", "Set-Cookie: sid=; Max-Age=0", "Set-Cookie: fresh=of-a-stranger")
		}
		return answer(f, 200, "", "Set-Cookie: seen=1")
	})
	p := feeding(newSetup(t, o, bearer(t))).start(t, o)
	p.want(p.get("/set"), 200)
	p.want(p.get("/page"), 200)
	if got := p.cookies(""); got != "sid=1; seen=1" {
		t.Errorf("the jar has %q", got)
	}
}

func TestAContradictedAnswerFeedsTheJar(t *testing.T) {
	o := newOrigin()
	o.setting("/forbidden", 401, "a=1")
	s := newSetup(t, o, bearer(t, confirmed("whoami")))
	s.Macros = append(s.Macros, whoami(t))
	p := feeding(s).start(t, o)
	p.want(p.get("/forbidden"), 401)
	if got := p.cookies(""); got != "a=1" {
		t.Errorf("the jar has %q", got)
	}
}

func TestAnAnswerToTheClientsOwnSessionFeedsNothing(t *testing.T) {
	o := newOrigin()
	o.setting("/page", 200, "a=1")
	p := feeding(newSetup(t, o, bearer(t, func(r *rule.Rule) { r.KeepForeign = true }))).start(t, o)
	p.want(p.do("GET /page HTTP/1.1\nHost: o\nAuthorization: Bearer mine\nCookie: b=2"), 200)
	if got := p.cookies(""); got != "" {
		t.Errorf("the jar has %q", got)
	}
	p.want(p.do("GET /page HTTP/1.1\nHost: o\nCookie: b=2"), 200)
	if got := p.cookies(""); got != "b=2; a=1" {
		t.Errorf("the jar has %q", got)
	}
}

func TestAnOlderAnswerNeverOverwritesANewerCookie(t *testing.T) {
	o := newOrigin()
	var p *proxy
	o.setting("/second", 200, "sid=second", "gone=; Max-Age=0")
	o.handle("/first", func(_ context.Context, f *flow.Flow) error {
		p.want(p.get("/second"), 200) // begins later, and is answered first
		return answer(f, 200, "", "Set-Cookie: sid=first", "Set-Cookie: gone=first", "Set-Cookie: other=first")
	})
	p = feeding(newSetup(t, o)).start(t, o)
	r := p.get("/first")
	p.want(r, 200)
	if got := p.cookies(""); got != "sid=second; other=first" {
		t.Errorf("the jar has %q", got)
	}
	if !r.traced(`"sid" stale`) {
		t.Errorf("the trace does not say that the cookie is stale: %+v", r.flow.Trace.Events)
	}
}

// While the login is under way, and once it is over, answers to the old
// session's requests remove its cookie.
func TestLateAnswersOfADeadSessionBringNoCookies(t *testing.T) {
	o := newOrigin()
	var p *proxy
	o.setting("/old", 200, "sid=; Max-Age=0")
	o.handle("/login", func(_ context.Context, f *flow.Flow) error {
		if err := o.login(f); err != nil {
			return err
		}
		return answer(f, 200, `{"access":"token-1"}`, "Set-Cookie: sid=1")
	})
	o.handle("/more", func(_ context.Context, f *flow.Flow) error {
		p.want(p.get("/old"), 200) // the step before has set the cookie
		return answer(f, 200, "")
	})
	o.handle("/slow", func(_ context.Context, f *flow.Flow) error {
		p.want(p.get("/page"), 200) // which logs in
		return answer(f, 200, "", "Set-Cookie: sid=; Max-Age=0", "Set-Cookie: stray=1")
	})
	s := newSetup(t, o, bearer(t, func(r *rule.Rule) { r.Scope.Pattern, r.Scope.Target = "http://o/page", "url" }))
	s.Macros[0].Steps = append(s.Macros[0].Steps, oneStep(t, "GET http://o/more HTTP/1.1\n\n"))
	p = feeding(s).start(t, o)
	p.want(p.get("/slow"), 200)
	if got := p.cookies(""); got != "sid=1" {
		t.Errorf("the jar has %q, want what the login brought", got)
	}
}

func TestMacrosFeedTheJarInAnyCase(t *testing.T) {
	o := newOrigin()
	o.handle("/login", func(_ context.Context, f *flow.Flow) error {
		if err := o.login(f); err != nil {
			return err
		}
		return answer(f, 200, `{"access":"token-1"}`, "Set-Cookie: sid=1")
	})
	p := newSetup(t, o, bearer(t)).start(t, o)
	p.want(p.get("/page"), 200)
	if got := p.cookies(""); got != "sid=1" {
		t.Errorf("the jar has %q", got)
	}
}

func TestCookiesOfRequestsAreObserved(t *testing.T) {
	const page = "GET /page HTTP/1.1\nHost: o\nCookie: "
	for _, c := range []struct {
		name, head string
		observe    bool
		status     int
		set        []string
		want       string
	}{
		{name: "off", head: page + "a=1"},
		{name: "on", observe: true, head: page + "a=1; b=2", want: "a=1; b=2"},
		{name: "two fields", observe: true, head: page + "a=1\nCookie: b=2", want: "a=1; b=2"},
		{name: "the answer knows better", observe: true, head: page + "a=1; b=2", set: []string{"a=9"}, want: "b=2; a=9"},
		{name: "the answer removes it", observe: true, head: page + "a=1; b=2", set: []string{"a=; Max-Age=0"}, want: "b=2"},
		{name: "dead", observe: true, head: page + "a=1", status: 401},
		{name: "what a rule put in", observe: true, head: page + "a=1; T=mine", want: "a=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOrigin()
			if c.status == 0 {
				c.status = 200
			}
			o.setting("/page", c.status, c.set...)
			s := feeding(newSetup(t, o, rule.Rule{Name: "cookie", Enabled: true, Dead: check(t, rule.CheckStatusCode, 401),
				Updates: []rule.Update{{Token: "T", Target: &rule.Target{Type: rule.TargetCookie, Name: "T"}}}}))
			s.Variables = map[string]string{"T": "ours"}
			s.Feed.Observe = c.observe
			p := s.start(t, o)
			p.want(p.do(c.head), c.status)
			if got := p.cookies(""); got != c.want {
				t.Errorf("the jar has %q, want %q", got, c.want)
			}
		})
	}
}

func TestAJarBeginsWithImportedCookies(t *testing.T) {
	o := newOrigin()
	s := newSetup(t, o)
	cookie := func(value string) []jar.Cookie {
		return []jar.Cookie{{Name: "sid", Value: value, Domain: "o", HostOnly: true, Path: "/"}}
	}
	s.Identities = []session.Identity{{Name: "alice", Cookies: cookie("of-alice")}, {Name: "bob", Cookies: cookie("of-bob")}}
	p := s.start(t, o)
	for name, want := range map[string]string{"alice": "sid=of-alice", "bob": "sid=of-bob", "": "sid=of-alice", "zoe": "no such identity"} {
		if got := p.cookies(name); got != want {
			t.Errorf("%q has %q, want %q", name, got, want)
		}
	}
}

func TestALongListOfCookiesIsCutInTheTrace(t *testing.T) {
	o := newOrigin()
	var set []string
	for i := range 40 {
		set = append(set, fmt.Sprintf("%s%d=v", strings.Repeat("n", 500), i))
	}
	o.setting("/page", 200, set...)
	p := feeding(newSetup(t, o)).start(t, o)
	r := p.get("/page")
	p.want(r, 200)
	if !r.traced("and 24 more") || len(r.flow.Trace.Events) != 1 || len(r.flow.Trace.Events[0].Detail) > 2000 {
		t.Errorf("trace %+v", r.flow.Trace.Events)
	}
}

// The jars cost a request nothing that no rule covers, whether they are fed or
// not.
func TestTheJarCostsAnUntouchedRequestNothing(t *testing.T) {
	request, err := wire.ParseRequest([]byte("GET / HTTP/1.1\r\nHost: o\r\nCookie: a=1; b=2\r\nAccept: */*\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := wire.ParseResponse([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nServer: o\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	send := func(_ context.Context, f *flow.Flow) error { f.Response = response; return nil }
	for _, feed := range []session.Feed{{}, {Tools: []string{"scanner", "proxy"}}} {
		e, err := session.New(session.Config{Send: send, Macros: []*macro.Macro{}, Feed: feed})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		stage, ctx := e.Stage(send), context.Background()
		f := &flow.Flow{}
		n := testing.AllocsPerRun(100, func() {
			*f = flow.Flow{Tool: flow.ToolProxy, Origin: flow.Origin{Host: "o", Port: 80}, Received: request, Request: request}
			if err := stage(ctx, f); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("feed %+v: %v allocations for a request that nothing touches", feed, n)
		}
	}
}
