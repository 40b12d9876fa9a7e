package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/internal/leak"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/wire"
)

func TestMain(m *testing.M) { leak.Main(m) }

// origin is an origin in memory whose sessions die: POST /login gives a token,
// everything else wants it in Authorization. on takes a path out of that.
type origin struct {
	mu     sync.Mutex
	token  string // the live one; "" when none is
	logins int
	sent   []string // "METHOD /path authorization", in order of arrival

	on map[string]func(ctx context.Context, f *flow.Flow) error
}

func newOrigin() *origin {
	return &origin{on: make(map[string]func(context.Context, *flow.Flow) error)}
}

func authorization(f *flow.Flow) string {
	v, _ := f.Request.Get("Authorization")
	return strings.TrimPrefix(string(v), "Bearer ")
}

// send is the end of the pipeline, and what macros are sent with.
func (o *origin) send(ctx context.Context, f *flow.Flow) error {
	path := string(f.Request.Path())
	o.mu.Lock()
	o.sent = append(o.sent, string(f.Request.Method())+" "+path+" "+authorization(f))
	special := o.on[path]
	o.mu.Unlock()
	if special != nil {
		return special(ctx, f)
	}
	if path == "/login" {
		return o.login(f)
	}
	return o.protected(f)
}

func (o *origin) login(f *flow.Flow) error {
	o.mu.Lock()
	o.logins++
	o.token = fmt.Sprintf("token-%d", o.logins)
	token := o.token
	o.mu.Unlock()
	return answer(f, 200, `{"access":"`+token+`"}`)
}

func (o *origin) protected(f *flow.Flow) error {
	if !o.isLive(f) {
		return answer(f, 401, "who are you?")
	}
	return answer(f, 200, "welcome")
}

func (o *origin) isLive(f *flow.Flow) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.token != "" && authorization(f) == o.token
}

func (o *origin) kill() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.token = ""
}

func (o *origin) loginCount() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.logins
}

// handle has a path answered by fn.
func (o *origin) handle(path string, fn func(ctx context.Context, f *flow.Flow) error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.on[path] = fn
}

func (o *origin) count(line string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.sent {
		if strings.HasPrefix(s, line) {
			n++
		}
	}
	return n
}

// answer sets a response; extra are header lines.
func answer(f *flow.Flow, status int, body string, extra ...string) error {
	return answerWith(f, status, wire.BytesBody(wire.Framing{Kind: wire.Length, Length: int64(len(body))}, []byte(body)),
		append(extra, fmt.Sprintf("Content-Length: %d", len(body)))...)
}

func answerWith(f *flow.Flow, status int, body wire.Body, extra ...string) error {
	head := fmt.Sprintf("HTTP/1.1 %d Text\r\n", status)
	for _, line := range extra {
		head += line + "\r\n"
	}
	resp, err := wire.ParseResponse([]byte(head + "\r\n"))
	if err != nil {
		return err
	}
	f.Response, f.ResponseBody = resp, body
	return nil
}

// step is a macro of one request; what is between the words of extract is
// "TOKEN json.path".
func step(t testing.TB, name, request string, extract ...string) *macro.Macro {
	t.Helper()
	return &macro.Macro{Name: name, Steps: []macro.Step{oneStep(t, request, extract...)}}
}

func oneStep(t testing.TB, request string, extract ...string) macro.Step {
	t.Helper()
	template, err := macro.ParseRequest(request, false)
	if err != nil {
		t.Fatal(err)
	}
	s := macro.Step{Request: template}
	for _, x := range extract {
		token, path, _ := strings.Cut(x, " ")
		source := &rule.Source{Type: rule.SourceJSON, Path: path}
		if err := source.Compile(); err != nil {
			t.Fatal(err)
		}
		s.Extract = append(s.Extract, macro.Extraction{Token: token, Source: source})
	}
	return s
}

func loginMacro(t testing.TB) *macro.Macro {
	return step(t, "login", "POST http://o/login HTTP/1.1\n\n", "ACCESS access")
}

