package control

import (
	"context"
	"reflect"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
)

// Danger is what an operation may break.
type Danger string

// The dangers.
const (
	Read        Danger = "read"        // changes nothing
	Change      Danger = "change"      // changes what can be changed back
	Destructive Danger = "destructive" // what was there is gone, or an account may be locked
)

// Nowhere stands for a face that an operation is not on.
const Nowhere = "-"

// Operation is one line of the table.
type Operation struct {
	Name    string // area.verb
	Doc     string // one sentence, and what one must know
	Danger  Danger
	Method  string // of REST, with Path; Nowhere: not there
	Path    string // below /api/v1; {name} is a parameter
	Tool    string // of MCP: a tool and an action of it, as in rules.list; several with a space between; Nowhere: none
	Command string // of the command line, behind holdfast; Nowhere: none
	Reveals bool   // may hand out secrets, where the Desk allows it
	Runs    bool   // goes on after it was answered: the result is a Run
	Foreign bool   // the result may hold what an application or a client wrote

	Params, Result reflect.Type // structs

	call func(ctx context.Context, d *Desk, params any) (any, error)
}

// Call does it. params is a pointer to a struct of the type Params, the result
// one of the type Result; the error is an *flow.Error, or that of ctx.
func (o *Operation) Call(ctx context.Context, d *Desk, params any) (any, error) {
	return o.call(ctx, d, params)
}

// Action is an operation as MCP has it: an action of a tool.
type Action struct{ Tool, Name string }

// Actions are those of the operation.
func (o *Operation) Actions() []Action {
	var all []Action
	if o.Tool == Nowhere {
		return nil
	}
	for _, word := range strings.Fields(o.Tool) {
		tool, action, _ := strings.Cut(word, ".")
		all = append(all, Action{tool, action})
	}
	return all
}

// of makes a line of the table of a function.
func of[P, R any](o Operation, do func(context.Context, *Desk, *P) (*R, error)) Operation {
	o.Params, o.Result = reflect.TypeFor[P](), reflect.TypeFor[R]()
	o.call = func(ctx context.Context, d *Desk, params any) (any, error) {
		p, ok := params.(*P)
		if !ok {
			return nil, internal("parameters of another operation")
		}
		r, err := do(ctx, d, p)
		if err != nil {
			return nil, err
		}
		return r, nil
	}
	return o
}

// Operations is the table.
func Operations() []Operation {
	var all []Operation
	for _, area := range [][]Operation{
		statusOperations(), sessionOperations(), tokenOperations(), cookieOperations(), variableOperations(),
		ruleOperations(), macroOperations(), recordingOperations(), learnOperations(), runOperations(), configOperations(), changeOperations(), traceOperations(), flowOperations(),
	} {
		all = append(all, area...)
	}
	return all
}

// Reasons of errors, besides those of package flow.
const (
	ReasonHidden    = "secrets_hidden"    // Holdfast was not started so that it shows secrets
	ReasonNotFound  = "not_found"         // there is no such thing
	ReasonParameter = "parameter_invalid" // a parameter cannot be understood
	ReasonRuns      = "runs_busy"         // as many macros run as may
	ReasonInternal  = "internal_error"
)

func internal(detail string) error {
	return &flow.Error{Status: 500, Reason: ReasonInternal, Detail: "Internal error: " + detail + ".", Next: "Report it, with what was asked for."}
}

func notFound(detail, next string) error {
	return &flow.Error{Status: 404, Reason: ReasonNotFound, Detail: detail, Next: next}
}

func invalid(detail, next string) error {
	return &flow.Error{Status: 422, Reason: ReasonParameter, Detail: detail, Next: next}
}
