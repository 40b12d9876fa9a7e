package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

// A proxy that keeps nobody logged in: what the origin answers is what the
// clients see, and the figures say so.
func TestDeathsAreCounted(t *testing.T) {
	org, tg := newTarget(t, "reference")
	m := &mortal{token: "session-0"}
	org.setMortal(m)
	o := &deathsOptions{requests: 20, conns: 2, rate: 100_000, life: time.Minute}
	all, took, err := o.mourn(t.Context(), tg, "session-0", m.kill)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = o.tell(&out, "", nil, 0, all, took, m, nil)
	if err == nil || !strings.Contains(out.String(), "dead answers to clients     20\n") || !strings.Contains(out.String(), "deaths observed             1\n") {
		t.Errorf("error %v, told\n%s", err, out.String())
	}
	m.respond([]byte("POST /login HTTP/1.1\r\n\r\n"))
	all, _, err = o.mourn(t.Context(), tg, m.token, func() {})
	if err != nil || len(all) != 20 {
		t.Errorf("after the login: %d requests, %v", len(all), err)
	}
	for _, a := range all {
		if a.fate != fateAlive {
			t.Errorf("after the login: fate %d", a.fate)
		}
	}
	if m.needless != 0 || len(m.spans) != 1 || m.logins != 1 {
		t.Errorf("%d logins, %d needless, spans %v", m.logins, m.needless, m.spans)
	}
	if m.respond([]byte("POST /login HTTP/1.1\r\n\r\n")); m.needless != 1 {
		t.Error("a login while the session lived was not counted")
	}
}

func TestOutsideOfRecoveries(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1, 0).Add(time.Duration(ms) * time.Millisecond) }
	all := []asked{
		{at(40), at(45), fateAlive}, // behind
		{at(0), at(5), fateAlive},   // before
		{at(8), at(12), fateAlive},  // it began before the first
		{at(12), at(13), fateAlive}, // within
		{at(14), at(29), fateAlive}, // ended behind
		{at(21), at(22), fateDead},  // not good
		{at(21), at(24), fateAlive}, // between
		{at(5), at(35), fateAlive},  // over both
	}
	latencies, inside := outside(all, []span{{at(10), at(20)}, {at(30), at(32)}})
	if len(latencies) != 3 || latencies[0] != 3*time.Millisecond || latencies[2] != 5*time.Millisecond || inside != 4 {
		t.Errorf("%v outside, %d inside", latencies, inside)
	}
}

func TestReaping(t *testing.T) {
	m := &mortal{token: "a"}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); m.reap(ctx, time.Millisecond) }()
	for { // until it has died twice
		m.mu.Lock()
		dead := m.token == ""
		m.mu.Unlock()
		if dead {
			if m.respond([]byte("POST /login HTTP/1.1\r\n\r\n")); m.logins == 2 {
				break
			}
		}
	}
	cancel()
	<-done
	if m.observed != 2 || m.needless != 0 {
		t.Errorf("%d deaths observed, %d needless logins", m.observed, m.needless)
	}
}
