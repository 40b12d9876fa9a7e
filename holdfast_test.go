package holdfast_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

// clock is a time that the test moves.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ns.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func TestTheSeedsRulesHoldASessionOverManyTokenLives(t *testing.T) {
	c := newClock()
	var seen sync.Map // Authorization values
	w := newWorld(t, testenv.Origin{TLS: true, Clock: c.now, AccessTTL: time.Second, Observe: func(r *http.Request) {
		if r.URL.Path == "/api/items" {
			seen.Store(r.Header.Get("Authorization"), true)
		}
	}}, seedRules)
	const lives = 5
	for i := range 10 * lives {
		if code, body := w.get("/api/items"); code != 200 || !strings.Contains(body, `"identity":"alice"`) {
			t.Fatalf("request %d: %d %s", i, code, body)
		}
		c.advance(time.Second / 10)
	}
	tokens := 0
	seen.Range(func(v, _ any) bool {
		tokens++
		if !strings.HasPrefix(v.(string), "Bearer ") {
			t.Errorf("Authorization was %q; want a Bearer token", v)
		}
		return true
	})
	s := w.origin.Stats()
	if tokens < lives || s.Logins != s.Died+1 {
		t.Errorf("%d tokens, %d logins, %d sessions died; want a token for each of %d lives, and logins = deaths + 1", tokens, s.Logins, s.Died, lives)
	}
}

func TestTheAutorizeTutorialFromAColdStart(t *testing.T) {
	c := newClock()
	w := newWorld(t, testenv.Origin{TLS: true, Clock: c.now, Rotation: testenv.RotateAll, ReuseRevokes: true}, autorizeRules)
	for i := range 8 {
		if code, body := w.get("/auth/me"); code != 200 || !strings.Contains(body, "emilys") {
			t.Fatalf("request %d: %d %s", i, code, body)
		}
		c.advance(2 * time.Minute) // of a life of three
	}
	s := w.origin.Stats()
	if s.Logins != 1 || s.Refreshes != 4-1 && s.Refreshes != 4 || s.BurntRefreshes != 0 {
		t.Errorf("%d logins, %d refreshes, %d burnt; want one login, then a refresh for each token that died", s.Logins, s.Refreshes, s.BurntRefreshes)
	}
}

func TestADeadBodyBehindStatus200IsSeen(t *testing.T) {
	w := newWorld(t, testenv.Origin{DieAfter: 3}, `
macros:
  - name: login
    steps:
      - request: "POST {{ORIGIN}}/api/login HTTP/1.1\nContent-Type: application/json\n\n{\"username\":\"bob\",\"password\":\"bobpass\"}"
rules:
  - name: form
    scope: {pattern: "127.0.0.1"}
    validation: {check_type: {type: ResponseContains, value: 'name="password"'}}
    reauth_macro: login
    token_updates:
      - token_name: T
        source: {type: JSON, path: access_token}
        target: {type: RequestHeader, name: Authorization}
`)
	for i := range 20 {
		if code, body := w.get("/as/form"); code != 200 || strings.Contains(body, "password") {
			t.Fatalf("request %d: %d %s", i, code, body)
		}
	}
	if s := w.origin.Stats(); s.Logins != s.Died+1 {
		t.Errorf("%d logins for %d deaths", s.Logins, s.Died)
	}
}

func TestClientsThatMeetTheSameDeathCauseOneLogin(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true}, seedRules)
	if code, _ := w.get("/api/items"); code != 200 {
		t.Fatal(code)
	}
	w.origin.KillAll()
	const clients = 64
	// All 64 arrive before the first is answered: the same instant.
	w.origin.HoldAnswer("/api/items", "together")
	codes := make(chan int, clients)
	for range clients {
		go func() { code, _ := w.get("/api/items"); codes <- code }()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.origin.WaitHeld(ctx, "together", clients); err != nil {
		t.Fatal(err)
	}
	before := w.origin.Stats().Logins
	w.origin.Release("together")
	for range clients {
		if code := <-codes; code != 200 {
			t.Errorf("a client got %d", code)
		}
	}
	if got := w.origin.Stats().Logins - before; got != 1 {
		t.Errorf("%d logins; want exactly one", got)
	}
}

