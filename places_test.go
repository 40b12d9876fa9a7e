package holdfast_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// sightings is what an origin saw of the last request.
type sightings struct {
	mu   sync.Mutex
	last sighting
}

type sighting struct {
	Proto, URI, Token, Cookie, Header, Body string
	Length                                  int64
}

func (s *sightings) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = sighting{Proto: r.Proto, URI: r.URL.RequestURI(), Token: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "),
		Cookie: r.Header.Get("Cookie"), Header: r.Header.Get("X-Token"), Body: string(body), Length: r.ContentLength}
}

func (s *sightings) get() sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// placeCase is a request with a place for the token. {T} in want is the live
// token.
type placeCase struct {
	name, target          string
	query, media, body    string // of the request; the path is /guarded/NAME/x
	header, cookie        string
	wantQuery, wantBody   string
	wantHeader, wantCooky string
	wantPath              string
}

func placeCases() []placeCase {
	form, parts := "application/x-www-form-urlencoded", "multipart/form-data; boundary=B"
	before, behind := "--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\n\x00\xff\r\n--B\r\nContent-Disposition: form-data; name=\"t\"\r\n\r\n", "\r\n--B--\r\n"
	return []placeCase{
		{name: "header", target: "{type: RequestHeader, name: X-Token, template: 'v1 {{access_token}}'}", header: "old", wantHeader: "v1 {T}"},
		{name: "cookie", target: "{type: Cookie, name: t}", cookie: "a=1; t=old; b=2", wantCooky: "a=1; t={T}; b=2"},
		{name: "query", target: "{type: QueryParam, name: t}", query: "?a=%2F&t=old&b", wantQuery: "?a=%2F&t={T}&b"},
		{name: "form", target: "{type: FormParam, name: t}", media: form, body: "a=%2f+&t=old&b", wantBody: "a=%2f+&t={T}&b"},
		{name: "form-added", target: "{type: FormParam, name: t}", media: form, body: "a=1", wantBody: "a=1&t={T}"},
		{name: "form-skipped", target: "{type: FormParam, name: t, if_absent: skip}", media: form, body: "a=1", wantBody: "a=1"},
		{name: "json", target: "{type: JSON, pointer: /a/1/t}", media: "application/json", body: `{"n": 1.0, "a":[0,{ "t" : "old"}] }`, wantBody: `{"n": 1.0, "a":[0,{ "t" : "{T}"}] }`},
		{name: "json-added", target: "{type: JSON, pointer: /t}", media: "application/json", body: `{ }`, wantBody: `{"t":"{T}" }`},
		{name: "xml", target: "{type: XML, xpath: '//s:t/@k'}", media: "text/xml", body: "<a xmlns:s='u'><s:t  k='old' /></a>\n", wantBody: "<a xmlns:s='u'><s:t  k='{T}' /></a>\n"},
		{name: "xml-text", target: "{type: XML, xpath: /a/t}", media: "text/xml", body: "<a><t/></a>", wantBody: "<a><t>{T}</t></a>"},
		{name: "multipart", target: "{type: Multipart, name: t}", media: parts, body: before + "old" + behind, wantBody: before + "{T}" + behind},
		{name: "path", target: "{type: PathSegment, segment: -1}", wantPath: "{T}"},
		{name: "placeholder", target: "{type: Placeholder, text: _TOKEN_}", query: "?q=_TOKEN_", header: "a _TOKEN_", media: "text/plain", body: "b _TOKEN_ c _TOKEN_",
			wantQuery: "?q={T}", wantHeader: "a {T}", wantBody: "b {T} c {T}"},
		{name: "body", target: "{type: Body, regex: 't=(.*?);'}", media: "text/plain", body: "a t=old; t=2;", wantBody: "a t={T}; t=2;"},
		{name: "none", target: "{type: JSON, pointer: /t}"},
	}
}

