package holdfast_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// example is a file of docs/examples for the test's origin.
func example(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile("docs/examples/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("https://shop.example", "{{ORIGIN}}", "shop.example", "127.0.0.1", "${env:SHOP_PASS}", "alicepass").Replace(string(raw))
}

// change is a client's write, with a CSRF token that was never any good.
func (w *world) change(id string) (status int, body string, err error) {
	form := url.Values{"__csrftoken": {"stale"}, "email": {id + "@shop.example"}, "id": {id}}
	req, err := http.NewRequest("POST", w.origin.URL+"/account/email", strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Cookie", "sid=of-yesterday")
	resp, err := w.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw), err
}

// Burp's three example rules under parallel clients, while sessions die: every
// write takes effect once, each death costs one login, and no CSRF token is
// sent twice.
func TestBurpsThreeRulesUnderParallelClients(t *testing.T) {
	const clients, each = 32, 8
	w := newWorld(t, testenv.Origin{TLS: true, CSRFField: "__csrftoken"}, example(t, "burp-rules.yaml"))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var answered atomic.Int64
	var killer, all sync.WaitGroup
	killer.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for seen := int64(0); ; {
			select {
			case <-tick.C:
				if n := answered.Load(); n >= seen+2*clients { // a death needs a session that lives
					seen = n
					w.origin.KillAll()
				}
			case <-ctx.Done():
				return
			}
		}
	})
	for c := range clients {
		all.Go(func() {
			for n := range each {
				if ctx.Err() != nil { // a slow machine sends fewer
					return
				}
				id := fmt.Sprintf("c%d-n%d", c, n)
				status, body, err := w.change(id)
				if err != nil || status != 200 || !strings.Contains(body, "Saved <b>"+id+"@") {
					t.Errorf("%s: %d %s %v", id, status, body, err)
				} else if n := w.origin.Applied(id); n != 1 {
					t.Errorf("%s took effect %d times", id, n)
				}
				answered.Add(1)
			}
		})
	}
	all.Wait()
	cancel()
	killer.Wait()
	s, totals := w.origin.Stats(), w.h.Totals()
	t.Logf("%d writes, %d deaths, %d logins, %d sent again, %d requests of the origin", s.Writes, s.Died, s.Logins, totals.Absorbed, s.Requests)
	if s.CSRFRepeated != 0 || s.CSRFReused != 0 || s.CSRFRefused != 0 {
		t.Errorf("CSRF tokens: %d sent twice, %d reused, %d refused", s.CSRFRepeated, s.CSRFReused, s.CSRFRefused)
	}
	if s.Logins != s.Died+s.Current || s.Replaced != 0 || s.FailedLogins != 0 {
		t.Errorf("%d logins, %d sessions died and %d live; %d replaced alive, %d failed logins", s.Logins, s.Died, s.Current, s.Replaced, s.FailedLogins)
	}
	if s.Died < 2 || int64(s.Writes) != answered.Load() || s.Duplicates != 0 {
		t.Errorf("%d deaths; %d writes of %d took effect, %d of them twice", s.Died, s.Writes, answered.Load(), s.Duplicates)
	}
	if totals.Lost != 0 || totals.Refused != 0 || totals.Failed != 0 {
		t.Errorf("totals %+v", totals)
	}
	w.traced("run_macro: form:__csrftoken: *** is now ***")
	if out := w.trace.String(); strings.Contains(out, "alicepass") {
		t.Error("the password is in the trace")
	}
}

// A write whose session dies while it is under way is sent again with another
// token than it had.
func TestAWriteThatIsSentAgainCarriesAFreshToken(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true, CSRFField: "__csrftoken"}, example(t, "burp-rules.yaml"))
	if status, _ := w.get("/account"); status != 200 {
		t.Fatalf("got %d", status)
	}
	w.origin.Hold("/account/email", "write")
	done := make(chan string, 1)
	go func() {
		status, body, err := w.change("one")
		done <- fmt.Sprint(status, " ", strings.Contains(body, "Saved"), " ", err)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.origin.WaitHeld(ctx, "write", 1); err != nil {
		t.Fatal(err)
	}
	w.origin.KillAll()
	w.origin.Release("write")
	if got := <-done; got != "200 true <nil>" {
		t.Errorf("the client got %s", got)
	}
	if s := w.origin.Stats(); s.CSRFRepeated != 0 || s.CSRFRefused != 0 || s.Writes != 1 || s.Logins != 2 {
		t.Errorf("stats %+v", s.Counts)
	}
	w.traced("sent again, time 1")
}

