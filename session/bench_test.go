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

// BenchmarkStage is the price of the rules for one request: of none in scope,
// and of one that judges the status and puts a header in.
func BenchmarkStage(b *testing.B) {
	check, err := rule.Check("StatusCode", []any{401})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct{ name, host string }{{"none in scope", "other.example"}, {"one in scope", "shop.example"}} {
		b.Run(c.name, func(b *testing.B) {
			rules, err := rule.Compile([]rule.Rule{{
				Name: "shop", Enabled: true, Scope: rule.Scope{Pattern: c.host}, Dead: check,
				Updates: []rule.Update{{Token: "T", Target: &rule.Target{Type: rule.TargetRequestHeader, Name: "Authorization"}}},
			}}, rule.Globals{AutoExtract: true, AutoInject: true})
			if err != nil {
				b.Fatal(err)
			}
			request, err := wire.ParseRequest([]byte("GET /account?q=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\nAccept-Language: en\r\nAccept-Encoding: gzip, br\r\nCookie: theme=dark; lang=en\r\n\r\n"))
			if err != nil {
				b.Fatal(err)
			}
			response, err := wire.ParseResponse([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n"))
			if err != nil {
				b.Fatal(err)
			}
			send := func(_ context.Context, f *flow.Flow) error { f.Response = response; return nil }
			engine, err := session.New(session.Config{Rules: rules, Variables: map[string]string{"T": "0123456789abcdef0123456789abcdef"}, Send: send})
			if err != nil {
				b.Fatal(err)
			}
			defer engine.Close()
			handle := engine.Stage(send)
			origin := flow.Origin{TLS: true, Host: "shop.example", Port: 443}
			b.ReportAllocs()
			for b.Loop() {
				f := flow.Flow{Tool: flow.ToolProxy, Origin: origin, Start: time.Unix(1, 0), Received: request, Request: request}
				if err := handle(context.Background(), &f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
