package holdfast_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// poolRules keep alice logged in by the JSON API. identity is what stands under
// alice.
func poolRules(identity string) string {
	return `
identities:
  alice: {` + identity + `}
macros:
  - name: login
    steps:
      - request: "POST {{ORIGIN}}/api/login HTTP/1.1\nContent-Type: application/json\n\n{\"username\":\"{{USER}}\",\"password\":\"{{PASS}}\"}"
        extract: [{token_name: ACCESS, source: {type: JSON, path: access_token}}]
        expect: 'resp.code.eq:200'
variables: {USER: alice, PASS: alicepass}
rules:
  - name: api
    scope: {pattern: "127.0.0.1"}
    validation: {check_type: {type: StatusCode, value: 401}}
    reauth_macro: login
    token_updates: [{token_name: ACCESS, target: {type: RequestHeader, name: Authorization}}]
`
}

// seenTokens are the credentials that the origin was asked with, each once, the
// newest last.
type seenTokens struct {
	mu  sync.Mutex
	all []string
}

func (s *seenTokens) add(credential string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, had := range s.all {
		if had == credential {
			return
		}
	}
	s.all = append(s.all, credential)
}

// pick is one of the newest n.
func (s *seenTokens) pick(n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := s.all[max(0, len(s.all)-n):]
	if len(newest) == 0 {
		return ""
	}
	return newest[rand.IntN(len(newest))]
}

// fetch is one request of one client, read to its end.
func fetch(c *http.Client, req *http.Request) (int, string, error) {
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw), err
}

// wantOneLoginPerDeath compares what the origin counted: no session lives that
// is not one of the pool.
func (w *world) wantOneLoginPerDeath(sessions int) {
	w.t.Helper()
	s, totals := w.origin.Stats(), w.h.Totals()
	w.t.Logf("%d requests, %d deaths, %d logins, %d live", totals.Requests, s.Died, s.Logins, s.Current)
	if s.Died < sessions {
		w.t.Errorf("%d sessions died: too few to prove anything", s.Died)
	}
	if s.Logins != s.Died+s.Current || s.Current > sessions || s.FailedLogins != 0 {
		w.t.Errorf("%d logins for %d deaths, %d sessions live, %d failed logins", s.Logins, s.Died, s.Current, s.FailedLogins)
	}
	if s.Conflicts > 0 || s.CSRFRefused > 0 {
		w.t.Errorf("%d requests met another of their session, %d CSRF tokens were refused", s.Conflicts, s.CSRFRefused)
	}
	if totals.Lost != 0 || totals.Refused != 0 || totals.Failed != 0 {
		w.t.Errorf("totals %+v", totals)
	}
	for _, one := range w.h.Sessions() {
		if one.State == "locked" || one.Sessions != sessions || one.Session < 1 || one.Session > sessions {
			w.t.Errorf("status %+v", one)
		}
	}
}

// An origin that answers 409 to the second request of a session, 16 clients,
// four sessions that die at random.
func TestAPoolForAnOriginThatAllowsOneRequestAtATime(t *testing.T) {
	const clients, each, sessions = 16, 15, 4
	for _, proto := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(proto, func(t *testing.T) {
			var seen seenTokens
			w := newWorld(t, testenv.Origin{TLS: true, HTTP2: proto == "HTTP/2", ManySessions: true, OneAtATime: true, Observe: func(r *http.Request) {
				if r.URL.Path == "/api/items" {
					seen.add(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
				}
			}}, poolRules(fmt.Sprintf("sessions: %d, exclusive: true", sessions)))
			var all sync.WaitGroup
			shared := w.newClient("")
			shared.Transport.(*http.Transport).ForceAttemptHTTP2 = true
			for range clients {
				client := shared // whose streams run at the same time
				if proto != "HTTP/2" {
					client = w.newClient("")
				}
				all.Go(func() {
					for i := range each {
						req, err := http.NewRequest("GET", w.origin.URL+"/api/items", nil)
						if err != nil {
							t.Error(err)
							return
						}
						if code, body, err := fetch(client, req); code != 200 || err != nil {
							t.Errorf("a client got %d %s, %v", code, body, err)
						}
						if i%5 == 4 {
							w.origin.KillSession(seen.pick(sessions))
						}
					}
				})
			}
			all.Wait()
			w.wantOneLoginPerDeath(sessions)
			for i := range w.h.Sessions() { // HTTP/2 uses as many as there are streams at the same time
				w.traced(fmt.Sprintf("session %d of %d", i+1, sessions))
			}
			if n := len(w.h.Sessions()); proto != "HTTP/2" && n != sessions {
				t.Errorf("%d sessions were used", n)
			}
		})
	}
}

