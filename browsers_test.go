package holdfast_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// site is an application that only a browser can log in to, and its identity
// provider, on another host.
type site struct {
	app, idp *httptest.Server

	mu     sync.Mutex
	tokens map[string]bool // live ones
	n      int
	seen   []string // headers of the application's requests that tell who sent them
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{tokens: make(map[string]bool)}
	app, idp := http.NewServeMux(), http.NewServeMux()
	s.app, s.idp = httptest.NewTLSServer(app), httptest.NewTLSServer(idp)
	t.Cleanup(s.app.Close)
	t.Cleanup(s.idp.Close)
	app.HandleFunc("/api/me", func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie("sid")
		s.mu.Lock()
		live := s.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")] && (err != nil || s.tokens[cookie.Value])
		s.mu.Unlock()
		if !live {
			http.Error(w, "who are you?", 401)
			return
		}
		fmt.Fprintf(w, "welcome, cookie %v", err == nil)
	})
	app.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, s.idpURL()+"/authorize?state=secret-state", http.StatusFound)
	})
	app.HandleFunc("/callback", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("code") == "" {
			http.Error(w, "no code", 400)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "sid", Value: s.token(), HttpOnly: true, Secure: true, Path: "/"})
		page(w, "Signed in", `<div id=account hidden>account</div><script>
			localStorage.setItem("auth", JSON.stringify({user: {token: "`+s.token()+`"}}));
			account.hidden = false</script>`)
	})
	app.HandleFunc("/spa", func(w http.ResponseWriter, _ *http.Request) { page(w, "SPA", spa) })
	app.HandleFunc("POST /spa/login", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ User, Pass string }
		json.NewDecoder(r.Body).Decode(&in)
		if in.Pass != in.User+"pass" {
			http.Error(w, "no", 403)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"next": "code", "access": s.token()})
	})
	idp.HandleFunc("/authorize", func(w http.ResponseWriter, r *http.Request) {
		page(w, "Sign in", `<script>addEventListener("beforeunload", e => e.preventDefault()); setTimeout(() => alert("cookies!"))</script>
			<form method=post action=/password><input type=hidden name=csrf value=forged>
			<label>Your name * <input name=user></label> <input type=password id=p name=pass>
			<select name=realm><option>staff<option value=c>customers</select> <input type=checkbox id=terms name=terms value=yes>
			<button>Sign&nbsp;in</button></form><script>document.forms[0].csrf.value = "real"</script>`)
	})
	idp.HandleFunc("POST /password", func(w http.ResponseWriter, r *http.Request) {
		got := r.FormValue("csrf") + " " + r.FormValue("user") + " " + r.FormValue("pass") + " " + r.FormValue("realm") + " " + r.FormValue("terms")
		if got != "real alice a \"pass\" c yes" {
			page(w, "Sign in", "<p class=error>That is wrong.</p>")
			return
		}
		http.Redirect(w, r, s.app.URL+"/callback?code=secret-code", http.StatusSeeOther)
	})
	return s
}

// idpURL has another host than the application.
func (s *site) idpURL() string { return strings.Replace(s.idp.URL, "127.0.0.1", "localhost", 1) }

// spa logs in by fetch, asks for a second factor, and keeps its token in memory.
const spa = `<div id=root></div><script>
const root = document.getElementById("root");
root.innerHTML = '<input id=user><input id=pass type=password><button id=go>Log in</button>';
document.getElementById("go").onclick = async () => {
	const r = await fetch("/spa/login", {method: "POST", body: JSON.stringify({user: user.value, pass: pass.value})});
	if (!r.ok) { root.insertAdjacentHTML("beforeend", '<p class=error>wrong</p>'); return; }
	const answer = await r.json();
	const finish = async () => { await fetch("/api/me", {headers: {Authorization: "Bearer " + answer.access}}); history.pushState({}, "", "/spa/home"); };
	if (answer.next == "code") {
		root.innerHTML = '<input id=code><button id=send>Send</button>';
		document.getElementById("send").onclick = () => { if (/^[0-9]{6}$/.test(code.value)) finish(); };
		return;
	}
	finish();
};
</script>`

