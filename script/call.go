package script

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dop251/goja"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/wire"
)

// Call is what one run of a program is about. What is nil is not there for the
// script. The functions are called by the goroutine that called Run.
type Call struct {
	Origin flow.Origin // of the request
	// Request is the head to read; EditRequest makes it ready for an edit and
	// returns it. nil EditRequest: the request can only be read.
	Request     *wire.Request
	EditRequest func() *wire.Request
	RequestBody *Body
	// Response and the rest: likewise.
	Response     *wire.Response
	EditResponse func() *wire.Response
	ResponseBody *Body

	// Lookup is the value of a variable.
	Lookup func(name string) (string, bool)
	// SetsVariables says that the script may set some.
	SetsVariables bool
	Jar           *jar.Jar
	Fetch         func(context.Context, *Fetch) (*Answer, error)
	// Keeps says of a place, such as header:cookie, that it is left as the
	// client wrote it.
	Keeps func(place string) bool
	// Log takes a line, redacted, for the trace.
	Log func(line string)
	// Redact takes secrets out of a text. nil leaves it as it is.
	Redact func(string) string

	Now   func() time.Time
	Order func() uint64 // draws a sequence number, by which changes of the jar are ordered
}

// Body is a payload, without chunks and without a content coding.
type Body struct {
	// Get may wait for it; the error says why it is not to be had.
	Get func() ([]byte, error)
	// Set replaces it. nil: it can only be read.
	Set func([]byte) error
}

// Fetch is a request of the script's own.
type Fetch struct {
	Method  string
	URL     string
	Headers [][2]string
	Body    []byte
	Cookies bool // those of the identity go and come
}

// Answer is what a fetch brought.
type Answer struct {
	URL      string
	Response *wire.Response
	Body     []byte
	Cut      bool // the body was longer than is read
}

// result is the value of the script.
func (n *run) result(v goja.Value) (*Result, error) {
	if v != nil {
		if p, ok := v.Export().(*goja.Promise); ok {
			switch p.State() {
			case goja.PromiseStateFulfilled:
				v = p.Result()
			case goja.PromiseStateRejected:
				return nil, fmt.Errorf("the promise was rejected: %s", n.words(p.Result()))
			default:
				return nil, errors.New("the promise never settles: there are no timers, and fetch needs no await")
			}
		}
	}
	out := &Result{Set: n.set, Edits: n.edits}
	if v == nil || goja.IsUndefined(v) || goja.IsNull(v) {
		return out, nil
	}
	if b, ok := v.Export().(bool); ok && !b {
		out.False = true
	}
	if b, ok := bytesOf(v); ok {
		out.Value = string(b)
	} else if _, object := v.(*goja.Object); object {
		return out, nil // of an expression that was not meant as a value
	} else {
		out.Value = v.String()
	}
	out.Given = out.Value != "" && !out.False
	return out, nil
}

// words is a value as a message says it.
func (n *run) words(v goja.Value) string {
	var s string
	if ex := n.js.Try(func() { s = v.String() }); ex != nil {
		return "an object that is no text"
	}
	return s
}

func (n *run) redact(s string) string {
	for _, value := range n.set { // nobody else knows them yet
		if len(value) > 2 {
			s = strings.ReplaceAll(s, value, "***")
		}
	}
	if n.call.Redact == nil {
		return s
	}
	return n.call.Redact(s)
}

// maxProblem bounds the words of an error, in bytes.
const maxProblem = 500

// explain makes a RunError with the line.
func (n *run) explain(err error) *RunError {
	out := &RunError{Place: n.program.name, Cause: err}
	var interrupted *goja.InterruptedError
	var deep *goja.StackOverflowError
	var thrown *goja.Exception
	var stack []goja.StackFrame
	switch {
	case errors.As(err, &interrupted):
		stack = interrupted.Stack()
	case errors.As(err, &deep):
		out.Problem, out.Limit, stack = fmt.Sprintf("more than %d calls stand inside each other", n.limits.Depth), true, deep.Stack()
	case errors.As(err, &thrown):
		out.Problem, stack = n.words(thrown.Value()), thrown.Stack()
	default:
		out.Problem = err.Error()
	}
	if n.stopped.Load() { // whatever the script made of it
		err = n.reason()
		out.Problem, out.Cause = err.Error(), err
	}
	var limit *limitError
	if errors.As(err, &limit) {
		out.Limit = true
	}
	for _, frame := range stack {
		if frame.SrcName() == n.program.name && frame.Position().Line > 0 {
			out.Place = n.program.place(frame.Position().Line)
			break
		}
	}
	out.Problem = n.redact(out.Problem)
	if len(out.Problem) > maxProblem {
		out.Problem = strings.ToValidUTF8(out.Problem[:maxProblem], "") + "…"
	}
	return out
}

// throw ends what the script does with an error that it can catch.
func (n *run) throw(format string, args ...any) {
	panic(n.js.NewTypeError(append([]any{format}, args...)...))
}

// rangeError is what a limit of one operation throws.
func (n *run) rangeError(format string, args ...any) {
	kind, _ := goja.AssertConstructor(n.js.GlobalObject().Get("RangeError"))
	if kind == nil {
		n.throw(format, args...)
	}
	e, err := kind(nil, n.js.ToValue(fmt.Sprintf(format, args...)))
	if err != nil {
		panic(err)
	}
	panic(e)
}
