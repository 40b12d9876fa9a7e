package rule_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/rule"
)

// answered is the record of an answer to a request; head and body with bare
// line feeds. No blank line: the body is still to come.
func answered(t *testing.T, method, answer string) *flow.Record {
	t.Helper()
	f := get(t, "https://shop.example/account")
	if err := f.Request.SetMethod([]byte(method)); err != nil {
		t.Fatal(err)
	}
	r := &flow.Record{Flow: f}
	if answer == "" {
		f.End(time.Date(2026, 6, 6, 12, 0, 0, 0, time.UTC), errors.New("refused"))
		return r
	}
	head, body, whole := strings.Cut(answer, "\n\n")
	f.Response = response(t, head+"\n\n")
	r.ResponseBody, r.ResponsePresence = []byte(body), httpql.Pending
	if whole {
		r.ResponsePresence = httpql.Known
	}
	return r
}

func TestCheck(t *testing.T) {
	const (
		fine    = "HTTP/1.1 200 OK\nContent-Type: text/html\n\nhello alice, authenticated"
		refused = "HTTP/1.1 401 Unauthorized\nWWW-Authenticate: Bearer error=\"invalid_token\"\n\n{\"message\":\"Token Expired!\"}"
		moved   = "HTTP/1.1 302 Found\nLocation: https://shop.example/Login?next=/account\n\n"
		coming  = "HTTP/1.1 200 OK\nX: y" // the body is not there yet
		none    = ""                      // there will be no response
	)
	for _, c := range []struct {
		check  string // JSON
		method string // GET when empty
		answer string
		want   httpql.Truth
	}{
		{`{"type":"StatusCode","value":[401,403]}`, "", refused, httpql.True},
		{`{"type":"StatusCode","value":[401,403]}`, "", fine, httpql.False},
		{`{"type":"StatusCode","value":302}`, "", moved, httpql.True},
		{`{"type":"StatusCode","value":[401]}`, "", coming, httpql.False},
		{`{"type":"StatusCode","value":[401]}`, "", none, httpql.False},

		{`{"type":"ResponseContains","value":"Token Expired!"}`, "", refused, httpql.True},
		{`{"type":"ResponseContains","value":"token expired!"}`, "", refused, httpql.False},
		{`{"type":"ResponseContains","value":"invalid_token"}`, "", refused, httpql.False}, // it is in the head
		{`{"type":"ResponseContains","value":"x"}`, "", coming, httpql.Unknown},
		{`{"type":"ResponseContains","value":"x"}`, "", none, httpql.False},

		{`{"type":"ResponseNotContains","value":"authenticated"}`, "", fine, httpql.False},
		{`{"type":"ResponseNotContains","value":"Authenticated"}`, "", fine, httpql.True},
		{`{"type":"ResponseNotContains","value":"authenticated"}`, "", refused, httpql.True},
		{`{"type":"ResponseNotContains","value":"authenticated"}`, "", moved, httpql.True},
		{`{"type":"ResponseNotContains","value":"authenticated"}`, "", coming, httpql.Unknown},
		{`{"type":"ResponseNotContains","value":"authenticated"}`, "", none, httpql.False},
		{`{"type":"ResponseNotContains","value":"authenticated"}`, "HEAD", "HTTP/1.1 200 OK\n\n", httpql.False},
		{`{"type":"ResponseNotContains","value":"authenticated"}`, "", "HTTP/1.1 304 Not Modified\n\n", httpql.False},
		{`{"type":"ResponseNotContains","value":"authenticated"}`, "", "HTTP/1.1 204 No Content\n\n", httpql.False},

		{`{"type":"HeaderContains","value":{"header":"www-authenticate","pattern":"invalid_token"}}`, "", refused, httpql.True},
		{`{"type":"HeaderContains","value":{"name":"WWW-Authenticate","contains":"Invalid_Token"}}`, "", refused, httpql.False},
		{`{"type":"HeaderContains","value":["Location","/Login"]}`, "", moved, httpql.True},
		{`{"type":"HeaderContains","value":["Location","/Login"]}`, "", fine, httpql.False},
		{`{"type":"HeaderContains","value":["X","y"]}`, "", coming, httpql.True},

		{`{"type":"Regex","value":"\"message\":\"Token \\w+!\""}`, "", refused, httpql.True},
		{`{"type":"Regex","value":"(?m)^WWW-Authenticate: Bearer"}`, "", refused, httpql.True},
		{`{"type":"Regex","value":"Token"}`, "", fine, httpql.False},
		{`{"type":"Regex","value":"Token"}`, "", none, httpql.False},

		{`{"type":"HTTPQL","value":"resp.code.eq:401 OR resp.raw.cont:\"Token Expired!\""}`, "", refused, httpql.True},
		{`{"type":"HTTPQL","value":"resp.code.eq:401 OR resp.raw.cont:\"Token Expired!\""}`, "", fine, httpql.False},

		{`{"type":"RedirectTo","value":"/login"}`, "", moved, httpql.True},
		{`{"type":"RedirectTo","value":"/signin"}`, "", moved, httpql.False},
		{`{"type":"RedirectTo","value":"/login"}`, "", "HTTP/1.1 201 Created\nLocation: /login\n\n", httpql.False},

		{`{"type":"any","value":[{"type":"StatusCode","value":[500]},{"type":"RedirectTo","value":"/login"}]}`, "", moved, httpql.True},
		{`{"type":"all","value":[{"type":"StatusCode","value":[500]},{"type":"RedirectTo","value":"/login"}]}`, "", moved, httpql.False},
		{`{"type":"all","value":[{"type":"StatusCode","value":[302]},{"type":"any","value":[{"type":"RedirectTo","value":"/login"}]}]}`, "", moved, httpql.True},
	} {
		method := c.method
		if method == "" {
			method = "GET"
		}
		q, err := check(t, c.check)
		if err != nil {
			t.Errorf("%s: %v", c.check, err)
			continue
		}
		if got := q.Match(answered(t, method, c.answer)); got != c.want {
			t.Errorf("%s (%s) of %s %.30q: %s, want %s", c.check, q, method, c.answer, got, c.want)
		}
	}
}

