package session_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

func passing(r *rule.Rule) { r.OnFailure = rule.FailPass }

func refuse(status int, extra ...string) func(context.Context, *flow.Flow) error {
	return func(_ context.Context, f *flow.Flow) error { return answer(f, status, "no", extra...) }
}

// wantRefused fails the test unless Holdfast answers itself, for that reason.
func (p *proxy) wantRefused(r result, reason string) {
	p.t.Helper()
	if r.failed == nil || r.failed.Reason != reason {
		p.t.Errorf("got %v; want it refused for %s", r, reason)
	}
}

// memoryKeeper keeps rows, as a project would over a restart.
type memoryKeeper struct {
	mu    sync.Mutex
	rows  []session.Row
	loads int   // of failed logins
	saves int   // that were not refused
	err   error // of Save; nil: none
}

func (k *memoryKeeper) Load(_ context.Context, kind, owner string) (found []session.Row, _ error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if kind == session.KeptLockout {
		k.loads++
	}
	for _, r := range k.rows {
		if r.Owner == owner && (kind == "" || r.Kind == kind) {
			found = append(found, r)
		}
	}
	return found, nil
}

func (k *memoryKeeper) Save(_ context.Context, rows ...session.Row) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	place := func(r session.Row) int {
		return slices.IndexFunc(k.rows, func(o session.Row) bool { return o.Kind == r.Kind && o.Owner == r.Owner && o.Name == r.Name })
	}
	for _, r := range rows {
		if i := place(r); r.Must && i >= 0 && k.rows[i].Version >= r.Version {
			return session.ErrOutdated
		}
	}
	k.saves++
	for _, r := range rows {
		switch i := place(r); {
		case i < 0:
			k.rows = append(k.rows, r)
		case k.rows[i].Version < r.Version:
			k.rows[i] = r
		}
	}
	return nil
}

// fail has Save fail from now on, or no longer.
func (k *memoryKeeper) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

// of are the rows of a kind that are there.
func (k *memoryKeeper) of(kind string) (found []session.Row) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.rows {
		if r.Kind == kind && len(r.Value) > 0 {
			found = append(found, r)
		}
	}
	return found
}

func TestTheLockoutGuard(t *testing.T) {
	o := newOrigin()
	o.handle("/login", refuse(403))
	keeper := new(memoryKeeper)
	now := time.Unix(1e9, 0)
	start := func() *proxy {
		s := newSetup(t, o, bearer(t))
		s.Keeper, s.Now = keeper, func() time.Time { return now }
		s.Lockout = session.Lockout{Failures: 2, Window: time.Minute}
		return s.start(t, o)
	}
	p := start()
	p.wantRefused(p.get("/a"), flow.ReasonRecovery)
	now = now.Add(2 * time.Minute) // the first failure is forgotten
	p.wantRefused(p.get("/a"), flow.ReasonRecovery)
	p.wantRefused(p.get("/a"), flow.ReasonLocked)
	now = now.Add(time.Hour) // a full count is not
	p.wantRefused(p.get("/a"), flow.ReasonLocked)
	if n := o.count("POST /login"); n != 3 {
		t.Errorf("%d logins were tried; want 3", n)
	}
	if s := p.engine.Status(); s[0].State != "locked" || s[0].LastError == "" {
		t.Errorf("status %+v", s)
	}
	p.engine.Close()
	p = start()
	p.wantRefused(p.get("/a"), flow.ReasonLocked)
	if n := o.count("POST /login"); n != 3 {
		t.Errorf("%d logins were tried after a restart; want still 3", n)
	}
	keeper.rows = nil // a person unlocks
	o.handle("/login", nil)
	p.want(p.get("/a"), 200)
}

// Loading is a file that is read: once for a login and once for its proof.
func TestLiveAnswersDoNotAskTheStore(t *testing.T) {
	o := newOrigin()
	keeper := new(memoryKeeper)
	s := newSetup(t, o, bearer(t))
	s.Keeper = keeper
	p := s.start(t, o)
	for range 20 {
		p.want(p.get("/a"), 200)
	}
	if keeper.loads > 2 {
		t.Errorf("%d loads for 20 live answers", keeper.loads)
	}
}

