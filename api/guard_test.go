package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/api"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
)

// TestWhoMayAsk is what hostile pages and programs can try.
func TestWhoMayAsk(t *testing.T) {
	w := newWorld(t, settings{api: func(c *api.Config) { c.Hosts = []string{"holdfast.corp.example"} }})
	host := strings.TrimPrefix(w.server.URL(), "http://")
	_, port, _ := net.SplitHostPort(host)
	for _, c := range []struct {
		name   string
		fields []string
		status int
		code   string
	}{
		{"the token", nil, 200, ""},
		{"the token, in another case of the scheme", []string{"Authorization", "bearer " + token}, 200, ""},
		{"no token", []string{"Authorization", ""}, 401, api.CodeToken},
		{"a wrong token", []string{"Authorization", "Bearer " + token + "x"}, 401, api.CodeToken},
		{"an empty token", []string{"Authorization", "Bearer "}, 401, api.CodeToken},
		{"another scheme", []string{"Authorization", "Basic " + token}, 401, api.CodeToken},
		{"localhost", []string{"Host", "localhost:" + port}, 200, ""},
		{"a name that was configured", []string{"Host", "holdfast.corp.example"}, 200, ""},
		{"a name that resolves to here", []string{"Host", "evil.example:" + port}, 421, api.CodeHost},
		{"a name that looks like here", []string{"Host", "127.0.0.1.evil.example:" + port}, 421, api.CodeHost},
		{"another address", []string{"Host", "127.0.0.2:" + port}, 421, api.CodeHost},
		{"another port", []string{"Host", "127.0.0.1:1"}, 421, api.CodeHost},
		{"no port", []string{"Host", "127.0.0.1"}, 421, api.CodeHost},
		{"a page of another origin", []string{"Origin", "https://evil.example"}, 403, api.CodeOrigin},
		{"a page of another port", []string{"Origin", "http://127.0.0.1:1"}, 403, api.CodeOrigin},
		{"a page without an origin", []string{"Origin", "null"}, 403, api.CodeOrigin},
		{"our own page", []string{"Origin", "http://" + host, "Sec-Fetch-Site", "same-origin"}, 200, ""},
		{"a person's own typing", []string{"Sec-Fetch-Site", "none"}, 200, ""},
		{"a page of another site", []string{"Sec-Fetch-Site", "cross-site"}, 403, api.CodeOrigin},
		{"a page of the same site", []string{"Sec-Fetch-Site", "same-site"}, 403, api.CodeOrigin},
	} {
		for _, path := range []string{"/api/v1/status", "/metrics", "/api/v1/openapi.json"} {
			a := w.ask("GET", path, "", c.fields...)
			if a.status != c.status || c.code != "" && a.code() != c.code {
				t.Errorf("%s: %s answers %d, %s; want %d, %s", c.name, path, a.status, a.code(), c.status, c.code)
			}
			if got := a.header.Get("Access-Control-Allow-Origin"); got != "" {
				t.Errorf("%s: %s lets origin %q in", c.name, path, got)
			}
		}
	}
	if a := w.ask("OPTIONS", "/api/v1/status", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST"); a.status != 403 {
		t.Errorf("a preflight is answered %d", a.status)
	}
	if a := w.ask("GET", "/nowhere", ""); a.status != 404 || a.code() != api.CodePath {
		t.Errorf("no path: %d %s", a.status, a.code())
	}
	if a := w.ask("PATCH", "/api/v1/status", ""); a.status != 405 || a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("no method: %d %v", a.status, a.header)
	}
}

// TestGuessing is a program that tries tokens, on the machine of the owner.
func TestGuessing(t *testing.T) {
	w := newWorld(t, settings{})
	for i := range 25 {
		a := w.ask("GET", "/api/v1/status", "", "Authorization", fmt.Sprintf("Bearer guess-%d", i))
		switch {
		case i < 10 && (a.status != 401 || a.code() != api.CodeToken):
			t.Fatalf("guess %d is answered %d %s", i, a.status, a.body)
		case i >= 10 && (a.status != 429 || a.code() != api.CodeTooMany || a.header.Get("Retry-After") == ""):
			t.Fatalf("guess %d is answered %d %s", i, a.status, a.body)
		}
		if a := w.ask("GET", "/api/v1/status", ""); a.status != 200 {
			t.Fatalf("behind %d guesses the owner is answered %d", i+1, a.status)
		}
	}
	for _, almost := range []string{"Basic " + token, "Bearer " + token + "x", "Bearer " + token[:len(token)-1], "Bearer", token} {
		if a := w.ask("GET", "/api/v1/status", "", "Authorization", almost); a.status != 429 {
			t.Errorf("behind guesses %q is answered %d", almost, a.status)
		}
	}
	if a := w.ask("GET", "/api/v1/status", "", "Authorization", ""); a.status != 401 {
		t.Errorf("behind guesses no token is answered %d", a.status)
	}
}

