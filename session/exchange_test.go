package session_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

func TestAColdStartLogsInBeforeTheFirstRequest(t *testing.T) {
	o := newOrigin()
	p := startBearer(t, o)
	p.want(p.get("/a"), 200)
	if o.loginCount() != 1 || o.count("GET /a") != 1 {
		t.Errorf("%d logins, sent %q; want one login and one sending", o.loginCount(), o.sent)
	}
}

func TestADeadAnswerIsRecoveredAndTheRequestSentAgain(t *testing.T) {
	o := newOrigin()
	p := startBearer(t, o)
	p.get("/a")
	o.kill()
	r := p.get("/a")
	p.want(r, 200)
	if o.loginCount() != 2 || len(r.flow.Earlier) != 1 || !r.flow.Recovered {
		t.Errorf("%d logins, %d earlier answers", o.loginCount(), len(r.flow.Earlier))
	}
	c := p.engine.Counts()
	if c.Requests != 2 || c.Dead != 1 || c.Resends != 1 || c.Logins != 2 || c.Recoveries != 2 || c.Passed != 0 {
		t.Errorf("counts %+v", c)
	}
	s := p.engine.Status()
	if len(s) != 1 || s[0].State != "alive" || s[0].Generation != 2 || s[0].Logins != 2 || s[0].LastError != "" {
		t.Errorf("status %+v", s)
	}
}

func confirmed(name string) func(*rule.Rule) { return func(r *rule.Rule) { r.Confirm = name } }

// whoami is a confirming macro that asks a protected path.
func whoami(t testing.TB) *macro.Macro {
	return step(t, "whoami", "GET http://o/whoami HTTP/1.1\nAuthorization: Bearer {{ACCESS}}\n\n")
}

func startConfirmed(t testing.TB, o *origin) *proxy {
	s := newSetup(t, o, bearer(t, confirmed("whoami")))
	s.Macros = append(s.Macros, whoami(t))
	return s.start(t, o)
}

func TestAContradictedAnswerPassesUntouched(t *testing.T) {
	o := newOrigin()
	o.handle("/forbidden", func(_ context.Context, f *flow.Flow) error { return answer(f, 401, "not for you") })
	p := startConfirmed(t, o)
	p.get("/a")
	for range 3 {
		if r := p.get("/forbidden"); r.status != 401 || r.body != "not for you" || r.flow.PassedDead {
			t.Errorf("got %v", r)
		}
	}
	if c := p.engine.Counts(); o.loginCount() != 1 || c.Contradicted != 3 || c.Confirms != 3 {
		t.Errorf("%d logins, counts %+v", o.loginCount(), c)
	}
}

// The probe's word is about the session of now. A request whose dead answer
// was of the session before may not be told "alive, so it is the resource".
func TestAConfirmThatMeetsANewerSessionSendsAgain(t *testing.T) {
	o := newOrigin()
	var p *proxy
	var inside atomic.Bool
	// While the probe is under way, another request recovers the session.
	o.handle("/whoami", func(_ context.Context, f *flow.Flow) error {
		if inside.CompareAndSwap(false, true) {
			p.want(p.get("/other"), 200)
			return answer(f, 200, "asked with what is live by now")
		}
		return o.protected(f)
	})
	s := newSetup(t, o,
		bearer(t, confirmed("whoami"), func(r *rule.Rule) { r.Scope.Exclude = rule.Patterns("http://o/other") }),
		bearer(t, func(r *rule.Rule) { r.Name, r.Scope.Pattern = "other", "http://o/other" }))
	s.Macros = append(s.Macros, whoami(t))
	p = s.start(t, o)
	p.get("/a")
	o.kill()
	p.want(p.get("/a"), 200)
}

func TestAClientThatLeavesDuringTheProbeCausesNoLogin(t *testing.T) {
	o := newOrigin()
	asked, let := make(chan struct{}), make(chan struct{})
	o.handle("/whoami", func(_ context.Context, f *flow.Flow) error {
		close(asked)
		<-let
		return o.protected(f)
	})
	o.handle("/forbidden", func(_ context.Context, f *flow.Flow) error { return answer(f, 401, "not for you") })
	p := startConfirmed(t, o)
	p.get("/a")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan result)
	go func() { done <- p.deliver(ctx, newFlow(t, "GET /forbidden HTTP/1.1\nHost: o", nil)) }()
	<-asked
	cancel()
	if r := <-done; r.err == nil {
		t.Errorf("the client that left got %v", r)
	}
	close(let)
	p.want(p.get("/a"), 200)
	if o.loginCount() != 1 {
		t.Errorf("%d logins; want none for an answer that nobody waits for", o.loginCount())
	}
}

