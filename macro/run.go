package macro

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// maxRetryAfter bounds what an origin can ask for: a day.
const maxRetryAfter = 24 * time.Hour

// Produces are the tokens that the macro's extractions bring, each once.
func (m *Macro) Produces() []string {
	var tokens []string
	if m.Browser != nil {
		for _, s := range m.Browser.Take {
			tokens = append(tokens, s.Token)
		}
	}
	for i := range m.Steps {
		for _, token := range m.Steps[i].tokens() {
			if !slices.Contains(tokens, token) {
				tokens = append(tokens, token)
			}
		}
	}
	return tokens
}

// Run sends the steps in order. Errors are *StepError; a cancelled context is
// one of Kind Transport that wraps the context's error.
func (m *Macro) Run(ctx context.Context, env Env) (*Result, error) {
	if m.Browser != nil {
		return m.browse(ctx, env)
	}
	if env.Next == nil {
		n := uint64(0)
		env.Next = func() uint64 { n++; return n }
	}
	r := &run{ctx: ctx, env: env, macro: m, values: make(map[string]string), own: make(map[*Step]map[string]string)}
	for i := range m.Steps {
		if err := r.step(i); err != nil {
			err.Macro, err.Step = m.Name, i+1
			err.Partial, err.Steps = r.partial(), r.steps
			return nil, err
		}
	}
	return &Result{Values: r.values, Steps: r.steps}, nil
}

// run is one run of a macro.
type run struct {
	ctx    context.Context
	env    Env
	macro  *Macro
	values map[string]string           // extracted so far
	own    map[*Step]map[string]string // what each step extracted
	used   []string                    // variables in requests that were sent
	totp   string                      // of this step
	ahead  *time.Duration              // of our clock the origin's is, as far as is known
	drawn  map[string]string           // what was made up for this run: see special
	steps  []StepResult
}

// partial is what must be kept of a run that failed: new values of variables
// that its requests used. The origin may have spent the old ones.
func (r *run) partial() map[string]string {
	partial := make(map[string]string)
	for name, value := range r.values {
		if slices.Contains(r.used, name) {
			partial[name] = value
		}
	}
	if len(partial) == 0 {
		return nil
	}
	return partial
}

// step runs one step.
func (r *run) step(index int) *StepError {
	s := &r.macro.Steps[index]
	if err := r.pause(s.Wait); err != nil {
		return &StepError{Kind: Transport, Want: "an answer", Got: "the end of the run", Cause: err}
	}
	if s.Script != nil {
		return r.scriptStep(s)
	}
	if s.Request == nil {
		return r.local(index)
	}
	if e := r.code(s); e != nil {
		return e
	}
	var e *StepError
	pause, waited := time.Duration(0), time.Duration(0)
	if s.Repeat != nil {
		pause = s.Repeat.Every
	}
	for more := true; more; {
		e = r.request(s)
		if e != nil && e.Kind != Rejected && e.Kind != Transient {
			break
		}
		var late *StepError
		if more, late = r.again(s, &pause, &waited); late != nil {
			e = late
		}
	}
	if e == nil {
		return nil
	}
	if n := len(r.steps); n > 0 && e.Status != 0 && e.Status/100 != 3 {
		e.Excerpt = r.excerpt(&r.steps[n-1])
	}
	return e
}

