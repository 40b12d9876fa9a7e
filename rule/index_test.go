package rule_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// dice draws scopes and requests from words that meet each other often.
type dice struct{ next func(n int) int }

func (d dice) pick(words ...string) string { return words[d.next(len(words))] }

func (d dice) some(words ...string) (list []string) {
	for range d.next(3) {
		list = append(list, d.pick(words...))
	}
	return list
}

func (d dice) host() string {
	return d.pick("shop.example", "www.shop.example", "a.b.shop.example", "bank.example", "10.1.1.7", "10.1.9.7", "::1", "Kiosk.example", "x")
}

func (d dice) path() string {
	return d.pick("/", "/api/v1/orders", "/API/V1/Orders?id=1", "/api/v2", "/admin/users?next=/api/v1", "/a*b", "/static/app.png", "/kio\u017fks", "/kiosks", "/?csrf=1&x=%63srf2")
}

func (d dice) urls() rule.URLs {
	switch d.next(3) {
	case 0:
		return rule.URLs{Pattern: d.pick("shop.example", "*.shop.example", "*.example", "w*.shop.*", "10.1.1.7:8080", "https://shop.example/api/v1", "shop.example/api/",
			"https://*/api", "http://*.shop.example:*/api/*/orders", `^https?://(www|a\.b)\.shop\.example/`, `/api/v\d/`, `(?i)/KIOSKS`, `orders|users`, `(?:api)+/v1`,
			`x*`, `(?i)[^/]/kiosks`, `(?<=shop)\.example`, "[::1]:8080", `^http://[^/]*/$`, `users\?next=.*(v1|v2)`)}
	case 1:
		return rule.URLs{Prefix: d.pick("shop.example", "https://shop.example/API/", "bank.example/admin/users?NEXT", "http://www.shop.example:8080/", "x/a*"), Subdomains: d.next(2) == 0}
	}
	u := rule.URLs{Protocol: d.pick("", "any", "http", "HTTPS"),
		Host: d.pick("", "", `^shop\.example$`, `(^|\.)shop\.example$`, "example", "10.1.1.1/24", "10.1.1-8.1-127", "::/64", `^kiosk`),
		Port: d.pick("", "", "^443$", "80", `^8\d+$`), File: d.pick("", "", "^/api/v1/.*", `\.png$`, "orders$", `^/KIOSKS`, "v(1|2)")}
	if u == (rule.URLs{}) || u.Protocol == "any" {
		u.File = "."
	}
	return u
}

func (d dice) list() (list []rule.URLs) {
	for range d.next(4) {
		list = append(list, d.urls())
	}
	return list
}

func (d dice) condition(t testing.TB) *httpql.Query {
	var q *httpql.Query
	for range 1 + d.next(3) {
		p := query(t, d.pick(`req.method.eq:"POST"`, `req.host.eq:"shop.example"`, `req.host.cont:"SHOP.EX"`, `req.path.like:"/api/_1/%"`, `req.path.eq:"/api/v2"`,
			`req.query.cont:"next"`, `NOT req.path.cont:"admin"`, `req.path.cont:"admin" OR req.path.cont:"orders"`, `req.method.eq:"GET" OR req.method.eq:"PUT"`,
			`req.header["x"].cont:"y"`, `req.path.regex:"/v[12]"`, `req.body.cont:"csrf"`, `req.path.cont:"kioskſ"`, `req.ext.eq:".png"`, `flow.tool.eq:"proxy"`, `req.path.cont:"x y:"`))
		switch {
		case q == nil:
			q = p
		case d.next(2) == 0:
			q = httpql.And(q, p)
		default:
			q = httpql.Or(q, p)
		}
	}
	return q
}