func check(t *testing.T, src string) (*httpql.Query, error) {
	t.Helper()
	var c struct {
		Type  string
		Value any
	}
	if err := json.Unmarshal([]byte(src), &c); err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return rule.Check(c.Type, c.Value)
}

func TestCheckNeedsTheBodyOnlyWhereItAsks(t *testing.T) {
	for src, want := range map[string]bool{
		`{"type":"StatusCode","value":[401]}`:                   false,
		`{"type":"HeaderContains","value":["Location","/l"]}`:   false,
		`{"type":"RedirectTo","value":"/l"}`:                    false,
		`{"type":"ResponseContains","value":"x"}`:               true,
		`{"type":"ResponseNotContains","value":"x"}`:            true,
		`{"type":"Regex","value":"x"}`:                          true,
		`{"type":"any","value":[{"type":"Regex","value":"x"}]}`: true,
	} {
		q, err := check(t, src)
		if err != nil {
			t.Fatal(err)
		}
		r := rule.Rule{Dead: q}
		if got := r.JudgesBody(); got != want {
			t.Errorf("%s needs the body: %t, want %t", src, got, want)
		}
	}
}

func TestCheckMistakes(t *testing.T) {
	for _, c := range []struct{ src, key, says string }{
		{`{"type":"","value":1}`, "type", "no type"},
		{`{"type":"statuscode","value":[401]}`, "type", "no check type"},
		{`{"type":"StatusCode","value":[]}`, "value", "never fire"},
		{`{"type":"StatusCode","value":["401"]}`, "value", "no status code"},
		{`{"type":"StatusCode","value":[401.5]}`, "value", "no status code"},
		{`{"type":"StatusCode","value":[42]}`, "value", "no status code"},
		{`{"type":"StatusCode"}`, "value", "nothing is no status code"},
		{`{"type":"ResponseContains","value":""}`, "value", "empty"},
		{`{"type":"ResponseContains","value":[401]}`, "value", "not for a list"},
		{`{"type":"ResponseNotContains"}`, "value", "not for nothing"},
		{`{"type":"HeaderContains","value":"Location"}`, "value", "name of a header"},
		{`{"type":"HeaderContains","value":{"name":"Location"}}`, "value", "name of a header"},
		{`{"type":"HeaderContains","value":{"name":"Loc ation","pattern":"x"}}`, "value", "name of a header"},
		{`{"type":"HeaderContains","value":{"name":"Location","pattern":"x","more":"y"}}`, "value", "name of a header"},
		{`{"type":"Regex","value":"(x"}`, "value", "cannot be read"},
		{`{"type":"Regex","value":"x*"}`, "value", "empty text"},
		{`{"type":"HTTPQL","value":" "}`, "value", "empty"},
		{`{"type":"HTTPQL","value":"resp.code.eq:x"}`, "value", "HTTPQL, line 1"},
		{`{"type":"RedirectTo","value":""}`, "value", "empty"},
		{`{"type":"any","value":[]}`, "value", "list of 1 to 64"},
		{`{"type":"all","value":["x"]}`, "value[0]", "no check"},
		{`{"type":"all","value":[{"type":"StatusCode","value":[401]},{"type":"Regex","value":""}]}`, "value[1].value", "empty"},
		{`{"type":"all","value":[{"type":"StatusCode","values":[401]}]}`, "value[0].values", "no key values"},
	} {
		_, err := check(t, c.src)
		var e *rule.Error
		if !errors.As(err, &e) || e.Key != c.key || !strings.Contains(e.Problem, c.says) || e.Next == "" {
			t.Errorf("%s: got %v, want key %q, %q and a next step", c.src, err, c.key, c.says)
		}
	}
}
