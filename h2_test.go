package holdfast_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// useHTTP2 has the world's client speak HTTP/2 where it is offered.
func (w *world) useHTTP2() { w.client.Transport.(*http.Transport).ForceAttemptHTTP2 = true }

func TestTheSeedsRulesHoldASessionOverHTTP2(t *testing.T) {
	c := newClock()
	w := newWorld(t, testenv.Origin{TLS: true, HTTP2: true, Clock: c.now, AccessTTL: time.Second, Observe: func(r *http.Request) {
		if r.URL.Path == "/api/items" && r.ProtoMajor != 2 {
			t.Errorf("the origin was asked by %s", r.Proto)
		}
	}}, seedRules)
	w.useHTTP2()
	for i := range 50 {
		resp, err := w.client.Get(w.origin.URL + "/api/items")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
			t.Fatalf("request %d: %d by %s", i, resp.StatusCode, resp.Proto)
		}
		c.advance(time.Second / 10)
	}
	if s := w.origin.Stats(); s.Logins != s.Died+1 || s.Died < 4 {
		t.Errorf("%d logins for %d deaths", s.Logins, s.Died)
	}
	w.traced("header:authorization: token access_token")
}

func TestStreamsThatMeetTheSameDeathCauseOneLogin(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true, HTTP2: true}, seedRules)
	w.useHTTP2()
	if code, _ := w.get("/api/items"); code != 200 {
		t.Fatal(code)
	}
	w.origin.KillAll()
	const streams = 64
	w.origin.HoldAnswer("/api/items", "together")
	codes := make(chan int, streams)
	for range streams {
		go func() { code, _ := w.get("/api/items"); codes <- code }()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.origin.WaitHeld(ctx, "together", streams); err != nil {
		t.Fatal(err)
	}
	before := w.origin.Stats()
	w.origin.Release("together")
	for range streams {
		if code := <-codes; code != 200 {
			t.Errorf("a stream was answered %d", code)
		}
	}
	after := w.origin.Stats()
	if got := after.Logins - before.Logins; got != 1 {
		t.Errorf("%d logins; want exactly one", got)
	}
	// The login itself goes out by HTTP/1.1, on a connection of its own.
	if after.Connections > 3 {
		t.Errorf("%d connections to the origin for %d streams", after.Connections, streams)
	}
}
