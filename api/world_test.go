package api_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/api"
	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/internal/leak"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/mcp"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
	"github.com/holdfast-proxy/holdfast/wire"
)

var update = flag.Bool("update", false, "rewrite what the tests compare with")

func TestMain(m *testing.M) { leak.Main(m) }

const token = "a token for tests, of some length"

const rules = `
variables: {BASE: "{{ORIGIN}}"}
identities:
  emily: {variables: {NAME: emilys, PASSWORD: emilyspass}}
  bob: {variables: {NAME: nobody, PASSWORD: wrong}}
lockout: {failures: 1}
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

// world is an origin, a Holdfast before it, and the Holdfast's API.
type world struct {
	t       *testing.T
	origin  *testenv.Server
	h       *holdfast.Holdfast
	server  *api.Server
	desk    *control.Desk
	client  *client.Client
	through *http.Client // a client of the proxy
	direct  *http.Client // one that asks without a proxy
}

type settings struct {
	api    func(*api.Config)
	config func(*holdfast.Config, *api.Server)
	reveal bool
	store  *store.Store // with a history; nil: none
}

// keptFlow is a project with one flow, of the number 64.
func keptFlow(t *testing.T) *store.Store {
	s := storetest.File(t).Open(t, store.Options{})
	h, err := s.StartHistory(store.HistoryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f := &flow.Flow{Tool: "proxy", Origin: flow.Origin{Host: "kept.example", Port: 80}, Start: time.UnixMilli(1_800_000_000_000)}
	if f.Request, err = wire.ParseRequest([]byte("GET /?password=emilyspass HTTP/1.1\r\nHost: kept.example\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	f.Received = f.Request
	f.End(f.Start.Add(time.Millisecond), nil)
	h.Record(&store.Exchange{Flow: f}, 0)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

// models is what answers at /mcp, as in serve.
func models(desk *control.Desk) (api.Face, error) {
	caller, err := mcp.AtDesk(desk)
	if err != nil {
		return nil, err
	}
	server, err := mcp.New(mcp.Config{Caller: caller, Version: "test"})
	if err != nil {
		return nil, err
	}
	return server.Handler(), nil
}

func newWorld(t *testing.T, s settings) *world {
	t.Helper()
	w := &world{t: t}
	var err error
	if w.origin, err = (testenv.Origin{}).Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.origin.Close)
	file, _, err := config.Parse("rules.yaml", []byte(strings.ReplaceAll(rules, "{{ORIGIN}}", w.origin.URL)), config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	events, trace, metrics := control.NewEvents(), control.NewTrace(nil), api.NewMetrics(file.Order)
	ac := api.Config{Address: "127.0.0.1:0", Token: token, Metrics: metrics, MCP: models}
	if s.api != nil {
		s.api(&ac)
	}
	if w.server, err = api.Listen(ac); err != nil {
		t.Fatal(err)
	}
	c := holdfast.Config{File: file, Home: t.TempDir(), Listen: []holdfast.Listen{{Address: "127.0.0.1:0"}}, Trace: trace, Seen: metrics.Seen, Warn: events.Warn,
		Changed: func(change session.Change) { metrics.Changed(change); events.Changed(change) }}
	if s.config != nil {
		s.config(&c, w.server)
	}
	if w.h, err = holdfast.New(c); err != nil {
		w.server.Close()
		t.Fatal(err)
	}
	w.h.Shield(w.server.Addr())
	if err := metrics.Bind(w.h); err != nil {
		t.Fatal(err)
	}
	w.desk = control.New(control.Setup{Proxy: w.h, Reveal: s.reveal, Version: "test", Store: s.store, Trace: trace, Events: events})
	w.client = client.New(w.server.URL(), token)
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan struct{}, 2)
	go func() { defer func() { over <- struct{}{} }(); w.h.Run(ctx) }()
	go func() { defer func() { over <- struct{}{} }(); w.server.Serve(ctx, w.desk) }()
	proxy := &url.URL{Scheme: "http", Host: w.h.Addr()}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.h.CA().RootPEM())
	w.through = &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: 2 * time.Minute}
	w.direct = &http.Client{Transport: &http.Transport{}, Timeout: 2 * time.Minute}
	t.Cleanup(func() {
		w.through.CloseIdleConnections()
		w.direct.CloseIdleConnections()
		w.client.Close()
		stop()
		<-over
		<-over
		events.Close()
		w.desk.Close()
		w.h.Close()
	})
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

type answer struct {
	status int
	header http.Header
	body   string
}

// code is that of a problem.
func (a *answer) code() string {
	var p api.Problem
	if json.Unmarshal([]byte(a.body), &p) != nil {
		return "none: " + a.body
	}
	return p.Code
}

// ask sends a request to the API itself, with the token unless the fields have
// another.
func (w *world) ask(method, path, body string, fields ...string) *answer {
	w.t.Helper()
	req, err := http.NewRequest(method, w.server.URL()+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(fields); i += 2 {
		switch name, value := fields[i], fields[i+1]; {
		case name == "Host":
			req.Host = value
		case value == "":
			req.Header.Del(name)
		default:
			req.Header.Set(name, value)
		}
	}
	return w.do(w.direct, req)
}

func (w *world) do(c *http.Client, req *http.Request) *answer {
	w.t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		w.t.Fatal(err)
	}
	return &answer{resp.StatusCode, resp.Header, string(raw)}
}

// call does an operation that must work.
func (w *world) call(name string, params, result any) {
	w.t.Helper()
	if err := w.client.Call(w.t.Context(), name, params, result); err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
}

// refused does an operation that must not work, and returns the code.
func (w *world) refused(name string, params any) string {
	w.t.Helper()
	err := w.client.Call(w.t.Context(), name, params, nil)
	p, ok := err.(*client.Problem)
	if !ok {
		w.t.Fatalf("%s: %v; want a problem", name, err)
	}
	if p.Next == "" {
		w.t.Errorf("%s: %s has no next step", name, p.Code)
	}
	return p.Code
}

// over waits for the end of a run.
func (w *world) over(r *control.Run) *control.Run {
	w.t.Helper()
	for r.State == control.RunGoing {
		w.call("run.get", map[string]any{"id": r.ID, "wait": 60}, r)
	}
	return r
}
