package learn_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/internal/leak"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/learn"
)

func TestMain(m *testing.M) { leak.Main(m) }

var update = flag.Bool("update", false, "write the golden files anew")

// shop is an origin with a Holdfast before it.
type shop struct {
	t      *testing.T
	origin *testenv.Server
	roots  []*x509.Certificate
}

func newShop(t *testing.T, o testenv.Origin) *shop {
	t.Helper()
	o.TLS = true
	origin, err := o.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(origin.Close)
	block, _ := pem.Decode(origin.CAPEM())
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &shop{t: t, origin: origin, roots: []*x509.Certificate{root}}
}

// behind gives a client of a Holdfast that runs until the function that is
// returned is called.
func (s *shop) behind(c holdfast.Config) (*http.Client, *holdfast.Holdfast, func()) {
	s.t.Helper()
	c.Home, c.Roots, c.Listen = s.t.TempDir(), s.roots, []holdfast.Listen{{Address: "127.0.0.1:0"}}
	h, err := holdfast.New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.Run(ctx) }()
	at, err := url.Parse(h.ProxyURL())
	if err != nil {
		s.t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(at), TLSClientConfig: &tls.Config{RootCAs: h.CA().Pool()}}
	client := &http.Client{Transport: transport, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return client, h, func() {
		transport.CloseIdleConnections()
		cancel()
		<-served
		h.Close()
	}
}

// browser records what a person does.
type browser struct {
	*shop
	client *http.Client
}

func (b *browser) do(method, path, body string, fields ...string) string {
	b.t.Helper()
	return send(b.t, b.client, method, b.origin.URL+path, body, fields...)
}

func send(t *testing.T, client *http.Client, method, at, body string, fields ...string) string {
	t.Helper()
	req, err := http.NewRequest(method, at, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body == "" {
		req.Body = nil
	}
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status + "\n" + string(raw)
}

func (s *shop) record(act func(b *browser)) []convert.Exchange {
	s.t.Helper()
	recording := new(holdfast.Recording)
	client, _, stop := s.behind(holdfast.Config{Record: recording})
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	client.Jar = jar
	act(&browser{s, client})
	stop()
	return recording.Exchanges()
}

func between(t *testing.T, text, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("there is no %s in %s", pattern, text)
	}
	return m[1]
}

const (
	form    = "application/x-www-form-urlencoded"
	asJSON  = "application/json"
	typedIn = `{"username":"alice","password":"alicepass"}`
)

// shape is a login as a person does it once, and what a tool does behind it.
type shape struct {
	origin testenv.Origin
	login  func(b *browser)
	// get is asked while sessions die, and live stands in its live answers.
	get, live string
	// post is a write: path, body and Content-Type; empty: none.
	post [3]string
	// renewals are logins and refreshes for a death.
	silent bool
}

func shapes() map[string]shape {
	return map[string]shape{
		"form": {
			login: func(b *browser) {
				csrf := between(b.t, b.do("GET", "/login", ""), `name="_csrf" value="([^"]+)"`)
				b.do("POST", "/login", "_csrf="+url.QueryEscape(html.UnescapeString(csrf))+"&username=alice&password=alicepass", "Content-Type", form)
				csrf = between(b.t, b.do("GET", "/account", ""), `name="_csrf" value="([^"]+)"`)
				b.do("POST", "/account/email", "_csrf="+url.QueryEscape(html.UnescapeString(csrf))+"&email=a%40b.example", "Content-Type", form)
			},
			get: "/account", live: "Signed in as", post: [3]string{"/account/email", "email=x%40y.example&id=", form},
		},
		"bearer": {
			login: func(b *browser) {
				token := between(b.t, b.do("POST", "/api/login", typedIn, "Content-Type", asJSON), `"access_token":"([^"]+)"`)
				b.do("GET", "/api/items", "", "Authorization", "Bearer "+token)
			},
			get: "/api/items", live: "Kettle", post: [3]string{"/api/items?id=", "{}", asJSON},
		},
		"jwt": {
			origin: testenv.Origin{Rotation: testenv.RotateAll, ReuseRevokes: true},
			login: func(b *browser) {
				answer := b.do("POST", "/auth/login", typedIn, "Content-Type", asJSON)
				b.do("GET", "/auth/me", "", "Authorization", "Bearer "+between(b.t, answer, `"accessToken":"([^"]+)"`))
				answer = b.do("POST", "/auth/refresh", `{"refreshToken":"`+between(b.t, answer, `"refreshToken":"([^"]+)"`)+`"}`, "Content-Type", asJSON)
				b.do("GET", "/auth/products", "", "Authorization", "Bearer "+between(b.t, answer, `"accessToken":"([^"]+)"`))
			},
			get: "/auth/me", live: `"alice"`,
		},
		"oauth": {
			login: func(b *browser) {
				answer := b.do("POST", "/oauth/token", "grant_type=password&username=alice&password=alicepass", "Content-Type", form)
				b.do("GET", "/oauth/userinfo", "", "Authorization", "Bearer "+between(b.t, answer, `"access_token":"([^"]+)"`))
			},
			get: "/oauth/userinfo", live: `"sub":"alice"`,
		},
		"silent": {
			login: func(b *browser) {
				token := between(b.t, b.do("POST", "/api/login", typedIn, "Content-Type", asJSON), `"access_token":"([^"]+)"`)
				b.do("GET", "/as/list", "", "Authorization", "Bearer "+token)
				b.do("GET", "/api/items", "", "Authorization", "Bearer "+token)
			},
			get: "/as/list", live: `"id"`, silent: true,
		},
	}
}