// Tokens that change with every answer, as CSRF tokens do, must not make a dead
// session look as if somebody had recovered it.
func TestTokensThatKeepChangingDoNotHideADeath(t *testing.T) {
	o := newOrigin()
	var n atomic.Int64
	o.handle("/public", func(_ context.Context, f *flow.Flow) error {
		return answer(f, 200, "hello", "X-New: csrf-"+strings.Repeat("i", int(n.Add(1))))
	})
	var p *proxy
	o.handle("/private", func(_ context.Context, f *flow.Flow) error {
		live := o.isLive(f)
		p.want(p.get("/public"), 200) // meanwhile
		if !live {
			return answer(f, 401, "")
		}
		return answer(f, 200, "")
	})
	p = startBearer(t, o, func(r *rule.Rule) {
		r.Updates = append(r.Updates, rule.Update{Token: "CSRF",
			Source: &rule.Source{Type: rule.SourceResponseHeader, Name: "X-New"}, Target: header("X-CSRF")})
	})
	p.get("/a")
	o.kill()
	r := p.get("/private")
	p.want(r, 200)
	if o.loginCount() != 2 {
		t.Errorf("%d logins; want 2", o.loginCount())
	}
}

func TestTwoRulesWithTwoSessionsAreBothHeard(t *testing.T) {
	o := newOrigin()
	gate := ""
	o.handle("/gatelogin", func(_ context.Context, f *flow.Flow) error { gate = "open"; return answer(f, 200, `{"gate":"open"}`) })
	o.handle("/x", func(_ context.Context, f *flow.Flow) error {
		if v, _ := f.Request.Get("X-Gate"); string(v) != gate {
			return answer(f, 401, "the gate is shut")
		}
		return o.protected(f)
	})
	for name, first := range map[string]func(*rule.Rule){
		"a first rule that a probe contradicts": confirmed("whoami"),
		"a first rule without a recovery":       func(r *rule.Rule) { r.Recovery = nil },
	} {
		gate = ""
		o.kill()
		second := bearer(t, func(r *rule.Rule) {
			r.Name, r.Recovery = "gate", []string{"gatelogin"}
			r.Updates = []rule.Update{{Token: "GATE", Target: header("X-Gate")}}
		})
		s := newSetup(t, o, bearer(t, first), second)
		if s.rules[0].Recovery == nil {
			o.handle("/x", func(_ context.Context, f *flow.Flow) error {
				if v, _ := f.Request.Get("X-Gate"); string(v) != gate {
					return answer(f, 401, "the gate is shut")
				}
				return answer(f, 200, "")
			})
		}
		s.Macros = append(s.Macros, whoami(t), step(t, "gatelogin", "POST http://o/gatelogin HTTP/1.1\n\n", "GATE gate"))
		p := s.start(t, o)
		p.want(p.get("/x"), 200)
		gate = "shut again"
		r := p.get("/x")
		if r.status != 200 {
			t.Errorf("%s: got %v; want the second session recovered. Trace %+v", name, r, r.flow.Trace.Events)
		}
	}
}

func TestARuleMayNameAMacroByItsID(t *testing.T) {
	o := newOrigin()
	byID := bearer(t, func(r *rule.Rule) {
		r.Name, r.Recovery = "by id", []string{"uuid"}
		r.Updates = []rule.Update{{Token: "ACCESS", Target: header("X-Other")}}
	})
	s := newSetup(t, o, bearer(t), byID)
	s.Macros[0].ID = "uuid"
	p := s.start(t, o)
	p.want(p.get("/a"), 200)
	if n := len(p.engine.Status()); n != 1 || o.loginCount() != 1 {
		t.Errorf("%d sessions, %d logins; want one of each: both rules mean the same login", n, o.loginCount())
	}
}

// A body of an answer that never ends must not hold up the second sending.
func TestADeadAnswerWhoseBodyStallsIsGivenUp(t *testing.T) {
	o := newOrigin()
	stalled := newStream()
	var once atomic.Bool
	o.handle("/slow", func(_ context.Context, f *flow.Flow) error {
		if once.CompareAndSwap(false, true) {
			return answerWith(f, 401, stalled, "Transfer-Encoding: chunked")
		}
		return o.protected(f)
	})
	s := newSetup(t, o, bearer(t))
	s.Limits.Hold = time.Millisecond
	p := s.start(t, o)
	p.want(p.get("/slow"), 200)
	if !stalled.isClosed() {
		t.Error("the dead answer's body was not closed")
	}
}

