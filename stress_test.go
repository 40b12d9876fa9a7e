package holdfast_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// Sessions die every now and then, by the clock and not by count, under many
// connections: no client sees it, and nobody logs in more often than sessions
// died.
func TestSessionsThatDieAllTheTimeUnderManyConnections(t *testing.T) {
	const connections, each = 64, 60
	w := newWorld(t, testenv.Origin{TLS: true}, seedRules)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var answered atomic.Int64
	var killer, clients sync.WaitGroup
	killer.Go(func() {
		// A death needs a session that lives: the next one waits for answers,
		// so that a slow machine makes fewer deaths and not longer runs.
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for seen := int64(0); ; {
			select {
			case <-tick.C:
				if n := answered.Load(); n >= seen+connections {
					seen = n
					w.origin.KillAll()
				}
			case <-ctx.Done():
				return
			}
		}
	})
	for range connections {
		clients.Go(func() {
			for range each {
				code, body := w.get("/api/items")
				if code != 200 || !strings.Contains(body, `"identity":"alice"`) {
					t.Errorf("a client got %d %s", code, body)
				}
				answered.Add(1)
			}
		})
	}
	clients.Wait()
	cancel()
	killer.Wait()
	s, totals := w.origin.Stats(), w.h.Totals()
	t.Logf("%d requests, %d deaths, %d logins, %d sent again", totals.Requests, s.Died, s.Logins, totals.Absorbed)
	if s.Died < 3 {
		t.Errorf("%d sessions died in %d requests: too few to prove anything", s.Died, answered.Load())
	}
	if s.Logins != s.Died+s.Current || s.Replaced != 0 || s.FailedLogins != 0 {
		t.Errorf("%d logins, %d sessions died and %d live; %d replaced alive, %d failed logins", s.Logins, s.Died, s.Current, s.Replaced, s.FailedLogins)
	}
	if totals.Lost != 0 || totals.Refused != 0 || totals.Failed != 0 {
		t.Errorf("totals %+v", totals)
	}
	for _, one := range w.h.Sessions() {
		if one.State == "locked" {
			t.Errorf("locked: %+v", one)
		}
	}
}
