package session_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
)

func saysNothing(token string, _ time.Time) (string, []string) {
	return `{"access":"` + token + `"}`, nil
}

// restless has sessions die that nobody used for that time; 0 is never.
type restless struct {
	*mortal
	rest time.Duration
}

func newRestless(rest, life time.Duration) *restless {
	r := &restless{newMortal(life, saysNothing), rest}
	used := make(map[string]time.Time)
	r.handle("/a", func(ctx context.Context, f *flow.Flow) error {
		r.mu.Lock()
		token, now := authorization(f), time.Now()
		if last, ok := used[token]; ok && r.rest > 0 && now.Sub(last) > r.rest {
			delete(r.ends, token)
		}
		used[token] = now
		r.mu.Unlock()
		return r.use(ctx, f)
	})
	return r
}

// burst uses the session for a while, each second, and lets it rest.
func (p *proxy) burst(use, rest time.Duration) (first result) {
	p.t.Helper()
	first = p.get("/a")
	p.want(first, 200)
	p.every(time.Second, use)
	<-time.After(rest)
	return first
}

// Sessions that nobody uses for half a minute die: after two such deaths a
// request behind such a rest waits for a new session, and meets no dead one.
func TestAnIdleLifetimeIsLearned(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newRestless(30*time.Second, 24*time.Hour)
		p := m.start(t, nil)
		for i := range 7 {
			r := p.burst(time.Duration(10+7*i%13)*time.Second, 30*time.Second)
			if waited := r.traced("the session has ended (learned idle lifetime 31s): recovered before the request is sent"); waited != (i >= 3) {
				t.Errorf("burst %d: %+v", i, r.flow.Trace.Events)
			}
		}
		if c := p.engine.Counts(); c.Dead != 2 || m.loginsSoFar() != 7 {
			t.Errorf("counts %+v, %d logins", c, m.loginsSoFar())
		}
		if st := p.engine.Status()[0]; st.Why != "learned idle lifetime 31s" {
			t.Errorf("status %+v", st)
		}
		// What a session survives is no reason for a login.
		p.get("/a")
		before := m.loginsSoFar()
		for range 20 {
			p.burst(5*time.Second, 18*time.Second)
		}
		if n := m.loginsSoFar() - before; n > 0 {
			t.Errorf("%d logins behind rests that sessions survive", n)
		}
		p.engine.Close()
	})
}

// One life in eight is left to its end: an origin that has changed is noticed.
func TestAnIdleLifetimeThatIsWrongIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newRestless(30*time.Second, 24*time.Hour)
		p := m.start(t, nil)
		for range 4 {
			p.burst(10*time.Second, time.Minute)
		}
		m.rest = 0
		for range 20 {
			p.burst(10*time.Second, 2*time.Minute)
		}
		if n := m.loginsSoFar(); n != 8 {
			t.Errorf("%d logins", n)
		}
		if st := p.engine.Status()[0]; !st.Ends.IsZero() {
			t.Errorf("status %+v", st)
		}
		p.engine.Close()
	})
}

// What ends by age is learned as that, whatever the pauses between requests are,
// and a rule without proactive learns it too.
func TestAnAbsoluteLifetimeIsLearned(t *testing.T) {
	for _, pause := range []time.Duration{time.Second, 25 * time.Second, time.Minute} {
		bubble(t, func(t *testing.T) {
			m := newRestless(0, 10*time.Minute)
			p := m.start(t, nil)
			p.every(pause, 55*time.Minute)
			if c := p.engine.Counts(); c.Dead != 2 || c.Ahead < 3 || c.Ahead > 4 || m.loginsSoFar() != int(c.Ahead)+3 {
				t.Errorf("each %s: counts %+v, %d logins", pause, c, m.loginsSoFar())
			}
			if st := p.engine.Status()[0]; !strings.HasPrefix(st.Why, "learned lifetime ") {
				t.Errorf("each %s: status %+v", pause, st)
			}
			p.engine.Close()
		})
	}
}

// The trace of a login that nobody asked for says what it is for.
func TestALoginAheadSaysWhy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var said []string
		m := newMortal(10*time.Minute, saysNothing)
		m.handle("/login", func(ctx context.Context, f *flow.Flow) error {
			for _, e := range f.Trace.Events {
				said = append(said, fmt.Sprintf("%d %s", m.loginsSoFar(), e.Detail))
			}
			return m.login(ctx, f)
		})
		p := m.start(t, nil)
		p.every(time.Second, 32*time.Minute)
		if got := strings.Join(said, "\n"); got != "3 before the session ends: learned lifetime 9m59s" {
			t.Errorf("said %q", got)
		}
		p.engine.Close()
	})
}

// Nothing is learned of sessions that live for less than 20 seconds, and no
// login follows the one before it within ten because of what is learned.
func TestWhatIsLearnedHasAFloor(t *testing.T) {
	for _, c := range []struct {
		life  time.Duration
		ahead bool
	}{{15 * time.Second, false}, {22 * time.Second, true}} {
		bubble(t, func(t *testing.T) {
			m := newRestless(0, c.life)
			p := m.start(t, &rule.Proactive{Learn: true, Skew: time.Hour, Jitter: 100})
			var last time.Time
			m.handle("/login", func(ctx context.Context, f *flow.Flow) error {
				if now := time.Now(); now.Sub(last) < 10*time.Second {
					t.Errorf("a life of %s: a login %s after the one before it", c.life, now.Sub(last))
				} else {
					last = now
				}
				return m.login(ctx, f)
			})
			p.every(time.Second, 10*time.Minute)
			if n := p.engine.Counts(); n.Ahead > 0 != c.ahead {
				t.Errorf("a life of %s: counts %+v", c.life, n)
			}
			p.engine.Close()
		})
	}
}

func TestLearningCanBeSwitchedOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newRestless(30*time.Second, 10*time.Minute)
		p := m.start(t, &rule.Proactive{Jitter: 10})
		for range 10 {
			p.burst(11*time.Minute, time.Minute)
		}
		if c := p.engine.Counts(); c.Ahead > 0 || c.Dead < 10 {
			t.Errorf("counts %+v", c)
		}
		p.engine.Close()
	})
}

// The sessions of a pool die alike, so that each learns from all.
func TestAPoolLearnsTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newRestless(0, 10*time.Minute)
		p := m.start(t, nil, func(s *setup) {
			s.Identities = []session.Identity{{Name: "alice", Pool: session.Pool{Sessions: 2}}}
		})
		connections := make([]context.Context, 2)
		for i := range connections {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			connections[i] = ctx
		}
		for end := time.Now().Add(35 * time.Minute); time.Now().Before(end); <-time.After(time.Second) {
			for i, ctx := range connections {
				f := newFlow(t, "GET /a HTTP/1.1\nHost: o", nil)
				f.Client, f.Connection = uint64(i+1), ctx
				p.want(p.deliver(ctx, f), 200)
			}
		}
		if c := p.engine.Counts(); c.Dead != 2 || c.Ahead < 4 { // one death each
			t.Errorf("counts %+v", c)
		}
		p.engine.Close()
	})
}

// jarSession is a rule that has the jar's cookies put in, and an origin whose
// logins set them.
func jarSession(t *testing.T, pick rule.Pick, cookies ...string) (*mortal, *proxy) {
	m := newMortal(time.Minute, saysNothing)
	m.handle("/login", func(_ context.Context, f *flow.Flow) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.logins++
		sid := fmt.Sprintf("s-%d", m.logins)
		m.ends["sid="+sid] = time.Now().Add(m.life)
		var head []string
		for _, c := range cookies {
			head = append(head, "Set-Cookie: "+strings.ReplaceAll(c, "SID", sid))
		}
		return answer(f, 200, "", head...)
	})
	m.handle("/a", func(_ context.Context, f *flow.Flow) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		line, _ := f.Request.Get("Cookie")
		for c := range strings.SplitSeq(string(line), "; ") {
			if end, ok := m.ends[c]; ok && time.Now().Before(end) {
				return answer(f, 200, "welcome")
			}
		}
		return answer(f, 401, "")
	})
	p := m.start(t, nil, func(s *setup) {
		s.rules[0].Updates = nil
		s.rules[0].Actions = []rule.Action{{UseCookies: &rule.UseCookies{Pick: pick}}}
		s.Macros = []*macro.Macro{step(t, "login", "POST http://o/login HTTP/1.1\n\n")}
	})
	return m, p
}

func TestACookieOfTheJarEndsItsSession(t *testing.T) {
	for name, c := range map[string]struct {
		pick    rule.Pick
		cookies []string
	}{
		"HttpOnly":  {rule.Pick{}, []string{"sid=SID; Max-Age=60; HttpOnly", "track=SID; Max-Age=5", "theme=dark"}},
		"by name":   {rule.Pick{Only: []string{"sid"}}, []string{"sid=SID; Max-Age=60", "bot=SID; Max-Age=5; HttpOnly"}},
		"but these": {rule.Pick{Except: []string{"bot"}}, []string{"sid=SID; Max-Age=60; HttpOnly", "bot=SID; Max-Age=5; HttpOnly"}},
	} {
		bubble(t, func(t *testing.T) {
			m, p := jarSession(t, c.pick, c.cookies...)
			p.every(time.Second, 10*time.Minute)
			if n := p.engine.Counts(); n.Dead > 0 || m.loginsSoFar() < 13 || m.loginsSoFar() > 15 || n.Ahead != uint64(m.loginsSoFar()-1) {
				t.Errorf("%s: %d logins, counts %+v", name, m.loginsSoFar(), n)
			}
			if st := p.engine.Status()[0]; st.Why != "cookie sid: its lifetime in the jar" || st.Ends.IsZero() {
				t.Errorf("%s: status %+v", name, st)
			}
			p.engine.Close()
		})
	}
}

// A cookie that the login does not set again is no reason for another login.
func TestACookieThatIsNotTheLoginsEndsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m, p := jarSession(t, rule.Pick{}, "sid=SID; HttpOnly")
		m.life = time.Hour
		m.handle("/seen", func(_ context.Context, f *flow.Flow) error {
			return answer(f, 200, "", "Set-Cookie: bot=1; Max-Age=60; HttpOnly")
		})
		p.want(p.get("/seen"), 200)
		p.every(time.Second, 30*time.Minute)
		if n := m.loginsSoFar(); n > 2 {
			t.Errorf("%d logins", n)
		}
		p.engine.Close()
	})
}
