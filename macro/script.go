package macro

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/script"
)

// Scripting is what scripts need from outside.
type Scripting struct {
	Runner *script.Runner // nil: a script is a failed step
	Redact func(string) string
	Log    func(line string) // nil drops what scripts log
}

var errNoScripts = errors.New("there is nothing here that runs scripts")

// call is what a script of the macro sees: of the last answer, or the one that
// is given.
func (r *run) call(answer *StepResult, body []byte) *script.Call {
	c := &script.Call{Lookup: r.lookup, Jar: r.env.Jar, Redact: r.env.Scripts.Redact, Log: r.env.Scripts.Log, Now: r.env.Now, Order: r.env.Next}
	if answer == nil {
		return c
	}
	c.Origin, c.Request, c.Response = answer.Flow.Origin, answer.Flow.Request, answer.Response
	c.RequestBody = &script.Body{Get: func() ([]byte, error) { return body, nil }}
	c.ResponseBody = &script.Body{Get: func() ([]byte, error) { return answer.Body, nil }}
	return c
}

// runScript runs a program.
func (r *run) runScript(p *script.Program, c *script.Call) (*script.Result, error) {
	if r.env.Scripts.Runner == nil {
		return nil, errNoScripts
	}
	return r.env.Scripts.Runner.Run(r.ctx, p, c)
}

// scriptStep runs a step that is a script. What it sets are values of the
// macro; what it fetches are answers of it.
func (r *run) scriptStep(s *Step) *StepError {
	var last *StepResult
	if n := len(r.steps); n > 0 {
		last = &r.steps[n-1]
	}
	c := r.call(last, nil)
	c.SetsVariables = true
	sent := len(r.steps)
	var unreached error
	c.Fetch = func(ctx context.Context, f *script.Fetch) (*script.Answer, error) {
		a, step, err := r.fetch(ctx, f, c.Origin)
		if err != nil {
			unreached = err
			return nil, err
		}
		r.steps = append(r.steps, *step)
		return a, nil
	}
	r.used = append(r.used, s.Script.Gets()...)
	result, err := r.runScript(s.Script, c)
	want := "script " + s.Script.Name() + " to end well"
	switch {
	case err != nil && unreached != nil:
		return &StepError{Kind: Transport, Want: want, Got: "no answer to its fetch", Cause: errors.Join(err, unreached)}
	case err != nil && len(r.steps) > sent:
		return &StepError{Kind: Rejected, Want: want, Got: "an error behind its fetch", Cause: err}
	case err != nil: // nothing was sent, so nobody has refused anything
		return &StepError{Kind: Malformed, Want: want, Got: "an error", Cause: err}
	case result.False:
		return &StepError{Kind: Rejected, Want: want, Got: "false"}
	}
	maps.Copy(r.values, result.Set)
	return nil
}

// extractScript is the value of a source that is a script.
func (r *run) extractScript(p *script.Program, b *Built, answer *StepResult) (string, bool, error) {
	result, err := r.runScript(p, r.call(answer, b.Body))
	if err != nil {
		return "", false, err
	}
	return result.Value, result.Given, nil
}

// Fetch sends a request of a script's own, as a step of a macro would be. base
// is the origin of a URL that begins with a slash.
func Fetch(ctx context.Context, env Env, f *script.Fetch, base flow.Origin) (*script.Answer, error) {
	r := &run{ctx: ctx, env: env}
	a, _, err := r.fetch(ctx, f, base)
	return a, err
}

func (r *run) fetch(ctx context.Context, f *script.Fetch, base flow.Origin) (*script.Answer, *StepResult, error) {
	target := f.URL
	if strings.HasPrefix(target, "/") && base.Host != "" {
		target = base.URL([]byte(target))
	}
	if strings.ContainsAny(target+f.Method, " \t\r\n\x00") || f.Method == "" {
		return nil, nil, errors.New("the URL or the method holds a space or a line end; encode it with encodeURIComponent")
	}
	target, _, _ = strings.Cut(target, "#")
	var lines [][]byte
	for _, h := range f.Headers {
		if h[0] == "" || strings.ContainsAny(h[0], ": \t\r\n\x00") || strings.ContainsAny(h[1], "\r\n\x00") {
			return nil, nil, errors.New("a header of the request holds a line end, or its name a space or a colon")
		}
		lines = append(lines, fmt.Appendf(nil, "%s: %s", h[0], h[1]))
	}
	b, failed := (&RequestTemplate{tls: true, version: "HTTP/1.1"}).assemble(f.Method, target, lines, f.Body)
	if failed != nil {
		return nil, nil, failed
	}
	one := run{ctx: ctx, env: r.env}
	if !f.Cookies {
		one.env.Jar = nil
	}
	sent := one.flow(b, !f.Cookies)
	sent.Tool = flow.ToolScript
	answer, err := one.send(sent)
	sent.End(r.env.Now(), err)
	if err != nil {
		return nil, nil, err
	}
	one.keepCookies(sent)
	return &script.Answer{URL: sent.Origin.URL(b.Request.Target()), Response: answer.Response, Body: answer.Body, Cut: answer.Cut}, &answer, nil
}