// As many requests as there are sessions are under way, and no more.
func TestAnExclusivePoolSendsOneRequestPerSession(t *testing.T) {
	const clients, sessions = 8, 3
	w := newWorld(t, testenv.Origin{TLS: true, ManySessions: true, OneAtATime: true}, poolRules(fmt.Sprintf("sessions: %d, exclusive: true", sessions)))
	w.origin.Hold("/api/items", "gate")
	defer w.origin.Release("gate")
	codes := make(chan int, clients)
	for range clients {
		client := w.newClient("")
		go func() {
			req, _ := http.NewRequest("GET", w.origin.URL+"/api/items", nil)
			code, _, _ := fetch(client, req)
			codes <- code
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.origin.WaitHeld(ctx, "gate", sessions); err != nil {
		t.Error(err)
	}
	w.origin.Release("gate")
	for range clients {
		if code := <-codes; code != 200 {
			t.Errorf("a client got %d", code)
		}
	}
	if s := w.origin.Stats(); s.Conflicts != 0 || s.Logins != sessions {
		t.Errorf("%d conflicts, %d logins", s.Conflicts, s.Logins)
	}
}

const poolOfForms = `
identities:
  alice: {sessions: 16, when_busy: wait}
macros:
  - name: login
    steps:
      - request: "GET {{ORIGIN}}/login HTTP/1.1\n\n"
        extract: [{token_name: VISIT, source: {type: FormField, name: _csrf}}]
      - request: "POST {{ORIGIN}}/login HTTP/1.1\nContent-Type: application/x-www-form-urlencoded\n\n_csrf={{VISIT}}&username=alice&password=alicepass"
        extract: [{token_name: SID, source: {type: Cookie, name: sid}}]
        expect: 'resp.code.eq:302'
      - request: "GET {{ORIGIN}}/account HTTP/1.1\n\n"
        extract: [{token_name: CSRF, source: {type: FormField, name: _csrf}}]
rules:
  - name: forms
    scope: {pattern: "127.0.0.1"}
    validation: {check_type: {type: RedirectTo, value: /login}}
    reauth_macro: login
    token_updates:
      - {token_name: SID, target: {type: Cookie, name: sid}}
      - {token_name: CSRF, source: {type: FormField, name: _csrf}, target: {type: FormParam, name: _csrf, if_absent: skip}}
`

// A CSRF token is good for one post of the session that it was made for: each of
// 16 clients has a session of its own, while sessions die at random.
func TestAPoolForAnOriginThatBindsCSRFTokensToSessions(t *testing.T) {
	const clients, each = 16, 6
	var seen seenTokens
	w := newWorld(t, testenv.Origin{TLS: true, ManySessions: true, Observe: func(r *http.Request) {
		if c, err := r.Cookie("sid"); err == nil && r.URL.Path == "/account/email" {
			seen.add(c.Value)
		}
	}}, poolOfForms)
	field := regexp.MustCompile(`name="_csrf" value="([^"]+)"`)
	var all sync.WaitGroup
	for n := range clients {
		client := w.newClient("")
		client.Transport.(*http.Transport).MaxConnsPerHost = 1
		all.Go(func() {
			for i := range each {
				req, _ := http.NewRequest("GET", w.origin.URL+"/account", nil)
				code, page, err := fetch(client, req)
				found := field.FindStringSubmatch(page)
				if code != 200 || err != nil || found == nil {
					t.Errorf("the form: %d %s, %v", code, page, err)
					return
				}
				if i%2 == 1 {
					w.origin.KillSession(seen.pick(clients))
				}
				id := fmt.Sprintf("%d-%d", n, i)
				form := url.Values{"_csrf": {strings.ReplaceAll(found[1], "&#43;", "+")}, "email": {"a@shop.example"}, "id": {id}}
				req, _ = http.NewRequest("POST", w.origin.URL+"/account/email", strings.NewReader(form.Encode()))
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				if code, page, err := fetch(client, req); code != 200 || err != nil || w.origin.Applied(id) != 1 {
					t.Errorf("the post: %d %s, %v, applied %d times", code, page, err, w.origin.Applied(id))
				}
			}
		})
	}
	all.Wait()
	w.wantOneLoginPerDeath(clients)
}

// However many sessions log in at once, no more than the lockout allows fail,
// and logins that succeed are no failures.
func TestAPoolSpendsNoMoreFailedLoginsThanOneSession(t *testing.T) {
	const clients = 12
	w := newWorld(t, testenv.Origin{TLS: true, ManySessions: true}, poolRules("sessions: 12"))
	for range 3 {
		held := make([]*http.Client, clients)
		var all sync.WaitGroup
		for i := range held {
			held[i] = w.newClient("")
			all.Go(func() {
				req, _ := http.NewRequest("GET", w.origin.URL+"/api/items", nil)
				if code, body, err := fetch(held[i], req); code != 200 || err != nil {
					t.Errorf("%d %s, %v", code, body, err)
				}
			})
		}
		all.Wait()
		w.origin.KillAll()
	}
	if s := w.origin.Stats(); s.FailedLogins != 0 || s.Logins < clients {
		t.Errorf("%d logins, %d failed", s.Logins, s.FailedLogins)
	}
	w.origin.FailLogins(1000)
	var all sync.WaitGroup
	for range clients {
		client := w.newClient("")
		all.Go(func() {
			req, _ := http.NewRequest("GET", w.origin.URL+"/api/items", nil)
			if code, body, err := fetch(client, req); code != 502 || err != nil {
				t.Errorf("without a session: %d %s, %v", code, body, err)
			}
		})
	}
	all.Wait()
	if s := w.origin.Stats(); s.FailedLogins != 3 {
		t.Errorf("%d failed logins", s.FailedLogins)
	}
}
