package session_test

import (
	"context"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
)

// Requests that were under way while a session was recovered: their cookies
// are lost where the session was theirs, or where the login was, and nowhere
// else.
func TestCookiesInFlightDuringALogin(t *testing.T) {
	for _, c := range []struct {
		name, host, path string
		taken            bool
	}{
		{"the session's own", "shop", "/ruled", false},
		{"no rule's, where the login was", "o", "/slow", false},
		{"no rule's, elsewhere", "other", "/slow", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOrigin()
			began, gate := make(chan struct{}), make(chan struct{})
			o.handle(c.path, func(_ context.Context, f *flow.Flow) error {
				close(began)
				<-gate
				return answer(f, 200, "", "Set-Cookie: late=1")
			})
			p := feeding(newSetup(t, o, bearer(t, func(r *rule.Rule) { r.Scope.Pattern, r.Scope.Target = "shop", rule.ScopeHost }))).start(t, o)
			to := func(host, path string) *flow.Flow {
				f := newFlow(t, "GET "+path+" HTTP/1.1\nHost: "+host, nil)
				f.Origin.Host = host
				return f
			}
			if r := p.deliver(context.Background(), to("shop", "/first")); r.status != 200 {
				t.Fatalf("the first request got %v", r)
			}
			slow := to(c.host, c.path)
			done := make(chan result, 1)
			go func() { done <- p.deliver(context.Background(), slow) }()
			select {
			case <-began:
			case r := <-done:
				t.Fatalf("it was not sent: %v", r)
			}
			o.kill()
			r := p.deliver(context.Background(), to("shop", "/first"))
			close(gate)
			late := <-done
			p.want(r, 200)
			p.want(late, 200)
			all, _ := p.engine.Cookies("")
			if taken := len(all) == 1 && all[0].Name == "late"; taken != c.taken || o.loginCount() != 2 {
				t.Errorf("the jar has %v after %d logins; taken should be %v", all, o.loginCount(), c.taken)
			}
			if text := "its cookies are not taken"; c.host == "shop" && !late.traced(text) {
				t.Errorf("the trace does not say %q: %+v", text, late.flow.Trace.Events)
			}
		})
	}
}

// Browsers count plain http to the loopback as secure, and keep Secure cookies
// there.
func TestSecureCookiesOnTheLoopback(t *testing.T) {
	for host, want := range map[string]bool{"127.0.0.1": true, "localhost": true, "app.localhost": true, "::1": true, "shop.example": false} {
		o := newOrigin()
		o.setting("/set", 200, "sid=1; Secure", "__Host-sid=1; Secure; Path=/")
		h := o.listen("/x")
		p := newSetup(t, o, acts(rule.Action{UseCookies: &rule.UseCookies{}})).start(t, o)
		for _, path := range []string{"/set", "/x"} {
			f := newFlow(t, "GET "+path+" HTTP/1.1\nHost: h", nil)
			f.Origin.Host = host
			p.want(p.deliver(context.Background(), f), 200)
		}
		if got := strings.Contains(h.last(), "sid=1; __Host-sid=1"); got != want {
			t.Errorf("%s: sent %v, want %v: %s", host, got, want, h.last())
		}
	}
}
