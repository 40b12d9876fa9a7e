package learn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/macro/derive"
)

// The defaults of Options.
const (
	DefaultMaxRequests = 150
	DefaultRate        = 10 // requests a second
)

// The bounds of asking.
const (
	maxQuestions = 8 // requests that are asked
	enough       = 3 // of them that tell
	each         = 2 // times
)

// Options say what a recording cannot. The zero value works, save Proxy.Home.
type Options struct {
	// Base names the application's origin, as in https://shop.example; "" is
	// the one that the recording uses after the login.
	Base string
	// User and Password are what was typed; "" finds them by the fields' names.
	User, Password string
	// InlineSecrets writes the password into the configuration; without it, it
	// stands there as ${env:…}.
	InlineSecrets bool
	// Hide leaves recorded values that nobody explains out of the configuration:
	// they are secrets as the password is.
	Hide bool
	// Writes allows one recorded write to be sent, to prove CSRF tokens.
	Writes bool
	// MaxRequests is how many requests are sent at most, and Rate how many in
	// a second; 0 is the default.
	MaxRequests int
	Rate        float64
	// Proxy is how origins are reached; Home must be given, and File, Listen and
	// the rest of the ways in are not looked at.
	Proxy holdfast.Config
	// Progress hears what is done, in words without values. nil: nobody does.
	Progress func(string)
}

// Result is what was learnt.
type Result struct {
	Config []byte // YAML, with secrets where Options.InlineSecrets says so
	// Env are the variables of the environment that Config reads, with values.
	Env    map[string]string
	Report *Report
}

// ErrLogin is wrapped where no login could be made of the recording: there is
// nothing to configure.
var ErrLogin = errors.New("no login was learnt")

// learner is one run.
type learner struct {
	options Options
	asker   *asker
	rec     *recording
	expr    *expressions
	draft   *derive.Draft
	login   *macro.Macro
	report  *Report

	tokens   []token
	targets  []target
	session  *state // of the newest login
	live     []*answer
	asked    []*asked
	checks   []check
	silent   []*asked
	tells    *asked // whose death shows best
	whoami   *confirmation
	refresh  *refresh
	csrf     []csrf
	carried  []carried
	protects []string
}