func placeRules() string {
	rules := `
macros:
  - name: login
    steps:
      - request: |
          POST {{ORIGIN}}/api/login HTTP/1.1
          Content-Type: application/json

          {"username":"alice","password":"alicepass"}
        extract:
          - {token_name: access_token, source: {type: JSON, path: access_token}}
rules:
  - name: api
    scope: {pattern: "{{ORIGIN}}/guarded/", target: url}
    validation: {check_type: {type: StatusCode, value: 401}}
    reauth_macro: login
    token_updates:
      - {token_name: access_token, target: {type: RequestHeader, name: Authorization}}
`
	for _, c := range placeCases() {
		rules += fmt.Sprintf(`
  - name: %s
    scope: {pattern: "{{ORIGIN}}/guarded/%s/", target: url}
    token_updates: [{token_name: access_token, target: %s}]
`, c.name, c.name, c.target)
	}
	return rules
}

// Every target, on HTTP/1 and HTTP/2, with bodies of a known length and
// without: the token is in its place, also when the request is sent again, and
// everything else is as the client wrote it.
func TestTokensGoToEveryPlace(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%t", http2), func(t *testing.T) {
			seen := new(sightings)
			w := newWorld(t, testenv.Origin{TLS: http2, HTTP2: http2, Guarded: seen}, placeRules())
			if http2 {
				w.useHTTP2()
			}
			for _, c := range placeCases() {
				for _, counted := range []bool{true, false} {
					if !counted && c.body == "" {
						continue
					}
					w.checkPlace(c, seen, counted)
					before := seen.get().Token
					w.origin.KillAll()
					w.checkPlace(c, seen, counted)
					if after := seen.get().Token; after == before || after == "" {
						t.Errorf("%s: sent again with the token %q, after %q", c.name, after, before)
					}
					if got := seen.get().Proto; (got == "HTTP/2.0") != http2 {
						t.Errorf("the origin was asked by %s", got)
					}
				}
			}
			w.traced("json:/a/1/t: token access_token")
			w.traced("/guarded/path/{{access_token}}")
			if token := seen.get().Token; strings.Contains(w.trace.String(), token) {
				t.Errorf("the trace has the token %s:\n%s", token, w.trace.String())
			}
		})
	}
}