func TestALateDeadAnswerOfTheOldGenerationCausesNoLogin(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true}, seedRules)
	w.get("/api/items")
	w.origin.KillAll()
	// /late answers 401 at once but the answer waits at its gate, until the
	// session has long been recovered.
	w.origin.HoldAnswer("/as/401", "old")
	late := make(chan int, 1)
	go func() { code, _ := w.get("/as/401"); late <- code }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.origin.WaitHeld(ctx, "old", 1); err != nil {
		t.Fatal(err)
	}
	if code, _ := w.get("/api/items"); code != 200 {
		t.Fatal(code)
	}
	logins := w.origin.Stats().Logins
	w.origin.Release("old")
	if code := <-late; code != 200 {
		t.Errorf("the late request got %d; want 200, by sending it again", code)
	}
	if got := w.origin.Stats().Logins; got != logins {
		t.Errorf("the late 401 caused %d more logins", got-logins)
	}
}

func TestALateAnswerOfTheOldSessionDoesNotOverwriteTheToken(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true}, seedRules)
	w.get("/api/items")
	// The client's own login, answered late: its token is one of a session
	// that is older than the recovery.
	w.origin.HoldAnswer("/api/login", "old")
	done := make(chan string, 1)
	go func() {
		_, body := w.do("POST", "/api/login", strings.NewReader(`{"username":"bob","password":"bobpass"}`))
		done <- body
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.origin.WaitHeld(ctx, "old", 1); err != nil {
		t.Fatal(err)
	}
	w.origin.Kill("alice")
	recovered := make(chan int, 1)
	go func() { code, _ := w.get("/api/items"); recovered <- code }()
	if err := w.origin.WaitHeld(ctx, "old", 2); err != nil { // the macro's login
		t.Fatal(err)
	}
	w.origin.Release("old")
	if code := <-recovered; code != 200 {
		t.Fatalf("after the recovery: %d", code)
	}
	if body := <-done; !strings.Contains(body, "access_token") {
		t.Fatalf("the client's login: %s", body)
	}
	if _, body := w.get("/whoami"); !strings.Contains(body, "alice") {
		t.Errorf("the origin now sees %s; want alice: bob's late token must not have been taken", body)
	}
}

func TestAWrongPasswordStopsAndStaysStopped(t *testing.T) {
	rules := strings.ReplaceAll(seedRules, "alicepass", "wrong")
	w := newWorld(t, testenv.Origin{TLS: true}, "rules: []\n")
	w.stop()
	w.project = storetest.Project{DSN: filepath.Join(w.home, "project.db")}.Open(t, store.Options{})
	w.start(rules)
	for range 6 {
		resp, err := w.client.Get(w.origin.URL + "/api/items")
		if err != nil {
			t.Fatal(err)
		}
		var problem struct{ Reason, Detail, Next string }
		json.NewDecoder(resp.Body).Decode(&problem)
		resp.Body.Close()
		if resp.StatusCode != 502 || problem.Reason == "" || resp.Header.Get("Proxy-Status") == "" {
			t.Errorf("got %d %+v %v; want a 502 with the reason", resp.StatusCode, problem, resp.Header)
		}
	}
	if got := w.origin.Stats().FailedLogins; got != 3 {
		t.Errorf("%d failed logins; want 3", got)
	}
	w.stop()
	w.start(rules)
	if code, body := w.get("/api/items"); code != 502 || !strings.Contains(body, "session_locked") {
		t.Errorf("after a restart: %d %s; want 502 session_locked", code, body)
	}
	if got := w.origin.Stats().FailedLogins; got != 3 {
		t.Errorf("%d failed logins after the restart; want still 3", got)
	}
	if n, err := w.project.Forget(t.Context(), session.KeptLockout, session.OwnerOf("", 0)); n != 1 || err != nil {
		t.Fatalf("unlock: %d, %v", n, err)
	}
	w.get("/api/items")
	if got := w.origin.Stats().FailedLogins; got != 4 {
		t.Errorf("%d failed logins after unlocking; want a fourth try", got)
	}
}

