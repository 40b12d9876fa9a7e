package rule_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// place is a case of a source.
type place struct {
	name   string
	source rule.Source
	head   string // "302" at its beginning makes it a redirect
	body   string
	want   string
}

const page = `<!doctype html><head><meta name=csrf content="m&amp;1"><title>x</title></head>
<body><p>one<p class="a b">two<ul><li>x<li data-t="T">y</ul>
<table><tr><td>c1<td>c2<tr><td>c3</table><form><input name=t value=v1><input name=t value=v2><br><i>deep <b>text</b></i></form>
<script>var t = "<b>no</b>"</script>`

func TestExtractFromTrees(t *testing.T) {
	soap := `<?xml version="1.0"?><s:Envelope xmlns:s="urn:s"><s:Body><token kind="access">abc</token><token kind="refresh"><![CDATA[d<e]]></token></s:Body></s:Envelope>`
	css := func(selector, attribute string) rule.Source {
		return rule.Source{Type: "CSS", Selector: selector, Attribute: attribute}
	}
	xpath := func(x string) rule.Source { return rule.Source{Type: "XPath", XPath: x} }
	extractAll(t, []place{
		{"CSS, meta", css("meta[name=csrf]", ""), "", page, "m&1"},
		{"CSS, input", css("input[name=t]", ""), "", page, "v1"},
		{"CSS, an attribute", css("li[data-t]", "data-T"), "", page, "T"},
		{"CSS, text inside", css("form i", ""), "", page, "deep text"},
		{"CSS, several selectors", css("h1, p.b", ""), "", page, "two"},
		{"CSS, children and siblings", css("body > ul > li + li", ""), "", page, "y"},
		{"CSS, implied tbody", css("table > tbody > tr:nth-child(2) > td", ""), "", page, "c3"},
		{"CSS, script is text", css("b", ""), "", page, "text"},
		{"CSS, nothing", css("h6", ""), "", page, ""},
		{"CSS, an attribute that is not there", css("p", "id"), "", page, ""},
		{"CSS, no HTML", css("p", ""), "", "p", ""},

		{"XPath on HTML", xpath("//input[@name='t']/@value"), "", page, "v1"},
		{"XPath, text", xpath("//li[2]/text()"), "", page, "y"},
		{"XPath, a text function", xpath("concat('a-', string(//li[2]/@data-t))"), "", page, "a-T"},
		{"XPath, a number", xpath("count(//li)"), "", page, "2"},
		{"XPath, substring", xpath("substring-before(//i, ' ')"), "", page, "deep"},
		{"XPath on XML, with a prefix", xpath("/s:Envelope/s:Body/token[@kind='refresh']"), "", soap, "d<e"},
		{"XPath on XML by its media type", xpath("/A/b"), "Content-Type: application/soap+xml\n", "<A><b>x</b></A>", "x"},
		{"XPath on XML that is cut short", xpath("/A/b"), "Content-Type: text/xml\n", "<A><b>x</b>", ""},
		{"XPath, nothing", xpath("//none"), "", page, ""},
	})
}

