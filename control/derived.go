package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro/derive"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/store"
)

// ReasonDerived is that no macro could be made of flows, or none that works.
const ReasonDerived = "macro_underived"

// FlowsChoice says which flows something is made of.
type FlowsChoice struct {
	Flows     []int64 `json:"flows,omitempty" maxItems:"2000" doc:"Numbers of flows of the history."`
	Recording string  `json:"recording,omitempty" maxLength:"100" doc:"The flows of this recording, in place of flows; - is the last one."`
	Query     string  `json:"query,omitempty" maxLength:"65536" doc:"The flows that this condition in HTTPQL is true of, in place of both."`
}

type deriveParams struct {
	FlowsChoice
	Name   string            `json:"name,omitempty" maxLength:"100" doc:"Of the macro; login when absent."`
	Values map[string]string `json:"values,omitempty" doc:"Credentials that were typed, by the names of their variables, such as USER and PASS: wherever one stands it becomes {{NAME}}."`
	All    bool              `json:"all,omitempty" doc:"Keep every request that is no static file, preflight or analytics."`
	Save   bool              `json:"save,omitempty" doc:"Have the macro be part of the configuration that holds, with its values as variables of the identity. Nothing that is there is changed. With prove only where it was proved."`
	OfIdentity
	Prove  bool `json:"prove,omitempty" doc:"Run the macro twice against the application, each time with an empty jar, derive what differs, and drop the steps that it runs without."`
	Reveal bool `json:"reveal,omitempty" doc:"Write credentials into the text, where Holdfast was started with --reveal-secrets."`
}

// Derived is a macro that was made of flows.
type Derived struct {
	Version  int        `json:"v" doc:"Of this shape: 1."`
	Macro    string     `json:"macro"`
	Identity string     `json:"identity,omitempty" doc:"Whose credentials they are; a name made of the user's."`
	Text     string     `json:"text" doc:"A configuration with the macro, its variables, and the identity. Credentials stand there as ${env:NAME}, unless they are revealed."`
	Env      []string   `json:"env" nullable:"false" doc:"Names of the variables of the environment that the text reads: what the recording had there."`
	Flows    []int64    `json:"flows" nullable:"false" doc:"Entry N of the report is the N-th of these."`
	Saved    string     `json:"saved,omitempty" doc:"What changed of the configuration that holds."`
	Report   Derivation `json:"report"`
}

// Derivation is what was derived from where, and what could not be explained: the
// JSON shape of version 1. It holds no values.
type Derivation struct {
	Version  int               `json:"v"`
	Name     string            `json:"name"`
	Steps    []DerivedStep     `json:"steps" nullable:"false"`
	Products []DerivedProduct  `json:"products" nullable:"false"`
	Dropped  []DerivedDropped  `json:"dropped" nullable:"false"`
	Open     []DerivedPlace    `json:"as_recorded" nullable:"false" doc:"Values that no answer brought: they are sent as they were recorded."`
	Notes    []string          `json:"notes" nullable:"false"`
	Lost     []string          `json:"lost" nullable:"false"`
	Proved   *bool             `json:"proved,omitempty"`
	Runs     int               `json:"runs,omitempty"`
	Findings []DerivedFinding  `json:"findings,omitempty"`
	Values   []DerivedVariable `json:"variables" nullable:"false"`
}

// DerivedStep is one request of the macro.
type DerivedStep struct {
	Entry   int            `json:"entry"`
	Name    string         `json:"name"`
	Uses    []DerivedUse   `json:"uses" nullable:"false"`
	Takes   []DerivedTaken `json:"takes" nullable:"false"`
	Expects string         `json:"expects"`
	Cookies []string       `json:"sets_cookies,omitempty"`
}

// DerivedUse is a variable in a place of a request.
type DerivedUse struct {
	Place string `json:"place"`
	Token string `json:"variable"`
	From  string `json:"from"`
}

// DerivedTaken is a value that is taken from an answer.
type DerivedTaken struct {
	Token string   `json:"token"`
	From  string   `json:"from"`
	For   []string `json:"for" nullable:"false"`
}

// DerivedProduct is a token for requests after the macro.
type DerivedProduct struct {
	Token    string `json:"token"`
	Step     int    `json:"step"`
	Place    string `json:"place,omitempty"`
	Template string `json:"template,omitempty"`
}

// DerivedDropped is a request that is not in the macro.
type DerivedDropped struct {
	Entry  int    `json:"entry"`
	Method string `json:"method"`
	URL    string `json:"url"`
	Reason string `json:"reason"`
}