func (d dice) rules(t testing.TB) []rule.Rule {
	project := &rule.Project{Include: d.list(), Exclude: d.list()}
	var rules []rule.Rule
	for i := range 1 + d.next(20) {
		r := inject(fmt.Sprint("r", i), "", d.next(3))
		s := &r.Scope
		switch d.next(4) {
		case 0:
			s.Project = project
		case 1:
			s.Pattern = "*.shop.example"
		default:
			s.Include = d.list()
		}
		if d.next(3) == 0 {
			s.Exclude = d.list()
		}
		if d.next(4) == 0 {
			s.Condition = d.condition(t)
		}
		if d.next(5) == 0 {
			s.Params = d.some("csrf", "csrf2", "id")
		}
		if d.next(5) == 0 {
			s.Methods = d.some("GET", "POST", "post")
		}
		if d.next(5) == 0 {
			s.Tools = d.some("proxy", "Scanner")
		}
		if d.next(5) == 0 {
			s.Identities = d.some("alice", "bob")
		}
		rules = append(rules, r)
	}
	return rules
}

func (d dice) flow(t testing.TB) *flow.Flow {
	host, path := d.host(), d.path()
	target := d.pick(path, path, path, "http://"+host+path, "*", "shop.example/api/v1", "x y://z"+path)
	f := &flow.Flow{Tool: d.pick("proxy", "scanner"), Identity: d.pick("", "alice", "bob"),
		Origin: flow.Origin{TLS: d.next(2) == 0, Host: host, Port: []uint16{80, 443, 8080}[d.next(3)]}}
	head := d.pick("GET", "POST", "post", "CONNECT") + " " + target + " HTTP/1.1\r\nHost: " + d.pick(host, "shop.example", "SHOP.example:8080") + "\r\n" + d.pick("", "X: y\r\n", "Cookie: id=1\r\n")
	if d.next(3) == 0 {
		const body = "csrf=1"
		head += "Content-Type: application/x-www-form-urlencoded\r\n"
		f.RequestBody = &pieces{left: body, framing: wire.Framing{Kind: wire.Length, Length: int64(len(body))}}
	}
	req, err := wire.ParseRequest([]byte(head + "\r\n"))
	if err != nil {
		t.Fatalf("%q: %v", head, err)
	}
	f.Request, f.Received = req, req
	return f
}

