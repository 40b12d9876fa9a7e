package macro_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

func noon() time.Time { return time.Date(2026, 6, 6, 12, 0, 0, 0, time.UTC) }

// script answers requests in order and keeps what was sent.
type script struct {
	t       *testing.T
	answers []string // heads and bodies with bare line feeds; "" is a broken connection
	sent    []string
	flows   []*flow.Flow
}

func (s *script) send(_ context.Context, f *flow.Flow) error {
	s.t.Helper()
	text := string(f.Request.Bytes())
	for f.RequestBody != nil {
		piece, err := f.RequestBody.Next()
		text += string(piece)
		if err != nil {
			break
		}
	}
	s.sent = append(s.sent, text)
	s.flows = append(s.flows, f)
	if len(s.answers) == 0 {
		s.t.Fatalf("a request too many: %q", text)
	}
	answer := s.answers[0]
	s.answers = s.answers[1:]
	if answer == "" {
		return &flow.Error{Reason: flow.ReasonUnreachable, Detail: "refused"}
	}
	head, body, _ := strings.Cut(answer, "\n\n")
	resp, err := wire.ParseResponse([]byte(strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n"))
	if err != nil {
		s.t.Fatal(err)
	}
	f.Response = resp
	switch {
	case resp.Has("Transfer-Encoding"):
		f.ResponseBody = wire.BytesBody(wire.Framing{Kind: wire.Chunked}, []byte(strings.ReplaceAll(body, "\n", "\r\n")))
	case resp.Has("X-Cut-Short"):
		f.ResponseBody = wire.BytesBody(wire.Framing{Kind: wire.Length, Length: int64(len(body)) + 1}, []byte(body))
	case body != "":
		f.ResponseBody = wire.BytesBody(wire.Framing{Kind: wire.Length, Length: int64(len(body))}, []byte(body))
	}
	return nil
}

func (s *script) env(values map[string]string) macro.Env {
	return macro.Env{Lookup: lookup(values), Now: noon, Send: s.send, Identity: "alice"}
}

func step(t *testing.T, request string, extractions ...macro.Extraction) macro.Step {
	t.Helper()
	tmpl, err := macro.ParseRequest(request, true)
	if err != nil {
		t.Fatal(err)
	}
	return macro.Step{Request: tmpl, Extract: extractions}
}

// take is an extraction from JSON; a question mark behind the token makes it
// optional.
func take(t *testing.T, token, path string) macro.Extraction {
	t.Helper()
	s := &rule.Source{Type: rule.SourceJSON, Path: path}
	if err := s.Compile(); err != nil {
		t.Fatal(err)
	}
	name, optional := strings.CutSuffix(token, "?")
	return macro.Extraction{Token: name, Source: s, Optional: optional}
}

const (
	loginRequest   = "POST https://shop.example/login HTTP/1.1\nContent-Type: application/json\n\n{\"p\":\"{{PASS}}\"}\n"
	refreshRequest = "POST https://shop.example/refresh HTTP/1.1\nContent-Type: application/json\n\n{\"r\":\"{{REFRESH}}\"}\n"
	meRequest      = "GET https://shop.example/me HTTP/1.1\nAuthorization: Bearer {{ACCESS}}\n"
)

func TestRun(t *testing.T) {
	s := &script{t: t, answers: []string{
		"HTTP/1.1 200 OK\n\n{\"access\":\"a1\",\"refresh\":\"r1\"}",
		"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n9\n{\"id\":42}\n0\n\n",
	}}
	m := &macro.Macro{Name: "login", Steps: []macro.Step{
		step(t, loginRequest, take(t, "ACCESS", "access"), take(t, "REFRESH", "refresh"), take(t, "EXTRA?", "extra")),
		step(t, meRequest, take(t, "ID", "id")),
	}}
	ids := flow.IDs{Seed: [8]byte{1}}
	env := s.env(map[string]string{"PASS": "p", "ACCESS": "stale"})
	env.NewID = func() flow.ID { return ids.Next(noon()) }
	result, err := m.Run(t.Context(), env)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	if diff := cmp.Diff(map[string]string{"ACCESS": "a1", "REFRESH": "r1", "ID": "42"}, result.Values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	want := []string{
		"POST /login HTTP/1.1\r\nHost: shop.example\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"p\":\"p\"}",
		"GET /me HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer a1\r\n\r\n",
	}
	if diff := cmp.Diff(want, s.sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	for i, f := range s.flows {
		if f.Tool != flow.ToolMacro || f.Identity != "alice" || f.ID == (flow.ID{}) || f.Ended.IsZero() || f.Stamp.Sequence != uint64(i+1) {
			t.Errorf("flow %d: tool %q, identity %q, ID %s, ended %v, sequence %d", i, f.Tool, f.Identity, f.ID, f.Ended, f.Stamp.Sequence)
		}
	}
	if len(result.Steps) != 2 || string(result.Steps[1].Body) != `{"id":42}` || result.Steps[0].Values["ACCESS"] != "a1" {
		t.Errorf("steps are reported wrongly: %+v", result.Steps)
	}
	if got := fmt.Sprint(m.Names(), m.Produces()); got != "[PASS] [ACCESS REFRESH EXTRA ID]" {
		t.Errorf("names and products are %s", got)
	}
}

func TestRunFails(t *testing.T) {
	const rotated = "HTTP/1.1 200 OK\n\n{\"access\":\"a2\",\"refresh\":\"r2\"}"
	refresh := step(t, refreshRequest, take(t, "REFRESH", "refresh"), take(t, "ACCESS", "access"))
	me := step(t, meRequest)
	for _, c := range []struct {
		name    string
		steps   []macro.Step
		answers []string
		vars    map[string]string
		want    macro.StepError // without Macro and Cause
	}{
		{"a wrong password", []macro.Step{step(t, loginRequest)}, []string{"HTTP/1.1 401 Unauthorized\n\nno"}, map[string]string{"PASS": "secret"},
			macro.StepError{Step: 1, Kind: macro.Rejected, Want: "a status below 400", Got: "status 401", Status: 401, Excerpt: "no"}},
		{"a login that leads back to itself", []macro.Step{step(t, loginRequest, take(t, "ACCESS", "access"))},
			[]string{"HTTP/1.1 302 Found\nLocation: /login?error=secret#x\n\n"}, map[string]string{"PASS": "secret"},
			macro.StepError{Step: 1, Kind: macro.Rejected, Want: "token ACCESS from JSON path access", Got: "status 302 to /login", Status: 302}},
		{"no variable", []macro.Step{step(t, loginRequest)}, nil, nil,
			macro.StepError{Step: 1, Kind: macro.MissingVariable, Want: "values for the request's variables",
				Got: "no value for PASS; define it under variables, or extract it in an earlier step"}},
		{"a value that cannot stand there", []macro.Step{me}, nil, map[string]string{"ACCESS": "a\nb"},
			macro.StepError{Step: 1, Kind: macro.Malformed, Want: "a request that can be sent",
				Got: "the value of ACCESS contains a line end or NUL and cannot stand in a header; encode it, such as {{url:ACCESS}}, or correct the value"}},
		{"no connection", []macro.Step{me}, []string{""}, map[string]string{"ACCESS": "a"},
			macro.StepError{Step: 1, Kind: macro.Transport, Want: "an answer", Got: "none"}},
		{"a body that breaks off", []macro.Step{me}, []string{"HTTP/1.1 200 OK\nX-Cut-Short: 1\n\n{\"a\":1"}, map[string]string{"ACCESS": "a"},
			macro.StepError{Step: 1, Kind: macro.Transport, Want: "an answer", Got: "none"}},
		{"too many requests", []macro.Step{me}, []string{"HTTP/1.1 429 Too Many Requests\nRetry-After: 7\n\n"}, map[string]string{"ACCESS": "a"},
			macro.StepError{Step: 1, Kind: macro.Transient, Want: "a status below 400", Got: "status 429", Status: 429, RetryAfter: 7 * time.Second}},
		{"out of service until a date", []macro.Step{me}, []string{"HTTP/1.1 503 Service Unavailable\nRetry-After: Sat, 06 Jun 2026 12:01:00 GMT\n\n"}, map[string]string{"ACCESS": "a"},
			macro.StepError{Step: 1, Kind: macro.Transient, Want: "a status below 400", Got: "status 503", Status: 503, RetryAfter: time.Minute}},
		{"out of service for a thousand years", []macro.Step{me}, []string{"HTTP/1.1 502 Bad Gateway\nRetry-After: 31536000\n\n"}, map[string]string{"ACCESS": "a"},
			macro.StepError{Step: 1, Kind: macro.Transient, Want: "a status below 400", Got: "status 502", Status: 502, RetryAfter: 24 * time.Hour}},
		{"a rotated refresh token is kept when a later step fails", []macro.Step{refresh, me}, []string{rotated, "HTTP/1.1 500 Oops\n\n"}, map[string]string{"REFRESH": "r1"},
			macro.StepError{Step: 2, Kind: macro.Rejected, Want: "a status below 400", Got: "status 500", Status: 500,
				Partial: map[string]string{"REFRESH": "r2", "ACCESS": "a2"}}},
		{"a rotated refresh token is kept when its own step brings no more", []macro.Step{refresh}, []string{"HTTP/1.1 200 OK\n\n{\"refresh\":\"r2\"}"}, map[string]string{"REFRESH": "r1"},
			macro.StepError{Step: 1, Kind: macro.Rejected, Want: "token ACCESS from JSON path access", Got: "status 200", Status: 200, Excerpt: `{"refresh":"***"}`,
				Partial: map[string]string{"REFRESH": "r2"}}},
		{"a token that nobody spent is not kept", []macro.Step{step(t, loginRequest, take(t, "ACCESS", "access")), step(t, loginRequest)},
			[]string{rotated, "HTTP/1.1 401 No\n\n"}, map[string]string{"PASS": "p"},
			macro.StepError{Step: 2, Kind: macro.Rejected, Want: "a status below 400", Got: "status 401", Status: 401}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &script{t: t, answers: c.answers}
			m := &macro.Macro{Name: "m", Steps: c.steps}
			result, err := m.Run(t.Context(), s.env(c.vars))
			var got *macro.StepError
			if !errors.As(err, &got) || result != nil {
				t.Fatalf("Run gave %v, %v; want no result and a *StepError", result, err)
			}
			c.want.Macro = "m"
			if (got.Cause != nil) != (c.want.Kind == macro.Transport) {
				t.Errorf("cause %v with kind %s", got.Cause, got.Kind)
			}
			if len(c.answers) > 0 && c.answers[0] != "" && c.want.Kind != macro.Transport && len(got.Steps) != c.want.Step {
				t.Errorf("%d steps are reported, want %d", len(got.Steps), c.want.Step)
			}
			shown := *got
			shown.Cause, shown.Steps = nil, nil
			if diff := cmp.Diff(c.want, shown); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells a secret: %v", err)
			}
			for _, f := range s.flows {
				if f.Ended.IsZero() {
					t.Error("a flow has not ended")
				}
			}
		})
	}
}

func TestRunCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := &script{t: t, answers: []string{"HTTP/1.1 200 OK\n\n"}}
	env := s.env(map[string]string{"ACCESS": "a"})
	env.Send = func(ctx context.Context, f *flow.Flow) error {
		cancel()
		return s.send(ctx, f)
	}
	m := &macro.Macro{Name: "m", Steps: []macro.Step{step(t, meRequest), step(t, meRequest)}}
	_, err := m.Run(ctx, env)
	var e *macro.StepError
	if !errors.As(err, &e) || e.Step != 2 || e.Kind != macro.Transport || !errors.Is(err, context.Canceled) {
		t.Errorf("Run gave %v, want a transport error of step 2 that is context.Canceled", err)
	}
}

// A step may leave the jar alone, in either direction.
func TestRunWithoutTheJar(t *testing.T) {
	s := &script{t: t, answers: []string{
		"HTTP/1.1 200 OK\nSet-Cookie: sid=1; Path=/\n\n",
		"HTTP/1.1 200 OK\nSet-Cookie: sid=2; Path=/\n\n",
		"HTTP/1.1 200 OK\n\n",
	}}
	env := s.env(nil)
	env.Jar = jar.New(jar.Options{})
	m := &macro.Macro{Name: "m", Steps: []macro.Step{
		step(t, "GET https://shop.example/1 HTTP/1.1\n"),
		step(t, "GET https://shop.example/2 HTTP/1.1\nCookie: x=y\n"),
		step(t, "GET https://shop.example/3 HTTP/1.1\n"),
	}}
	m.Steps[1].BareRequest, m.Steps[1].BareAnswer = true, true
	if _, err := m.Run(t.Context(), env); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"GET /1 HTTP/1.1\r\nHost: shop.example\r\n\r\n",
		"GET /2 HTTP/1.1\r\nHost: shop.example\r\nCookie: x=y\r\n\r\n",
		"GET /3 HTTP/1.1\r\nHost: shop.example\r\nCookie: sid=1\r\n\r\n",
	}
	if diff := cmp.Diff(want, s.sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

func TestRunCookies(t *testing.T) {
	s := &script{t: t, answers: []string{
		"HTTP/1.1 200 OK\nSet-Cookie: sid=1; Path=/\nSet-Cookie: lang=de; Path=/\nSet-Cookie: far=1; Domain=bank.example\n\n",
		"HTTP/1.1 500 Oops\nSet-Cookie: sid=2; Path=/\n\n",
	}}
	j := jar.New(jar.Options{})
	env := s.env(nil)
	env.Jar = j
	m := &macro.Macro{Name: "m", Steps: []macro.Step{
		step(t, "GET https://shop.example/ HTTP/1.1\n"),
		step(t, "GET https://shop.example/a/b?c HTTP/1.1\nCookie: lang=en; x=y\n"),
	}}
	if _, err := m.Run(t.Context(), env); err == nil {
		t.Fatal("Run succeeded, want the second step to fail")
	}
	want := []string{
		"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n",
		"GET /a/b?c HTTP/1.1\r\nHost: shop.example\r\nCookie: lang=en; x=y; sid=1\r\n\r\n",
	}
	if diff := cmp.Diff(want, s.sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	var held []string
	for _, c := range j.Cookies(jar.URL{Secure: true, Host: "shop.example", Path: "/"}, noon()) {
		held = append(held, c.Name+"="+c.Value)
	}
	if diff := cmp.Diff([]string{"sid=2", "lang=de"}, held); diff != "" {
		t.Errorf("the jar (-want +got):\n%s", diff)
	}
}

func TestRunReadsEncodedBodies(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = io.WriteString(w, `{"access":"a1"}`)
	w.Close()
	s := &script{t: t, answers: []string{"HTTP/1.1 200 OK\nContent-Encoding: gzip\n\n" + packed.String()}}
	m := &macro.Macro{Name: "m", Steps: []macro.Step{step(t, loginRequest, take(t, "ACCESS", "access"))}}
	result, err := m.Run(t.Context(), s.env(map[string]string{"PASS": "p"}))
	if err != nil || result.Values["ACCESS"] != "a1" {
		t.Errorf("Run gave %+v, %v; want ACCESS a1", result, err)
	}
}

func TestRunReadsOnlySoMuch(t *testing.T) {
	s := &script{t: t, answers: []string{"HTTP/1.1 200 OK\n\n" + strings.Repeat(" ", macro.MaxBody) + `{"access":"a1"}`}}
	m := &macro.Macro{Name: "m", Steps: []macro.Step{step(t, loginRequest, take(t, "ACCESS", "access"))}}
	_, err := m.Run(t.Context(), s.env(map[string]string{"PASS": "p"}))
	var e *macro.StepError
	if !errors.As(err, &e) || e.Got != "status 200 with a body of more than 4 MiB" || !e.Steps[0].Cut || len(e.Steps[0].Body) != macro.MaxBody {
		t.Errorf("Run gave %v, want a step that says how much was read", err)
	}
}

func TestRunExpects(t *testing.T) {
	for _, c := range []struct {
		expect, answer string
		ok             bool
	}{
		{`resp.code.eq:200`, "HTTP/1.1 200 OK\n\n", true},
		{`resp.code.eq:200`, "HTTP/1.1 204 No Content\n\n", false},
		{`resp.code.gte:500`, "HTTP/1.1 500 Oops\n\n", true},
		{`resp.body.cont:"alice"`, "HTTP/1.1 200 OK\n\nhello Alice", true},
		{`resp.body.cont:"alice"`, "HTTP/1.1 200 OK\n\n", false},
		{`resp.body.ncont:"log in"`, "HTTP/1.1 200 OK\n\n" + strings.Repeat(" ", macro.MaxBody+1), false},
		{`req.method.eq:"GET" and req.host.eq:"shop.example"`, "HTTP/1.1 200 OK\n\n", true},
	} {
		q, err := httpql.Parse(c.expect)
		if err != nil {
			t.Fatal(err)
		}
		one := step(t, meRequest)
		one.Expect = q
		m := &macro.Macro{Name: "m", Steps: []macro.Step{one}}
		_, err = m.Run(t.Context(), (&script{t: t, answers: []string{c.answer}}).env(map[string]string{"ACCESS": "a"}))
		if (err == nil) != c.ok {
			t.Errorf("expect %s of %.40q: %v, want success %t", c.expect, c.answer, err, c.ok)
		}
	}
}
