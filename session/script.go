package session

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/script"
	"github.com/holdfast-proxy/holdfast/wire"
)

// failure is an action that failed while the request was edited.
type failure struct {
	rule int
	err  error
}

// call is what a script sees of the exchange: nothing that it may change.
func (x *exchange) call(r *rule.Rule, p *script.Program) *script.Call {
	f, e := x.flow, x.engine
	c := &script.Call{Origin: f.Origin, Request: f.Request, Lookup: x.lookup, Jar: x.identity.jar, Now: e.now, Order: e.next,
		Log: func(line string) { x.note(r, flow.ActionLog, "script %s: %s", p.Name(), line) }}
	c.Redact = x.identity.redactor(func() []string { return credentialsOf(f) })
	c.RequestBody = &script.Body{Get: func() ([]byte, error) {
		if why := x.held.unedited(); why != "" {
			return nil, errors.New(why)
		}
		return x.message.Body, nil
	}}
	env := x.sessions[0].env()
	env.Scripts = macro.Scripting{}
	c.Fetch = func(ctx context.Context, request *script.Fetch) (*script.Answer, error) {
		return macro.Fetch(ctx, env, request, f.Origin)
	}
	return c
}

// runScript runs a script of a rule, and takes the variables that it sets.
func (x *exchange) runScript(ctx context.Context, p *script.Program, c *script.Call) (*script.Result, error) {
	result, err := x.engine.scripts.Run(ctx, p, c)
	if err != nil {
		return nil, err
	}
	x.identity.learn(result.Set, x.flow.Stamp.Sequence, x.engine.next)
	return result, nil
}

// script has a script change the request. One that fails changes nothing.
func (e *editor) script(p *script.Program) {
	x := e.x
	if x.next == nil {
		e.say(flow.ActionRun, "script %s runs before the request is sent", p.Name())
		return
	}
	f := x.flow
	before := *x.message.Request.Clone()
	body := x.message.Body
	c := x.call(e.rule, p)
	c.SetsVariables = true
	c.Keeps = func(place string) bool { return f.Keeps(place) || contains(e.places, place) }
	c.EditRequest = func() *wire.Request {
		x.message.Request = f.Edit()
		return x.message.Request
	}
	c.RequestBody.Set = func(b []byte) error {
		if why := x.held.unedited(); why != "" {
			return errors.New(why)
		}
		x.message.Body = b
		return nil
	}
	result, err := x.runScript(e.ctx, p, c)
	if err != nil {
		if f.Request != f.Received {
			before.CopyTo(f.Request)
		}
		x.message.Body = body
		x.failed = append(x.failed, failure{e.index, err})
		return
	}
	for _, what := range result.Edits {
		if strings.HasPrefix(what, "header ") {
			e.filled = append(e.filled, "header:"+strings.TrimPrefix(what, "header "))
		}
	}
	e.told(p, result)
}

// told writes into the trace what a script did.
func (e *editor) told(p *script.Program, result *script.Result) {
	did := slices.Clone(result.Edits)
	for name := range result.Set {
		did = append(did, "variable "+name)
	}
	slices.Sort(did[len(result.Edits):])
	if len(did) == 0 {
		e.say(flow.ActionKeep, "%s changed nothing", p.Name())
		return
	}
	e.say(flow.ActionInject, "%s changed %s", p.Name(), strings.Join(did, ", "))
}

// compute puts in what scripts compute from the request, when everything else
// is in it.
func (x *exchange) compute(ctx context.Context, places []string) {
	for at, r := range x.rules {
		for i := range r.Updates {
			u := &r.Updates[i]
			if !u.Computes() {
				continue
			}
			p := u.Target.Script
			e := editor{x: x, ctx: ctx, rule: r, index: at, action: "script " + p.Name(), places: places}
			if x.next == nil {
				e.say(flow.ActionRun, "it runs before the request is sent, for %s", u.Target.Place())
				continue
			}
			result, err := x.runScript(ctx, p, x.call(r, p))
			switch {
			case err != nil:
				x.failed = append(x.failed, failure{at, err})
				return
			case !result.Given:
				e.say(flow.ActionNote, "%s: it returned nothing, so nothing is put in", u.Target.Place())
				continue
			}
			if u.Target.InPath() {
				if x.flow.ShownPath == "" {
					x.flow.ShownPath = string(x.flow.Received.Path())
				}
				x.flow.ShownPath = u.Target.HidePath(x.flow.ShownPath)
			}
			e.put(u.Target, result.Value, u.Target.IfAbsent)
			places = append(places, e.filled...)
		}
	}
}