// checkIndex compares what the set finds with what asking each rule finds.
func checkIndex(t testing.TB, d dice) {
	rules := d.rules(t)
	set, err := rule.Compile(rules, rule.Globals{Identity: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		f := d.flow(t)
		var want []*rule.Rule
		for _, r := range set.Rules() {
			if covered, why := r.Scope.Explain(f); covered != r.Scope.Match(f) || why == "" {
				t.Fatalf("Explain says %v (%s), Match %v; scope %+v, request %s", covered, why, !covered, r.Scope, f.Request.Bytes())
			}
			if r.Scope.Match(f) {
				want = append(want, r)
			}
		}
		if got := set.Match(f, nil); !slices.Equal(got, want) {
			t.Fatalf("the index finds %s, each one asked: %s; request %s to %+v; rules %+v", names(got), names(want), f.Request.Bytes(), f.Origin, rules)
		}
	}
}

func TestIndexFindsWhatScopesMatch(t *testing.T) {
	for seed := range uint64(600) {
		checkIndex(t, dice{rand.New(rand.NewPCG(seed, 1)).IntN})
	}
}

// Whatever the entry, compiling and matching do not panic, and the index finds
// what asking the rule finds.
func FuzzScope(f *testing.F) {
	f.Add("*.shop.example", "", "example.com/a", "10.1.1.1/24", "^443$", "^/a", "csrf", "https://shop.example/a?csrf")
	f.Add(`^https://(a|b)\.example/[0-9]+`, "regex", "x", "10.1-2.*.3", "", `(?<!x)y`, "a", "http://10.1.2.3:81/")
	f.Add("[::1]:80", "host", "[::1]/K", "::/0", "8", "ſ", "k", "http://[::1]:80/\xff")
	f.Fuzz(func(t *testing.T, pattern, target, prefix, host, port, file, param, path string) {
		if len(pattern)+len(host)+len(port)+len(file) > 200 { // a regex can be slow in its own right
			return
		}
		fl := get(t, "https://shop.example/")
		req, err := wire.ParseRequest([]byte("GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"))
		if err != nil {
			return
		}
		fl.Request, fl.Origin.Host = req, host
		for i, s := range []rule.Scope{{Pattern: pattern, Target: target}, {Include: []rule.URLs{{Prefix: prefix, Subdomains: true}}}, {Params: []string{param}},
			{Include: []rule.URLs{{Host: host, Port: port, File: file}}}, {Exclude: []rule.URLs{{File: file}, {Prefix: prefix}}}} {
			r := inject("r", "", i)
			r.Scope = s
			set, err := rule.Compile([]rule.Rule{r}, rule.Globals{})
			if err != nil {
				continue
			}
			set.Covers(host)
			covered, why := set.Rules()[0].Scope.Explain(fl)
			if found := len(set.Match(fl, nil)) > 0; found != covered || why == "" {
				t.Errorf("the index finds %v, the scope %v (%s): %+v", found, covered, why, s)
			}
		}
	})
}

func BenchmarkMatchMixed(b *testing.B) {
	for _, n := range []int{1, 10, 1000} {
		set := compile(b, mixedRules(b, n)...)
		for _, c := range []struct{ name, url string }{
			{"none", "https://www.elsewhere.example/account/orders/4711?sort=date&page=2"},
			{"none-of-the-host", "https://h0.shop.example/account/orders/4711?sort=date&page=2"},
		} {
			b.Run(fmt.Sprintf("rules=%d/in-scope=%s", n, c.name), func(b *testing.B) {
				f := get(b, c.url)
				var room [8]*rule.Rule
				if found := set.Match(f, room[:0]); len(found) > 0 {
					b.Fatal(names(found))
				}
				b.ReportAllocs()
				for b.Loop() {
					set.Match(f, room[:0])
				}
			})
		}
	}
}

// mixedRules are rules of every kind, in equal numbers, none of which is for
// the requests of the benchmark.
func mixedRules(t testing.TB, n int) []rule.Rule {
	var rules []rule.Rule
	for i := range n {
		r := inject(fmt.Sprint("rule ", i), "", i)
		s := &r.Scope
		switch i % 10 {
		case 0:
			s.Pattern, s.Methods = fmt.Sprintf("h%d.shop.example", i), []string{"POST"}
		case 1:
			s.Pattern = fmt.Sprintf("*.s%d.example", i)
		case 2:
			s.Pattern = fmt.Sprintf("https://h%d.shop.example/api/", i)
		case 3:
			s.Pattern = fmt.Sprintf("shop.example/endpoint/%d", i)
		case 4:
			s.Pattern = fmt.Sprintf(`^https://[a-z]+\.shop\.example/v\d/item%d/`, i)
		case 5:
			s.Include = []rule.URLs{{Protocol: "https", Host: fmt.Sprintf(`^.*\.team%d\.example$`, i), Port: "^443$", File: "^/app/.*"}}
		case 6:
			s.Include = []rule.URLs{{Host: fmt.Sprintf("10.%d.1-20.1-127", i%256)}, {Prefix: fmt.Sprintf("p%d.example/a", i), Subdomains: true}}
		case 7:
			s.Condition = query(t, fmt.Sprintf(`req.method.eq:"POST" AND req.path.cont:"/form%d"`, i))
		case 8:
			s.Condition = query(t, fmt.Sprintf(`req.host.eq:"c%d.example" OR req.header["x-team"].eq:"%d" AND req.method.eq:"PATCH"`, i, i))
			s.Methods = []string{"POST", "PATCH"}
		case 9:
			s.Pattern, s.Exclude = fmt.Sprintf("api-*.zone%d.example", i), rule.Patterns(`\.png$`)
		}
		rules = append(rules, r)
	}
	return rules
}

func TestMatchOfManyKindsDoesNotAllocate(t *testing.T) {
	set := compile(t, mixedRules(t, 1000)...)
	f := get(t, "https://h0.shop.example/account/orders/4711?sort=date&page=2")
	var room [4]*rule.Rule
	if n := testing.AllocsPerRun(100, func() { set.Match(f, room[:0]) }); n > 0 {
		t.Errorf("Match with nothing in scope allocates %v times, want 0", n)
	}
}