// A login that works ends the count, so that failures now and then do not add
// up.
func TestALoginThatWorksForgivesTheFailures(t *testing.T) {
	o := newOrigin()
	p := startBearer(t, o)
	for range 4 {
		o.handle("/login", refuse(403))
		o.kill()
		for range 2 {
			p.wantRefused(p.get("/a"), flow.ReasonRecovery)
		}
		o.handle("/login", nil)
		p.want(p.get("/a"), 200)
	}
}

// A login that looks good and is not: the origin gives a token that is dead on
// its first use.
func TestALoginThatOnlyLooksGoodEndsInTheLockout(t *testing.T) {
	o := newOrigin()
	o.handle("/login", func(_ context.Context, f *flow.Flow) error { return answer(f, 200, `{"access":"nothing"}`) })
	var warned atomic.Int64
	s := newSetup(t, o, bearer(t))
	s.Warn = func(string) { warned.Add(1) }
	p := s.start(t, o)
	for range 10 {
		if r := p.get("/a"); r.failed == nil || !r.failed.OfSession() {
			t.Errorf("got %v", r)
		}
	}
	if n := o.count("POST /login"); n > 6 {
		t.Errorf("%d logins", n)
	}
	p.wantRefused(p.get("/a"), flow.ReasonLocked)
	if warned.Load() == 0 {
		t.Error("nobody was warned of the lockout")
	}
}

func TestOnFailurePassGivesTheOriginsAnswer(t *testing.T) {
	o := newOrigin()
	p := startBearer(t, o, passing)
	p.want(p.get("/a"), 200)
	o.handle("/login", refuse(403))
	o.kill()
	r := p.get("/a")
	p.want(r, 401)
	if !r.flow.PassedDead || r.body != "who are you?" {
		t.Errorf("got %v, passed dead %v", r, r.flow.PassedDead)
	}
	p.want(p.get("/a"), 401)
	if c := p.engine.Counts(); c.Passed != 2 {
		t.Errorf("counts %+v", c)
	}
}

func TestARecoveryThatFailsForOneThatDiedFailsClosed(t *testing.T) {
	o := newOrigin()
	p := startBearer(t, o)
	p.want(p.get("/a"), 200)
	o.handle("/login", refuse(403))
	o.kill()
	r := p.get("/a")
	p.wantRefused(r, flow.ReasonRecovery)
	if r.flow.Response != nil {
		t.Error("the dead answer is still there")
	}
}

func TestAnOriginThatCannotBeReachedIsTriedAgain(t *testing.T) {
	for name, fail := range map[string]func(context.Context, *flow.Flow) error{
		"no connection": func(context.Context, *flow.Flow) error { return errScript },
		"later":         refuse(503, "Retry-After: 1"),
	} {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin()
			p := startBearer(t, o)
			tries := 0
			o.handle("/login", func(ctx context.Context, f *flow.Flow) error {
				if tries++; tries <= 4 {
					return fail(ctx, f)
				}
				return o.login(f)
			})
			p.want(p.get("/a"), 200)
			if tries != 5 {
				t.Errorf("%s: %d tries", name, tries)
			}
			o.kill()
			o.handle("/login", fail)
			began := time.Now()
			p.wantRefused(p.get("/a"), flow.ReasonUnreachable)
			if waited := time.Since(began); waited > 20*time.Second || waited < 5*time.Second {
				t.Errorf("%s: gave up after %v", name, waited)
			}
			p.engine.Close()
		})
	}
}

func TestWaitingForARecoveryHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		o.handle("/login", func(ctx context.Context, _ *flow.Flow) error { <-ctx.Done(); return ctx.Err() })
		p := startBearer(t, o)
		began := time.Now()
		r := p.get("/a")
		if r.failed == nil || r.failed.Code() != 504 || r.failed.Reason != flow.ReasonTimeout || time.Since(began) != time.Minute {
			t.Errorf("got %v after %v", r, time.Since(began))
		}
		synctest.Wait() // until that recovery has ended too
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		p.wantRefused(p.deliver(ctx, newFlow(t, "GET /a HTTP/1.1\nHost: o", nil)), flow.ReasonClosing)
		p.engine.Close()
	})
}

