package session_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// page has GET /form answer a page whose tokens count up, and returns how many
// there were.
func (o *origin) page(body string) *atomic.Int64 {
	n := new(atomic.Int64)
	o.handle("/form", func(_ context.Context, f *flow.Flow) error {
		text := fmt.Sprint(n.Add(1))
		return answer(f, 200, strings.ReplaceAll(body, "#", text), "Content-Type: text/html", "Set-Cookie: sid=s"+text)
	})
	return n
}

func formMacro(t testing.TB) *macro.Macro { return step(t, "form", "GET http://o/form HTTP/1.1\n\n") }

func TestActionRunMacro(t *testing.T) {
	const form = `<form action="/x"><input name=a value=a#><input name=b value=b#></form><form action="/y"><input name=c value=c#></form>`
	for _, c := range []struct {
		name   string
		action rule.RunMacro
		line   string
		want   string // the request line and the cookies
		trace  string
	}{
		{"UpdateParamsAll", rule.RunMacro{}, "/x?a=1&b=2&z=3", "/x?a=a1&b=b1&z=3 sid=s1", "inject run_macro: query:a: *** is now ***"},
		{"UpdateParamsOnly", rule.RunMacro{Params: rule.Pick{Only: []string{"b"}}}, "/x?a=1&b=2", "/x?a=1&b=b1 sid=s1", "query:b"},
		{"UpdateParamsExcept", rule.RunMacro{Params: rule.Pick{Except: []string{"b"}}}, "/x?a=1&b=2", "/x?a=a1&b=2 sid=s1", "query:a"},
		{"UpdateParamsNone", rule.RunMacro{Params: rule.Pick{None: true}}, "/x?a=1&b=2", "/x?a=1&b=2 sid=s1", "run run_macro: macro form ran"},
		{"ParamsThatTheRequestLacks", rule.RunMacro{}, "/x?z=1", "/x?z=1 sid=s1", "keep run_macro: the macro's answer offers no parameter that the request has"},
		{"URLMismatch", rule.RunMacro{}, "/x?a=1&c=3", "/x?a=a1&c=3 sid=s1", "keep run_macro: the macro's answer offers c for other URLs only (tolerate_url_mismatch)"},
		{"TolerateURLMismatch", rule.RunMacro{Tolerate: true}, "/x?a=1&c=3", "/x?a=a1&c=c1 sid=s1", "query:c: *** is now ***"},
		{"UpdateCookiesNone", rule.RunMacro{Cookies: rule.Pick{None: true}}, "/x?a=1", "/x?a=a1 ", "query:a"},
		{"UpdateCookiesOnly", rule.RunMacro{Cookies: rule.Pick{Only: []string{"other"}}}, "/x?a=1", "/x?a=a1 ", "query:a"},
		{"UpdateCookiesExcept", rule.RunMacro{Cookies: rule.Pick{Except: []string{"other"}}}, "/x?a=1", "/x?a=a1 sid=s1", "run_macro: add cookie sid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOrigin()
			o.page(form)
			h := o.listen("/x")
			c.action.Macro = "form"
			s := newSetup(t, o, acts(rule.Action{RunMacro: &c.action}))
			s.Macros = append(s.Macros, formMacro(t))
			r := s.start(t, o).do("GET " + c.line + " HTTP/1.1\nHost: o")
			line, rest, _ := strings.Cut(h.last(), "\n")
			_, cookies, _ := strings.Cut(rest, "Cookie: ")
			if got := strings.TrimSuffix(strings.TrimPrefix(line, "GET "), " HTTP/1.1") + " " + strings.TrimSpace(cookies); got != c.want {
				t.Errorf("the origin got %q, want %q", got, c.want)
			}
			if !r.traced(c.trace) {
				t.Errorf("the trace does not say %q: %+v", c.trace, r.flow.Trace.Events)
			}
		})
	}
}

// tokens sends n requests at once, and returns the tokens that they carried.
func tokens(t *testing.T, action rule.RunMacro, n int) (runs int64, carried map[string]int) {
	t.Helper()
	o := newOrigin()
	count := o.page(`<form action="/x"><input name=a value=t#>`)
	h := o.listen("/x")
	action.Macro = "form"
	s := newSetup(t, o, acts(rule.Action{RunMacro: &action}))
	s.Macros = append(s.Macros, formMacro(t))
	p := s.start(t, o)
	var all sync.WaitGroup
	for range n {
		all.Go(func() { p.want(p.get("/x?a=1"), 200) })
	}
	all.Wait()
	carried = make(map[string]int)
	for _, text := range h.sent {
		_, value, _ := strings.Cut(text, "a=")
		value, _, _ = strings.Cut(value, " ")
		carried[value]++
	}
	return count.Load(), carried
}

func TestActionRunMacroForEachRequest(t *testing.T) {
	runs, carried := tokens(t, rule.RunMacro{}, 24)
	if runs != 24 || len(carried) != 24 {
		t.Errorf("%d runs, tokens %v", runs, carried)
	}
}