func TestARefusedConnectionIsNoWrongPassword(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true}, seedRules)
	if err := w.origin.Refuse(true); err != nil {
		t.Fatal(err)
	}
	answered := make(chan int, 1)
	go func() { code, _ := w.get("/api/items"); answered <- code }()
	// The cold start tries to log in meanwhile, and in vain; then the origin
	// is back.
	w.tracedOwn("origin_unreachable")
	if err := w.origin.Refuse(false); err != nil {
		t.Fatal(err)
	}
	if code := <-answered; code != 200 {
		t.Errorf("got %d; want 200 after the origin came back", code)
	}
	if s := w.origin.Stats(); s.FailedLogins != 0 || s.Logins != 1 {
		t.Errorf("%d failed logins, %d logins; want 0 and 1", s.FailedLogins, s.Logins)
	}
}

// tracedOwn waits for a trace line of a request of Holdfast's own.
func (w *world) tracedOwn(text string) {
	w.t.Helper()
	w.traced(`"tool":"macro"`)
	w.traced(text)
}

const confirmRules = `
macros:
  - name: login
    steps:
      - request: "POST {{ORIGIN}}/api/login HTTP/1.1\nContent-Type: application/json\n\n{\"username\":\"alice\",\"password\":\"alicepass\"}"
        expect: 'resp.code.eq:200'
  - name: whoami
    steps:
      - request: "GET {{ORIGIN}}/api/items HTTP/1.1\nAuthorization: Bearer {{access_token}}\n\n"
        expect: 'resp.code.eq:200'
rules:
  - name: api
    scope: {pattern: "127.0.0.1"}
    validation:
      check_type: {type: StatusCode, value: [401, 403]}
      confirm: {macro: whoami}
    reauth_macro: login
    token_updates:
      - token_name: access_token
        source: {type: JSON, path: access_token}
        target: {type: RequestHeader, name: Authorization}
`

func TestA403ThatTheProbeContradictsPassesUntouched(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true}, confirmRules)
	w.get("/api/items")
	logins := w.origin.Stats().Logins
	direct, err := w.origin.Client().Get(w.origin.URL + "/forbidden")
	if err != nil {
		t.Fatal(err)
	}
	want, _ := io.ReadAll(direct.Body)
	direct.Body.Close()
	for range 5 {
		if code, body := w.get("/forbidden"); code != 403 || body != string(want) {
			t.Errorf("got %d %q; want the origin's 403 %q", code, body, want)
		}
	}
	if got := w.origin.Stats().Logins; got != logins {
		t.Errorf("%d logins for answers that are not about the session", got-logins)
	}
	w.origin.KillAll()
	if code, _ := w.get("/as/403"); code != 200 {
		t.Errorf("a 403 of a session that is dead: %d; want 200 after a recovery", code)
	}
}

func TestA403WithoutAProbeDoesNotLogInForEver(t *testing.T) {
	rules := strings.ReplaceAll(confirmRules, "      confirm: {macro: whoami}\n", "")
	w := newWorld(t, testenv.Origin{TLS: true}, rules)
	for range 50 {
		if code, _ := w.get("/api/items"); code != 200 {
			t.Fatalf("alive: %d", code)
		}
		if code, _ := w.get("/forbidden"); code != 403 && code != 502 {
			t.Fatalf("forbidden: %d", code)
		}
	}
	if s := w.origin.Stats(); s.Logins > 10 {
		t.Errorf("%d logins for a path that no login changes", s.Logins)
	}
}

func TestALargePostIsSentAgainComplete(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true}, seedRules)
	w.get("/api/items")
	body := make([]byte, 5<<20)
	for i := range body {
		body[i] = byte(rand.Uint32())
	}
	sum := sha256.Sum256(body)
	for name, reader := range map[string]io.Reader{
		"with a length": bytes.NewReader(body),
		"in chunks":     struct{ io.Reader }{bytes.NewReader(body)},
	} {
		w.origin.KillAll()
		id := strings.ReplaceAll(name, " ", "-")
		code, answer := w.do("POST", "/api/items?id="+id, reader)
		if code != 200 || !strings.Contains(answer, hex.EncodeToString(sum[:])) {
			t.Errorf("%s: %d %s; want the hash of the whole body", name, code, answer)
		}
		if n := w.origin.Applied(id); n != 1 {
			t.Errorf("%s: applied %d times", name, n)
		}
	}
}

