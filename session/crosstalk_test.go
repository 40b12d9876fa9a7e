package session_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
)

// crossing is a world of origins that set cookies at random and look at each
// cookie that comes: it must have been set for the identity that sends it, by a
// host that may set it for this one.
type crossing struct {
	t    *testing.T
	mu   sync.Mutex
	rand *rand.Rand
	set  map[string]grant // value → whose
	left int              // cookies that were sent by a jar
	sent map[string]int   // requests by identity
}

type grant struct {
	identity, host string
	domain         string // "": only the host
	client         bool   // the client wrote it itself
}

func (c *crossing) pick(list ...string) string { return list[c.rand.IntN(len(list))] }

// value makes one that says nothing of what it is, and notes whose it is.
func (c *crossing) value(g grant) string {
	v := fmt.Sprintf("v%d", len(c.set))
	c.set[v] = g
	return v
}

// send is the end of the pipeline.
func (c *crossing) send(_ context.Context, f *flow.Flow) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	who, host := f.Identity, f.Origin.Host
	c.sent[who]++
	line, _ := f.Request.Get("Cookie")
	for _, cookie := range jar.Pairs(string(line)) {
		g, known := c.set[cookie.Value]
		switch {
		case !known:
			c.t.Errorf("%s sends %s to %s, which nobody set", who, cookie, host)
		case g.identity != who:
			c.t.Errorf("%s sends to %s what was set for %s", who, host, g.identity)
		case host != g.host && !(g.domain != "" && (host == g.domain || strings.HasSuffix(host, "."+g.domain))):
			c.t.Errorf("%s gets what %s set for %q", host, g.host, g.domain)
		case !g.client:
			c.left++
		}
	}
	var lines []string
	for range c.rand.IntN(4) {
		g := grant{identity: who, host: host}
		attributes := ""
		if _, parent, ok := strings.Cut(host, "."); ok && c.rand.IntN(3) == 0 && strings.Contains(parent, ".") {
			g.domain = parent
			attributes = "; Domain=" + parent
		}
		attributes += c.pick("", "", "; Path=/", "; Path=/a", "; Max-Age=0", "; Max-Age=100", "; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "; Secure", "; HttpOnly; SameSite=Lax")
		lines = append(lines, "Set-Cookie: "+c.pick("a", "b", "sid", "")+"="+c.value(g)+attributes)
	}
	return answer(f, []int{200, 200, 302, 401}[c.rand.IntN(4)], "", lines...)
}

// request is one of a random client.
func (c *crossing) request() *flow.Flow {
	c.mu.Lock()
	defer c.mu.Unlock()
	who := c.pick("ann", "bob", "cleo", session.Anonymous)
	host := c.pick("shop.test.example", "test.example", "pay.test.example", "other.example")
	head := "GET " + c.pick("/", "/a", "/a/b", "/c") + " HTTP/1.1\nHost: " + host
	if c.rand.IntN(3) == 0 {
		head += "\nCookie: " + c.pick("a", "own", "sid") + "=" + c.value(grant{identity: who, host: host, client: true})
	}
	f := newFlow(c.t, head, nil)
	f.Identity, f.Origin.Host = who, host
	f.Tool = c.pick(flow.ToolProxy, "scanner")
	return f
}

func TestNoCookieOfOneIdentityIsSentForAnother(t *testing.T) {
	for seed := range uint64(6) {
		c := &crossing{t: t, rand: rand.New(rand.NewPCG(seed, 1)), set: make(map[string]grant), sent: make(map[string]int)}
		var rules []rule.Rule
		for i, mode := range rule.CookieModes() {
			rules = append(rules, rule.Rule{Name: mode, Enabled: true, Dead: check(t, rule.CheckStatusCode, 401),
				Scope:   rule.Scope{Pattern: []string{"*.test.example", "other.example", "pay.test.example"}[i]},
				Actions: []rule.Action{{UseCookies: &rule.UseCookies{Mode: mode}}}})
		}
		set, err := rule.Compile(rules, rule.Globals{AutoExtract: true, AutoInject: true})
		if err != nil {
			t.Fatal(err)
		}
		var identities []session.Identity
		for _, name := range []string{"ann", "bob", "cleo"} {
			v := c.value(grant{identity: name, host: "test.example", domain: "test.example"})
			identities = append(identities, session.Identity{Name: name, Cookies: []jar.Cookie{{Name: "imported", Value: v, Domain: "test.example", Path: "/"}}})
		}
		e, err := session.New(session.Config{Rules: set, Identities: identities, Send: c.send,
			Feed: session.Feed{Tools: []string{flow.ToolProxy}, Observe: true, Ruled: true}})
		if err != nil {
			t.Fatal(err)
		}
		p := &proxy{t: t, engine: e, handler: e.Stage(c.send)}
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				for range 100 {
					if r := p.deliver(context.Background(), c.request()); r.err != nil {
						t.Error(r)
					}
				}
			})
		}
		clients.Wait()
		e.Close()
		if c.left < 100 || len(c.sent) != 4 {
			t.Errorf("seed %d: %d cookies of jars were sent, by %v; the test sees too little", seed, c.left, c.sent)
		}
		if got, ok := e.Cookies(session.Anonymous); ok {
			t.Errorf("anonymous has a jar: %v", got)
		}
	}
}
