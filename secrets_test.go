package holdfast_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
)

// What must not be told to anybody: the values of the configuration, and those
// that the origin gives out.
const (
	secretPassword = "pass-Zq81xW0v"
	secretRefresh  = "refresh-Zq82xW0v"
	secretToken    = "token-Zq83xW0v"
	secretCookie   = "cookie-Zq84xW0v"
	secretCode     = "code-Zq85xW0v"
)

var allSecrets = []string{secretPassword, secretRefresh, secretToken, secretCookie, secretCode}

// secretRules log in, by a refresh first, and put a token and a cookie into
// requests.
const secretRules = `
variables: {PASS: "` + secretPassword + `", REFRESH: "` + secretRefresh + `"}
macros:
  - name: refresh
    steps:
      - request: "POST {{ORIGIN}}/refresh HTTP/1.1\nContent-Type: application/json\nCookie: old=` + secretCookie + `\n\n{\"refresh\":\"{{REFRESH}}\"}"
        extract: &tokens
          - {token_name: ACCESS, source: {type: JSON, path: access}}
          - {token_name: REFRESH, source: {type: JSON, path: refresh}, optional: true}
  - name: login
    steps:
      - request: "POST {{ORIGIN}}/login/{{PASS}}?p={{PASS}} HTTP/1.1\nAuthorization: Basic {{PASS}}\nContent-Type: application/x-www-form-urlencoded\n\npassword={{PASS}}"
        extract: *tokens
        expect: 'resp.code.eq:200'
  - name: whoami
    steps:
      - request: "GET {{ORIGIN}}/whoami HTTP/1.1\nAuthorization: Bearer {{ACCESS}}\n\n"
rules:
  - name: all
    scope: {pattern: "127.0.0.1"}
    validation:
      check_type: {type: StatusCode, value: [401]}
      confirm: {macro: whoami}
    reauth_macro: [refresh, login]
    token_updates:
      - {token_name: ACCESS, target: {type: RequestHeader, name: Authorization}}
      - {token_name: ACCESS, target: {type: QueryParam, name: t}}
      - {token_name: sid, source: {type: Cookie, name: sid}, target: {type: Cookie, name: sid}}
`

// scenario has the origin answer the macros in one way.
type scenario struct {
	name   string
	answer func(w http.ResponseWriter, r *http.Request)
}

func echo(status int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Echo", r.Header.Get("Authorization"))
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"echo":%q,"url":%q,"token":%q,"cookie":%q}`, body, r.URL, secretToken, r.Header.Get("Cookie"))
	}
}

func redirect(location string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Location"] = []string{location}
		w.Header().Add("Set-Cookie", "sid="+secretCookie)
		w.WriteHeader(302)
	}
}

var secretScenarios = []scenario{
	{"a wrong password, echoed", echo(403)},
	{"a refresh that fails, echoed", echo(400)},
	{"an error of the origin with the token in it", echo(500)},
	{"an origin that says later", echo(503)},
	{"a redirect with the token in the query", redirect("/cb?code=" + secretCode)},
	{"a redirect with the token in the fragment", redirect("/cb#token=" + secretToken)},
	{"a redirect with the token in the path", redirect("/cb/" + secretToken + "/done")},
	{"a redirect with the session in the path", redirect("/login;jsessionid=" + secretCookie)},
	{"a redirect with credentials", redirect("https://me:" + secretPassword + "@127.0.0.1/x")},
	{"a redirect with words", redirect("/see this " + secretToken)},
	{"a redirect that is no URL", redirect(secretToken)},
	{"a login that works and helps nothing", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Set-Cookie", "sid="+secretCookie)
		fmt.Fprintf(w, `{"access":%q,"refresh":%q}`, secretToken, secretRefresh)
	}},
	{"a token that cannot stand in a header", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"access":"%s\r\n%s"}`, secretToken, secretCode)
	}},
	{"an answer that is no HTTP", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		fmt.Fprintf(conn, "%s %s\r\n\r\n", secretToken, secretCode)
		conn.Close()
	}},
	{"an answer whose head breaks off", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nSet-Cookie: sid=%s\r\nBad %s\x00: x\r\n\r\n", secretCookie, secretToken)
		conn.Close()
	}},
}

