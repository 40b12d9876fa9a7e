package holdfast_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/internal/leak"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/store"
)

func TestMain(m *testing.M) { leak.Main(m) }

// patience is how long a test waits for something that must happen, on a machine
// that does many other things.
const patience = 3 * time.Minute

// world is an origin, a Holdfast before it, and a client.
type world struct {
	t      *testing.T
	origin *testenv.Server
	h      *holdfast.Holdfast
	client *http.Client
	trace  *syncBuffer
	home   string
	stop   func()
	// project is what survives a restart; nil: nothing does.
	project *store.Store
	more    func(*holdfast.Config) // what else start is to configure
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// newWorld starts everything. {{ORIGIN}} in the rules becomes the origin's URL.
func newWorld(t *testing.T, o testenv.Origin, rules string) *world {
	t.Helper()
	origin, err := o.Start()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, origin: origin, home: t.TempDir()}
	t.Cleanup(origin.Close)
	w.start(rules)
	return w
}

// start begins a Holdfast in the same home; it is stopped at the test's end or
// by stop.
func (w *world) start(rules string) {
	w.t.Helper()
	rules = strings.ReplaceAll(rules, "{{ORIGIN}}", w.origin.URL)
	file, _, err := config.Parse("rules.yaml", []byte(rules), config.Options{})
	if err != nil {
		w.t.Fatalf("the rules do not load: %v", err)
	}
	w.trace = new(syncBuffer)
	c := holdfast.Config{File: file, Store: w.project, Home: w.home, Listen: []holdfast.Listen{{Address: "127.0.0.1:0"}}, Trace: w.trace, Warn: func(s string) { w.t.Log("warning: " + s) }}
	if raw := w.origin.CAPEM(); raw != nil {
		block, _ := pem.Decode(raw)
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			w.t.Fatal(err)
		}
		c.Roots = []*x509.Certificate{root}
	}
	if w.more != nil {
		w.more(&c)
	}
	w.h, err = holdfast.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- w.h.Run(ctx) }()
	w.client = w.newClient("")
	var once sync.Once
	w.stop = func() {
		once.Do(func() {
			w.client.CloseIdleConnections()
			cancel()
			if err := <-served; err != nil {
				w.t.Errorf("Run: %v", err)
			}
			w.h.Close()
		})
	}
	w.t.Cleanup(w.stop)
}

// newClient is a client behind the proxy, with credentials such as "alice+scanner".
func (w *world) newClient(credentials string) *http.Client {
	proxy := &url.URL{Scheme: "http", Host: w.h.Addr()}
	if credentials != "" {
		proxy.User = url.User(credentials)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: w.h.CA().Pool()},
		MaxIdleConnsPerHost: 64, DisableCompression: true}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 2 * patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// get returns status and body of one request.
func (w *world) get(path string) (int, string) {
	w.t.Helper()
	return w.do("GET", path, nil)
}

func (w *world) do(method, path string, body io.Reader) (int, string) {
	w.t.Helper()
	req, err := http.NewRequest(method, w.origin.URL+path, body)
	if err != nil {
		w.t.Error(err)
		return 0, ""
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Errorf("%s %s: %v", method, path, err)
		return 0, ""
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Errorf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, string(raw)
}

// traced waits until the trace has the text; it is written behind the answer.
func (w *world) traced(text string) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for !strings.Contains(w.trace.String(), text) {
		if time.Now().After(deadline) {
			w.t.Errorf("the trace does not say %q:\n%s", text, w.trace.String())
			return
		}
		<-time.After(time.Millisecond)
	}
}

// seedRules is the example of the session rules page with a login macro, for
// another host; nothing else is changed.
const seedRules = `{
"macros": [
{"id": "uuid-of-login-macro", "name": "login", "steps": [
{"request": "POST {{ORIGIN}}/api/login HTTP/1.1\nContent-Type: application/json\n\n{\"username\":\"alice\",\"password\":\"alicepass\"}"}]}
],
"rules": [
{
"name": "API Auth",
"scope": {"pattern": "127.0.0.1", "target": "host"},
"validation": {
"check_type": {"type": "StatusCode", "value": [401]}
},
"reauth_macro": "uuid-of-login-macro",
"token_updates": [
{
"token_name": "access_token",
"source": {"type": "ResponseBody", "regex": "\"access_token\":\"([^\"]+)\""},
"target": {"type": "RequestHeader", "name": "Authorization"}
}
],
"enabled": true,
"priority": 100
}
],
"auto_extract": true,
"auto_inject": true
}`

// autorizeRules is the Autorize tutorial: its condition, its request, both
// tokens replaced, and a login where there is no refresh token yet.
const autorizeRules = `
macros:
  - name: refresh
    steps:
      - request: |
          POST {{ORIGIN}}/auth/refresh HTTP/1.1
          Content-Type: application/json
          Content-Length: 397

          {"refreshToken":"{{ REFRESH_TOKEN }}","expiresInMins":3}
        extract: &tokens
          - {token_name: REFRESH_TOKEN, source: {type: JSON, path: refreshToken}}
          - {token_name: ACCESS_TOKEN, source: {type: JSON, path: accessToken}}
        expect: 'resp.code.eq:200'
  - name: login
    steps:
      - request: |
          POST {{ORIGIN}}/auth/login HTTP/1.1
          Content-Type: application/json

          {"username":"emilys","password":"emilyspass","expiresInMins":3}
        extract: *tokens
        expect: 'resp.code.eq:200'
rules:
  - name: dummyjson
    scope: {pattern: "{{ORIGIN}}/", target: url}
    validation: {check_type: {type: HTTPQL, value: 'resp.raw.cont:"Token Expired!"'}}
    reauth_macro: [refresh, login]
    token_updates:
      - token_name: ACCESS_TOKEN
        target: {type: RequestHeader, name: Authorization, template: "Bearer {{ ACCESS_TOKEN }}"}
`
