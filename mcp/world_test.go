package mcp_test

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/api"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/internal/leak"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/mcp"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

var update = flag.Bool("update", false, "rewrite what the tests compare with")

func TestMain(m *testing.M) { leak.Main(m) }

const (
	token    = "a token for tests, of some length"
	password = "emilyspass"
	patience = 3 * time.Minute // for what must happen
)

const rules = `
variables: {BASE: "{{ORIGIN}}"}
identities:
  emily: {variables: {NAME: emilys, PASSWORD: emilyspass}}
macros:
  - name: login
    steps:
      - request: |
          POST {{BASE}}/auth/login HTTP/1.1
          Content-Type: application/json

          {"username":"{{NAME}}","password":"{{PASSWORD}}"}
        extract:
          - {token_name: ACCESS,  source: {type: JSON, path: accessToken}}
        expect: 'resp.code.eq:200'
rules:
  - name: shop
    scope: {pattern: "127.0.0.1", target: host}
    validation: {check_type: {type: StatusCode, value: [401]}}
    reauth_macro: [login]
    token_updates:
      - token_name: ACCESS
        target: {type: RequestHeader, name: Authorization}
  - name: spare
    enabled: false
    scope: {pattern: "spare.example", target: host}
    validation: {check_type: {type: StatusCode, value: [401]}}
`

// world is an origin, a Holdfast before it, and its API with MCP.
type world struct {
	t       *testing.T
	origin  *testenv.Server
	h       *holdfast.Holdfast
	api     *api.Server
	desk    *control.Desk
	through *http.Client // a client of the proxy
	end     func()       // serve ends; it may be called more than once
}

type settings struct {
	reveal bool
	rules  string // in place of rules
}

func newWorld(t *testing.T, s settings) *world {
	t.Helper()
	w := &world{t: t}
	var err error
	if w.origin, err = (testenv.Origin{}).Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.origin.Close)
	if s.rules == "" {
		s.rules = rules
	}
	file, _, err := config.Parse("rules.yaml", []byte(strings.ReplaceAll(s.rules, "{{ORIGIN}}", w.origin.URL)), config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	project := storetest.File(t).Open(t, store.Options{})
	events, trace := control.NewEvents(), control.NewTrace(nil)
	w.api, err = api.Listen(api.Config{Address: "127.0.0.1:0", Token: token, Metrics: api.NewMetrics(file.Order), MCP: func(desk *control.Desk) (api.Face, error) {
		caller, err := mcp.AtDesk(desk)
		if err != nil {
			return nil, err
		}
		server, err := mcp.New(mcp.Config{Caller: caller, Version: "test", Warn: func(text string) { t.Error(text) }})
		if err != nil {
			return nil, err
		}
		return server.Handler(), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.h, err = holdfast.New(holdfast.Config{File: file, Home: t.TempDir(), Store: project, Listen: []holdfast.Listen{{Address: "127.0.0.1:0"}}, Trace: trace, Warn: events.Warn, Changed: events.Changed})
	if err != nil {
		w.api.Close()
		t.Fatal(err)
	}
	w.h.Shield(w.api.Addr())
	w.desk = control.New(control.Setup{Proxy: w.h, Reveal: s.reveal, Version: "test", Store: project, Trace: trace, Events: events})
	ctx, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { w.h.Run(ctx) })
	group.Go(func() { w.api.Serve(ctx, w.desk) })
	w.through = &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: w.h.Addr()})}, Timeout: patience}
	w.end = sync.OnceFunc(func() {
		w.through.CloseIdleConnections()
		stop()
		group.Wait()
		events.Close()
		w.desk.Close()
		w.h.Close()
	})
	t.Cleanup(w.end)
	return w
}

