package rule_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/rule"
)

const ok200 = "HTTP/1.1 200 OK\nDate: Sat, 06 Jun 2026 10:00:00 GMT\n"

func TestExtract(t *testing.T) {
	body := func(regex string) rule.Source { return rule.Source{Type: "ResponseBody", Regex: regex} }
	header := func(name, regex string) rule.Source {
		return rule.Source{Type: "ResponseHeader", Name: name, Regex: regex}
	}
	cookie := rule.Source{Type: "Cookie", Name: "sid"}
	path := func(p string) rule.Source { return rule.Source{Type: "JSON", Path: p} }
	field := rule.Source{Type: "FormField", Name: "_csrf"}
	for _, c := range []struct {
		name   string
		source rule.Source
		head   string // after the status line and Date
		body   string
		want   string // "" when nothing is found
	}{
		{"the seed's regex", body(`"access_token":"([^"]+)"`), "", `{"access_token":"eyJ.a-b_c","x":1}`, "eyJ.a-b_c"},
		{"the regex does not match", body(`"access_token":"([^"]+)"`), "", `{"access_token":""}`, ""},
		{"the group is empty", body(`token=(\w*)`), "", "token=;", ""},
		{"the group took no part", body(`a|b(c)`), "", "a", ""},
		{"the first match counts", body(`t=(\d)`), "", "t=1 t=2", "1"},
		{"a regex with look-behind", body(`(?<=token=)(\w+)`), "", "xx token=abc", "abc"},
		{"look-behind after bytes that are no UTF-8", body(`(?<=é)(.+?)(?=;)`), "", "\xff\xfeé\xff\xc3;", "\xff\xc3"},
		{"bytes that are no UTF-8", body(`t=(.*);`), "", "t=\xff\xfe;", "\xff\xfe"},

		{"a header's regex", header("X-Auth", `^token (\S+)`), "x-auth: token abc\n", "", "abc"},
		{"a header without a regex", header("X-Auth", ""), "X-AUTH:  abc \n", "", "abc"},
		{"the first header that matches", header("Set-Cookie", `^b=([^;]+)`), "Set-Cookie: a=1\nSet-Cookie: b=2\n", "", "2"},
		{"a header that is not there", header("X-Auth", ""), "X-Other: abc\n", "", ""},

		{"a cookie", cookie, "Set-Cookie: sid=abc; Path=/; HttpOnly\n", "", "abc"},
		{"a cookie's name has a case", cookie, "Set-Cookie: SID=abc\n", "", ""},
		{"a cookie's quotes belong to it", cookie, "Set-Cookie: sid=\"a=b\"; Path=/\n", "", `"a=b"`},
		{"the last of several", cookie, "Set-Cookie: sid=a\nSet-Cookie: sid=b\n", "", "b"},
		{"set after it was deleted", cookie, "Set-Cookie: sid=; Max-Age=0\nSet-Cookie: sid=b\n", "", "b"},
		{"deleted after it was set", cookie, "Set-Cookie: sid=b; Path=/\nSet-Cookie: sid=x; Max-Age=0; Path=/\n", "", ""},
		{"a namesake under another path is deleted", cookie, "Set-Cookie: sid=b; Path=/\nSet-Cookie: sid=x; Max-Age=0; Path=/old\n", "", "b"},
		{"Max-Age below zero", cookie, "Set-Cookie: sid=x; Max-Age=-99999999999999999999\n", "", ""},
		{"Max-Age wins over Expires", cookie, "Set-Cookie: sid=x; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT\n", "", "x"},
		{"expired long ago", cookie, "Set-Cookie: sid=x; expires=Thu, 01-Jan-1970 00:00:01 GMT\n", "", ""},
		{"expired before the answer's own date", cookie, "Set-Cookie: sid=x; Expires=Fri, 06 Jun 2025 10:00:00 GMT\n", "", ""},
		{"expires later", cookie, "Set-Cookie: sid=x; Expires=Sun, 07 Jun 2026 10:00:00 GMT\n", "", "x"},
		{"an empty cookie", cookie, "Set-Cookie: sid=\n", "", ""},
		{"no cookie at all", cookie, "Set-Cookie: sid; Path=/\n", "", ""},

		{"a name", path("accessToken"), "", `{"id":1,"accessToken":"abc"}`, "abc"},
		{"a dotted path", path("data.items.1.token"), "", `{"data":{"items":[{"token":"a"},{"token":"b"}]}}`, "b"},
		{"a number in a dotted path may be a name", path("data.0"), "", `{"data":{"0":"a"}}`, "a"},
		{"JSONPath", path("$.data.items[0]['to ken']"), "", `{"data":{"items":[{"to ken":"a"}]}}`, "a"},
		{"JSONPath from the end", path("$.a[-1]"), "", `{"a":[1,2,3]}`, "3"},
		{"JSONPath over any element", path("$.a[*].t"), "", `{"a":[{"x":1},{"t":"b"}]}`, "b"},
		{"JSONPath at any depth", path("$..token"), "", `{"a":[{"b":{"token":"deep"}}],"token":null}`, "deep"},
		{"JSONPath at any depth, in brackets", path("$..['token']"), "", `[[{"token":"deep"}]]`, "deep"},
		{"a quoted name with an escape", path(`$['a\'b']`), "", `{"a'b":"x"}`, "x"},
		{"the whole", path("$"), "", `"abc"`, "abc"},
		{"a number keeps its digits", path("n"), "", `{"n":12345678901234567890.10}`, "12345678901234567890.10"},
		{"true is text", path("n"), "", `{"n":true}`, "true"},
		{"an object is compact JSON", path("n"), "", `{"n":{ "a" : [ 1 ] }}`, `{"a":[1]}`},
		{"escapes are undone", path("n"), "", `{"n":"a\/b\u00e9\n"}`, "a/bé\n"},
		{"null is nothing", path("n"), "", `{"n":null}`, ""},
		{"an empty text is nothing", path("n"), "", `{"n":""}`, ""},
		{"a name with a dot", path("$['a.b']"), "", `{"a":{"b":"no"},"a.b":"yes"}`, "yes"},
		{"a guard before the JSON", path("n"), "", ")]}',\n{\"n\":\"x\"}", "x"},
		{"a byte order mark", path("n"), "", "\xef\xbb\xbf{\"n\":\"x\"}", "x"},
		{"no JSON", path("n"), "", `<html>{"n":"x"}</html>`, ""},
		{"JSON cut short", path("n"), "", `{"n":"x"`, ""},
		{"no body", path("n"), "", "", ""},

		{"the seed's hidden field", field, "", `<form><input name="_csrf" value="tok"></form>`, "tok"},
		{"attributes in another order", field, "", `<INPUT type=hidden VALUE='tok' data-x NAME=_csrf />`, "tok"},
		{"entities", field, "", `<input name="&#95;csrf" value="a&amp;b&#43;&quot;">`, `a&b+"`},
		{"a meta element", field, "", `<meta content="tok" name="_csrf">`, "tok"},
		{"a textarea", field, "", "<textarea name=_csrf>\n a&lt;b</textarea>", " a<b"},
		{"the first that is not empty", field, "", `<input name=_csrf value=""><input name=_csrf><input name=_csrf value=b>`, "b"},
		{"in a comment", field, "", `<!-- <input name=_csrf value=x> -->`, ""},
		{"in a script", field, "", `<script>"<input name=_csrf value=x>"</script>`, ""},
		{"another name", field, "", `<input name=_csrf2 value=x>`, ""},
		{"the first of two attributes counts", field, "", `<input name=_csrf name=x value=a value=b>`, "a"},
		{"a tag cut short", field, "", `<input name=_csrf value=`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.source.Compile(); err != nil {
				t.Fatalf("Compile: %v", err)
			}
			got, ok := c.source.Extract(nil, response(t, ok200+c.head+"\n"), []byte(c.body))
			if got != c.want && (ok || c.want != "") || ok != (c.want != "") {
				t.Errorf("Extract gave %q, %t; want %q", got, ok, c.want)
			}
		})
	}
}

