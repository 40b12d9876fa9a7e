package rule

import (
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
)

// A Rule says how the requests in its scope are kept logged in. Its fields are
// the keys of the configuration file; the zero values of Resend and OnFailure
// are the defaults. Fields may be changed until [Compile], which copies it.
type Rule struct {
	Name     string
	ID       string // "" when the configuration names none
	Enabled  bool
	Priority int // higher first; equal ones in the order of the list
	// Digest names the definition: rules with the same one say the same. "": it
	// is not known.
	Digest string
	Scope  Scope

	// Dead is judged on responses: true means that the session is dead. nil:
	// this rule never says so.
	Dead *httpql.Query
	// DeadCloseCodes are the codes of a WebSocket's close frame (RFC 6455
	// §7.4) by which the origin says that the session is dead.
	DeadCloseCodes []int
	// Confirm names a macro whose success contradicts Dead; "" for none.
	Confirm string
	// Probe is asked now and then whether the session lives; nil for none.
	Probe *Probe
	// Recovery names the macros that get a new session, by name or ID, the
	// cheapest first.
	Recovery []string
	// Proactive says when Recovery runs before the session ends; nil is
	// DefaultProactive.
	Proactive *Proactive
	// Updates are the tokens: where they come from, where they go.
	Updates []Update
	// Actions are done to each request in order, before the updates.
	Actions []Action

	// Protect are the requests that would end the session.
	Protect []Scope

	Resend      Resend
	OnFailure   OnFailure
	Auth        *Auth // how requests are logged in by HTTP authentication; nil: not at all
	KeepForeign bool  // a value in a target's place that is not ours is left there

	order int    // place in the compiled set
	actor string // of Actor
}

// Actor is what traces call the rule: "rule " and its name.
func (r *Rule) Actor() string {
	if r.actor == "" {
		return "rule " + r.Name
	}
	return r.actor
}

// Protects reports whether the request of a flow in the rule's scope is one that
// would end the session. It may read the request's body, as [flow.Flow.Peek]
// does.
func (r *Rule) Protects(f *flow.Flow) bool { return len(r.Protect) > 0 && r.Protecting(f) >= 0 }

// Update is one token: an extraction, an injection, or both.
type Update struct {
	Token    string  // the name of the variable
	Source   *Source // nil: only macros bring the token
	Target   *Target // nil: only templates use the token
	Optional bool    // a recovery that does not bring it has not failed
}

// Puts reports whether the token's value goes into requests. What a script
// computes is no token: it belongs to one request.
func (u *Update) Puts() bool { return u.Target != nil && u.Target.Script == nil }

// Computes reports whether a script computes what goes into a request.
func (u *Update) Computes() bool { return u.Target != nil && u.Target.Script != nil }

// Resend says which requests are sent again after a recovery.
type Resend string

// The values of Resend; the empty one is ResendAlways.
const (
	ResendAlways Resend = "always"
	ResendSafe   Resend = "safe"
	ResendNever  Resend = "never"
)

// Allows reports whether a request with that method is sent again. The safe
// methods are those of RFC 9110 §9.2.1.
func (r Resend) Allows(method []byte) bool {
	switch r {
	case ResendNever:
		return false
	case ResendSafe:
		switch string(method) {
		case "GET", "HEAD", "OPTIONS", "TRACE":
			return true
		}
		return false
	}
	return true
}

// OnFailure says what the client gets when no session can be had.
type OnFailure string

// The values of OnFailure; the empty one is FailClosed.
const (
	FailClosed OnFailure = "fail" // an answer of our own that says why
	FailPass   OnFailure = "pass" // the origin's answer, dead as it is
)

// IsCloseCode reports whether a code can stand in a close frame: 1000 to 4999
// without those that RFC 6455 §7.4.1 keeps off the wire.
func IsCloseCode(code int) bool {
	return code >= 1000 && code <= 4999 && code != 1005 && code != 1006 && code != 1015
}

// NeedsBody reports whether the rule asks about response bodies: to judge, or
// to take a token.
func (r *Rule) NeedsBody() bool {
	return r.JudgesBody() || r.takesFromBody()
}

// JudgesBody reports whether the condition Dead asks about the response body.
func (r *Rule) JudgesBody() bool {
	return r.Dead != nil && r.Dead.Needs()&httpql.NeedResponseBody != 0
}

func (r *Rule) takesFromBody() bool {
	for i := range r.Updates {
		if s := r.Updates[i].Source; s != nil && s.NeedsBody() {
			return true
		}
	}
	return false
}

// An Error says what is wrong with a rule and what to do about it.
type Error struct {
	Index   int    // of the rule in the list given to Compile; 0 elsewhere
	Rule    string // its name; "" outside a rule
	Key     string // where, in words of the configuration: "token_updates[0].source.regex"
	Problem string
	Next    string // the next step
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Rule != "" {
		b.WriteString("rule " + e.Rule + ": ")
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Problem)
	if e.Next != "" {
		b.WriteString("; " + e.Next)
	}
	return b.String()
}

// Errors is everything that is wrong with a list of rules.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// within puts a key in front of that of an *Error.
func within(key string, err error) *Error {
	e, ok := err.(*Error)
	if !ok {
		return &Error{Key: key, Problem: err.Error()}
	}
	out := *e
	switch {
	case out.Key == "":
		out.Key = key
	case key != "":
		out.Key = key + "." + out.Key
	}
	return &out
}