func TestAfterCloseNobodyLogsIn(t *testing.T) {
	o := newOrigin()
	p := startConfirmed(t, o)
	p.want(p.get("/a"), 200)
	live := newSetup(t, o, deadWords(t)).start(t, o)
	live.want(live.get("/a"), 200)
	o.kill()
	p.engine.Close()
	p.wantRefused(p.get("/a"), flow.ReasonClosing)
	live.engine.Close()
	live.wantRefused(live.get("/a"), flow.ReasonClosing)
	cold := startBearer(t, o)
	cold.engine.Close()
	cold.wantRefused(cold.get("/a"), flow.ReasonClosing)
	if o.loginCount() != 2 {
		t.Errorf("%d logins", o.loginCount())
	}
}

func TestACloseEndsARecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		o.handle("/login", func(ctx context.Context, _ *flow.Flow) error { <-ctx.Done(); return ctx.Err() })
		p := startBearer(t, o)
		done := make(chan result)
		go func() { done <- p.get("/a") }()
		synctest.Wait()
		p.engine.Close()
		p.wantRefused(<-done, flow.ReasonClosing)
	})
}

func TestAMacroThatLacksAVariableGivesWayToTheNext(t *testing.T) {
	o := newOrigin()
	s := newSetup(t, o, bearer(t, func(r *rule.Rule) { r.Recovery = []string{"refresh", "login"} }))
	s.Macros = append(s.Macros, step(t, "refresh", "POST http://o/refresh HTTP/1.1\nX: {{REFRESH}}\n\n", "ACCESS access"))
	p := s.start(t, o)
	p.want(p.get("/a"), 200)
	if o.count("POST /refresh") != 0 {
		t.Error("a refresh went out without its token")
	}
	o = newOrigin()
	s = newSetup(t, o, bearer(t, func(r *rule.Rule) { r.Recovery = []string{"refresh"} }))
	s.Macros = append(s.Macros, step(t, "refresh", "POST http://o/refresh HTTP/1.1\nX: {{REFRESH}}\n\n", "ACCESS access"))
	p = s.start(t, o)
	for range 5 { // nothing was refused, so nothing locks
		p.wantRefused(p.get("/a"), flow.ReasonRecovery)
	}
}

func TestARedirectIsToldWithoutItsSecrets(t *testing.T) {
	for location, want := range map[string]string{
		"/login":                                  "to /login;",
		"/login?next=secret":                      "to /login;",
		"/cb/secret-1234567/x":                    "to /cb/…/x;",
		"/login;jsessionid=secret":                "to /login;",
		"https://me:secret@idp.example/a":         "to https://idp.example/a;",
		"mailto:secret":                           "no URL",
		"/a b secret":                             "no URL",
		"/" + strings.Repeat("secret", 5) + "/v2": "to /…/v2;",
	} {
		o := newOrigin()
		o.handle("/login", refuse(302, "Location: "+location))
		s := newSetup(t, o, bearer(t, func(r *rule.Rule) { r.Recovery = []string{"login", "login2"} }))
		s.Macros = append(s.Macros, step(t, "login2", "POST http://o/login HTTP/1.1\n\n", "ACCESS access"))
		r := s.start(t, o).get("/a")
		if r.err == nil || strings.Contains(r.err.Error(), "secret") || !strings.Contains(r.err.Error(), want) {
			t.Errorf("Location %q is told as %v; want %q", location, r, want)
		}
	}
}