// The answer of the macro behind a request reaches the client whole, whatever
// the two sides speak.
func TestARunPostRequestMacrosAnswerIsTheClients(t *testing.T) {
	rules := strings.Replace(example(t, "burp-rules.yaml"), "run_macro: {macro: account, update_params: {only: [__csrftoken]}}", "run_post_request_macro: {macro: account}", 1)
	rules = strings.Replace(rules, "/account/email", "/account/passwordless", 1)
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("HTTP2=", h2), func(t *testing.T) {
			w := newWorld(t, testenv.Origin{TLS: true, HTTP2: h2, Gzip: true, CSRFField: "__csrftoken"}, rules)
			for range 3 { // the connection goes on
				if status, body := w.get("/account/passwordless"); status != 200 || !strings.Contains(body, "Signed in as <b>alice</b>") || !strings.HasSuffix(body, "</html>\n") {
					t.Errorf("got %d %s", status, body)
				}
			}
			if h2 {
				w.useHTTP2()
			}
			if status, body := w.get("/account/passwordless"); status != 200 || !strings.HasSuffix(body, "</html>\n") {
				t.Errorf("got %d %s", status, body)
			}
			w.traced("the client gets the answer of the macro's last step (pass_back: final)")
		})
	}
}

// An interval has a session in use renewed each time, behind the requests.
func TestATriggerByInterval(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true}, triggered+"    on: {interval: 1s}\n")
	for deadline := time.Now().Add(patience); w.origin.Stats().Logins < 2; <-time.After(20 * time.Millisecond) {
		if status, _ := w.get("/api/items"); status != 200 {
			t.Fatalf("got %d", status)
		}
		if time.Now().After(deadline) {
			t.Fatal("the macro did not run again")
		}
	}
	if status, _ := w.get("/api/items"); status != 200 {
		t.Errorf("got %d", status)
	}
}

// triggered is a rule that lacks its trigger.
const triggered = `
macros:
  - name: login
    steps:
      - request: |
          POST {{ORIGIN}}/api/login HTTP/1.1
          Content-Type: application/json

          {"username":"alice","password":"alicepass"}
        extract: [{token_name: T, source: {type: JSON, path: access_token}}]
rules:
  - name: triggered
    scope: {pattern: 127.0.0.1}
    run: login
    token_updates: [{token_name: T, target: {type: RequestHeader, name: Authorization}}]
`

// Triggers on the wire: each runs its macro, and the token that it
// brings goes into requests.
func TestTriggers(t *testing.T) {
	for _, c := range []struct {
		on       string
		statuses string // of four requests; the session dies after the second
		logins   int
	}{
		{"always", "200 200 200 200", 4},
		{"{interval: 1h}", "200 200 401 401", 1}, // it does not look at answers
		{"{status: [401]}", "200 200 401 200", 2},
		{"{body_contains: unauthorized}", "200 200 401 200", 2},
	} {
		t.Run(c.on, func(t *testing.T) {
			w := newWorld(t, testenv.Origin{TLS: true}, triggered+"    on: "+c.on+"\n")
			var got []string
			for i := range 4 {
				if i == 2 {
					w.origin.KillAll()
				}
				status, _ := w.get("/api/items")
				got = append(got, fmt.Sprint(status))
			}
			if s := w.origin.Stats(); strings.Join(got, " ") != c.statuses || s.Logins != c.logins {
				t.Errorf("got %v with %d logins, want %s with %d", got, s.Logins, c.statuses, c.logins)
			}
		})
	}
}
