package rule_test

import (
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
)

// The prefixes and ranges are the examples of Burp's documentation ("URL
// matching rules"); what they have and have not is what that page says of them.
func TestURLs(t *testing.T) {
	for _, c := range []struct {
		name    string
		entry   rule.URLs
		covers  []string
		ignores []string
	}{
		{"a prefix with path", rule.URLs{Prefix: "http://example.com/path"},
			[]string{"http://example.com/path", "http://example.com/pathology?a", "http://EXAMPLE.com/PATH/x"},
			[]string{"https://example.com/path", "http://example.com/", "http://www.example.com/path", "http://example.com:8080/path"}},
		{"a prefix of https", rule.URLs{Prefix: "https://example.com/admin"},
			[]string{"https://example.com/admin/x"}, []string{"http://example.com/admin/x"}},
		{"a prefix that is a host", rule.URLs{Prefix: "example.com"},
			[]string{"http://example.com/", "https://example.com/x"},
			[]string{"http://example.com.evil.test/", "http://www.example.com/"}},
		{"a prefix without scheme", rule.URLs{Prefix: "example.com/myapp/"},
			[]string{"http://example.com/MyApp/a", "https://example.com/myapp/"}, []string{"http://example.com/myapp"}},
		{"a prefix with port", rule.URLs{Prefix: "http://example.com:8080/login"},
			[]string{"http://example.com:8080/login?x"}, []string{"http://example.com/login", "https://example.com:8080/login"}},
		{"a prefix has no wildcards", rule.URLs{Prefix: "example.com/a*"},
			[]string{"http://example.com/a*b"}, []string{"http://example.com/ab"}},
		{"subdomains", rule.URLs{Prefix: "https://example.com/a", Subdomains: true},
			[]string{"https://example.com/a", "https://x.y.example.com/a"}, []string{"https://badexample.com/a", "https://x.example.com/b"}},
		{"an address with its prefix", rule.URLs{Host: "10.1.1.1/24"},
			[]string{"http://10.1.1.1/", "https://10.1.1.255:8443/"}, []string{"http://10.1.2.1/", "http://10.1.1.1.example/", "http://[::1]/"}},
		{"ranges of numbers", rule.URLs{Host: "10.1.1-20.1-127"},
			[]string{"http://10.1.1.1/", "http://10.1.20.127/"},
			[]string{"http://10.1.0.1/", "http://10.1.21.1/", "http://10.1.1.0/", "http://10.1.1.128/"}},
		{"a star for numbers", rule.URLs{Host: "10.1.1.*"}, []string{"http://10.1.1.77/"}, []string{"http://10.1.10.1/"}},
		{"one address", rule.URLs{Host: "10.1.1.1"}, []string{"http://10.1.1.1/"}, []string{"http://10.1.1.11/", "http://10.1.101.1/"}},
		{"a prefix of IPv6", rule.URLs{Host: "2001:db8::1/32"},
			[]string{"http://[2001:db8:1::1]/"}, []string{"http://[2001:db9::1]/", "http://10.1.1.1/"}},
		{"a host regex is searched for", rule.URLs{Host: `shop`},
			[]string{"http://www.SHOP.example/", "http://shop.example/"}, []string{"http://example.com/shop"}},
		{"a host regex with ends", rule.URLs{Host: `^example\.com$`, Port: "^443$", File: "^/app/.*", Protocol: "https"},
			[]string{"https://example.com/App/x?y"},
			[]string{"http://example.com/app/x", "https://example.com:8443/app/x", "https://www.example.com/app/", "https://example.com/", "https://example.com/?/app/"}},
		{"a port regex", rule.URLs{Port: `^80[08]\d?$`}, []string{"http://a.example/", "http://a.example:8080/"}[1:], []string{"http://a.example/", "http://a.example:18080/"}},
		{"the file is without the query", rule.URLs{File: `\.png$`},
			[]string{"http://a.example/x.PNG?v=1", "http://a.example/x.png"}, []string{"http://a.example/x?y=.png"}},
		{"look-around", rule.URLs{Host: `^(?!static\.)`, File: `^/(?!public)`}, []string{"http://a.example/x"},
			[]string{"http://static.example/x", "http://a.example/public"}},
		{"a pattern", rule.URLs{Pattern: "http://a.example/x"}, []string{"http://a.example/x"}, []string{"http://a.example/X"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := rule.Scope{Include: []rule.URLs{c.entry}}
			if err := s.Compile(); err != nil {
				t.Fatalf("Compile: %v", err)
			}
			for _, url := range c.covers {
				if ok, why := s.Explain(get(t, url)); !ok || !s.Match(get(t, url)) {
					t.Errorf("%s does not cover %s: %s", c.entry, url, why)
				}
			}
			for _, url := range c.ignores {
				if ok, why := s.Explain(get(t, url)); ok || s.Match(get(t, url)) {
					t.Errorf("%s covers %s: %s", c.entry, url, why)
				}
			}
		})
	}
}