func TestARequestThatMayNotBeSentAgainDoesNotLogInForEver(t *testing.T) {
	o := newOrigin()
	o.handle("/forbidden", func(_ context.Context, f *flow.Flow) error { return answer(f, 401, "not for you") })
	p := startBearer(t, o, func(r *rule.Rule) { r.Resend = rule.ResendSafe })
	for range 20 {
		p.want(p.get("/a"), 200)
		p.want(p.do("POST /forbidden HTTP/1.1\nHost: o"), 401)
	}
	if o.loginCount() > 3 {
		t.Errorf("%d logins for a path that no login changes", o.loginCount())
	}
	// A path that a login does change is not suspected.
	for range 5 {
		o.kill()
		p.do("POST /b HTTP/1.1\nHost: o")
		p.want(p.do("POST /b HTTP/1.1\nHost: o"), 200)
	}
}

func TestAForeignValueStaysWhereTheRuleKeepsIt(t *testing.T) {
	o := newOrigin()
	p := startBearer(t, o, func(r *rule.Rule) { r.KeepForeign = true })
	p.want(p.get("/a"), 200)
	r := p.do("GET /a HTTP/1.1\nHost: o\nAuthorization: Bearer ' OR 1=1")
	if r.status != 401 || o.count("GET /a ' OR 1=1") != 1 || len(r.flow.Earlier) != 0 {
		t.Errorf("got %v after %q; want the origin's own answer to the tester's value", r, o.sent)
	}
	if o.loginCount() != 1 || r.flow.PassedDead {
		t.Errorf("%d logins; an answer to a foreign token says nothing about our session", o.loginCount())
	}
	// A value that was ours once is not foreign.
	o.kill()
	p.want(p.get("/a"), 200)
	p.want(p.do("GET /a HTTP/1.1\nHost: o\nAuthorization: Bearer token-1"), 200)
}

var errScript = errors.New("scripted failure")

func TestValuesOfAMacroThatFailsLaterAreKeptOverTheRetries(t *testing.T) {
	o := newOrigin()
	var fails atomic.Int64
	fails.Store(2)
	good := "r0"
	o.handle("/refresh", func(_ context.Context, f *flow.Flow) error {
		given, _ := f.Request.Get("X-Refresh")
		if string(given) != good {
			return answer(f, 400, "burnt: "+string(given))
		}
		good += "+"
		return answer(f, 200, `{"refresh":"`+good+`"}`)
	})
	o.handle("/exchange", func(_ context.Context, f *flow.Flow) error {
		if fails.Add(-1) >= 0 {
			return answer(f, 503, "later")
		}
		return o.login(f)
	})
	s := newSetup(t, o, bearer(t, func(r *rule.Rule) { r.Recovery = []string{"refresh"} }))
	s.Variables = map[string]string{"REFRESH": "r0"}
	s.Macros = append(s.Macros, &macro.Macro{Name: "refresh", Steps: []macro.Step{
		oneStep(t, "POST http://o/refresh HTTP/1.1\nX-Refresh: {{REFRESH}}\n\n", "REFRESH refresh"),
		oneStep(t, "POST http://o/exchange HTTP/1.1\n\n", "ACCESS access")}})
	p := s.start(t, o)
	p.want(p.get("/a"), 200)
	if o.count("POST /refresh") != 3 {
		t.Errorf("sent %q; want three refreshes, each with the newest refresh token", o.sent)
	}
}

