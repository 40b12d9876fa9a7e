package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// A Browser makes a login in a browser. It returns when somebody is logged in,
// or with an error, a *macro.StepError where it is to be known whose fault that
// is. ctx ends after l.How.Timeout and a little. It may be called from several
// goroutines.
type Browser func(ctx context.Context, l *Login) error

// Login is one login that a browser is to make, and takes what it brings. Its
// methods may be called from any goroutine.
type Login struct {
	Name     string         // of the browser in the configuration; "" where that names none
	How      *macro.Browser // never nil
	Identity string         // "" is the only one
	Rules    []string       // the names of those that want the session
	URL      string         // where the newest request went, without its query
	// Lookup gives the value of a variable; Code draws a one-time code for
	// {{totp}}, and is nil where the identity has none.
	Lookup func(name string) (string, bool)
	Code   func(ctx context.Context) (string, error)

	engine *Engine
	jar    *jar.Jar
	rules  []*rule.Rule
	tokens []string // that requests want, and that a source here can bring

	mu sync.Mutex // guards what follows
	// near are tokens from what the rules are for, or from storage; far those
	// from elsewhere, such as an identity provider.
	near, far map[string]string
	told      []string
	cookies   int
	hosts     map[string]bool // that set cookies
}

// Bounds on what a login tells.
const (
	maxTold     = 150
	maxToldLine = 300 // bytes
)

// byPersonAlone is how a person logs in where the configuration says no more.
func byPersonAlone() *macro.Browser {
	return &macro.Browser{Visible: true, Timeout: macro.PersonTimeout, Wait: macro.PersonTimeout}
}

func (s *session) newLogin(how *macro.Browser, name, url string, rules []*rule.Rule) *Login {
	e, n := s.engine, s.identity
	l := &Login{Name: name, How: how, Identity: n.name, URL: url, Lookup: n.named, engine: e, jar: n.jar, rules: rules,
		near: make(map[string]string), far: make(map[string]string), hosts: make(map[string]bool)}
	if n.totp != nil {
		l.Code = func(ctx context.Context) (string, error) { return s.code(ctx, nil) }
	}
	for _, r := range rules {
		l.Rules = append(l.Rules, r.Name)
		for i := range r.Updates {
			u := &r.Updates[i]
			stored := slices.ContainsFunc(how.Take, func(s macro.Stored) bool { return s.Token == u.Token })
			if slices.Contains(targeted(r), u.Token) && (u.Source != nil || stored) && !slices.Contains(l.tokens, u.Token) {
				l.tokens = append(l.tokens, u.Token)
			}
		}
	}
	return l
}

// named is lookup for macros: {{env.NAME}} is the variable NAME.
func (n *identity) named(name string) (string, bool) {
	if v, ok := n.lookup(name); ok {
		return v, true
	}
	name, ok := strings.CutPrefix(name, "env.")
	if !ok {
		return "", false
	}
	return n.lookup(name)
}

// Tell says what is done, for the trace: at most 150 lines of 300 bytes, without
// secrets.
func (l *Login) Tell(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(text) > maxToldLine {
		text = strings.ToValidUTF8(text[:maxToldLine], "") + "…"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.told) < maxTold {
		l.told = append(l.told, text)
	}
}

// Told returns what was told so far.
func (l *Login) Told() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.told)
}

// Put takes a token from a page.
func (l *Login) Put(token, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.near[token] = value
}

// PutCookie takes a cookie of the browser, if it is to be taken.
func (l *Login) PutCookie(c jar.Cookie) error {
	if !l.How.Cookies.Has(c.Name) {
		return nil
	}
	c.Order = l.engine.next()
	_, err := l.jar.Put(c, l.engine.now())
	if err == nil {
		l.mu.Lock()
		l.cookies++
		l.mu.Unlock()
	}
	return err
}

// Has reports whether a token was found.
func (l *Login) Has(token string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, near := l.near[token]
	_, far := l.far[token]
	return near || far
}

// Lacks lists the tokens that requests want and that were not found yet.
func (l *Login) Lacks() []string {
	return slices.DeleteFunc(slices.Clone(l.tokens), l.Has)
}

func (l *Login) values() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	values := maps.Clone(l.far)
	maps.Copy(values, l.near)
	return values
}