func TestManyDeadAnswersCauseTwoProbesAndOneLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		p := startConfirmed(t, o)
		p.want(p.get("/a"), 200)
		for _, forbidden := range []bool{false, true} {
			let := make(chan struct{})
			o.handle("/slow", func(_ context.Context, f *flow.Flow) error {
				live := o.isLive(f) && !forbidden
				<-let
				if !live {
					return answer(f, 401, "no")
				}
				return answer(f, 200, "yes")
			})
			o.handle("/whoami", func(_ context.Context, f *flow.Flow) error {
				<-time.After(time.Second) // of the bubble's clock
				return o.protected(f)
			})
			if !forbidden {
				o.kill()
			}
			probes, logins := p.engine.Counts().Confirms, o.loginCount()
			var group sync.WaitGroup
			for range 64 {
				group.Go(func() {
					want := 200
					if forbidden {
						want = 401
					}
					p.want(p.get("/slow"), want)
				})
			}
			synctest.Wait()
			close(let)
			group.Wait()
			if n := p.engine.Counts().Confirms - probes; n > 2 {
				t.Errorf("forbidden %v: %d probes for 64 dead answers", forbidden, n)
			}
			if n := o.loginCount() - logins; forbidden && n != 0 || !forbidden && n != 1 {
				t.Errorf("forbidden %v: %d logins", forbidden, n)
			}
		}
		p.engine.Close()
	})
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	set := func(change ...func(*rule.Rule)) *rule.Set {
		s, err := rule.Compile([]rule.Rule{bearer(t, change...)}, rule.Globals{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	send := newOrigin().send
	for want, c := range map[string]session.Config{
		"Config.Send":                {Rules: set()},
		`no macro "login"`:           {Rules: set(), Send: send},
		"correct validation.confirm": {Rules: set(confirmed("whoami")), Send: send, Macros: []*macro.Macro{loginMacro(t)}},
	} {
		if _, err := session.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: %v; want %q", err, want)
		}
	}
	e, err := session.New(session.Config{Send: send})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if len(e.Status()) != 0 || e.Counts() != (session.Counts{}) {
		t.Error("an engine that did nothing says otherwise")
	}
}

func TestIdentitiesHaveSessionsOfTheirOwn(t *testing.T) {
	o := newOrigin()
	o.handle("/login", func(_ context.Context, f *flow.Flow) error {
		who, _ := f.Request.Get("X-Who")
		return answer(f, 200, fmt.Sprintf(`{"access":"of-%s"}`, who))
	})
	o.handle("/a", func(_ context.Context, f *flow.Flow) error { return answer(f, 200, authorization(f)) })
	s := newSetup(t, o, bearer(t))
	s.Macros[0] = step(t, "login", "POST http://o/login HTTP/1.1\nX-Who: {{WHO}}\n\n", "ACCESS access")
	s.Variables = map[string]string{"WHO": "nobody"}
	s.Identities = []session.Identity{{Name: "bob", Variables: map[string]string{"WHO": "bob"}}, {Name: "alice", Variables: map[string]string{"WHO": "alice"}}}
	s.IDs = new(flow.IDs)
	p := s.start(t, o)
	for name, want := range map[string]string{"alice": "of-alice", "bob": "of-bob", "": "of-bob"} {
		f := newFlow(t, "GET /a HTTP/1.1\nHost: o", nil)
		f.Identity = name
		if r := p.deliver(context.Background(), f); r.body != want {
			t.Errorf("identity %q: got %v; want %s", name, r, want)
		}
	}
	f := newFlow(t, "GET /a HTTP/1.1\nHost: o", nil)
	f.Identity = "mallory"
	if r := p.deliver(context.Background(), f); r.failed == nil || r.failed.Code() != 400 {
		t.Errorf("an unknown identity: %v", r)
	}
	if st := p.engine.Status(); len(st) != 2 || st[0].Identity != "alice" || st[1].Identity != "bob" {
		t.Errorf("status %+v", st)
	}
}

func TestOurOwnRequestsAndThoseOfNoRulePassUntouched(t *testing.T) {
	o := newOrigin()
	p := startBearer(t, o, func(r *rule.Rule) { r.Scope.Pattern = "elsewhere.example" })
	p.want(p.get("/a"), 401)
	own := newFlow(t, "GET /a HTTP/1.1\nHost: o", nil)
	own.Tool = flow.ToolMacro
	p.want(p.deliver(context.Background(), own), 401)
	o.handle("/broken", func(context.Context, *flow.Flow) error { return errScript })
	in := startBearer(t, o)
	if r := in.get("/broken"); !errors.Is(r.err, errScript) {
		t.Errorf("got %v", r)
	}
}

// A login fails while another configuration, with other limits maybe, begins to hold.
func TestLoginsFailWhileTheConfigurationIsReplaced(t *testing.T) {
	o := newOrigin()
	o.handle("/login", func(_ context.Context, f *flow.Flow) error { return answer(f, 403, "no") })
	s := newSetup(t, o, bearer(t))
	s.Lockout = session.Lockout{Failures: 10_000}
	p := s.start(t, o)
	var group sync.WaitGroup
	var done atomic.Bool
	group.Go(func() {
		e := p.engine
		for !done.Load() {
			var err error
			if e, _, err = e.Next(s.Config); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 200 {
		if r := p.get("/x"); r.failed == nil || r.failed.Reason != flow.ReasonRecovery {
			t.Fatalf("%+v", r)
		}
	}
	done.Store(true)
	group.Wait()
}
