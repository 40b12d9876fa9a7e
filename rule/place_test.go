package rule_test

import (
	"testing"

	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

func TestPlacesAreNamedAsTracesNameThem(t *testing.T) {
	for text, want := range map[string]string{
		"cookie:sessid": "cookie:sessid", " Cookie : sessId ": "cookie:sessId", "HEADER:Authorization": "header:authorization",
		"query:a[b]": "query:a[b]", "json:/a/b": "json:/a/b", "path:-1": "path:-1", "form:a:b": "form:a:b",
		"": "", "cookie": "", "cookie:": "", "cookies:a": "", ":a": "",
	} {
		got, err := rule.ParsePlace(text)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestAPlaceIsTakenOut(t *testing.T) {
	for _, tt := range []struct {
		target     rule.Target
		head, want string
	}{
		{rule.Target{Type: rule.TargetRequestHeader, Name: "x-a"}, "GET / HTTP/1.1\r\nX-A: 1\r\nB: 2\r\nX-a:3\r\n\r\n", "GET / HTTP/1.1\r\nB: 2\r\n\r\n"},
		{rule.Target{Type: rule.TargetCookie, Name: "a"}, "GET / HTTP/1.1\r\nCookie: a=1\r\ncookie: b=2;a=3;  c ; A=4\r\nCookie: a=5; d=6\r\n\r\n", "GET / HTTP/1.1\r\ncookie: b=2;  c ; A=4\r\nCookie: d=6\r\n\r\n"},
		{rule.Target{Type: rule.TargetCookie, Name: "a"}, "GET / HTTP/1.1\r\nCookie: b=1;;c=2\r\n\r\n", ""},
		{rule.Target{Type: rule.TargetQueryParam, Name: "a"}, "GET /p?a=1&b=a&&%61=2&a#a=3 HTTP/1.1\r\n\r\n", "GET /p?b=a&#a=3 HTTP/1.1\r\n\r\n"},
		{rule.Target{Type: rule.TargetQueryParam, Name: "a"}, "GET /p?a=1 HTTP/1.1\r\n\r\n", "GET /p HTTP/1.1\r\n\r\n"},
		{rule.Target{Type: rule.TargetQueryParam, Name: "a"}, "GET /p?b=%zz&aa=1 HTTP/1.1\r\n\r\n", ""},
		{rule.Target{Type: rule.TargetPathSegment, Segment: 1}, "GET /p HTTP/1.1\r\n\r\n", ""},
	} {
		if err := tt.target.Compile("T"); err != nil {
			t.Fatal(err)
		}
		req, err := wire.ParseRequest([]byte(tt.head))
		if err != nil {
			t.Fatal(err)
		}
		want := tt.want
		if want == "" {
			want = tt.head
		}
		removed := tt.target.Remove(&rule.Message{Request: req})
		if got := string(req.Bytes()); got != want || removed != (tt.want != "") {
			t.Errorf("%s of %q: %v, %q; want %q", tt.target.Place(), tt.head, removed, got, want)
		}
	}
}
