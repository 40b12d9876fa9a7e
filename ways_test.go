package holdfast_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// One request at a time, sessions that die under it, and logins that are not
// held behind those who wait.
func TestThrottledToolsKeepTheirSession(t *testing.T) {
	var now, most atomic.Int64
	c := newClock()
	w := newWorld(t, testenv.Origin{TLS: true, Clock: c.now, AccessTTL: time.Second, Observe: func(r *http.Request) {
		if r.URL.Path != "/api/items" {
			return
		}
		n := now.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		c.advance(time.Second / 8)
		now.Add(-1)
	}}, strings.Replace(seedRules, "{", `{"throttle": [{hosts: 127.0.0.1, tools: [scanner], concurrent: 1, rate: 1000/s, burst: 100}],`, 1))
	client := w.newClient("+scanner")
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			resp, err := client.Get(w.origin.URL + "/api/items")
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d requests were at the origin at once", most.Load())
	}
	if s := w.origin.Stats(); s.Died == 0 || s.Logins != s.Died+1 {
		t.Errorf("%d logins, %d sessions died", s.Logins, s.Died)
	}
}

func TestTheFileSaysWhereHostsAre(t *testing.T) {
	w := newWorld(t, testenv.Origin{}, "rules: []")
	w.stop()
	w.start("rules: []\nresolve: [{hosts: shop.invalid, address: \"" + strings.TrimPrefix(w.origin.URL, "http://") + "\"}]\n")
	resp, err := w.client.Get("http://shop.invalid/whoami")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
}
