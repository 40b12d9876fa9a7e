package holdfast

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/wire"
)

// BenchmarkTrace is the price of rules for one request, without its sending: of
// many, of which none or one is for it, judges the answer's status and puts a
// header in; with the trace written and not.
func BenchmarkTrace(b *testing.B) {
	check, err := rule.Check("StatusCode", []any{401})
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
	for _, host := range []string{"other.example", "shop.example"} {
		for _, n := range []int{1, 10, 1000} {
			for _, trace := range []string{"off", "on"} {
				b.Run(fmt.Sprintf("%s/rules=%d/trace=%s", host, n, trace), func(b *testing.B) {
					list := make([]rule.Rule, n)
					for i := range list {
						pattern := fmt.Sprintf("shop%d.example", i)
						if i == n/2 {
							pattern = "shop.example"
						}
						list[i] = rule.Rule{Name: fmt.Sprint("shop ", i), Enabled: true, Scope: rule.Scope{Pattern: pattern}, Dead: check,
							Updates: []rule.Update{{Token: "T", Target: &rule.Target{Type: rule.TargetRequestHeader, Name: "Authorization"}}}}
					}
					rules, err := rule.Compile(list, rule.Globals{AutoExtract: true, AutoInject: true})
					if err != nil {
						b.Fatal(err)
					}
					engine, err := session.New(session.Config{Rules: rules, Variables: map[string]string{"T": "0123456789abcdef0123456789abcdef"}, Send: send})
					if err != nil {
						b.Fatal(err)
					}
					defer engine.Close()
					var w io.Writer
					if trace == "on" {
						w = io.Discard
					}
					r := newRecorder(w, nil)
					defer r.close()
					handle := r.stage(engine.Stage(send))
					origin := flow.Origin{TLS: true, Host: host, Port: 443}
					ids := &flow.IDs{}
					start := time.Unix(1, 0)
					f := new(flow.Flow)
					b.ReportAllocs()
					for b.Loop() {
						f.Reset()
						f.ID, f.Tool, f.Origin, f.Start, f.Received, f.Request = ids.Next(start), flow.ToolProxy, origin, start, request, request
						if err := handle(context.Background(), f); err != nil {
							b.Fatal(err)
						}
						f.End(start, nil)
					}
				})
			}
		}
	}
}