func TestExtractByJSONPath(t *testing.T) {
	tokens := `{"tokens":[{"kind":"id","value":"1","n":1},{"kind":"access","value":"2","n":2.5},{"kind":"refresh","value":"3","x":null}],"want":"refresh"}`
	path := func(p string) rule.Source { return rule.Source{Type: "JSON", Path: p} }
	extractAll(t, []place{
		{"JSONPath, a filter", path("$.tokens[?@.kind == 'access'].value"), "", tokens, "2"},
		{"JSONPath, a filter in parentheses", path("$.tokens[?(@.kind=='access')].value"), "", tokens, "2"},
		{"JSONPath, numbers", path("$.tokens[?@.n > 1 && @.n <= 2.5].value"), "", tokens, "2"},
		{"JSONPath, or and not", path("$.tokens[?!(@.n) || @.n == 9].value"), "", tokens, "3"},
		{"JSONPath, null is there", path("$.tokens[?@.x].value"), "", tokens, "3"},
		{"JSONPath, equals null", path("$.tokens[?@.x == null].value"), "", tokens, "3"},
		{"JSONPath, with the root", path("$.tokens[?@.kind == $.want].value"), "", tokens, "3"},
		{"JSONPath, search", path("$.tokens[?search(@.kind, 'cce')].value"), "", tokens, "2"},
		{"JSONPath, match is whole", path("$.tokens[?match(@['kind'], 'ref')].value"), "", tokens, ""},
		{"JSONPath, at any depth with a filter", path("$..[?@.kind != 'id'].value"), "", tokens, "2"},
		{"JSONPath, a slice", path("$.tokens[1:].value"), "", tokens, "2"},
		{"JSONPath, a slice from the end", path("$.tokens[-1:].value"), "", tokens, "3"},
		{"JSONPath, a slice with steps", path("$.tokens[0:3:2].n"), "", tokens, "1"},
		{"JSONPath, a union", path("$.tokens[1, 2]['x','value']"), "", tokens, "2"},
		{"JSONPath, the last", rule.Source{Type: "JSON", Path: "$..value", Match: rule.MatchLast}, "", tokens, "3"},
		{"JSONPath, the second", rule.Source{Type: "JSON", Path: "$..value", Match: 2}, "", tokens, "2"},
		{"JSONPath, the fourth of three", rule.Source{Type: "JSON", Path: "$..value", Match: 4}, "", tokens, ""},
	})
}

