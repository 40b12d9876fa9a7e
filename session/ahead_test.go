package session_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
)

// mortal has the origin's tokens die after that time. tell is what a login says
// beside the token, and header what lines of its head.
type mortal struct {
	*origin
	life time.Duration
	tell func(token string, now time.Time) (body string, header []string)

	mu   sync.Mutex
	ends map[string]time.Time
}

func newMortal(life time.Duration, tell func(token string, now time.Time) (string, []string)) *mortal {
	m := &mortal{origin: newOrigin(), life: life, tell: tell, ends: make(map[string]time.Time)}
	m.handle("/login", m.login)
	m.handle("/a", m.use)
	return m
}

func (m *mortal) login(_ context.Context, f *flow.Flow) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.logins++
	token := fmt.Sprintf("token-%d", m.logins)
	body, header := m.tell(token, time.Now())
	if _, after, ok := strings.Cut(body, `"access":"`); ok {
		token, _, _ = strings.Cut(after, `"`)
	}
	m.ends[token] = time.Now().Add(m.life)
	return answer(f, 200, body, header...)
}

func (m *mortal) use(_ context.Context, f *flow.Flow) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if end, ok := m.ends[authorization(f)]; !ok || !time.Now().Before(end) {
		return answer(f, 401, "")
	}
	return answer(f, 200, "welcome")
}

func (m *mortal) loginsSoFar() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.logins
}

func expiresIn(seconds int) func(string, time.Time) (string, []string) {
	return func(token string, _ time.Time) (string, []string) {
		return fmt.Sprintf(`{"data":[{"expires_in":%d,"access":"%s"}]}`, seconds, token), nil
	}
}

func jwt(claims string) string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return part(`{"alg":"HS256"}`) + "." + part(claims) + "." + part("signature")
}

// start puts an engine before the origin: access is found anywhere in a login's
// answer.
func (m *mortal) start(t testing.TB, p *rule.Proactive, change ...func(*setup)) *proxy {
	s := newSetup(t, m.origin, bearer(t, func(r *rule.Rule) {
		r.Proactive = p
		r.Updates[0].Source = &rule.Source{Type: rule.SourceResponseBody, Regex: `"access":"([^"]+)"`}
	}))
	s.Macros = []*macro.Macro{step(t, "login", "POST http://o/login HTTP/1.1\n\n")}
	for _, c := range change {
		c(s)
	}
	return s.start(t, m.origin)
}

// every sends a request each so often, for a time.
func (p *proxy) every(pause, all time.Duration) {
	p.t.Helper()
	for end := time.Now().Add(all); time.Now().Before(end); <-time.After(pause) {
		p.want(p.get("/a"), 200)
	}
}

// bubble runs a test with a clock of its own.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func TestASessionInUseIsRecoveredBeforeItEnds(t *testing.T) {
	for name, tell := range map[string]func(string, time.Time) (string, []string){
		"expires_in": expiresIn(60),
		"expires_in as a text": func(token string, _ time.Time) (string, []string) {
			return `{"access":"` + token + `","expires_in":"60"}`, nil
		},
		"exp": func(token string, now time.Time) (string, []string) {
			return `{"access":"` + jwt(fmt.Sprintf(`{"exp":%d,"jti":"%s"}`, now.Add(time.Minute).Unix(), token)) + `"}`, nil
		},
		"exp by a clock that is off": func(token string, now time.Time) (string, []string) {
			now = now.Add(-time.Hour)
			return `{"access":"` + jwt(fmt.Sprintf(`{"exp":%d,"jti":"%s"}`, now.Add(time.Minute).Unix(), token)) + `"}`,
				[]string{"Date: " + now.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}
		},
		"exp and iat without Date": func(token string, now time.Time) (string, []string) {
			now = now.Add(time.Hour)
			return `{"access":"` + jwt(fmt.Sprintf(`{"iat":%d,"exp":%d,"jti":"%s"}`, now.Unix(), now.Add(time.Minute).Unix(), token)) + `"}`, nil
		},
		"Max-Age": func(token string, _ time.Time) (string, []string) {
			return `{"access":"` + token + `"}`, []string{"Set-Cookie: other=x; Max-Age=5", "Set-Cookie: sid=" + token + "; Max-Age=60"}
		},
		"Expires by a clock that is off": func(token string, now time.Time) (string, []string) {
			const form = "Mon, 02 Jan 2006 15:04:05 GMT"
			now = now.Add(24 * time.Hour).UTC()
			return `{"access":"` + token + `"}`, []string{"Date: " + now.Format(form), "Set-Cookie: sid=" + token + "; Expires=" + now.Add(time.Minute).Format(form)}
		},
	} {
		bubble(t, func(t *testing.T) {
			m := newMortal(time.Minute, tell)
			p := m.start(t, nil)
			p.every(time.Second, 10*time.Minute)
			c := p.engine.Counts()
			// One login each 45 seconds, or up to 1.5 earlier.
			if n := m.loginsSoFar(); n < 13 || n > 15 || c.Dead > 0 || c.Resends > 0 || c.Ahead != uint64(n-1) {
				t.Errorf("%s: %d logins, counts %+v", name, n, c)
			}
			if st := p.engine.Status()[0]; st.State != "alive" || st.Ends.Before(time.Now()) || st.Ends.After(time.Now().Add(time.Minute+time.Second)) || st.Why == "" {
				t.Errorf("%s: status %+v at %v", name, st, time.Now())
			}
			p.engine.Close()
		})
	}
}

