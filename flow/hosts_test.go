package flow_test

import (
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
)

func TestHostPatterns(t *testing.T) {
	for _, c := range []struct {
		about, pattern, host string
		port                 uint16
		want                 bool
	}{
		{"a host", "shop.example", "shop.example", 443, true},
		{"in another case", "Shop.EXAMPLE", "shop.example", 443, true},
		{"with the root's dot", "shop.example.", "shop.example", 443, true},
		{"of an origin with the root's dot", "shop.example", "shop.example.", 443, true},
		{"not a name below", "shop.example", "www.shop.example", 443, false},
		{"a name below", "*.shop.example", "a.b.shop.example", 443, true},
		{"the name itself", "*.shop.example", "shop.example", 443, true},
		{"not a name that ends alike", "*.shop.example", "workshop.example", 443, false},
		{"a star within", "api-*.example", "api-7.eu.example", 443, true},
		{"a star within that does not fit", "api-*.example", "api.example", 443, false},
		{"two stars", "*shop*", "www.shop.example", 80, true},
		{"a star that must be tried again", "*ab.example", "aab.ab.example", 80, true},
		{"everything", "*", "anything", 1, true},
		{"everything of a port", "*:8443", "anything", 8443, true},
		{"not of another port", "*:8443", "anything", 443, false},
		{"a host and a port", "shop.example:8443", "shop.example", 8443, true},
		{"an address", "127.0.0.1", "127.0.0.1", 80, true},
		{"not a name for an address", "127.0.0.1", "localhost", 80, false},
		{"a network", "10.0.0.0/8", "10.1.2.3", 80, true},
		{"not outside of it", "10.0.0.0/8", "11.1.2.3", 80, false},
		{"not a name for a network", "10.0.0.0/8", "10.example", 80, false},
		{"an IPv6 address", "::1", "::1", 80, true},
		{"written otherwise", "0:0::1", "::1", 80, true},
		{"with a port", "[::1]:8080", "::1", 8080, true},
		{"with another", "[::1]:8080", "::1", 80, false},
		{"an IPv6 network", "fd00::/8", "fd12::1", 80, true},
		{"IPv4 within IPv6", "127.0.0.1", "::ffff:127.0.0.1", 80, true},
	} {
		t.Run(c.about, func(t *testing.T) {
			p, err := flow.ParseHostPattern(c.pattern)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Match(flow.Origin{Host: c.host, Port: c.port}); got != c.want {
				t.Errorf("%q matches %s:%d: %v, want %v", c.pattern, c.host, c.port, got, c.want)
			}
			if p.String() != c.pattern {
				t.Errorf("String() is %q", p.String())
			}
		})
	}
}

func TestHostPatternsThatAreNone(t *testing.T) {
	for _, s := range []string{"", "https://shop.example", "shop.example/path", "shop.example:0", "shop.example:99999",
		"shop.example:x", "a b", "user@shop.example", ":80", "*.", "[::1", "[shop.example]:80", "a,b", "10.0.0.0/99"} {
		if p, err := flow.ParseHostPattern(s); err == nil {
			t.Errorf("%q was taken as %+v", s, p)
		}
	}
}

func TestHostPatternsTogether(t *testing.T) {
	if (flow.HostPatterns{}).Match(flow.Origin{Host: "a"}) {
		t.Error("no pattern matches")
	}
	if !(flow.HostPattern{}).Match(flow.Origin{Host: "a"}) {
		t.Error("the zero pattern does not match everything")
	}
	a, err := flow.ParseHostPattern("a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := flow.ParseHostPattern("*.b.example")
	if err != nil {
		t.Fatal(err)
	}
	both := flow.HostPatterns{a, b}
	if !both.Match(flow.Origin{Host: "x.b.example"}) || both.Match(flow.Origin{Host: "c"}) {
		t.Error("any of them should match, and nothing else")
	}
	if n := testing.AllocsPerRun(100, func() { both.Match(flow.Origin{Host: "x.b.example"}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
