package session_test

import (
	"context"
	"fmt"
	"slices"
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

// crash is what a process finds that begins after this one ended at this
// moment.
func (k *memoryKeeper) crash() *memoryKeeper {
	k.mu.Lock()
	defer k.mu.Unlock()
	return &memoryKeeper{rows: slices.Clone(k.rows)}
}

// rotating is an origin with refresh tokens that can be used once, and a cookie
// that changes with every answer.
type rotating struct {
	*origin
	refresh   string
	refreshes int
	reused    int
	rolled    int
	onRefresh func()
}

func newRotating() *rotating {
	o := &rotating{origin: newOrigin()}
	o.handle("/login", func(_ context.Context, f *flow.Flow) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.logins++
		return o.issue(f)
	})
	o.handle("/refresh", func(_ context.Context, f *flow.Flow) error {
		o.mu.Lock()
		on := o.onRefresh
		good := string(f.Request.Query()) == o.refresh
		o.mu.Unlock()
		if on != nil {
			on()
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.refreshes++
		if !good {
			o.reused++
			return answer(f, 403, "reused")
		}
		return o.issue(f)
	})
	o.handle("/roll", func(_ context.Context, f *flow.Flow) error {
		if !o.isLive(f) {
			return answer(f, 401, "dead")
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.rolled++
		return answer(f, 200, "ok", fmt.Sprintf("Set-Cookie: roll=%d", o.rolled))
	})
	return o
}

// issue makes new tokens. mu is held.
func (o *rotating) issue(f *flow.Flow) error {
	n := o.logins + o.refreshes
	o.token, o.refresh = fmt.Sprint("token-", n), fmt.Sprint("refresh-", n)
	return answer(f, 200, fmt.Sprintf(`{"access":%q,"refresh":%q}`, o.token, o.refresh))
}

func (o *rotating) start(t *testing.T, k session.Keeper, change ...func(*setup)) *proxy {
	t.Helper()
	s := newSetup(t, o.origin, bearer(t, usesJar, func(r *rule.Rule) { r.Recovery = []string{"refresh", "login"} }))
	s.Macros = []*macro.Macro{
		step(t, "refresh", "POST http://o/refresh?{{REFRESH}} HTTP/1.1\n\n", "ACCESS access", "REFRESH refresh"),
		step(t, "login", "POST http://o/login?{{USER}} HTTP/1.1\n\n", "ACCESS access", "REFRESH refresh"),
	}
	s.Variables = map[string]string{"USER": "alice"}
	s.Keeper = k
	for _, c := range change {
		c(s)
	}
	return s.start(t, o.origin)
}

func TestASessionSurvivesACrash(t *testing.T) {
	o, k := newRotating(), new(memoryKeeper)
	p := o.start(t, k)
	for range 3 {
		p.want(p.get("/roll"), 200)
	}
	o.kill()
	p.want(p.get("/roll"), 200)
	for range 3 {
		k = k.crash()
		p = o.start(t, k)
		if st := p.engine.Status(); len(st) != 1 || st[0].Generation != 2 || st[0].State != "alive" || st[0].Logins != 2 || st[0].LastLogin.IsZero() {
			t.Fatalf("after the crash: %+v", st)
		}
		if got, want := p.cookies(""), fmt.Sprint("roll=", o.rolled); got != want {
			t.Errorf("cookies %q; want %q", got, want)
		}
		p.want(p.get("/roll"), 200)
		if o.logins != 1 || o.refreshes != 1 {
			t.Fatalf("%d logins and %d refreshes", o.logins, o.refreshes)
		}
	}
	o.kill() // what refreshes is kept too
	p.want(p.get("/roll"), 200)
	if o.logins != 1 || o.refreshes != 2 || o.reused != 0 {
		t.Errorf("%d logins, %d refreshes, %d reused", o.logins, o.refreshes, o.reused)
	}
}

// A process that ends while its refresh token is under way does not send it
// again.
func TestARefreshTokenUnderWayIsNotSentAgain(t *testing.T) {
	o, k := newRotating(), new(memoryKeeper)
	p := o.start(t, k)
	p.want(p.get("/roll"), 200)
	o.kill()
	var crashed *memoryKeeper
	o.onRefresh = func() { crashed = k.crash() }
	p.want(p.get("/roll"), 200)
	o.onRefresh = nil
	o.kill() // nothing that the lost answer brought is known
	p = o.start(t, crashed)
	p.want(p.get("/roll"), 200)
	if o.reused != 0 || o.refreshes != 1 || o.logins != 2 {
		t.Errorf("%d reused, %d refreshes, %d logins", o.reused, o.refreshes, o.logins)
	}
	o.kill()
	p.want(p.get("/roll"), 200)
	if o.refreshes != 2 || o.reused != 0 {
		t.Errorf("%d refreshes, %d reused: the new refresh token is good", o.refreshes, o.reused)
	}
}

// What the configuration says now counts more than what is kept.
func TestAnotherConfigurationIsAnotherSession(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*setup)
		logins int
		cookie string
	}{
		"the same":                     {func(*setup) {}, 1, "roll=1"},
		"a variable that nobody sends": {func(s *setup) { s.Variables["OTHER"] = "x" }, 1, "roll=1"},
		"another user":                 {func(s *setup) { s.Variables["USER"] = "bob" }, 2, ""},
		"another application": {func(s *setup) {
			s.Macros = []*macro.Macro{
				step(t, "refresh", "POST http://p/refresh?{{REFRESH}} HTTP/1.1\n\n", "ACCESS access", "REFRESH refresh"),
				step(t, "login", "POST http://p/login?{{USER}} HTTP/1.1\n\n", "ACCESS access", "REFRESH refresh"),
			}
		}, 2, "roll=1"},
		"another starting value": {func(s *setup) { s.Variables["ACCESS"] = "mine" }, 1, "roll=1"},
		"the cookie of a file": {func(s *setup) {
			s.Identities = []session.Identity{{Cookies: []jar.Cookie{{Name: "roll", Value: "mine", Domain: "o", HostOnly: true}}}}
		}, 1, "roll=mine"},
		"no such recovery": {func(s *setup) { s.rules[0].Recovery = []string{"login"} }, 1, "roll=1"},
	} {
		t.Run(name, func(t *testing.T) {
			o, k := newRotating(), new(memoryKeeper)
			p := o.start(t, k)
			p.want(p.get("/roll"), 200)
			p.engine.Close()
			p = o.start(t, k, c.change)
			if got := p.cookies(""); got != c.cookie {
				t.Errorf("cookies %q; want %q", got, c.cookie)
			}
			p.want(p.get("/a"), 200)
			if n := o.logins + o.refreshes; name != "another starting value" && n != c.logins {
				t.Errorf("%d logins; want %d", n, c.logins)
			}
			p.engine.Close()
			p = o.start(t, k) // what was left alone is still there
			if name == "no such recovery" && p.engine.Status()[0].Generation != 1 {
				t.Errorf("status %+v", p.engine.Status())
			}
		})
	}
}

