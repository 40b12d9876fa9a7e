package session_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
)

// clock is a clock that only waits move.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	waited time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Wait(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.waited += d
	return ctx.Err()
}

// codeOrigin logs in with one-time codes, each of which it takes once, and only
// in its time step.
type codeOrigin struct {
	*origin
	totp  *macro.TOTP
	clock *clock
	ahead time.Duration // of the origin's clock
	mu    sync.Mutex
	codes []string
}

func newCodeOrigin(t *testing.T) *codeOrigin {
	totp, err := macro.ParseTOTP("JBSWY3DPEHPK3PXP")
	if err != nil {
		t.Fatal(err)
	}
	o := &codeOrigin{origin: newOrigin(), totp: totp, clock: &clock{now: time.Date(2026, 6, 6, 12, 0, 3, 0, time.UTC)}}
	o.handle("/otp", func(_ context.Context, f *flow.Flow) error {
		now := o.clock.Now().Add(o.ahead)
		date := "Date: " + now.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
		code := string(f.Request.Query())
		o.mu.Lock()
		used := slices.Contains(o.codes, code)
		o.codes = append(o.codes, code)
		o.mu.Unlock()
		if used || code != o.totp.Code(o.totp.Step(now)) {
			return answer(f, 403, "wrong code", date)
		}
		return o.login(f)
	})
	o.handle("/form", func(_ context.Context, f *flow.Flow) error {
		return answer(f, 200, "", "Date: "+o.clock.Now().Add(o.ahead).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"))
	})
	return o
}

func (o *codeOrigin) start(t *testing.T, keeper session.Keeper, more ...string) *proxy {
	s := newSetup(t, o.origin, bearer(t))
	m := &macro.Macro{Name: "login"}
	for _, path := range append(more, "/otp?{{totp}}") {
		m.Steps = append(m.Steps, oneStep(t, "GET http://o"+path+" HTTP/1.1\n"))
	}
	last := &m.Steps[len(m.Steps)-1]
	*last = oneStep(t, "GET http://o/otp?{{totp}} HTTP/1.1\n", "ACCESS access")
	s.Macros = []*macro.Macro{m}
	s.Identities = []session.Identity{{Name: "alice", TOTP: o.totp}}
	s.Now, s.Wait, s.Keeper = o.clock.Now, o.clock.Wait, keeper
	return s.start(t, o.origin)
}

// Two recoveries inside one time step never send the same code, not even when
// the proxy was restarted between them: the second waits for the next step.
func TestACodeIsUsedOnce(t *testing.T) {
	keeper := new(memoryKeeper)
	o := newCodeOrigin(t)
	p := o.start(t, keeper)
	p.want(p.get("/a"), 200)
	if o.clock.waited != 0 {
		t.Errorf("the first login waited %s", o.clock.waited)
	}
	for i := range 3 {
		o.kill()
		if i == 2 {
			p.engine.Close()
			p = o.start(t, keeper)
		}
		p.want(p.get("/a"), 200)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if unique := slices.Compact(slices.Sorted(slices.Values(o.codes))); len(unique) != 4 || len(o.codes) != 4 {
		t.Errorf("codes %q: want four different ones", o.codes)
	}
	if want := 27*time.Second + 30*time.Second + 30*time.Second; o.clock.waited != want {
		t.Errorf("waited %s, want %s", o.clock.waited, want)
	}
}

// Recoveries of one identity that run at the same time have a code each.
func TestCodesOfParallelRecoveries(t *testing.T) {
	o := newCodeOrigin(t)
	s := newSetup(t, o.origin)
	s.Identities = []session.Identity{{Name: "alice", TOTP: o.totp}}
	s.Now, s.Wait, s.Macros = o.clock.Now, o.clock.Wait, nil
	for i := range 4 {
		name := fmt.Sprint("login", i)
		s.Macros = append(s.Macros, step(t, name, "GET http://o/otp?{{totp}} HTTP/1.1\n", fmt.Sprintf("ACCESS%d access", i)))
		r := bearer(t, func(r *rule.Rule) {
			r.Name, r.Recovery = name, []string{name}
			r.Updates[0].Token = fmt.Sprint("ACCESS", i)
			r.Scope.Pattern = fmt.Sprintf("http://o/%d", i)
		})
		s.rules = append(s.rules, r)
	}
	p := s.start(t, o.origin)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() { p.get(fmt.Sprintf("/%d", i)) })
	}
	all.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	if unique := slices.Compact(slices.Sorted(slices.Values(o.codes))); len(o.codes) < 4 || len(unique) != len(o.codes) {
		t.Errorf("codes %q: want at least four different ones", o.codes)
	}
}

