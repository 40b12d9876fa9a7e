package session_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
)

// said is what the origin was sent last in a field.
func said(r result, name string) string {
	v, _ := r.flow.Request.Get(name)
	return string(v)
}

// twoPlaces fills a cookie besides Authorization, and takes it from answers.
func twoPlaces(r *rule.Rule) {
	r.Updates = append(r.Updates, rule.Update{Token: "SID", Source: &rule.Source{Type: rule.SourceCookie, Name: "sid"},
		Target: &rule.Target{Type: rule.TargetCookie, Name: "sid"}})
}

func startTwoPlaces(t testing.TB, o *origin, change ...func(*rule.Rule)) *proxy {
	t.Helper()
	s := newSetup(t, o, bearer(t, append([]func(*rule.Rule){twoPlaces}, change...)...))
	s.Variables = map[string]string{"SID": "ours"}
	return s.start(t, o)
}

func TestAKeptPlaceIsLeftAndOthersAreFilled(t *testing.T) {
	o := newOrigin()
	p := startTwoPlaces(t, o)
	p.get("/a")
	o.kill() // so that the request is sent twice
	r := p.do("GET /a HTTP/1.1\nHost: o\nCookie: sid='or 1; a=b\nholdfast-KEEP:  Cookie:sid , query:x")
	p.want(r, 200)
	if got := said(r, "Cookie"); got != "sid='or 1; a=b" {
		t.Errorf("cookie %q", got)
	}
	if said(r, "Authorization") == "" || r.flow.Request.Has("Holdfast-Keep") || !r.flow.Received.Has("Holdfast-Keep") {
		t.Errorf("sent %q", r.flow.Request.Bytes())
	}
	if !r.traced("keep cookie:sid is left as the client wrote it (Holdfast-Keep)") || !r.traced("resend") {
		t.Errorf("trace %+v", r.flow.Trace.Events)
	}
	// It was one request's word.
	if r = p.do("GET /a HTTP/1.1\nHost: o\nCookie: sid=x"); said(r, "Cookie") != "sid=ours" {
		t.Errorf("the next one carries %q", said(r, "Cookie"))
	}
}

func TestNothingIsTakenFromTheAnswerToAKeptPlace(t *testing.T) {
	for name, ask := range map[string]struct {
		foreign bool
		field   string
	}{"Holdfast-Keep": {false, "\nHoldfast-Keep: cookie:sid"}, "keep_foreign": {true, ""}} {
		o := newOrigin()
		p := startTwoPlaces(t, o, func(r *rule.Rule) { r.KeepForeign = ask.foreign })
		p.get("/a")
		o.handle("/new", func(_ context.Context, f *flow.Flow) error {
			return answer(f, 200, "", "Set-Cookie: sid=for-the-payload")
		})
		p.want(p.do("GET /new HTTP/1.1\nHost: o\nCookie: sid=payload"+ask.field), 200)
		if r := p.get("/a"); said(r, "Cookie") != "sid=ours" {
			t.Errorf("%s: the session has %q", name, said(r, "Cookie"))
		}
	}
}

func TestAKeptPlaceIsNotLearnedFrom(t *testing.T) {
	o := newOrigin()
	learn := func(r *rule.Rule) {
		r.Recovery, r.Updates = nil, []rule.Update{{Token: "SID", Source: &rule.Source{Type: rule.SourceRequestCookie, Name: "sid"}}}
	}
	s := newSetup(t, o, bearer(t, learn), rule.Rule{Name: "put", Enabled: true, Scope: rule.Scope{Tools: []string{"scanner"}},
		Updates: []rule.Update{{Token: "SID", Target: &rule.Target{Type: rule.TargetCookie, Name: "sid"}}}})
	p := s.start(t, o)
	o.handle("/a", func(_ context.Context, f *flow.Flow) error { return answer(f, 200, "") })
	p.do("GET /a HTTP/1.1\nHost: o\nCookie: sid=browser")
	p.do("GET /a HTTP/1.1\nHost: o\nCookie: sid=payload\nHoldfast-Keep: cookie:sid")
	f := newFlow(t, "GET /a HTTP/1.1\nHost: o", nil)
	f.Tool = "scanner"
	if r := p.deliver(context.Background(), f); said(r, "Cookie") != "sid=browser" {
		t.Errorf("the scanner carries %q", said(r, "Cookie"))
	}
}

