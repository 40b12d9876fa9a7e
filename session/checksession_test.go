package session_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
)

// answers has a path answered by what n says, the count of answers from 1.
func (o *origin) answers(path string, with func(n int64) (status int, body string, lines []string)) *atomic.Int64 {
	count := new(atomic.Int64)
	o.handle(path, func(_ context.Context, f *flow.Flow) error {
		status, body, lines := with(count.Add(1))
		return answer(f, status, body, lines...)
	})
	return count
}

// Where the request is the probe, an invalid answer is recovered and the
// request sent again.
func TestActionCheckSessionProbeRequest(t *testing.T) {
	for _, c := range []struct {
		name   string
		action rule.CheckSession
		status int
		body   string
		line   string // a header of the first answer
		dead   bool
	}{
		{"LookInHeaders", rule.CheckSession{LookIn: []string{rule.LookHeaders}, Literal: "401 Text"}, 401, "", "A: b", true},
		{"LookInHeadersNotInTheBody", rule.CheckSession{LookIn: []string{rule.LookHeaders}, Literal: "sign in"}, 200, "sign in", "A: b", false},
		{"LookInBody", rule.CheckSession{LookIn: []string{rule.LookBody}, Literal: "sign in"}, 200, "please sign in", "A: b", true},
		{"LookInBodyNotInTheHeaders", rule.CheckSession{LookIn: []string{rule.LookBody}, Literal: "sign in"}, 200, "", "A: sign in", false},
		{"LookInRedirectURL", rule.CheckSession{LookIn: []string{rule.LookRedirect}, Literal: "/login"}, 302, "", "Location: /login?x", true},
		{"LookInRedirectURLOfNoRedirect", rule.CheckSession{LookIn: []string{rule.LookRedirect}, Literal: "/login"}, 200, "/login", "Location: /login?x", false},
		{"LookInEverywhere", rule.CheckSession{Literal: "sign in"}, 200, "", "A: sign in", true},
		{"MatchLiteral", rule.CheckSession{LookIn: []string{rule.LookBody}, Literal: "a.c"}, 200, "abc", "A: b", false},
		{"MatchRegex", rule.CheckSession{LookIn: []string{rule.LookBody}, Regex: "a.c"}, 200, "ABC", "A: b", true},
		{"CaseSensitive", rule.CheckSession{LookIn: []string{rule.LookBody}, Literal: "sign", CaseSensitive: true}, 200, "SIGN", "A: b", false},
		{"CaseSensitiveRegex", rule.CheckSession{LookIn: []string{rule.LookBody}, Regex: "s.gn", CaseSensitive: true}, 200, "SIGN", "A: b", false},
		{"CaseInsensitive", rule.CheckSession{LookIn: []string{rule.LookBody}, Literal: "sign"}, 200, "SIGN", "A: b", true},
		{"MatchMeansValid", rule.CheckSession{LookIn: []string{rule.LookBody}, Literal: "welcome", MeansValid: true}, 200, "who are you?", "A: b", true},
		{"MatchMeansValidAndIs", rule.CheckSession{LookIn: []string{rule.LookBody}, Literal: "welcome", MeansValid: true}, 200, "welcome", "A: b", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOrigin()
			count := o.answers("/x", func(n int64) (int, string, []string) {
				if n == 1 {
					return c.status, c.body, []string{c.line}
				}
				return 200, "welcome", nil
			})
			c.action.Probe, c.action.Macros = rule.ProbeRequest, []string{"login"}
			r := newSetup(t, o, acts(rule.Action{CheckSession: &c.action})).start(t, o).get("/x")
			want, logins := int64(1), 1 // the first login is before the first request
			if c.dead {
				want, logins = 2, 2
			}
			if count.Load() != want || o.loginCount() != logins {
				t.Errorf("sent %d times, %d logins; want %d and %d; trace %+v", count.Load(), o.loginCount(), want, logins, r.flow.Trace.Events)
			}
		})
	}
}

