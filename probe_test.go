package holdfast_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

const probeRules = `
macros:
  - name: login
    steps:
      - request: "POST {{ORIGIN}}/api/login HTTP/1.1\nContent-Type: application/json\n\n{\"username\":\"alice\",\"password\":\"alicepass\"}"
        extract: [{token_name: access_token, source: {type: JSON, path: access_token}}]
  - name: whoami
    steps:
      - request: "GET {{ORIGIN}}/api/items HTTP/1.1\nAuthorization: Bearer {{access_token}}\n\n"
rules:
  - name: api
    scope: {pattern: "127.0.0.1"}
    validation: {probe: {macro: whoami, every: 10, on_suspicion: true}}
    reauth_macro: login
    token_updates:
      - token_name: access_token
        target: {type: RequestHeader, name: Authorization}
`

// The path answers a dead session with 200 and an empty list. Clients that all
// ask at once see at most as many of these as the probe leaves between.
func TestAProbeFindsASessionThatDiesSilently(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true}, probeRules)
	_, full := w.get("/as/list")
	for round := range 3 {
		w.origin.KillAll()
		var mu sync.Mutex
		var group sync.WaitGroup
		empty := 0
		for range 4 {
			group.Go(func() {
				for range 15 {
					code, body := w.get("/as/list")
					mu.Lock()
					if code != 200 || strings.Contains(body, "[]") {
						empty++
					}
					mu.Unlock()
				}
			})
		}
		group.Wait()
		if empty > 9+4 { // those between two probes, and those under way
			t.Errorf("round %d: %d answers of a dead session", round, empty)
		}
	}
	if s := w.origin.Stats(); s.Logins != 4 || strings.Contains(full, "[]") {
		t.Errorf("%d logins for 3 deaths; the first answer was %s", s.Logins, full)
	}
}
