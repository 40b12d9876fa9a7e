package api_test

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/api"
	"github.com/holdfast-proxy/holdfast/config"
)

//go:embed testdata/hostile.html
var hostilePage string

const hostileWorker = `self.addEventListener("message", async m => {
  const base = decodeURIComponent(location.search.slice(1));
  let read = "";
  for (const path of ["/api/v1/status", "/", "/mcp"]) {
    try { const a = await fetch(base + path, {credentials: "include"}); read += a.status + " " + await a.text(); } catch (e) {}
  }
  m.source.postMessage(read);
});
self.addEventListener("activate", e => e.waitUntil(clients.claim()));`

// tried is something that a hostile page asks for. Wide ones are asked for by
// elements and forms too.
type tried struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Wide   bool   `json:"wide"`
}

// all lists what the server answers, from its own list, and /mcp in any case.
func all(t *testing.T, s *api.Server) (list []tried) {
	t.Helper()
	patterns, err := s.Endpoints()
	if err != nil || len(patterns) < 30 {
		t.Fatal(patterns, err)
	}
	name := regexp.MustCompile(`\{[^}]*\}`)
	wide := map[string]bool{"/api/v1/status": true, "/api/v1/rules/1/disable": true, "/api/v1/flows/delete": true, "/mcp": true, "/": true}
	for _, p := range append(patterns, "/mcp") {
		method, path, ok := strings.Cut(p, " ")
		if !ok {
			method, path = "", p
		}
		path = name.ReplaceAllStringFunc(path, func(name string) string {
			switch name {
			case "{identity}":
				return "emily"
			case "{$}":
				return ""
			}
			return "1"
		})
		path = strings.Replace(path, "/rules/1/", "/rules/shop/", 1)
		for _, m := range []string{"GET", "POST", "DELETE"} {
			if method == "" || method == m {
				list = append(list, tried{m, path, wide[path] || strings.HasSuffix(path, "/shop/disable")})
			}
		}
		if method == "PUT" {
			list = append(list, tried{method, path, false})
		}
	}
	return list
}

