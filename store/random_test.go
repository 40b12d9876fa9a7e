package store_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/wire"
)

// gen makes flows and queries about them at random, from few words, so that
// queries are true of some flows and nearly true of others.
type gen struct{ *rand.Rand }

func pick[T any](g gen, of ...T) T { return of[g.IntN(len(of))] }

// one in n
func (g gen) one(n int) bool { return g.IntN(n) == 0 }

func (g gen) word() string {
	return pick(g, "a", "ab", "tok", "Token", "expired", "Set-Cookie", "session", "É", "é", "ß", "ſ", "\u212a", "k", "K", "sid", "=", "&", "\"", "<p>",
		"{\"id\":", "12", "500", "404", " ", "  ", "\t", "%", "_", "日本", "ab\u0301", ".js", "/", "login", "LOGIN", "x\ufffdy", "-", ":", "shop", "\u0130", "i", "I")
}

// odd is a word that no text may have.
func (g gen) odd() string { return pick(g, "\xff", "\xc3", "\x00", "\xed\xa0\x80", "\x80abc", "\x7f") }

func (g gen) text(most int, odd bool) string {
	var b strings.Builder
	for range g.IntN(most + 1) {
		if odd && g.one(12) {
			b.WriteString(g.odd())
		} else {
			b.WriteString(g.word())
		}
	}
	return b.String()
}

// token is a text without blanks and control characters.
func (g gen) token(most int) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return 'z'
		}
		return r
	}, g.text(most, false))
}

func (g gen) host() string {
	return pick(g, "shop.example", "SHOP.example", "api.shop.example", "127.0.0.1", "[::1]", "é.example", "x", "shop.example.", "b\xffd.example", strings.Repeat("h", 300))
}

func (g gen) path() string {
	p := "/" + g.token(4) + pick(g, "", "/", ".js", ".PHP", "/.x", "/a.b/c")
	if g.one(2) {
		p += "?" + g.token(5)
	}
	return p
}

func (g gen) fields() (fields [][2]string) {
	for range g.IntN(6) {
		fields = append(fields, [2]string{pick(g, "Cookie", "cookie", "X-A", "x-b", "Location", "Set-Cookie", "Content-Type", "X-Tok", "Ab"), g.value()})
	}
	return fields
}

func (g gen) value() string {
	return strings.TrimSpace(strings.NewReplacer("\r", "", "\n", "", "\x00", "").Replace(g.text(4, g.one(4))))
}

// head1 is a head of HTTP/1.
func (g gen) head1(start string, fields [][2]string) []byte {
	end := pick(g, "\r\n", "\r\n", "\r\n", "\n")
	var b strings.Builder
	b.WriteString(start + end)
	for _, f := range fields {
		b.WriteString(f[0] + pick(g, ": ", ":", ":  ", " : ") + f[1] + pick(g, "", " ") + end)
	}
	b.WriteString(end)
	return []byte(b.String())
}

func head2(into *wire.Head, fields [][2]string) {
	into.Reset(wire.HTTP2)
	for _, f := range fields {
		if err := into.AppendField([]byte(strings.ToLower(f[0])), []byte(f[1]), 0); err != nil {
			panic(err)
		}
	}
}

func (g gen) request() *wire.Request {
	for {
		method, host := pick(g, "GET", "GET", "POST", "get", "PUT", "CONNECT", "OPTIONS", "Gét"), g.host()
		fields := g.fields()
		if g.one(4) {
			r := new(wire.Request)
			pseudo := [][2]string{{":method", method}, {":scheme", pick(g, "https", "http")}, {":path", g.path()}}
			if !g.one(4) {
				pseudo = append(pseudo, [2]string{":authority", host + pick(g, "", ":443")})
			}
			if g.one(3) {
				fields = append(fields, [2]string{"host", g.host()})
			}
			head2(&r.Head, append(pseudo, fields...))
			return r
		}
		target := g.path()
		if g.one(6) {
			target = "http://" + pick(g, "", "u@") + g.host() + target
		}
		fields = append(fields, [2]string{pick(g, "Host", "host"), host + pick(g, "", ":8080")})
		if r, err := wire.ParseRequest(g.head1(method+" "+target+pick(g, " HTTP/1.1", " HTTP/1.0"), fields)); err == nil {
			return r
		}
	}
}