// gatedKeeper saves when it is told to.
type gatedKeeper struct {
	memoryKeeper
	open chan struct{}
	came chan struct{}
}

func (k *gatedKeeper) Save(ctx context.Context, rows ...session.Row) error {
	k.came <- struct{}{}
	select {
	case <-k.open:
	case <-ctx.Done():
		return ctx.Err()
	}
	return k.memoryKeeper.Save(ctx, rows...)
}

// An answer waits until what it brought is durable, and those that come at the
// same time share a transaction.
func TestAnAnswerWaitsUntilWhatItBringsIsDurable(t *testing.T) {
	o := newRotating()
	k := &gatedKeeper{open: make(chan struct{}), came: make(chan struct{}, 1000)}
	p := o.start(t, k)
	const clients = 32
	var delivered atomic.Int64
	begun := make(chan int, clients)
	o.handle("/roll", func(_ context.Context, f *flow.Flow) error {
		n := <-begun
		return answer(f, 200, "ok", fmt.Sprintf("Set-Cookie: c%d=1", n))
	})
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			p.want(p.get("/roll"), 200)
			delivered.Add(1)
		})
	}
	<-k.came
	k.open <- struct{}{} // for the login
	for n := range clients {
		begun <- n
	}
	<-k.came
	if delivered.Load() > 0 {
		t.Error("delivered before it was durable")
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case k.open <- struct{}{}:
			case <-done:
				return
			}
		}
	}()
	all.Wait()
	if n := len(k.of(session.KeptCookie)); n != clients {
		t.Errorf("%d cookies are kept; want %d", n, clients)
	}
	p.engine.Close()
	close(done)
}