func TestExplain(t *testing.T) {
	project := &rule.Project{Include: rule.Patterns("shop.example", "a.example"), Exclude: rule.Patterns("shop.example/logout")}
	post := query(t, `req.method.eq:"POST"`)
	for _, c := range []struct {
		name  string
		scope rule.Scope
		url   string
		edit  func(f *flow.Flow)
		want  string
	}{
		{"tool", rule.Scope{Tools: []string{"scanner"}}, "http://a.example/", nil, "tool: it is proxy, and the rule is for scanner"},
		{"macro", rule.Scope{}, "http://a.example/", func(f *flow.Flow) { f.Tool = flow.ToolMacro }, "tool: the requests of macros are in no rule's scope"},
		{"identity", rule.Scope{Identities: []string{"bob"}}, "http://a.example/", func(f *flow.Flow) { f.Identity = "alice" }, "identity: it is alice, and the rule is for bob"},
		{"method", rule.Scope{Methods: []string{"POST", "PUT"}}, "http://a.example/", nil, "method: it is GET, and the rule is for POST, PUT"},
		{"host", rule.Scope{Pattern: "b.example"}, "http://a.example/", nil, "host: a.example is not that of the pattern b.example"},
		{"path", rule.Scope{Include: rule.Patterns("http://a.example/x")}, "http://a.example/?secret", nil, "path: it is not that of include[0] (http://a.example/x)"},
		{"port", rule.Scope{Pattern: "a.example:81"}, "http://a.example/", nil, "port: 80 is not that of the pattern a.example:81"},
		{"protocol", rule.Scope{Include: []rule.URLs{{Protocol: "https"}}}, "http://a.example/", nil, "protocol: http is not that of include[0] (protocol: https)"},
		{"several", rule.Scope{Include: rule.Patterns("b.example", "c.example")}, "http://a.example/", nil, "url: none of the 2 entries of include has it"},
		{"project", rule.Scope{Project: project}, "http://b.example/", nil, "url: none of the 2 entries of the project's include has it"},
		{"left out of the project", rule.Scope{Project: project}, "http://shop.example/logout", nil, "excluded by the project's exclude[0] (shop.example/logout)"},
		{"left out", rule.Scope{Exclude: rule.Patterns("b.example", "a.example/x")}, "http://a.example/x", nil, "excluded by exclude[1] (a.example/x)"},
		{"parameter", rule.Scope{Params: []string{"csrf", "t"}}, "http://a.example/?a=csrf", nil, "parameter: there is no csrf, t"},
		{"httpql", rule.Scope{Condition: post}, "http://a.example/", nil, `httpql: the condition is not true: req.method.eq:"POST"`},
		{"in", rule.Scope{Pattern: "*.example", Params: []string{"a"}}, "http://a.example/?a", nil, "pattern *.example"},
		{"in the project", rule.Scope{Project: project}, "http://a.example/", nil, "the project's include[1] (a.example)"},
		{"everything", rule.Scope{}, "http://a.example/", nil, "every URL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.scope.Compile(); err != nil {
				t.Fatal(err)
			}
			f := get(t, c.url)
			if c.edit != nil {
				c.edit(f)
			}
			covered, why := c.scope.Explain(f)
			if why != c.want || covered != c.scope.Match(f) {
				t.Errorf("Explain: %v, %q; want %q, and covered as Match has it", covered, why, c.want)
			}
		})
	}
}

func TestScopeIdentityOfThoseWhoNameNobody(t *testing.T) {
	r := inject("alice's", "*", 0)
	r.Scope.Identities = []string{"alice"}
	set, err := rule.Compile([]rule.Rule{r}, rule.Globals{Identity: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	for identity, want := range map[string]int{"": 1, "alice": 1, "bob": 0} {
		f := get(t, "http://a.example/")
		f.Identity = identity
		if got := len(set.Match(f, nil)); got != want {
			t.Errorf("identity %q: %d rules, want %d", identity, got, want)
		}
	}
}