func (g gen) response() *wire.Response {
	for {
		status := pick(g, "200", "200", "301", "302", "401", "404", "500", "503", "299", "304")
		fields := g.fields()
		if g.one(4) {
			r := new(wire.Response)
			head2(&r.Head, append([][2]string{{":status", status}}, fields...))
			return r
		}
		if r, err := wire.ParseResponse(g.head1("HTTP/1.1 "+status+pick(g, "", " OK", " Not Fôund", "  "), fields)); err == nil {
			return r
		}
	}
}

// body is one as it may stand on the wire below a head, or none.
func (g gen) body(h *wire.Head) *store.Body {
	if g.one(3) {
		return nil
	}
	text := []byte(g.text(30, true))
	if g.one(4) { // too large for the row
		text = append(text, bytes.Repeat([]byte(g.text(5, true)+"."), 600)...)
		text = append(text, g.text(6, true)...)
	}
	if g.one(6) && h.Proto() == wire.HTTP1 {
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		z.Write(text)
		z.Close()
		text = zipped.Bytes()
		if err := h.Add("Content-Encoding", pick(g, "gzip", "gzip", "br")); err != nil {
			panic(err)
		}
	}
	b := &store.Body{Raw: text, Kind: pick(g, wire.Length, wire.UntilClose)}
	switch {
	case h.Proto() == wire.HTTP2:
		b.Kind = wire.Stream
		if g.one(4) {
			b.Trailers = new(wire.Head)
			head2(b.Trailers, [][2]string{{"grpc-status", g.value()}, {"x-tok", g.value()}})
		}
	case g.one(5):
		b.Kind = wire.Chunked
		b.Raw = fmt.Appendf(nil, "%x\r\n%s\r\n0\r\n", len(text), text)
		if len(text) == 0 {
			b.Raw = []byte("0\r\n")
		}
		if g.one(2) {
			b.Raw = append(b.Raw, "X-Tok: "+g.value()+"\r\n"...)
		}
		b.Raw = append(b.Raw, "\r\n"...)
	}
	b.Size = int64(len(b.Raw))
	if g.one(15) {
		b.Cut = true
		b.Raw = b.Raw[:len(b.Raw)/2]
	}
	return b
}

func (g gen) label() string {
	return pick(g, "proxy", "macro", "scanner", "replay", "fuzz", "authz", "script", "Ünï", "", "b\xffd", "n\x00l", strings.Repeat("l", 300))
}

func (g gen) time() time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(g.Int64N(int64(3 * time.Second))))
}

// exchange is the n-th flow.
func (g gen) exchange(n int) *store.Exchange {
	f := &flow.Flow{Tool: g.label(), Identity: pick(g, "", "alice", "bob", "b\xffd"), Start: g.time()}
	binary.BigEndian.PutUint64(f.ID[:], uint64(n))
	f.Origin = flow.Origin{TLS: g.one(2), Host: "origin.example", Port: uint16(pick(g, 80, 443, 8080))}
	f.Stamp.Generation = uint64(g.IntN(3))
	x := &store.Exchange{Flow: f, State: pick(g, "", "alive", "dead")}
	f.Received = g.request()
	f.Request = f.Received
	x.Received = g.body(&f.Request.Head)
	if g.one(4) {
		f.Request = g.request()
		x.Sent = g.body(&f.Request.Head)
	}
	after := func(t time.Time) time.Time {
		return t.Add(time.Duration(g.Int64N(int64(pick(g, 3*time.Microsecond, 5*time.Millisecond, time.Second)))))
	}
	end := after(f.Start)
	if !g.one(4) {
		f.Sent = after(f.Start)
		end = after(f.Sent)
	}
	if !g.one(5) {
		f.Response = g.response()
		x.Response = g.body(&f.Response.Head)
		if !g.one(5) && !f.Sent.IsZero() {
			f.Answered = after(f.Sent)
			end = after(f.Answered)
		}
	}
	if g.one(10) {
		f.Refused = &flow.Error{Status: 502, Reason: "x"}
	}
	for range g.IntN(4) {
		f.Trace.Add(flow.Event{Actor: pick(g, "rule shop", "rule csrf", "upstream", "rule "), Action: pick(g, flow.ActionInject, flow.ActionDead, "é")})
	}
	f.End(end, nil)
	return x
}

