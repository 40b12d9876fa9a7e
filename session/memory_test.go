package session_test

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/wire"
)

// steady is an engine with a header rule for each of two hosts, and two
// identities whose token it is.
func steady(t *testing.T) (stage flow.Handler, sent func() string) {
	t.Helper()
	var compiled []rule.Rule
	for _, host := range []string{"a.example", "b.example"} {
		compiled = append(compiled, rule.Rule{Name: host, Enabled: true, Scope: rule.Scope{Pattern: host}, Dead: check(t, "StatusCode", 401),
			Updates: []rule.Update{{Token: "T", Target: &rule.Target{Type: rule.TargetRequestHeader, Name: "X-" + host[:1]}}}})
	}
	rules, err := rule.Compile(compiled, rule.Globals{AutoExtract: true, AutoInject: true})
	if err != nil {
		t.Fatal(err)
	}
	response, err := wire.ParseResponse([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	var last *wire.Request
	send := func(_ context.Context, f *flow.Flow) error { f.Response, last = response, f.Request; return nil }
	engine, err := session.New(session.Config{Rules: rules, Send: send, Identities: []session.Identity{
		{Name: "ann", Variables: map[string]string{"T": "of-ann"}}, {Name: "bob", Variables: map[string]string{"T": "of-bob"}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	return engine.Stage(send), func() string { return string(last.Bytes()) }
}

// What was looked up for a client's last request must not be taken for the next
// one's, when that speaks for somebody else or is under another rule.
func TestMemoryOfTheLastRequestIsNotTakenForAnothers(t *testing.T) {
	stage, sent := steady(t)
	const head = "GET / HTTP/1.1\r\nHost: x\r\n"
	request, err := wire.ParseRequest([]byte(head + "\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	f := new(flow.Flow)
	for _, step := range []struct{ identity, host, want string }{
		{"ann", "a.example", "X-a: of-ann\r\n"},
		{"ann", "a.example", "X-a: of-ann\r\n"},
		{"bob", "a.example", "X-a: of-bob\r\n"},
		{"bob", "b.example", "X-b: of-bob\r\n"},
		{"", "b.example", "X-b: of-ann\r\n"},
		{"bob", "elsewhere.example", ""},
		{"bob", "b.example", "X-b: of-bob\r\n"},
		{session.Anonymous, "b.example", ""},
		{"ann", "b.example", "X-b: of-ann\r\n"},
	} {
		f.Tool, f.Identity, f.Origin = flow.ToolProxy, step.identity, flow.Origin{Host: step.host, Port: 80}
		f.Received, f.Request = request, request
		if err := stage(context.Background(), f); err != nil {
			t.Fatal(err)
		}
		if got := sent(); got != head+step.want+"\r\n" {
			t.Errorf("%s to %s: sent %q, want the line %q", step.identity, step.host, got, step.want)
		}
		f.End(time.Now(), nil)
		f.Reset()
	}
}

// A request of a known client costs one allocation under a rule: the token's
// text.
func TestTheMemoryOfOneRequestServesTheNext(t *testing.T) {
	stage, _ := steady(t)
	request, err := wire.ParseRequest([]byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	f := new(flow.Flow)
	n := testing.AllocsPerRun(100, func() {
		f.Tool, f.Origin = flow.ToolProxy, flow.Origin{Host: "a.example", Port: 80}
		f.Received, f.Request = request, request
		if err := stage(context.Background(), f); err != nil {
			t.Fatal(err)
		}
		f.End(time.Now(), nil)
		f.Reset()
	})
	if n > 1 {
		t.Errorf("%v allocations for a request under a rule, want at most 1", n)
	}
}