func TestExtractFromEverywhere(t *testing.T) {
	location := "Location: https://a.example/cb?code=x%2By&state=1&code=two#access_token=frag%20ment\n"
	extractAll(t, []place{
		{"the last of a regex", rule.Source{Type: "ResponseBody", Regex: `t=(\d)`, Match: rule.MatchLast}, "", "t=1 t=2 t=3", "3"},
		{"the second of a slow regex", rule.Source{Type: "ResponseBody", Regex: `(?<=t=)(\d)`, Match: 2}, "", "t=1 t=2 t=3", "2"},
		{"a regex over the head", rule.Source{Type: "ResponseBody", Regex: `X-T: (\w+)`, Headers: true}, "X-T: abc\n", "body", "abc"},
		{"a regex over the head that ends in the body", rule.Source{Type: "ResponseBody", Regex: `(?s)X-T: \w+(.*)y`, Headers: true}, "X-T: abc\n", "body", "\r\n\r\nbod"},
		{"the second header", rule.Source{Type: "ResponseHeader", Name: "x-t", Match: 2}, "X-T: a\nX-T: b\n", "", "b"},
		{"the second field", rule.Source{Type: "FormField", Name: "t", Match: 2}, "", page, "v2"},

		{"between", rule.Source{Type: "Between", Start: `t="`, End: `"`}, "", `a t="v" t="w"`, "v"},
		{"between, the second", rule.Source{Type: "Between", Start: `t="`, End: `"`, Match: 2}, "", `a t="v" t="w"`, "w"},
		{"between, without the end", rule.Source{Type: "Between", Start: `t="`, End: `"`}, "", `a t="v`, ""},
		{"between, to the end of the body", rule.Source{Type: "Between", Start: `t=`}, "", `a t=v w`, "v w"},
		{"between, a length", rule.Source{Type: "Between", Start: `t=`, Length: 2}, "", `a t=vwx`, "vw"},
		{"between, a length that is not there", rule.Source{Type: "Between", Start: `t=`, Length: 4}, "", `a t=vwx`, ""},
		{"between, an offset", rule.Source{Type: "Between", Offset: 2, Length: 3}, "", `a vwx y`, "vwx"},
		{"between, an offset and an end", rule.Source{Type: "Between", Offset: 2, End: " "}, "", `a vwx y`, "vwx"},
		{"between, an offset beyond", rule.Source{Type: "Between", Offset: 20, Length: 3}, "", `a vwx y`, ""},
		{"between, in any case", rule.Source{Type: "Between", Start: "TOKEN=", End: "END", IgnoreCase: true}, "", `Token=AbcEnd`, "Abc"},
		{"between, case counts", rule.Source{Type: "Between", Start: "TOKEN=", End: "END"}, "", `Token=AbcEnd`, ""},
		{"between, in the head", rule.Source{Type: "Between", Start: "X-T: ", End: "\r\n", Headers: true}, "X-T: v\n", "", "v"},

		{"a redirect's parameter", rule.Source{Type: "RedirectURL", Param: "code"}, "302" + location, "", "x+y"},
		{"a redirect's second parameter", rule.Source{Type: "RedirectURL", Param: "code", Match: 2}, "302" + location, "", "two"},
		{"a redirect's fragment", rule.Source{Type: "RedirectURL", Param: "access_token"}, "302" + location, "", "frag ment"},
		{"a redirect by a regex", rule.Source{Type: "RedirectURL", Regex: `code=([^&]+)`}, "302" + location, "", "x%2By"},
		{"a redirect by a regex, decoded", rule.Source{Type: "RedirectURL", Regex: `code=([^&]+)`, Decode: []string{"url"}}, "302" + location, "", "x+y"},
		{"Location without a redirect", rule.Source{Type: "RedirectURL", Param: "code"}, location, "", ""},

		{"a header that was sent", rule.Source{Type: "RequestHeader", Name: "authorization", Regex: "Bearer (.+)"}, "", "", "sent"},
		{"a cookie that was sent", rule.Source{Type: "RequestCookie", Name: "sid"}, "", "", "s1"},
		{"a cookie that was sent, decoded", rule.Source{Type: "RequestCookie", Name: "e", Decode: []string{"url"}}, "", "", "a b"},
		{"a cookie that was not sent", rule.Source{Type: "RequestCookie", Name: "none"}, "", "", ""},

		{"a string of JavaScript", rule.Source{Type: "ResponseBody", Regex: `v="([^"]+)"`, Decode: []string{"json"}}, "", `v="a\/b\u002b\x3d\n\q\u00"`, "a/b+=\nqu00"},
		{"base64", rule.Source{Type: "ResponseBody", Regex: `v=(\S+)`, Decode: []string{"base64"}}, "", "v=YS9i_w==", "a/b\xff"},
		{"base64 that is none", rule.Source{Type: "ResponseBody", Regex: `v=(\S+)`, Decode: []string{"base64"}}, "", "v=a!", "a!"},
		{"decoded twice, in order", rule.Source{Type: "ResponseBody", Regex: `v=(\S+)`, Decode: []string{"html", "url"}}, "", "v=a&#37;2Bb+c", "a+b c"},
	})
}

func extractAll(t *testing.T, places []place) {
	t.Helper()
	for _, c := range places {
		t.Run(c.name, func(t *testing.T) {
			if err := c.source.Compile(); err != nil {
				t.Fatalf("Compile: %v", err)
			}
			status := ok200
			if rest, ok := strings.CutPrefix(c.head, "302"); ok {
				status, c.head = "HTTP/1.1 302 Found\n", rest
			}
			req := request(t, "GET / HTTP/1.1\nAuthorization: Bearer sent\nCookie: a=1; sid=s1; e=a%20b\n\n")
			got, ok := c.source.Extract(req, response(t, status+c.head+"\n"), []byte(c.body))
			if got != c.want || ok != (c.want != "") {
				t.Errorf("Extract gave %q, %t; want %q", got, ok, c.want)
			}
		})
	}
}