func TestExtractCookieWithoutDate(t *testing.T) {
	s := rule.Source{Type: "Cookie", Name: "sid"}
	if err := s.Compile(); err != nil {
		t.Fatal(err)
	}
	if v, ok := s.Extract(nil, response(t, "HTTP/1.1 200 OK\nSet-Cookie: sid=deleted; expires=Thu, 01-Jan-70 00:00:01 GMT\n\n"), nil); ok {
		t.Errorf("took %q from a deletion, want nothing", v)
	}
}

func TestExtractFromDeepJSON(t *testing.T) {
	deep := strings.Repeat("[", 1<<20)
	for _, path := range []string{"$..token", "a.b", "$[0][0]"} {
		s := rule.Source{Type: "JSON", Path: path}
		if err := s.Compile(); err != nil {
			t.Fatal(err)
		}
		for _, body := range []string{deep, deep + strings.Repeat("]", 1<<20), strings.Repeat("[", 9000) + strings.Repeat("]", 9000)} {
			if v, ok := s.Extract(nil, response(t, ok200+"\n"), []byte(body)); ok && path != "$[0][0]" {
				t.Errorf("%s took %q from brackets, want nothing", path, v)
			}
		}
	}
}

func TestExtractBeforeCompile(t *testing.T) {
	s := rule.Source{Type: "ResponseHeader", Name: "Date"}
	if _, ok := s.Extract(nil, response(t, ok200+"\n"), nil); ok {
		t.Error("a source that was not compiled gave a value, want none")
	}
}

