package httpql_test

import (
	"bytes"
	"testing"

	"github.com/holdfast-proxy/holdfast/httpql"
)

// plain is a record that gives out what it has without any work of its own.
type plain struct {
	code       int64
	head, body []byte
	names      [][]byte
	values     [][]byte
}

func (p *plain) Bytes(f httpql.Field) ([]byte, httpql.Presence) {
	switch f {
	case httpql.ReqHead, httpql.RespHead:
		return p.head, httpql.Known
	case httpql.ReqBody, httpql.RespBody:
		return p.body, httpql.Known
	case httpql.ReqPath:
		return []byte(nil), httpql.Known
	}
	return p.head[:8], httpql.Known
}

func (p *plain) Int(f httpql.Field) (int64, httpql.Presence) {
	if f == httpql.RespHeader || f == httpql.ReqHeader {
		return int64(len(p.names)), httpql.Known
	}
	return p.code, httpql.Known
}

func (p *plain) Item(_ httpql.Field, i int) (name, value []byte) { return p.names[i], p.values[i] }

// answer is a response as it comes from a shop: 12 headers and 64 KiB of HTML.
func answer() *plain {
	p := &plain{code: 200, head: []byte("HTTP/1.1 200 OK\r\n")}
	for _, h := range [][2]string{
		{"Date", "Sat, 31 Jan 2026 12:00:00 GMT"}, {"Content-Type", "text/html; charset=utf-8"}, {"Connection", "keep-alive"},
		{"Cache-Control", "no-store"}, {"Set-Cookie", "sessid=8f3b2a; Path=/; HttpOnly"}, {"Set-Cookie", "lang=en"},
		{"X-Frame-Options", "DENY"}, {"Vary", "Accept-Encoding"}, {"Server", "nginx"}, {"X-Request-Id", "0b1c2d3e4f"},
		{"Strict-Transport-Security", "max-age=31536000"}, {"WWW-Authenticate", "Bearer error=\"invalid_token\""},
	} {
		p.names, p.values = append(p.names, []byte(h[0])), append(p.values, []byte(h[1]))
		p.head = append(p.head, h[0]+": "+h[1]+"\r\n"...)
	}
	p.head = append(p.head, "\r\n"...)
	row := []byte("<tr class=\"item\"><td>Tea pot, token of thanks</td><td data-price=\"12.50\">EUR 12.50</td></tr>\n")
	p.body = bytes.Repeat(row, 64<<10/len(row))
	return p
}

// asked are conditions as rules have them; all are false of the answer, so
// that everything is looked at.
func asked() map[string]string {
	return map[string]string{
		"code":         `resp.code.eq:401`,
		"codes":        `resp.code.eq:401 or resp.code.eq:403 or resp.code.eq:419`,
		"header":       `resp.header["Location"].cont:"/login"`,
		"header value": `resp.header.value.cont:"expired_token"`,
		"redirect":     `resp.redirect.cont:"/login"`,
		"ext like":     `req.ext.like:"%.css" or req.host.like:"%.google.com"`,
		"body cont":    `resp.body.cont:"Token Expired!"`,
		"body unicode": `resp.body.cont:"Sitzung abgelaufen für"`,
		"body literal": `resp.body.regex:"Token Expired!"`,
		"raw cont":     `resp.raw.cont:"Token Expired!"`,
		"raw literal":  `resp.raw.regex:"Token Expired!"`,
		"raw like":     `resp.raw.like:"%token expired%"`,
		"seed":         `resp.code.eq:401 OR resp.raw.cont:"Token Expired!"`,
		"bare string":  `"Token Expired!"`,
		"not":          `not (resp.code.eq:200 or resp.body.cont:"expired")`,
		"flow":         `flow.tool.eq:"x" or source:"replay" or session.generation.gt:1000`,
	}
}

func TestMatchingAllocatesNothing(t *testing.T) {
	r := answer()
	for name, src := range asked() {
		q := parse(t, src)
		if q.Match(r) != httpql.False {
			t.Errorf("%s: %s is not false", name, src)
		}
		if name == "raw like" {
			continue // puts head and body together in a pooled buffer, which the race detector drops
		}
		if n := testing.AllocsPerRun(20, func() { q.Match(r) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	queries := asked()
	queries["body regex"] = `resp.body.regex:/(?i)token\s+expired/`
	queries["body regex prefix"] = `resp.body.regex:/Token\s+Expired|expired_token/`
	queries["raw regex"] = `resp.raw.regex:/^HTTP\/1\.1 401/`
	for name, src := range queries {
		b.Run(name, func(b *testing.B) {
			q, r := parse(b, src), answer()
			b.ReportAllocs()
			for b.Loop() {
				q.Match(r)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	const src = `req.host.like:"%.shop.example" AND (resp.code.eq:401 OR resp.raw.cont:"Token Expired!") AND NOT req.path.regex:/\.(css|js)$/`
	b.ReportAllocs()
	for b.Loop() {
		if _, err := httpql.Parse(src); err != nil {
			b.Fatal(err)
		}
	}
}
