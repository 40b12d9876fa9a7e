package derive_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/internal/leak"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/macro/derive"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
)

func TestMain(m *testing.M) { leak.Main(m) }

// browser is a client with cookies that follows redirects and writes down what
// it sends and gets.
type browser struct {
	t      *testing.T
	portal *testenv.PortalServer
	client *http.Client
	all    []convert.Exchange
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	p, err := testenv.Portal{}.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	b := &browser{t: t, portal: p}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.Pool()}}
	t.Cleanup(transport.CloseIdleConnections)
	b.client = &http.Client{Jar: jar, Timeout: time.Minute, Transport: writesDown{b, transport}}
	return b
}

type writesDown struct {
	b    *browser
	next http.RoundTripper
}

func (w writesDown) RoundTrip(r *http.Request) (*http.Response, error) {
	x := convert.Exchange{Entry: len(w.b.all) + 1, Time: time.Now(), URL: r.URL.String()}
	head := r.Method + " " + r.URL.RequestURI() + " HTTP/1.1\r\nHost: " + r.URL.Host + "\r\n"
	for name, values := range r.Header {
		head += name + ": " + strings.Join(values, "; ") + "\r\n"
	}
	if r.Body != nil {
		x.RequestBody, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(x.RequestBody))
	}
	var err error
	if x.Request, err = wire.ParseRequest([]byte(head + "\r\n")); err != nil {
		return nil, err
	}
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	x.ResponseBody, _ = io.ReadAll(resp.Body)
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(x.ResponseBody))
	head = "HTTP/1.1 " + resp.Status + "\r\n"
	for name, values := range resp.Header {
		for _, v := range values {
			head += name + ": " + v + "\r\n"
		}
	}
	if x.Response, err = wire.ParseResponse([]byte(head + "\r\n")); err != nil {
		return nil, err
	}
	w.b.all = append(w.b.all, x)
	return resp, nil
}

func (b *browser) do(method, path, body string, fields ...string) string {
	b.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = b.portal.URL + path
	}
	req, err := http.NewRequest(method, path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if body == "" {
		req.Body = nil
	}
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	if resp.StatusCode >= 400 {
		b.t.Fatalf("%s %s: %s %s", method, path, resp.Status, raw)
	}
	return string(raw)
}

const form = "application/x-www-form-urlencoded"

func (b *browser) post(path string, values url.Values, fields ...string) string {
	b.t.Helper()
	return b.do("POST", path, values.Encode(), append([]string{"Content-Type", form}, fields...)...)
}

func between(t *testing.T, text, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("there is no %s in %s", pattern, text)
	}
	return m[1]
}

func typed(more ...string) url.Values {
	v := url.Values{"who": {testenv.PortalUser}, "word": {testenv.PortalPassword}}
	for i := 0; i+1 < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return v
}

