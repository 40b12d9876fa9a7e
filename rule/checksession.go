package rule

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/httpql"
)

// The probes of CheckSession.
const (
	ProbeRequest = "request" // the request itself is sent, and its answer looked at
	ProbeMacro   = "macro"   // a macro's last answer is looked at
)

// Where CheckSession looks.
const (
	LookHeaders  = "headers" // with the status line, as it stands in the answer
	LookBody     = "body"
	LookRedirect = "redirect_url"
)

// LookPlaces lists them.
func LookPlaces() []string { return []string{LookHeaders, LookBody, LookRedirect} }

// CheckSession says how a dead session shows and what is done then. With the
// probe "request" it becomes the rule's Dead and Recovery: the request is sent,
// and after the recovery it is sent again. With the probe "macro" the macro is
// asked before the request is sent.
type CheckSession struct {
	Probe string // a kind of probe
	Macro string // of ProbeMacro
	// Every and For say how long a macro's word counts: for that many requests,
	// for that time. Without them each request has it asked.
	Every int
	For   time.Duration

	LookIn        []string // empty: everywhere
	Literal       string
	Regex         string
	CaseSensitive bool
	MeansValid    bool // a match means that the session is alive

	// StopIfValid ends the actions that follow, and those of rules of lower
	// priority, when the session is valid. With the probe "request" they wait
	// until its answer was invalid.
	StopIfValid bool
	// Macros recover an invalid session; the request then gets parameters of
	// the last one's last answer, and cookies.
	Macros   []string
	Browser  bool // a person recovers it, where the rule has no macros or none brings a session; then no parameters
	Params   Pick
	Tolerate bool
	Cookies  Pick

	invalid *httpql.Query
}

// Invalid is the condition on the probe's answer; nil before Compile.
func (a *CheckSession) Invalid() *httpql.Query { return a.invalid }

func (a *CheckSession) compile() (err error) {
	switch {
	case a.Probe != ProbeRequest && a.Probe != ProbeMacro:
		return &Error{Key: "probe", Problem: fmt.Sprintf("there is no probe %q", a.Probe), Next: "write probe: request, or probe: {macro: NAME}"}
	case a.Probe == ProbeMacro && strings.TrimSpace(a.Macro) == "":
		return &Error{Key: "probe", Problem: "the probe's macro has no name", Next: "write probe: {macro: NAME}"}
	case a.Probe == ProbeRequest && (a.Every != 0 || a.For != 0):
		return &Error{Key: "every", Problem: "every and for are about a macro; where the request is the probe, every answer is looked at", Next: "take them out"}
	case a.Every < 0 || a.For < 0:
		return &Error{Key: "every", Problem: "every and for are not less than 0", Next: "write how many requests, and how long, a macro's word counts for"}
	case (a.Literal == "") == (a.Regex == ""):
		return &Error{Key: "match", Problem: "it says nothing to look for, or both a literal and a regex", Next: "write match: {literal: TEXT} or match: {regex: PATTERN}"}
	case a.Browser && len(a.Macros) > 0:
		return &Error{Key: "if_invalid", Problem: "macros and browser are both given", Next: "keep one of them"}
	}
	for _, in := range a.LookIn {
		if !slices.Contains(LookPlaces(), in) {
			return &Error{Key: "look_in", Problem: fmt.Sprintf("there is no place %q", in), Next: "write headers, body or redirect_url"}
		}
	}
	if err := a.Params.compile(); err != nil {
		return within("if_invalid.update_params", err)
	}
	if err := a.Cookies.compile(); err != nil {
		return within("if_invalid.update_cookies", err)
	}
	a.invalid, err = a.condition()
	return err
}

// condition is true of the answers of an invalid session.
func (a *CheckSession) condition() (*httpql.Query, error) {
	op, text := httpql.Regex, a.Regex
	if a.Literal != "" {
		text = regexp.QuoteMeta(a.Literal)
	}
	if !a.CaseSensitive {
		text = "(?i)" + text
	}
	if a.Literal != "" && !a.CaseSensitive && isASCII(a.Literal) {
		op, text = httpql.Cont, a.Literal // the same, and faster
	}
	look := a.LookIn
	if len(look) == 0 {
		look = LookPlaces()
	}
	var found []*httpql.Query
	for _, in := range look {
		q, err := httpql.Compare(lookField(in), op, text)
		if err != nil {
			e, _ := asError(err).(*Error)
			e.Key = "match"
			return nil, e
		}
		found = append(found, q)
	}
	if a.MeansValid {
		return httpql.Not(httpql.Or(found...)), nil
	}
	return httpql.Or(found...), nil
}

func lookField(in string) httpql.Field {
	switch in {
	case LookBody:
		return httpql.RespBody
	case LookRedirect:
		return httpql.RespRedirect
	}
	return httpql.RespHead
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// takeCheck makes a check the rule's own: what it recovers with, and, where the
// request is the probe, how a dead session shows.
func (r *Rule) takeCheck(key string, a *CheckSession) (errs Errors) {
	if a.Probe == ProbeRequest && a.invalid != nil {
		if r.Dead == nil {
			r.Dead = a.invalid
		} else {
			r.Dead = httpql.Or(r.Dead, a.invalid)
		}
	}
	switch {
	case len(a.Macros) == 0:
	case len(r.Recovery) == 0:
		r.Recovery = a.Macros
	case !slices.Equal(r.Recovery, a.Macros):
		errs = append(errs, within(key+".if_invalid.macros", &Error{Problem: "reauth_macro names other macros", Next: "name the macros once"}))
	}
	return errs
}

// Recovers reports whether the rule has a way to a new session.
func (r *Rule) Recovers() bool { return len(r.Recovery) > 0 || r.ByPerson() }

// ByPerson reports whether a person with a browser is the rule's last way to a
// new session.
func (r *Rule) ByPerson() bool {
	a, _ := r.CheckOf()
	return a != nil && a.Browser
}

// CheckOf is the rule's check_session and its place in the actions; -1 without
// one.
func (r *Rule) CheckOf() (a *CheckSession, at int) {
	for i := range r.Actions {
		if c := r.Actions[i].CheckSession; c != nil {
			return c, i
		}
	}
	return nil, -1
}