func TestSourceMistakes(t *testing.T) {
	for _, c := range []struct {
		name      string
		source    rule.Source
		key, says string
	}{
		{"no type", rule.Source{}, "type", "no type"},
		{"an unknown type", rule.Source{Type: "Body"}, "type", "no source type Body"},
		{"no regex", rule.Source{Type: "ResponseBody"}, "regex", "needs a regex"},
		{"no group", rule.Source{Type: "ResponseBody", Regex: "x"}, "regex", "0 capture groups"},
		{"two groups", rule.Source{Type: "ResponseBody", Regex: "(x)(y)"}, "regex", "2 capture groups"},
		{"two groups and look-ahead", rule.Source{Type: "ResponseBody", Regex: "(x)(y)(?=z)"}, "regex", "2 capture groups"},
		{"a broken regex", rule.Source{Type: "ResponseHeader", Name: "X", Regex: "(x"}, "regex", "cannot be read"},
		{"no name", rule.Source{Type: "Cookie"}, "name", "needs a name"},
		{"no name of a header", rule.Source{Type: "ResponseHeader", Name: "X:"}, "name", "no name of a header"},
		{"no name of a cookie", rule.Source{Type: "Cookie", Name: "a=b"}, "name", "no name of a cookie"},
		{"a key of another type", rule.Source{Type: "Cookie", Name: "a", Regex: "(x)"}, "regex", "has no regex"},
		{"an empty step", rule.Source{Type: "JSON", Path: "a..b"}, "path", "empty name"},
		{"a broken JSONPath filter", rule.Source{Type: "JSON", Path: "$.a[?(@.b == )]"}, "path", "cannot be read"},
		{"a JSONPath with nothing behind the dots", rule.Source{Type: "JSON", Path: "$.."}, "path", "cannot be read"},
		{"an open quote", rule.Source{Type: "JSON", Path: "$['a"}, "path", "cannot be read"},
		{"too many steps", rule.Source{Type: "JSON", Path: "$" + strings.Repeat(".a", 100)}, "path", "too many steps"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.source.Compile()
			var e *rule.Error
			if !errors.As(err, &e) {
				t.Fatalf("Compile gave %v, want a *rule.Error", err)
			}
			if e.Key != c.key || !strings.Contains(e.Problem, c.says) || e.Next == "" {
				t.Errorf("got %+v, want key %q, %q and a next step", *e, c.key, c.says)
			}
		})
	}
}

func TestSourceString(t *testing.T) {
	s := rule.Source{Type: "ResponseHeader", Name: "X-Auth", Regex: "(.+)"}
	if got, want := s.String(), "ResponseHeader name X-Auth regex (.+)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A pattern that backtracks without end must give up.
func TestSlowRegexGivesUp(t *testing.T) {
	s := rule.Source{Type: "ResponseBody", Regex: `(?=x)(x+x+)+y`}
	if err := s.Compile(); err == nil {
		if v, ok := s.Extract(nil, response(t, ok200+"\n"), []byte(strings.Repeat("x", 4000))); ok {
			t.Errorf("took %q, want nothing", v)
		}
		return
	}
	t.Fatal("the pattern does not compile, want it to")
}