// A login whose beginning the origin has forgotten meanwhile is begun anew, once,
// and is no wrong password; one that is refused for its credentials is not.
func TestALoginThatDiesOnTheWayIsBegunAnew(t *testing.T) {
	for _, tt := range []struct {
		status, times, opened int
		want                  int
	}{{408, 1, 2, 200}, {419, 1, 2, 200}, {440, 1, 2, 200}, {408, 2, 2, 502}, {403, 1, 1, 502}} {
		t.Run(fmt.Sprint(tt.times, " times ", tt.status), func(t *testing.T) {
			o := newOrigin()
			var times atomic.Int64
			o.handle("/form", func(_ context.Context, f *flow.Flow) error { return answer(f, 200, "{}") })
			o.handle("/credentials", func(_ context.Context, f *flow.Flow) error {
				if times.Add(1) <= int64(tt.times) {
					return answer(f, tt.status, "no")
				}
				return o.login(f)
			})
			s := newSetup(t, o, bearer(t))
			s.Macros = []*macro.Macro{{Name: "login", Steps: []macro.Step{oneStep(t, "GET http://o/form HTTP/1.1\n\n"),
				oneStep(t, "POST http://o/credentials HTTP/1.1\n\n", "ACCESS access")}}}
			p := s.start(t, o)
			if r := p.get("/a"); r.status != tt.want && (tt.want == 200 || r.failed == nil) {
				t.Errorf("got %v; want %d", r, tt.want)
			}
			if n := o.count("GET /form"); n != tt.opened {
				t.Errorf("begun %d times; want %d", n, tt.opened)
			}
		})
	}
}

// A login page that leads away for as long as the dead session's cookie comes
// with it is asked for again without: nobody's password has been refused.
func TestALoginIsBegunAnewWithoutTheDeadSessionsCookies(t *testing.T) {
	o := newOrigin()
	o.handle("/form", func(_ context.Context, f *flow.Flow) error {
		if cookie, _ := f.Request.Get("Cookie"); strings.Contains(string(cookie), "sid=") {
			return answer(f, 302, "", "Location: /")
		}
		return answer(f, 200, "{}", "Set-Cookie: sid=s; Path=/")
	})
	o.handle("/credentials", func(_ context.Context, f *flow.Flow) error { return o.login(f) })
	s := newSetup(t, o, bearer(t))
	s.Variables = map[string]string{"BASE": "http://o", "PASS": "alicepass"}
	first := oneStep(t, "GET {{BASE}}/form HTTP/1.1\n\n")
	var err error
	if first.Expect, err = httpql.Parse("resp.code.eq:200"); err != nil {
		t.Fatal(err)
	}
	s.Macros = []*macro.Macro{{Name: "login", Steps: []macro.Step{first, oneStep(t, "POST http://o/credentials HTTP/1.1\n\np={{PASS}}", "ACCESS access")}}}
	p := s.start(t, o)
	for range 3 {
		p.want(p.get("/a"), 200)
		o.kill()
	}
	if forms, logins := o.count("GET /form"), o.count("POST /credentials"); forms != 5 || logins != 3 {
		t.Errorf("%d forms, %d logins; want 5, the second and third login having begun twice, and 3", forms, logins)
	}
}

// Credentials that have logged in before are tried once more where a later step
// is refused: a token of its form may have died meanwhile.
func TestALoginThatWorkedBeforeIsBegunAnewOnce(t *testing.T) {
	for _, tt := range []struct{ status, times, sent, want int }{{403, 1, 3, 200}, {422, 1, 3, 200}, {403, 9, 3, 502}, {401, 1, 2, 502}} {
		t.Run(fmt.Sprint(tt.times, " times ", tt.status), func(t *testing.T) {
			o := newOrigin()
			var refuse atomic.Int64
			o.handle("/form", func(_ context.Context, f *flow.Flow) error { return answer(f, 200, "{}") })
			o.handle("/credentials", func(_ context.Context, f *flow.Flow) error {
				if refuse.Add(-1) >= 0 {
					return answer(f, tt.status, "no")
				}
				return o.login(f)
			})
			s := newSetup(t, o, bearer(t))
			s.Macros = []*macro.Macro{{Name: "login", Steps: []macro.Step{oneStep(t, "GET http://o/form HTTP/1.1\n\n"),
				oneStep(t, "POST http://o/credentials HTTP/1.1\n\n", "ACCESS access")}}}
			p := s.start(t, o)
			p.want(p.get("/a"), 200)
			refuse.Store(int64(tt.times))
			o.kill()
			if r := p.get("/a"); r.status != tt.want && (tt.want == 200 || r.failed == nil) {
				t.Errorf("got %v; want %d", r, tt.want)
			}
			if n := o.count("POST /credentials"); n != tt.sent {
				t.Errorf("credentials were sent %d times; want %d", n, tt.sent)
			}
		})
	}
}