// TestMetricsOpen is a monitoring system without the token.
func TestMetricsOpen(t *testing.T) {
	w := newWorld(t, settings{api: func(c *api.Config) { c.MetricsOpen = true }})
	if a := w.ask("GET", "/metrics", "", "Authorization", ""); a.status != 200 {
		t.Errorf("/metrics is answered %d", a.status)
	}
	if a := w.ask("GET", "/metrics", "", "Authorization", "", "Host", "evil.example"); a.status != 421 {
		t.Errorf("/metrics under another name is answered %d", a.status)
	}
	if a := w.ask("GET", "/api/v1/status", "", "Authorization", ""); a.status != 401 {
		t.Errorf("the rest is answered %d", a.status)
	}
}

func TestWhereItListens(t *testing.T) {
	for _, c := range []struct {
		config api.Config
		want   string
	}{
		{api.Config{Address: "0.0.0.0:0", Token: token}, "--api-token-file"},
		{api.Config{Address: "[::]:0", Token: token}, "--api-token-file"},
		{api.Config{Address: "0.0.0.0:0", Token: "short", Chosen: true}, "16"},
		{api.Config{Address: "127.0.0.1:0"}, "Token"},
		{api.Config{Address: "nowhere", Token: token}, "--ui"},
		{api.Config{Address: "127.0.0.1:0", Token: token}, ""},
		{api.Config{Address: "0.0.0.0:0", Token: token, Chosen: true}, ""},
	} {
		s, err := api.Listen(c.config)
		if s != nil {
			s.Close()
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v; want %q", c.config, err, c.want)
		}
	}
}

// TestTheProxyIsNoWayIn is a page, or a tool, that asks the API through the
// proxy, by each name and each way there is.
func TestTheProxyIsNoWayIn(t *testing.T) {
	w := newWorld(t, settings{config: func(c *holdfast.Config, s *api.Server) {
		port := uint16(s.Addr().(*net.TCPAddr).Port)
		c.Listen = append(c.Listen, holdfast.Listen{Address: "127.0.0.1:0", Kind: proxy.Reverse, Origin: flow.Origin{Host: "127.0.0.1", Port: port}})
	}})
	_, port, _ := net.SplitHostPort(w.server.Addr().String())
	for _, name := range []string{"127.0.0.1", "localhost", "x.localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "LOCALHOST", "localhost.", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "0"} {
		req, err := http.NewRequest("GET", "http://"+name+":"+port+"/api/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		if a := w.do(w.through, req); a.status != 403 || !strings.Contains(a.body, flow.ReasonShielded) {
			t.Errorf("by %s: %d %s", name, a.status, a.body)
		}
		if status, body := w.connect(name + ":" + port); status == 200 || !strings.Contains(body, flow.ReasonShielded) {
			t.Errorf("CONNECT %s: %d %s", name, status, body)
		}
	}
	reverse := "http://" + w.h.Addrs()[1]
	req, err := http.NewRequest("GET", reverse+"/api/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if a := w.do(w.direct, req); a.status != 403 || !strings.Contains(a.body, flow.ReasonShielded) {
		t.Errorf("reverse: %d %s", a.status, a.body)
	}
	if body := w.socks(port); strings.Contains(body, "200 OK") || strings.Contains(body, "uptime") {
		t.Errorf("SOCKS: %s", body)
	}
	if a := w.ask("GET", "/api/v1/status", ""); a.status != 200 {
		t.Errorf("directly: %d", a.status)
	}
}

