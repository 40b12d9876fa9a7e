package testenv_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

func TestRefuse(t *testing.T) {
	w := start(t, testenv.Origin{TLS: true})
	access, _ := w.apiLogin("alice")
	if err := w.Refuse(true); err != nil {
		t.Fatal(err)
	}
	if response, err := w.client.Get(w.URL + "/whoami"); err == nil {
		response.Body.Close()
		t.Error("the origin answers although it refuses")
	}
	if err := w.Refuse(false); err != nil {
		t.Fatal(err)
	}
	w.get("/api/items", auth(access)...).wantStatus(t, 200)

	// Refuse lets go a request that waits with its body unread.
	w.Hold("/api/login", "login")
	done := make(chan error, 1)
	go func() {
		response, err := w.client.Post(w.URL+"/api/login", "application/json", strings.NewReader("{}"))
		if err == nil {
			response.Body.Close()
		}
		done <- err
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.WaitHeld(ctx, "login", 1); err != nil {
		t.Fatal(err)
	}
	if err := w.Refuse(true); err != nil {
		t.Fatal(err)
	}
	if <-done == nil {
		t.Error("a held request was answered")
	}
}

func TestGates(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w := start(t, testenv.Origin{})
	access, _ := w.apiLogin("alice")
	wait := func(gate string, n int) {
		t.Helper()
		if err := w.WaitHeld(ctx, gate, n); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("a late answer is judged at once", func(t *testing.T) {
		answers := make(chan answer, 1)
		go func() { answers <- w.get("/late?gate=late", auth(access)...) }()
		wait("late", 1)
		w.KillAll()
		w.get("/api/items", auth(access)...).wantStatus(t, 401)
		w.Release("late")
		(<-answers).want(t, 200, `{"identity":"alice","live":true}`)
	})
	t.Run("requests are held before they are handled", func(t *testing.T) {
		w.Hold("/api/login", "login")
		logins := w.Stats().Logins
		const n = 5
		var done sync.WaitGroup
		for range n {
			done.Go(func() { w.apiLogin("bob") })
		}
		wait("login", n)
		if got := w.Stats().Logins; got != logins {
			t.Errorf("%d logins while they are held", got-logins)
		}
		w.Release("login")
		done.Wait()
		if got := w.Stats().Logins; got != logins+n {
			t.Errorf("%d logins, want %d", got-logins, n)
		}
		w.Shut("login")
		done.Go(func() { w.apiLogin("bob") })
		wait("login", 1)
		w.Release("login")
		done.Wait()
	})
	t.Run("answers are held after the request was handled", func(t *testing.T) {
		w.HoldAnswer("/oauth/token", "token")
		answers := make(chan answer, 1)
		go func() {
			answers <- w.do("POST", "/oauth/token", "grant_type=password&username=bob&password=bobpass", "Content-Type", form)
		}()
		logins := w.Stats().Logins
		wait("token", 1)
		if got := w.Stats().Logins; got < logins {
			t.Error("the login was not handled")
		}
		w.Release("token")
		a := <-answers
		a.wantStatus(t, 200)
		if a.Header.Get("Cache-Control") != "no-store" || a.field(t, "access_token") == "" {
			t.Errorf("the held answer is %v %s", a.Header, a.body)
		}
	})
	// One more is waiting when the server closes; goleak sees to it that it
	// does not wait forever.
	go func() {
		if response, err := w.client.Get(w.URL + "/hold?gate=closing"); err == nil {
			response.Body.Close()
		}
	}()
	wait("closing", 1)
}

func TestGatesOfStreamsAndOfClientsThatLeave(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w := start(t, testenv.Origin{})
	wait := func(gate string, n int) {
		t.Helper()
		if err := w.WaitHeld(ctx, gate, n); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("events come one by one", func(t *testing.T) {
		response, err := w.client.Get(w.URL + "/stream?events=2&gate=s")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		for i, want := range []string{"id: 1\ndata: event 1\n\n", "id: 2\ndata: event 2\n\n"} {
			gate := []string{"s.1", "s.2"}[i]
			wait(gate, 1)
			w.Release(gate)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != want {
				t.Fatalf("event %q, %v, want %q", got, err, want)
			}
		}
	})
	t.Run("a client that leaves is let go", func(t *testing.T) {
		leave, left := context.WithCancel(ctx)
		r, err := http.NewRequestWithContext(leave, "GET", w.URL+"/hold?gate=never", nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := w.client.Do(r)
			done <- err
		}()
		wait("never", 1)
		left()
		if err := <-done; err == nil {
			t.Error("an answer came")
		}
	})
}