// Nobody logs in for a proxy that nobody uses, and who comes back meets no dead
// session.
func TestAnIdleSessionIsLeftAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMortal(time.Minute, expiresIn(60))
		p := m.start(t, nil)
		p.every(time.Second, 100*time.Second)
		before := m.loginsSoFar()
		<-time.After(24 * time.Hour)
		if n := m.loginsSoFar(); n > before+1 {
			t.Errorf("%d logins for an idle proxy", n-before)
		}
		before = m.loginsSoFar()
		r := p.get("/a")
		p.want(r, 200)
		if c := p.engine.Counts(); c.Dead > 0 || m.loginsSoFar() != before+1 || !r.traced("the session has ended (token ACCESS: expires_in beside it)") {
			t.Errorf("%d logins, counts %+v, trace %+v", m.loginsSoFar()-before, c, r.flow.Trace.Events)
		}
		p.engine.Close()
	})
}

func TestRequestsGoOnWhileTheSessionIsRecoveredAhead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMortal(time.Minute, expiresIn(60))
		p := m.start(t, nil)
		p.every(time.Second, 40*time.Second)
		gate := make(chan struct{})
		m.handle("/login", func(ctx context.Context, f *flow.Flow) error { <-gate; return m.login(ctx, f) })
		p.every(time.Second, 15*time.Second)
		if c := p.engine.Counts(); c.Ahead != 1 || m.loginsSoFar() != 1 || p.engine.Status()[0].State != "alive" {
			t.Errorf("counts %+v, %d logins, status %+v", c, m.loginsSoFar(), p.engine.Status())
		}
		// It dies before its time: whoever sees that waits for the login that
		// is under way, and so does everybody after.
		m.mu.Lock()
		clear(m.ends)
		m.mu.Unlock()
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() { p.want(p.get("/a"), 200) })
			synctest.Wait()
		}
		sent := m.count("GET /a")
		group.Go(func() { p.want(p.get("/a"), 200) })
		synctest.Wait()
		if n := m.count("GET /a"); n != sent {
			t.Error("a request was sent with a session that is known to be dead")
		}
		close(gate)
		group.Wait()
		if m.loginsSoFar() != 2 {
			t.Errorf("%d logins", m.loginsSoFar())
		}
		p.engine.Close()
	})
}

func TestAfterTheEndRequestsWaitForTheRecoveryUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMortal(time.Minute, expiresIn(60))
		p := m.start(t, nil)
		p.every(time.Second, 40*time.Second)
		m.handle("/login", func(ctx context.Context, f *flow.Flow) error {
			<-time.After(30 * time.Second)
			return m.login(ctx, f)
		})
		p.every(time.Second, 40*time.Second)
		if c := p.engine.Counts(); c.Dead > 0 || m.loginsSoFar() != 2 {
			t.Errorf("counts %+v, %d logins", c, m.loginsSoFar())
		}
		p.engine.Close()
	})
}