// state is all that could be changed by the API.
func (w *world) state() string {
	w.t.Helper()
	var out bytes.Buffer
	for _, path := range []string{"/sessions", "/identities", "/tokens?identity=emily&reveal=true", "/variables?identity=emily&reveal=true", "/cookies?identity=emily&reveal=true", "/rules", "/runs", "/flows"} {
		a := w.ask("GET", "/api/v1"+path, "")
		if a.status != 200 {
			w.t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
		out.WriteString(a.body)
	}
	return out.String()
}

// forwarder leads connections to an address, the first ones to another: what a
// name does that is bound anew (DNS rebinding), as a browser sees it.
func forwarder(t *testing.T, first, then string) (at net.Addr, bind func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	to := first
	var open []net.Conn
	var running sync.WaitGroup
	hold := func(c net.Conn) {
		mu.Lock()
		open = append(open, c)
		mu.Unlock()
	}
	running.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			target := to
			mu.Unlock()
			out, err := net.Dial("tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			hold(in)
			hold(out)
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				running.Go(func() {
					io.Copy(pair[0], pair[1])
					pair[0].Close()
					pair[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return ln.Addr(), func() {
		mu.Lock()
		defer mu.Unlock()
		to = then
		for _, c := range open { // a browser would go on with a connection that it has
			c.Close()
		}
		open = nil
	}
}

// report is what a hostile page says at its end.
type report struct {
	Leaks []string       `json:"leaks"`
	Tried map[string]int `json:"tried"`
}

// hostile is the server of hostile pages, and a witness of what they really send.
type hostile struct {
	*httptest.Server
	mu      sync.Mutex
	page    string         // by CONFIG
	arrived map[string]int // at the witness: method, and type of the body
	said    chan report
}

func newHostile(t *testing.T) *hostile {
	x := &hostile{arrived: map[string]int{}, said: make(chan report, 1)}
	x.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		x.mu.Lock()
		page := x.page
		media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
		x.arrived[r.Method+" "+media]++
		x.mu.Unlock()
		switch r.URL.Path {
		case "/hostile":
			rw.Header().Set("Content-Type", "text/html")
			rw.Header().Set("Connection", "close")
			io.WriteString(rw, page)
		case "/worker.js":
			rw.Header().Set("Content-Type", "text/javascript")
			io.WriteString(rw, hostileWorker)
		case "/report":
			var said report
			json.Unmarshal(raw, &said) // what is no report fails the test by its emptiness
			x.said <- said
		default:
			rw.WriteHeader(403) // as the API, so that a page cannot tell
		}
	}))
	t.Cleanup(x.Close)
	return x
}

// at is the server by a name that no rule covers.
func (x *hostile) at() string {
	return strings.Replace(x.URL, "127.0.0.1", "witness.attack.example", 1)
}

// browse has a page attack, and waits for what it says.
func (x *hostile) browse(t *testing.T, ctx context.Context, page string, bases []string, list []tried, loaded func()) report {
	t.Helper()
	config := map[string]any{"bases": bases, "endpoints": list, "own": loaded != nil, "report": x.at() + "/report"}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	text := hostilePage
	if loaded != nil { // it begins once its name leads elsewhere
		text = strings.Replace(text, "(async () => {\n  for", "window.attack = (async () => {\n  for", 1)
		text = strings.Replace(text, "})();\n</script>", "});\n</script>", 1)
	}
	x.mu.Lock()
	x.page = strings.Replace(text, "CONFIG;", string(raw)+";", 1)
	x.mu.Unlock()
	if err := chromedp.Do(ctx, chromedp.Navigate(page)); err != nil {
		t.Fatal(err)
	}
	if loaded != nil {
		loaded()
		if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`attack(), true`)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case said := <-x.said:
		return said
	case <-ctx.Done():
		t.Fatalf("the page at %s said nothing: %v", page, ctx.Err())
	}
	return report{}
}

// browser is one with a profile of its own.
func browser(t *testing.T, options ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "holdfast-test-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) // its last processes may still write: what is left is in the system's directory
	o := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.DisableGPU, chromedp.NoSandbox, chromedp.UserDataDir(dir), chromedp.ExecPath("chromium"))
	all, cancelAll := chromedp.NewExecAllocator(ctx, append(o, options...)...)
	t.Cleanup(cancelAll)
	main, cancelMain := chromedp.NewContext(all)
	t.Cleanup(cancelMain)
	if err := chromedp.Do(main); err != nil {
		t.Fatalf("%v (.ci/tools installs it)", err)
	}
	t.Cleanup(func() { chromedp.Cancel(main) })
	return main
}

// TestAHostilePage is pages of other origins in a real browser, through the proxy
// and past it, in one that is let in too: they read nothing and change nothing.
func TestAHostilePage(t *testing.T) {
	for _, through := range []bool{true, false} {
		t.Run(map[bool]string{true: "through the proxy", false: "past it"}[through], func(t *testing.T) { attack(t, through) })
	}
}