func TestARotatedRefreshTokenIsKeptWhenTheMacroBroughtNoSession(t *testing.T) {
	o := newOrigin()
	good := "r0"
	var bring atomic.Bool
	o.handle("/refresh", func(_ context.Context, f *flow.Flow) error {
		given, _ := f.Request.Get("X-Refresh")
		if string(given) != good {
			return answer(f, 400, "burnt: "+string(given))
		}
		good += "+"
		if !bring.Load() {
			return answer(f, 200, `{"refresh":"`+good+`"}`)
		}
		o.mu.Lock()
		o.token = "fresh"
		o.mu.Unlock()
		return answer(f, 200, `{"refresh":"`+good+`","access":"fresh"}`)
	})
	source := &rule.Source{Type: rule.SourceJSON, Path: "access"}
	refreshed := &rule.Source{Type: rule.SourceJSON, Path: "refresh"}
	s := newSetup(t, o, bearer(t, func(r *rule.Rule) {
		r.Recovery = []string{"refresh"}
		r.Updates[0].Source = source
		r.Updates = append(r.Updates, rule.Update{Token: "REFRESH", Source: refreshed})
	}))
	s.Variables = map[string]string{"REFRESH": "r0"}
	s.Macros = append(s.Macros, step(t, "refresh", "POST http://o/refresh HTTP/1.1\nX-Refresh: {{REFRESH}}\n\n"))
	p := s.start(t, o)
	if r := p.get("/a"); r.failed == nil || r.failed.Reason != flow.ReasonRecovery {
		t.Fatalf("got %v; want a recovery that failed", r)
	}
	bring.Store(true)
	p.want(p.get("/a"), 200)
}

func TestFailuresThatCannotBeSavedStillLock(t *testing.T) {
	o := newOrigin()
	o.handle("/login", func(_ context.Context, f *flow.Flow) error { return answer(f, 403, "wrong password") })
	s := newSetup(t, o, bearer(t))
	s.Keeper = &memoryKeeper{err: errScript}
	var warnings atomic.Int64
	s.Warn = func(string) { warnings.Add(1) }
	p := s.start(t, o)
	for range 6 {
		p.get("/a")
	}
	if n := o.count("POST /login"); n != 3 {
		t.Errorf("%d logins were tried; want 3", n)
	}
	if warnings.Load() == 0 {
		t.Error("nobody was warned that the count is not saved")
	}
}

// An answer that breaks off says nothing about what is missing from it.
func TestWhatIsMissingFromABrokenAnswerIsNoDeath(t *testing.T) {
	o := newOrigin()
	o.handle("/broken", func(_ context.Context, f *flow.Flow) error {
		b := newStream()
		b.push("half of i")
		b.end(errScript)
		return answerWith(f, 200, b, "Content-Length: 100")
	})
	p := startBearer(t, o, func(r *rule.Rule) { r.Dead = check(t, rule.CheckResponseNotContains, "welcome") })
	p.want(p.get("/a"), 200)
	if r := p.get("/broken"); !errors.Is(r.err, errScript) || r.body != "half of i" {
		t.Errorf("got %v", r)
	}
	if o.loginCount() != 1 {
		t.Errorf("%d logins", o.loginCount())
	}
}

var _ wire.Body = (*stream)(nil)

// Sessions that die before a request can be sent again are no reason to take
// its answer for one that no login changes, where its like is answered alive
// meanwhile.
func TestSessionsThatDieFasterThanOneRequest(t *testing.T) {
	o := newOrigin()
	p := newSetup(t, o, bearer(t)).start(t, o)
	inner, rounds := false, 0
	o.handle("/x", func(_ context.Context, f *flow.Flow) error {
		if inner || rounds == 7 {
			return o.protected(f)
		}
		rounds++
		inner = true
		r := p.get("/x")
		inner = false
		if r.status != 200 {
			t.Errorf("the other request got %v", r)
		}
		o.kill()
		return answer(f, 401, "dead")
	})
	r := p.get("/x")
	p.want(r, 200)
	if o.loginCount() != 8 || p.engine.Counts().Passed != 0 {
		t.Errorf("%d logins; counts %+v; trace %+v", o.loginCount(), p.engine.Counts(), r.flow.Trace.Events)
	}
	// Then an answer that is really about the request: one of another query.
	o.handle("/y", func(_ context.Context, f *flow.Flow) error {
		if string(f.Request.Query()) == "no" {
			return answer(f, 401, "never")
		}
		return o.protected(f)
	})
	p.want(p.get("/y?yes"), 200)
	before := o.loginCount()
	p.want(p.get("/y?no"), 401)
	p.want(p.get("/y?yes"), 200)
	p.want(p.get("/y?no"), 401)
	if n := o.loginCount() - before; n > 4 {
		t.Errorf("%d logins for an answer that no login changes", n)
	}
}
