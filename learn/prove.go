package learn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
)

// maxUntilProbe is how many requests a probe is waited for.
const maxUntilProbe = 60

// parallel is how many requests meet one dead session at once.
const parallel = 4

// examiner has a running Holdfast show that it holds a session.
type examiner struct {
	proxy    *proxied
	expr     *expressions
	report   *Report
	file     *config.File
	rule     *rule.Rule
	identity string // as clients say it
	say      func(string, ...any)

	question      *question
	with, without []*answer
	plain         time.Duration // of a request with a live session
	held          bool          // nothing has failed so far
}

// claim notes a claim that the session is held by.
func (e *examiner) claim(ok bool, what, how, next string) bool {
	e.report.claim(ok, what, how, next)
	e.held = e.held && ok
	return ok
}

// examine logs in, uses, kills and recovers. Errors are those of the way, not of
// the session.
func (e *examiner) examine(questions []*question) error {
	e.held = true
	if err := e.logIn(questions); err != nil || !e.held {
		return err
	}
	if err := e.compare(); err != nil {
		return err
	}
	refreshes := len(e.rule.Recovery) > 1
	if refreshes {
		if err := e.kill(false); err != nil {
			return err
		}
		e.report.Timing.Refresh = e.took(e.rule.Recovery[0])
	}
	if e.held {
		if err := e.kill(true); err != nil {
			return err
		}
	}
	if e.held {
		if err := e.atOnce(); err != nil {
			return err
		}
	}
	for _, name := range []string{e.rule.Confirm, e.probe()} {
		if name != "" && e.report.Timing.Probe == 0 {
			e.report.Timing.Probe = e.took(name)
		}
	}
	e.report.Held = e.held
	return nil
}

func (e *examiner) probe() string {
	if e.rule.Probe == nil {
		return ""
	}
	return e.rule.Probe.Macro
}

// logIn sends the first request, which has to log in.
func (e *examiner) logIn(questions []*question) error {
	e.say("proving: the first request logs in")
	for _, q := range questions {
		a, took, err := e.proxy.ask(q, e.identity)
		if err != nil {
			return err
		}
		if e.question == nil || e.with[0].status/100 != 2 {
			e.question, e.with = q, []*answer{a}
		}
		if a.status/100 == 2 {
			e.question, e.with = q, []*answer{a}
			e.report.Timing = &Timing{Login: e.took(e.rule.Recovery[len(e.rule.Recovery)-1])}
			if e.report.Timing.Login == 0 {
				e.report.Timing.Login = milliseconds(took)
			}
			break
		}
	}
	if e.report.Timing == nil {
		e.report.Timing = &Timing{}
	}
	logins := e.proxy.h.Totals().Logins
	problem := e.lastError()
	ok := logins >= 1 && e.with[0].status/100 == 2
	how := fmt.Sprintf("%s was answered %d after %d login", e.question.shown, e.with[0].status, logins)
	if problem != "" {
		how += ": " + problem
	}
	next := "see holdfast serve --trace -, and correct the login macro or its credentials"
	if logins >= 1 {
		next = "give a URL that the identity may read, with --url"
	}
	e.claim(ok, "a client without cookies and tokens is logged in", how, next)
	return nil
}

// lastError is why a session has none; "" it has.
func (e *examiner) lastError() string {
	for _, s := range e.proxy.h.Sessions() {
		if s.LastError != "" {
			return s.LastError
		}
	}
	return ""
}

// compare asks with the session and as nobody.
func (e *examiner) compare() error {
	e.say("proving: %s answers otherwise without the session", e.question.shown)
	a, took, err := e.proxy.ask(e.question, e.identity)
	if err != nil {
		return err
	}
	e.plain = took
	e.with = append(e.with, a)
	for range each {
		a, _, err := e.proxy.ask(e.question, flow.Anonymous)
		if err != nil {
			return err
		}
		e.without = append(e.without, a)
	}
	logins := e.proxy.h.Totals().Logins
	differs := e.differs(e.without)
	e.claim(differs, "the session matters", fmt.Sprintf("%s with the session and as anonymous", e.question.shown),
		"the answers are alike: give a URL that needs the session, with --url")
	e.claim(logins == 1, "a live session is left alone", fmt.Sprintf("%d logins so far", logins),
		"a live answer is taken for a dead one: narrow validation.check_type, or add confirm")
	return nil
}

// differs reports whether answers can be told from those with the session.
func (e *examiner) differs(dead []*answer) bool {
	if byHead(e.with[0], dead[0]) != nil || e.with[0].status != dead[0].status {
		return true
	}
	return len(e.expr.only(dead, e.with)) > 0 || len(e.expr.only(e.with, dead)) > 0
}

// live reports whether an answer is like those with the session.
func (e *examiner) live(a *answer) bool { return e.expr.like(a, e.with, e.without) }