func TestMoreSourceMistakes(t *testing.T) {
	for _, c := range []struct {
		name      string
		source    rule.Source
		key, says string
	}{
		{"a broken selector", rule.Source{Type: "CSS", Selector: "a["}, "selector", "cannot be read"},
		{"no selector", rule.Source{Type: "CSS"}, "selector", "needs a selector"},
		{"a broken XPath", rule.Source{Type: "XPath", XPath: "//a["}, "xpath", "cannot be read"},
		{"an unknown XPath function", rule.Source{Type: "XPath", XPath: "nothing(//a)"}, "xpath", "cannot be read"},
		{"between nothing", rule.Source{Type: "Between"}, "", "where the value begins or ends"},
		{"two beginnings", rule.Source{Type: "Between", Start: "a", Offset: 1}, "offset", "not at both"},
		{"two ends", rule.Source{Type: "Between", End: "a", Length: 1}, "length", "not at both"},
		{"a redirect to nowhere", rule.Source{Type: "RedirectURL"}, "", "needs a param or a regex"},
		{"a redirect by both", rule.Source{Type: "RedirectURL", Param: "a", Regex: "(a)"}, "", "needs a param or a regex"},
		{"no match like this", rule.Source{Type: "JSON", Path: "a", Match: 1001}, "match", "no match 1001"},
		{"several cookies", rule.Source{Type: "Cookie", Name: "a", Match: 2}, "match", "has no match"},
		{"no decoding like this", rule.Source{Type: "JSON", Path: "a", Decode: []string{"rot13"}}, "decode", `no decode "rot13"`},
		{"a filter that descends", rule.Source{Type: "JSON", Path: "$[?@..a]"}, "path", "cannot be read"},
		{"a filter with a broken regex", rule.Source{Type: "JSON", Path: "$[?search(@.a, '(')]"}, "path", "cannot be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.source.Compile()
			var e *rule.Error
			if !errors.As(err, &e) || e.Key != c.key || !strings.Contains(e.Problem, c.says) || e.Next == "" {
				t.Errorf("got %v, want key %q, %q and a next step", err, c.key, c.says)
			}
		})
	}
}

func TestMoreTargetMistakes(t *testing.T) {
	for _, c := range []struct {
		name      string
		target    rule.Target
		key, says string
	}{
		{"no pointer", rule.Target{Type: "JSON"}, "pointer", "needs a pointer"},
		{"the whole document", rule.Target{Type: "JSON", Pointer: "a"}, "pointer", "no JSON pointer"},
		{"a lone tilde", rule.Target{Type: "JSON", Pointer: "/a~2"}, "pointer", "tilde"},
		{"too many steps", rule.Target{Type: "JSON", Pointer: strings.Repeat("/a", 65)}, "pointer", "too many"},
		{"a broken XPath", rule.Target{Type: "XML", XPath: "//["}, "xpath", "cannot be read"},
		{"no segment", rule.Target{Type: "PathSegment"}, "segment", "needs a segment"},
		{"a short placeholder", rule.Target{Type: "Placeholder", Text: "abc"}, "text", "too short"},
		{"no group", rule.Target{Type: "Body", Regex: "a"}, "regex", "0 capture groups"},
		{"a key of another type", rule.Target{Type: "FormParam", Name: "a", Pointer: "/a"}, "pointer", "has no pointer"},
		{"what cannot be added", rule.Target{Type: "XML", XPath: "/a", IfAbsent: "add"}, "if_absent", "cannot be added"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.target.Compile("T")
			var e *rule.Error
			if !errors.As(err, &e) || e.Key != c.key || !strings.Contains(e.Problem, c.says) || e.Next == "" {
				t.Errorf("got %v, want key %q, %q and a next step", err, c.key, c.says)
			}
		})
	}
}

func TestHidePath(t *testing.T) {
	for _, c := range []struct {
		segment    int
		path, want string
	}{
		{2, "/a/secret/b", "/a/{{T}}/b"},
		{-1, "/a/secret/", "/a/{{T}}/"},
		{4, "/a/b", "/a/b"},
	} {
		tg := &rule.Target{Type: "PathSegment", Segment: c.segment}
		if err := tg.Compile("T"); err != nil {
			t.Fatal(err)
		}
		if got := tg.HidePath(c.path); got != c.want {
			t.Errorf("%d of %s: %s, want %s", c.segment, c.path, got, c.want)
		}
	}
}