// DerivedPlace is a place whose value nobody knows the origin of.
type DerivedPlace struct {
	Entry int    `json:"entry"`
	Step  int    `json:"step"`
	Place string `json:"place"`
	Why   string `json:"why"`
}

// DerivedFinding is what keeps the macro from working twice.
type DerivedFinding struct {
	Entry   int    `json:"entry"`
	Step    int    `json:"step"`
	Place   string `json:"place,omitempty"`
	Problem string `json:"problem"`
	From    string `json:"from,omitempty"`
}

// DerivedVariable is a value that comes from no answer.
type DerivedVariable struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// ShowDerivation is the report of a draft and its proof, which may be nil.
func ShowDerivation(d *derive.Draft, p *derive.Proof, lost []string) Derivation {
	r := Derivation{Version: 1, Name: d.Name, Steps: []DerivedStep{}, Products: []DerivedProduct{}, Dropped: []DerivedDropped{}, Open: []DerivedPlace{},
		Notes: append([]string{}, d.Notes...), Lost: append([]string{}, lost...), Values: []DerivedVariable{}}
	for _, s := range d.Steps {
		step := DerivedStep{Entry: s.Entry, Name: s.Name, Uses: []DerivedUse{}, Takes: []DerivedTaken{}, Expects: s.Expect, Cookies: s.Cookies}
		for _, u := range s.Uses {
			step.Uses = append(step.Uses, DerivedUse(u))
		}
		for _, x := range s.Extract {
			step.Takes = append(step.Takes, DerivedTaken{x.Token, x.Source.String(), append([]string{}, x.Places...)})
		}
		r.Steps = append(r.Steps, step)
	}
	for _, x := range d.Products {
		r.Products = append(r.Products, DerivedProduct{x.Token, x.Step, x.Place, x.Template})
	}
	for _, x := range d.Dropped {
		r.Dropped = append(r.Dropped, DerivedDropped(x))
	}
	for _, x := range d.Open {
		r.Open = append(r.Open, DerivedPlace(x))
	}
	for _, v := range d.Variables {
		r.Values = append(r.Values, DerivedVariable{v.Name, v.Why})
	}
	if p != nil {
		r.Proved, r.Runs = &p.Proved, p.Runs
		for _, f := range p.Findings {
			r.Findings = append(r.Findings, DerivedFinding{f.Entry, f.Step, f.Place, f.Problem, f.From})
		}
	}
	return r
}

// recorded reads the flows of a choice.
func (d *Desk) recorded(ctx context.Context, p *FlowsChoice) (*Recorded, error) {
	s, err := d.history()
	if err != nil {
		return nil, err
	}
	return chosen(ctx, s, p, func(name string) ([]int64, error) {
		one, err := d.recordings.find(name)
		if err != nil {
			return nil, err
		}
		shown, err := d.showRecording(ctx, one)
		if err != nil {
			return nil, err
		}
		if len(shown.Flows) == 0 {
			return nil, notFound(fmt.Sprintf("The recording %q has no flows.", shown.Name), "Log in through the proxy while it goes on.")
		}
		return shown.Flows, nil
	})
}

// Choose reads the flows of a choice from a project. Recordings are not known there.
func Choose(ctx context.Context, s *store.Store, p *FlowsChoice) (*Recorded, error) {
	return chosen(ctx, s, p, func(name string) ([]int64, error) {
		return nil, notFound(fmt.Sprintf("There is no recording %q: no serve runs that would know it.", name), "Name the flows, or a query.")
	})
}

func chosen(ctx context.Context, s *store.Store, p *FlowsChoice, recording func(name string) ([]int64, error)) (*Recorded, error) {
	named := 0
	for _, is := range []bool{len(p.Flows) > 0, p.Recording != "", strings.TrimSpace(p.Query) != ""} {
		if is {
			named++
		}
	}
	switch {
	case named != 1:
		return nil, invalid("Either flows, a recording or a query must be named.", "Name one of them.")
	case p.Recording != "":
		ids, err := recording(p.Recording)
		if err != nil {
			return nil, err
		}
		return RecordedFlows(ctx, s, ids)
	case len(p.Flows) > 0:
		return RecordedFlows(ctx, s, p.Flows)
	}
	return FoundFlows(ctx, s, p.Query)
}

// Derive makes a macro of flows. With env it is proved. Without reveal neither
// credentials nor other secrets of the recording stand in the text. The error is
// ReasonDerived, or that of ctx.
func Derive(ctx context.Context, r *Recorded, o derive.Options, env *derive.Env, reveal bool) (*Derived, error) {
	return drafted(ctx, r, o, env, reveal, nil)
}

