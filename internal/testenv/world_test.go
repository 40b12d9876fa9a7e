package testenv_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// clock is a time that only the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2030, 1, 2, 3, 4, 5, 600e6, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is an origin and somebody who talks to it.
type world struct {
	*testenv.Server
	t      testing.TB
	client *http.Client
}

func start(t testing.TB, o testenv.Origin) *world {
	t.Helper()
	s, err := o.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	client := s.Client()
	t.Cleanup(client.CloseIdleConnections)
	return &world{s, t, client}
}

// answer is a response that has been read.
type answer struct {
	*http.Response
	body string
}

// do sends a request; headers alternate names and values.
func (w *world) do(method, target, body string, headers ...string) answer {
	w.t.Helper()
	r, err := http.NewRequest(method, w.URL+target, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	response, err := w.client.Do(r)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatalf("%s %s: body: %v", method, target, err)
	}
	return answer{response, string(text)}
}

func (w *world) get(target string, headers ...string) answer {
	w.t.Helper()
	return w.do("GET", target, "", headers...)
}

// want checks status and body of an answer.
func (a answer) want(t testing.TB, status int, body string) {
	t.Helper()
	if a.StatusCode != status || a.body != body {
		t.Errorf("%s %s: %d %s, want %d %s", a.Request.Method, a.Request.URL.Path, a.StatusCode, a.body, status, body)
	}
}

func (a answer) wantStatus(t testing.TB, status int) {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("%s %s: %d, want %d: %s", a.Request.Method, a.Request.URL.Path, a.StatusCode, status, a.body)
	}
}

// field reads one member of a JSON answer as text.
func (a answer) field(t testing.TB, name string) string {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(a.body), &all); err != nil {
		t.Fatalf("%s: %v in %s", a.Request.URL.Path, err, a.body)
	}
	text, _ := all[name].(string)
	return text
}

const form = "application/x-www-form-urlencoded"

func (w *world) apiLogin(name string) (access, refresh string) {
	w.t.Helper()
	a := w.do("POST", "/api/login", `{"username":"`+name+`","password":"`+name+`pass"}`)
	a.wantStatus(w.t, 200)
	return a.field(w.t, "access_token"), a.field(w.t, "refresh_token")
}

func auth(token string) []string { return []string{"Authorization", "Bearer " + token} }
