package macro_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"context"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

func source(t *testing.T, s rule.Source) *rule.Source {
	t.Helper()
	if err := s.Compile(); err != nil {
		t.Fatal(err)
	}
	return &s
}

func template(t *testing.T, text string) *rule.Template {
	t.Helper()
	tmpl, err := rule.ParseTemplate(text)
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

func follow(s macro.Step) macro.Step {
	s.Redirects.Max = macro.DefaultRedirects
	return s
}

func redirect(status int, location string, fields ...string) string {
	return fmt.Sprintf("HTTP/1.1 %d Moved\nLocation: %s\n%s\n", status, location, strings.Join(append(fields, ""), "\n"))
}

const okAnswer = "HTTP/1.1 200 OK\n\n{\"id\":\"fine\"}"

// What a browser makes of each kind of redirect: Fetch §4.4, RFC 9110 §15.4.
func TestRedirectsChangeTheMethodAsBrowsersDo(t *testing.T) {
	const post = "POST https://shop.example/a HTTP/1.1\nContent-Type: text/plain\nX-Kept: 1\nAuthorization: Basic e30=\n\nbody\n"
	kept := func(method, target string) string {
		return method + " " + target + " HTTP/1.1\r\nHost: shop.example\r\nContent-Type: text/plain\r\nX-Kept: 1\r\nAuthorization: Basic e30=\r\nContent-Length: 4\r\n\r\nbody"
	}
	const asked = "GET /b HTTP/1.1\r\nHost: shop.example\r\nX-Kept: 1\r\nAuthorization: Basic e30=\r\n\r\n"
	for _, c := range []struct {
		status int
		method string
		want   string
	}{
		{301, "POST", asked}, {302, "POST", asked}, {303, "POST", asked}, {303, "PUT", asked}, {303, "DELETE", asked},
		{307, "POST", kept("POST", "/b")}, {308, "POST", kept("POST", "/b")},
		{301, "PUT", kept("PUT", "/b")}, {302, "DELETE", kept("DELETE", "/b")}, {307, "PUT", kept("PUT", "/b")},
		{303, "HEAD", kept("HEAD", "/b")},
	} {
		t.Run(fmt.Sprint(c.status, c.method), func(t *testing.T) {
			s := &script{t: t, answers: []string{redirect(c.status, "/b#there"), okAnswer}}
			m := &macro.Macro{Name: "m", Steps: []macro.Step{follow(step(t, strings.Replace(post, "POST", c.method, 1)))}}
			if _, err := m.Run(t.Context(), s.env(nil)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{kept(c.method, "/a"), c.want}, s.sent); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
		})
	}
}

// Single sign-on: each host has its own cookies, and nobody gets the
// credentials that were meant for another.
func TestRedirectsToOtherHosts(t *testing.T) {
	s := &script{t: t, answers: []string{
		redirect(302, "https://idp.example/authorize?state=s1", "Set-Cookie: app=1; Path=/"),
		redirect(302, "//shop.example:443/callback?code=c0de&state=s1", "Set-Cookie: idp=1; Path=/"),
		redirect(302, "home?x= y", "Set-Cookie: app=2; Path=/"),
		okAnswer,
	}}
	env := s.env(map[string]string{"KEY": "k"})
	env.Jar = jar.New(jar.Options{})
	first := follow(step(t, "GET https://shop.example/start HTTP/1.1\nCookie: own=1\nAuthorization: Bearer x\nX-Key: {{KEY}}\nAccept: */*\n", take(t, "ID", "id")))
	first.Extract = append(first.Extract,
		macro.Extraction{Token: "CODE", Source: source(t, rule.Source{Type: rule.SourceRedirectURL, Param: "code"})},
		macro.Extraction{Token: "IDP", Source: source(t, rule.Source{Type: rule.SourceCookie, Name: "idp"})},
		macro.Extraction{Token: "APP", Source: source(t, rule.Source{Type: rule.SourceCookie, Name: "app"})})
	m := &macro.Macro{Name: "m", Steps: []macro.Step{first}}
	result, err := m.Run(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"GET /start HTTP/1.1\r\nHost: shop.example\r\nCookie: own=1\r\nAuthorization: Bearer x\r\nX-Key: k\r\nAccept: */*\r\n\r\n",
		"GET /authorize?state=s1 HTTP/1.1\r\nHost: idp.example\r\nAccept: */*\r\n\r\n",
		"GET /callback?code=c0de&state=s1 HTTP/1.1\r\nHost: shop.example\r\nAccept: */*\r\nCookie: app=1\r\n\r\n",
		"GET /home?x=%20y HTTP/1.1\r\nHost: shop.example\r\nAccept: */*\r\nCookie: app=2\r\n\r\n",
	}
	if diff := cmp.Diff(want, s.sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"ID": "fine", "CODE": "c0de", "IDP": "1", "APP": "2"}, result.Values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if len(result.Steps) != 4 || result.Steps[3].Values["CODE"] != "c0de" {
		t.Errorf("%d answers are reported, want all 4", len(result.Steps))
	}
	for i, f := range s.flows {
		if f.Ended.IsZero() || f.Stamp.Sequence != uint64(i+1) || strings.Contains(f.ShownPath, "c0de") {
			t.Errorf("flow %d: ended %v, sequence %d, shown as %q", i, f.Ended, f.Stamp.Sequence, f.ShownPath)
		}
	}
}

func TestRedirectsThatEnd(t *testing.T) {
	through := func(n int) (all []string) {
		for i := range n {
			all = append(all, redirect(302, fmt.Sprintf("/hop?n=%d", i)))
		}
		return append(all, okAnswer)
	}
	for _, c := range []struct {
		name    string
		answers []string
		until   string
		sent    int
		fails   string
	}{
		{"at the tenth", through(10), "", 11, ""},
		{"not at the eleventh", through(11), "", 11, "macro m, step 1, redirect 11: rejected: wanted at most 10 redirects, got status 302 to /hop"},
		{"in a loop", []string{redirect(302, "/b"), redirect(302, "/"), redirect(302, "/b"), ""}, "", 2,
			"macro m, step 1, redirect 2: rejected: wanted redirects that do not go round, got status 302 to /"},
		{"in itself, once a cookie is there", []string{redirect(302, "/", "Set-Cookie: seen=1"), okAnswer}, "", 2, ""},
		{"in an application on a telephone", []string{redirect(302, "com.shop.app:/callback?code=c")}, "", 1, ""},
		{"at the callback, which is not called", []string{redirect(302, "/b"), redirect(303, "https://app.example/callback?code=c")}, "https://app.example/callback", 2, ""},
		{"nowhere", []string{"HTTP/1.1 302 Found\n\n"}, "", 1, ""},
		{"in a status that is none", []string{redirect(304, "/b")}, "", 1, ""},
		{"in what is no URL", []string{redirect(302, "http://[::1")}, "", 1, ""},
		{"in a host that is none", []string{redirect(302, "https:///x")}, "", 1, "redirect 1: rejected: wanted a redirect that can be followed"},
		{"in a dead connection", []string{redirect(302, "/b"), ""}, "", 2, "macro m, step 1, redirect 1: no answer"},
		{"in a refusal", []string{redirect(302, "/b"), "HTTP/1.1 403 No\nContent-Type: text/html\n\n<title>Sorry</title><script>x</script>go away, pa55"}, "", 2,
			`macro m, step 1, redirect 1: rejected: wanted a status below 400, got status 403 ("Sorry go away, ***")`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &script{t: t, answers: c.answers}
			env := s.env(map[string]string{"P": "pa55"})
			env.Jar = jar.New(jar.Options{})
			one := follow(step(t, "GET https://shop.example/ HTTP/1.1\nX-P: {{P}}\n"))
			if c.until != "" {
				one.Redirects.Until = template(t, c.until)
			}
			m := &macro.Macro{Name: "m", Steps: []macro.Step{one}}
			_, err := m.Run(t.Context(), env)
			if len(s.sent) != c.sent {
				t.Errorf("%d requests, want %d: %q", len(s.sent), c.sent, s.sent)
			}
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("Run gave %v, want %q", err, c.fails)
			}
		})
	}
}