func page(w http.ResponseWriter, title, body string) {
	w.Header().Set("Content-Type", "text/html")
	io.WriteString(w, "<!doctype html><title>"+title+"</title>"+body)
}

func (s *site) token() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	name := fmt.Sprintf("live-token-%d", s.n)
	s.tokens[name] = true
	return name
}

func (s *site) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// behind starts a Holdfast in front of the site.
func (s *site) behind(t *testing.T, rules string, more func(*holdfast.Config)) *world {
	t.Helper()
	origin, err := testenv.Origin{}.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(origin.Close)
	w := &world{t: t, origin: origin, home: t.TempDir(), more: func(c *holdfast.Config) {
		c.Insecure = true
		if more != nil {
			more(c)
		}
	}}
	w.start(strings.NewReplacer("{{APP}}", s.app.URL, "{{IDP}}", s.idpURL()).Replace(rules))
	return w
}

// ask asks for what only those get who are logged in.
func (s *site) ask(t *testing.T, client *http.Client) (int, string) {
	t.Helper()
	resp, err := client.Get(s.app.URL + "/api/me")
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw)
}

const ssoRules = `
variables: {USER: alice, PASS: 'a "pass"'}
limits: {wait: 10m}
browsers:
  - name: sso
    timeout: 5m
    url: "{{APP}}/login"
    steps:
      - fill: {selector: label=Your name, value: "{{USER}}"}
      - fill: {selector: "#p", value: "{{PASS}}"}
      - select: {selector: "[name=realm]", value: customers}
      - check: "#terms"
      - click: text=Sign in
    until: {url: /callback, selector: "#account", cookie: sid}
    fail_if: .error
    take: {local_storage: [{token_name: ACCESS, key: auth, path: user.token}]}
rules:
  - name: app
    scope: {pattern: "{{APP}}/api/", target: url, tools: [proxy]}
    validation: {check_type: {type: StatusCode, value: [401]}}
    reauth_macro: sso
    token_updates:
      - {token_name: ACCESS, target: {type: RequestHeader, name: Authorization}}
      - {token_name: SID, source: {type: Cookie, name: sid}, target: {type: Cookie, name: sid}}
`

// A login at an identity provider on another host, with a form whose CSRF
// field a script fills in, dialogs, and a token that a script stores.
func TestALoginInABrowserBringsASession(t *testing.T) {
	s := newSite(t)
	w := s.behind(t, ssoRules, nil)
	for range 2 {
		if code, body := s.ask(t, w.client); code != 200 || body != "welcome, cookie true" {
			t.Fatalf("got %d %q; trace:\n%s", code, body, w.trace)
		}
		s.kill()
	}
	w.stop()
	trace := w.trace.String()
	for _, want := range []string{"browser sso: open " + s.app.URL + "/login: 200", "browser sso: action 5, click text=Sign in",
		"browser sso: the page says (beforeunload)", "token ACCESS, SID"} {
		if !strings.Contains(trace, want) {
			t.Errorf("the trace does not say %q:\n%s", want, trace)
		}
	}
	for _, secret := range []string{`a \"pass\"`, "live-token", "secret-"} {
		if strings.Contains(trace, secret) {
			t.Errorf("the trace says %s:\n%s", secret, trace)
		}
	}
	if totals := w.h.Totals(); totals.Logins != 2 || totals.Requests != 2 || totals.Lost != 0 {
		t.Errorf("%+v", totals)
	}
}

const spaRules = `
identities:
  alice: {variables: {USER: alice, PASS: alicepass}, totp: JBSWY3DPEHPK3PXP}
  mallory: {variables: {USER: mallory, PASS: guess-secret}, totp: JBSWY3DPEHPK3PXQ}
limits: {wait: 10m}
browsers:
  - name: spa
    timeout: 5m
    url: "{{APP}}/spa"
    steps:
      - fill: {selector: "#user", value: "{{USER}}"}
      - fill: {selector: "#pass", value: "{{PASS}}"}
      - press: {selector: "#pass", key: Tab}
      - click: "#go"
      - fill: {selector: "#code", value: "{{totp}}"}
      - click: "#send"
    until: {url: /spa/home}
    fail_if: .error
    screenshot: true
rules:
  - name: app
    scope: {pattern: "{{APP}}/api/", target: url}
    validation: {check_type: {type: StatusCode, value: [401]}}
    reauth_macro: spa
    token_updates:
      - {token_name: ACCESS, source: {type: RequestHeader, name: Authorization, regex: "Bearer (.+)"}, target: {type: RequestHeader, name: Authorization}}
lockout: {failures: 1, window: 15m}
`