// scriptsFailed is what becomes of a request of which a script failed.
func (x *exchange) scriptsFailed() error {
	for _, one := range x.failed {
		if err := x.actionFailed(one.rule, one.err); err != nil {
			return err
		}
	}
	return nil
}

// answersScripts reports whether a script of the rules sees the answer before
// the client does.
func (x *exchange) answersScripts() bool {
	if x.acting == nil {
		return false
	}
	for _, r := range x.rules {
		for i := range r.Actions {
			if run := r.Actions[i].RunScript; run != nil && run.Response {
				return true
			}
		}
	}
	return false
}

// holdAnswer holds the answer's body back for a script.
func (x *exchange) holdAnswer(ctx context.Context, had *held) (*held, error) {
	f := x.flow
	if had != nil || f.Response == nil || f.ResponseBody == nil || f.Upgraded != nil || neverHeld(f.Response) != "" || !x.answersScripts() {
		return had, nil
	}
	return x.hold(ctx, x.engine.limits.JudgedBody)
}

// answerScripts runs the scripts that change the answer.
func (x *exchange) answerScripts(ctx context.Context) error {
	f := x.flow
	if f.Response == nil || f.Upgraded != nil || !x.answersScripts() {
		return nil
	}
	h, err := x.holdAnswer(ctx, nil)
	if err != nil {
		return err
	}
	for i, r := range x.rules {
		for j := range r.Actions {
			run := r.Actions[j].RunScript
			if run == nil || !run.Response || !x.acting.is(i, j) {
				continue
			}
			e := editor{x: x, ctx: ctx, rule: r, index: i, action: r.Actions[j].Name()}
			if err := e.answer(run.Script, h); err != nil {
				x.dropResponse()
				return err
			}
		}
	}
	return nil
}

// answer has a script change the answer. One that fails changes nothing.
func (e *editor) answer(p *script.Program, h *held) error {
	x := e.x
	f := x.flow
	before, body := f.Response, f.ResponseBody
	c := x.call(e.rule, p)
	c.SetsVariables = true
	c.Response = f.Response
	c.EditResponse = func() *wire.Response {
		if f.Response == before {
			f.Response = before.Clone()
		}
		return f.Response
	}
	payload, known, why := []byte(nil), x.replaced != nil, ""
	switch {
	case known:
		payload = x.replaced
	case body == nil:
	case h == nil:
		why = neverHeld(f.Response)
	case !h.complete:
		why = "it is larger than limits.judged_body, or did not end within limits.hold"
	default:
		payload = h.decoded(before, x.engine.limits.JudgedBody)
	}
	var now []byte
	c.ResponseBody = &script.Body{
		Get: func() ([]byte, error) {
			if why != "" {
				return nil, errors.New(why)
			}
			if now != nil {
				return now, nil
			}
			return payload, nil
		},
		Set: func(b []byte) error {
			if status := f.Response.Status(); string(f.Request.Method()) == "HEAD" || status == 204 || status == 304 {
				return errors.New("the answer cannot have a body")
			}
			now = append(make([]byte, 0, len(b)), b...)
			return nil
		},
	}
	result, err := x.runScript(e.ctx, p, c)
	if err != nil {
		f.Response = before
		return x.actionFailed(e.index, err)
	}
	if now != nil {
		if body != nil {
			drain(body, x.engine.limits.Hold) // which takes the tokens that are in it
		}
		resp := c.EditResponse()
		for _, name := range []string{"Content-Encoding", "Transfer-Encoding", "Content-Length", "Trailer"} {
			if name != "Content-Length" || len(now) == 0 || !resp.Has(name) {
				resp.Del(name)
			}
		}
		_ = resp.Set("Content-Length", fmt.Sprint(len(now))) // digits are safe
		x.replaced, f.ResponseBody = now, nil
		if len(now) > 0 {
			f.ResponseBody = wire.BytesBody(wire.Framing{Kind: wire.Length, Length: int64(len(now))}, now)
		}
	}
	e.told(p, result)
	return nil
}