// A login that is refused ahead counts for the guard, is not tried again, and
// the session goes on to its end.
func TestARefusedRecoveryAheadLeavesTheSessionAlive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMortal(3*time.Minute, expiresIn(60)) // it lives longer than it says
		keeper := new(memoryKeeper)
		var warned atomic.Int64
		p := m.start(t, nil, func(s *setup) {
			s.Keeper, s.Warn = keeper, func(string) { warned.Add(1) }
		})
		p.get("/a")
		m.handle("/login", refuse(403))
		p.every(time.Second, 2*time.Minute)
		if n := m.count("POST /login"); n != 2 || warned.Load() != 1 {
			t.Errorf("%d logins were tried, %d warnings", n, warned.Load())
		}
		failures := 0
		for _, r := range keeper.of(session.KeptLockout) {
			var times []time.Time
			if err := json.Unmarshal(r.Value, &times); err != nil {
				t.Error(err)
			}
			failures += len(times)
		}
		if st := p.engine.Status()[0]; st.State != "alive" || st.LastError == "" || failures != 1 {
			t.Errorf("status %+v, %d failures", st, failures)
		}
		m.handle("/login", m.login)
		p.every(time.Second, 2*time.Minute) // it dies in the end, and is recovered
		if m.loginsSoFar() < 2 {
			t.Error("no login after the death")
		}
		p.engine.Close()
	})
}

func TestAnOriginThatCannotBeReachedIsTriedAgainBeforeTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMortal(10*time.Minute, expiresIn(600))
		p := m.start(t, &rule.Proactive{Skew: 4 * time.Minute})
		p.every(time.Second, time.Minute)
		m.handle("/login", func(context.Context, *flow.Flow) error {
			return &flow.Error{Reason: flow.ReasonUnreachable, Detail: "no connection"}
		})
		p.every(time.Second, 6*time.Minute)
		m.handle("/login", m.login)
		p.every(time.Second, 10*time.Minute)
		if c := p.engine.Counts(); c.Dead > 0 || c.Ahead < 3 || m.loginsSoFar() < 2 {
			t.Errorf("counts %+v, %d logins", c, m.loginsSoFar())
		}
		p.engine.Close()
	})
}

// The answer to a refresh is lost: nobody knows whether the token was spent, so
// it is not sent again.
func TestARefreshTokenIsNotSpentTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMortal(time.Minute, func(token string, _ time.Time) (string, []string) {
			return `{"access":"` + token + `","refresh":"r-` + token + `","expires_in":60}`, nil
		})
		spent := make(map[string]int)
		var lose atomic.Bool
		m.handle("/refresh", func(ctx context.Context, f *flow.Flow) error {
			m.mu.Lock()
			spent[authorization(f)]++
			m.mu.Unlock()
			if lose.Load() {
				return &flow.Error{Reason: flow.ReasonBroken, Detail: "broke off"}
			}
			return m.login(ctx, f)
		})
		p := m.start(t, nil, func(s *setup) {
			s.rules[0].Recovery = []string{"refresh", "login"}
			s.Macros = []*macro.Macro{step(t, "login", "POST http://o/login HTTP/1.1\n\n", "REFRESH refresh"),
				step(t, "refresh", "POST http://o/refresh HTTP/1.1\nAuthorization: Bearer {{REFRESH}}\n\n", "REFRESH refresh")}
		})
		p.every(time.Second, 3*time.Minute)
		lose.Store(true)
		p.every(time.Second, 3*time.Minute)
		lose.Store(false)
		p.every(time.Second, 3*time.Minute)
		p.engine.Close() // a recovery may still be under way
		for token, n := range spent {
			if n != 1 {
				t.Errorf("%s was spent %d times", token, n)
			}
		}
		if n := m.count("POST /login"); n < 2 || len(spent) < 8 {
			t.Errorf("%d logins, spent %v", n, spent)
		}
	})
}