func TestActionRunMacroEvery(t *testing.T) {
	runs, carried := tokens(t, rule.RunMacro{Every: 4}, 24)
	if runs != 6 || len(carried) != 6 {
		t.Errorf("%d runs, tokens %v", runs, carried)
	}
	for token, n := range carried {
		if n != 4 {
			t.Errorf("token %s was sent %d times", token, n)
		}
	}
}

func TestActionRunMacroInterval(t *testing.T) {
	o := newOrigin()
	runs := o.page(`<form action="/x"><input name=a value=t#>`)
	o.listen("/x")
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	s := newSetup(t, o, acts(rule.Action{RunMacro: &rule.RunMacro{Macro: "form", Interval: time.Minute}}))
	s.Macros, s.Now = append(s.Macros, formMacro(t)), func() time.Time { return time.Unix(0, now.Load()) }
	p := s.start(t, o)
	for _, step := range []struct {
		wait time.Duration
		want int64
	}{{0, 1}, {59 * time.Second, 1}, {2 * time.Second, 2}, {59 * time.Second, 2}} {
		now.Add(int64(step.wait))
		if p.want(p.get("/x?a=1"), 200); runs.Load() != step.want {
			t.Errorf("after %s: %d runs, want %d", step.wait, runs.Load(), step.want)
		}
	}
}

// No more runs than maxRuns are under way at a time.
func TestActionRunMacroIsBounded(t *testing.T) {
	o := newOrigin()
	var under, most, ran atomic.Int64
	full, release := make(chan struct{}), make(chan struct{})
	o.handle("/form", func(_ context.Context, f *flow.Flow) error {
		n := under.Add(1)
		defer under.Add(-1)
		for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
		}
		if ran.Add(1) == 8 {
			close(full)
		}
		<-release
		return answer(f, 200, "")
	})
	o.listen("/x")
	s := newSetup(t, o, acts(rule.Action{RunMacro: &rule.RunMacro{Macro: "form"}}))
	s.Macros = append(s.Macros, formMacro(t))
	p := s.start(t, o)
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() { p.want(p.get("/x"), 200) })
	}
	<-full
	close(release)
	all.Wait()
	if most.Load() != 8 || ran.Load() != 32 {
		t.Errorf("%d runs, %d at a time", ran.Load(), most.Load())
	}
}

// What a macro extracts is a variable of this request alone.
func TestActionRunMacroExtracts(t *testing.T) {
	o := newOrigin()
	var n atomic.Int64
	o.handle("/token", func(_ context.Context, f *flow.Flow) error {
		return answer(f, 200, fmt.Sprintf(`{"t":"v%d"}`, n.Add(1)))
	})
	h := o.listen("/x")
	r := acts(rule.Action{RunMacro: &rule.RunMacro{Macro: "token"}}, rule.Action{SetHeader: &rule.SetHeader{Name: "A", Value: template(t, "{{T}}")}})
	r.Updates = []rule.Update{{Token: "T", Target: header("B")}}
	s := newSetup(t, o, r)
	s.Macros = append(s.Macros, step(t, "token", "GET http://o/token HTTP/1.1\n\n", "T t"))
	p := s.start(t, o)
	for _, want := range []string{"/x?T=v1 HTTP/1.1\nHost: o\nA: v1\nB: v1\n\n", "/x?T=v2 HTTP/1.1\nHost: o\nA: v2\nB: v2\n\n"} {
		p.want(p.get("/x?T=1"), 200)
		if got := h.last(); got != "GET "+want {
			t.Errorf("the origin got %q, want %q", got, want)
		}
	}
}

func TestActionRunMacroScript(t *testing.T) {
	o := newOrigin()
	o.page(`<form action="/x"><input name=a value=t#>`)
	h := o.listen("/x")
	s := newSetup(t, o, acts(rule.Action{RunMacro: &rule.RunMacro{Macro: "form", Script: program(t, "request.headers.add('Of', request.query)"), Cookies: rule.Pick{None: true}}}))
	s.Macros = append(s.Macros, formMacro(t))
	p := s.start(t, o)
	p.want(p.get("/x?a=1"), 200)
	if got := h.last(); got != "GET /x?a=t1 HTTP/1.1\nHost: o\nOf: a=t1\n\n" {
		t.Errorf("the origin got %q", got)
	}
}

