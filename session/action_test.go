package session_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/wire"
)

// heard keeps what the origin is sent at a path: head and body as one text.
type heard struct {
	mu   sync.Mutex
	sent []string
}

func (h *heard) take(f *flow.Flow) error {
	text := string(f.Request.Bytes())
	if f.RequestBody != nil {
		raw, err := readAll(f.RequestBody)
		if err != nil {
			return err
		}
		text += string(raw)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent = append(h.sent, strings.ReplaceAll(text, "\r\n", "\n"))
	return nil
}

func (h *heard) last() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.sent) == 0 {
		return ""
	}
	return h.sent[len(h.sent)-1]
}

// listen has a path keep what it is sent, and answer it with the cookies.
func (o *origin) listen(path string, cookies ...string) *heard {
	h := new(heard)
	o.handle(path, func(_ context.Context, f *flow.Flow) error {
		if err := h.take(f); err != nil {
			return err
		}
		var lines []string
		for _, c := range cookies {
			lines = append(lines, "Set-Cookie: "+c)
		}
		return answer(f, 200, "heard", lines...)
	})
	return h
}

// template is a value of an action.
func template(t testing.TB, text string) *rule.Template {
	t.Helper()
	out, err := rule.ParseTemplate(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// acts is a rule for everything with actions and nothing else.
func acts(actions ...rule.Action) rule.Rule {
	return rule.Rule{Name: "acts", Enabled: true, Actions: actions}
}

// request is a client's request with a body.
func request(t testing.TB, head, body string) *flow.Flow {
	t.Helper()
	if body == "" {
		return newFlow(t, head, nil)
	}
	head += fmt.Sprintf("\nContent-Length: %d", len(body))
	return newFlow(t, head, wire.BytesBody(wire.Framing{Kind: wire.Length, Length: int64(len(body))}, []byte(body)))
}

// editCase is a request and what is made of it.
type editCase struct {
	name   string
	action rule.Action
	head   string // behind the request line
	line   string // "" is GET /x
	body   string
	want   string // what the origin gets, from the first header on
	trace  string
}

func (c editCase) run(t *testing.T) {
	t.Helper()
	o := newOrigin()
	h := o.listen("/x")
	s := newSetup(t, o, acts(c.action))
	s.Variables = map[string]string{"KEY": "a&b c", "EMPTY": ""}
	p := s.start(t, o)
	line := c.line
	if line == "" {
		line = "GET /x HTTP/1.1"
	}
	r := p.deliver(context.Background(), request(t, line+"\nHost: o"+c.head, c.body))
	p.want(r, 200)
	if got := h.last(); got != c.want {
		t.Errorf("the origin got\n%s\nwant\n%s", got, c.want)
	}
	if !r.traced(c.trace) {
		t.Errorf("the trace does not say %q: %+v", c.trace, r.flow.Trace.Events)
	}
	for _, e := range r.flow.Trace.Events {
		if strings.Contains(e.Detail, "a&b c") || strings.Contains(e.Detail, "a%26b%20c") {
			t.Errorf("a value is in the trace: %+v", e)
		}
	}
}

func TestActionSetHeader(t *testing.T) {
	set := func(name, value, ifAbsent string) rule.Action {
		return rule.Action{SetHeader: &rule.SetHeader{Name: name, Value: template(t, value), IfAbsent: ifAbsent}}
	}
	for _, c := range []editCase{
		{name: "IfAbsentAdd", action: set("X-Api", "{{KEY}}", rule.IfAbsentAdd),
			want: "GET /x HTTP/1.1\nHost: o\nX-Api: a&b c\n\n", trace: "inject set_header: header:x-api was added: ***"},
		{name: "IfAbsentDefault", action: set("X-Api", "k", ""),
			want: "GET /x HTTP/1.1\nHost: o\nX-Api: k\n\n", trace: "was added"},
		{name: "IfAbsentSkip", action: set("X-Api", "{{KEY}}", rule.IfAbsentSkip),
			want: "GET /x HTTP/1.1\nHost: o\n\n", trace: "keep set_header: header:x-api is not in the request (if_absent: skip)"},
		{name: "Present", action: set("x-api", "v-{{KEY}}", rule.IfAbsentSkip), head: "\nX-API:  old\nB: 1",
			want: "GET /x HTTP/1.1\nHost: o\nX-API:  v-a&b c\nB: 1\n\n", trace: "inject set_header: header:x-api: *** is now ***"},
		{name: "Same", action: set("X-Api", "old", ""), head: "\nX-Api: old",
			want: "GET /x HTTP/1.1\nHost: o\nX-Api: old\n\n", trace: "keep set_header: header:x-api has the value already"},
		{name: "AuthorizationAsItIs", action: set("Authorization", "k", ""),
			want: "GET /x HTTP/1.1\nHost: o\nAuthorization: k\n\n", trace: "was added"},
		{name: "Empty", action: set("X-Api", "", ""), head: "\nX-Api: old",
			want: "GET /x HTTP/1.1\nHost: o\nX-Api: \n\n", trace: "is now"},
		{name: "MissingVariable", action: set("X-Api", "{{NOBODY}}", ""),
			want: "GET /x HTTP/1.1\nHost: o\n\n", trace: "note set_header: header:x-api: template: the variable NOBODY has no value"},
	} {
		t.Run(c.name, c.run)
	}
}

func TestActionSetParam(t *testing.T) {
	set := func(name, ifAbsent string, in ...string) rule.Action {
		return rule.Action{SetParam: &rule.SetParam{Name: name, Value: template(t, "{{KEY}}"), In: in, IfAbsent: ifAbsent}}
	}
	const form = "\nContent-Type: application/x-www-form-urlencoded"
	for _, c := range []editCase{
		{name: "InQuery", action: set("p", "", rule.InQuery), line: "GET /x?a=1&p=2&b HTTP/1.1",
			want: "GET /x?a=1&p=a%26b%20c&b HTTP/1.1\nHost: o\n\n", trace: "inject set_param: query:p: *** is now ***"},
		{name: "InQueryIfAbsentAdd", action: set("p", rule.IfAbsentAdd, rule.InQuery), line: "GET /x?a=1 HTTP/1.1",
			want: "GET /x?a=1&p=a%26b%20c HTTP/1.1\nHost: o\n\n", trace: "set_param: query:p was added"},
		{name: "InQueryIfAbsentSkip", action: set("p", rule.IfAbsentSkip, rule.InQuery), line: "GET /x?a=1 HTTP/1.1",
			want: "GET /x?a=1 HTTP/1.1\nHost: o\n\n", trace: "keep set_param: parameter p is not in the request (if_absent: skip)"},
		{name: "InCookie", action: set("p", "", rule.InCookie), head: "\nCookie: a=1;p=2; b=3",
			want: "GET /x HTTP/1.1\nHost: o\nCookie: a=1;p=a&b c; b=3\n\n", trace: "set_param: cookie:p: *** is now ***"},
		{name: "InCookieIfAbsentAdd", action: set("p", "", rule.InCookie),
			want: "GET /x HTTP/1.1\nHost: o\nCookie: p=a&b c\n\n", trace: "cookie:p was added"},
		{name: "InBodyForm", action: set("p", "", rule.InBody), line: "POST /x HTTP/1.1", head: form, body: "a=1&p=2",
			want: "POST /x HTTP/1.1\nHost: o" + form + "\nContent-Length: 15\n\na=1&p=a%26b%20c", trace: "form:p: *** is now ***"},
		{name: "InBodyFormIfAbsentAdd", action: set("p", "", rule.InBody), line: "POST /x HTTP/1.1", head: form, body: "a=1",
			want: "POST /x HTTP/1.1\nHost: o" + form + "\nContent-Length: 15\n\na=1&p=a%26b%20c", trace: "form:p was added"},
		{name: "InBodyJSON", action: set("p", "", rule.InBody), line: "POST /x HTTP/1.1", head: "\nContent-Type: application/json", body: `{"p": "2"}`,
			want: "POST /x HTTP/1.1\nHost: o\nContent-Type: application/json\nContent-Length: 14\n\n{\"p\": \"a&b c\"}", trace: "json:/p: *** is now ***"},
		{name: "InBodyMultipart", action: set("p", "", rule.InBody), line: "POST /x HTTP/1.1", head: "\nContent-Type: multipart/form-data; boundary=B",
			body:  "--B\r\nContent-Disposition: form-data; name=\"p\"\r\n\r\n2\r\n--B--\r\n",
			want:  "POST /x HTTP/1.1\nHost: o\nContent-Type: multipart/form-data; boundary=B\nContent-Length: 63\n\n--B\nContent-Disposition: form-data; name=\"p\"\n\na&b c\n--B--\n",
			trace: "is now"},
		{name: "InBodyThatIsNone", action: set("p", "", rule.InBody),
			want: "GET /x HTTP/1.1\nHost: o\n\n", trace: "its body is none that it can be added to"},
		{name: "WhereverItStands", action: set("p", ""), line: "GET /x?p=1 HTTP/1.1", head: "\nCookie: p=2",
			want: "GET /x?p=a%26b%20c HTTP/1.1\nHost: o\nCookie: p=a&b c\n\n", trace: "cookie:p: *** is now ***"},
		{name: "AddedToTheFirstPlace", action: set("p", "", rule.InCookie, rule.InQuery), line: "GET /x?a HTTP/1.1",
			want: "GET /x?a HTTP/1.1\nHost: o\nCookie: p=a&b c\n\n", trace: "cookie:p was added"},
		{name: "ANameThatNoCookieHas", action: set("p[]", ""), line: "GET /x?p[]=1 HTTP/1.1",
			want: "GET /x?p[]=a%26b%20c HTTP/1.1\nHost: o\n\n", trace: "query:p[]: *** is now ***"},
	} {
		t.Run(c.name, c.run)
	}
}

func TestActionUseCookies(t *testing.T) {
	for _, c := range []struct {
		name         string
		action       rule.UseCookies
		cookie, want string
		trace        string
	}{
		{"JarWins", rule.UseCookies{}, "a=client; c=3", "a=jar; c=3; b=jar", "inject use_cookies: set cookie a, add cookie b"},
		{"ClientWins", rule.UseCookies{Mode: rule.CookiesClientWins}, "a=client; c=3", "a=client; c=3; b=jar", "use_cookies: add cookie b"},
		{"Strip", rule.UseCookies{Mode: rule.CookiesStrip}, "a=client; c=3", "a=jar; b=jar", "use_cookies: remove cookie a, remove cookie c, add cookie a, add cookie b"},
		{"Only", rule.UseCookies{Pick: rule.Pick{Only: []string{"b"}}}, "a=client", "a=client; b=jar", "use_cookies: add cookie b"},
		{"Except", rule.UseCookies{Pick: rule.Pick{Except: []string{"a"}}}, "a=client", "a=client; b=jar", "use_cookies: add cookie b"},
		{"NothingToChange", rule.UseCookies{Pick: rule.Pick{Only: []string{"z"}}}, "a=client", "a=client", "keep use_cookies: the jar has nothing to change"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOrigin()
			o.listen("/set", "a=jar", "b=jar; Path=/")
			h := o.listen("/x")
			p := newSetup(t, o, acts(rule.Action{UseCookies: &c.action})).start(t, o)
			first := p.get("/set")
			p.want(first, 200)
			if !first.traced("extract cookie \"a\" added, \"b\" added") {
				t.Errorf("the trace does not say what the jar took: %+v", first.flow.Trace.Events)
			}
			r := p.do("GET /x HTTP/1.1\nHost: o\nCookie: " + c.cookie)
			p.want(r, 200)
			if want := "GET /x HTTP/1.1\nHost: o\nCookie: " + c.want + "\n\n"; h.last() != want {
				t.Errorf("the origin got %q, want %q", h.last(), want)
			}
			if !r.traced(c.trace) {
				t.Errorf("the trace does not say %q: %+v", c.trace, r.flow.Trace.Events)
			}
		})
	}
}

func TestActionUseCookiesOfAnIdentityAreNobodyElses(t *testing.T) {
	o := newOrigin()
	o.listen("/set", "a=jar")
	h := o.listen("/x")
	s := newSetup(t, o, acts(rule.Action{UseCookies: &rule.UseCookies{}}))
	s.Identities = []session.Identity{{Name: "ann"}, {Name: "bob"}}
	p := s.start(t, o)
	send := func(identity, path string) string {
		f := newFlow(t, "GET "+path+" HTTP/1.1\nHost: o", nil)
		f.Identity = identity
		p.want(p.deliver(context.Background(), f), 200)
		return h.last()
	}
	send("ann", "/set")
	if got := send("bob", "/x"); strings.Contains(got, "Cookie") {
		t.Errorf("bob's request carries %q", got)
	}
	if got := send("ann", "/x"); !strings.Contains(got, "Cookie: a=jar") {
		t.Errorf("ann's request carries %q", got)
	}
}

func TestActionUseCookiesLeavesATokenOfHigherPriority(t *testing.T) {
	o := newOrigin()
	o.listen("/set", "sid=jar")
	h := o.listen("/x")
	low := acts(rule.Action{UseCookies: &rule.UseCookies{}})
	high := rule.Rule{Name: "high", Enabled: true, Priority: 1, Updates: []rule.Update{{Token: "SID", Target: &rule.Target{Type: rule.TargetCookie, Name: "sid"}}}}
	s := newSetup(t, o, low, high)
	s.Variables = map[string]string{"SID": "token"}
	p := s.start(t, o)
	p.want(p.get("/set"), 200)
	p.want(p.get("/x"), 200)
	if got := h.last(); !strings.Contains(got, "Cookie: sid=token\n") {
		t.Errorf("the origin got %q", got)
	}
}

func TestActionStop(t *testing.T) {
	header := func(name string) rule.Action {
		return rule.Action{SetHeader: &rule.SetHeader{Name: name, Value: template(t, "1")}}
	}
	first := acts(header("A"), rule.Action{Stop: true})
	first.Name, first.Priority = "first", 2
	second := acts(header("B"))
	second.Name, second.Priority = "second", 1
	o := newOrigin()
	h := o.listen("/x")
	p := newSetup(t, o, second, first).start(t, o)
	r := p.get("/x")
	p.want(r, 200)
	if got := h.last(); got != "GET /x HTTP/1.1\nHost: o\nA: 1\n\n" {
		t.Errorf("the origin got %q", got)
	}
	if !r.traced("keep stop: rules of lower priority are not for this request") {
		t.Errorf("trace %+v", r.flow.Trace.Events)
	}
}

// What a rule protects is protected also where one before it ends the
// processing.
func TestActionStopLeavesProtect(t *testing.T) {
	first := acts(rule.Action{UseCookies: &rule.UseCookies{}}, rule.Action{Stop: true})
	first.Name, first.Priority = "first", 1
	second := acts(rule.Action{UseCookies: &rule.UseCookies{}})
	second.Protect = []rule.Scope{{Pattern: "http://o/logout"}}
	o := newOrigin()
	if r := newSetup(t, o, second, first).start(t, o).get("/logout"); r.failed == nil || r.failed.Reason != flow.ReasonProtected {
		t.Errorf("got %v", r)
	}
}

// An action's place is the rule's: one of lower priority leaves it alone, a
// later one of the same rule does not.
func TestActionsOrder(t *testing.T) {
	header := func(name, value string) rule.Action {
		return rule.Action{SetHeader: &rule.SetHeader{Name: name, Value: template(t, value)}}
	}
	high := acts(header("A", "1"), header("A", "2"))
	high.Name, high.Priority = "high", 1
	low := acts(header("A", "3"), header("B", "4"))
	o := newOrigin()
	h := o.listen("/x")
	p := newSetup(t, o, low, high).start(t, o)
	r := p.get("/x")
	p.want(r, 200)
	if got := h.last(); got != "GET /x HTTP/1.1\nHost: o\nA: 2\nB: 4\n\n" {
		t.Errorf("the origin got %q", got)
	}
	if !r.traced("keep set_header: header:a was filled by a rule of higher priority") {
		t.Errorf("trace %+v", r.flow.Trace.Events)
	}
}

// Where a hook is missing, New says so by the rule's and the action's name.
func TestActionsThatNeedWhatIsMissing(t *testing.T) {
	for name, a := range map[string]rule.Action{
		`rule "acts": actions[0]: recover_in_browser needs a browser`: {RecoverInBrowser: &rule.RecoverInBrowser{}},
		`rule "acts": there is no macro "nobody"`:                     {RunMacro: &rule.RunMacro{Macro: "nobody"}},
		`correct actions[0].run_post_request_macro.macro`:             {RunPostMacro: &rule.RunPostMacro{Macro: "nobody"}},
		`correct actions[0].check_session.probe`:                      {CheckSession: &rule.CheckSession{Probe: rule.ProbeMacro, Macro: "nobody", Literal: "x"}},
	} {
		set, err := rule.Compile([]rule.Rule{acts(a)}, rule.Globals{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = session.New(session.Config{Rules: set, Send: newOrigin().send, Macros: []*macro.Macro{loginMacro(t)}})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
	}
}

// A person logs in once for the requests that wait for it; the cookies go into
// these.
func TestActionRecoverInBrowser(t *testing.T) {
	for _, c := range []struct {
		name    string
		cookies rule.Pick
		want    string
	}{
		{"UpdateCookiesAll", rule.Pick{}, "GET /x HTTP/1.1\nHost: o\nCookie: sid=ann\n\n"},
		{"UpdateCookiesNone", rule.Pick{None: true}, "GET /x HTTP/1.1\nHost: o\n\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOrigin()
			h := o.listen("/x")
			s := newSetup(t, o, acts(rule.Action{RecoverInBrowser: &rule.RecoverInBrowser{Cookies: c.cookies}}))
			s.Identities = []session.Identity{{Name: "ann"}}
			s.Browser = func(_ context.Context, l *session.Login) error {
				if l.URL != "http://o/x" {
					return errors.New("another place: " + l.URL)
				}
				return l.PutCookie(jar.Cookie{Name: "sid", Value: l.Identity, Domain: "o", HostOnly: true, Path: "/"})
			}
			r := s.start(t, o).get("/x")
			if got := h.last(); got != c.want || !r.traced("run recover_in_browser: a person logged in") {
				t.Errorf("the origin got %q; trace %+v", got, r.flow.Trace.Events)
			}
		})
	}
}

func TestActionRecoverInBrowserThatNobodyDoes(t *testing.T) {
	o := newOrigin()
	s := newSetup(t, o, acts(rule.Action{RecoverInBrowser: &rule.RecoverInBrowser{}}))
	s.Browser = func(context.Context, *session.Login) error { return errors.New("closed") }
	if r := s.start(t, o).get("/x"); r.failed == nil || r.failed.Reason != flow.ReasonAction || o.count("GET /x") != 0 {
		t.Errorf("got %v", r)
	}
}

// What rules would do to a request names their actions, and those that a stop
// keeps away.
func TestActionsExplained(t *testing.T) {
	first := acts(rule.Action{RunMacro: &rule.RunMacro{Macro: "login"}}, rule.Action{SetHeader: &rule.SetHeader{Name: "A", Value: template(t, "1")}}, rule.Action{Stop: true})
	first.Name, first.Priority = "first", 1
	o := newOrigin()
	p := newSetup(t, o, acts(rule.Action{UseCookies: &rule.UseCookies{}}), first).start(t, o)
	f := newFlow(t, "GET /x HTTP/1.1\nHost: o", nil)
	told, err := p.engine.Explain(context.Background(), f, nil)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%+v", told.Rules)
	for _, want := range []string{"run_macro: macro login runs before the request is sent", "set_header: header:a was added", "rule first ends the processing"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not said: %s", want, text)
		}
	}
	if len(o.sent) != 0 {
		t.Errorf("sent %v", o.sent)
	}
}
