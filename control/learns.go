package control

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/learn"
	"github.com/holdfast-proxy/holdfast/macro/derive"
)

// Reasons of errors of learning.
const (
	ReasonLearn  = "not_learnt" // nothing could be learnt, or the session is not held
	ReasonDoctor = "not_held"   // the session is not held
)

// Learnt is a configuration that was made of flows.
type Learnt struct {
	Version int           `json:"v" doc:"Of this shape: 1."`
	Text    string        `json:"text" doc:"The configuration. Credentials stand there as ${env:NAME}, unless they are revealed."`
	Env     []string      `json:"env" nullable:"false" doc:"Names of the variables of the environment that the text reads: what the recording had there."`
	Flows   []int64       `json:"flows" nullable:"false" doc:"Of the history, that it was made of."`
	Lost    []string      `json:"lost" nullable:"false" doc:"What of the flows could not be carried over, and what of the text is hidden."`
	Report  *learn.Report `json:"report"`
}

type learnBounds struct {
	MaxRequests int `json:"max_requests,omitempty" minimum:"1" maximum:"10000" doc:"How many requests are sent at most to find out; 150 when absent."`
	Rate        int `json:"rate,omitempty" minimum:"1" maximum:"1000" doc:"How many requests are sent in a second at most; 10 when absent."`
}

type learnParams struct {
	FlowsChoice
	Base     string `json:"base,omitempty" maxLength:"1024" doc:"URL of the application, where the flows have several; the one that is used most after the login when absent."`
	User     string `json:"user,omitempty" maxLength:"1024" doc:"The name that was typed, where its field does not tell."`
	Password string `json:"password,omitempty" maxLength:"1024" doc:"The password that was typed, likewise."`
	Writes   bool   `json:"writes,omitempty" doc:"Send one recorded write, to prove its CSRF token."`
	Reveal   bool   `json:"reveal,omitempty" doc:"Write credentials into the configuration, where Holdfast was started with --reveal-secrets."`
	learnBounds
}

type doctorParams struct {
	Rule string `json:"rule,omitempty" maxLength:"256" doc:"The rule that is examined; the first that is on and recovers when absent."`
	OfIdentity
	URL string `json:"url,omitempty" maxLength:"4096" doc:"A URL that needs the session, asked by GET; what the rule's confirm or probe macro asks when absent."`
	learnBounds
}

func learnOperations() []Operation {
	return []Operation{
		of(Operation{Name: "learn", Doc: "Make a working configuration of a recorded login in the history, by asking the application, and prove that it holds the session. Recorded writes are not sent, save those of the login.", Danger: Change, Foreign: true, Reveals: true, Runs: true,
			Method: "POST", Path: "/learn", Tool: "learn.run", Command: "learn"}, learnFlows),
		of(Operation{Name: "doctor", Doc: "Prove that the configuration holds its session, or say why not: another Holdfast logs in, has its session spoilt, and must recover. It is really sent.", Danger: Change, Foreign: true, Runs: true,
			Method: "POST", Path: "/doctor", Tool: "doctor.examine", Command: "doctor"}, examine),
	}
}

func learnFlows(ctx context.Context, d *Desk, p *learnParams) (*Run, error) {
	if err := d.mayReveal(p.Reveal); err != nil {
		return nil, err
	}
	r, err := d.recorded(ctx, &p.FlowsChoice)
	if err != nil {
		return nil, err
	}
	o := learn.Options{Base: p.Base, User: p.User, Password: p.Password, InlineSecrets: p.Reveal, Writes: p.Writes, MaxRequests: p.MaxRequests, Rate: float64(p.Rate),
		Proxy: d.proxy.Another()}
	return d.runs.start("learn", "", "", func(ctx context.Context, run *Run) error {
		o.Progress = run.say
		learnt, err := Learn(ctx, r, o)
		run.Learnt, run.secret = learnt, p.Reveal
		if learnt != nil {
			run.Requests = learnt.Report.Requests
		}
		return err
	})
}

// Learn makes a configuration of flows. Unless o says that secrets stand in it,
// none of the recording do. It is there also where the error says that the session
// is not held. Errors are ReasonLearn, or that of ctx.
func Learn(ctx context.Context, r *Recorded, o learn.Options) (*Learnt, error) {
	o.Hide = !o.InlineSecrets
	result, err := learn.Run(ctx, r.Exchanges, o)
	if result == nil {
		return nil, unlearnt(ctx, err)
	}
	out := &Learnt{Version: 1, Text: string(result.Config), Env: append([]string{}, slices.Sorted(maps.Keys(result.Env))...), Flows: r.IDs,
		Lost: append([]string{}, r.Lost...), Report: result.Report}
	if o.Hide {
		var hidden int
		if out.Text, hidden = withoutSecrets(out.Text, r.Exchanges); hidden > 0 {
			out.Lost = append(out.Lost, "values that look like secrets stand in the text as ***; reveal shows them")
		}
	}
	switch {
	case err != nil:
		return out, unlearnt(ctx, err)
	case !result.Report.Held:
		return out, &flow.Error{Status: 409, Reason: ReasonLearn, Detail: "A configuration was made, and does not hold the session.", Next: "See what of the report is not proved."}
	}
	return out, nil
}

func unlearnt(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	next := "Record the login and two or three pages that need it, in a private window."
	if errors.Is(err, derive.ErrNothing) {
		return &flow.Error{Status: 422, Reason: ReasonLearn, Detail: "The flows have no request to make a login of.", Next: next}
	}
	return &flow.Error{Status: 422, Reason: ReasonLearn, Detail: "It was not learnt: " + err.Error() + ".", Next: next, Cause: err}
}

func examine(_ context.Context, d *Desk, p *doctorParams) (*Run, error) {
	who, err := d.maybe(p.Identity)
	if err != nil {
		return nil, err
	}
	x := learn.Examination{Proxy: d.proxy.Another(), Rule: p.Rule, Identity: who, URL: p.URL, MaxRequests: p.MaxRequests, Rate: float64(p.Rate)}
	return d.runs.start("doctor", who, "", func(ctx context.Context, run *Run) error {
		x.Progress = run.say
		report, err := learn.Examine(ctx, x)
		if run.Examined = report; report != nil {
			run.Requests = report.Requests
		}
		switch {
		case err == nil && report.Held:
			return nil
		case err == nil:
			return &flow.Error{Status: 409, Reason: ReasonDoctor, Detail: "The session is not held.", Next: "See what of the report is not proved."}
		case ctx.Err() != nil:
			return ctx.Err()
		}
		return &flow.Error{Status: 422, Reason: ReasonDoctor, Detail: "It could not be examined: " + err.Error() + ".", Next: "Correct what is named.", Cause: err}
	})
}