// Stage is what the browser's traffic passes: tokens are taken out of it by the
// rules' own sources. Nothing is put in, and nothing is recovered for it.
func (l *Login) Stage(next flow.Handler) flow.Handler {
	return func(ctx context.Context, f *flow.Flow) error {
		f.Stamp.Sequence = l.engine.next()
		err := next(ctx, f)
		if err != nil || f.Response == nil || f.Upgraded != nil {
			return err
		}
		l.visited(f)
		l.extract(f, false, nil)
		if f.ResponseBody != nil && neverHeld(f.Response) == "" && l.wantsBody() {
			f.ResponseBody = &loginBody{Body: f.ResponseBody, login: l, flow: f, limit: l.engine.limits.JudgedBody}
		}
		return nil
	}
}

// maxHosts bounds the hosts that a login remembers.
const maxHosts = 64

// visited remembers where a login is made: hosts that set cookies.
func (l *Login) visited(f *flow.Flow) {
	if !f.Response.Has("Set-Cookie") {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.hosts) < maxHosts {
		l.hosts[f.Origin.Host] = true
	}
}

// ignoreBefore keeps late answers of the dead session from the cookies of
// where the login was.
func (l *Login) ignoreBefore(born uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for host := range l.hosts {
		l.jar.IgnoreBefore(host, born)
	}
}

func (l *Login) wantsBody() bool {
	return slices.ContainsFunc(l.rules, func(r *rule.Rule) bool {
		return slices.ContainsFunc(r.Updates, func(u rule.Update) bool { return u.Source != nil && u.Source.NeedsBody() })
	})
}

// extract takes tokens out of one exchange. What a request carries counts only
// where the rule is for it, and the answer is no refusal.
func (l *Login) extract(f *flow.Flow, fromBody bool, body []byte) {
	var taken []string
	for _, r := range l.rules {
		scope := r.Scope
		scope.Tools, scope.Identities = nil, nil // it is for this login, whoever sends it
		covered := scope.Match(f)
		for i := range r.Updates {
			u := &r.Updates[i]
			if u.Source == nil || u.Source.NeedsBody() != fromBody {
				continue
			}
			if u.Source.FromRequest() && (!covered || f.Response.Status() >= 400) {
				continue
			}
			value, ok := u.Source.Extract(f.Request, f.Response, body)
			if !ok {
				continue
			}
			l.mu.Lock()
			if covered {
				l.near[u.Token] = value
			} else {
				l.far[u.Token] = value
			}
			l.mu.Unlock()
			taken = append(taken, u.Token)
		}
	}
	if len(taken) > 0 {
		f.Trace.Add(flow.Event{At: l.engine.since(f.Start), Actor: "browser", Action: flow.ActionExtract, Detail: "token " + strings.Join(taken, ", ")})
	}
}

// loginBody keeps a copy of a body that passes, up to a limit, and has the
// tokens taken at its end.
type loginBody struct {
	wire.Body
	login *Login
	flow  *flow.Flow
	limit int64
	raw   []byte
	over  bool
}

// Next passes a piece.
func (b *loginBody) Next() ([]byte, error) {
	piece, err := b.Body.Next()
	if b.over {
		return piece, err
	}
	b.raw = append(b.raw, piece...)
	switch {
	case int64(len(b.raw)) > b.limit:
		b.over, b.raw = true, nil
	case err == io.EOF:
		b.over = true
		b.login.extract(b.flow, true, wire.Text(&b.flow.Response.Head, b.Framing().Kind, b.raw, int(b.limit)))
	}
	return piece, err
}

// Ready reports whether Next returns without waiting for the origin.
func (b *loginBody) Ready() bool { return ready(b.Body) }

// make has the login made.
func (l *Login) make(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.How.Timeout+browserGrace)
	defer cancel()
	err := l.engine.config.Browser(ctx, l)
	if err != nil {
		l.Tell("%v", redacted(err))
		return err
	}
	l.mu.Lock()
	cookies := l.cookies
	l.mu.Unlock()
	text := fmt.Sprintf("logged in: %d cookies", cookies)
	if names := slices.Sorted(maps.Keys(l.values())); len(names) > 0 {
		text += ", token " + strings.Join(names, ", ")
	}
	l.Tell("%s", text)
	return nil
}

// browserGrace is how long a browser has to begin and to end, beside its
// timeout.
const browserGrace = time.Minute

// browser is how a person logs in by an action: by the macro named, or alone.
func (e *Engine) browser(name string) (*macro.Browser, string) {
	if m := e.macros[name]; m != nil && m.Browser != nil {
		return m.Browser, m.Name
	}
	return byPersonAlone(), ""
}