func TestAKeptPlaceFeedsNoJar(t *testing.T) {
	o := newOrigin()
	s := newSetup(t, o, bearer(t, twoPlaces))
	s.Variables, s.Feed = map[string]string{"SID": "ours"}, session.Feed{Tools: []string{flow.ToolProxy}, Observe: true}
	p := s.start(t, o)
	set := func(_ context.Context, f *flow.Flow) error {
		return answer(f, 200, "", "Set-Cookie: b=2; Path=/", "Set-Cookie: sid=for-the-payload")
	}
	o.handle("/set", set)
	for _, host := range []string{"o", "elsewhere"} {
		f := newFlow(t, "GET /set HTTP/1.1\nHost: o\nCookie: sid=payload; a=1\nHoldfast-Keep: cookie:sid", nil)
		f.Origin.Host = host
		p.want(p.deliver(context.Background(), f), 200)
	}
	all, _ := p.engine.Cookies("")
	if slices.ContainsFunc(all, func(c jar.Cookie) bool { return c.Name == "sid" }) || len(all) != 4 {
		t.Errorf("the jar holds %v", all)
	}
}

func TestActionsLeaveWhatTheClientKeeps(t *testing.T) {
	o := newOrigin()
	r := acts(rule.Action{UseCookies: &rule.UseCookies{Mode: rule.CookiesStrip}},
		rule.Action{SetHeader: &rule.SetHeader{Name: "X-A", Value: template(t, "ours")}},
		rule.Action{SetHeader: &rule.SetHeader{Name: "X-B", Value: template(t, "ours")}})
	p := newSetup(t, o, r).start(t, o)
	o.handle("/a", func(_ context.Context, f *flow.Flow) error {
		return answer(f, 200, "", "Set-Cookie: sid=ours", "Set-Cookie: x=ours")
	})
	p.get("/a")
	got := p.do("GET /a HTTP/1.1\nHost: o\nCookie: sid=payload; y=1\nX-A: payload\nX-B: 1\nHoldfast-Keep: cookie:sid, header:x-a")
	if said(got, "Cookie") != "sid=payload; x=ours" || said(got, "X-A") != "payload" || said(got, "X-B") != "ours" {
		t.Errorf("sent %q, trace %+v", got.flow.Request.Bytes(), got.flow.Trace.Events)
	}
}

// A request that carries nothing of ours says nothing about our session, and
// needs none.
func TestARequestThatKeepsEverythingIsNotJudged(t *testing.T) {
	o := newOrigin()
	p := startBearer(t, o)
	const kept = "GET /a HTTP/1.1\nHost: o\nAuthorization: Bearer payload\nHoldfast-Keep: header:AUTHORIZATION"
	r := p.do(kept)
	p.want(r, 401)
	if o.loginCount() != 0 || said(r, "Authorization") != "Bearer payload" || r.flow.PassedDead {
		t.Errorf("%d logins, %q", o.loginCount(), said(r, "Authorization"))
	}
	p.get("/a")
	for range 5 {
		p.want(p.do(kept), 401)
	}
	if s := p.engine.Status()[0]; o.loginCount() != 1 || s.State != "alive" {
		t.Errorf("%d logins, %s", o.loginCount(), s.State)
	}
}

func TestWhatWouldEndTheSessionIsNotSent(t *testing.T) {
	o := newOrigin()
	o.handle("/logout", func(_ context.Context, f *flow.Flow) error {
		if o.isLive(f) {
			o.kill()
		}
		return answer(f, 200, "bye")
	})
	protect := func(r *rule.Rule) { r.Protect = []rule.Scope{{Pattern: "/logout"}}; r.KeepForeign = true }
	s := newSetup(t, o, bearer(t, protect, func(r *rule.Rule) { r.Scope.Identities = []string{"alice"} }))
	s.Identities = []session.Identity{{Name: "alice"}, {Name: "bob"}}
	s.globals.Identity = "alice"
	p := s.start(t, o)
	const logout = "GET /logout?x=1 HTTP/1.1\nHost: o"
	for _, head := range []string{logout, strings.Replace(logout, "GET", "POST", 1), logout + "\nHoldfast-Identity: alice", logout + "\nHoldfast-Keep: cookie:x"} {
		r := p.do(head)
		if r.failed == nil || r.failed.Code() != 403 || r.failed.Reason != flow.ReasonProtected || !strings.Contains(r.failed.Next, "Holdfast-Protect: off") || !r.traced("refuse") {
			t.Errorf("got %v", r)
		}
	}
	if o.loginCount() != 0 || o.count("GET /logout") != 0 {
		t.Errorf("sent %q", o.sent)
	}
	p.want(p.get("/a"), 200)
	for _, more := range []string{"\nHoldfast-Identity: bob", "\nHoldfast-Identity: anonymous", "\nHoldfast-Keep: header:authorization", "\nAuthorization: Bearer mine"} {
		p.want(p.do(logout+more), 200)
	}
	p.want(p.get("/a"), 200)
	if o.loginCount() != 1 {
		t.Errorf("%d logins", o.loginCount())
	}
	p.want(p.do(logout+"\nHoldfast-Protect: OFF"), 200)
	if p.want(p.get("/a"), 200); o.loginCount() != 2 {
		t.Errorf("%d logins after a logout", o.loginCount())
	}
}