// logins are what a person does with a browser at each of the portal's logins.
func logins() map[string]func(b *browser) {
	return map[string]func(b *browser){
		"/meta": func(b *browser) {
			token := between(b.t, b.do("GET", "/meta", ""), `content="([^"]+)"`)
			b.do("POST", "/meta", `{"username":"alice","password":"wonderland"}`, "Content-Type", "application/json", "X-CSRF-Token", token)
			b.do("GET", "/home", "")
		},
		"/script": func(b *browser) {
			token := between(b.t, b.do("GET", "/script", ""), `csrfToken : "([^"]+)"`)
			b.do("GET", "/noise/app.js", "")
			b.do("GET", "/noise/beacon", "")
			b.post("/script", typed("token", strings.NewReplacer(`\/`, "/", `\u002b`, "+").Replace(token)))
		},
		"/double": func(b *browser) {
			b.do("GET", "/double", "")
			u, _ := url.Parse(b.portal.URL)
			for _, c := range b.client.Jar.Cookies(u) {
				plain, _ := url.QueryUnescape(c.Value)
				b.post("/double", typed(), "X-XSRF-TOKEN", plain)
			}
		},
		"/api": func(b *browser) {
			nonce := between(b.t, b.do("GET", "/api/nonce", ""), `"none","([^"]+)"`)
			token := between(b.t, b.do("POST", "/api/login", `{"user":"alice","password":"wonderland","nonce":"`+nonce+`"}`, "Content-Type", "application/json"), `"accessToken":"([^"]+)"`)
			b.do("GET", "/api/me", "", "Authorization", "Bearer "+token)
		},
		"/sso": func(b *browser) {
			page := b.do("GET", "/sso", "")
			action := strings.ReplaceAll(between(b.t, page, `action="([^"]+)"`), "&amp;", "&")
			b.post(b.portal.SSO+action, url.Values{"email": {"alice"}, "secret_word": {"wonderland"}, "lt": {between(b.t, page, `name="lt" value="([^"]+)"`)}},
				"Origin", b.portal.SSO, "Referer", b.portal.SSO+"/authorize")
		},
		"/short": func(b *browser) {
			b.post("/short", typed("answer", between(b.t, b.do("GET", "/short", ""), `data-word="([^"]+)"`)))
		},
		"/computed": func(b *browser) {
			b.post("/computed", typed("proof", testenv.Reverse(between(b.t, b.do("GET", "/computed", ""), `proof = "([^"]+)"`))))
		},
	}
}

func (b *browser) env() (derive.Env, func()) {
	block, _ := pem.Decode(b.portal.CAPEM())
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		b.t.Fatal(err)
	}
	pool := upstream.New(upstream.Config{Roots: []*x509.Certificate{root}})
	return derive.Env{Send: pool.Send, Now: time.Now, Drop: true}, pool.Close
}

// Each login is recorded once, derived, and proved by two runs; the file that is
// written of it loads, and its macro is the one that was proved.
func TestEveryLoginOfThePortal(t *testing.T) {
	for path, login := range logins() {
		t.Run(strings.TrimPrefix(path, "/"), func(t *testing.T) {
			b := newBrowser(t)
			login(b)
			env, closePool := b.env()
			defer closePool()
			before := b.portal.Logins(path)
			draft, proof, err := derive.Prove(context.Background(), b.all, derive.Options{}, env)
			if err != nil {
				t.Fatal(err)
			}
			var report bytes.Buffer
			draft.Report(&report)
			proof.Report(&report)
			for _, secret := range []string{testenv.PortalPassword} {
				if strings.Contains(report.String(), secret) {
					t.Errorf("the report holds a secret")
				}
			}
			if path == "/computed" {
				want := "step 1 (entry 2), form:proof: the recorded value is sent: no earlier answer brought it; a script may have made it, or it is a constant; the answer to entry 1 has one of that name: ResponseBody regex"
				if proof.Proved || !strings.Contains(report.String(), want) {
					t.Errorf("what nobody can derive is not told of: %s", &report)
				}
				return
			}
			if !proof.Proved {
				t.Fatalf("not proved:\n%s", &report)
			}
			if after := b.portal.Logins(path); after-before < 2 {
				t.Errorf("%d logins, want 2 or more", after-before)
			}
			raw, err := draft.YAML()
			if err != nil {
				t.Fatal(err)
			}
			file, warnings, err := config.Parse("derived.yaml", raw, config.Options{})
			if err != nil {
				t.Fatalf("%v\n%s", err, raw)
			}
			for _, w := range warnings {
				if !strings.Contains(w.String(), "there are no rules") && !strings.Contains(w.String(), "is extracted and used nowhere") {
					t.Errorf("%s\n%s", w.String(), raw)
				}
			}
			for i, s := range file.Macros[0].Steps {
				if s.Request.String() != draft.Steps[i].Request {
					t.Errorf("step %d is\n%s\nand was\n%s", i+1, s.Request, draft.Steps[i].Request)
				}
			}
		})
	}
}
