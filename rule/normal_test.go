package rule_test

import (
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

func requestTo(t testing.TB, target string) *flow.Flow {
	t.Helper()
	r, err := wire.ParseRequest([]byte("GET " + target + " HTTP/1.1\r\nHost: shop.example\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	return &flow.Flow{Tool: flow.ToolProxy, Origin: flow.Origin{TLS: true, Host: "shop.example", Port: 443}, Received: r, Request: r}
}

func protecting(t testing.TB, scopes ...rule.Scope) *rule.Rule {
	t.Helper()
	set, err := rule.Compile([]rule.Rule{{Name: "r", Enabled: true, Protect: scopes}}, rule.Globals{})
	if err != nil {
		t.Fatal(err)
	}
	return set.Rules()[0]
}

// What an origin may read as the protected URL is protected; a URL that is
// another to every origin is not.
func TestProtectComparesAsOriginsRead(t *testing.T) {
	r := protecting(t, rule.Scope{Pattern: "/logout"}, rule.Scope{Pattern: "shop.example/users/%7ebob/leave"},
		rule.Scope{Include: []rule.URLs{{Prefix: "shop.example/Sign%6Fut"}}}, rule.Scope{Pattern: `^https://shop\.example/x/end$`, Target: rule.ScopeRegex},
		rule.Scope{Pattern: "/index.php?do=logout"})
	for target, want := range map[string]int{
		"/logout": 0, "/logout?a=%2e": 0, "/log%6fut": 0, "/log%6Fut": 0, "/%6C%6f%67out": 0,
		"/a/../logout": 0, "/a/%2e%2E/logout": 0, "/./logout": 0, "/../../logout": 0, "/a/b/../.././logout": 0,
		"//logout": 0, "/a//../logout": 0, `/\logout`: 0, "/a%2f..%2flogout": 0, "/;x=1/logout;y": 0, "/a/..;/logout": 0,
		"https://shop.example/a/../logout": 0, "https://shop.example/log%6fut": 0,
		"/users/~bob/leave": 1, "/users/%7Ebob/leave": 1, "/users/%7ebob/leave": 1, "/users/%7ebob/./leave": 1,
		"/signout": 2, "/SIGN%6fut": 2, "/sign%6Fut": 2, "/x/../signout": 2,
		"/x/end": 3, "/x/%65nd": 3, "/x/y/../end": 3,
		"/index.php?do=logout": 4, "/index.php?do=log%6fut": 4, "/x/../index.php?do=%6cogout": 4,
		"/": -1, "/log%256fut": -1, "/a?next=/../logout": -1, "/log/out": -1, "/account/../account": -1, "/users/bob/leave": -1, "/log%ZZout": -1, "/log%6": -1, "*": -1, "https://shop.example": -1,
	} {
		f := requestTo(t, target)
		was := f.Request
		if got := r.Protecting(f); got != want {
			t.Errorf("%s: protect[%d], want %d", target, got, want)
		}
		if f.Request != was || string(f.Request.Target()) != target {
			t.Errorf("%s: the request is another now: %s", target, f.Request.Target())
		}
	}
}

// A condition is asked about the readings too.
func TestProtectAsksConditionsAsOriginsRead(t *testing.T) {
	q, err := httpql.Parse(`req.path.eq:"/api/session"`)
	if err != nil {
		t.Fatal(err)
	}
	r := protecting(t, rule.Scope{Condition: q})
	for target, want := range map[string]bool{"/api/session": true, "/api/%73ession": true, "/api/x/../session": true, "/api/sessions": false} {
		if got := r.Protects(requestTo(t, target)); got != want {
			t.Errorf("%s: %v", target, got)
		}
	}
}

// Scopes are about what is written, exclude as well.
func TestScopesCompareAsWritten(t *testing.T) {
	s := rule.Scope{Pattern: "shop.example", Exclude: rule.Patterns("https://shop.example/logout")}
	if err := s.Compile(); err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]bool{"/logout": false, "/log%6fut": true, "/a/../logout": true} {
		if got := s.Match(requestTo(t, target)); got != want {
			t.Errorf("%s: in scope %v", target, got)
		}
	}
}

func FuzzProtectReadings(f *testing.F) {
	for _, target := range []string{"/log%6fut", "/a/../b", "//", `/\..\;x`, "https://h/%2e%2e/", "/?%2f#"} {
		f.Add(target)
	}
	r := protecting(f, rule.Scope{Pattern: "/logout"})
	f.Fuzz(func(t *testing.T, target string) {
		req, err := wire.ParseRequest([]byte("GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n"))
		if err != nil {
			return
		}
		fl := &flow.Flow{Tool: flow.ToolProxy, Origin: flow.Origin{Host: "h", Port: 80}, Received: req, Request: req}
		r.Protecting(fl)
		if fl.Request != req {
			t.Error("the request is another")
		}
	})
}