// Bodies that are made to cost much are read in bounded time and memory.
func TestHostileBodies(t *testing.T) {
	repeat := func(s string, n int) string { return strings.Repeat(s, n/len(s)) }
	var fonts strings.Builder
	for i := range 400 {
		fmt.Fprintf(&fonts, "<font color=%d>", i)
	}
	for name, body := range map[string]string{
		"deep":            repeat("<a>", 1<<17),
		"formatting":      fonts.String() + repeat("<p>x", 1<<17),
		"many attributes": "<a " + repeat("b ", 1<<17) + ">",
		"siblings":        "<ul>" + repeat("<li>", 1<<17),
		"no end":          "<" + repeat("a", 1<<17),
	} {
		for _, s := range []rule.Source{
			{Type: "CSS", Selector: "x y:nth-child(3) z, li:nth-last-child(2) b"},
			{Type: "XPath", XPath: "//x//y[contains(., 'z')]/following::z"},
			{Type: "XPath", XPath: "//li[last()]/@none"},
			{Type: "FormField", Name: "none"},
			{Type: "XPath", XPath: "//none"},
		} {
			if s.XPath == "//none" {
				body = `<?xml version="1.0"?>` + body
			}
			if err := s.Compile(); err != nil {
				t.Fatal(err)
			}
			if v, ok := s.Extract(nil, response(t, ok200+"\n"), []byte(body)); ok {
				t.Errorf("%s: %s found %q", name, s.String(), v)
			}
		}
	}
}

