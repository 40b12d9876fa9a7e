package httpql_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/httpql/httpqltest"
)

// page is an exchange that has something of everything.
func page() *httpqltest.Exchange {
	return &httpqltest.Exchange{
		Request:     []byte("POST /a/login.php?next=/ HTTP/1.1\r\nHost: shop.example\r\nCookie: sessid=1\r\n\r\n"),
		RequestBody: []byte(`{"user":"alice"}`),
		Response: []byte("HTTP/1.1 302 Found\r\nLocation: /Login\r\nSet-Cookie: sessid=2\r\nset-cookie: lang=en\r\n" +
			"WWW-Authenticate: Bearer error=\"invalid_token\"\r\n\r\n"),
		ResponseBody: []byte(`{"message":"Token Expired!"}`),
		Row:          7, Port: 443, TLS: true, Tool: "scanner", Identity: "alice", State: "dead", Generation: 2,
		Rules: []string{"shop"}, Actions: []string{"match", "dead"},
	}
}

// sameTree compares what the trees say.
func sameTree(a, b *httpql.Node) bool {
	return a.Kind == b.Kind && a.Field == b.Field && a.Op == b.Op && a.Name == b.Name && a.Text == b.Text &&
		a.Number == b.Number && a.Literal == b.Literal && slices.EqualFunc(a.Nodes, b.Nodes, sameTree)
}