// kill spoils the session and asks: the answer has to be live.
func (e *examiner) kill(all bool) error {
	what, means := "its tokens are spoilt", "a session whose tokens no origin knows is recovered"
	if all {
		what, means = "all that it has is spoilt", "a session of which nothing is left is recovered by a login"
	}
	e.say("proving: %s, and it recovers", what)
	before := e.proxy.h.Totals()
	n, err := e.proxy.h.Spoil(e.identity, all)
	if err != nil {
		return err
	}
	if n == 0 {
		e.claim(false, means, "it has neither token nor cookie that could be spoilt", "add token_updates, or the action use_cookies")
		return nil
	}
	asks := 1
	if e.rule.Probe != nil {
		asks = min(max(int(e.rule.Probe.Every), 1)+1, maxUntilProbe)
	}
	var a *answer
	var dead []*answer
	for range asks {
		if a, _, err = e.proxy.ask(e.question, e.identity); err != nil {
			return err
		}
		if e.proxy.h.Totals().Logins > before.Logins {
			break
		}
		dead = append(dead, a)
	}
	after := e.proxy.h.Totals()
	logins := after.Logins - before.Logins
	switch {
	case logins == 0 && e.live(a):
		e.claim(false, means, "the spoilt session was answered like a live one", "the token does not matter for "+e.question.shown+": give another URL with --url")
	case logins == 0:
		if problem := e.lastError(); problem != "" {
			e.claim(false, means, "the death was seen, but: "+problem, "correct the macro")
			break
		}
		e.claim(false, means, "the client was given the dead session's answer", "add to validation: "+e.suggest(a))
	case !e.live(a):
		e.claim(false, means, fmt.Sprintf("after %d logins the answer is still not a live one (status %d)", logins, a.status), "see holdfast serve --trace -")
	case len(dead) > 0:
		e.claim(true, means, fmt.Sprintf("the probe saw it, after %d dead answers that reached the client", len(dead)), "")
	default:
		e.claim(true, means, fmt.Sprintf("%d login, and the client was given a live answer", logins), "")
	}
	return nil
}

// suggest says by what a dead answer could be told.
func (e *examiner) suggest(a *answer) string {
	k := &asked{question: e.question, with: e.with, without: []*answer{a}}
	_, checks := e.expr.judge(k, nil)
	if len(checks) == 0 {
		return "probe: {macro: …}, a macro that succeeds only with a live session, since this answer does not show it"
	}
	c := checks[0]
	value := quote(c.Text)
	if c.Type == "StatusCode" {
		value = "[" + c.Text + "]"
	}
	text := "check_type: {type: " + c.Type + ", value: " + value + "}"
	if c.weak {
		text += " with confirm: {macro: …}, since live answers may have that, too"
	}
	return text
}

// atOnce has several requests meet the dead session.
func (e *examiner) atOnce() error {
	if e.rule.Probe != nil && e.rule.Dead == nil {
		return nil // until it is asked, dead answers pass
	}
	before := e.proxy.h.Totals().Logins
	if _, err := e.proxy.h.Spoil(e.identity, true); err != nil {
		return err
	}
	answers, err := e.proxy.burst(e.question, e.identity, parallel)
	if err != nil {
		return err
	}
	logins := e.proxy.h.Totals().Logins - before
	live := !slices.ContainsFunc(answers, func(a *answer) bool { return !e.live(a) })
	e.claim(live && logins == 1, fmt.Sprintf("%d requests at once cost one login", parallel), fmt.Sprintf("%d logins, all answers live: %v", logins, live),
		"see holdfast serve --trace -")
	return nil
}

