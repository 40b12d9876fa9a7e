package rule_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
)

func TestScopeMatch(t *testing.T) {
	for _, c := range []struct {
		name    string
		scope   rule.Scope
		covers  []string
		ignores []string
	}{
		{"the seed's wildcard covers names below and the name itself",
			rule.Scope{Pattern: "*.api.example.com", Target: "host"},
			[]string{"https://v1.api.example.com/x", "https://a.b.api.example.com/", "http://api.example.com:8080/"},
			[]string{"https://example.com/", "https://xapi.example.com/", "https://api.example.com.evil.test/"}},
		{"a host without a port is every port",
			rule.Scope{Pattern: "shop.example"},
			[]string{"https://shop.example/", "http://shop.example/", "https://shop.example:8443/a?b"},
			[]string{"https://www.shop.example/", "https://shop.example2/"}},
		{"a host with a port",
			rule.Scope{Pattern: "shop.example:8443"},
			[]string{"https://shop.example:8443/"},
			[]string{"https://shop.example/"}},
		{"case and the root's dot do not matter",
			rule.Scope{Pattern: "Shop.EXAMPLE."}, []string{"https://shop.example/", "https://shop.example./"}, nil},
		{"a star anywhere in a host",
			rule.Scope{Pattern: "api-*.shop.*"},
			[]string{"https://api-1.shop.example/", "https://api-.shop.example.com/"},
			[]string{"https://api.shop.example/", "https://xapi-1.shop.example/"}},
		{"two stars, the first leading",
			rule.Scope{Pattern: "*.shop.*"},
			[]string{"https://www.shop.example/", "https://shop.example/"},
			[]string{"https://workshop.example/"}},
		{"everything", rule.Scope{Pattern: "*"}, []string{"https://shop.example/", "http://[::1]:3/"}, nil},
		{"nothing written is everything", rule.Scope{}, []string{"https://shop.example/"}, nil},
		{"an IPv6 address",
			rule.Scope{Pattern: "[::1]:8080"},
			[]string{"http://[::1]:8080/"}, []string{"http://[::1]:8081/", "http://[::2]:8080/"}},
		{"an IPv6 address written long",
			rule.Scope{Pattern: "[0:0:0:0:0:0:0:1]", Target: "host"},
			[]string{"http://[::1]:8080/"}, nil},
		{"a URL with a scheme means the scheme's own port",
			rule.Scope{Pattern: "https://shop.example/admin"},
			[]string{"https://shop.example/admin", "https://shop.example/admin/x", "https://shop.example/administrator?a=b"},
			[]string{"http://shop.example/admin", "https://shop.example:8443/admin", "https://shop.example/Admin", "https://shop.example/"}},
		{"a URL without a path compares the host whole",
			rule.Scope{Pattern: "https://shop.example"},
			[]string{"https://shop.example/", "https://shop.example/x"},
			[]string{"https://shop.example.evil.test/", "https://shop.example:444/"}},
		{"a URL without a scheme is both schemes and every port",
			rule.Scope{Pattern: "shop.example/api/"},
			[]string{"https://shop.example/api/x", "http://shop.example:8080/api/"},
			[]string{"https://shop.example/api", "https://shop.example/"}},
		{"a URL with a port and a host with a star",
			rule.Scope{Pattern: "http://*.shop.example:8080/a"},
			[]string{"http://www.shop.example:8080/a", "http://shop.example:8080/ab"},
			[]string{"http://shop.example/a"}},
		{"a star at the end of a URL",
			rule.Scope{Pattern: "https://shop.example/*"},
			[]string{"https://shop.example/", "https://shop.example/a"},
			[]string{"http://shop.example/a"}},
		{"a star inside a URL's path",
			rule.Scope{Pattern: "https://shop.example/*/edit"},
			[]string{"https://shop.example/a/edit", "https://shop.example/a/b/edit?x"},
			[]string{"https://shop.example/edit"}},
		{"any port of a URL with a scheme",
			rule.Scope{Pattern: "https://shop.example:*/"},
			[]string{"https://shop.example/", "https://shop.example:9/"}, []string{"http://shop.example/"}},
		{"WebSockets are reached by http",
			rule.Scope{Pattern: "wss://shop.example/live"},
			[]string{"https://shop.example/live"}, []string{"http://shop.example/live"}},
		{"a query belongs to a URL",
			rule.Scope{Pattern: "https://shop.example/a?b=", Target: "prefix"},
			[]string{"https://shop.example/a?b=c"}, []string{"https://shop.example/a"}},
		{"a regex looks into the whole URL",
			rule.Scope{Pattern: `^https?://shop\.example(:\d+)?/(a|b)/`},
			[]string{"https://shop.example/a/", "http://shop.example:8080/b/c?d"},
			[]string{"https://shop.example/c/", "https://xshop.example/a/"}},
		{"a regex with look-around",
			rule.Scope{Pattern: `^https://shop\.example/(?!static/)`, Target: "regex"},
			[]string{"https://shop.example/a"}, []string{"https://shop.example/static/x"}},
		{"a regex sees addresses in brackets", rule.Scope{Pattern: `^http://\[::1\]:81/$`}, []string{"http://[::1]:81/"}, nil},
		{"exclusions",
			rule.Scope{Pattern: "*.shop.example", Exclude: rule.Patterns("https://shop.example/logout", "static.shop.example", `\.png$`)},
			[]string{"https://shop.example/", "http://shop.example/logout"},
			[]string{"https://shop.example/logout?x", "https://static.shop.example/", "https://shop.example/a.png"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.scope.Compile(); err != nil {
				t.Fatalf("Compile: %v", err)
			}
			for _, url := range c.covers {
				if !c.scope.Match(get(t, url)) {
					t.Errorf("%q does not cover %s, want it to", c.scope.Pattern, url)
				}
			}
			for _, url := range c.ignores {
				if c.scope.Match(get(t, url)) {
					t.Errorf("%q covers %s, want not", c.scope.Pattern, url)
				}
			}
		})
	}
}