// foundByScript is the value of a token's source that is a script.
func (x *exchange) foundByScript(r *rule.Rule, u *rule.Update, body []byte) (string, bool) {
	c := x.call(r, u.Source.Script)
	c.Response = x.flow.Response
	v, ok, err := x.engine.takes(x.engine.ctx, u.Source, c, body)
	if err != nil {
		x.note(r, flow.ActionNote, "token %s: its script failed: %v", u.Token, err)
	}
	return v, ok
}

// takes is the value of a source in an exchange, of a script too. The error is
// that of a script.
func (e *Engine) takes(ctx context.Context, s *rule.Source, c *script.Call, body []byte) (string, bool, error) {
	if s.Script == nil {
		value, ok := s.Extract(c.Request, c.Response, body)
		return value, ok, nil
	}
	c.ResponseBody = &script.Body{Get: func() ([]byte, error) { return body, nil }}
	result, err := e.scripts.Run(ctx, s.Script, c)
	if err != nil {
		return "", false, err
	}
	return result.Value, result.Given, nil
}

// takesStep is the value of a source in an answer to a macro.
func (s *session) takesStep(source *rule.Source, step *macro.StepResult) (string, bool) {
	e, n := s.engine, s.identity
	c := &script.Call{Origin: step.Flow.Origin, Request: step.Flow.Request, Response: step.Response, Lookup: n.lookup, Jar: n.jar,
		Now: e.now, Order: e.next, Redact: n.redactor(nil)}
	value, ok, err := e.takes(e.ctx, source, c, step.Body)
	if err != nil {
		e.warn("%s: a source is a script that failed: %v", s.title(), err)
	}
	return value, ok
}

// minSecret is how long a value is, in bytes, that is taken out of what
// scripts say; shorter ones would take out half of the words.
const minSecret = 3

// redactor takes the identity's variables, tokens and cookies out of a text,
// and what more lists, also where they are encoded. What is secret is looked up
// when it is first used.
func (n *identity) redactor(more func() []string) func(string) string {
	return func(text string) string {
		var secrets []string
		for _, v := range n.vars() {
			secrets = append(secrets, v)
		}
		for _, t := range *n.tokens.Load() {
			secrets = append(secrets, t.value)
		}
		for _, c := range n.jar.All() {
			secrets = append(secrets, c.Value)
		}
		if more != nil {
			secrets = append(secrets, more()...)
		}
		return redact(text, secrets)
	}
}

// redact takes secrets out of a text, the longest first.
func redact(text string, secrets []string) string {
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for _, s := range slices.Compact(secrets) {
		if len(s) < minSecret {
			continue
		}
		b := []byte(s)
		for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s), base64.StdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b),
			base64.RawStdEncoding.EncodeToString(b), hex.EncodeToString(b), string(rule.EncodeJSON.Append(nil, s)), string(rule.EncodeURL.Append(nil, s))} {
			text = strings.ReplaceAll(text, form, "***")
		}
	}
	return text
}

// credentialsOf are what a message carries that is secret by its place.
func credentialsOf(f *flow.Flow) (secrets []string) {
	add := func(value []byte) {
		secrets = append(secrets, string(value))
		if _, rest, ok := strings.Cut(string(value), " "); ok {
			secrets = append(secrets, rest) // without the scheme
		}
	}
	for _, req := range []*wire.Request{f.Received, f.Request} {
		if req == nil {
			continue
		}
		for i := range req.NumFields() {
			switch name, value := req.Field(i); strings.ToLower(string(name)) {
			case "authorization", "proxy-authorization":
				add(value)
			case "cookie":
				for _, c := range jar.Pairs(string(value)) {
					secrets = append(secrets, c.Value)
				}
			}
		}
	}
	if f.Response == nil {
		return secrets
	}
	for i := range f.Response.NumFields() {
		if name, value := f.Response.Field(i); strings.EqualFold(string(name), "set-cookie") {
			pair, _, _ := strings.Cut(string(value), ";")
			if _, v, ok := strings.Cut(pair, "="); ok {
				secrets = append(secrets, strings.TrimSpace(v))
			}
		}
	}
	return secrets
}
