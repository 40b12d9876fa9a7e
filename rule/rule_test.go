package rule_test

import (
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// request parses a head written with bare line feeds.
func request(t testing.TB, head string) *wire.Request {
	t.Helper()
	req, err := wire.ParseRequest([]byte(strings.ReplaceAll(head, "\n", "\r\n")))
	if err != nil {
		t.Fatalf("request %q: %v", head, err)
	}
	return req
}

// response parses a head written with bare line feeds.
func response(t testing.TB, head string) *wire.Response {
	t.Helper()
	resp, err := wire.ParseResponse([]byte(strings.ReplaceAll(head, "\n", "\r\n")))
	if err != nil {
		t.Fatalf("response %q: %v", head, err)
	}
	return resp
}

// get is a flow of a GET for a URL with a scheme.
func get(t testing.TB, url string) *flow.Flow {
	t.Helper()
	scheme, rest, _ := strings.Cut(url, "://")
	authority, path := rest, "/"
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	f := &flow.Flow{Tool: flow.ToolProxy, Origin: flow.Origin{TLS: scheme == "https", Host: authority, Port: 80}}
	if f.Origin.TLS {
		f.Origin.Port = 443
	}
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		f.Origin.Host = authority[:i]
		f.Origin.Port = 0
		for _, c := range authority[i+1:] {
			f.Origin.Port = f.Origin.Port*10 + uint16(c-'0')
		}
	}
	f.Origin.Host = strings.Trim(f.Origin.Host, "[]")
	f.Request = request(t, "GET "+path+" HTTP/1.1\nHost: "+authority+"\n\n")
	f.Received = f.Request
	return f
}

func TestResendAllows(t *testing.T) {
	for _, c := range []struct {
		resend rule.Resend
		method string
		want   bool
	}{
		{"", "POST", true},
		{rule.ResendAlways, "DELETE", true},
		{rule.ResendSafe, "GET", true},
		{rule.ResendSafe, "HEAD", true},
		{rule.ResendSafe, "get", false}, // methods are case-sensitive
		{rule.ResendSafe, "POST", false},
		{rule.ResendNever, "GET", false},
	} {
		if got := c.resend.Allows([]byte(c.method)); got != c.want {
			t.Errorf("Resend(%q).Allows(%s) = %t, want %t", c.resend, c.method, got, c.want)
		}
	}
}

func TestNeedsBody(t *testing.T) {
	header := rule.Rule{Updates: []rule.Update{{Source: &rule.Source{Type: rule.SourceCookie, Name: "sid"}}, {}}}
	body := rule.Rule{Updates: []rule.Update{{Source: &rule.Source{Type: rule.SourceJSON, Path: "token"}}}}
	for _, r := range []*rule.Rule{&header, &body} {
		if err := r.Updates[0].Source.Compile(); err != nil {
			t.Fatal(err)
		}
	}
	if header.NeedsBody() {
		t.Error("a rule that takes a cookie needs the body, want not")
	}
	if !body.NeedsBody() {
		t.Error("a rule that takes a token from JSON needs no body, want the body")
	}
}

func TestErrorText(t *testing.T) {
	err := &rule.Error{Rule: "shop", Key: "token_updates[0].source.regex", Problem: "no group", Next: "add one"}
	if got, want := err.Error(), "rule shop: token_updates[0].source.regex: no group; add one"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