func TestScopeReadsAbsoluteForm(t *testing.T) {
	f := get(t, "http://shop.example/")
	f.Request = request(t, "GET http://shop.example/admin/x HTTP/1.1\nHost: shop.example\n\n")
	s := rule.Scope{Pattern: "http://shop.example/admin/"}
	if err := s.Compile(); err != nil {
		t.Fatal(err)
	}
	if !s.Match(f) {
		t.Error("a request in absolute-form is out of scope, want it in")
	}
}

func TestScopeTools(t *testing.T) {
	for _, c := range []struct {
		tools []string
		tool  string
		want  bool
	}{
		{nil, "proxy", true},
		{nil, "sqlmap", true},
		{nil, flow.ToolMacro, false},
		{[]string{"proxy", "Scanner"}, "scanner", true},
		{[]string{"proxy"}, "scanner", false},
		{[]string{"proxy"}, flow.ToolMacro, false},
	} {
		s := rule.Scope{Pattern: "shop.example", Tools: c.tools}
		if err := s.Compile(); err != nil {
			t.Fatal(err)
		}
		f := get(t, "https://shop.example/")
		f.Tool = c.tool
		if got := s.Match(f); got != c.want {
			t.Errorf("tools %v, tool %s: %t, want %t", c.tools, c.tool, got, c.want)
		}
	}
}

func TestScopeMistakes(t *testing.T) {
	for _, c := range []struct {
		name      string
		scope     rule.Scope
		key, says string
	}{
		{"an unknown kind", rule.Scope{Pattern: "x", Target: "glob"}, "target", "no scope target"},
		{"a URL as a host", rule.Scope{Pattern: "https://shop.example/", Target: "host"}, "pattern", "no host"},
		{"a regex as a host", rule.Scope{Pattern: `shop\.example`, Target: "host"}, "pattern", "no host"},
		{"a broken regex", rule.Scope{Pattern: `https://(shop`, Target: "regex"}, "pattern", "cannot be read"},
		{"a foreign scheme", rule.Scope{Pattern: "ftp://shop.example/"}, "pattern", "no scheme"},
		{"a port too high", rule.Scope{Pattern: "shop.example:70000"}, "pattern", "no port"},
		{"everything left out", rule.Scope{Pattern: "shop.example", Exclude: rule.Patterns("a.example", "*")}, "exclude[1]", "never fire"},
		{"a broken exclusion", rule.Scope{Pattern: "shop.example", Exclude: rule.Patterns("((")}, "exclude[0].pattern", "cannot be read"},
		{"macro as a tool", rule.Scope{Pattern: "shop.example", Tools: []string{"proxy", "macro"}}, "tools[1]", "never in the scope"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.scope.Compile()
			var e *rule.Error
			if !errors.As(err, &e) {
				t.Fatalf("Compile gave %v, want a *rule.Error", err)
			}
			if e.Key != c.key || !strings.Contains(e.Problem, c.says) || e.Next == "" {
				t.Errorf("got key %q, problem %q, next %q; want key %q, %q and a next step", e.Key, e.Problem, e.Next, c.key, c.says)
			}
		})
	}
}
