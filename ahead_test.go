package holdfast_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// slowClock goes at a thirtieth of the speed: sessions live that much longer than
// the origin says, so that a slow machine is in time.
func slowClock() func() time.Time {
	began := time.Now()
	return func() time.Time { return began.Add(time.Since(began) / 30) }
}

// Tokens that are good for four seconds, as they say, and are replaced after
// two, over real sockets: clients that ask all the time never cause a dead answer,
// and there is one login for each life used.
func TestSessionsAreRecoveredBeforeTheyEnd(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true, AccessTTL: 4 * time.Second, Clock: slowClock()}, strings.Replace(seedRules,
		`"enabled": true,`, `"proactive": {"skew": "2s"}, "enabled": true,`, 1))
	began := time.Now()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for w.origin.Stats().Logins < 4 && time.Since(began) < patience && !t.Failed() {
				if code, body := w.get("/api/items"); code != 200 {
					t.Errorf("%d %s", code, body)
				}
			}
		})
	}
	group.Wait()
	// Each life is used for two seconds, and a tenth less at most.
	s, lives := w.origin.Stats(), int(time.Since(began)/(1800*time.Millisecond))+1
	if s.DeadAnswers > 0 || s.Died > 0 || s.Logins < 3 || s.Logins > lives || s.Replaced != s.Logins-1 {
		t.Errorf("%d dead answers, %d sessions died, %d logins for up to %d lives used, %d replaced alive",
			s.DeadAnswers, s.Died, s.Logins, lives, s.Replaced)
	}
	if st := w.h.Sessions()[0]; st.State != "alive" || st.Ends.IsZero() || !strings.Contains(st.Why, "expires_in") {
		t.Errorf("status %+v", st)
	}
	// Nobody uses it any more: one login at most, for what was asked last.
	<-time.After(4500 * time.Millisecond)
	idle := w.origin.Stats()
	if idle.Logins > s.Logins+1 {
		t.Errorf("%d logins for an idle proxy", idle.Logins-s.Logins)
	}
	if code, _ := w.get("/api/items"); code != 200 || w.origin.Stats().DeadAnswers > 0 {
		t.Errorf("after a pause: %d, %d dead answers", code, w.origin.Stats().DeadAnswers)
	}
}

// A refresh token that is good for one use, and revokes the grant when it is
// used again, survives being refreshed ahead by many clients at once.
func TestRefreshTokensThatRotateAreSpentOnceAhead(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true, AccessTTL: 4 * time.Second, Clock: slowClock(), Rotation: testenv.RotateAll, ReuseRevokes: true}, `
macros:
  - name: refresh
    steps:
      - request: "POST {{ORIGIN}}/oauth/token HTTP/1.1\nContent-Type: application/x-www-form-urlencoded\n\ngrant_type=refresh_token&refresh_token={{REFRESH}}"
        extract: &tokens
          - {token_name: ACCESS, source: {type: JSON, path: access_token}}
          - {token_name: REFRESH, source: {type: JSON, path: refresh_token}}
  - name: login
    steps:
      - request: "POST {{ORIGIN}}/oauth/token HTTP/1.1\nContent-Type: application/x-www-form-urlencoded\n\ngrant_type=password&username=alice&password=alicepass"
        extract: *tokens
rules:
  - name: api
    scope: {pattern: "127.0.0.1"}
    validation: {check_type: {type: StatusCode, value: 401}}
    reauth_macro: [refresh, login]
    proactive: {skew: 2s, jitter: 100%}
    token_updates: [{token_name: ACCESS, target: {type: RequestHeader, name: Authorization}}]
`)
	began := time.Now()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for w.origin.Stats().Refreshes < 3 && time.Since(began) < patience && !t.Failed() {
				if code, body := w.get("/oauth/userinfo"); code != 200 {
					t.Errorf("%d %s", code, body)
				}
			}
		})
	}
	group.Wait()
	if s := w.origin.Stats(); s.Logins != 1 || s.Refreshes < 2 || s.FailedRefreshes > 0 || s.BurntRefreshes > 0 || s.DeadAnswers > 0 {
		t.Errorf("stats %+v", s.Counts)
	}
}
