package rule_test

import (
	"io"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// post is a request with a body that comes in pieces of three bytes.
func post(t testing.TB, head, body string) *flow.Flow {
	t.Helper()
	f := get(t, "http://a.example/")
	f.Request = request(t, "POST /x HTTP/1.1\nHost: a.example\n"+head+"\n")
	f.Received = f.Request
	f.RequestBody = &pieces{left: body, framing: wire.Framing{Kind: wire.Length, Length: int64(len(body))}}
	return f
}

type pieces struct {
	left    string
	framing wire.Framing
	read    int
}

func (p *pieces) Next() ([]byte, error) {
	p.read++
	n := min(3, len(p.left))
	piece := p.left[:n]
	p.left = p.left[n:]
	if p.left == "" {
		return []byte(piece), io.EOF
	}
	return []byte(piece), nil
}

func (p *pieces) Framing() wire.Framing { return p.framing }
func (p *pieces) Close() error          { return nil }

func query(t testing.TB, text string) *httpql.Query {
	t.Helper()
	q, err := httpql.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestParams(t *testing.T) {
	const form, multi = "Content-Type: application/x-www-form-urlencoded; charset=utf-8\n", "Content-Type: multipart/form-data; boundary=B\n"
	const json = "Content-Type: application/vnd.api+json\n"
	scope := rule.Scope{Params: []string{"other", "user[csrf]"}}
	if err := scope.Compile(); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", rule.MaxScopeBody)
	for _, c := range []struct {
		name       string
		head, body string
		want       bool
	}{
		{"a cookie", "Cookie: a=b; user[csrf]=1\n", "", true},
		{"no cookie", "Cookie: a=user[csrf]\n", "", false},
		{"a form", form, "a=b&user%5bcsrf%5D=1", true},
		{"a name without value", form, "user[csrf]", true},
		{"only as a value", form, "a=user[csrf]", false},
		{"another case", form, "USER[CSRF]=1", false},
		{"a part", multi, "--B\r\nContent-Disposition: form-data; name=\"user[csrf]\"\r\n\r\n1\r\n--B--\r\n", true},
		{"only as a part's content", multi, "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nuser[csrf]\r\n--B--\r\n", false},
		{"a member", json, `{"a":[1,{"b":{}},{"other" : null}]}`, true},
		{"a member behind others", json, `{"a":{"b":1},"other":2}`, true},
		{"only a member's value", json, `{"a":"other","b":["other"]}`, false},
		{"a JSON text", json, `"other"`, false},
		{"JSON cut off", json, `{"a":`, false},
		{"brackets that do not fit", json, `}{"other":1}`, false},
		{"another type", "Content-Type: text/plain\n", "other=1", false},
		{"no type", "", "other=1", false},
		{"compressed", form + "Content-Encoding: gzip\n", "other=1", false},
		{"a client that waits", form + "Expect: 100-continue\n", "other=1", false},
		{"too long", form, "other=1&" + long, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := post(t, c.head, c.body)
			if c.body == "" {
				f.RequestBody = nil
			}
			if got := scope.Match(f); got != c.want {
				t.Errorf("Match: %v, want %v", got, c.want)
			}
			if got, _ := scope.Explain(f); got != c.want {
				t.Errorf("Explain: %v, want %v", got, c.want)
			}
			if f.RequestBody == nil {
				return
			}
			var all strings.Builder
			for {
				piece, err := f.RequestBody.Next()
				all.Write(piece)
				if err != nil {
					break
				}
			}
			if all.String() != c.body {
				t.Errorf("the body is %q afterwards, want %q", all.String(), c.body)
			}
		})
	}
}

// A body is read only when nothing else decides.
func TestBodyIsReadLast(t *testing.T) {
	const form = "Content-Type: application/x-www-form-urlencoded\n"
	for _, c := range []struct {
		name  string
		scope rule.Scope
		reads bool
		want  bool
	}{
		{"another host", rule.Scope{Pattern: "b.example", Params: []string{"p"}}, false, false},
		{"another tool", rule.Scope{Tools: []string{"scanner"}, Params: []string{"p"}}, false, false},
		{"in the cookie", rule.Scope{Params: []string{"c"}}, false, true},
		{"in the body", rule.Scope{Params: []string{"p"}}, true, true},
		{"decided by the head", rule.Scope{Condition: query(t, `req.method.eq:"GET" AND req.body.cont:"p"`)}, false, false},
		{"decided by the body", rule.Scope{Condition: query(t, `req.method.eq:"POST" AND req.body.cont:"p=1"`)}, true, true},
		{"denied by the body", rule.Scope{Condition: query(t, `req.body.ncont:"p=1"`)}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.scope.Compile(); err != nil {
				t.Fatal(err)
			}
			f := post(t, form+"Cookie: c=1\n", "a=1&p=1")
			body := f.RequestBody.(*pieces)
			if got := c.scope.Match(f); got != c.want || body.read > 0 != c.reads {
				t.Errorf("Match %v after %d reads; want %v, read %v", got, body.read, c.want, c.reads)
			}
		})
	}
	// Of a body whose length is not known nothing is true.
	f := post(t, form, "p=1")
	f.RequestBody.(*pieces).framing = wire.Framing{Kind: wire.Chunked}
	for _, text := range []string{`req.body.cont:"p"`, `req.body.ncont:"p"`} {
		s := rule.Scope{Condition: query(t, text)}
		if err := s.Compile(); err != nil {
			t.Fatal(err)
		}
		if s.Match(f) {
			t.Errorf("%s is true of a body that nobody has read", text)
		}
	}
}