// A run that meets a dead session recovers it and begins anew; the request then
// goes out once.
func TestActionRunMacroMeetsADeadSession(t *testing.T) {
	o := newOrigin()
	o.handle("/form", func(_ context.Context, f *flow.Flow) error {
		if !o.isLive(f) {
			return answer(f, 401, "")
		}
		return answer(f, 200, `<form action="/x"><input name=a value=fresh>`)
	})
	h := o.listen("/x")
	csrf := acts(rule.Action{RunMacro: &rule.RunMacro{Macro: "form"}})
	csrf.Scope.Pattern = "http://o/x"
	s := newSetup(t, o, bearer(t), csrf)
	s.Macros = append(s.Macros, step(t, "form", "GET http://o/form HTTP/1.1\nAuthorization: Bearer {{ACCESS}}\n\n"))
	p := s.start(t, o)
	p.want(p.get("/"), 200)
	o.kill()
	// All begins anew with the request as it stood, which is not as it was
	// received: what was for Holdfast alone has been taken out.
	r := p.do("GET /x?a=1 HTTP/1.1\nHost: o\nHoldfast-Keep: cookie:other")
	p.want(r, 200)
	if got := h.last(); !strings.HasPrefix(got, "GET /x?a=fresh HTTP/1.1\n") || !strings.Contains(got, "token-2") || strings.Contains(got, "Holdfast") || len(h.sent) != 1 {
		t.Errorf("the origin got %q", h.sent)
	}
	if !r.traced("the actions begin anew") {
		t.Errorf("trace %+v", r.flow.Trace.Events)
	}
	if o.loginCount() != 2 || !r.traced(`dead macro "form": its answer is a dead session's (generation 1)`) {
		t.Errorf("%d logins; trace %+v", o.loginCount(), r.flow.Trace.Events)
	}
}

func TestActionRunMacroThatFails(t *testing.T) {
	for _, c := range []struct {
		name      string
		onFailure rule.OnFailure
		want      string
	}{
		{"OnFailureFail", "", `action_failed an action of rule "acts" failed: macro "form": macro form, step 1: rejected`},
		{"OnFailurePass", rule.FailPass, "GET /x?a=1 HTTP/1.1\nHost: o\n\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOrigin()
			o.handle("/form", func(_ context.Context, f *flow.Flow) error { return answer(f, 500, "") })
			h := o.listen("/x")
			one := acts(rule.Action{RunMacro: &rule.RunMacro{Macro: "form"}})
			one.OnFailure = c.onFailure
			s := newSetup(t, o, one)
			s.Macros = append(s.Macros, formMacro(t))
			r := s.start(t, o).get("/x?a=1")
			got := h.last()
			if r.failed != nil {
				got = r.failed.Reason + " " + r.failed.Detail
			}
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestActionRunPostRequestMacro(t *testing.T) {
	const page = `<a href="/anywhere?order=7&x=8">`
	for _, c := range []struct {
		name   string
		action rule.RunPostMacro
		want   string // what the client gets
		first  string // what the macro's first request was
		trace  string
	}{
		{"PassBackFinal", rule.RunPostMacro{PassBack: rule.PassFinal}, `201 "final"`, "/first?order=7&x=8", "inject run_post_request_macro: query:order, query:x of the macro's first request: *** is now ***"},
		{"PassBackDefault", rule.RunPostMacro{}, `201 "final"`, "/first?order=7&x=8", "the client gets the answer of the macro's last step"},
		{"PassBackCurrent", rule.RunPostMacro{PassBack: rule.PassCurrent}, `200 ` + fmt.Sprintf("%q", page), "/first?order=7&x=8", "run_post_request_macro: macro post ran"},
		{"FeedParamsNone", rule.RunPostMacro{Feed: rule.Pick{None: true}}, `201 "final"`, "/first?order=0&x=0", "macro post ran"},
		{"FeedParamsOnly", rule.RunPostMacro{Feed: rule.Pick{Only: []string{"x"}}}, `201 "final"`, "/first?order=0&x=8", "query:x of"},
		{"FeedParamsExcept", rule.RunPostMacro{Feed: rule.Pick{Except: []string{"x"}}}, `201 "final"`, "/first?order=7&x=0", "query:order of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOrigin()
			o.handle("/x", func(_ context.Context, f *flow.Flow) error { return answer(f, 200, page) })
			first := o.listen("/first")
			o.handle("/last", func(_ context.Context, f *flow.Flow) error { return answer(f, 201, "final") })
			c.action.Macro = "post"
			s := newSetup(t, o, acts(rule.Action{RunPostMacro: &c.action}))
			s.Macros = append(s.Macros, &macro.Macro{Name: "post", Steps: []macro.Step{
				oneStep(t, "GET http://o/first?order=0&x=0 HTTP/1.1\n\n"), oneStep(t, "GET http://o/last HTTP/1.1\n\n")}})
			r := s.start(t, o).get("/x")
			if r.String() != c.want {
				t.Errorf("the client got %s, want %s", r, c.want)
			}
			if line, _, _ := strings.Cut(first.last(), " HTTP/1.1"); line != "GET "+c.first {
				t.Errorf("the macro began with %q, want %q", line, c.first)
			}
			if !r.traced(c.trace) {
				t.Errorf("the trace does not say %q: %+v", c.trace, r.flow.Trace.Events)
			}
		})
	}
}