// if_valid: stop has the actions behind it wait for an invalid answer.
func TestActionCheckSessionIfValidStop(t *testing.T) {
	o := newOrigin()
	h := new(heard)
	var dead atomic.Bool
	o.handle("/x", func(_ context.Context, f *flow.Flow) error {
		if err := h.take(f); err != nil {
			return err
		}
		if dead.CompareAndSwap(true, false) {
			return answer(f, 401, "")
		}
		return answer(f, 200, "welcome")
	})
	check := rule.CheckSession{Probe: rule.ProbeRequest, LookIn: []string{rule.LookHeaders}, Literal: "401", StopIfValid: true, Macros: []string{"login"}}
	high := acts(rule.Action{CheckSession: &check}, rule.Action{SetHeader: &rule.SetHeader{Name: "A", Value: template(t, "1")}})
	high.Priority = 1
	low := acts(rule.Action{SetHeader: &rule.SetHeader{Name: "B", Value: template(t, "1")}})
	low.Name = "low"
	p := newSetup(t, o, high, low).start(t, o)
	p.want(p.get("/x"), 200) // the first one waits for the first login: its session was invalid
	r := p.get("/x")
	p.want(r, 200)
	if got := h.last(); got != "GET /x HTTP/1.1\nHost: o\n\n" || !r.traced("keep set_header and what follows it: not done") {
		t.Errorf("valid: the origin got %q; trace %+v", got, r.flow.Trace.Events)
	}
	dead.Store(true)
	p.want(p.get("/x"), 200)
	if got := h.last(); got != "GET /x HTTP/1.1\nHost: o\nA: 1\nB: 1\n\n" {
		t.Errorf("invalid: the origin got %q", got)
	}
}

// After a recovery the request gets what the last macro's last answer offers.
func TestActionCheckSessionIfInvalid(t *testing.T) {
	const page = `<form action="/x"><input name=a value=fresh></form><form action="/y"><input name=b value=fresh></form>`
	for _, c := range []struct {
		name   string
		action rule.CheckSession
		want   string
	}{
		{"UpdateParamsAll", rule.CheckSession{}, "/x?a=fresh&b=2 sid=new"},
		{"UpdateParamsNone", rule.CheckSession{Params: rule.Pick{None: true}}, "/x?a=1&b=2 sid=new"},
		{"UpdateParamsOnly", rule.CheckSession{Params: rule.Pick{Only: []string{"b"}}, Tolerate: true}, "/x?a=1&b=fresh sid=new"},
		{"UpdateParamsExcept", rule.CheckSession{Params: rule.Pick{Except: []string{"a"}}, Tolerate: true}, "/x?a=1&b=fresh sid=new"},
		{"TolerateURLMismatch", rule.CheckSession{Tolerate: true}, "/x?a=fresh&b=fresh sid=new"},
		{"UpdateCookiesNone", rule.CheckSession{Cookies: rule.Pick{None: true}}, "/x?a=fresh&b=2 "},
		{"UpdateCookiesOnly", rule.CheckSession{Cookies: rule.Pick{Only: []string{"z"}}}, "/x?a=fresh&b=2 "},
		{"UpdateCookiesExcept", rule.CheckSession{Cookies: rule.Pick{Except: []string{"z"}}}, "/x?a=fresh&b=2 sid=new"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOrigin()
			o.answers("/login", func(int64) (int, string, []string) { return 200, page, []string{"Set-Cookie: sid=new"} })
			h := o.listen("/x")
			c.action.Probe, c.action.Macros, c.action.Literal = rule.ProbeRequest, []string{"signin"}, "401"
			s := newSetup(t, o, acts(rule.Action{CheckSession: &c.action}))
			s.Macros = append(s.Macros, step(t, "signin", "POST http://o/login HTTP/1.1\n\n"))
			p := s.start(t, o)
			p.want(p.get("/x?a=1&b=2"), 200) // waits for the first login
			line, rest, _ := strings.Cut(h.last(), "\n")
			_, cookies, _ := strings.Cut(rest, "Cookie: ")
			if got := strings.TrimSuffix(strings.TrimPrefix(line, "GET "), " HTTP/1.1") + " " + strings.TrimSpace(cookies); got != c.want {
				t.Errorf("the origin got %q, want %q", got, c.want)
			}
		})
	}
}