func must(t testing.TB) func(q *httpql.Query, err error) *httpql.Query {
	return func(q *httpql.Query, err error) *httpql.Query {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
}

func TestBuiltQueries(t *testing.T) {
	ok := must(t)
	expired := httpql.BodyContains(httpql.Response, "Token Expired!", true)
	for _, c := range []struct {
		q    *httpql.Query
		text string
		want httpql.Truth
	}{
		{nil, `()`, httpql.True},
		{&httpql.Query{}, `()`, httpql.True},
		{httpql.And(), `()`, httpql.True},
		{httpql.Or(), `not ()`, httpql.False},
		{httpql.Not(nil), `not ()`, httpql.False},
		{httpql.And(nil, expired), `() and resp.body.regex:"Token Expired!"`, httpql.True},
		{httpql.CodeIn(), `not ()`, httpql.False},
		{httpql.CodeIn(401), `resp.code.eq:401`, httpql.False},
		{httpql.CodeIn(401, 302), `resp.code.eq:401 or resp.code.eq:302`, httpql.True},
		{httpql.BodyContains(httpql.Response, "token expired!", true), `resp.body.regex:"token expired!"`, httpql.False},
		{httpql.BodyContains(httpql.Response, "token expired!", false), `resp.body.cont:"token expired!"`, httpql.True},
		{httpql.BodyContains(httpql.Response, `.*`, true), `resp.body.regex:"\\.\\*"`, httpql.False},
		{httpql.BodyContains(httpql.Request, `"alice"}`, true), `req.body.regex:"\"alice\"\\}"`, httpql.True},
		{httpql.BodyContains(httpql.Request, "\xff", true), `req.body.regex:"` + "\ufffd" + `"`, httpql.False},
		{httpql.RawContains(httpql.Response, "\r\n\r\n{\"m", true), `resp.raw.regex:"\r\n\r\n\\{\"m"`, httpql.True},
		{httpql.HeaderContains(httpql.Response, "www-authenticate", "invalid_token", true), `resp.header["www-authenticate"].regex:"invalid_token"`, httpql.True},
		{httpql.HeaderContains(httpql.Request, "Cookie", "SESSID", false), `req.header["Cookie"].cont:"SESSID"`, httpql.True},
		{ok(httpql.BodyRegex(httpql.Response, `Token (Expired|Gone)\b`)), `resp.body.regex:"Token (Expired|Gone)\\b"`, httpql.True},
		{ok(httpql.Compare(httpql.RespRedirect, httpql.Cont, "/login")), `resp.redirect.cont:"/login"`, httpql.True},
		{ok(httpql.Compare(httpql.Source, httpql.Eq, "intercept")), `source:"intercept"`, httpql.True},
		{ok(httpql.Compare(httpql.ReqCreatedAt, httpql.Lt, "2026-01-31")), `req.created_at.lt:"2026-01-31"`, httpql.True},
		{ok(httpql.CompareInt(httpql.RespLen, httpql.Gt, 10)), `resp.len.gt:10`, httpql.True},
		{ok(httpql.CompareInt(httpql.ReqTLS, httpql.Ne, 1)), `req.tls.ne:true`, httpql.False},
		{ok(httpql.CompareHeader(httpql.Response, "Set-Cookie", httpql.Ncont, "admin")), `resp.header["Set-Cookie"].ncont:"admin"`, httpql.True},
		{httpql.And(httpql.CodeIn(302), httpql.Not(expired)), `resp.code.eq:302 and not resp.body.regex:"Token Expired!"`, httpql.False},
		{httpql.Or(httpql.CodeIn(1, 2), expired), `resp.code.eq:1 or resp.code.eq:2 or resp.body.regex:"Token Expired!"`, httpql.True},
		{httpql.Or(expired, httpql.CodeIn(1, 2)), `resp.body.regex:"Token Expired!" or (resp.code.eq:1 or resp.code.eq:2)`, httpql.True},
	} {
		if got := c.q.String(); got != c.text {
			t.Errorf("written %q, want %q", got, c.text)
			continue
		}
		if got := c.q.Match(page()); got != c.want {
			t.Errorf("%s is %v, want %v", c.q, got, c.want)
		}
		if again := parse(t, c.text); !sameTree(again.Root(), c.q.Root()) {
			t.Errorf("%s is read as another query: %s", c.text, again)
		}
	}
}

func TestBuildingSharesNothing(t *testing.T) {
	a := httpql.CodeIn(1, 2, 3)
	b := httpql.Or(a, httpql.CodeIn(4))
	c := httpql.Or(a, httpql.CodeIn(5))
	d := httpql.Or(b, httpql.CodeIn(6))
	for q, want := range map[*httpql.Query]string{
		a: "resp.code.eq:1 or resp.code.eq:2 or resp.code.eq:3",
		b: "resp.code.eq:1 or resp.code.eq:2 or resp.code.eq:3 or resp.code.eq:4",
		c: "resp.code.eq:1 or resp.code.eq:2 or resp.code.eq:3 or resp.code.eq:5",
		d: "resp.code.eq:1 or resp.code.eq:2 or resp.code.eq:3 or resp.code.eq:4 or resp.code.eq:6",
	} {
		if got := q.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestBuildingRefuses(t *testing.T) {
	for _, c := range []struct {
		build func() (*httpql.Query, error)
		want  string
	}{
		{func() (*httpql.Query, error) { return httpql.Compare(httpql.RespCode, httpql.Eq, "401") }, "resp.code is not compared with a string; use CompareInt"},
		{func() (*httpql.Query, error) { return httpql.Compare(httpql.RespHeader, httpql.Eq, "a") }, "use CompareInt or CompareHeader"},
		{func() (*httpql.Query, error) { return httpql.Compare(httpql.ReqHead, httpql.Eq, "a") }, "req.head is not compared"},
		{func() (*httpql.Query, error) { return httpql.Compare(httpql.Field(200), httpql.Eq, "a") }, "is not compared"},
		{func() (*httpql.Query, error) { return httpql.Compare(httpql.RespBody, httpql.Gt, "a") }, "cannot be compared by gt"},
		{func() (*httpql.Query, error) { return httpql.Compare(httpql.RespBody, httpql.Op(99), "a") }, "cannot be compared by"},
		{func() (*httpql.Query, error) { return httpql.Compare(httpql.RespBody, httpql.Eq, "\xff") }, "not UTF-8"},
		{func() (*httpql.Query, error) { return httpql.Compare(httpql.ReqCreatedAt, httpql.Lt, "now") }, "the date cannot be read"},
		{func() (*httpql.Query, error) { return httpql.BodyRegex(httpql.Response, "ab(?=c)") }, "1:3: a regex has no look-around"},
		{func() (*httpql.Query, error) { return httpql.CompareInt(httpql.RespCode, httpql.Cont, 4) }, "cannot be compared by cont"},
		{func() (*httpql.Query, error) { return httpql.CompareInt(httpql.RespCode, httpql.Eq, -4) }, "no such value"},
		{func() (*httpql.Query, error) { return httpql.CompareInt(httpql.ReqTLS, httpql.Eq, 2) }, "no such value"},
		{func() (*httpql.Query, error) { return httpql.CompareInt(httpql.RespBody, httpql.Eq, 2) }, "is not compared with a number"},
	} {
		q, err := c.build()
		var e *httpql.SyntaxError
		if q != nil || !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) || e.Hint == "" {
			t.Errorf("got %v and %v, want an error with %q", q, err, c.want)
		}
	}
}

// TestBuiltQueriesCanBeWritten builds queries at random, writes and reads them.
func TestBuiltQueriesCanBeWritten(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	x := page()
	for range 3000 {
		q := random(t, rnd, 4)
		again, err := httpql.Parse(q.String())
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		if !sameTree(q.Root(), again.Root()) {
			t.Fatalf("%s is read as another query: %s", q, again)
		}
		if q.Match(x) != again.Match(x) || q.Needs() != again.Needs() {
			t.Fatalf("%s answers differently when it was read", q)
		}
	}
}

func random(t *testing.T, rnd *rand.Rand, deep int) *httpql.Query {
	texts := []string{"", "a", `"\/`, "Token", "é\u2028😊", "\x00\x1f\x7f\r\n", "a.*[b", "%_", "//", "*/", "\xfe"}
	text := texts[rnd.IntN(len(texts))]
	side, name := httpql.Side(rnd.IntN(2)), texts[rnd.IntN(len(texts))]
	matchCase := rnd.IntN(2) == 0
	kind := rnd.IntN(10)
	if deep == 0 {
		kind = 4 + rnd.IntN(6)
	}
	few := func() []*httpql.Query {
		var qs []*httpql.Query
		for range rnd.IntN(4) {
			qs = append(qs, random(t, rnd, deep-1))
		}
		return qs
	}
	ok := must(t)
	switch kind {
	case 0, 1:
		return httpql.And(few()...)
	case 2:
		return httpql.Or(few()...)
	case 3:
		return httpql.Not(random(t, rnd, deep-1))
	case 4:
		return httpql.CodeIn(rnd.IntN(999), 302)
	case 5:
		return httpql.BodyContains(side, text, matchCase)
	case 6:
		return httpql.RawContains(side, text, matchCase)
	case 7:
		return httpql.HeaderContains(side, name, text, matchCase)
	case 8:
		return ok(httpql.CompareInt(httpql.ReqLen, httpql.Gte, rnd.Int64N(100)))
	}
	return ok(httpql.Compare(httpql.ReqPath, httpql.Nlike, strings.ToValidUTF8(text, "?")))
}

func TestNeeds(t *testing.T) {
	for src, want := range map[string]httpql.Needs{
		``:                                   0,
		`resp.code.eq:401`:                   httpql.NeedResponse,
		`resp.redirect.cont:"x"`:             httpql.NeedResponse,
		`resp.header["a"].eq:"x"`:            httpql.NeedResponse,
		`not resp.body.cont:"x"`:             httpql.NeedResponse | httpql.NeedResponseBody,
		`resp.len.eq:1`:                      httpql.NeedResponse | httpql.NeedResponseBody,
		`"x"`:                                httpql.NeedRequest | httpql.NeedRequestBody | httpql.NeedResponse | httpql.NeedResponseBody,
		`req.host.eq:"x" and req.ext.eq:"x"`: httpql.NeedRequest,
		`session.state.eq:"x"`:               httpql.NeedSession,
		`flow.rule.eq:"x"`:                   httpql.NeedTrace,
		`flow.duration.eq:1 or row.id.eq:1`:  httpql.NeedEnd | httpql.NeedRow,
		`preset:x and resp.code.eq:1`:        httpql.NeedPresets | httpql.NeedResponse,
	} {
		if got := parse(t, src).Needs(); got != want {
			t.Errorf("%s needs %b, want %b", src, got, want)
		}
	}
	if got := (*httpql.Query)(nil).Needs(); got != 0 {
		t.Errorf("the nil query needs %b", got)
	}
}

func TestResolve(t *testing.T) {
	presets := map[string]*httpql.Query{
		"static":  parse(t, `req.ext.eq:".css" or req.ext.eq:".js"`),
		"my dead": parse(t, `resp.code.eq:302`),
		"nested":  parse(t, `preset:static`),
	}
	for src, want := range map[string]string{
		`resp.code.eq:1`:                              `resp.code.eq:1`,
		`preset:static`:                               `req.ext.eq:".css" or req.ext.eq:".js"`,
		`not preset:static and preset:"my dead"`:      `not (req.ext.eq:".css" or req.ext.eq:".js") and resp.code.eq:302`,
		`preset:static or row.id.eq:1`:                `req.ext.eq:".css" or req.ext.eq:".js" or row.id.eq:1`,
		`row.id.eq:1 or row.id.eq:2 or preset:static`: `row.id.eq:1 or row.id.eq:2 or (req.ext.eq:".css" or req.ext.eq:".js")`,
	} {
		q := parse(t, src)
		got, err := q.Resolve(presets)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if got.String() != want || got.Needs()&httpql.NeedPresets != 0 || !sameTree(parse(t, want).Root(), got.Root()) {
			t.Errorf("%s is resolved to %s, want %s", src, got, want)
		}
		if q.String() != parse(t, src).String() {
			t.Errorf("Resolve changed %s to %s", src, q)
		}
	}
	if presets["static"].String() != `req.ext.eq:".css" or req.ext.eq:".js"` {
		t.Errorf("Resolve changed a preset to %s", presets["static"])
	}
	for src, want := range map[string]string{
		"row.id.eq:1 or\n preset:gone": `2:2: there is no preset "gone"; define it`,
		`preset:nested`:                `1:1: the preset "nested" uses a preset itself`,
	} {
		q, err := parse(t, src).Resolve(presets)
		if q != nil || err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v and error %v, want %q", src, q, err, want)
		}
	}
	for src, want := range map[string]httpql.Truth{
		`preset:static`: httpql.Unknown, `preset:static or resp.code.eq:302`: httpql.True, `preset:static and resp.code.eq:1`: httpql.False,
	} {
		if got := parse(t, src).Match(page()); got != want {
			t.Errorf("%s without presets is %v, want %v", src, got, want)
		}
	}
}

func TestTruthIsWritten(t *testing.T) {
	for truth, want := range map[httpql.Truth]string{httpql.False: "false", httpql.True: "true", httpql.Unknown: "unknown"} {
		if got := truth.String(); got != want {
			t.Errorf("%d is written %q, want %q", truth, got, want)
		}
	}
}
