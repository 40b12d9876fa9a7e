package session_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// A refresh token that rotates is never sent a second time, whatever became of
// the first: a broken connection, a dead context, a server in trouble.
func TestARefreshTokenIsSentOnce(t *testing.T) {
	for name, trouble := range map[string]func(f *flow.Flow) error{
		"broken off":     func(*flow.Flow) error { return &flow.Error{Reason: flow.ReasonBroken, Detail: "gone"} },
		"out of service": func(f *flow.Flow) error { return answer(f, 503, "later") },
		"refused":        func(f *flow.Flow) error { return answer(f, 400, "invalid_grant") },
		"no token in it": func(f *flow.Flow) error { return answer(f, 200, `{"refresh":""}`) },
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin()
			var mu sync.Mutex
			var spent []string
			refresh := 0
			o.handle("/refresh", func(_ context.Context, f *flow.Flow) error {
				mu.Lock()
				spent = append(spent, string(f.Request.Query()))
				broken := len(spent) == 2
				refresh++
				token := fmt.Sprint("r", refresh)
				mu.Unlock()
				if broken {
					return trouble(f)
				}
				o.mu.Lock()
				o.token = "of-" + token
				o.mu.Unlock()
				return answer(f, 200, `{"access":"of-`+token+`","refresh":"`+token+`"}`)
			})
			s := newSetup(t, o, bearer(t, func(r *rule.Rule) { r.Recovery = []string{"refresh", "login"} }))
			m := step(t, "refresh", "POST http://o/refresh?{{REFRESH}} HTTP/1.1\n\n", "ACCESS access", "REFRESH refresh")
			m.Once = true
			s.Macros = append(s.Macros, m)
			s.Variables = map[string]string{"REFRESH": "r0"} // the first one is given
			p := s.start(t, o)
			for range 6 {
				p.get("/a") // some fail: what matters is what was sent
				o.kill()
			}
			p.want(p.get("/a"), 200)
			mu.Lock()
			defer mu.Unlock()
			if unique := slices.Compact(slices.Sorted(slices.Values(spent))); len(unique) != len(spent) || len(spent) < 2 {
				t.Errorf("refresh tokens that were sent: %q", spent)
			}
			if o.loginCount() == 0 {
				t.Error("nobody logged in anew")
			}
		})
	}
	// Where there is nothing else, nothing is sent either.
	o := newOrigin()
	n := 0
	o.handle("/refresh", func(context.Context, *flow.Flow) error {
		n++
		return &flow.Error{Reason: flow.ReasonBroken, Detail: "gone"}
	})
	s := newSetup(t, o, bearer(t, func(r *rule.Rule) { r.Recovery = []string{"refresh"} }))
	m := step(t, "refresh", "POST http://o/refresh?{{REFRESH}} HTTP/1.1\n\n", "ACCESS access", "REFRESH refresh")
	m.Once = true
	s.Macros, s.Variables = []*macro.Macro{m}, map[string]string{"REFRESH": "r0"}
	p := s.start(t, o)
	for range 3 {
		if r := p.get("/a"); r.failed == nil {
			t.Errorf("answered %+v", r)
		}
	}
	if n != 1 {
		t.Errorf("the token was sent %d times", n)
	}
}
