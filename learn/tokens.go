package learn

import (
	"net/url"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

func resolve(base, ref string) string {
	b, err := url.Parse(base)
	if err != nil {
		return ref
	}
	u, err := b.Parse(ref)
	if err != nil {
		return ref
	}
	u.Fragment = ""
	return u.String()
}

// target is a place of requests after the login that a token goes to.
type target struct {
	token    string
	header   string // or
	query    string
	template string
	source   *rule.Source // of a token that is a cookie's value: it is taken from every answer
	double   doubled      // in place of the token, this cookie's newest value is sent
	guessed  bool         // no request of the recording carries it
}

// findTargets finds where requests behind the login carry what it brought.
func (l *learner) findTargets() []target {
	var all []target
	add := func(t target) {
		if !slices.ContainsFunc(all, func(k target) bool { return strings.EqualFold(k.header, t.header) && k.query == t.query }) {
			all = append(all, t)
		}
	}
	for i := l.rec.last + 1; i < len(l.rec.exchanges); i++ {
		x := &l.rec.exchanges[i]
		if l.rec.isRefresh(x) || originOf(x.URL) != l.rec.origin {
			continue
		}
		for n := range x.Request.NumFields() {
			name, value := x.Request.Field(n)
			if dropped(string(name)) || strings.EqualFold(string(name), "Referer") || strings.Contains(string(value), "{{") {
				continue
			}
			if text, used := put(string(value), l.tokens); len(used) > 0 {
				t := target{token: used[0], header: string(name), template: text, source: l.cookieOf(used[0])}
				if l.rec.words.csrf.MatchString(string(name)) {
					t.double = doubledBy(x, string(value))
				}
				add(t)
			} else if text, basic := basicOf(string(name), string(value), l.draft); basic && strings.Contains(text, "BASIC") {
				add(target{token: "BASIC", header: "Authorization", template: text})
			}
		}
		_, query, _ := strings.Cut(string(x.Request.Target()), "?")
		for pair := range strings.SplitSeq(query, "&") {
			name, value, _ := strings.Cut(pair, "=")
			if text, used := put(value, l.tokens); len(used) > 0 && text == "{{"+used[0]+"}}" && !l.rec.words.csrf.MatchString(name) {
				add(target{token: used[0], query: name})
			}
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, p := range l.draft.Products {
		plain := strings.ToLower(p.Token)
		if !l.isBearer(p.Token) || strings.Contains(plain, "refresh") || strings.Contains(plain, "id_token") || strings.Contains(plain, "csrf") || strings.Contains(plain, "xsrf") {
			continue
		}
		l.report.note("no request of the recording carries %s; it is sent as a Bearer token", p.Token)
		return []target{{token: p.Token, header: "Authorization", template: "Bearer {{" + p.Token + "}}", guessed: true}}
	}
	return nil
}

// isBearer reports whether a token looks like one that is sent in Authorization.
func (l *learner) isBearer(name string) bool {
	lower := strings.ToLower(name)
	if !slices.ContainsFunc([]string{"token", "jwt", "access", "bearer", "auth"}, func(word string) bool { return strings.Contains(lower, word) }) {
		return false
	}
	return slices.ContainsFunc(l.tokens, func(t token) bool { return t.name == name && len(t.recorded[0]) >= 16 })
}

// cookieOf is where a token is extracted from that is a cookie; nil: it is none.
func (l *learner) cookieOf(token string) *rule.Source {
	for i := range l.draft.Steps {
		for _, x := range l.draft.Steps[i].Extract {
			if x.Token == token && x.Source.Type == rule.SourceCookie {
				return &x.Source
			}
		}
	}
	return nil
}

// refresh is how a session is renewed without a login.
type refresh struct {
	template string
	extract  []macro.Extraction
	reusable bool // asking twice with the same token works
	proved   bool
}

// learnRefresh finds the refresh that was recorded, or that of OAuth 2.0 (RFC
// 6749 §6), and runs it.
func (l *learner) learnRefresh() error {
	var r *refresh
	for i := range l.rec.exchanges {
		x := &l.rec.exchanges[i]
		if r == nil && l.rec.isRefresh(x) && x.Response != nil && x.Response.Status()/100 == 2 {
			if q := l.rec.ask(x, l.tokens, l.draft); q != nil {
				r = &refresh{template: q.template, extract: l.sameTokens(x)}
			}
		}
	}
	if r == nil {
		r = l.grant()
	}
	if r == nil {
		return nil
	}
	if len(r.extract) == 0 && len(l.targets) > 0 {
		l.report.claim(false, "a refresh renews the session", "its answer has none of the login's tokens", "add a macro for it by hand: reauth_macro: [refresh, login]")
		return nil
	}
	l.say("refresh: running it")
	m, err := l.macroOf("refresh", r.template, r.extract, "")
	if err != nil {
		return nil
	}
	s := l.session.copied()
	_, err = l.asker.run(m, s)
	if stop := l.stopped(err); stop != nil {
		return stop
	}
	if err == nil && l.lives(s) {
		r.proved = true
		if l.tells == nil {
			again := l.session.copied()
			_, err = l.asker.run(m, again)
			r.reusable = err == nil
		}
	}
	if !r.proved {
		l.report.claim(false, "a refresh renews the session", "it was run, and brought no session that works", "record one that works, or leave it: a login is made instead")
	} else {
		l.refresh = r
		l.report.claim(true, "a refresh renews the session", "it was run, and what it brought works", "")
	}
	return l.logIn() // what was spent is not used again
}

// stopped is an error that ends the whole run.
func (l *learner) stopped(err error) error {
	if err == nil {
		return nil
	}
	if l.asker.ctx.Err() != nil {
		return l.asker.ctx.Err()
	}
	if l.asker.sent.Load() > l.asker.most {
		return ErrBudget
	}
	return nil
}

// lives asks what was asked with the session before: the answer must be the
// same.
func (l *learner) lives(s *state) bool {
	for _, k := range append(slices.Clip(l.asked), l.silent...) {
		a, err := l.asker.ask(k.question, s)
		return err == nil && l.expr.like(a, k.with, k.dead())
	}
	return true // nothing can be asked
}

// sameTokens are extractions that bring a refresh's tokens under the names of the
// login's.
func (l *learner) sameTokens(x *convert.Exchange) []macro.Extraction {
	var all []macro.Extraction
	for _, t := range l.tokens {
		if t.path == "" {
			continue
		}
		for _, path := range []string{t.path, t.path[strings.LastIndexByte(t.path, '.')+1:]} {
			s := &rule.Source{Type: "JSON", Path: path}
			if s.Compile() != nil {
				continue
			}
			if _, ok := s.Extract(x.Request, x.Response, x.ResponseBody); ok {
				all = append(all, macro.Extraction{Token: t.name, Source: s})
				break
			}
		}
	}
	return all
}

// grant is the refresh-token grant of the token endpoint that the login used;
// nil: it used none, or brought no refresh token.
func (l *learner) grant() *refresh {
	var token *token
	for i := range l.tokens {
		if strings.Contains(strings.ToLower(l.tokens[i].name), "refresh") {
			token = &l.tokens[i]
		}
	}
	if token == nil {
		return nil
	}
	for i := range l.draft.Steps {
		s := &l.draft.Steps[i]
		x := l.rec.exchange(s.Entry)
		form, err := url.ParseQuery(string(x.RequestBody))
		if err != nil || form.Get("grant_type") == "" {
			continue
		}
		head, _, _ := strings.Cut(s.Request, "\n\n")
		body := "grant_type=refresh_token&refresh_token={{" + token.name + "}}"
		if form.Get("client_id") != "" {
			body += "&client_id=" + url.QueryEscape(form.Get("client_id"))
		}
		if _, ok := l.draft.Lookup("CLIENT_SECRET"); ok && form.Get("client_secret") != "" {
			body += "&client_secret={{CLIENT_SECRET}}"
		}
		return &refresh{template: head + "\n\n" + body + "\n", extract: l.sameTokens(x)}
	}
	return nil
}

// macroOf compiles a macro of one request.
func (l *learner) macroOf(name, template string, extract []macro.Extraction, expect string) (*macro.Macro, error) {
	t, err := macro.ParseRequest(template, true)
	if err != nil {
		return nil, err
	}
	step := macro.Step{Request: t, Extract: extract}
	if expect != "" {
		if step.Expect, err = httpql.Parse(expect); err != nil {
			return nil, err
		}
	}
	return &macro.Macro{Name: name, Steps: []macro.Step{step}}, nil
}

// halfSpoilt is a session whose refresh token is good, as it mostly is when a
// session has died: what asks by it would call the session alive.
func (l *learner) halfSpoilt() *state {
	s := l.session.spoilt()
	for name, v := range l.session.values {
		if !slices.ContainsFunc(l.targets, func(t target) bool { return t.token == name }) {
			s.values[name] = v
		}
	}
	return s
}

// confirmation is a request that tells whether the session lives.
type confirmation struct {
	template, expect string
	shown            string
}

// learnConfirmation makes a request that tells into a macro, and tries it.
func (l *learner) learnConfirmation() error {
	needs := len(l.silent) > 0 || weak(l.checks)
	if !needs {
		return nil
	}
	c := &confirmation{}
	switch {
	case l.tells != nil:
		c.template, c.shown = l.tells.question.template, l.tells.question.shown
		c.expect = "resp.code.eq:200"
		if s := l.tells.with[0].status; s != 200 {
			c.expect = "resp.code.lt:300"
		}
		for _, k := range l.tellsBy() {
			if k.Type == "ResponseContains" {
				c.expect += " AND resp.body.ncont:" + quote(k.Text)
			}
		}
	case l.refresh != nil && l.refresh.reusable:
		c.template, c.shown, c.expect = l.refresh.template, "the refresh", "resp.code.lt:300"
	default:
		l.report.claim(false, "death is seen", "no request that was recorded shows it",
			"record a request that says 401, a redirect or a login page without a session, or add validation.probe by hand")
		return nil
	}
	l.say("asking whether %s tells live from dead", c.shown)
	m, err := l.macroOf("whoami", c.template, nil, c.expect)
	if err != nil {
		return nil
	}
	_, alive := l.asker.run(m, l.session.copied())
	_, dead := l.asker.run(m, l.halfSpoilt())
	if stop := l.stopped(dead); stop != nil {
		return stop
	}
	if alive != nil || dead == nil {
		l.report.claim(false, c.shown+" tells live from dead", "it did not when it was run", "add validation.probe by hand")
		return nil
	}
	l.whoami = c
	l.report.claim(true, c.shown+" tells live from dead", "it went through with the session and not with a broken one", "")
	return nil
}
