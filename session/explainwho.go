package session

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/rule"
)

// Speaker is who a request speaks for, by names only.
type Speaker struct {
	Why       string   `json:"why,omitempty"`       // who said so; "" is whoever asked for the explanation
	Variables []string `json:"variables,omitempty"` // its own and global ones
	Tokens    []string `json:"tokens,omitempty"`    // that have a value
	// Cookies are those of its jar for the request's URL, in the order in which
	// they are sent. Which of them are is said by the rules.
	Cookies []Held `json:"cookies,omitempty"`
	Fed     string `json:"jar_fed"` // whether the answer's cookies go into the jar
}

// Held is a cookie of a jar, without its value.
type Held struct {
	Name   string `json:"name"`
	Domain string `json:"domain"` // with a leading dot where it is for the hosts below too
	Path   string `json:"path"`
	Secure bool   `json:"secure,omitempty"`
	From   string `json:"from"` // file, response, request or hand
}

// speaker describes the identity of a request.
func (x *exchange) speaker(directed bool) *Speaker {
	e, id, f := x.engine, x.identity, x.flow
	s := &Speaker{Variables: slices.Sorted(maps.Keys(id.vars()))}
	switch {
	case directed:
		s.Why = DirectiveIdentity + " names it"
	case f.Identity == "" && len(e.config.Identities) == 0:
		s.Why = "the configuration names no identities"
	case f.Identity == "":
		s.Why = "nobody is named, and it is the first of the configuration"
	}
	for name, t := range *id.tokens.Load() {
		if !t.gone {
			s.Tokens = append(s.Tokens, name)
		}
	}
	slices.Sort(s.Tokens)
	for _, c := range id.jar.Cookies(address(f), e.now()) {
		held := Held{Name: c.Name, Domain: c.Domain, Path: c.Path, Secure: c.Secure, From: string(c.Source)}
		if !c.HostOnly {
			held.Domain = "." + c.Domain
		}
		s.Cookies = append(s.Cookies, held)
	}
	switch listed := e.feeds(f.Tool); {
	case listed && e.config.Feed.Observe:
		s.Fed = "by the request's cookies and by the answer (cookie_jar: tools, observe)"
	case listed:
		s.Fed = "by the answer (cookie_jar: tools)"
	case e.config.Feed.Ruled && x.usesCookies():
		s.Fed = "by the answer, since a rule puts the jar's cookies in"
	default:
		s.Fed = fmt.Sprintf("by macros only: %s is not among the tools of cookie_jar", f.Tool)
	}
	return s
}

// policies says which cookies of the jar a rule puts in, action by action.
func (x *exchange) policies(r *rule.Rule) (all []string) {
	for i := range r.Actions {
		a := &r.Actions[i]
		when, pick := "", &rule.Pick{None: true}
		switch {
		case a.UseCookies != nil:
			mode := a.UseCookies.Mode
			if mode == "" {
				mode = rule.CookiesJarWins
			}
			when, pick = mode, &a.UseCookies.Pick
		case a.RunMacro != nil:
			when, pick = "after the macro, "+rule.CookiesJarWins, &a.RunMacro.Cookies
		case a.CheckSession != nil:
			when, pick = "where the request waited for a session, "+rule.CookiesJarWins, &a.CheckSession.Cookies
		case a.RecoverInBrowser != nil:
			when, pick = "after the login, "+rule.CookiesJarWins, &a.RecoverInBrowser.Cookies
		}
		if when == "" || pick.None {
			continue
		}
		which := "all"
		switch {
		case len(pick.Only) > 0:
			which = "only " + strings.Join(pick.Only, ", ")
		case len(pick.Except) > 0:
			which = "all except " + strings.Join(pick.Except, ", ")
		}
		var names []string
		for _, c := range x.identity.jar.Cookies(address(x.flow), x.engine.now()) {
			if pick.Has(c.Name) {
				names = append(names, c.Name)
			}
		}
		has := "the jar has none for this URL"
		if len(names) > 0 {
			has = "the jar has " + strings.Join(names, ", ")
		}
		all = append(all, fmt.Sprintf("%s: %s, %s: %s", a.Name(), when, which, has))
	}
	return all
}

// foresight says when a session is recovered before it ends.
func (s *session) foresight() string {
	p := s.ahead.policy()
	switch {
	case len(s.recovery) == 0:
		return ""
	case p.Off:
		return "never before an answer is dead (proactive: off)"
	}
	margin := p.Skew.String()
	if p.Skew == 0 {
		margin = fmt.Sprintf("%s, or a quarter of its life where that is less,", defaultSkew)
	}
	text := fmt.Sprintf("in the background, %s before its end", margin)
	if p.Jitter > 0 {
		text += fmt.Sprintf(" and up to %d%% of that earlier", p.Jitter)
	}
	text += ", as far as the end is known: from exp of a JWT, expires_in, the lifetime of a cookie that is put in"
	if p.Lifetime > 0 {
		text += fmt.Sprintf("; %s after a login (proactive.lifetime)", p.Lifetime)
	}
	if p.Learn {
		text += "; from sessions that died alike, at an age or without requests (proactive.learn)"
	}
	if p.Idle > 0 {
		text += fmt.Sprintf("; before a request that comes %s after the last one (proactive.idle)", p.Idle)
	}
	if end := s.ahead.ending(); !end.at.IsZero() {
		text += fmt.Sprintf(". It ends at %s: %s", end.at.UTC().Format(time.RFC3339), end.why)
	}
	return text
}

// protection says what a rule's protect is about a request; "" without one.
func (x *exchange) protection(r *rule.Rule) string {
	if len(r.Protect) == 0 {
		return ""
	}
	i := r.Protecting(x.flow)
	if i < 0 {
		return fmt.Sprintf("the request is none of the %d under protect", len(r.Protect))
	}
	by := fmt.Sprintf("protect[%d] is about this request", i)
	switch {
	case x.flow.Unprotected:
		return by + ", and " + DirectiveProtect + ": off has it sent"
	case x.isOwn(r):
		return by + ", and it is sent since it carries nothing of our session"
	}
	return by + ": Holdfast answers it with 403, and does not send it"
}