// checkPlace sends a request and compares what the origin saw.
func (w *world) checkPlace(c placeCase, seen *sightings, counted bool) {
	w.t.Helper()
	var body io.Reader
	if c.body != "" {
		body = strings.NewReader(c.body)
		if !counted {
			body = struct{ io.Reader }{body}
		}
	}
	path := "/guarded/" + c.name + "/x" + c.query
	req, err := http.NewRequest("POST", w.origin.URL+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for name, value := range map[string]string{"Content-Type": c.media, "X-Token": c.header, "Cookie": c.cookie} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatalf("%s: %v", c.name, err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	got := seen.get()
	live := func(text, otherwise string) string {
		if text == "" {
			return otherwise
		}
		return strings.ReplaceAll(text, "{T}", got.Token)
	}
	want := sighting{Proto: got.Proto, Token: got.Token, URI: "/guarded/" + c.name + "/" + live(c.wantPath, "x") + live(c.wantQuery, ""),
		Cookie: live(c.wantCooky, ""), Header: live(c.wantHeader, ""), Body: live(c.wantBody, "")}
	if want.Length = int64(len(want.Body)); !counted {
		want.Length = -1
	}
	if diff := cmp.Diff(want, got); diff != "" || resp.StatusCode != 200 {
		w.t.Errorf("%s (length known: %t): %d (-want +got):\n%s", c.name, counted, resp.StatusCode, diff)
	}
}

// A body that may not be edited leaves as it came, and the trace says why.
func TestBodiesThatAreLeftAlone(t *testing.T) {
	seen := new(sightings)
	w := newWorld(t, testenv.Origin{Guarded: seen}, "limits: {edited_body: 64}\n"+placeRules())
	for _, c := range []struct {
		name, coding, body, says string
		counted                  bool
	}{
		{"large", "", `{"t":"old","x":"` + strings.Repeat("x", 100_000) + `"}`, "larger than limits.edited_body", true},
		{"large and chunked", "", `{"t":"old","x":"` + strings.Repeat("y", 100_000) + `"}`, "larger than limits.edited_body", false},
		{"a little too large and chunked", "", `{"t":"old","x":"` + strings.Repeat("y", 60) + `"}`, "larger than limits.edited_body", false},
		{"coded", "gzip", `{"t":"old"}`, "it has a Content-Encoding", true},
		{"no JSON", "", `{"t":"old"`, "the body is no JSON", true},
	} {
		w.origin.KillAll()
		var body io.Reader = strings.NewReader(c.body)
		if !c.counted {
			body = struct{ io.Reader }{body}
		}
		req, err := http.NewRequest("POST", w.origin.URL+"/guarded/json/", body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if c.coding != "" {
			req.Header.Set("Content-Encoding", c.coding)
		}
		resp, err := w.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := seen.get(); resp.StatusCode != 200 || got.Body != c.body {
			t.Errorf("%s: %d, the origin saw %d bytes, want %d", c.name, resp.StatusCode, len(got.Body), len(c.body))
		}
		w.traced(c.says)
	}
}

// A client that waits to be told to send the body is told so, since the origin
// hears of the request only when the body is there.
func TestABodyThatTheClientHoldsBack(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		seen := new(sightings)
		w := newWorld(t, testenv.Origin{TLS: http2, HTTP2: http2, Guarded: seen}, placeRules())
		if http2 {
			w.useHTTP2()
		}
		w.client.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
		req, err := http.NewRequest("POST", w.origin.URL+"/guarded/json/", bytes.NewReader([]byte(`{"a":[1,{}]}`)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Expect", "100-continue")
		resp, err := w.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		got := seen.get()
		if want := `{"a":[1,{"t":"` + got.Token + `"}]}`; resp.StatusCode != 200 || got.Body != want {
			t.Errorf("http2 %t: %d, the origin saw %q, want %q", http2, resp.StatusCode, got.Body, want)
		}
	}
}

// A person logs in with a browser, and a scanner takes part in the session.
func TestAScannerUsesTheSessionOfABrowser(t *testing.T) {
	seen := new(sightings)
	w := newWorld(t, testenv.Origin{Guarded: seen}, `
identities: {alice: {}}
rules:
  - name: browser
    scope: {pattern: "{{ORIGIN}}/", target: url, tools: [proxy]}
    validation: {check_type: {type: StatusCode, value: 401}}
    token_updates: [{token_name: TOKEN, source: {type: RequestHeader, name: Authorization, regex: "Bearer (.+)"}}]
  - name: scanner
    scope: {pattern: "{{ORIGIN}}/", target: url, tools: [scanner]}
    token_updates: [{token_name: TOKEN, target: {type: RequestHeader, name: Authorization}}]
`)
	browser, scanner := w.client, w.newClient("alice+scanner")
	ask := func(client *http.Client, token string) int {
		t.Helper()
		req, err := http.NewRequest("GET", w.origin.URL+"/guarded/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	login := func() string {
		t.Helper()
		resp, err := browser.Post(w.origin.URL+"/api/login", "application/json", strings.NewReader(`{"username":"alice","password":"alicepass"}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(raw), `"access_token":"`)
		token, _, _ := strings.Cut(rest, `"`)
		return token
	}
	if code := ask(scanner, ""); code != 401 {
		t.Errorf("before the login the scanner got %d", code)
	}
	first := login()
	ask(browser, first)
	if code := ask(scanner, ""); code != 200 {
		t.Errorf("the scanner got %d with the browser's session", code)
	}
	w.origin.KillAll()
	second := login()
	if code := ask(browser, second); code != 200 {
		t.Errorf("the browser got %d", code)
	}
	if code := ask(browser, first); code != 401 { // a dead value is not learned
		t.Errorf("a dead token got %d", code)
	}
	if code := ask(scanner, "its own"); code != 200 || seen.get().Token != second {
		t.Errorf("the scanner got %d with %q, want that of the browser", code, seen.get().Token)
	}
}