// took is how long the newest run of a macro took, in milliseconds; 0: it did not
// run.
func (e *examiner) took(name string) float64 {
	type call struct{ method, path string }
	var calls []call
	for _, m := range e.file.Macros {
		if m.Name != name && m.ID != name {
			continue
		}
		for i := range m.Steps {
			if m.Steps[i].Request == nil {
				continue
			}
			b, err := m.Steps[i].Request.Build(e.lookup)
			if err != nil {
				return 0
			}
			calls = append(calls, call{string(b.Request.Method()), string(b.Request.Path())})
		}
	}
	e.proxy.mu.Lock()
	defer e.proxy.mu.Unlock()
	var sum time.Duration
	own := e.proxy.own
	for n := len(calls) - 1; n >= 0; n-- {
		for i := len(own) - 1; i >= 0; i-- {
			if own[i].method == calls[n].method && own[i].path == calls[n].path {
				sum += own[i].took
				break
			}
		}
	}
	return milliseconds(sum)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// lookup gives variables as the file has them, and any text for tokens.
func (e *examiner) lookup(name string) (string, bool) {
	who := e.identity
	if who == "" && len(e.file.Order) > 0 {
		who = e.file.Order[0]
	}
	if v, ok := e.file.Identities[who].Variables[name]; ok {
		return v, true
	}
	if v, ok := e.file.Variables[name]; ok {
		return v, true
	}
	return "x", true
}

// startLearnt starts a Holdfast with what was learnt.
func (l *learner) startLearnt(ctx context.Context, result *Result) (*proxied, *config.File, error) {
	file, _, err := config.Parse("learnt.yaml", result.Config, config.Options{Env: func(name string) (string, bool) {
		v, ok := result.Env[name]
		return v, ok
	}, ReadFile: func(string) ([]byte, error) { // the application wrote parts of it
		return nil, errors.New("what was learnt reads no files")
	}})
	if err != nil {
		return nil, nil, fmt.Errorf("internal error: the configuration that was learnt does not load: %w", err)
	}
	c := l.options.Proxy
	c.File = file
	p, err := startProxy(ctx, c, l.asker.pause, l.options.MaxRequests-int(l.asker.sent.Load()))
	return p, file, err
}

// prove runs what was learnt.
func (l *learner) prove(ctx context.Context, result *Result) error {
	p, file, err := l.startLearnt(ctx, result)
	if err != nil {
		return err
	}
	defer p.stop()
	var main *rule.Rule
	for i := range file.Rules {
		if file.Rules[i].Name == l.report.Rule {
			main = &file.Rules[i]
		}
	}
	if main == nil || len(main.Recovery) == 0 {
		l.report.claim(false, "the session is held", "the login brought neither a cookie nor a token", "record a request after the login that needs the session")
		return nil
	}
	var questions []*question
	if l.tells != nil {
		questions = append(questions, l.tells.question)
	}
	for _, k := range slices.Concat(l.silent, l.asked) {
		if !slices.Contains(questions, k.question) {
			questions = append(questions, k.question)
		}
	}
	if len(questions) == 0 {
		l.report.claim(false, "the session is held", "no recorded request shows whether a session lives", "record a request after the login that needs the session")
		return nil
	}
	e := &examiner{proxy: p, expr: l.expr, report: l.report, file: file, rule: main, identity: l.report.Identity, say: l.say}
	if err := e.examine(questions); err != nil {
		return err
	}
	if e.held {
		e.silent(l.silent)
		err = l.proveWrite(e)
	}
	l.report.Requests += p.sent + int(p.h.Totals().Own)
	l.report.Held = e.held
	return err
}

// silent kills the session before each request whose answer does not say that it
// is dead.
func (e *examiner) silent(all []*asked) {
	for _, k := range all {
		if k.question == e.question {
			continue
		}
		other := *e
		other.question, other.with, other.without = k.question, k.with, k.dead()
		if err := other.kill(true); err != nil {
			e.report.note("%s was not tried: %v", k.question.shown, err)
			return
		}
	}
}

// proveWrite sends one recorded write as a client without tokens, where that is
// allowed.
func (l *learner) proveWrite(e *examiner) error {
	if len(l.csrf) == 0 {
		return nil
	}
	c := &l.csrf[0]
	what := "the CSRF token " + c.name() + " is put into writes"
	if !l.options.Writes {
		l.report.claim(false, what, "no write was sent", "prove it with --writes, which sends "+string(c.write.Request.Method())+" "+pathOf(c.write.URL)+" once more")
		return nil
	}
	q := l.rec.ask(c.write, l.tokens, l.draft)
	if q == nil {
		return nil
	}
	without := "without it"
	switch c.places[0].Type {
	case rule.TargetRequestHeader:
	default:
		without = "with an old one"
		media, _ := c.write.Request.Get("Content-Type")
		if strings.HasPrefix(strings.ToLower(string(media)), "application/x-www-form-urlencoded") {
			q.plain, without = withoutParam(q.plain, c.places[0].Name), "without it"
		}
	}
	a, _, err := e.proxy.ask(q, e.identity)
	if errors.Is(err, ErrBudget) || e.proxy.ctx.Err() != nil {
		return err
	}
	ok := err == nil && a.status < 400 && !slices.ContainsFunc(l.checks, func(k check) bool { return k.matches(a) && !(k.weak && l.whoami != nil) })
	how := q.shown + " was sent " + without
	if err == nil {
		how += fmt.Sprintf(" and answered %d", a.status)
	}
	l.report.claim(ok, what, how, "see holdfast serve --trace -")
	return nil
}

// withoutParam takes a parameter out of the form in a request's text.
func withoutParam(text, name string) string {
	head, body, _ := strings.Cut(text, "\n\n")
	var kept []string
	for pair := range strings.SplitSeq(strings.TrimSuffix(body, "\n"), "&") {
		if !strings.HasPrefix(pair, name+"=") {
			kept = append(kept, pair)
		}
	}
	return head + "\n\n" + strings.Join(kept, "&") + "\n"
}