// checked is an origin with a macro that asks at /me, and a rule that has it
// asked before each request.
func checked(t *testing.T, a rule.CheckSession, valid func() bool) (p *proxy, o *origin, asked *atomic.Int64, now *atomic.Int64) {
	t.Helper()
	o = newOrigin()
	asked = o.answers("/me", func(int64) (int, string, []string) {
		if valid() {
			return 200, "you are ann", nil
		}
		return 200, "please sign in", nil
	})
	o.listen("/x")
	a.Probe, a.Macro, a.Literal = rule.ProbeMacro, "whoami", "sign in"
	s := newSetup(t, o, acts(rule.Action{CheckSession: &a}, rule.Action{SetHeader: &rule.SetHeader{Name: "Behind", Value: template(t, "1")}}))
	s.Macros = append(s.Macros, step(t, "whoami", "GET http://o/me HTTP/1.1\n\n"))
	now = new(atomic.Int64)
	now.Store(time.Now().UnixNano())
	s.Now = func() time.Time { return time.Unix(0, now.Load()) }
	return s.start(t, o), o, asked, now
}

func TestActionCheckSessionProbeMacro(t *testing.T) {
	var invalid atomic.Bool
	p, o, asked, _ := checked(t, rule.CheckSession{Macros: []string{"login"}}, func() bool { return !invalid.CompareAndSwap(true, false) })
	p.want(p.get("/x"), 200)
	r := p.get("/x")
	p.want(r, 200)
	if asked.Load() != 2 || o.loginCount() != 1 || !r.traced("alive check_session: macro whoami was asked and did not say that the session is dead") {
		t.Errorf("valid: asked %d times, %d logins; trace %+v", asked.Load(), o.loginCount(), r.flow.Trace.Events)
	}
	invalid.Store(true)
	r = p.get("/x")
	p.want(r, 200)
	if o.loginCount() != 2 || o.count("GET /x") != 3 || !r.traced("dead check_session: macro whoami says that the session is dead (generation 1)") {
		t.Errorf("invalid: %d logins, %d requests; trace %+v", o.loginCount(), o.count("GET /x"), r.flow.Trace.Events)
	}
}

func TestActionCheckSessionEvery(t *testing.T) {
	p, _, asked, _ := checked(t, rule.CheckSession{Every: 3}, func() bool { return true })
	for range 9 {
		p.want(p.get("/x"), 200)
	}
	if asked.Load() != 3 {
		t.Errorf("asked %d times before 9 requests", asked.Load())
	}
}

func TestActionCheckSessionFor(t *testing.T) {
	p, _, asked, now := checked(t, rule.CheckSession{For: time.Minute}, func() bool { return true })
	for _, step := range []struct {
		wait time.Duration
		want int64
	}{{0, 1}, {59 * time.Second, 1}, {2 * time.Second, 2}} {
		now.Add(int64(step.wait))
		if p.want(p.get("/x"), 200); asked.Load() != step.want {
			t.Errorf("after %s: asked %d times, want %d", step.wait, asked.Load(), step.want)
		}
	}
}

func TestActionCheckSessionProbeMacroIfValid(t *testing.T) {
	for name, stop := range map[string]bool{"Stop": true, "Continue": false} {
		t.Run(name, func(t *testing.T) {
			p, _, _, _ := checked(t, rule.CheckSession{StopIfValid: stop}, func() bool { return true })
			r := p.get("/x")
			p.want(r, 200)
			if done := r.flow.Request.Has("Behind"); done == stop {
				t.Errorf("the action behind: done %v; trace %+v", done, r.flow.Trace.Events)
			}
		})
	}
}

func TestActionCheckSessionWithoutIfInvalid(t *testing.T) {
	p, _, _, _ := checked(t, rule.CheckSession{}, func() bool { return false })
	r := p.get("/x")
	p.want(r, 200)
	if !r.traced("note check_session: nothing recovers it (if_invalid)") {
		t.Errorf("trace %+v", r.flow.Trace.Events)
	}
}

// A check is the same inquiry as validation.probe: what no login changes ends
// in the lockout, not in a login for each request.
func TestActionCheckSessionThatNoLoginPleases(t *testing.T) {
	p, o, _, _ := checked(t, rule.CheckSession{Macros: []string{"login"}}, func() bool { return false })
	for range 10 {
		if r := p.get("/x"); r.failed == nil || !r.failed.OfSession() {
			t.Errorf("got %v", r)
		}
	}
	if n := o.loginCount(); n > 6 {
		t.Errorf("%d logins", n)
	}
	p.wantRefused(p.get("/x"), flow.ReasonLocked)
}

