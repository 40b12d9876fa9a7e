package holdfast_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

// The sessions of a pool log in with one-time codes on several nodes: no code is
// sent twice, and each session that dies costs one login.
func TestAFleetUsesACodeOnce(t *testing.T) {
	const sessions, nodes, deaths = 2, 3, 3
	rules := strings.Replace(poolRules(`sessions: 2, totp: "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP&period=1&digits=8"`),
		"    steps:\n", "    steps:\n      - request: \"GET {{ORIGIN}}/echo?code={{totp}} HTTP/1.1\\n\\n\"\n", 1)
	var mu sync.Mutex
	codes := make(map[string]int)
	origin, err := testenv.Origin{ManySessions: true, Observe: func(r *http.Request) {
		if r.URL.Path == "/echo" {
			mu.Lock()
			defer mu.Unlock()
			codes[r.URL.Query().Get("code")]++
		}
	}}.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(origin.Close)
	project := storetest.Project{DSN: storetest.Postgres(t)}
	var fleet []*world
	for range nodes {
		w := &world{t: t, origin: origin, home: t.TempDir(), project: project.Open(t, store.Options{})}
		w.start(rules)
		fleet = append(fleet, w)
	}
	all(t, fleet, 4)
	for range deaths {
		origin.KillAll()
		all(t, fleet, 4)
	}
	for _, w := range fleet {
		w.stop()
	}
	s := origin.Stats()
	if s.Logins < deaths+1 || s.Logins > sessions*(deaths+1) || s.Logins != s.Died+s.Current || s.FailedLogins > 0 {
		t.Errorf("%d logins for %d deaths, %d live, %d failed", s.Logins, s.Died, s.Current, s.FailedLogins)
	}
	sent := 0
	for code, n := range codes {
		if sent += n; n != 1 {
			t.Errorf("%s was sent %d times", code, n)
		}
	}
	if sent != s.Logins {
		t.Errorf("%d codes for %d logins", sent, s.Logins)
	}
}