func TestAnonymousRequestsLoseTheirCredentials(t *testing.T) {
	o := newOrigin()
	places := func(r *rule.Rule) {
		r.Updates = append(r.Updates, rule.Update{Token: "KEY", Target: header("X-Own")},
			rule.Update{Token: "Q", Target: &rule.Target{Type: rule.TargetQueryParam, Name: "api_key"}},
			rule.Update{Token: "B", Target: &rule.Target{Type: rule.TargetFormParam, Name: "b"}})
		r.Scope = rule.Scope{Pattern: "o", Identities: []string{"alice"}}
	}
	s := newSetup(t, o, bearer(t, places))
	s.Identities = []session.Identity{{Name: "alice"}}
	p := s.start(t, o)
	o.handle("/a", func(_ context.Context, f *flow.Flow) error { return answer(f, 200, "") })
	const fields = "\nAuthorization: Basic x\nCOOKIE: a=b\nCookie: c=d\nX-Own: 1\nX-Api-Key: 2\nX-Other: 3"
	r := p.do("GET /a?x=1&api_key=k&API_KEY=l&api%5fkey HTTP/1.1\nHost: o" + fields + "\nHoldfast-Identity: anonymous")
	if got, want := string(r.flow.Request.Bytes()), "GET /a?x=1&API_KEY=l HTTP/1.1\r\nHost: o\r\nX-Other: 3\r\n\r\n"; got != want {
		t.Errorf("sent %q; want %q", got, want)
	}
	if !r.traced("strip taken out, since the request is anonymous: header:authorization, header:cookie, header:x-api-key, header:x-own, query:api_key") {
		t.Errorf("trace %+v", r.flow.Trace.Events)
	}
	// What is kept stays, and where no rule is in scope everything does.
	r = p.do("GET /a?api_key=k HTTP/1.1\nHost: o" + fields + "\nHoldfast-Identity: anonymous\nHoldfast-Keep: query:api_key, cookie:a")
	if got, want := string(r.flow.Request.Bytes()), "GET /a?api_key=k HTTP/1.1\r\nHost: o\r\nCOOKIE: a=b\r\nCookie: c=d\r\nX-Other: 3\r\n\r\n"; got != want {
		t.Errorf("sent %q; want %q", got, want)
	}
	f := newFlow(t, "GET /a?api_key=k HTTP/1.1\nHost: elsewhere"+fields, nil)
	f.Identity, f.Origin.Host = session.Anonymous, "elsewhere"
	if r = p.deliver(context.Background(), f); r.flow.Request != r.flow.Received || len(r.flow.Trace.Events) > 0 {
		t.Errorf("out of scope: sent %q", r.flow.Request.Bytes())
	}
	if o.loginCount() != 0 {
		t.Error("somebody logged in")
	}
}

// A request without such fields is looked at and not copied.
func TestLookingForDirectivesAllocatesNothing(t *testing.T) {
	o := newOrigin()
	p := newSetup(t, o, bearer(t, func(r *rule.Rule) { r.Scope.Pattern = "elsewhere" })).start(t, o)
	h := p.engine.Direct(func(context.Context, *flow.Flow) error { return nil })
	f := newFlow(t, "GET /a HTTP/1.1\nHost: o\nHoldfas: x\nHoldfast-: x\nholdfast: x\nCookie: a=b", nil)
	if n := testing.AllocsPerRun(100, func() {
		if err := h(context.Background(), f); err != nil {
			t.Error(err)
		}
	}); n > 0 || f.Request != f.Received {
		t.Errorf("%v allocations", n)
	}
}