// Where nothing can be written, traffic goes on, somebody is told once, and it
// is tried again.
func TestAFullDiskStopsNoTraffic(t *testing.T) {
	o, k := newRotating(), new(memoryKeeper)
	now := time.Unix(1e9, 0)
	var mu sync.Mutex
	var warned []string
	p := o.start(t, k, func(s *setup) {
		s.Now = func() time.Time { return now }
		s.Warn = func(text string) { mu.Lock(); warned = append(warned, text); mu.Unlock() }
	})
	p.want(p.get("/roll"), 200)
	k.fail(errScript)
	for range 5 {
		p.want(p.get("/roll"), 200)
	}
	mu.Lock()
	if n := p.engine.Counts().Unkept; n == 0 || len(warned) != 1 || !strings.Contains(warned[0], "cannot be kept") {
		t.Errorf("%d times not kept; warned %q", n, warned)
	}
	mu.Unlock()
	k.fail(nil)
	now = now.Add(time.Hour)
	p.want(p.get("/roll"), 200)
	mu.Lock()
	if len(warned) != 2 || !strings.Contains(warned[1], "kept again") {
		t.Errorf("warned %q", warned)
	}
	mu.Unlock()
	p = o.start(t, k.crash())
	if got, want := p.cookies(""), fmt.Sprint("roll=", o.rolled); got != want {
		t.Errorf("cookies %q; want %q", got, want)
	}
}

// Answers that change nothing write nothing.
func TestAnswersThatChangeNothingAreFree(t *testing.T) {
	o, k := newRotating(), new(memoryKeeper)
	p := o.start(t, k)
	p.want(p.get("/a"), 200)
	before := k.saves
	for range 20 {
		p.want(p.get("/a"), 200)
	}
	if k.saves != before {
		t.Errorf("%d saves for answers that bring nothing", k.saves-before)
	}
}

// Each session of a pool is kept for itself.
func TestAPoolSurvivesACrash(t *testing.T) {
	o, k := newOrigin(), new(memoryKeeper)
	var live sync.Map
	o.handle("/login", func(_ context.Context, f *flow.Flow) error {
		o.mu.Lock()
		o.logins++
		token := fmt.Sprint("token-", o.logins)
		o.mu.Unlock()
		live.Store(token, true)
		return answer(f, 200, `{"access":"`+token+`"}`)
	})
	o.handle("/a", func(_ context.Context, f *flow.Flow) error {
		if _, ok := live.Load(authorization(f)); !ok {
			return answer(f, 401, "dead")
		}
		return answer(f, 200, authorization(f))
	})
	start := func() *proxy {
		s := newSetup(t, o, bearer(t))
		s.Identities = []session.Identity{{Name: "alice", Pool: session.Pool{Sessions: 3}}}
		s.Keeper = k
		return s.start(t, o)
	}
	ask := func(p *proxy) (tokens []string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i := range 3 {
			f := newFlow(t, "GET /a HTTP/1.1\nHost: o", nil)
			f.Client, f.Connection = uint64(i+1), ctx
			r := p.deliver(ctx, f)
			p.want(r, 200)
			tokens = append(tokens, r.body)
		}
		return tokens
	}
	first := ask(start())
	k = k.crash()
	if again := ask(start()); !slices.Equal(first, again) || o.loginCount() != 3 {
		t.Errorf("%q, after the crash %q, %d logins", first, again, o.loginCount())
	}
}

// Sessions begin, with what was kept of them, while a person changes variables.
func TestSessionsBeginWhileVariablesChange(t *testing.T) {
	o := newOrigin()
	const rules = 50
	var all []rule.Rule
	for i := range rules {
		all = append(all, bearer(t, func(r *rule.Rule) {
			r.Name = fmt.Sprint("rule-", i)
			r.Recovery = []string{fmt.Sprint("login-", i)}
			r.Scope.Pattern = fmt.Sprintf("http://o/%d/", i)
		}))
	}
	s := newSetup(t, o, all...)
	s.Macros = nil
	for i := range rules {
		s.Macros = append(s.Macros, step(t, fmt.Sprint("login-", i), "POST http://o/login?{{USER}} HTTP/1.1\n\n", "ACCESS access"))
	}
	s.Variables, s.Keeper = map[string]string{"USER": "alice"}, new(memoryKeeper)
	p := s.start(t, o)
	var group sync.WaitGroup
	group.Go(func() {
		for i := range 2 * rules {
			value := fmt.Sprint("value-", i)
			if _, failed := p.engine.SetVariable("", true, "OTHER", &value); failed != nil {
				t.Error(failed)
			}
		}
	})
	for i := range rules {
		p.get(fmt.Sprintf("/%d/", i))
	}
	group.Wait()
}
