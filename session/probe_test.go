package session_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
)

const fullList = `{"items":["` + longText + `"]}`

const longText = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" +
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" +
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" +
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// silent has a path whose answers never show that the session is dead.
func silent(o *origin, path string) {
	o.handle(path, func(_ context.Context, f *flow.Flow) error {
		if o.isLive(f) {
			return answer(f, 200, fullList, "Content-Type: application/json")
		}
		return answer(f, 200, `{"items":[]}`, "Content-Type: application/json")
	})
}

// probed is a rule without any check, with a probe.
func probed(p rule.Probe) func(*rule.Rule) {
	p.Macro = "whoami"
	return func(r *rule.Rule) { r.Dead, r.Probe = nil, &p }
}

func startProbed(t testing.TB, o *origin, p rule.Probe, change ...func(*setup)) *proxy {
	s := newSetup(t, o, bearer(t, probed(p)))
	s.Macros = append(s.Macros, whoami(t))
	for _, c := range change {
		c(s)
	}
	return s.start(t, o)
}

func TestAProbeIsAskedEverySoManyRequests(t *testing.T) {
	o := newOrigin()
	silent(o, "/list")
	p := startProbed(t, o, rule.Probe{Every: 5})
	for range 20 {
		if r := p.get("/list"); r.body != fullList {
			t.Fatalf("got %v", r)
		}
	}
	if n := o.count("GET /whoami"); n != 4 {
		t.Errorf("asked %d times about 20 requests; want 4", n)
	}
	o.kill()
	empty := 0
	for range 20 {
		if r := p.get("/list"); r.body != fullList {
			empty++
		}
	}
	if empty != 4 || o.loginCount() != 2 {
		t.Errorf("%d answers of a dead session, %d logins; want 4 until the probe is asked, and 2", empty, o.loginCount())
	}
	if c := p.engine.Counts(); c.Probes < 8 || c.Resends != 0 {
		t.Errorf("counts %+v", c)
	}
}

func TestAProbesWordHoldsForATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		silent(o, "/list")
		p := startProbed(t, o, rule.Probe{For: time.Minute, Every: 1000})
		p.get("/list")
		for range 10 {
			<-time.After(20 * time.Second)
			p.get("/list")
		}
		if n := o.count("GET /whoami"); n != 3 {
			t.Errorf("asked %d times in 200 seconds; want 3", n)
		}
		o.kill()
		<-time.After(time.Minute)
		if r := p.get("/list"); r.body != fullList || !r.traced("says that the session is dead") {
			t.Errorf("the request that asked got %v; trace %+v", r, r.flow.Trace.Events)
		}
		p.engine.Close()
	})
}

// Requests that come while a probe is under way wait for its word, and one
// login serves all.
func TestAProbeIsAskedOnceForEverybody(t *testing.T) {
	o := newOrigin()
	silent(o, "/list")
	p := startProbed(t, o, rule.Probe{Every: 10})
	for range 9 {
		p.get("/list")
	}
	asked, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	o.kill()
	o.handle("/whoami", func(_ context.Context, f *flow.Flow) error {
		once.Do(func() { close(asked); <-gate })
		return o.protected(f)
	})
	var group sync.WaitGroup
	results := make([]result, 8)
	group.Go(func() { results[0] = p.get("/list") })
	<-asked
	for i := 1; i < len(results); i++ {
		group.Go(func() { results[i] = p.get("/list") })
	}
	close(gate)
	group.Wait()
	for i, r := range results {
		if r.body != fullList {
			t.Errorf("request %d got %v; trace %+v", i, r, r.flow.Trace.Events)
		}
	}
	// One about the dead session; of the new one everybody asks at once, so
	// that one that comes late may ask again.
	if n := o.count("GET /whoami"); n > 5 || o.loginCount() != 2 {
		t.Errorf("asked %d times, %d logins", n, o.loginCount())
	}
}

func TestAProbeThatCannotBeAskedSaysNothing(t *testing.T) {
	o := newOrigin()
	silent(o, "/list")
	o.handle("/whoami", func(context.Context, *flow.Flow) error { return errScript })
	var warned atomic.Int64
	p := startProbed(t, o, rule.Probe{Every: 1}, func(s *setup) { s.Warn = func(string) { warned.Add(1) } })
	for range 3 {
		if r := p.get("/list"); r.body != fullList {
			t.Errorf("got %v", r)
		}
	}
	if o.loginCount() != 1 || warned.Load() != 3 {
		t.Errorf("%d logins, %d warnings", o.loginCount(), warned.Load())
	}
}

func TestASlowProbeHoldsARequestForATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		silent(o, "/list")
		o.handle("/whoami", func(ctx context.Context, _ *flow.Flow) error { <-ctx.Done(); return ctx.Err() })
		p := startProbed(t, o, rule.Probe{Every: 1})
		began := time.Now()
		if r := p.get("/list"); r.body != fullList || time.Since(began) != 5*time.Second || !r.traced("had no word within") {
			t.Errorf("got %v after %v", r, time.Since(began))
		}
		p.engine.Close()
	})
}