// The origin's clock is the one that counts, as its answers tell it.
func TestCodesByTheOriginsClock(t *testing.T) {
	for _, ahead := range []time.Duration{-10 * time.Minute, -29 * time.Second, 0, 95 * time.Second, time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) {
			o := newCodeOrigin(t)
			o.ahead = ahead
			p := o.start(t, nil, "/form")
			p.want(p.get("/a"), 200)
			if len(o.codes) != 1 {
				t.Errorf("codes %q", o.codes)
			}
		})
	}
}

// A code that is about to end is not sent: it could arrive too late.
func TestACodeThatIsAboutToEnd(t *testing.T) {
	o := newCodeOrigin(t)
	o.clock.now = time.Date(2026, 6, 6, 12, 0, 29, 500e6, time.UTC)
	p := o.start(t, nil)
	p.want(p.get("/a"), 200)
	if o.clock.waited != 500*time.Millisecond {
		t.Errorf("waited %s", o.clock.waited)
	}
}

// A clock that has gone back does not make everybody wait for hours.
func TestCodesAfterTheClockWentBack(t *testing.T) {
	o := newCodeOrigin(t)
	p := o.start(t, new(memoryKeeper))
	p.want(p.get("/a"), 200)
	o.kill()
	o.clock.now = o.clock.now.Add(-time.Hour)
	r := p.get("/a")
	if r.failed == nil || r.failed.Reason != flow.ReasonRecovery || !strings.Contains(r.failed.Detail, "the clock of this machine has gone back") {
		t.Errorf("answered %v", r.failed)
	}
}

func TestAskedPersons(t *testing.T) {
	prompt := func(t *testing.T) *macro.Macro {
		text, err := rule.ParseTemplate("the code?")
		if err != nil {
			t.Fatal(err)
		}
		return &macro.Macro{Name: "login", Steps: []macro.Step{
			{Prompt: &macro.Prompt{Text: text, Token: "CODE", Timeout: time.Hour}},
			oneStep(t, "POST http://o/login?{{CODE}} HTTP/1.1\n\n", "ACCESS access"),
		}}
	}
	t.Run("one answer for all who wait", func(t *testing.T) {
		o := newOrigin()
		s := newSetup(t, o, bearer(t))
		s.Macros = []*macro.Macro{prompt(t)}
		asked := make(chan macro.Question)
		s.Ask = func(_ context.Context, q macro.Question) (string, error) { asked <- q; return "c0de", nil }
		p := s.start(t, o)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { p.want(p.get("/a"), 200) })
		}
		if q := <-asked; q.Text != "the code?" || !q.Answer {
			t.Errorf("asked %+v", q)
		}
		all.Wait()
		if o.loginCount() != 1 {
			t.Errorf("%d logins", o.loginCount())
		}
	})
	t.Run("requests wait within their limit", func(t *testing.T) {
		o := newOrigin()
		s := newSetup(t, o, bearer(t))
		s.Macros, s.Limits.Wait = []*macro.Macro{prompt(t)}, time.Millisecond
		answered := make(chan string)
		s.Ask = func(ctx context.Context, _ macro.Question) (string, error) {
			select {
			case a := <-answered:
				return a, nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		p := s.start(t, o)
		r := p.get("/a")
		for r.failed != nil && r.failed.Reason == flow.ReasonTimeout { // before it came to the question
			r = p.get("/a")
		}
		if r.failed == nil || r.failed.Reason != flow.ReasonPerson || r.failed.Code() != 504 || !r.failed.OfSession() {
			t.Errorf("answered %+v", r.failed)
		}
		answered <- "late, and good for the next request"
		for o.loginCount() == 0 {
			if r := p.get("/a"); r.failed != nil && r.failed.Reason != flow.ReasonPerson && r.failed.Reason != flow.ReasonTimeout {
				t.Fatalf("answered %+v", r.failed)
			}
		}
	})
	t.Run("nobody", func(t *testing.T) {
		o := newOrigin()
		s := newSetup(t, o, bearer(t))
		s.Macros = []*macro.Macro{prompt(t)}
		r := s.start(t, o).get("/a")
		if r.failed == nil || r.failed.Reason != flow.ReasonPerson || !strings.Contains(r.failed.Detail, "there is nobody to ask") {
			t.Errorf("answered %+v", r.failed)
		}
	})
}