// Two sessions of one identity share a refresh macro.
func TestSessionsThatShareARefreshTakeTurns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMortal(time.Hour, func(token string, _ time.Time) (string, []string) {
			return `{"access":"` + token + `","refresh":"r-` + token + `"}`, nil
		})
		spent := make(map[string]int)
		m.handle("/refresh", func(ctx context.Context, f *flow.Flow) error {
			m.mu.Lock()
			spent[authorization(f)]++
			m.mu.Unlock()
			<-time.After(time.Second)
			return m.login(ctx, f)
		})
		p := m.start(t, nil, func(s *setup) {
			s.Variables = map[string]string{"REFRESH": "first"}
			s.rules[0].Recovery = []string{"refresh", "login"}
			s.rules[0].Scope.Exclude = rule.Patterns("http://o/b")
			other := s.rules[0]
			other.Name, other.Recovery, other.Scope.Exclude = "other", []string{"refresh"}, rule.Patterns("http://o/a")
			s.rules = append(s.rules, other)
			s.Macros = append(s.Macros, step(t, "refresh", "POST http://o/refresh HTTP/1.1\nAuthorization: Bearer {{REFRESH}}\n\n", "REFRESH refresh"))
		})
		m.handle("/b", m.use)
		var group sync.WaitGroup
		group.Go(func() { p.want(p.get("/a"), 200) })
		group.Go(func() { p.want(p.get("/b"), 200) })
		group.Wait()
		for token, n := range spent {
			if n != 1 {
				t.Errorf("%s was spent %d times", token, n)
			}
		}
		p.engine.Close()
	})
}

// The origin gives the same token until its end is near: that is no reason for
// one login after the other.
func TestTheSameTokenOnceMoreEndsTheTrying(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var end time.Time
		m := newMortal(time.Hour, func(_ string, now time.Time) (string, []string) {
			if !now.Before(end) {
				end = now.Add(time.Minute)
			}
			return `{"access":"` + jwt(fmt.Sprintf(`{"exp":%d}`, end.Unix())) + `"}`, nil
		})
		p := m.start(t, nil)
		p.every(time.Second, 10*time.Minute)
		if n := m.loginsSoFar(); n > 30 {
			t.Errorf("%d logins for 10 lives", n)
		}
		p.engine.Close()
	})
}

func TestALifetimeThatIsConfiguredOrLearned(t *testing.T) {
	says := func(token string, _ time.Time) (string, []string) { return `{"access":"` + token + `"}`, nil }
	for name, c := range map[string]struct {
		p    rule.Proactive
		dead uint64 // at most
	}{
		"configured": {rule.Proactive{Lifetime: 10 * time.Minute}, 0},
		"learned":    {rule.Proactive{Learn: true}, 4},
	} {
		bubble(t, func(t *testing.T) {
			m := newMortal(10*time.Minute, says)
			p := m.start(t, &c.p)
			p.every(10*time.Second, 3*time.Hour)
			if n := p.engine.Counts(); n.Dead > c.dead || m.loginsSoFar() > 20 || m.loginsSoFar() < 18 {
				t.Errorf("%s: %d logins, counts %+v", name, m.loginsSoFar(), n)
			}
			p.engine.Close()
		})
	}
}

func TestDeathsThatDoNotAgreeTeachNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMortal(10*time.Minute, func(token string, _ time.Time) (string, []string) { return `{"access":"` + token + `"}`, nil })
		p := m.start(t, &rule.Proactive{Learn: true})
		for i := range 12 {
			m.life = time.Duration(5+i%3*5) * time.Minute
			p.every(10*time.Second, m.life)
		}
		if c := p.engine.Counts(); c.Ahead > 0 {
			t.Errorf("counts %+v", c)
		}
		p.engine.Close()
	})
}

func TestASessionThatWasIdleForTooLongIsRecoveredFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMortal(20*time.Minute, func(token string, _ time.Time) (string, []string) { return `{"access":"` + token + `"}`, nil })
		p := m.start(t, &rule.Proactive{Idle: 20 * time.Minute})
		p.every(time.Minute, 10*time.Minute)
		if st := p.engine.Status()[0]; st.Why != "proactive.idle" || !st.Ends.After(time.Now()) {
			t.Errorf("status %+v", st)
		}
		<-time.After(20 * time.Minute)
		var group sync.WaitGroup
		for range 5 {
			group.Go(func() { p.want(p.get("/a"), 200) })
		}
		group.Wait()
		if c := p.engine.Counts(); c.Dead > 0 || m.loginsSoFar() != 2 {
			t.Errorf("counts %+v, %d logins", c, m.loginsSoFar())
		}
		p.engine.Close()
	})
}

func TestProactiveOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMortal(time.Minute, expiresIn(60))
		p := m.start(t, &rule.Proactive{Off: true})
		p.every(time.Second, 10*time.Minute)
		if c := p.engine.Counts(); c.Dead == 0 || c.Ahead != 0 {
			t.Errorf("counts %+v", c)
		}
		p.engine.Close()
	})
}

// What is no end, and what is none worth the trouble.
func TestEndsThatAreNone(t *testing.T) {
	for name, body := range map[string]string{
		"nothing":                  `{"access":"x"}`,
		"beside something else":    `{"access":"x","other":{"refresh":"y","expires_in":60}}`,
		"no number":                `{"access":"x","expires_in":"soon"}`,
		"negative":                 `{"access":"x","expires_in":-5}`,
		"too large":                `{"access":"x","expires_in":1e300}`,
		"shorter than two seconds": `{"access":"x","expires_in":1.9}`,
		"broken JSON":              `{"access":"x","expires_in":60`,
		"deep":                     strings.Repeat(`{"a":`, 100) + `{"access":"x","expires_in":60}` + strings.Repeat(`}`, 100),
		"a token that has ended":   `{"access":"` + jwt(`{"exp":1000000001}`) + `"}`,
		"exp that is no time":      `{"access":"` + jwt(`{"exp":1e300}`) + `"}`,
		"exp that is no number":    `{"access":"` + jwt(`{"exp":"tomorrow"}`) + `"}`,
		"no JWT":                   `{"access":"a.b.c"}`,
		"five parts":               `{"access":"` + jwt(`{"exp":9999999999}`) + `.d.e"}`,
		"no claims":                `{"access":"` + jwt(`[]`) + `"}`,
		"a JWT without an end":     `{"access":"` + jwt(`{"iat":1000000000}`) + `"}`,
		"a body that is no object": `"access":"x","expires_in"`,
	} {
		m := newMortal(time.Hour, func(string, time.Time) (string, []string) { return body, nil })
		p := m.start(t, nil)
		p.want(p.get("/a"), 200)
		if st := p.engine.Status()[0]; !st.Ends.IsZero() || st.Why != "" {
			t.Errorf("%s: status %+v", name, st)
		}
	}
}

// Each answer says the token once more: its end is the same, and so is what was
// tried for it.
func TestAnAnswerThatRepeatsTheTokenChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var token string
		m := newMortal(time.Hour, func(_ string, now time.Time) (string, []string) {
			token = jwt(fmt.Sprintf(`{"exp":%d}`, now.Add(time.Minute).Unix()))
			return `{"access":"` + token + `"}`, nil
		})
		m.handle("/a", func(_ context.Context, f *flow.Flow) error { return answer(f, 200, `{"access":"`+token+`"}`) })
		p := m.start(t, nil)
		p.get("/a")
		m.handle("/login", refuse(403))
		p.every(time.Second, 5*time.Minute)
		if n := m.count("POST /login"); n != 2 {
			t.Errorf("%d logins were tried", n)
		}
		p.engine.Close()
	})
}

// A session that slides: each answer says anew when it ends.
func TestAnswersMoveTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMortal(time.Minute, func(token string, _ time.Time) (string, []string) {
			return `{"access":"` + token + `"}`, []string{"Set-Cookie: sid=" + token + "; Max-Age=60"}
		})
		m.handle("/a", func(_ context.Context, f *flow.Flow) error {
			v, _ := f.Request.Get("Cookie")
			return answer(f, 200, "", "Set-Cookie: "+string(v)+"; Max-Age=60")
		})
		p := m.start(t, nil, func(s *setup) {
			s.rules[0].Updates[0] = rule.Update{Token: "ACCESS", Source: &rule.Source{Type: rule.SourceCookie, Name: "sid"},
				Target: &rule.Target{Type: rule.TargetCookie, Name: "sid"}}
		})
		p.every(time.Second, 10*time.Minute)
		if m.loginsSoFar() != 1 {
			t.Errorf("%d logins", m.loginsSoFar())
		}
		p.engine.Close()
	})
}