// A probe that never says alive: the logins that it causes count as failed.
func TestAProbeThatNoLoginPleasesEndsInTheLockout(t *testing.T) {
	o := newOrigin()
	silent(o, "/list")
	o.handle("/whoami", refuse(401))
	p := startProbed(t, o, rule.Probe{Every: 1})
	for range 10 {
		if r := p.get("/list"); r.failed == nil || !r.failed.OfSession() {
			t.Errorf("got %v", r)
		}
	}
	if n := o.loginCount(); n > 6 {
		t.Errorf("%d logins", n)
	}
	p.wantRefused(p.get("/list"), flow.ReasonLocked)

	o = newOrigin()
	silent(o, "/list")
	o.handle("/whoami", refuse(401))
	open := startProbed(t, o, rule.Probe{Every: 1}, func(s *setup) { s.rules[0].OnFailure = rule.FailPass })
	for range 10 {
		open.want(open.get("/list"), 200)
	}
	if n := o.loginCount(); n > 6 {
		t.Errorf("%d logins with on_failure: pass", n)
	}
}

func TestSuspicionAsksTheProbe(t *testing.T) {
	for name, dead := range map[string]func(*flow.Flow) error{
		"a redirect": func(f *flow.Flow) error { return answer(f, 302, "", "Location: /login") },
		"HTML for JSON": func(f *flow.Flow) error {
			return answer(f, 200, fullList, "Content-Type: text/html; charset=utf-8")
		},
		"a body that collapsed": func(f *flow.Flow) error { return answer(f, 200, `{}`, "Content-Type: application/json") },
	} {
		o := newOrigin()
		o.handle("/list", func(_ context.Context, f *flow.Flow) error {
			if o.isLive(f) {
				return answer(f, 200, fullList, "Content-Type: application/json")
			}
			return dead(f)
		})
		p := startProbed(t, o, rule.Probe{OnSuspicion: true})
		p.get("/list")
		p.get("/list")
		o.kill()
		r := p.get("/list")
		if r.body != fullList || !r.traced("the answer is suspicious") || o.loginCount() != 2 {
			t.Errorf("%s: got %v, %d logins; trace %+v", name, r, o.loginCount(), r.flow.Trace.Events)
		}
	}
}

func TestSuspicionThatIsWrongPasses(t *testing.T) {
	now := time.Unix(1e9, 0)
	o := newOrigin()
	silent(o, "/list")
	p := startProbed(t, o, rule.Probe{OnSuspicion: true}, func(s *setup) { s.Now = func() time.Time { return now } })
	p.get("/list")
	o.handle("/list", func(_ context.Context, f *flow.Flow) error { return answer(f, 302, "", "Location: /new") })
	for range 3 {
		p.want(p.get("/list"), 302)
	}
	if n := o.count("GET /whoami"); n != 1 || o.loginCount() != 1 {
		t.Errorf("asked %d times, %d logins; want once: then that answer is known", n, o.loginCount())
	}
	// Others are not known, and it is asked once in a second at most.
	for i := range 5000 {
		silent(o, fmt.Sprintf("/p%d", i))
		p.get(fmt.Sprintf("/p%d", i))
	}
	o.handle("/p4999", refuse(303))
	o.handle("/p4998", refuse(303))
	p.get("/p4999")
	if n := o.count("GET /whoami"); n != 1 {
		t.Errorf("asked %d times within a second", n)
	}
	now = now.Add(time.Second)
	p.get("/p4998")
	if n := o.count("GET /whoami"); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

// An answer of the session before the present one needs no question.
func TestASuspiciousAnswerOfAnOldSessionIsSentAgain(t *testing.T) {
	o := newOrigin()
	var p *proxy
	died := false
	o.handle("/list", func(_ context.Context, f *flow.Flow) error {
		if o.isLive(f) && !died {
			return answer(f, 200, fullList, "Content-Type: application/json")
		}
		return answer(f, 302, "", "Location: /login")
	})
	p = startProbed(t, o, rule.Probe{OnSuspicion: true, Every: 1})
	p.get("/list")
	asked := 0
	o.handle("/list", func(_ context.Context, f *flow.Flow) error {
		if asked++; asked == 1 {
			o.kill()
			p.get("/other") // which asks, and logs in
			return answer(f, 302, "", "Location: /login")
		}
		return o.protected(f)
	})
	if r := p.get("/list"); r.status != 200 || o.loginCount() != 2 {
		t.Errorf("got %v, %d logins", r, o.loginCount())
	}
}

func TestTheProbesMacroMustBeThere(t *testing.T) {
	o := newOrigin()
	s := newSetup(t, o, bearer(t, probed(rule.Probe{Every: 1})))
	s.Rules, _ = rule.Compile(s.rules, s.globals)
	if _, err := session.New(s.Config); err == nil || !strings.Contains(err.Error(), "validation.probe") {
		t.Errorf("got %v", err)
	}
}
