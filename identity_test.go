package holdfast_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/proxy"
)

const twoIdentities = `
identities:
  zoe: {variables: {USER: bob, PASS: bobpass}}
  amy: {variables: {USER: alice, PASS: alicepass}}
macros:
  - name: login
    steps:
      - request: "POST {{ORIGIN}}/api/login HTTP/1.1\nContent-Type: application/json\n\n{\"username\":\"{{USER}}\",\"password\":\"{{PASS}}\"}"
        expect: 'resp.code.eq:200'
rules:
  - name: api
    scope: {pattern: "127.0.0.1"}
    validation: {check_type: {type: StatusCode, value: [401]}}
    reauth_macro: login
    token_updates:
      - token_name: T
        source: {type: JSON, path: access_token}
        target: {type: RequestHeader, name: Authorization}
`

func (w *world) whoami(client *http.Client) string {
	w.t.Helper()
	resp, err := client.Get(w.origin.URL + "/whoami")
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	return string(raw)
}

func TestWhoSpeaksWhereNobodyIsNamed(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true}, twoIdentities)
	for credentials, want := range map[string]string{"": "bob", "amy": "alice", "anonymous": "anonymous", "anonymous+scanner": "anonymous"} {
		if got := w.whoami(w.newClient(credentials)); !strings.Contains(got, want) {
			t.Errorf("%q: the origin saw %s; want %s", credentials, got, want)
		}
	}
}

func TestACertificateThatDoesNotVerifyIsSaidForLoginsToo(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true}, twoIdentities)
	w.stop()
	w.more = func(c *holdfast.Config) { c.Roots = nil }
	w.start(twoIdentities)
	code, body := w.get("/api/items")
	if code != 502 || !strings.Contains(body, "origin_certificate") || !strings.Contains(body, "--upstream-ca") {
		t.Errorf("got %d %s; want the certificate named, with the next step", code, body)
	}
	w.stop()
	if totals := w.h.Totals(); totals.Refused != 1 {
		t.Errorf("totals %+v; want the request counted as refused for want of a session", totals)
	}
}

func TestWhatA403TaughtSaysNothingAboutA401(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true, Guarded: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(403) // alive, and not for you
	})}, strings.Replace(twoIdentities, "value: [401]", "value: [401, 403]", 1))
	for i := range 30 {
		if i%5 == 4 {
			w.origin.KillAll()
		}
		if code, _ := w.get("/api/items"); code != 200 {
			t.Fatalf("alive: %d", code)
		}
		if i%5 == 4 {
			w.origin.KillAll()
		}
		if code, _ := w.get("/guarded/admin"); code == 401 {
			t.Errorf("request %d: the dead answer reached the client", i)
		}
	}
}

// The request's own word goes before the credentials, these before the
// listener, and that before --as.
func TestWhoSaysWhoSpeaks(t *testing.T) {
	w := newWorld(t, testenv.Origin{}, fourIdentities)
	w.stop()
	l, err := holdfast.ParseListen(proxy.Forward, "alice+scanner=127.0.0.1:0")
	if err != nil || l.Identity != "alice" || l.Tool != "scanner" {
		t.Fatalf("%+v, %v", l, err)
	}
	w.more = func(c *holdfast.Config) { c.Identity, c.Listen = "bob", append(c.Listen, l) }
	w.start(fourIdentities)
	first := w.h.Addrs()
	for _, tt := range []struct{ listener, credentials, field, want string }{
		{first[0], "", "", "bob"},
		{first[1], "", "", "alice"},
		{first[1], "bob", "", "bob"},
		{first[1], "+tool", "", "alice"},
		{first[1], "bob", "alice", "alice"},
		{first[1], "alice", "bob", "bob"},
	} {
		at := &url.URL{Scheme: "http", Host: tt.listener}
		if tt.credentials != "" {
			at.User = url.User(tt.credentials)
		}
		client := w.newClient("")
		client.Transport.(*http.Transport).Proxy = http.ProxyURL(at)
		if code, body, err := w.askAs(client, tt.field); err != nil || code != 200 || !strings.Contains(body, `"`+tt.want+`"`) {
			t.Errorf("%+v: %d %s %v", tt, code, body, err)
		}
	}
	l.Identity = "mallory"
	w.stop()
	if _, err := holdfast.New(holdfast.Config{Home: t.TempDir(), Listen: []holdfast.Listen{l}}); err == nil || !strings.Contains(err.Error(), `"mallory"`) {
		t.Errorf("an unknown identity of a listener: %v", err)
	}
}
