package flow_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/wire"
)

// answered is a flow that has its answer's head, and a body not yet read.
func answered(t testing.TB) *flow.Flow {
	req := request(t, "GET /shop/cart.php?id=7 HTTP/1.1\r\nHost: shop.example:8443\r\nCookie: sessid=1\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
	f := &flow.Flow{
		Tool: "scanner", Identity: "alice",
		Origin:   flow.Origin{TLS: true, Host: "shop.example", Port: 8443},
		Start:    time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
		Received: req, Request: req,
		Response: response(t, "HTTP/1.1 302 Found\r\nLocation: /login?next=/cart\r\nSet-Cookie: sessid=; Max-Age=0\r\nset-cookie: lang=en\r\n\r\n"),
		Stamp:    flow.Stamp{Generation: 3},
	}
	f.Sent = f.Start.Add(10 * time.Millisecond)
	f.Answered = f.Sent.Add(250 * time.Millisecond)
	f.Trace.Add(flow.Event{Actor: "rule shop", Action: flow.ActionInject})
	f.Trace.Add(flow.Event{Actor: "wire", Action: flow.ActionNote})
	f.Trace.Add(flow.Event{Actor: "rule csrf", Action: flow.ActionDead})
	return f
}

func TestRecordOfALiveFlow(t *testing.T) {
	f := answered(t)
	f.ResponseBody = wire.BytesBody(wire.Framing{Kind: wire.Length, Length: 5}, []byte("hello"))
	r := &flow.Record{Flow: f, State: "alive"}
	check(t, r, map[string]httpql.Truth{
		`req.host.eq:"shop.example"`:                    httpql.True,
		`req.port.eq:8443 and req.tls.eq:true`:          httpql.True,
		`req.method.eq:"GET" and req.ext.eq:".php"`:     httpql.True,
		`req.path.eq:"/shop/cart.php"`:                  httpql.True,
		`req.query.eq:"id=7"`:                           httpql.True,
		`req.created_at.gt:"2026-01-31T11:59:59Z"`:      httpql.True,
		`req.header["cookie"].cont:"SESSID"`:            httpql.True,
		`req.body.eq:""`:                                httpql.True,
		`req.raw.cont:"forwarded-for: 192"`:             httpql.True,
		`resp.code.eq:302`:                              httpql.True,
		`resp.redirect.cont:"/login"`:                   httpql.True,
		`resp.header["Set-Cookie"].ncont:"lang"`:        httpql.False,
		`resp.header.name.eq:"set-cookie"`:              httpql.True,
		`resp.roundtrip.eq:250`:                         httpql.True,
		`resp.body.cont:"hello"`:                        httpql.Unknown, // nobody read it yet
		`resp.raw.cont:"location: /login"`:              httpql.True,
		`resp.raw.cont:"hello"`:                         httpql.Unknown,
		`resp.len.gt:10`:                                httpql.True,
		`flow.tool.eq:"scanner"`:                        httpql.True,
		`source:"intercept"`:                            httpql.True,
		`flow.identity.eq:"alice"`:                      httpql.True,
		`session.state.eq:"alive"`:                      httpql.True,
		`session.generation.gte:3`:                      httpql.True,
		`flow.rule.eq:"csrf"`:                           httpql.True,
		`flow.rule.eq:"other"`:                          httpql.Unknown, // it may still come
		`trace.action.eq:"dead"`:                        httpql.True,
		`trace.action.eq:"resend"`:                      httpql.Unknown,
		`flow.duration.lt:1000`:                         httpql.Unknown,
		`row.id.ne:1`:                                   httpql.False, // it is not stored
		`resp.code.eq:302 OR resp.raw.cont:"x"`:         httpql.True,
		`resp.code.eq:401 OR resp.raw.cont:"not there"`: httpql.Unknown,
	})
}

func TestRecordOfAnEndedFlow(t *testing.T) {
	f := answered(t)
	f.End(f.Start.Add(2*time.Second), nil)
	r := &flow.Record{Flow: f, Row: 12, Roundtrip: time.Second,
		ResponseBody: []byte("hello"), ResponsePresence: httpql.Known, RequestBody: []byte("a=b"), RequestPresence: httpql.Known}
	check(t, r, map[string]httpql.Truth{
		`row.id.eq:12`:                    httpql.True,
		`resp.roundtrip.eq:1000`:          httpql.True,
		`resp.body.eq:"hello"`:            httpql.True,
		`resp.raw.cont:"en\r\n\r\nHello"`: httpql.True,
		`req.body.eq:"a=b"`:               httpql.True,
		`flow.duration.eq:2000`:           httpql.True,
		`flow.rule.eq:"other"`:            httpql.False,
		`flow.rule.ne:"other"`:            httpql.True,
		`flow.rule.eq:"wire"`:             httpql.False,
	})
}

func TestRecordWithoutResponse(t *testing.T) {
	f := answered(t)
	f.Response = nil
	queries := []string{`resp.code.eq:302`, `resp.code.ne:302`, `resp.raw.ncont:"x"`, `resp.header["X"].ne:"a"`, `resp.len.gte:0`,
		`resp.redirect.eq:""`, `resp.body.eq:""`, `resp.roundtrip.lt:5`}
	for _, src := range queries {
		check(t, &flow.Record{Flow: f}, map[string]httpql.Truth{src: httpql.Unknown})
	}
	f.End(f.Start.Add(time.Second), &flow.Error{Reason: flow.ReasonTimeout})
	for _, src := range queries {
		check(t, &flow.Record{Flow: f}, map[string]httpql.Truth{src: httpql.False})
	}
}

func TestRecordOfAnEmptyFlow(t *testing.T) {
	f := &flow.Flow{}
	f.End(time.Unix(1, 0), nil)
	check(t, &flow.Record{Flow: f}, map[string]httpql.Truth{
		`req.host.ne:"x"`: httpql.False, `req.raw.cont:""`: httpql.False, `req.header["a"].ne:"b"`: httpql.False,
		`flow.tool.eq:""`: httpql.True, ``: httpql.True,
	})
}

func TestRecordHostWithoutPort(t *testing.T) {
	for host, want := range map[string]string{
		"shop.example": "shop.example", "shop.example:80": "shop.example", "[::1]:80": "[::1]", "[::1]": "[::1]", "": "",
	} {
		f := &flow.Flow{Request: request(t, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")}
		if got, p := (&flow.Record{Flow: f}).Bytes(httpql.ReqHost); string(got) != want || p != httpql.Known {
			t.Errorf("Host %q: %q, want %q", host, got, want)
		}
	}
}

func TestRecordLongNames(t *testing.T) {
	long := strings.Repeat("scanner", 100)
	check(t, &flow.Record{Flow: &flow.Flow{Tool: long, Identity: "a"}}, map[string]httpql.Truth{
		`flow.tool.eq:"` + long + `" and flow.identity.eq:"a"`: httpql.True,
	})
}

func check(t *testing.T, r *flow.Record, want map[string]httpql.Truth) {
	t.Helper()
	for src, want := range want {
		q, err := httpql.Parse(src)
		if err != nil {
			t.Errorf("Parse(%q): %v", src, err)
			continue
		}
		if got := q.Match(r); got != want {
			t.Errorf("%s is %v, want %v", src, got, want)
		}
	}
}

// headQuery asks about everything that is there without a body. It has no
// regex: regexp keeps its memory in a pool, which the race detector empties.
const headQuery = `req.host.like:"%.nowhere.example" or req.ext.eq:".css" or resp.code.eq:401 or ` +
	`resp.header["WWW-Authenticate"].cont:"invalid_token" or resp.redirect.cont:"/signin" or flow.tool.eq:"fuzz" or ` +
	`source:"replay" or flow.identity.eq:"bob" or flow.rule.eq:"none" or trace.action.eq:"resend" or session.generation.gt:9`

func TestAskingAllocatesNothing(t *testing.T) {
	q, err := httpql.Parse(headQuery)
	if err != nil {
		t.Fatal(err)
	}
	f := answered(t)
	f.End(f.Start, nil)
	r := &flow.Record{Flow: f}
	if n := testing.AllocsPerRun(100, func() {
		if q.Match(r) != httpql.False {
			t.Error("not false")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	q, err := httpql.Parse(headQuery)
	if err != nil {
		b.Fatal(err)
	}
	r := &flow.Record{Flow: answered(b)}
	b.ReportAllocs()
	for b.Loop() {
		q.Match(r)
	}
}