func TestNamesOfOtherSteps(t *testing.T) {
	s := &script{t: t, answers: []string{"HTTP/1.1 200 OK\n\n{\"id\":\"one\"}", "HTTP/1.1 200 OK\n\n{\"id\":\"two\"}", okAnswer}}
	m := &macro.Macro{Name: "m", Inputs: []macro.Input{{Name: "base", Value: template(t, "https://{{HOST}}")}, {Name: "page"}},
		Steps: []macro.Step{
			step(t, "GET {{macro.input.base}}/{{macro.input.page}} HTTP/1.1\nX-Env: {{env.WHO}}\n", take(t, "ID", "id")),
			step(t, "GET {{macro.input.base}}/ HTTP/1.1\n", take(t, "ID", "id")),
			step(t, "GET {{macro.input.base}}/?a={{step_1.ID}}&b={{step_2.ID}}&c={{ID}} HTTP/1.1\n"),
		}}
	if diff := cmp.Diff([]string{"HOST", "WHO"}, m.Names()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	values := map[string]string{"HOST": "staging.example", "WHO": "me"}
	bound := m.With("m for x", "", map[string]*rule.Template{"page": template(t, "p")})
	if _, err := bound.Run(t.Context(), s.env(values)); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"GET /p HTTP/1.1\r\nHost: staging.example\r\nX-Env: me\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: staging.example\r\n\r\n",
		"GET /?a=one&b=two&c=two HTTP/1.1\r\nHost: staging.example\r\n\r\n",
	}
	if diff := cmp.Diff(want, s.sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	_, err := m.Run(t.Context(), s.env(values))
	var e *macro.StepError
	if !errors.As(err, &e) || e.Kind != macro.MissingVariable || !strings.Contains(e.Got, "macro.input.page") {
		t.Errorf("without an input Run gave %v", err)
	}
}

// What a run makes up is the same in all of its steps and new in the next run.
func TestMadeUpValues(t *testing.T) {
	s := &script{t: t}
	m := &macro.Macro{Name: "m"}
	for range 2 {
		m.Steps = append(m.Steps, step(t, "GET https://o/?v={{pkce.verifier}}&c={{pkce.challenge}}&s={{oauth.state}}&n={{oauth.nonce}} HTTP/1.1\n"))
	}
	for range 2 {
		s.answers = append(s.answers, okAnswer, okAnswer)
		if _, err := m.Run(t.Context(), s.env(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if s.sent[0] != s.sent[1] || s.sent[2] != s.sent[3] || s.sent[0] == s.sent[2] || len(m.Names()) != 0 {
		t.Errorf("sent %q, names %q", s.sent, m.Names())
	}
	line, _, _ := strings.Cut(s.sent[0], " HTTP")
	if len(line) != len("GET /?v=&c=&s=&n=")+4*43 {
		t.Errorf("%q: want four values of 43 characters", line)
	}
}

func TestExtractionEquals(t *testing.T) {
	one := step(t, "GET https://o/ HTTP/1.1\n", take(t, "ID", "id"))
	one.Extract[0].Equals = template(t, "{{WANT}}")
	m := &macro.Macro{Name: "m", Steps: []macro.Step{one}}
	for want, ok := range map[string]bool{"fine": true, "else": false} {
		s := &script{t: t, answers: []string{okAnswer}}
		_, err := m.Run(t.Context(), s.env(map[string]string{"WANT": want}))
		if (err == nil) != ok || !ok && !strings.Contains(err.Error(), "wanted token ID from JSON path id to be {{WANT}}, got status 200") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestStepWaits(t *testing.T) {
	s := &script{t: t, answers: []string{okAnswer}}
	one := step(t, "GET https://o/ HTTP/1.1\n")
	one.Wait = time.Hour
	m := &macro.Macro{Name: "m", Steps: []macro.Step{one}}
	env := s.env(nil)
	var waited time.Duration
	env.Wait = func(_ context.Context, d time.Duration) error { waited += d; return nil }
	if _, err := m.Run(t.Context(), env); err != nil || waited != time.Hour {
		t.Errorf("waited %s: %v", waited, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	env.Wait = nil
	if _, err := m.Run(ctx, env); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled run gave %v", err)
	}
}