// pause waits before a step.
func (r *run) pause(d time.Duration) error {
	if err := r.ctx.Err(); err != nil || d <= 0 {
		return err
	}
	if r.env.Wait != nil {
		return r.env.Wait(r.ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// request sends the request of a step, follows redirects where it is to, and
// judges the last answer.
func (r *run) request(s *Step) *StepError {
	built, err := s.Request.Build(r.lookup)
	if err != nil {
		var e *BuildError
		if errors.As(err, &e) && len(e.Missing) > 0 {
			return &StepError{Kind: MissingVariable, Want: "values for the request's variables", Got: e.Error()}
		}
		return &StepError{Kind: Malformed, Want: "a request that can be sent", Got: err.Error()}
	}
	if r.env.First != nil && len(r.used) == 0 && len(r.steps) == 0 {
		r.env.First(built)
		built.recount()
	}
	var auth *flow.Auth
	if s.Auth != nil {
		var missing []string
		if auth, missing = s.Auth.Fill(r.lookup); auth == nil {
			return &StepError{Kind: MissingVariable, Want: "values for the variables of auth", Got: "no value for " + strings.Join(missing, ", ")}
		}
		r.used = append(r.used, s.Auth.Names()...)
	}
	origin := built.Origin
	r.used = append(r.used, s.Request.names()...)
	first := len(r.steps)
	chain := &chain{run: r, step: s, plain: built.Request.Clone()}
	for {
		f := r.flow(built, s.BareRequest)
		f.ShownPath = r.shownPath(s.Request, built, chain.hop)
		if built.Origin == origin {
			f.Auth = auth
		}
		if chain.repeats(f, built.Body) {
			return chain.failed("redirects that do not go round")
		}
		answer, err := r.send(f)
		f.End(r.env.Now(), err)
		if err != nil {
			return &StepError{Kind: Transport, Hop: chain.hop, Want: "an answer", Got: "none", Cause: err}
		}
		if !s.BareAnswer {
			r.keepCookies(f)
		}
		r.noteClock(&answer)
		answer.Step = slices.IndexFunc(r.macro.Steps, func(x Step) bool { return x.Request == s.Request }) + 1
		answer.Sent = built.Body
		r.steps = append(r.steps, answer)
		next, e := chain.next(built, &r.steps[len(r.steps)-1])
		if e != nil {
			return e
		}
		if next == nil {
			return r.conclude(s, built, r.steps[first:], chain.hop)
		}
		built = next
	}
}

// conclude takes the tokens out of a step's answers, and judges the last.
func (r *run) conclude(s *Step, b *Built, answers []StepResult, hop int) *StepError {
	answer := &answers[len(answers)-1]
	answer.Values = make(map[string]string)
	var lacking, differs *Extraction
	var scriptError error
	for i := range s.Extract {
		x := &s.Extract[i]
		value, ok := extractFrom(x.Source, answers)
		if x.Source.Script != nil {
			var failed error
			if value, ok, failed = r.extractScript(x.Source.Script, b, answer); failed != nil && scriptError == nil && !x.Optional {
				scriptError = failed
			}
		}
		switch {
		case ok && x.Equals != nil && !r.equals(x.Equals, value):
			differs = x
		case ok:
			answer.Values[x.Token] = value
		case !x.Optional && lacking == nil:
			lacking = x
		}
	}
	maps.Copy(r.values, answer.Values)
	r.own[s] = answer.Values
	e := r.judge(s, b, answer, lacking)
	if e == nil && differs != nil {
		e = &StepError{Kind: Rejected, Status: answer.Response.Status(), Got: describe(answer),
			Want: fmt.Sprintf("token %s from %s to be %s", differs.Token, differs.Source, differs.Equals)}
	}
	if e != nil {
		e.Hop = hop
	}
	if e != nil && scriptError != nil {
		e.Cause = scriptError
	}
	return e
}

// equals compares without telling how far two values agree by the time it
// takes.
func (r *run) equals(t *rule.Template, value string) bool {
	want, missing := t.Expand(r.lookup)
	return len(missing) == 0 && subtle.ConstantTimeCompare([]byte(want), []byte(value)) == 1
}

// extractFrom takes a value out of the answers of a step: out of the last, and
// where the place is in the head, such as Location, out of the redirects before
// it, the latest first.
func extractFrom(source *rule.Source, answers []StepResult) (string, bool) {
	for i := len(answers) - 1; i >= 0; i-- {
		a := &answers[i]
		if v, ok := source.Extract(a.Flow.Request, a.Response, a.Body); ok {
			return v, true
		}
		if source.NeedsBody() || source.FromRequest() {
			break
		}
	}
	return "", false
}

// shownPath is the path for traces: what came from variables stands there by
// name, since it may be a password. The variable that the target begins with is
// the origin's address and stays.
func (r *run) shownPath(t *RequestTemplate, b *Built, hop int) string {
	path := string(b.Request.Path())
	if hop > 0 {
		return r.veil(path) // the origin made it up
	}
	for i, part := range t.target.Parts() {
		if i == 0 || part.Name == "" {
			continue
		}
		if value, ok := r.lookup(part.Name); ok && value != "" {
			written := string(part.Encoding.Append(nil, value))
			path = strings.ReplaceAll(path, written, part.Text)
		}
	}
	return path
}

// flow is the flow of a request, with the jar's cookies unless it is bare.
func (r *run) flow(b *Built, bare bool) *flow.Flow {
	f := &flow.Flow{Tool: flow.ToolMacro, Identity: r.env.Identity, Origin: b.Origin, Start: r.env.Now(),
		Received: b.Request, Request: b.Request}
	if r.env.NewID != nil {
		f.ID = r.env.NewID()
	}
	f.Stamp.Sequence = r.env.Next()
	if len(b.Body) > 0 {
		f.RequestBody = wire.BytesBody(wire.Framing{Kind: wire.Length, Length: int64(len(b.Body))}, b.Body)
	}
	if r.env.Jar != nil && !bare {
		addCookies(b.Request, r.env.Jar.Cookies(address(f), f.Start))
	}
	return f
}

func address(f *flow.Flow) jar.URL {
	return jar.URL{Secure: f.Origin.TLS, Host: f.Origin.Host, Path: string(f.Request.Path())}
}

// addCookies puts the jar's cookies behind those that the template's first
// Cookie line names; what the template says wins.
func addCookies(req *wire.Request, cookies []jar.Cookie) {
	value, _ := req.Get("Cookie")
	line := string(value)
	// The jar holds no cookie with a control character (RFC 6265bis §5.6), so
	// the edit cannot fail.
	if text, _ := jar.Merge(line, cookies, jar.Policy{Mode: jar.ClientWins}); text != line {
		_ = req.Set("Cookie", text)
	}
}

// send has the flow sent and reads the answer's body.
func (r *run) send(f *flow.Flow) (StepResult, error) {
	answer := StepResult{Flow: f}
	err := r.env.Send(r.ctx, f)
	if f.Upgraded != nil {
		err = errors.Join(err, f.Upgraded.Close())
	}
	if err == nil && f.Response == nil {
		err = errors.New("internal error: sent without an error and without an answer")
	}
	if f.ResponseBody != nil {
		defer f.ResponseBody.Close()
	}
	if err != nil {
		return answer, err
	}
	answer.Response = f.Response
	if f.ResponseBody == nil {
		return answer, nil
	}
	payload, cut, err := readPayload(r.ctx, f.ResponseBody)
	if err != nil {
		return answer, fmt.Errorf("the answer's body broke off: %w", err)
	}
	answer.Body, answer.Cut = payload, cut
	if f.Response.Has("Content-Encoding") {
		decoded, err := wire.DecodeContent(f.Response.Combined("Content-Encoding"), payload, MaxBody)
		switch {
		case err == nil:
			answer.Body = decoded
		case errors.Is(err, wire.ErrTooLarge), cut && len(decoded) > 0:
			answer.Body, answer.Cut = decoded, true
		}
		// Else the header lies or names what nobody knows: the body stays
		// as it came, which is what the condition and the sources see.
	}
	return answer, nil
}

// readPayload reads up to MaxBody bytes without the chunks around them.
func readPayload(ctx context.Context, body wire.Body) (payload []byte, cut bool, err error) {
	p := wire.Payload(body)
	for {
		piece, err := p.Next()
		if len(payload)+len(piece) > MaxBody {
			return append(payload, piece[:MaxBody-len(payload)]...), true, nil
		}
		payload = append(payload, piece...)
		switch {
		case err == io.EOF:
			return payload, false, nil
		case err != nil:
			return payload, false, err
		case ctx.Err() != nil:
			return payload, false, ctx.Err()
		}
	}
}

// keepCookies gives the answer's cookies to the jar, whatever the answer is
// otherwise worth, as a browser would.
func (r *run) keepCookies(f *flow.Flow) {
	if r.env.Jar == nil {
		return
	}
	var set [][]byte
	for i := range f.Response.NumFields() {
		if name, value := f.Response.Field(i); strings.EqualFold(string(name), "Set-Cookie") {
			set = append(set, value)
		}
	}
	if len(set) > 0 {
		r.env.Jar.SetFromResponse(address(f), set, r.env.Now(), f.Stamp.Sequence)
	}
}

// judge says whether the answer is the one that was wanted.
func (r *run) judge(s *Step, b *Built, answer *StepResult, lacking *Extraction) *StepError {
	status := answer.Response.Status()
	e := &StepError{Kind: Rejected, Status: status, Got: describe(answer)}
	want, ok := "a status below 400", status < 400
	if s.Expect != nil {
		want = s.Expect.String()
		record := &flow.Record{Flow: answer.Flow, RequestBody: b.Body, RequestPresence: httpql.Known,
			ResponseBody: answer.Body, ResponsePresence: httpql.Known, Roundtrip: answer.Flow.Ended.Sub(answer.Flow.Start)}
		if answer.Cut {
			record.ResponsePresence = httpql.Pending
		}
		ok = s.Expect.Match(record) == httpql.True
	}
	if !ok {
		e.Want = want
		if status == 429 || status == 502 || status == 503 || status == 504 {
			e.Kind, e.RetryAfter = Transient, retryAfter(answer.Response, r.env.Now())
		}
		return e
	}
	if lacking != nil {
		e.Want = fmt.Sprintf("token %s from %s", lacking.Token, lacking.Source)
		return e
	}
	return nil
}

// describe tells what came without telling secrets: a Location's query can
// hold a code or a token.
func describe(answer *StepResult) string {
	s := "status " + strconv.Itoa(answer.Response.Status())
	if location, ok := answer.Response.Get("Location"); ok {
		place, _, _ := strings.Cut(string(location), "?")
		place, _, _ = strings.Cut(place, "#")
		s += " to " + place
	}
	if answer.Cut {
		s += fmt.Sprintf(" with a body of more than %d MiB", MaxBody>>20)
	}
	return s
}

// retryAfter reads seconds or a date (RFC 9110 §10.2.3).
func retryAfter(resp *wire.Response, now time.Time) time.Duration {
	value, _ := resp.Get("Retry-After")
	text := strings.TrimSpace(string(value))
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		return min(max(0, time.Duration(n)*time.Second), maxRetryAfter)
	}
	if t, err := time.Parse(time.RFC1123, text); err == nil {
		return min(max(0, t.Sub(now)), maxRetryAfter)
	}
	return 0
}