// A macro that cannot be asked is no word about the session.
func TestActionCheckSessionThatCannotBeAsked(t *testing.T) {
	p, o, _, _ := checked(t, rule.CheckSession{Macros: []string{"login"}}, func() bool { return true })
	o.handle("/me", func(context.Context, *flow.Flow) error { return errScript })
	p.want(p.get("/x"), 200)
	p.want(p.get("/x"), 200)
	if n := o.loginCount(); n != 1 {
		t.Errorf("%d logins", n)
	}
}

// The browser recovers also where the request itself is the probe: once for
// everybody who waits, and the request is sent again with what it brought.
func TestActionCheckSessionBrowser(t *testing.T) {
	for name, probe := range map[string]rule.CheckSession{
		"Request": {Probe: rule.ProbeRequest, Literal: "sign in"},
		"Macro":   {Probe: rule.ProbeMacro, Macro: "whoami", Literal: "sign in"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin()
			page := func(_ context.Context, f *flow.Flow) error {
				if line, _ := f.Request.Get("Cookie"); string(line) == "sid=ann" {
					return answer(f, 200, "welcome")
				}
				return answer(f, 200, "please sign in")
			}
			o.handle("/x", page)
			o.handle("/me", page)
			probe.Browser = true
			s := newSetup(t, o, acts(rule.Action{CheckSession: &probe}, rule.Action{UseCookies: &rule.UseCookies{}}))
			s.Macros = append(s.Macros, step(t, "whoami", "GET http://o/me HTTP/1.1\n\n"))
			s.Identities = []session.Identity{{Name: "ann"}}
			var opened atomic.Int64
			s.Browser = func(_ context.Context, l *session.Login) error {
				opened.Add(1)
				if l.URL != "http://o/x" {
					return errors.New("another place: " + l.URL)
				}
				return l.PutCookie(jar.Cookie{Name: "sid", Value: l.Identity, Domain: "o", HostOnly: true, Path: "/"})
			}
			p := s.start(t, o)
			var group sync.WaitGroup
			for range 8 {
				group.Go(func() {
					if r := p.get("/x"); r.body != "welcome" {
						t.Errorf("got %v; trace %+v", r, r.flow.Trace.Events)
					}
				})
			}
			group.Wait()
			if n := opened.Load(); n != 1 {
				t.Errorf("the browser was opened %d times for a session that died once", n)
			}
			before := o.count("GET /x")
			if r := p.get("/x"); r.body != "welcome" || o.count("GET /x") != before+1 {
				t.Errorf("then: got %v, sent %d times", r, o.count("GET /x")-before)
			}
		})
	}
}

func TestActionCheckSessionBrowserThatNobodyUses(t *testing.T) {
	o := newOrigin()
	o.answers("/x", func(int64) (int, string, []string) { return 200, "please sign in", nil })
	s := newSetup(t, o, acts(rule.Action{CheckSession: &rule.CheckSession{Probe: rule.ProbeRequest, Literal: "sign in", Browser: true}}))
	s.Browser = func(context.Context, *session.Login) error { return errors.New("closed") }
	p := s.start(t, o)
	p.wantRefused(p.get("/x"), flow.ReasonPerson)
	if got := p.engine.Status(); len(got) != 1 || got[0].State != "dead" || len(got[0].Recovery) != 1 || got[0].Recovery[0] != "browser" {
		t.Errorf("status %+v", got)
	}
}

// A script that fetches nothing has no answer to look at, which is no word about the
// session.
func TestActionCheckSessionWithoutAnAnswer(t *testing.T) {
	for _, text := range []string{"variables.set('A', 'b')", "false"} {
		o := newOrigin()
		o.listen("/x")
		s := newSetup(t, o, acts(rule.Action{CheckSession: &rule.CheckSession{Probe: rule.ProbeMacro, Macro: "whoami", Literal: "sign in"}}))
		s.Macros = append(s.Macros, &macro.Macro{Name: "whoami", Steps: []macro.Step{{Script: program(t, text)}}})
		var warned atomic.Value
		s.Warn = func(text string) { warned.Store(text) }
		p := s.start(t, o)
		p.want(p.get("/x"), 200)
		if said, _ := warned.Load().(string); !strings.Contains(said, "no answer to look at") {
			t.Errorf("%s: warned of %q", text, said)
		}
	}
}