// bearer is a rule for everything: 401 is dead, ACCESS goes to Authorization.
func bearer(t testing.TB, change ...func(*rule.Rule)) rule.Rule {
	t.Helper()
	r := rule.Rule{Name: "bearer", Enabled: true, Recovery: []string{"login"}, Updates: []rule.Update{{
		Token: "ACCESS", Target: header("Authorization")}}}
	r.Dead = check(t, rule.CheckStatusCode, 401)
	for _, c := range change {
		c(&r)
	}
	return r
}

func header(name string) *rule.Target {
	return &rule.Target{Type: rule.TargetRequestHeader, Name: name}
}

// setup is a session.Config under construction.
type setup struct {
	session.Config
	rules   []rule.Rule
	globals rule.Globals
}

func newSetup(t testing.TB, o *origin, rules ...rule.Rule) *setup {
	return &setup{Config: session.Config{Send: o.send, Macros: []*macro.Macro{loginMacro(t)}, Feed: session.Feed{Ruled: true}}, rules: rules,
		globals: rule.Globals{AutoExtract: true, AutoInject: true}}
}

// proxy is an engine before an origin.
type proxy struct {
	t       testing.TB
	engine  *session.Engine
	handler flow.Handler
}

func (s *setup) start(t testing.TB, o *origin) *proxy {
	t.Helper()
	set, err := rule.Compile(s.rules, s.globals)
	if err != nil {
		t.Fatal(err)
	}
	s.Rules = set
	e, err := session.New(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return &proxy{t: t, engine: e, handler: e.Direct(e.Stage(o.send))}
}

func startBearer(t testing.TB, o *origin, change ...func(*rule.Rule)) *proxy {
	return newSetup(t, o, bearer(t, change...)).start(t, o)
}

// newFlow is a request of a client; head is its request line and header lines.
func newFlow(t testing.TB, head string, body wire.Body) *flow.Flow {
	t.Helper()
	req, err := wire.ParseRequest([]byte(strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	return &flow.Flow{Tool: flow.ToolProxy, Origin: flow.Origin{Host: "o", Port: 80}, Start: time.Now(),
		Received: req, Request: req, RequestBody: body}
}

// result is what a client got.
type result struct {
	status int
	body   string
	failed *flow.Error
	err    error
	flow   *flow.Flow
}

func (r result) String() string {
	if r.err != nil {
		return fmt.Sprintf("error %v", r.err)
	}
	return fmt.Sprintf("%d %q", r.status, r.body)
}

func (r result) traced(text string) bool {
	for _, e := range r.flow.Trace.Events {
		if strings.Contains(e.Action+" "+e.Detail, text) {
			return true
		}
	}
	return false
}

func (p *proxy) get(path string) result { return p.do("GET " + path + " HTTP/1.1\nHost: o") }

func (p *proxy) do(head string) result {
	return p.deliver(context.Background(), newFlow(p.t, head, nil))
}

// deliver takes a flow through the engine and reads the answer to its end.
func (p *proxy) deliver(ctx context.Context, f *flow.Flow) result {
	err := p.handler(ctx, f)
	r := result{flow: f, err: err}
	errors.As(err, &r.failed)
	if err != nil {
		if f.ResponseBody != nil {
			f.ResponseBody.Close()
		}
		f.End(time.Now(), err)
		return r
	}
	r.status = f.Response.Status()
	if f.ResponseBody != nil {
		raw, err := readAll(f.ResponseBody)
		r.body, r.err = string(raw), err
	}
	f.End(time.Now(), r.err)
	return r
}

func readAll(b wire.Body) (raw []byte, err error) {
	for {
		piece, err := b.Next()
		raw = append(raw, piece...)
		if err == io.EOF {
			return raw, nil
		}
		if err != nil {
			b.Close()
			return raw, err
		}
	}
}

// want fails the test unless the client got that status.
func (p *proxy) want(r result, status int) {
	p.t.Helper()
	if r.err != nil || r.status != status {
		p.t.Errorf("got %v; want %d. Trace: %+v", r, status, r.flow.Trace.Events)
	}
}

func check(t testing.TB, kind string, value any) *httpql.Query {
	t.Helper()
	q, err := rule.Check(kind, value)
	if err != nil {
		t.Fatal(err)
	}
	return q
}
