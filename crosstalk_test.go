package holdfast_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

const fourIdentities = `
identities:
  alice: {variables: {USER: alice, PASS: alicepass}}
  bob: {variables: {USER: bob, PASS: bobpass}}
  eve: {variables: {USER: alice, PASS: wrong}}
macros:
  - name: login
    steps:
      - request: "POST {{ORIGIN}}/api/login HTTP/1.1\nContent-Type: application/json\n\n{\"username\":\"{{USER}}\",\"password\":\"{{PASS}}\"}"
        expect: 'resp.code.eq:200'
rules:
  - name: api
    scope: {pattern: "{{ORIGIN}}/as/", target: url}
    validation: {check_type: {type: StatusCode, value: [401]}}
    reauth_macro: login
    token_updates:
      - token_name: T
        source: {type: JSON, path: access_token}
        target: {type: RequestHeader, name: Authorization}
`

// Each connection changes whom it speaks for with each request. Sessions die
// all the while, and one identity cannot log in at all.
func TestIdentitiesOnOneListenerNeverMix(t *testing.T) {
	const each, clients = 1000, 10
	w := newWorld(t, testenv.Origin{TLS: true, HTTP2: true, DieAfter: 300, Observe: func(r *http.Request) {
		for name := range r.Header {
			if strings.HasPrefix(name, "Holdfast-") {
				t.Errorf("the origin was sent %s", name)
			}
		}
		if token := r.Header.Get("Authorization"); strings.HasPrefix(r.URL.Path, "/as/") && r.URL.Query().Get("for") == "anonymous" && token != "" {
			t.Error("an anonymous request carried a token")
		}
	}}, fourIdentities)
	var wg sync.WaitGroup
	var refused atomic.Int64
	for c := range clients {
		client := w.newClient("bob+scanner") // which the field overrules
		transport := client.Transport.(*http.Transport)
		transport.MaxConnsPerHost, transport.ForceAttemptHTTP2 = 1, c%2 == 1
		wg.Go(func() {
			for i := range each {
				name := []string{"alice", "bob", "", "anonymous", "eve"}[(i+c)%5]
				code, body, err := w.askAs(client, name)
				switch {
				case err != nil:
					t.Errorf("%s: %v", name, err)
					return
				case name == "anonymous":
					if code != 401 {
						t.Errorf("anonymous got %d %s", code, body)
					}
				case name == "eve":
					if refused.Add(1); code != 502 || !strings.Contains(body, "session_locked") && !strings.Contains(body, "recovery_failed") {
						t.Errorf("eve got %d %s", code, body)
					}
				default:
					if name == "" {
						name = "bob"
					}
					if code != 200 || !strings.Contains(body, `"`+name+`"`) {
						t.Errorf("%s got %d %s", name, code, body)
					}
				}
			}
		})
	}
	wg.Wait()
	s := w.origin.Stats()
	if refused.Load() != clients*each/5 || s.FailedLogins > 3 {
		t.Errorf("%d requests of eve were refused, after %d failed logins", refused.Load(), s.FailedLogins)
	}
	if s.Died < 10 || s.Logins < s.Died {
		t.Errorf("%d logins, %d deaths", s.Logins, s.Died)
	}
}

// askAs makes a request that speaks for the identity by its own word.
func (w *world) askAs(client *http.Client, name string) (int, string, error) {
	req, err := http.NewRequest("GET", fmt.Sprintf("%s/as/401?for=%s", w.origin.URL, name), nil)
	if err != nil {
		return 0, "", err
	}
	if name != "" {
		req.Header.Set("Holdfast-Identity", name)
	}
	if name == "anonymous" {
		req.Header.Set("Authorization", "Bearer of-the-client")
		req.Header.Set("Cookie", "sid=of-the-client")
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw), err
}

func TestWhatAClientSaysToHoldfastGoesNoFurther(t *testing.T) {
	for _, o := range []testenv.Origin{{}, {TLS: true}, {TLS: true, HTTP2: true}} {
		o.Observe = func(r *http.Request) {
			if !strings.HasPrefix(r.RequestURI, "/") || r.Header.Get("Proxy-Authorization") != "" || r.Header.Get("Holdfast-Identity") != "" {
				t.Errorf("the origin was asked for %s with %v", r.RequestURI, r.Header)
			}
		}
		w := newWorld(t, o, fourIdentities)
		w.client = w.newClient("alice+scanner")
		w.client.Transport.(*http.Transport).ForceAttemptHTTP2 = o.HTTP2
		ask := func(path string, fields ...string) (int, string) {
			t.Helper()
			req, err := http.NewRequest("GET", w.origin.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(fields); i += 2 {
				req.Header[fields[i]] = append(req.Header[fields[i]], fields[i+1]) // the name as it stands here
			}
			resp, err := w.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			raw, _ := io.ReadAll(resp.Body)
			return resp.StatusCode, string(raw)
		}
		// No rule covers /echo.
		code, body := ask("/echo", "hOLDFAST-identity", "alice", "Holdfast-KEEP", "cookie:a", "Holdfast-Keep", "query:b", "X-Other", "stays", "Holdfas", "t")
		if low := strings.ToLower(body); code != 200 || strings.Contains(low, "holdfast-") || !strings.Contains(low, "x-other") || !strings.Contains(low, "holdfas") {
			t.Errorf("the origin saw %d %s", code, body)
		}
		for _, wrong := range [][]string{
			{"Holdfast-Identity", "mallory", "identity_unknown", "alice, bob, eve"},
			{"Holdfast-Identity", "", "identity_unknown", "alice"},
			{"Holdfast-Identity", "alice+scanner", "identity_unknown", ""},
			{"Holdfast-Keep", "cookies:a", "directive_unknown", "header, cookie, query"},
			{"Holdfast-Keep", " , ", "directive_unknown", "cookie:sessid"},
			{"Holdfast-Protect", "on", "directive_unknown", "off"},
			{"Holdfast-Identiy", "alice", "directive_unknown", "Holdfast-Identity"},
		} {
			before := w.origin.Stats().Requests
			if code, body := ask("/echo", wrong[0], wrong[1]); code != 400 || !strings.Contains(body, wrong[2]) || !strings.Contains(body, wrong[3]) || w.origin.Stats().Requests != before {
				t.Errorf("%s: %q got %d %s", wrong[0], wrong[1], code, body)
			}
		}
		if code, body := ask("/echo", "Holdfast-Identity", "alice", "holdfast-identity", "bob"); code != 400 || !strings.Contains(body, "twice") {
			t.Errorf("two identities: %d %s", code, body)
		}
		// What is sent again, too, is without them, and in the form for an origin.
		ask("/as/401")
		w.origin.KillAll()
		if code, body := ask("/as/401", "Holdfast-Identity", "bob"); code != 200 || !strings.Contains(body, `"bob"`) {
			t.Errorf("bob got %d %s", code, body)
		}
		w.origin.KillAll()
		if code, body := ask("/as/401", "Holdfast-Identity", "bob"); code != 200 || !strings.Contains(body, `"bob"`) {
			t.Errorf("bob got %d %s", code, body)
		}
		w.traced("Holdfast-Identity: bob")
	}
}