// asked is a query as a tree that can be made smaller.
type asked struct {
	leaf *httpql.Query
	join func(...*httpql.Query) *httpql.Query
	of   []*asked
}

func (a *asked) query() *httpql.Query {
	if a.leaf != nil {
		return a.leaf
	}
	qs := make([]*httpql.Query, len(a.of))
	for i, m := range a.of {
		qs[i] = m.query()
	}
	return a.join(qs...)
}

// smaller makes a query that fails as small as it goes.
func (a *asked) smaller(fails func(*asked) bool) *asked {
	for i, m := range a.of {
		if fails(m) {
			return m.smaller(fails)
		}
		if len(a.of) > 1 {
			less := &asked{join: a.join, of: append(append([]*asked(nil), a.of[:i]...), a.of[i+1:]...)}
			if fails(less) {
				return less.smaller(fails)
			}
		}
	}
	for i, m := range a.of {
		within := m.smaller(func(n *asked) bool {
			of := append([]*asked(nil), a.of...)
			of[i] = n
			return fails(&asked{join: a.join, of: of})
		})
		if within != m {
			of := append([]*asked(nil), a.of...)
			of[i] = within
			return (&asked{join: a.join, of: of}).smaller(fails)
		}
	}
	return a
}

// query asks about some of the flows.
func (g gen) query(flows []*store.Exchange, depth int) *asked {
	if depth > 0 && g.one(2) {
		a := &asked{join: httpql.And}
		switch g.IntN(5) {
		case 0:
			return &asked{join: func(qs ...*httpql.Query) *httpql.Query { return httpql.Not(qs[0]) }, of: []*asked{g.query(flows, depth-1)}}
		case 1, 2:
			a.join = httpql.Or
		}
		for range 2 + g.IntN(2) {
			a.of = append(a.of, g.query(flows, depth-1))
		}
		return a
	}
	for {
		if q := g.compare(pick(g, flows...)); q != nil {
			return &asked{leaf: q}
		}
	}
}

func must(q *httpql.Query, err error) *httpql.Query {
	if err != nil {
		return nil
	}
	return q
}

// compare asks something about a flow; nil if that cannot be asked.
func (g gen) compare(x *store.Exchange) *httpql.Query {
	numbers := pick(g, httpql.Eq, httpql.Ne, httpql.Gt, httpql.Gte, httpql.Lt, httpql.Lte)
	texts := pick(g, httpql.Eq, httpql.Ne, httpql.Cont, httpql.Cont, httpql.Ncont, httpql.Like, httpql.Nlike, httpql.Regex, httpql.Nregex)
	r := x.Live(64 + int64(g.IntN(500)))
	switch g.IntN(12) {
	case 0:
		f := pick(g, httpql.RowID, httpql.ReqPort, httpql.RespCode, httpql.RespRoundtrip, httpql.FlowDuration, httpql.SessionGeneration)
		v, _ := r.Int(f)
		return must(httpql.CompareInt(f, numbers, max(0, v+int64(pick(g, -1, 0, 0, 1)))))
	case 1:
		f := pick(g, httpql.ReqLen, httpql.RespLen)
		head, _ := r.Bytes(map[httpql.Field]httpql.Field{httpql.ReqLen: httpql.ReqHead, httpql.RespLen: httpql.RespHead}[f])
		return must(httpql.CompareInt(f, numbers, int64(len(head)+pick(g, 0, 1, 20))))
	case 2:
		return must(httpql.CompareInt(httpql.ReqTLS, pick(g, httpql.Eq, httpql.Ne), int64(g.IntN(2))))
	case 3:
		return must(httpql.Compare(httpql.ReqCreatedAt, pick(g, httpql.Lt, httpql.Gt), x.Flow.Start.Add(time.Duration(pick(g, -1, 0, 1))*time.Millisecond).Format("2006-01-02T15:04:05.000Z07:00")))
	case 4:
		return must(httpql.Compare(httpql.Source, httpql.Eq, pick(g, "intercept", "replay", "automate", "plugin", "workflow", "x")))
	case 5:
		f := pick(g, httpql.FlowTool, httpql.FlowIdentity, httpql.FlowNode, httpql.SessionState, httpql.ReqMethod, httpql.ReqHost)
		v, _ := r.Bytes(f)
		return must(httpql.Compare(f, texts, g.operand(texts, string(v))))
	case 6:
		f := pick(g, httpql.FlowRule, httpql.TraceAction)
		return must(httpql.Compare(f, texts, g.operand(texts, pick(g, "shop", "csrf", "", "inject", "dead", "é"))))
	case 7, 8:
		f := pick(g, httpql.ReqHeader, httpql.RespHeader)
		name, value := "X-Tok", []byte("tok")
		if n, p := r.Int(f); p == httpql.Known && n > 0 {
			a, b := r.Item(f, g.IntN(int(n)))
			name, value = string(a), b
		}
		switch g.IntN(4) {
		case 0:
			return must(httpql.Compare(f+1, texts, g.operand(texts, name)))
		case 1:
			return must(httpql.Compare(f+2, texts, g.operand(texts, string(value))))
		}
		return must(httpql.CompareHeader(pick(g, httpql.Request, httpql.Response), pick(g, name, strings.ToUpper(name)), texts, g.operand(texts, string(value))))
	case 9:
		return must(httpql.Parse(pick(g, "", "preset:none", "not preset:none", `"`+pick(g, "token", "Token exp", "é", "zzz", "12")+`"`)))
	}
	f := pick(g, httpql.ReqBody, httpql.ReqRaw, httpql.ReqRaw, httpql.ReqPath, httpql.ReqQuery, httpql.ReqExt, httpql.RespBody, httpql.RespRaw, httpql.RespRaw, httpql.RespRedirect)
	return must(httpql.Compare(f, texts, g.operand(texts, g.part(r, f))))
}