// There is a one-time code, and the token is in the page's memory alone: it is taken from what the browser
// sends. A wrong password is a failed login.
func TestALoginInABrowserLearnsWhatTheBrowserSends(t *testing.T) {
	s := newSite(t)
	w := s.behind(t, spaRules, nil)
	if code, body := s.ask(t, w.newClient("alice")); code != 200 || body != "welcome, cookie false" {
		t.Fatalf("alice got %d %q; trace:\n%s", code, body, w.trace)
	}
	mallory := w.newClient("mallory")
	if code, body := s.ask(t, mallory); code != 502 || !strings.Contains(body, "session_locked") || !strings.Contains(body, "fail_if") {
		t.Errorf("mallory got %d %q", code, body)
	}
	if code, body := s.ask(t, mallory); code != 502 || !strings.Contains(body, "session_locked") {
		t.Errorf("then mallory got %d %q", code, body)
	}
	picture, err := os.Stat(filepath.Join(w.home, "browser-spa-mallory.png"))
	if err != nil || picture.Size() == 0 || picture.Mode().Perm() != 0o600 {
		t.Errorf("the picture: %v, %v", picture, err)
	}
	w.stop()
	if trace := w.trace.String(); strings.Contains(trace, "guess-secret") || strings.Contains(trace, "live-token") {
		t.Errorf("the trace tells a secret:\n%s", trace)
	}
}

const personRules = `
variables: {USER: twofactor, PASS: twofactorpass}
browsers:
  - name: person
    url: "{{APP}}/spa"
    headless: false
    steps:
      - fill: {selector: "#user", value: "{{USER}}"}
      - fill: {selector: "#pass", value: "{{PASS}}"}
      - click: "#go"
    until: {token: ACCESS}
    wait: WAIT
rules:
  - name: app
    scope: {pattern: "{{APP}}/api/", target: url}
    validation: {check_type: {type: StatusCode, value: [401]}}
    reauth_macro: person
    token_updates:
      - {token_name: ACCESS, source: {type: RequestHeader, name: Authorization, regex: "Bearer (.+)"}, target: {type: RequestHeader, name: Authorization}}
`

// A person brings the second factor. Requests wait for them up to wait; then
// they are told so, the window stays, and what the person does later counts.
func TestAPersonsLoginRecoversWhatWaits(t *testing.T) {
	for _, tt := range []struct{ name, wait string }{{"in time", "10m"}, {"too late", "1s"}} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			come, told := make(chan struct{}), make(chan string, 1)
			var once sync.Once
			arrive := func() { once.Do(func() { close(come) }) }
			defer arrive()
			w := s.behind(t, strings.ReplaceAll(personRules, "WAIT", tt.wait), func(c *holdfast.Config) {
				c.Browser.Hidden = true
				c.Browser.Attend = func(ctx context.Context) {
					text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("dl")))
					if err != nil {
						t.Error(err)
					}
					told <- text
					select {
					case <-come:
					case <-ctx.Done():
						return
					}
					if err := attend(ctx); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
				}
			})
			if tt.name == "in time" {
				arrive()
			}
			code, body := s.ask(t, w.client)
			if tt.name == "too late" {
				if code != 504 || !strings.Contains(body, "person_needed") {
					t.Errorf("got %d %q", code, body)
				}
				arrive()
				for began := time.Now(); code == 504 && time.Since(began) < patience; { // until the person is there; each waits up to wait
					code, body = s.ask(t, w.client)
				}
			}
			if code != 200 {
				t.Errorf("got %d %q; trace:\n%s", code, body, w.trace)
			}
			if t.Failed() {
				return // perhaps nobody was told anything
			}
			if text := <-told; !strings.Contains(text, "app") || !strings.Contains(text, s.app.URL+"/spa") {
				t.Errorf("the person is told:\n%s", text)
			}
			if totals := w.h.Totals(); totals.Logins != 1 {
				t.Errorf("%+v", totals)
			}
		})
	}
}

