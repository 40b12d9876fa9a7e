package macro

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/script"
	"github.com/holdfast-proxy/holdfast/wire"
)

// MaxBody is how much of an answer is read, on the wire and decoded, in bytes.
// What is beyond is not read and not looked at.
const MaxBody = 4 << 20

// Macro is a named sequence of request steps, or a login in a browser.
type Macro struct {
	ID   string // a UUID, or ""
	Name string
	// Digest names the definition: macros with the same one do the same. "": it
	// is not known.
	Digest string
	Steps  []Step
	Inputs []Input
	// Once says that what the requests carry is spent by sending it, as a
	// refresh token that rotates: what may have arrived is never sent again.
	Once bool
	// Browser is instead of Steps; nil without.
	Browser *Browser
}

// Input is a value that is handed to a macro: {{macro.input.NAME}}.
type Input struct {
	Name  string
	Value *rule.Template // nil: whoever uses the macro must give one
}

// Step is one request of a macro, or instead of a request a program that is run,
// a person who is asked, or a script.
type Step struct {
	Name      string           // for people; may be empty
	Wait      time.Duration    // before the step begins
	Request   *RequestTemplate // nil where Exec, Prompt or Script is not
	Exec      *Exec
	Prompt    *Prompt
	Script    *script.Program // in place of Request, Extract and Expect; nil: none
	Redirects Redirects
	// BareRequest leaves the jar's cookies out of the request, and BareAnswer
	// those of the answer out of the jar, as Burp's macro items can.
	BareRequest, BareAnswer bool
	Repeat                  *Repeat // nil: the request is sent once
	// Auth logs the request in by HTTP authentication, and those that it is
	// redirected to at the same origin. nil: nothing does.
	Auth    *rule.Auth
	Extract []Extraction
	// Expect must be true of the answer, after redirects the last one. nil: a
	// status below 400.
	Expect *httpql.Query
}

// DefaultRedirects is how many redirects of a step are followed, where nobody
// says another number.
const DefaultRedirects = 10

// Redirects says whether a step's redirects are followed, as a browser does
// (Fetch §4.4, RFC 9110 §15.4). The zero value follows none: a redirect is the
// step's answer, as in the macros of Burp.
type Redirects struct {
	Max int // 0: none
	// Until ends the chain: a redirect to a URL that begins with it is not
	// followed, and is the step's answer. nil: nothing does. A scheme other than
	// http and https, such as that of an application on a telephone, always
	// does.
	Until *rule.Template
}

// Extraction takes a token out of a step's answer.
type Extraction struct {
	Token    string
	Source   *rule.Source // compiled
	Optional bool         // its absence does not fail the step
	// Equals is what the value must be, such as {{oauth.state}}; any other
	// fails the step. nil: anything.
	Equals *rule.Template
}

// Env is what a run needs from outside.
type Env struct {
	// Lookup gives the value of a variable. Values that the run has extracted
	// come before it.
	Lookup func(name string) (string, bool)
	// Jar gives each request its cookies and takes those of each answer. nil:
	// cookies neither go nor come.
	Jar *jar.Jar
	// Now is the clock: for the flows' times, cookies and Retry-After.
	Now func() time.Time
	// Send sends a flow and returns with its response, or an error.
	Send func(ctx context.Context, f *flow.Flow) error
	// NewID names each flow. nil leaves the IDs zero.
	NewID func() flow.ID
	// Next gives each request its sequence number, by which cookies are
	// ordered. nil counts from 1 within the run.
	Next func() uint64
	// First may change the first request before it is sent, and its body with
	// it; Content-Length follows. nil changes nothing.
	First func(*Built)
	// Browse makes the login of a macro that has a Browser, and returns the
	// tokens it brought; its errors are *StepError. nil: there is no browser.
	Browse  func(ctx context.Context, m *Macro) (map[string]string, error)
	Scripts Scripting
	// Identity is written into the flows.
	Identity string
	// Wait returns after d, or with the context's error. nil waits by the
	// system's clock.
	Wait func(ctx context.Context, d time.Duration) error
	// Code draws a one-time code that was never drawn before, for {{totp}}.
	// ahead is how far the origin's clock is ahead of ours, by the answers of
	// this run; nil: nobody knows. nil: {{totp}} has no value.
	Code func(ctx context.Context, ahead *time.Duration) (string, error)
	// Exec runs a program and returns what it writes to its standard output,
	// up to MaxOutput and a byte. It returns soon after the context has ended.
	Exec func(ctx context.Context, command []string) (string, error)
	// Ask asks a person, and returns soon after the context has ended. nil:
	// there is nobody.
	Ask func(ctx context.Context, q Question) (string, error)
}

// Result is what a run that succeeded brought.
type Result struct {
	Values map[string]string // of every extraction that found one
	Steps  []StepResult      // none, of a macro whose steps are scripts that fetch nothing
}

// StepResult is one request that was sent and answered. A step whose redirects
// were followed has one for each of its requests, the last one with the values.
type StepResult struct {
	Step     int        // from 1
	Flow     *flow.Flow // ended
	Sent     []byte     // the request's body; nil: none
	Response *wire.Response
	Body     []byte            // decoded, up to MaxBody
	Values   map[string]string // what this step's extractions found
	Cut      bool              // the body was longer than MaxBody
}

// Kind says whose fault it is that a step failed.
type Kind uint8

// The kinds of failure.
const (
	// MissingVariable: the request names variables that have no value.
	MissingVariable Kind = iota + 1
	// Malformed: no request can be built from these values.
	Malformed
	// Transport: no answer came. The cause may be the context's.
	Transport
	// Rejected: an answer came and is not the one that was wanted.
	Rejected
	// Transient: the origin says later: 429, 502, 503 or 504.
	Transient
	// Failed: a step that sends nothing brought nothing: the program of an
	// Exec, or the next one-time code.
	Failed
	// Unanswered: the person of a Prompt did not answer in time, or one who was
	// asked to log in did not.
	Unanswered
	// Unexpected: a page in a browser is not as it should be, and no credentials
	// were sent.
	Unexpected
)

var kindNames = [...]string{"", "missing variable", "malformed request", "no answer", "rejected", "try later", "no value", "no answer from a person", "unexpected page"}

func (k Kind) String() string { return kindNames[k] }

// StepError says which step of a macro failed and why. It holds no values of
// variables except in Partial.
type StepError struct {
	Macro  string
	Step   int // from 1; 0: none of them
	Kind   Kind
	Want   string // what was expected, in words of the configuration
	Got    string // what came instead
	Hop    int    // which redirect of the step failed, from 1; 0: none
	Status int    // of the answer; 0 without one
	// Excerpt is the beginning of the answer as text, at most maxExcerpt bytes,
	// without the values of variables and without words that look like tokens.
	Excerpt    string
	RetryAfter time.Duration // Transient: what the origin asks for; 0 when it does not say
	// Partial holds the new values of variables that the macro's own requests
	// had used, such as a rotated refresh token. The old value may be spent:
	// keep these although the run failed.
	Partial map[string]string
	// Steps is what had been answered until then, the failed step included.
	Steps []StepResult
	Cause error
}

func (e *StepError) Error() string {
	s := "macro " + e.Macro
	if e.Step > 0 {
		s += fmt.Sprintf(", step %d", e.Step)
	}
	if e.Hop > 0 {
		s += fmt.Sprintf(", redirect %d", e.Hop)
	}
	s += fmt.Sprintf(": %s: wanted %s, got %s", e.Kind, e.Want, e.Got)
	if e.Excerpt != "" {
		s += fmt.Sprintf(" (%q)", e.Excerpt)
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Cause }
