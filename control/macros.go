package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro"
)

type runMacroParams struct {
	Name string `json:"name" minLength:"1" maxLength:"256" doc:"Its name or ID."`
	OfIdentity
	Inputs map[string]string `json:"inputs,omitempty" doc:"Values for the macro's inputs, and for variables."`
	Reveal bool              `json:"reveal,omitempty" doc:"Show what is sent and taken, where Holdfast was started with --reveal-secrets."`
}

// maxInputs bounds the inputs of a macro, and maxInput each, in bytes.
const (
	maxInputs = 100
	maxInput  = 64 << 10
)

type getMacroParams struct {
	named
	Reveal bool `json:"reveal,omitempty" doc:"Show requests as they are written, where Holdfast was started with --reveal-secrets."`
}

func macroOperations() []Operation {
	return []Operation{
		of(Operation{Name: "macro.list", Doc: "List the macros: how one logs in.", Danger: Read,
			Method: "GET", Path: "/macros", Tool: "macros.list_macros session.list_macros", Command: "macro list"},
			func(_ context.Context, d *Desk, p *Paging) (*Page[Macro], error) {
				var all []Macro
				for _, m := range d.proxy.File().Macros {
					shown := ShowMacro(m, false)
					shown.Origin = d.proxy.File().By(config.EntryMacro, m.Name)
					all = append(all, shown)
				}
				return paged(all, *p, func(m *Macro) string { return m.Name })
			}),
		of(Operation{Name: "macro.get", Doc: "Show a macro: what each step uses, takes and expects.", Danger: Read, Reveals: true,
			Method: "GET", Path: "/macros/{name}", Tool: "macros.get_macro session.get_macro", Command: "macro show"},
			func(_ context.Context, d *Desk, p *getMacroParams) (*Macro, error) {
				if err := d.mayReveal(p.Reveal); err != nil {
					return nil, err
				}
				m, err := d.macro(p.Name)
				if err != nil {
					return nil, err
				}
				shown := ShowMacro(m, p.Reveal)
				shown.Origin = d.proxy.File().By(config.EntryMacro, m.Name)
				return &shown, nil
			}),
		of(Operation{Name: "macro.test", Doc: "Run a macro once with a jar of its own, and keep nothing: a login dry run. It is really sent.", Danger: Change, Foreign: true, Reveals: true, Runs: true,
			Method: "POST", Path: "/macros/{name}/test", Tool: "macros.test_macro", Command: "macro test"},
			func(_ context.Context, d *Desk, p *runMacroParams) (*Run, error) {
				return d.runMacro(p, "macro.test", d.proxy.Engine().Try)
			}),
		of(Operation{Name: "macro.run", Doc: "Run a macro once with an identity's cookies, and keep what it brings as tokens.", Danger: Change, Foreign: true, Reveals: true, Runs: true,
			Method: "POST", Path: "/macros/{name}/run", Tool: "macros.run_macro session.execute_macro", Command: "macro run"},
			func(_ context.Context, d *Desk, p *runMacroParams) (*Run, error) {
				return d.runMacro(p, "macro.run", d.proxy.Engine().RunMacro)
			}),
		of(Operation{Name: "macro.derive", Doc: "Make a macro of flows of the history, or of a recording: what each step sends, what comes from which answer, and what could not be explained.", Danger: Change, Foreign: true, Reveals: true, Runs: true,
			Method: "POST", Path: "/macros/derive", Tool: "macros.derive_macro", Command: "macro derive"}, deriveMacro),
	}
}

func (d *Desk) macro(name string) (*macro.Macro, error) {
	for _, m := range d.proxy.File().Macros {
		if m.Name == name || m.ID != "" && m.ID == name {
			return m, nil
		}
	}
	return nil, notFound(fmt.Sprintf("There is no macro %q.", name), "List the macros to see their names.")
}

func (d *Desk) runMacro(p *runMacroParams, operation string, do func(ctx context.Context, who, name string, inputs map[string]string) (*macro.Result, error)) (*Run, error) {
	who, err := d.whoRevealed(p.Identity, p.Reveal)
	if err != nil {
		return nil, err
	}
	m, err := d.macro(p.Name)
	if err != nil {
		return nil, err
	}
	if err := bounded(p.Inputs); err != nil {
		return nil, err
	}
	return d.runs.start(operation, who, m.Name, func(ctx context.Context, r *Run) error {
		known := d.valuesOf(who)
		result, err := do(ctx, who, m.Name, p.Inputs)
		known = append(known, d.valuesOf(who)...) // recoveries go on meanwhile
		show := func(steps []macro.StepResult, failed *macro.StepError) {
			r.Report = ReportMacro(known, m.Name, who, p.Inputs, steps, failed, false)
			if p.Reveal {
				r.revealed = ReportMacro(known, m.Name, who, p.Inputs, steps, failed, true)
			}
		}
		var step *macro.StepError
		switch {
		case errors.As(err, &step):
			show(step.Steps, step)
			return &flow.Error{Status: 409, Reason: flow.ReasonRecovery, Detail: "The macro failed: " + r.Report.Failed.Message + ".", Next: "See the report for what was sent and answered."}
		case err != nil:
			return err
		}
		show(result.Steps, nil)
		return nil
	})
}

// valuesOf are the values of an identity's variables and tokens: those that a person
// changed by hand, too.
func (d *Desk) valuesOf(who string) (all []string) {
	engine := d.proxy.Engine()
	variables, _ := engine.Variables(who) // the identity was there; what is not has none
	tokens, _ := engine.Tokens(who)
	for _, v := range append(variables, tokens...) {
		all = append(all, v.Value)
	}
	return all
}

// asError is an error as this package promises it.
func asError(err error) error {
	var known *flow.Error
	if errors.As(err, &known) {
		return known
	}
	return &flow.Error{Status: 409, Reason: ReasonInternal, Detail: "It cannot be done.", Cause: err, Next: "See what holdfast says on its terminal."}
}
