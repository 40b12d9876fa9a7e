package index

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/httpql/httpqltest"
)

func newTable(t testing.TB) *Table {
	t.Helper()
	table, err := NewTable(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func exchange(request, response string) *httpqltest.Exchange {
	x := &httpqltest.Exchange{}
	split := func(s string) (head, body []byte) {
		if s == "" {
			return nil, nil
		}
		h, b, _ := strings.Cut(s, "\r\n\r\n")
		return []byte(h + "\r\n\r\n"), []byte(b)
	}
	x.Request, x.RequestBody = split(request)
	x.Response, x.ResponseBody = split(response)
	return x
}

func TestBlocksLetThroughWhatIsThere(t *testing.T) {
	table := newTable(t)
	x := exchange("POST /login?next=/a HTTP/1.1\r\nHost: Shop.Example\r\nX-A: one\r\n\r\nuser=Ann\xc3\xa9e", "HTTP/1.1 200 OK\r\nServer: x\r\n\r\nToken Expired! \xffabc")
	var req, resp Signature
	req.Add(table, x, httpql.Request)
	resp.Add(table, x, httpql.Response)
	reqs, resps := req.Append(nil), resp.Append(nil)
	for q, may := range map[string]bool{
		`req.host.eq:"shop.example"`:                       true, // the case is the evaluator's
		`req.host.cont:"shop.exampel"`:                     false,
		`resp.raw.cont:"token expired"`:                    true,
		`resp.raw.cont:"token is"`:                         false,
		`"token is"`:                                       false,
		`"token exp"`:                                      true,
		`resp.raw.cont:"ab"`:                               true, // too short
		`resp.raw.cont:"zz"`:                               true,
		`resp.body.like:"%expired_ %"`:                     true,
		`resp.body.like:"%expird%"`:                        false,
		`req.raw.cont:"Année"`:                             true,
		`req.raw.cont:"Hannée"`:                            false,
		`req.raw.regex:/user=\w+/`:                         true,
		`req.raw.regex:/usr=\w+/`:                          false,
		`req.raw.regex:/(usr|user)=A/`:                     true,
		`req.raw.regex:/(usr|usee)=A/`:                     false,
		`req.raw.regex:/(?i)HOST: SHOP/`:                   true,
		`req.raw.regex:/(?i)HOST: CHOP/`:                   false,
		`req.raw.regex:/x.(a|b)?: on+e/`:                   true,
		`req.raw.regex:/l[aeiou]gin/`:                      true,
		`req.raw.regex:/[xyz]ogin=/`:                       false,
		`req.raw.regex:/(login){1,3}\?next/`:               true,
		`req.raw.regex:/(logan){1,3}\?next/`:               false,
		`req.header["x-a"].eq:"one"`:                       true,
		`req.header["x-b"].eq:"one"`:                       false,
		`req.header["x-b"].ne:"one"`:                       true,
		`not req.raw.cont:"absent"`:                        true,
		`not not req.raw.cont:"absent"`:                    false,
		`req.raw.cont:"absent" or resp.raw.cont:"expired"`: true,
		`req.raw.cont:"absent" and resp.raw.cont:"expire"`: false,
		`not (req.raw.cont:"absent" or not "expired")`:     true,
		`not (req.raw.cont:"absent" or not "expirod")`:     false,
		`not ()`:                                 false,
		`preset:x`:                               false,
		`not preset:x`:                           false,
		`resp.code.eq:200`:                       true,
		`resp.code.eq:418`:                       false,
		`resp.code.eq:1000`:                      false,
		`resp.code.ne:200`:                       true,
		`resp.code.gte:200`:                      true,
		`resp.code.gt:299`:                       false,
		`resp.code.gt:298`:                       true,
		`resp.code.lte:199`:                      false,
		`resp.code.lt:201`:                       true,
		`resp.code.lt:0`:                         false,
		`resp.code.gt:999`:                       false,
		`resp.code.gte:500 and resp.code.lt:600`: false,
	} {
		parsed, err := httpql.Parse(q)
		if err != nil {
			t.Fatal(err)
		}
		plan := NewPlan(table, parsed)
		if got := plan.Blocks.May(reqs, resps); got != may {
			t.Errorf("%s: %v, want %v (%+v)", q, got, may, plan.Blocks)
		}
		if strings.Count(plan.Where, "?") != len(plan.Args) {
			t.Errorf("%s: %s has not %d arguments", q, plan.Where, len(plan.Args))
		}
	}
}

func TestSignaturesFoldAndFill(t *testing.T) {
	table := newTable(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	var s Signature
	if got := s.Append(nil); len(got) != 0 {
		t.Errorf("a signature of nothing has %d bytes", len(got))
	}
	var texts []string
	last := 0
	for n := 0; !s.Full(); n++ {
		text := make([]byte, 100)
		for i := range text {
			text[i] = byte(rnd.IntN(128))
		}
		texts = append(texts, string(text))
		s.Add(table, exchange("GET / HTTP/1.1\r\n\r\n"+string(text), ""), httpql.Request)
		stored := s.Append(nil)
		if len(stored) < last || len(stored)&(len(stored)-1) != 0 {
			t.Fatalf("%d texts have a signature of %d bytes, fewer had %d", n, len(stored), last)
		}
		last = len(stored)
	}
	if last != Bits/8 || len(texts) < 100 {
		t.Errorf("full with %d bytes and %d texts", last, len(texts))
	}
	stored := s.Append(nil)
	for _, text := range texts {
		if !has(stored, table.grams(text)) {
			t.Fatalf("%q was put in and is not there", text)
		}
	}
	wrong := 0
	for range 1000 {
		absent := make([]byte, 7)
		for i := range absent {
			absent[i] = byte(rnd.IntN(128))
		}
		if has(stored, table.grams(string(absent))) {
			wrong++
		}
	}
	if wrong > 20 {
		t.Errorf("%d of 1000 absent texts of 5 trigrams pass a full signature", wrong)
	}
	if s.Reset(); len(s.Append(nil)) != 0 {
		t.Error("Reset leaves something")
	}
}

func TestPlansOfLongQueriesAreBounded(t *testing.T) {
	table := newTable(t)
	for _, word := range []string{" or ", " and "} {
		clauses := make([]string, 2000)
		for i := range clauses {
			clauses[i] = fmt.Sprintf(`resp.code.eq:%d`, i)
		}
		q, err := httpql.Parse(strings.Join(clauses, word))
		if err != nil {
			t.Fatal(err)
		}
		if plan := NewPlan(table, q); len(plan.Args) > maxClauses {
			t.Errorf("%d arguments", len(plan.Args))
		}
	}
	for _, pattern := range []string{`((((((a?){9}b?){9}c?){9}d?)))`, `(a|b|c|d|e|f|g|h){99}`, strings.Repeat(`(`, 200) + strings.Repeat(`)`, 200), `(a{30}|b{30}){30}`} {
		q, err := httpql.Parse("req.raw.regex:/" + pattern + "/")
		if err != nil {
			t.Fatal(err)
		}
		NewPlan(table, q)
	}
}

func BenchmarkSignature(b *testing.B) {
	table := newTable(b)
	x := exchange("GET / HTTP/1.1\r\n\r\n"+strings.Repeat(`{"id": 12, "name": "Ann", "mail": "ann@shop.example"}, `, 40), "")
	b.SetBytes(int64(len(x.Request) + len(x.RequestBody)))
	b.ReportAllocs()
	var s Signature
	for b.Loop() {
		s.Add(table, x, httpql.Request)
	}
}

// TestRegexTextsBound holds what is read out of patterns against what they
// match.
func TestRegexTextsBound(t *testing.T) {
	table := newTable(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	atoms := []string{"abc", "k", "S", "(?i:skin)", "[ab]", "[^a]", ".", "é", "(ab|cd)", "(abc|)", "x?", "y*", "(bcd)+", "(ef){2,3}", `\d`, `\w`, "^", "$", `\b`, "(a|b|c|d)", "(?i:[k-s])", "abcdef", `\x{212a}`, "[kK]"}
	pieces := []string{"abc", "k", "K", "s", "\u017f", "\u212a", "kin", "SKIN", "a", "b", "é", "ab", "cd", "x", "y", "bcd", "efef", "ef", "1", "d", "\xff", "\n", "abcdef", "\u212ain"}
	matched := 0
	for range 3000 {
		var pattern, text strings.Builder
		for range 1 + rnd.IntN(4) {
			pattern.WriteString(atoms[rnd.IntN(len(atoms))])
		}
		for range rnd.IntN(8) {
			text.WriteString(pieces[rnd.IntN(len(pieces))])
		}
		q, err := httpql.Compare(httpql.ReqRaw, httpql.Regex, pattern.String())
		if err != nil {
			t.Fatal(err)
		}
		x := exchange("G / H\r\n\r\n"+text.String(), "")
		if q.Match(x) != httpql.True {
			continue
		}
		matched++
		var s Signature
		s.Add(table, x, httpql.Request)
		if !NewPlan(table, q).Blocks.May(s.Append(nil), nil) {
			t.Fatalf("/%s/ matches %q and is excluded by %+v", pattern.String(), text.String(), regexTexts(q.Root().Pattern()))
		}
	}
	if matched < 150 {
		t.Errorf("only %d matched", matched)
	}
}