// drafted is Derive; save, which may be nil, hears of the draft that is there, and
// may change its names.
func drafted(ctx context.Context, r *Recorded, o derive.Options, env *derive.Env, reveal bool, save func(*derive.Draft) (string, error)) (*Derived, error) {
	o.Hide = !reveal
	var draft *derive.Draft
	var proof *derive.Proof
	var err error
	if env == nil {
		draft, err = derive.From(r.Exchanges, o)
	} else {
		draft, proof, err = derive.Prove(ctx, r.Exchanges, o, *env)
	}
	if errors.Is(err, derive.ErrNothing) {
		return nil, &flow.Error{Status: 422, Reason: ReasonDerived, Detail: "The flows have no request to make a macro of.", Next: "Record the login itself, in a private window."}
	}
	if err != nil {
		return nil, err
	}
	saved := ""
	if save != nil && (proof == nil || proof.Proved) {
		if saved, err = save(draft); err != nil {
			return nil, err
		}
	}
	out := &Derived{Version: 1, Saved: saved, Macro: draft.Name, Identity: draft.Identity(), Env: []string{}, Flows: r.IDs, Report: ShowDerivation(draft, proof, r.Lost)}
	text, secrets := []byte(nil), map[string]string(nil)
	if reveal {
		text, err = draft.YAML()
	} else {
		text, secrets, err = draft.HiddenYAML()
		out.Env = append(out.Env, slices.Sorted(maps.Keys(secrets))...)
	}
	if err != nil {
		return nil, internal("a macro that is no YAML")
	}
	if out.Text = string(text); !reveal {
		var hidden int
		if out.Text, hidden = withoutSecrets(out.Text, r.Exchanges); hidden > 0 {
			out.Report.Lost = append(out.Report.Lost, fmt.Sprintf("%d values that look like secrets stand in the text as ***; reveal shows them", hidden))
		}
	}
	return out, nil
}

// withoutSecrets takes out of a text what fields of the recorded heads say is a
// secret, and tells how many values these were.
func withoutSecrets(text string, all []convert.Exchange) (string, int) {
	h := &flowSecrets{}
	for i := range all {
		h.take(all[i].Request, all[i].Response)
	}
	hidden := 0
	slices.SortFunc(h.values, func(a, b string) int { return len(b) - len(a) })
	for _, value := range h.values {
		if strings.Contains(text, value) {
			text = strings.ReplaceAll(text, value, hiddenValue)
			hidden++
		}
	}
	return text, hidden
}

func deriveMacro(ctx context.Context, d *Desk, p *deriveParams) (*Run, error) {
	if err := d.mayReveal(p.Reveal); err != nil {
		return nil, err
	}
	if err := bounded(p.Values); err != nil {
		return nil, err
	}
	save, err := d.saving(p.Save, p.Name, p.Identity)
	if err != nil {
		return nil, err
	}
	r, err := d.recorded(ctx, &p.FlowsChoice)
	if err != nil {
		return nil, err
	}
	o := derive.Options{Name: p.Name, Values: p.Values, KeepAll: p.All}
	return d.runs.start("macro.derive", "", p.Name, func(ctx context.Context, run *Run) error {
		var env *derive.Env
		if p.Prove {
			env = d.proving(!p.All)
		}
		var err error
		run.secret = p.Reveal
		if run.Derived, err = drafted(ctx, r, o, env, p.Reveal, save); err != nil {
			return err
		}
		if proved := run.Derived.Report.Proved; proved != nil && !*proved {
			return &flow.Error{Status: 409, Reason: ReasonDerived, Detail: "The macro was made, and does not run twice.", Next: "See findings in the report for the step and the place."}
		}
		return nil
	})
}

// proving is how a macro is proved by this Holdfast.
func (d *Desk) proving(drop bool) *derive.Env {
	return &derive.Env{Send: session.Telling(d.proxy.Sender()), Now: time.Now, NewID: d.proxy.NewID, Drop: drop}
}

func bounded(inputs map[string]string) error {
	if len(inputs) > maxInputs {
		return invalid(fmt.Sprintf("There are %d values; %d may be.", len(inputs), maxInputs), "Leave out what is not used.")
	}
	for name, value := range inputs {
		if len(name) > maxInput || len(value) > maxInput {
			return invalid(fmt.Sprintf("A value has more than %d bytes.", maxInput), "Shorten it.")
		}
	}
	return nil
}