func TestABodyAboveTheLimitIsNotSentAgain(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true}, strings.Replace(seedRules, `"auto_extract"`, `"limits": {"resend_body": "1MiB"}, "auto_extract"`, 1))
	w.get("/api/items")
	w.origin.KillAll()
	code, answer := w.do("POST", "/api/items", bytes.NewReader(make([]byte, 2<<20)))
	if code != 401 || !strings.Contains(answer, "unauthorized") {
		t.Errorf("got %d %s; want the origin's own answer", code, answer)
	}
	w.traced("its body is larger than limits.resend_body")
	if code, _ := w.get("/api/items"); code != 200 {
		t.Errorf("the next request: %d; want 200 with a new session", code)
	}
}

func TestACookieSessionWithAHiddenFormField(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true, DieAfter: 5}, `
macros:
  - name: login
    steps:
      - request: "GET {{ORIGIN}}/login HTTP/1.1\n\n"
        extract: [{token_name: CSRF, source: {type: FormField, name: _csrf}}]
      - request: |
          POST {{ORIGIN}}/login HTTP/1.1
          Content-Type: application/x-www-form-urlencoded

          username=alice&password=alicepass&_csrf={{CSRF}}
        expect: 'resp.code.eq:302'
rules:
  - name: shop
    scope: {pattern: "127.0.0.1"}
    validation: {check_type: {type: RedirectTo, value: "/login"}}
    reauth_macro: login
    token_updates:
      - token_name: sid
        source: {type: Cookie, name: sid}
        target: {type: Cookie, name: sid}
`)
	for i := range 25 {
		if code, body := w.get("/account"); code != 200 || !strings.Contains(body, "alice") {
			t.Fatalf("request %d: %d %.200s", i, code, body)
		}
	}
	if s := w.origin.Stats(); s.Logins != s.Died+1 || s.CSRFReused != 0 {
		t.Errorf("%d logins, %d deaths, %d CSRF tokens used twice", s.Logins, s.Died, s.CSRFReused)
	}
}

func TestManyClientsAndManyDeaths(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true, DieAfter: 200, Rotation: testenv.RotateAll, ReuseRevokes: true}, strings.Replace(autorizeRules,
		`'resp.raw.cont:"Token Expired!"'`, `'resp.code.eq:401'`, 1))
	const clients, each = 40, 100
	var group sync.WaitGroup
	var dead atomic.Int64
	for range clients {
		group.Go(func() {
			for range each {
				if code, _ := w.get("/auth/me"); code != 200 {
					dead.Add(1)
				}
			}
		})
	}
	group.Wait()
	s := w.origin.Stats()
	if dead.Load() != 0 || s.Replaced != 0 || s.BurntRefreshes != 0 || s.FailedLogins != 0 {
		t.Errorf("dead answers %d, sessions replaced alive %d, burnt refresh tokens %d, failed logins %d; want none", dead.Load(), s.Replaced, s.BurntRefreshes, s.FailedLogins)
	}
	if got, want := s.Logins+s.Refreshes, s.Died+s.Current; got != want {
		t.Errorf("%d logins and refreshes; want %d", got, want)
	}
	w.stop() // a flow ends after its client has the answer
	if totals := w.h.Totals(); totals.Requests != clients*each || totals.Lost != 0 {
		t.Errorf("totals %+v", totals)
	}
}

func TestWhoAsksIsWhoIsLoggedIn(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true}, strings.NewReplacer("zoe:", "bob:", "amy:", "alice:").Replace(twoIdentities))
	var group sync.WaitGroup
	for _, name := range []string{"alice", "bob", "alice+scanner", "bob+ffuf"} {
		client := w.newClient(name)
		identity, _, _ := strings.Cut(name, "+")
		for range 4 {
			group.Go(func() {
				for range 25 {
					resp, err := client.Get(w.origin.URL + "/api/items")
					if err != nil {
						t.Error(err)
						return
					}
					body, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode != 200 || !strings.Contains(string(body), fmt.Sprintf(`"identity":%q`, identity)) {
						t.Errorf("%s was answered %d %s", name, resp.StatusCode, body)
					}
				}
			})
		}
	}
	group.Wait()
	resp, err := w.newClient("mallory").Get(w.origin.URL + "/api/items")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 400 {
		t.Errorf("an unknown identity got %d; want 400", resp.StatusCode)
	}
}