// browse has somebody log in for an action. The identity's session is another
// afterwards, whatever came of it.
func (e *Engine) browse(n *identity, l *Login) error {
	defer n.births.Add(1)
	if err := l.make(e.ctx); err != nil {
		return err
	}
	if values := l.values(); len(values) > 0 {
		n.learn(values, e.next(), e.next)
	}
	return nil
}

// sharing are the rules whose session it is.
func (s *session) sharing() []*rule.Rule {
	return slices.DeleteFunc(slices.Clone(s.engine.Rules().Rules()), func(r *rule.Rule) bool { return !s.shares(r) })
}

// inBrowser runs a macro that has a browser, for a recovery.
func (s *session) inBrowser(ctx context.Context, r *recovery, m *macro.Macro) (map[string]string, error) {
	l := s.newLogin(m.Browser, m.Name, s.place(), s.sharing())
	r.login.Store(l)
	if err := l.make(ctx); err != nil {
		return nil, err
	}
	return l.values(), nil
}

// place is where the newest request went.
func (s *session) place() string {
	if at := s.at.Load(); at != nil {
		return *at
	}
	return ""
}

// loginByPerson is the recovery of a session that a person makes. Nobody's
// password is counted as a wrong one.
func (s *session) loginByPerson(r *recovery) *flow.Error {
	e := s.engine
	l := s.newLogin(byPersonAlone(), "", s.place(), s.sharing())
	r.login.Store(l)
	defer s.identity.births.Add(1)
	if err := l.make(e.ctx); err != nil {
		if e.ctx.Err() != nil {
			return closing()
		}
		return &flow.Error{Status: 504, Reason: flow.ReasonPerson, Cause: err, Detail: "the session could not be recovered: nobody logged in with the browser",
			Next: s.askAgain()}
	}
	var born uint64
	if err := s.identity.underLease(func() {
		s.adopts()
		born = s.identity.renew(l.values(), nil, e.next)
	}); err != nil {
		return storeAway(err)
	}
	l.ignoreBefore(born)
	s.born.Store(born)
	s.final.Store(nil)
	e.counts.logins.Add(1)
	return nil
}

// askAgain is what to do when a person did not answer, or did not log in.
func (s *session) askAgain() string {
	if s.inBrowsers() {
		return "send the request again, and log in in the window that opens"
	}
	return "answer in the terminal of holdfast, then send the request again"
}

// recoverInBrowser has a person log in. Requests that come meanwhile wait for
// the same login.
func (x *exchange) recoverInBrowser(ctx context.Context, i, j int) error {
	r := x.rules[i]
	f := x.flow
	e := x.engine
	how, name := e.browser(r.Actions[j].RecoverInBrowser.Browser)
	b, _ := x.sessions[i].confirms.LoadOrStore("\x00browser"+name, new(batch))
	l := x.sessions[i].newLogin(how, name, f.Origin.URL(f.Received.Path()), []*rule.Rule{r})
	began := false
	ctx, cancel := context.WithTimeout(ctx, how.Wait)
	defer cancel()
	ok, asked := b.(*batch).do(ctx, e.spawn, func() bool {
		began = true
		return e.browse(x.identity, l) == nil
	})
	if asked && began {
		x.noteLogin(r, l)
	}
	switch {
	case ok:
		x.note(r, flow.ActionRun, "%s: a person logged in", rule.ActionRecoverInBrowser)
		return nil
	case !asked && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return x.actionFailed(i, stillOpen(how.Wait))
	case !asked && ctx.Err() != nil:
		return ctx.Err()
	case !asked:
		return closing()
	}
	return x.actionFailed(i, fmt.Errorf("nobody logged in with the browser"))
}

// stillOpen is what requests are told whose wait is over before somebody has
// logged in.
func stillOpen(wait time.Duration) *flow.Error {
	return &flow.Error{Status: 504, Reason: flow.ReasonPerson, NoSession: true,
		Detail: "nobody logged in within " + wait.String() + "; the browser is still open",
		Next:   "log in in the window that is open, and send the request again"}
}

// noteLogin writes what a browser did into the trace.
func (x *exchange) noteLogin(r *rule.Rule, l *Login) {
	title := "browser"
	if l.Name != "" {
		title += " " + l.Name
	}
	for _, line := range l.Told() {
		x.note(r, flow.ActionRun, "%s: %s", title, line)
	}
}
