package httpql_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/httpql"
)

func parse(t testing.TB, src string) *httpql.Query {
	t.Helper()
	q, err := httpql.Parse(src)
	if err != nil {
		t.Fatalf("Parse(%q): %v", src, err)
	}
	return q
}

// TestPackageDocExamples parses the examples at the top of the package doc.
func TestPackageDocExamples(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(doc), "# Grammar")
	examples := 0
	for line := range strings.Lines(before) {
		if src, ok := strings.CutPrefix(line, "//\t"); ok {
			examples++
			q := parse(t, src)
			parse(t, q.String())
		}
	}
	if examples < 4 {
		t.Errorf("found %d examples in doc.go, want 4 or more", examples)
	}
}

func TestCanonicalForm(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{``, `()`},
		{` ( ( ) ) `, `()`},
		{`"a\/b"`, `req.raw.cont:"a/b" or resp.raw.cont:"a/b"`},
		{`row.id.eq:1 AND row.id.eq:2 AND row.id.eq:3`, `row.id.eq:1 and row.id.eq:2 and row.id.eq:3`},
		{`(row.id.eq:1 AND row.id.eq:2) AND row.id.eq:3`, `row.id.eq:1 and row.id.eq:2 and row.id.eq:3`},
		{`row.id.eq:1 AND (row.id.eq:2 AND row.id.eq:3)`, `row.id.eq:1 and (row.id.eq:2 and row.id.eq:3)`},
		{`row.id.eq:1 OR row.id.eq:2 AND row.id.eq:3`, `row.id.eq:1 or (row.id.eq:2 and row.id.eq:3)`},
		{`NOT(row.id.eq:1 OR row.id.eq:2)AND row.id.eq:003`, `not (row.id.eq:1 or row.id.eq:2) and row.id.eq:3`},
		{`req.raw.regex:/a\/"/ and req.raw.regex:"a/\""`, `req.raw.regex:/a\/"/ and req.raw.regex:"a/\""`},
		{`req.raw.cont:"\u0000\u001f\b\f\n\r\t\\\"\ud83d\ude0a\u007f"`, `req.raw.cont:"\u0000\u001f\b\f\n\r\t\\\"` + "😊\x7f\""},
		{`preset:a-b_1 or preset:"a b" or source:"x"`, `preset:a-b_1 or preset:"a b" or source:"x"`},
		{`resp.header["a\"b"].eq:""`, `resp.header["a\"b"].eq:""`},
		{`req.created_at.lt:"2026-01-31"`, `req.created_at.lt:"2026-01-31"`},
	} {
		q := parse(t, c.src)
		if got := q.String(); got != c.want {
			t.Errorf("%q is written %q, want %q", c.src, got, c.want)
		}
		if again := parse(t, q.String()).String(); again != q.String() {
			t.Errorf("%q is written %q the second time", q, again)
		}
	}
}

func TestErrorPositions(t *testing.T) {
	_, err := httpql.Parse("resp.code.eq:1 and\r\n\t\"é😊\" and x")
	var got *httpql.SyntaxError
	if !errors.As(err, &got) {
		t.Fatalf("error %v, want a *SyntaxError", err)
	}
	if got.Offset != 34 || got.Line != 2 || got.Column != 11 {
		t.Errorf("at offset %d, line %d, column %d; want 34, 2, 11", got.Offset, got.Line, got.Column)
	}
	_, err = httpql.Parse("\"a\xff\"")
	if !errors.As(err, &got) || got.Offset != 2 || got.Msg != "the query is not UTF-8" {
		t.Errorf("error %+v, want one at the byte that is not UTF-8", got)
	}
}

func TestLimits(t *testing.T) {
	nest := func(n int, left, inner, right string) string {
		return strings.Repeat(left, n) + inner + strings.Repeat(right, n)
	}
	for _, c := range []struct {
		name, src, want string // want is a part of the error; "" for none
	}{
		{"parentheses up to the limit", nest(httpql.MaxDepth, "(", "row.id.eq:1", ")"), ""},
		{"parentheses beyond", nest(httpql.MaxDepth+1, "(", "row.id.eq:1", ")"), "deeper than 256"},
		{"NOT up to the limit", nest(httpql.MaxDepth-1, "not ", "row.id.eq:1", ""), ""},
		{"NOT beyond", nest(httpql.MaxDepth, "not ", "row.id.eq:1", ""), "deeper than 256"},
		{"a tree of both words", nest(100, "row.id.eq:1 and row.id.eq:2 or (", "row.id.eq:3", ")"), ""},
		{"a tree that is deeper than its parentheses", nest(200, "not row.id.eq:1 and (row.id.eq:2 or not (", "row.id.eq:3", "))"), "deeper than 256"},
		{"a long row is one level", strings.Repeat("row.id.eq:1 or ", 4000) + "row.id.eq:1", ""},
		{"a query up to the limit", `req.raw.eq:"` + strings.Repeat("x", httpql.MaxSource-13) + `"`, ""},
		{"a query beyond", `req.raw.eq:"` + strings.Repeat("x", httpql.MaxSource-12) + `"`, "longer than 65536 bytes"},
		{"a canonical form beyond", strings.Repeat(`"" or `, 5000) + `""`, "longer than 65536 bytes"},
		{"garbage beyond", strings.Repeat("(", 1<<20), "longer than 65536 bytes"},
	} {
		q, err := httpql.Parse(c.src)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want == "":
			if _, err := httpql.Parse(q.String()); err != nil {
				t.Errorf("%s: its canonical form: %v", c.name, err)
			}
		case err == nil || !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

// FuzzParse reads any text, and what could be read writes and reads again.
func FuzzParse(f *testing.F) {
	for _, src := range []string{
		``, `()`, `"x"`, `resp.code.eq:401 OR NOT resp.raw.cont:"Token Expired!"`, `req.header["a"].nregex:/\W[^\S]/`,
		`preset:a and preset:"b"`, `source:"replay" or (req.tls.eq:true and row.id.gte:1) // x`, `req.created_at.lt:"2026-01-31"`,
		`resp.body.regex:/(?ui:\u{e9}){,3}[[:alpha:]\d]/ and flow.rule.like:"%"`, "req.raw.cont:\"\\ud83d\\ude0a\" /* c */ and\n\"\"",
		`a and (b or`, `resp.redirect.regex:"[a-z&&[^b]]"`,
	} {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		q, err := httpql.Parse(src)
		if err != nil {
			var e *httpql.SyntaxError
			if !errors.As(err, &e) || e.Offset < 0 || e.Offset > len(src) || e.Line < 1 || e.Column < 1 || e.Msg == "" || e.Hint == "" {
				t.Fatalf("Parse(%q): error %#v", src, err)
			}
			return
		}
		again, err := httpql.Parse(q.String())
		if err != nil {
			t.Fatalf("Parse(%q), the canonical form of %q: %v", q, src, err)
		}
		if !sameTree(q.Root(), again.Root()) || q.String() != again.String() {
			t.Fatalf("%q is written %q, which is another query: %q", src, q, again)
		}
		x := page()
		for _, pending := range []bool{false, true} {
			x.ResponseCut, x.Live = pending, pending
			if q.Match(x) != again.Match(x) {
				t.Fatalf("%q and %q answer differently", q, again)
			}
		}
	})
}