// TestNamesThatLeadToTheAPI are those that only the dialling shows: a name that
// the configuration leads there, and an origin that redirects a macro there.
func TestNamesThatLeadToTheAPI(t *testing.T) {
	redirect := ""
	origin := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, redirect, http.StatusFound)
	}))
	defer origin.Close()
	w := newWorld(t, settings{config: func(c *holdfast.Config, s *api.Server) {
		redirect = s.URL() + "/api/v1/status"
		text := rules + "\nresolve:\n  - {hosts: ['*.attack.example'], address: '" + s.Addr().String() + "'}\n"
		text = strings.Replace(text, "rules:\n", "  - name: led\n    steps:\n      - request: |\n          GET {{BASE}}/ HTTP/1.1\n          Authorization: Bearer "+token+"\n\n        redirects: {max: 3}\nrules:\n", 1)
		file, _, err := config.Parse("rules.yaml", []byte(strings.ReplaceAll(text, "{{ORIGIN}}", origin.URL)), config.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c.File = file
	}})
	for _, url := range []string{"http://x.attack.example/api/v1/status", "http://x.attack.example:8080/", "https://x.attack.example/"} {
		req, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		if a := w.do(w.through, req); a.status != 403 || !strings.Contains(a.body, flow.ReasonShielded) {
			t.Errorf("%s: %d %s", url, a.status, a.body)
		}
	}
	var run control.Run
	w.call("macro.test", map[string]any{"name": "led", "identity": "emily"}, &run)
	raw, err := json.Marshal(w.over(&run))
	if err != nil || strings.Contains(string(raw), "uptime") || !strings.Contains(string(raw), "API") {
		t.Errorf("a macro that is redirected there: %s, %v", raw, err)
	}
	// A client that follows by itself is refused as any other.
	client := *w.through
	resp, err := client.Get(strings.Replace(origin.URL, "127.0.0.1", "localhost", 1)) // which no rule covers
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 403 || resp.Request.URL.String() != redirect {
		t.Errorf("a client that is redirected there: %d at %s", resp.StatusCode, resp.Request.URL)
	}
}

func (w *world) dial() net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.h.Addr())
	if err != nil {
		w.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	w.t.Cleanup(func() { conn.Close() })
	return conn
}

// connect asks for a tunnel, and in it, where there is one, for the API.
func (w *world) connect(authority string) (status int, body string) {
	w.t.Helper()
	conn := w.dial()
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", authority, authority)
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"})
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode == 200 { // it may say so before it has looked
		fmt.Fprintf(conn, "GET /api/v1/status HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", authority, token)
		if resp, err = http.ReadResponse(br, nil); err != nil {
			w.t.Fatal(err)
		}
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw)
}

// socks asks by SOCKS5, with a name that is resolved here.
func (w *world) socks(port string) string {
	w.t.Helper()
	conn := w.dial()
	var n int
	fmt.Sscan(port, &n)
	conn.Write([]byte{5, 1, 0})
	two := make([]byte, 2)
	if _, err := io.ReadFull(conn, two); err != nil {
		w.t.Fatal(err)
	}
	conn.Write(append([]byte{5, 1, 0, 3, 9}, append([]byte("localhost"), byte(n>>8), byte(n))...))
	reply := make([]byte, 10)
	if _, err := io.ReadFull(conn, reply); err != nil || reply[1] != 0 {
		return "refused"
	}
	fmt.Fprintf(conn, "GET /api/v1/status HTTP/1.1\r\nHost: localhost:%s\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", port, token)
	raw, _ := io.ReadAll(conn)
	return string(raw)
}

// What a person gave a variable by hand is as secret as what the file says.
func TestReportsHideVariablesByHand(t *testing.T) {
	w := newWorld(t, settings{})
	var done control.Done
	w.call("variable.set", map[string]any{"name": "PASSWORD", "identity": "emily", "value": "hunter two"}, &done)
	for _, operation := range []string{"macro.test", "macro.run"} {
		var run control.Run
		w.call(operation, map[string]any{"name": "login", "identity": "emily"}, &run)
		raw, err := json.Marshal(w.over(&run))
		if err != nil || run.Report == nil || strings.Contains(string(raw), "hunter two") {
			t.Errorf("%s shows %s, %v", operation, raw, err)
		}
	}
}