// secretOrigin answers the macros as the scenario says, and everything else
// with 401.
func secretOrigin(s scenario) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/login") || r.URL.Path == "/refresh" {
			s.answer(w, r)
			return
		}
		w.WriteHeader(401)
	})
}

func TestNoSecretIsToldToAnybody(t *testing.T) {
	for _, s := range secretScenarios {
		t.Run(s.name, func(t *testing.T) {
			origin := httptest.NewServer(secretOrigin(s))
			defer origin.Close()
			text := toldOf(t, origin.URL)
			for _, secret := range allSecrets {
				if at := strings.Index(text, secret); at >= 0 {
					t.Errorf("%s is told:\n%s", secret, text[max(0, at-300):min(len(text), at+100)])
				}
			}
			if !strings.Contains(text, `"tool":"macro"`) || !strings.Contains(text, "warning:") && !strings.Contains(text, `"reason"`) {
				t.Errorf("nothing was told, so nothing is proved:\n%s", text)
			}
		})
	}
}

// toldOf runs some requests and returns trace, warnings, the bodies of
// Holdfast's own answers, and the state of the sessions.
func toldOf(t *testing.T, origin string) string {
	t.Helper()
	file, _, err := config.Parse("rules.yaml", []byte(strings.ReplaceAll(secretRules, "{{ORIGIN}}", origin)), config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	file.Limits.Unreachable = time.Millisecond
	text := new(syncBuffer)
	h, err := holdfast.New(holdfast.Config{File: file, Home: t.TempDir(), Listen: []holdfast.Listen{{Address: "127.0.0.1:0"}},
		Trace: text, Warn: func(s string) { fmt.Fprintln(text, "warning: "+s) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: h.Addr()})}}
	for _, path := range []string{"/a", "/a", "/b?t=x", "/c", "/d"} {
		for _, accept := range []string{"*/*", "text/html"} {
			req, err := http.NewRequest("GET", origin+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", accept)
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(text, "answer %d %v\n", resp.StatusCode, resp.Header)
			io.Copy(text, resp.Body)
			resp.Body.Close()
		}
	}
	sessions, err := json.Marshal(h.Sessions())
	if err != nil {
		t.Fatal(err)
	}
	client.CloseIdleConnections()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	h.Close()
	return text.String() + string(sessions)
}

func TestTheCommandTellsNoSecret(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "holdfast")
	if out, err := exec.Command("go", "build", "-o", program, "./cmd/holdfast").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	origin := httptest.NewServer(secretOrigin(secretScenarios[0]))
	defer origin.Close()
	rules := filepath.Join(dir, "rules.yaml")
	if err := os.WriteFile(rules, []byte(strings.ReplaceAll(secretRules, "{{ORIGIN}}", origin.URL)), 0o600); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, args := range [][]string{
		{"check", rules},
		{"run", "-c", rules, "--trace", "-", "--report", "-", "--", "curl", "-s", "-i", "-x", "{proxy}", origin.URL + "/a", origin.URL + "/b", origin.URL + "/c", origin.URL + "/d"},
		{"session", "unlock"},
	} {
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "HOLDFAST_HOME="+filepath.Join(dir, "home"))
		out, _ := cmd.CombinedOutput() // run ends with 3: the session is lost
		all.Write(out)
	}
	text := all.String()
	for _, secret := range allSecrets {
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("%s is told:\n%s", secret, text[max(0, at-300):min(len(text), at+100)])
		}
	}
	if !strings.Contains(text, "SESSION LOST") || !strings.Contains(text, `"last_error"`) || !strings.Contains(text, "session_locked") {
		t.Errorf("the run said too little to prove anything:\n%s", text)
	}
}
