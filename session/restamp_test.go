package session_test

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
)

// A session is recovered between a request's stamp and its tokens: it is sent
// with the new ones, so what its answer brings is of the new session.
func TestASessionIsRecoveredWhileTokensArePutIn(t *testing.T) {
	o := newOrigin()
	s := feeding(newSetup(t, o, bearer(t, func(r *rule.Rule) {
		r.Updates = append([]rule.Update{{Token: "LATER", Target: header("X-Later")}}, r.Updates...)
	})))
	var f *flow.Flow
	var p *proxy
	s.Now = func() time.Time {
		// That the first token has no value yet is noted between the two.
		if made := f; made != nil && made.Stamp.Sequence > 0 {
			f = nil
			o.kill()
			p.want(p.get("/other"), 200)
		}
		return time.Now()
	}
	p = s.start(t, o)
	p.want(p.get("/first"), 200)
	o.handle("/ruled", func(_ context.Context, f *flow.Flow) error {
		if !o.isLive(f) {
			return answer(f, 401, "")
		}
		return answer(f, 200, "", "Set-Cookie: fresh=1")
	})
	sent := newFlow(t, "GET /ruled HTTP/1.1\nHost: o", nil)
	f = sent
	p.want(p.deliver(context.Background(), sent), 200)
	if o.loginCount() != 2 || o.count("GET /ruled") != 1 || authorization(sent) != "token-2" {
		t.Fatalf("not the order that is to be tried: %q", o.sent)
	}
	if all, _ := p.engine.Cookies(""); len(all) != 1 || all[0].Name != "fresh" {
		t.Errorf("the jar has %v", all)
	}
}