// A person who does not want to is no failed login.
func TestAPersonsCancelIsSaid(t *testing.T) {
	s := newSite(t)
	w := s.behind(t, strings.ReplaceAll(personRules, "WAIT", "10m")+"lockout: {failures: 1, window: 15m}\n", func(c *holdfast.Config) {
		c.Browser.Hidden = true
		c.Browser.Attend = func(ctx context.Context) {
			if err := chromedp.Do(ctx, chromedp.Click(chromedp.CSS("#cancel"))); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	for range 2 {
		if code, body := s.ask(t, w.client); code != 504 || !strings.Contains(body, "person_needed") || !strings.Contains(body, "cancelled") {
			t.Errorf("got %d %q", code, body)
		}
	}
}

// attend is the person: they begin, and bring the code.
func attend(ctx context.Context) error {
	if err := chromedp.Do(ctx, chromedp.Click(chromedp.CSS("#begin"))); err != nil {
		return err
	}
	for ctx.Err() == nil {
		pages, err := chromedp.Targets(ctx)
		if err != nil {
			return err
		}
		for _, p := range pages {
			if !strings.HasSuffix(p.URL, "/spa") {
				continue
			}
			tab, cancel := chromedp.NewContext(ctx, chromedp.WithTargetID(p.TargetID))
			defer cancel()
			return chromedp.Do(tab, chromedp.SendKeys(chromedp.CSS("#code"), "314159"), chromedp.Click(chromedp.CSS("#send")))
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return ctx.Err()
}

// A person logs in once, and what they did is a login that nobody has to make.
func TestARecordedLoginLogsIn(t *testing.T) {
	s := newSite(t)
	w := s.behind(t, "rules: []", nil)
	done, sent := make(chan struct{}), new(holdfast.Recording)
	w.stop()
	w.more = func(c *holdfast.Config) {
		c.Insecure, c.Browser.Hidden, c.Record = true, true, sent
		c.Browser.Attend = func(ctx context.Context) {
			defer close(done)
			err := chromedp.Do(ctx,
				chromedp.SendKeys(chromedp.CSS("[name=user]"), "alice"),
				chromedp.SendKeys(chromedp.CSS("#p"), `a "pass"`),
				chromedp.Evaluate[chromedp.Void](`{const s = document.querySelector("select"); s.value = "c"; s.dispatchEvent(new Event("change", {bubbles: true}))}`),
				chromedp.Click(chromedp.CSS("#terms")), chromedp.Click(chromedp.CSS("button")), chromedp.WaitVisible(chromedp.CSS("#account")))
			if err != nil {
				t.Error(err)
			}
		}
	}
	w.start("rules: []")
	recording, err := w.h.RecordBrowser(t.Context(), s.app.URL+"/login", done)
	if err != nil {
		t.Fatal(err)
	}
	posted := slices.ContainsFunc(sent.Exchanges(), func(x convert.Exchange) bool { return string(x.Request.Method()) == "POST" && len(x.RequestBody) > 0 })
	if !posted {
		t.Errorf("what the window sent was not recorded: %d exchanges", len(sent.Exchanges()))
	}
	yaml := recording.YAML("recorded")
	if strings.Contains(yaml, "pass\"") || strings.Contains(yaml, "alice") {
		t.Errorf("the recording holds what was typed:\n%s", yaml)
	}
	t.Setenv("USER", "alice")
	t.Setenv("PASS", `a "pass"`)
	w.stop()
	w.more = func(c *holdfast.Config) { c.Insecure = true }
	rules := strings.ReplaceAll(ssoRules[strings.Index(ssoRules, "rules:"):], "reauth_macro: sso", "reauth_macro: recorded")
	w.start(strings.ReplaceAll(yaml+"    timeout: 5m\n    take: {local_storage: [{token_name: ACCESS, key: auth, path: user.token}]}\nlimits: {wait: 10m}\n"+rules, "{{APP}}", s.app.URL))
	if code, body := s.ask(t, w.client); code != 200 {
		t.Errorf("got %d %q with\n%s\ntrace:\n%s", code, body, yaml, w.trace)
	}
}