func TestWhatIsExplainedHasTheRequestsOwnWord(t *testing.T) {
	o := newOrigin()
	s := newSetup(t, o, bearer(t, twoPlaces, func(r *rule.Rule) { r.Protect = []rule.Scope{{Pattern: "/logout"}} }))
	s.Variables = map[string]string{"SID": "ours"}
	s.Identities = []session.Identity{{Name: "alice"}, {Name: "bob"}}
	p := s.start(t, o)
	explain := func(head string) (*session.Explanation, *flow.Flow) {
		t.Helper()
		f := newFlow(t, head, nil)
		e, err := p.engine.Explain(context.Background(), f, nil)
		if err != nil {
			t.Fatal(err)
		}
		return e, f
	}
	e, f := explain("GET /logout HTTP/1.1\nHost: o\nCookie: sid=x\nHoldfast-Identity: bob\nHoldfast-Keep: cookie:sid")
	if v, _ := f.Request.Get("Cookie"); e.Identity != "bob" || string(v) != "sid=x" || f.Request.Has("Holdfast-Keep") {
		t.Errorf("%+v of %q", e, f.Request.Bytes())
	}
	if steps := e.Rules[0].Steps; len(steps) == 0 || steps[0].Action != flow.ActionRefuse {
		t.Errorf("steps %+v", steps)
	}
	e, f = explain("GET /logout HTTP/1.1\nHost: o\nCookie: sid=x\nHoldfast-Identity: anonymous")
	if e.Identity != "anonymous" || f.Request.Has("Cookie") || len(e.Changes) == 0 || e.Rules[0].Applies {
		t.Errorf("%+v of %q", e, f.Request.Bytes())
	}
	if _, err := p.engine.Explain(context.Background(), newFlow(t, "GET / HTTP/1.1\nHoldfast-Identity: eve", nil), nil); err == nil {
		t.Error("nobody is explained")
	}
	if o.loginCount() != 0 {
		t.Error("somebody logged in")
	}
}

// However requests of several identities follow each other and overlap, and
// whatever the origin sets for each, a cookie or token that one was given goes
// out for that one alone. Every value the origin gives says for whom it is.
func TestNothingOfOneIdentityGoesOutForAnother(t *testing.T) {
	names := []string{"alice", "bob", "carol", session.Anonymous}
	var count, cookies, tokens atomic.Int64
	o := newOrigin()
	s := newSetup(t, o, acts(rule.Action{UseCookies: &rule.UseCookies{}}), bearer(t))
	s.Macros = []*macro.Macro{step(t, "login", "POST http://o/login/{{WHO}} HTTP/1.1\n\n", "ACCESS access")}
	for _, name := range names[:3] {
		s.Identities = append(s.Identities, session.Identity{Name: name, Variables: map[string]string{"WHO": name}})
		o.handle("/login/"+name, func(_ context.Context, f *flow.Flow) error {
			n := count.Add(1)
			return answer(f, 200, fmt.Sprintf(`{"access":"%s-%d"}`, name, n), fmt.Sprintf("Set-Cookie: c%d=%s-%d; Path=/", n%5, name, n))
		})
	}
	s.Feed = session.Feed{Tools: []string{flow.ToolProxy}, Ruled: true, Observe: true}
	o.handle("/a", func(_ context.Context, f *flow.Flow) error {
		who, n := f.Identity, count.Add(1)
		for i := range f.Request.NumFields() {
			name, value := f.Request.Field(i)
			var values []string
			switch string(name) {
			case "Authorization":
				tokens.Add(1)
				values = []string{strings.TrimPrefix(string(value), "Bearer ")}
			case "Cookie":
				cookies.Add(1)
				for pair := range strings.SplitSeq(string(value), "; ") {
					_, v, _ := strings.Cut(pair, "=")
					values = append(values, v)
				}
			}
			for _, v := range values {
				if !strings.HasPrefix(v, who+"-") {
					t.Errorf("a request of %s carries %s: %s", who, name, v)
				}
			}
		}
		if n%7 == 0 {
			return answer(f, 401, "")
		}
		return answer(f, 200, "", fmt.Sprintf("Set-Cookie: c%d=%s-%d; Path=/", n%5, who, n))
	})
	p := s.start(t, o)
	var wg sync.WaitGroup
	for c := range 6 {
		wg.Go(func() {
			dice := rand.New(rand.NewPCG(1, uint64(c)))
			var last *flow.Flow
			for range 500 {
				f := newFlow(t, "GET /a HTTP/1.1\nHost: o\nHoldfast-Identity: "+names[dice.IntN(len(names))], nil)
				if last != nil { // as on one connection
					f.RuleMemory = last.RuleMemory
				}
				p.deliver(context.Background(), f)
				last = f
			}
		})
	}
	wg.Wait()
	if cookies.Load() < 500 || tokens.Load() < 500 {
		t.Errorf("only %d requests with cookies and %d with tokens", cookies.Load(), tokens.Load())
	}
}
