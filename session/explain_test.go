package session_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/wire"
)

// TestExplainIsWhatIsServed sends requests through the engine, and has others
// of the same bytes explained: what goes out is the same, byte for byte, and so
// is what is traced.
func TestExplainIsWhatIsServed(t *testing.T) {
	check, err := rule.Check("StatusCode", []any{401})
	if err != nil {
		t.Fatal(err)
	}
	header := func(name string) *rule.Target { return &rule.Target{Type: rule.TargetRequestHeader, Name: name} }
	rules, err := rule.Compile([]rule.Rule{
		{Name: "shop", Enabled: true, Scope: rule.Scope{Pattern: "*.shop.example"}, Dead: check, KeepForeign: true, Updates: []rule.Update{
			{Token: "T", Target: header("Authorization")},
			{Token: "C", Target: &rule.Target{Type: rule.TargetJSON, Pointer: "/csrf"}},
			{Token: "NONE", Target: header("X-None")}}},
		{Name: "second", Enabled: true, Scope: rule.Scope{Pattern: "*", Methods: []string{"POST"}}, Updates: []rule.Update{
			{Token: "T", Target: header("authorization")},
			{Token: "C", Target: &rule.Target{Type: rule.TargetQueryParam, Name: "csrf"}}}},
	}, rule.Globals{AutoExtract: true, AutoInject: true})
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{"T": "token-value", "C": "csrf-value"}
	for _, c := range []struct{ about, head, body string }{
		{"a GET", "GET /a HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		{"a value already there", "GET /a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-value\r\n\r\n", ""},
		{"a value of the client's own", "GET /a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer mine\r\n\r\n", ""},
		{"a body", "POST /a?csrf=1&b=2 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n", `{"csrf":"old"}`},
		{"chunks", "POST /a HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", "6\r\n{\"csrf\r\n8\r\n\":\"old\"}\r\n0\r\n\r\n"},
	} {
		for _, host := range []string{"shop.example", "other.example"} {
			t.Run(c.about+" to "+host, func(t *testing.T) {
				var sent string
				send := func(_ context.Context, f *flow.Flow) (err error) {
					sent = whole(t, f)
					f.Response, err = wire.ParseResponse([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
					return err
				}
				engine, err := session.New(session.Config{Rules: rules, Variables: values, Send: send, Now: func() time.Time { return time.Unix(1, 0) }})
				if err != nil {
					t.Fatal(err)
				}
				defer engine.Close()
				fresh := func() *flow.Flow {
					req, err := wire.ParseRequest([]byte(c.head))
					if err != nil {
						t.Fatal(err)
					}
					f := &flow.Flow{Tool: flow.ToolProxy, Origin: flow.Origin{TLS: true, Host: host, Port: 443}, Start: time.Unix(1, 0), Received: req, Request: req}
					if c.body != "" {
						framing, err := wire.RequestFraming(req)
						if err != nil {
							t.Fatal(err)
						}
						f.RequestBody = wire.BytesBody(framing, []byte(c.body))
					}
					return f
				}
				served, explained := fresh(), fresh()
				counts := engine.Counts()
				e, err := engine.Explain(t.Context(), explained, nil)
				if err != nil {
					t.Fatal(err)
				}
				if engine.Counts() != counts {
					t.Error("explaining was counted as serving")
				}
				if err := engine.Stage(send)(t.Context(), served); err != nil {
					t.Fatal(err)
				}
				if got := whole(t, explained); got != sent {
					t.Errorf("explained as %q, and sent is %q", got, sent)
				}
				steps := 0
				for _, r := range e.Rules {
					if covered, why := rules.Rules()[0].Scope.Explain(fresh()); r.Rule == "shop" && (covered != r.Applies || why != r.Why) {
						t.Errorf("rule shop: %v, %s; the scope says %v, %s", r.Applies, r.Why, covered, why)
					}
					steps += len(r.Steps)
				}
				if steps != len(served.Trace.Events) {
					t.Errorf("%d steps explained, and the trace has %v", steps, served.Trace.Events)
				}
			})
		}
	}
}

// TestExplainLearnsNothing has an answer explained that brings a token.
func TestExplainLearnsNothing(t *testing.T) {
	source := &rule.Source{Type: rule.SourceJSON, Path: "t"}
	rules, err := rule.Compile([]rule.Rule{{Name: "shop", Enabled: true, Scope: rule.Scope{Pattern: "*"}, Updates: []rule.Update{
		{Token: "T", Source: source, Target: &rule.Target{Type: rule.TargetRequestHeader, Name: "X-T"}}}}}, rule.Globals{AutoExtract: true, AutoInject: true})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := session.New(session.Config{Rules: rules, Send: session.Refuse})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	for range 2 {
		req, err := wire.ParseRequest([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := wire.ParseResponse([]byte("HTTP/1.1 200 OK\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		f := &flow.Flow{Origin: flow.Origin{Host: "x", Port: 80}, Received: req, Request: req, Response: resp,
			ResponseBody: wire.BytesBody(wire.Framing{Kind: wire.Length, Length: 9}, []byte(`{"t":"v"}`))}
		e, err := engine.Explain(t.Context(), f, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := e.Rules[0]
		if len(r.Found) != 1 || r.Found[0].Token != "T" || r.Found[0].Value != "v" {
			t.Errorf("found %v", r.Found)
		}
		if len(r.Tokens) != 1 || r.Tokens[0].Known || r.Tokens[0].Present {
			t.Errorf("a token of an answer that was only explained is in %v", r.Tokens)
		}
		f.End(time.Now(), nil)
	}
}

// whole is a request with its body.
func whole(t *testing.T, f *flow.Flow) string {
	t.Helper()
	raw := string(f.Request.Bytes())
	if f.RequestBody == nil {
		return raw
	}
	for {
		piece, err := f.RequestBody.Next()
		raw += string(piece)
		if err == io.EOF {
			return raw
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