// Run learns a configuration of recorded exchanges. The result is there also
// where not all of it was proved; Report.Held says whether the session was held.
// Errors: ErrLogin, derive.ErrNothing, ErrBudget, the context's.
func Run(ctx context.Context, exchanges []convert.Exchange, o Options) (*Result, error) {
	if o.MaxRequests <= 0 {
		o.MaxRequests = DefaultMaxRequests
	}
	if o.Rate <= 0 {
		o.Rate = DefaultRate
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	o.Proxy.File = nil
	send, closeAll, err := holdfast.OpenSender(o.Proxy)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	l := &learner{options: o, rec: newRecording(exchanges, o.Base), expr: newExpressions(), report: &Report{Version: 1, Asked: []Asked{}}}
	l.asker = &asker{ctx: ctx, inner: send, most: int64(o.MaxRequests), pause: time.Duration(float64(time.Second) / o.Rate), wait: sleep,
		lookup: func(name string) (string, bool) { return l.draft.Lookup(name) }}
	if l.asker.any, err = httpql.Parse("resp.code.gt:0"); err != nil {
		return nil, fmt.Errorf("internal error: %w", err)
	}
	return l.run(ctx)
}

func (l *learner) say(format string, args ...any) { l.options.Progress(fmt.Sprintf(format, args...)) }

func (l *learner) run(ctx context.Context) (*Result, error) {
	if c := l.httpAuth(); c != nil {
		return l.runHTTPAuth(ctx, c)
	}
	if err := l.learnLogin(ctx); err != nil {
		return nil, err
	}
	l.rec.settle(l.draft)
	l.report.Origin = l.rec.origin
	l.tokens = l.rec.tokens(l.draft)
	l.targets = l.findTargets()
	l.live = l.rec.live()
	for _, step := range []func() error{l.logIn, l.askAll, l.learnRefresh, l.learnConfirmation, l.learnCSRF} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	l.protects = l.rec.protects()
	for _, p := range l.protects {
		l.report.claim(false, "logout is protected: "+p, "it was not sent, so nobody knows what it does", "")
	}
	result := &Result{Report: l.report}
	var err error
	if result.Config, result.Env, err = l.emit(); err != nil {
		return nil, err
	}
	l.report.Requests = int(l.asker.sent.Load())
	if err := l.prove(ctx, result); err != nil {
		return result, err
	}
	return result, nil
}

// learnLogin makes a login of the recording.
func (l *learner) learnLogin(ctx context.Context) error {
	o := derive.Options{Values: make(map[string]string), Hide: l.options.Hide}
	if l.options.User != "" {
		o.Values["USER"] = l.options.User
	}
	if l.options.Password != "" {
		o.Values["PASS"] = l.options.Password
	}
	for range 2 { // once more without writes behind the login
		o.Entries = l.rec.entries()
		if len(o.Entries) == 0 {
			return derive.ErrNothing
		}
		draft, err := derive.From(l.rec.exchanges, o)
		if err != nil {
			return err
		}
		if !l.rec.withoutWrites(draft) {
			break
		}
	}
	l.say("login: running what was recorded, twice")
	draft, proof, err := derive.Prove(ctx, l.rec.exchanges, o, derive.Env{Send: l.asker.send, Now: time.Now})
	if err != nil {
		return err
	}
	l.draft = draft
	l.report.Steps = len(draft.Steps)
	next := ""
	for _, f := range proof.Findings {
		l.report.note("login: %s", f)
		next = "correct the step, see: holdfast macro analyse"
	}
	for _, n := range draft.Notes {
		l.report.note("%s", n)
	}
	l.report.claim(proof.Proved, fmt.Sprintf("the login runs (%d requests)", len(draft.Steps)), fmt.Sprintf("it ran %d times, each with an empty jar", proof.Runs), next)
	if l.login, err = draft.Macro(); err != nil {
		return fmt.Errorf("%w: %w", ErrLogin, err)
	}
	return nil
}

// logIn makes a session to ask with.
func (l *learner) logIn() error {
	s := &state{jar: newJar()}
	if _, err := l.asker.run(l.login, s); err != nil {
		if l.asker.ctx.Err() != nil {
			return l.asker.ctx.Err()
		}
		return fmt.Errorf("%w: %w", ErrLogin, err)
	}
	l.session = s
	return nil
}

// askAll asks recorded requests with the session, without it, and with a broken
// one.
func (l *learner) askAll() error {
	questions := l.rec.questions(l.draft, l.tokens)
	if len(questions) == 0 {
		if q := l.landing(); q != nil {
			questions = append(questions, q)
		}
	}
	tellers := 0
	heard := make(map[kind]bool)
	for _, q := range mixed(questions)[:min(len(questions), maxQuestions)] {
		if tellers >= enough && heard[q.kind] {
			continue // a kind that was not asked yet may show death in another way
		}
		l.say("asking %s with the session, without it, and with a broken one", q.shown)
		k := &asked{question: q}
		l.askOne(k)
		if errors.Is(k.err, ErrBudget) || l.asker.ctx.Err() != nil {
			return k.err
		}
		v, checks := l.expr.judge(k, l.live)
		switch v {
		case unclear:
			l.report.Asked = append(l.report.Asked, Asked{q.shown, "does not answer well with a session, or not alike twice"})
			continue
		case public:
			l.report.Asked = append(l.report.Asked, Asked{q.shown, "answers alike without a session"})
			continue
		case silent:
			l.report.Asked = append(l.report.Asked, Asked{q.shown, "does not say that a session is dead"})
			l.silent = append(l.silent, k)
		case telling:
			l.report.Asked = append(l.report.Asked, Asked{q.shown, "tells: " + checkWords(checks)})
			if l.tells == nil || weak(l.tellsBy()) && !weak(checks) {
				l.tells = k
			}
			tellers++
		}
		heard[q.kind] = true
		l.asked = append(l.asked, k)
		for _, c := range checks {
			l.addCheck(c)
		}
		l.live = append(l.live, k.with...)
	}
	return nil
}

// mixed puts the first question of each kind in front: pages, and what scripts
// ask, show death in ways of their own. Otherwise the order stays.
func mixed(questions []*question) []*question {
	var first, rest []*question
	for _, q := range questions {
		if slices.ContainsFunc(first, func(k *question) bool { return k.kind == q.kind }) {
			rest = append(rest, q)
		} else {
			first = append(first, q)
		}
	}
	return append(first, rest...)
}

func (l *learner) tellsBy() []check {
	_, checks := l.expr.judge(l.tells, nil)
	return checks
}

func weak(checks []check) bool {
	return slices.ContainsFunc(checks, func(c check) bool { return c.weak })
}

func checkWords(checks []check) string {
	var all []string
	for _, c := range checks {
		all = append(all, c.shown)
	}
	return strings.Join(all, ", ")
}

// askOne asks one question in each of three ways. The session comes last: what
// a broken one does to it would show.
func (l *learner) askOne(k *asked) {
	ways := []struct {
		s    *state
		into *[]*answer
	}{{l.session, &k.with}, {nobody(), &k.without}, {l.session.spoilt(), &k.spoiled}}
	for _, w := range ways {
		for range each {
			a, err := l.asker.ask(k.question, w.s)
			if err != nil {
				k.err = err
				return
			}
			*w.into = append(*w.into, a)
		}
	}
}

func (l *learner) addCheck(c check) {
	for i := range l.checks {
		if k := &l.checks[i]; k.Type == c.Type && k.Text == c.Text {
			k.weak = k.weak || c.weak
			return
		}
	}
	// What a recorded live answer has is no sure sign.
	for _, a := range l.live {
		c.weak = c.weak || c.matches(a)
	}
	l.checks = append(l.checks, c)
}

// landing is where the login leads: a recording that ends with it.
func (l *learner) landing() *question {
	last := l.rec.exchange(l.draft.Steps[len(l.draft.Steps)-1].Entry)
	target := l.rec.origin + "/"
	if location, ok := last.Response.Get("Location"); ok && last.Response.Status()/100 == 3 {
		if u := resolve(last.URL, string(location)); originOf(u) == l.rec.origin && !l.rec.words.logout.MatchString(u) {
			target = u
		}
	}
	line := "GET " + target + " HTTP/1.1\nAccept: text/html, application/json, */*\n"
	for _, t := range l.targets {
		if t.header != "" {
			return &question{shown: "GET " + shownURL(target), method: "GET", url: target, template: line + t.header + ": " + t.template + "\n", plain: line}
		}
	}
	return &question{shown: "GET " + shownURL(target), method: "GET", url: target, template: line, plain: line}
}