func attack(t *testing.T, through bool) {
	x := newHostile(t)
	var rebound net.Addr
	var rebind func()
	w := newWorld(t, settings{store: keptFlow(t), reveal: true, config: func(c *holdfast.Config, s *api.Server) {
		rebound, rebind = forwarder(t, x.Listener.Addr().String(), s.Addr().String())
		_, port, _ := net.SplitHostPort(s.Addr().String())
		text := fmt.Sprintf("%s\nresolve:\n  - {hosts: ['rebind.attack.example:%s'], address: '%s'}\n  - {hosts: ['*.attack.example'], address: 127.0.0.1}\n", rules, port, rebound)
		file, _, err := config.Parse("rules.yaml", []byte(strings.ReplaceAll(text, "{{ORIGIN}}", "http://127.0.0.1:1")), config.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c.File = file
	}})
	_, port, _ := net.SplitHostPort(w.server.Addr().String())
	_, own, _ := net.SplitHostPort(x.Listener.Addr().String())
	list := all(t, w.server)
	options := []chromedp.ExecAllocatorOption{chromedp.Flag("host-resolver-rules", fmt.Sprintf("MAP rebind.attack.example:%s %s, MAP *.attack.example 127.0.0.1", port, rebound))}
	if through {
		options = append(options, chromedp.Flag("proxy-server", "http://"+w.h.Addr()), chromedp.Flag("proxy-bypass-list", "<-loopback>"))
	}
	ctx := browser(t, options...)
	if !through { // the browser of the owner: it has a cookie that lets it in
		if err := chromedp.Do(ctx, chromedp.Navigate(w.server.Link())); err != nil {
			t.Fatal(err)
		}
		if text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body[data-done] #said"))); err != nil || !strings.Contains(text, "Version test") {
			t.Fatalf("the owner sees %q, %v", text, err)
		}
		if at, err := chromedp.Run(ctx, chromedp.Evaluate[string]("location.href")); err != nil || strings.Contains(at, "once") {
			t.Errorf("the link stays in the address: %s, %v", at, err)
		}
	}
	before := w.state()
	var some []tried
	for _, e := range list {
		if e.Wide {
			some = append(some, e)
		}
	}
	api1 := "http://127.0.0.1:" + port
	witness := x.at()
	first := x.browse(t, ctx, "http://evil.attack.example:"+own+"/hostile", []string{api1}, list, nil)
	said := []report{first}
	// By other names of the same, from another site and from another port here.
	others := []string{"http://localhost:" + port, "http://[::1]:" + port, "http://0.0.0.0:" + port, "http://2130706433:" + port, "http://x.attack.example:" + port, "http://holdfast", witness}
	said = append(said, x.browse(t, ctx, "http://evil.attack.example:"+own+"/hostile", others, some, nil))
	said = append(said, x.browse(t, ctx, "http://localhost:"+own+"/hostile", []string{api1}, some, nil))
	said = append(said, x.browse(t, ctx, "http://rebind.attack.example:"+port+"/hostile", []string{"http://rebind.attack.example:" + port}, some, rebind))
	if said[2].Tried["worker ran"] == 0 {
		t.Error("no service worker ran on localhost, where one may")
	}
	for i, r := range said {
		if len(r.Leaks) > 0 {
			t.Errorf("page %d read:\n%s", i, strings.Join(r.Leaks, "\n"))
		}
		for _, kind := range []string{"get", "get no-cors", "post no-cors", "cors", "cors token", "beacon", "image", "script", "style", "frame", "form text/plain", "websocket", "eventsource"} {
			if r.Tried[kind] == 0 {
				t.Errorf("page %d tried no %s", i, kind)
			}
		}
		t.Logf("page %d tried %v", i, r.Tried)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, kind := range []string{"GET ", "POST text/plain", "POST application/x-www-form-urlencoded", "POST multipart/form-data", "OPTIONS "} {
		if x.arrived[kind] == 0 {
			t.Errorf("the witness saw no %q, so the pages do not send what they say: %v", kind, x.arrived)
		}
	}
	if after := w.state(); after != before {
		t.Errorf("something was changed:\n%s\nwas\n%s", after, before)
	}
	if a := w.ask("GET", "/api/v1/status", ""); a.status != 200 {
		t.Errorf("the owner is answered %d afterwards", a.status)
	}
}

// TestNoEndpointGivesPermissions asks for each endpoint as a browser would for a
// page, with the token of a page that guessed it: nothing is permitted, nothing of
// what was sent comes back.
func TestNoEndpointGivesPermissions(t *testing.T) {
	w := newWorld(t, settings{store: keptFlow(t), reveal: true})
	before := w.state()
	for _, e := range all(t, w.server) {
		for _, c := range [][]string{
			{"OPTIONS", "Access-Control-Request-Method", e.Method, "Access-Control-Request-Private-Network", "true", "Access-Control-Request-Headers", "authorization, content-type, holdfast-page"},
			{"OPTIONS", "Access-Control-Request-Method", e.Method, "Access-Control-Request-Local-Network", "true", "Sec-Fetch-Site", "cross-site"},
			{e.Method, "Content-Type", "text/plain"},
			{e.Method, "Content-Type", "application/json", "Cookie", "holdfast=" + token},
		} {
			a := w.ask(c[0], e.Path, "{}", append([]string{"Origin", "https://evil.example"}, c[1:]...)...)
			if a.status != 403 || a.code() != api.CodeOrigin || strings.Contains(a.body, token) || a.header.Get("Set-Cookie") != "" {
				t.Errorf("%s %s: %d %s", c[0], e.Path, a.status, a.body)
			}
			for name := range a.header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s %s answers %s", c[0], e.Path, name)
				}
			}
		}
	}
	if after := w.state(); after != before {
		t.Errorf("something was changed:\n%s\nwas\n%s", after, before)
	}
}