// me asks the application who it is, through the proxy.
func (w *world) me() int {
	w.t.Helper()
	resp, err := w.through.Get(w.origin.URL + "/auth/me")
	if err != nil {
		w.t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode
}

// tape is what passed between a client and its server.
type tape struct {
	mu    sync.Mutex
	bytes strings.Builder
}

// Write keeps what passes.
func (t *tape) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes.Write(p)
}

func (t *tape) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes.String()
}

// bearer sends the token, and keeps what passes.
type bearer struct {
	next http.RoundTripper
	tape *tape
}

// RoundTrip sends a request.
func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	if r.Body != nil {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, b.tape), r.Body}
	}
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(resp.Body, b.tape), resp.Body}
	}
	return resp, err
}

// model is a client of the SDK, as a model's host has it.
type model struct {
	t    *testing.T
	tape *tape
	*sdk.ClientSession
}

// connect makes a client by HTTP; older: of a revision that has sessions.
func (w *world) connect(options *sdk.ClientOptions, older bool) *model {
	w.t.Helper()
	m := &model{t: w.t, tape: &tape{}}
	transport := &http.Transport{}
	at := &sdk.StreamableClientTransport{Endpoint: w.api.URL() + "/mcp", HTTPClient: &http.Client{Transport: &bearer{transport, m.tape}}, MaxRetries: -1}
	var how *sdk.ClientSessionOptions
	if older {
		how = &sdk.ClientSessionOptions{ProtocolVersion: "2025-11-25"}
	}
	session, err := sdk.NewClient(&sdk.Implementation{Name: "model", Version: "1"}, options).Connect(w.t.Context(), at, how)
	if err != nil {
		w.t.Fatal(err)
	}
	m.ClientSession = session
	w.t.Cleanup(func() {
		session.Close()
		transport.CloseIdleConnections()
	})
	return m
}

// answer is what a call brought.
type answer struct {
	text  string // of all contents
	first string // the JSON, without its fence
	err   bool
}

func (m *model) ask(tool string, arguments map[string]any) *answer {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	result, err := m.CallTool(ctx, &sdk.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		m.t.Fatalf("%s %v: %v", tool, arguments, err)
	}
	a := &answer{err: result.IsError}
	for i, c := range result.Content {
		text := c.(*sdk.TextContent).Text
		a.text += text + "\n"
		if i == 0 {
			a.first = text
			if strings.HasPrefix(text, "<untrusted-") {
				_, rest, _ := strings.Cut(text, "\n")
				a.first = rest[:strings.LastIndex(rest, "\n")]
			}
		}
	}
	return a
}

// done is a call that must work; what it brought is decoded into result.
func (m *model) done(result any, tool string, arguments map[string]any) *answer {
	m.t.Helper()
	a := m.ask(tool, arguments)
	if a.err {
		m.t.Fatalf("%s %v: %s", tool, arguments, a.text)
	}
	if result != nil {
		if err := json.Unmarshal([]byte(a.first), result); err != nil {
			m.t.Fatalf("%s %v: %v in %s", tool, arguments, err, a.first)
		}
	}
	return a
}

// fails is a call that must not work; it returns the code.
func (m *model) fails(tool string, arguments map[string]any) string {
	m.t.Helper()
	a := m.ask(tool, arguments)
	var p struct{ Error, Detail, Next string }
	if err := json.Unmarshal([]byte(a.first), &p); err != nil || !a.err || p.Next == "" || p.Detail == "" {
		m.t.Fatalf("%s %v: %s; want an error with a next step", tool, arguments, a.text)
	}
	return p.Error
}

// flows waits until the history has so many flows of a condition.
func (m *model) flows(query string, atLeast int) []control.Flow {
	m.t.Helper()
	for began := time.Now(); ; {
		var page control.FlowPage
		m.done(&page, "flows", map[string]any{"action": "list", "query": query})
		if len(page.Items) >= atLeast {
			return page.Items
		}
		if time.Since(began) > patience {
			m.t.Fatalf("%d flows; want %d", len(page.Items), atLeast)
		}
	}
}
