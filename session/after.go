package session

import (
	"context"
	"fmt"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// afterwards runs the macro behind a request, where a rule says so. The rule
// is the last one that covers the request.
func (x *exchange) afterwards(ctx context.Context) error {
	i := len(x.rules) - 1
	r := x.rules[i]
	if len(r.Actions) == 0 {
		return nil
	}
	j := len(r.Actions) - 1
	a := r.Actions[j].RunPostMacro
	if a == nil {
		return nil
	}
	f := x.flow
	switch {
	case !x.acting.is(i, j):
		return nil // the trace says so
	case f.Response == nil || f.Upgraded != nil || f.PassedDead:
		x.note(r, flow.ActionKeep, "%s: not done: the answer is none to go on from", rule.ActionRunPostMacro)
		return nil
	}
	var first func(*macro.Built)
	if !a.Feed.None {
		var body []byte
		if f.ResponseBody != nil && neverHeld(f.Response) == "" {
			h, err := x.hold(ctx, x.engine.limits.JudgedBody)
			if err != nil {
				return err
			}
			body = h.decoded(f.Response, x.engine.limits.JudgedBody)
		}
		offers := rule.OffersOf(f.Origin.URL(f.Request.Target()), f.Response, body)
		first = func(b *macro.Built) { x.feed(r, a, offers, b) }
	}
	unlock, err := x.engine.runners.of(place{x.identity, r, j}).lock(ctx, false, x.engine.limits.Wait)
	if err == nil {
		defer unlock()
		err = x.post(ctx, i, a, first)
	}
	if err != nil && ctx.Err() == nil {
		if err = x.actionFailed(i, err); err == nil {
			return nil
		}
	}
	if err != nil {
		x.dropResponse()
	}
	return err
}

// post runs the macro, and hands its last answer to the client where it is to.
func (x *exchange) post(ctx context.Context, i int, a *rule.RunPostMacro, first func(*macro.Built)) error {
	r, f := x.rules[i], x.flow
	steps, _, err := x.runSteps(ctx, i, a.Macro, first)
	if err != nil {
		return err
	}
	x.note(r, flow.ActionRun, "%s: macro %s ran", rule.ActionRunPostMacro, a.Macro)
	if a.PassBack == rule.PassCurrent {
		return nil
	}
	if len(steps) == 0 {
		return fmt.Errorf("macro %q sent no request, so there is no answer to pass back", a.Macro)
	}
	final := &steps[len(steps)-1]
	if final.Cut {
		return fmt.Errorf("macro %q: its last answer is longer than %d MiB and cannot be passed back", a.Macro, macro.MaxBody>>20)
	}
	attempt := flow.Attempt{Request: f.Request, Response: f.Response, Stamp: f.Stamp, Reason: r.Actor() + ": " + rule.ActionRunPostMacro}
	if f.ResponseBody != nil {
		attempt.Body = x.drainEarlier()
	}
	f.Earlier = append(f.Earlier, attempt)
	f.Response, f.ResponseBody = whole(final, string(f.Request.Method()) == "HEAD")
	x.note(r, flow.ActionNote, "%s: the client gets the answer of the macro's last step (pass_back: final)", rule.ActionRunPostMacro)
	return nil
}

// whole is a step's answer with the decoded body that is left of it.
func whole(step *macro.StepResult, head bool) (*wire.Response, wire.Body) {
	resp := step.Response.Clone()
	for _, name := range []string{"Content-Encoding", "Transfer-Encoding", "Content-Length", "Trailer"} {
		resp.Del(name)
	}
	status := resp.Status()
	if status == 204 || status == 304 {
		return resp, nil
	}
	_ = resp.Set("Content-Length", fmt.Sprint(len(step.Body))) // digits are safe
	if head || len(step.Body) == 0 {
		return resp, nil
	}
	return resp, wire.BytesBody(wire.Framing{Kind: wire.Length, Length: int64(len(step.Body))}, step.Body)
}

// feed puts what the present answer offers into the macro's first request.
func (x *exchange) feed(r *rule.Rule, a *rule.RunPostMacro, offers *rule.Offers, b *macro.Built) {
	m := rule.Message{Request: b.Request, Body: b.Body}
	var fed []string
	for _, name := range offers.Names() {
		if !a.Feed.Has(name) {
			continue
		}
		value, _ := offers.Find(name, "", true)
		p := rule.NewParam(name)
		var buf [5]*rule.Target
		for _, t := range p.Present(&m, buf[:0]) {
			if changed, err := t.Inject(&m, value, nil); err != nil {
				x.note(r, flow.ActionNote, "%s: %s: %v", rule.ActionRunPostMacro, t.Place(), err)
			} else if changed {
				fed = append(fed, t.Place())
			}
		}
	}
	b.Body = m.Body
	if len(fed) == 0 {
		x.note(r, flow.ActionKeep, "%s: the answer offers no parameter that the macro's first request has", rule.ActionRunPostMacro)
		return
	}
	x.note(r, flow.ActionInject, "%s: %s of the macro's first request: *** is now ***", rule.ActionRunPostMacro, strings.Join(fed, ", "))
}

// recovered puts what a recovery brought into a request that waited for it.
func (e *editor) recovered(s *session, a *rule.CheckSession) {
	x := e.x
	if x.fresh != s {
		return
	}
	run := s.final.Load()
	switch {
	case run == nil && s.inBrowsers():
		e.cookies("", &a.Cookies)
		return
	case run == nil:
		return
	}
	e.offered(run.offers, nil, &a.Params, a.Tolerate, &a.Cookies)
}

// checkActions finds macros that do not exist, and what an action needs that
// this Holdfast has not.
func (e *Engine) checkActions(r *rule.Rule) error {
	for i := range r.Actions {
		a := &r.Actions[i]
		missing := func(key, name string) error {
			switch m := e.macros[name]; {
			case m != nil && m.Browser != nil:
				return fmt.Errorf("rule %q: actions[%d].%s.%s: %q is a login in a browser; name it in reauth_macro", r.Name, i, a.Name(), key, name)
			case m != nil:
				return nil
			}
			return fmt.Errorf("rule %q: there is no macro %q; add it under macros, or correct actions[%d].%s.%s", r.Name, name, i, a.Name(), key)
		}
		needs := func(what string) error {
			return fmt.Errorf("rule %q: actions[%d]: %s needs %s, which this Holdfast does not have; take the action out", r.Name, i, a.Name(), what)
		}
		var err error
		switch {
		case a.RunMacro != nil:
			err = missing("macro", a.RunMacro.Macro)
		case a.RunPostMacro != nil:
			err = missing("macro", a.RunPostMacro.Macro)
		case a.CheckSession != nil:
			if a.CheckSession.Probe == rule.ProbeMacro {
				err = missing("probe", a.CheckSession.Macro)
			}
			if err == nil && a.CheckSession.Browser && e.config.Browser == nil {
				err = needs("a browser")
			}
		case a.RecoverInBrowser != nil && e.config.Browser == nil:
			err = needs("a browser")
		case a.RecoverInBrowser != nil && a.RecoverInBrowser.Browser != "":
			if m := e.macros[a.RecoverInBrowser.Browser]; m == nil || m.Browser == nil {
				err = fmt.Errorf("rule %q: actions[%d].%s: there is no browser %q; add it under browsers", r.Name, i, a.Name(), a.RecoverInBrowser.Browser)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