// part is a text of the record in which a value of the field may be.
func (g gen) part(r *flow.Record, f httpql.Field) string {
	from := func(head, body httpql.Field) string {
		a, _ := r.Bytes(head)
		a = append([]byte(nil), a...)
		b, _ := r.Bytes(body)
		return string(append(a, b...))
	}
	switch f {
	case httpql.ReqPath, httpql.ReqQuery, httpql.ReqBody, httpql.RespBody:
		v, _ := r.Bytes(f)
		return string(v)
	case httpql.ReqExt:
		return pick(g, ".js", ".php", ".PHP", "", ".b")
	case httpql.RespRaw, httpql.RespRedirect:
		return from(httpql.RespHead, httpql.RespBody)
	}
	return from(httpql.ReqHead, httpql.ReqBody)
}

// operand makes an operand of a value, or of a part of it.
func (g gen) operand(op httpql.Op, value string) string {
	if op != httpql.Eq && op != httpql.Ne || g.one(6) {
		if n := len(value); n > 0 {
			at := g.IntN(n)
			if g.one(6) {
				at = max(0, n-g.IntN(12))
			}
			value = value[at:min(n, at+1+g.IntN(pick(g, 2, 3, 6, 30)))]
		}
	}
	if g.one(8) {
		value += g.text(2, false)
	}
	switch g.IntN(8) {
	case 0:
		value = strings.ToUpper(value)
	case 1:
		value = strings.ToLower(value)
	}
	value = strings.ToValidUTF8(value, pick(g, "", "\ufffd"))
	switch op {
	case httpql.Like, httpql.Nlike:
		runes := []rune(value)
		for range g.IntN(3) {
			if len(runes) > 0 {
				runes[g.IntN(len(runes))] = pick(g, '%', '_')
			}
		}
		return pick(g, "%", "") + string(runes) + pick(g, "%", "")
	case httpql.Regex, httpql.Nregex:
		return g.pattern(value)
	}
	return value
}

// pattern makes a regex of a text.
func (g gen) pattern(value string) string {
	var b strings.Builder
	if g.one(3) {
		b.WriteString("(?i)")
	}
	if g.one(8) {
		b.WriteString(pick(g, "^", `\b`, "(?s).*"))
	}
	for _, r := range value {
		atom := string(r)
		if r < 0x80 && !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", r) {
			atom = fmt.Sprintf(`\x{%x}`, r)
		}
		switch g.IntN(16) {
		case 0:
			atom = "."
		case 1:
			atom = "(" + atom + "|" + pick(g, "xyz", "é", "") + ")"
		case 2:
			atom += pick(g, "?", "+", "*", "{1,2}")
		case 3:
			atom = pick(g, `[a-z]`, `\w`, `[^x]`, `[kKsS]`, atom)
		}
		b.WriteString(atom)
	}
	return b.String()
}