func (s *shop) learn(exchanges []convert.Exchange, o learn.Options) *learn.Result {
	s.t.Helper()
	o.Rate = 100_000
	o.Proxy = holdfast.Config{Home: s.t.TempDir(), Roots: s.roots}
	result, err := learn.Run(context.Background(), exchanges, o)
	if err != nil {
		if result != nil {
			s.t.Logf("%s", result.Config)
		}
		s.t.Fatal(err)
	}
	return result
}

// Each shape of login is recorded once and learnt, without a hand edit; then a
// client that knows neither cookie nor token is served while sessions die.
func TestOneRecordedLoginIsEnough(t *testing.T) {
	for name, shape := range shapes() {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, shape.origin)
			result := s.learn(s.record(shape.login), learn.Options{Writes: true})
			var report strings.Builder
			result.Report.Write(&report)
			if !result.Report.Held {
				t.Errorf("not held:\n%s", report.String())
			}
			if strings.Contains(report.String(), "alicepass") || strings.Contains(string(result.Config), "alicepass") {
				t.Error("the report or the file has the password")
			}
			golden(t, name+".yaml", strings.ReplaceAll(string(result.Config), strings.TrimPrefix(s.origin.URL, "https://"), "shop.example"))
			s.hold(result, &shape)
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what was learnt; write it anew with -update:\n%s", path, got)
	}
}

func load(t *testing.T, result *learn.Result) *config.File {
	t.Helper()
	file, warnings, err := config.Parse("learnt.yaml", result.Config, config.Options{Env: func(name string) (string, bool) {
		v, ok := result.Env[name]
		return v, ok
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings: %v", warnings)
	}
	return file
}

// hold sends requests while the session is killed at every seventh.
func (s *shop) hold(result *learn.Result, shape *shape) {
	t := s.t
	client, h, stop := s.behind(holdfast.Config{File: load(t, result)})
	defer stop()
	before := s.origin.Stats()
	deaths := 0
	for i := range 70 {
		if i%7 == 3 {
			s.origin.KillAll()
			deaths++
		}
		if i%10 == 6 && shape.post[0] != "" {
			id := "w" + string(rune('a'+i/10))
			path, body := shape.post[0], shape.post[1]
			if strings.HasSuffix(path, "id=") {
				path += id
			} else {
				body += id
			}
			if got := send(t, client, "POST", s.origin.URL+path, body, "Content-Type", shape.post[2]); !strings.HasPrefix(got, "200") {
				t.Errorf("write %d: %s", i, got)
			}
			if n := s.origin.Applied(id); n != 1 {
				t.Errorf("write %d was applied %d times", i, n)
			}
			continue
		}
		if got := send(t, client, "GET", s.origin.URL+shape.get, ""); !strings.HasPrefix(got, "200") || !strings.Contains(got, shape.live) {
			t.Errorf("request %d was given a dead answer: %s", i, got)
		}
	}
	after := s.origin.Stats()
	made := after.Logins + after.Refreshes - before.Logins - before.Refreshes
	if made != deaths+1 {
		t.Errorf("%d deaths cost %d logins and refreshes", deaths, made)
	}
	if totals := h.Totals(); totals.Lost > 0 || totals.Refused > 0 {
		t.Errorf("lost %d, refused %d", totals.Lost, totals.Refused)
	}
}