// An edit of a body changes only its place: the rest is byte for byte what it
// was, and the document means the same but for the one value.
func FuzzInjectBody(f *testing.F) {
	f.Add(uint8(0), `{"a":{"t":"old"},"b":[1, 2]}`, "new")
	f.Add(uint8(0), ` {"a":{ } , "a":{"x":1}}`, `q"\`)
	f.Add(uint8(1), `<a><t k="v">old</t><b/></a>`, "<&>")
	f.Add(uint8(1), `<a><t/></a>`, "x")
	f.Add(uint8(2), "a=1&t=old&t=2", "a b&c")
	f.Add(uint8(3), "--B\r\nContent-Disposition: form-data; name=\"t\"\r\n\r\nold\r\n--B--\r\n", "new")
	f.Add(uint8(4), "xx t=old; yy", "new")
	f.Fuzz(func(t *testing.T, kind uint8, body, value string) {
		types := []struct {
			media  string
			target rule.Target
		}{
			{"application/json", rule.Target{Type: "JSON", Pointer: "/a/t"}},
			{"text/xml", rule.Target{Type: "XML", XPath: "//t"}},
			{"application/x-www-form-urlencoded", rule.Target{Type: "FormParam", Name: "t"}},
			{"multipart/form-data; boundary=B", rule.Target{Type: "Multipart", Name: "t"}},
			{"text/plain", rule.Target{Type: "Body", Regex: "t=(.*?);"}},
		}
		at := types[int(kind)%len(types)]
		if at.target.Type == "JSON" && !utf8.ValidString(value) {
			return // such bytes go out as they are, and readers of JSON change them
		}
		tg := &at.target
		if err := tg.Compile("T"); err != nil {
			t.Fatal(err)
		}
		req, err := wire.ParseRequest([]byte("POST / HTTP/1.1\r\nContent-Type: " + at.media + "\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		m := &rule.Message{Request: req, Body: []byte(body)}
		now, present := rule.Span(tg, m)
		replaced := len(now)
		changed, err := tg.Inject(m, value, nil)
		after := string(m.Body)
		if err != nil || !changed {
			if after != body {
				t.Fatalf("unchanged (%v), yet %q became %q", err, body, after)
			}
			return
		}
		if same, want := commonEnds([]byte(body), m.Body), len(body)-replaced-2; same < want { // <t/> loses its "/>"
			t.Errorf("%q became %q: %d bytes outside the place changed", body, after, want-same)
		}
		got, ok := tg.Current(m)
		if tg.Type == "JSON" && json.Valid([]byte(value)) && got == value {
			return // a number, truth or null for one
		}
		if ok && got != value && tg.Type != "Body" {
			t.Errorf("%q became %q: the place holds %q, want %q", body, after, got, value)
		}
		if !ok && tg.Type != "Body" {
			t.Errorf("%q became %q: the place is gone (it was there: %t)", body, after, present)
		}
		switch tg.Type {
		case "JSON":
			if !json.Valid(bytes.TrimPrefix(m.Body, []byte("\xef\xbb\xbf"))) {
				t.Errorf("%q became %q, which is no JSON", body, after)
			}
		case "XML":
			if before, now := tags(body), tags(after); before != now {
				t.Errorf("%q became %q: tags %s became %s", body, after, before, now)
			}
		}
	})
}

// tags are the tags of an XML text, in their order.
func tags(text string) string {
	d := xml.NewDecoder(strings.NewReader(text))
	d.Strict = false
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	var b strings.Builder
	for {
		token, err := d.RawToken()
		switch token := token.(type) {
		case xml.StartElement:
			fmt.Fprintf(&b, "<%s %v>", token.Name.Local, token.Attr)
		case xml.EndElement:
			fmt.Fprintf(&b, "</%s>", token.Name.Local)
		}
		if err != nil {
			return b.String()
		}
	}
}

// Whatever a source is told to look for, and wherever, it neither crashes nor
// finds more than the body has room for.
func FuzzExtract(f *testing.F) {
	f.Add(uint8(0), "$..[?@.a == 'b' && !(@.c) || search(@.d, 'x')].v[1:2]['q',0]", `{"a":[{"a":"b","v":[1,{"q":2}]}]}`)
	f.Add(uint8(1), "table > tbody td:nth-child(2), a[href^=x]", "<table><tr><td>1<td>2</table><a href=xy>z</a>")
	f.Add(uint8(2), "//a[@b='c']/following::d[last()]/text()", "<x><a b='c'/><d>e</d></x>")
	f.Add(uint8(3), "t=", "a t=1; t=2;")
	f.Add(uint8(4), "code", "https://h/?code=1&code=%32#code=3")
	f.Fuzz(func(t *testing.T, kind uint8, where, text string) {
		sources := []rule.Source{
			{Type: "JSON", Path: where}, {Type: "CSS", Selector: where}, {Type: "XPath", XPath: where},
			{Type: "Between", Start: where, End: ";", IgnoreCase: true, Headers: true}, {Type: "RedirectURL", Param: where, Decode: []string{"html", "url"}},
		}
		s := sources[int(kind)%len(sources)]
		s.Match = rule.MatchLast
		if err := s.Compile(); err != nil {
			var e *rule.Error
			if !errors.As(err, &e) || e.Next == "" {
				t.Errorf("%v is no *rule.Error with a next step", err)
			}
			return
		}
		head := "HTTP/1.1 302 Found\r\n\r\n"
		if s.Type == "RedirectURL" && !strings.ContainsAny(text, "\r\n") {
			head = "HTTP/1.1 302 Found\r\nLocation: " + text + "\r\n\r\n"
		}
		resp, err := wire.ParseResponse([]byte(head))
		if err != nil {
			return
		}
		if v, ok := s.Extract(nil, resp, []byte(text)); ok && s.Type != "XPath" && len(v) > 10*(len(text)+len(head)) {
			t.Errorf("%s found %d bytes in %d", s.String(), len(v), len(text))
		}
	})
}
