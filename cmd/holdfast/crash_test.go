package main

import (
	"bufio"
	"bytes"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

var crashes = flag.Int("crashes", 3, "how often TestKilledAtRandom kills the proxy, of each kind of project")

const crashRules = `
identities:
  alice: {variables: {USER: alice}, totp: "otpauth://totp/x?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&period=1&digits=8"}
macros:
  - name: refresh
    steps:
      - request: |
          POST {{ORIGIN}}/refresh?{{REFRESH}} HTTP/1.1

        extract: [{token_name: ACCESS, source: {type: JSON, path: access}}, {token_name: REFRESH, source: {type: JSON, path: refresh}}]
        expect: 'resp.code.eq:200'
  - name: login
    steps:
      - request: |
          POST {{ORIGIN}}/login?{{USER}}.{{totp}} HTTP/1.1

        extract: [{token_name: ACCESS, source: {type: JSON, path: access}}, {token_name: REFRESH, source: {type: JSON, path: refresh}}]
        expect: 'resp.code.eq:200'
rules:
  - name: app
    scope: {pattern: "127.0.0.1", target: host}
    validation: {check_type: {type: StatusCode, value: [401]}}
    reauth_macro: [refresh, login]
    proactive: {learn: false}
    actions: [{use_cookies: {}}]
    token_updates:
      - {token_name: ACCESS, target: {type: RequestHeader, name: Authorization}}
      - {token_name: CSRF, source: {type: ResponseBody, regex: 'csrf=(\d+)'}, target: {type: RequestHeader, name: X-Csrf}}
`

// crashOrigin has sessions that die, refresh tokens and one-time codes that are
// good once, a cookie for each client that changes with every answer to it, and
// a token that changes with those to client 0. It finds what a proxy has
// forgotten that had delivered it.
type crashOrigin struct {
	*httptest.Server

	mu        sync.Mutex
	issued    int    // sessions; the last is the only one
	refresh   string // good once
	live      bool
	delivered bool // a client has had an answer of this session
	since     int  // answers of this session
	used      map[string]bool
	values    int
	events    int    // until kill
	kill      func() // nil: not in this round
	problems  []string

	logins, refreshes, deaths, answers, compared, needless int
}

func startCrashOrigin() *crashOrigin {
	o := &crashOrigin{used: make(map[string]bool)}
	o.Server = httptest.NewServer(o)
	return o
}

func (o *crashOrigin) problem(format string, args ...any) {
	o.problems = append(o.problems, fmt.Sprintf(format, args...))
}

// found are the problems so far.
func (o *crashOrigin) found() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.problems, "\n")
}

// event is a moment in which the proxy may be killed. mu is held.
func (o *crashOrigin) event() {
	if o.kill == nil {
		return
	}
	if o.events--; o.events <= 0 {
		o.kill()
		o.kill = nil
	}
}

func (o *crashOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.event()
	switch r.URL.Path {
	case "/login":
		o.once(r.URL.RawQuery, "one-time code")
		o.logins++
		o.issue(w)
	case "/refresh":
		o.once(r.URL.RawQuery, "refresh token")
		if r.URL.RawQuery != o.refresh {
			w.WriteHeader(http.StatusForbidden)
			break
		}
		o.refreshes++
		o.issue(w)
	default:
		o.serve(w, r)
	}
	if f, ok := w.(http.Flusher); ok && rand.IntN(2) == 0 {
		f.Flush() // so that a kill is before the answer, or after it
	}
	o.event()
}

// once notes what may be sent once.
func (o *crashOrigin) once(value, what string) {
	if o.used[what+value] {
		o.problem("%s %s was sent twice", what, value)
	}
	o.used[what+value] = true
}

func (o *crashOrigin) issue(w io.Writer) {
	if o.live && o.delivered {
		o.problem("session %d is alive, and there was another login", o.issued)
		o.needless++
	}
	o.issued++
	o.live, o.delivered, o.since = true, false, 0
	o.refresh = fmt.Sprint("refresh-", o.issued)
	fmt.Fprintf(w, `{"access":"access-%d","refresh":%q}`, o.issued, o.refresh)
}

func (o *crashOrigin) serve(w http.ResponseWriter, r *http.Request) {
	if !o.live || r.Header.Get("Authorization") != fmt.Sprint("Bearer access-", o.issued) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	client, last := r.Header.Get("X-Client"), r.Header.Get("X-Last")
	has := "0"
	if c, err := r.Cookie("last" + client); err == nil {
		has = c.Value
	}
	// What an answer of the session before brings after the login is not taken,
	// whether or not anybody is killed.
	if r.Header.Get("X-Session") == strconv.Itoa(o.issued) {
		o.compared++
		o.compare("cookie of client "+client, last, has)
		if client == "0" {
			o.compare("token", last, r.Header.Get("X-Csrf"))
		}
	}
	o.values++
	o.answers++
	if o.since++; o.since > 12 && rand.IntN(15) == 0 {
		o.live = false
		o.deaths++
		if rand.IntN(3) == 0 {
			o.refresh = ""
		}
	}
	http.SetCookie(w, &http.Cookie{Name: "last" + client, Value: strconv.Itoa(o.values)})
	fmt.Fprintf(w, "session=%d value=%d", o.issued, o.values)
	if client == "0" {
		fmt.Fprintf(w, " csrf=%d", o.values)
	}
}

// compare finds a value that is older than one that was delivered.
func (o *crashOrigin) compare(what, delivered, has string) {
	d, _ := strconv.Atoi(delivered)
	if h, _ := strconv.Atoi(has); h < d {
		o.problem("%s: %s was delivered, and %q is sent", what, delivered, has)
	}
}

// crashClient sends requests until the proxy is gone, and knows what it was
// delivered.
type crashClient struct {
	number        int
	session, last int
}

func (c *crashClient) run(o *crashOrigin, proxy *url.URL, killed <-chan struct{}) {
	transport := &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return proxy, nil }}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	for {
		req, err := http.NewRequest("GET", o.URL+"/api", nil)
		if err != nil {
			panic(err)
		}
		req.Header.Set("X-Client", strconv.Itoa(c.number))
		req.Header.Set("X-Session", strconv.Itoa(c.session))
		req.Header.Set("X-Last", strconv.Itoa(c.last))
		resp, err := client.Do(req)
		var body []byte
		if err == nil {
			body, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		o.mu.Lock()
		var session, value int
		if _, scan := fmt.Sscanf(string(body), "session=%d value=%d", &session, &value); err == nil && scan == nil {
			c.session, c.last = session, value
			if session == o.issued {
				o.delivered = true
			}
			o.mu.Unlock()
			continue
		}
		select {
		case <-killed:
		default:
			status := 0
			if resp != nil {
				status = resp.StatusCode
			}
			o.problem("client %d: %d, %v: %s", c.number, status, err, body)
		}
		o.mu.Unlock()
		return
	}
}

// A proxy that is killed at any moment has lost nothing that a client was
// delivered, spends nothing twice, and its sessions go on.
func TestKilledAtRandom(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		o := startCrashOrigin()
		defer o.Close()
		home := t.TempDir()
		rules := filepath.Join(home, "rules.yaml")
		if err := os.WriteFile(rules, []byte(strings.ReplaceAll(crashRules, "{{ORIGIN}}", o.URL)), 0o600); err != nil {
			t.Fatal(err)
		}
		clients := make([]*crashClient, 8)
		for i := range clients {
			clients[i] = &crashClient{number: i}
		}
		began := time.Now()
		for round := range *crashes {
			crashRound(t, o, clients, "serve", "--home", home, "-c", rules, "--store", p.DSN, "--listen", "127.0.0.1:0")
			if !store.IsPostgres(p.DSN) {
				checkFile(t, p.DSN)
			}
			if problems := o.found(); t.Failed() || problems != "" {
				t.Fatalf("round %d: %s", round, problems)
			}
		}
		t.Logf("%d kills in %s: %d answers, %d of them to requests that were compared, %d deaths, %d logins and %d refreshes, of which %d for a session that was alive",
			*crashes, time.Since(began).Round(time.Second), o.answers, o.compared, o.deaths, o.logins, o.refreshes, o.needless)
	})
}

// crashRound runs the proxy with clients until it is killed.
func crashRound(t *testing.T, o *crashOrigin, clients []*crashClient, args ...string) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd := &exec.Cmd{Path: exe, Args: append([]string{"holdfast"}, args...), Stderr: &errs, Env: append(os.Environ(), "NO_PROXY=", "no_proxy=")}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slow := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer slow.Stop()
	lines := bufio.NewScanner(out)
	var proxy *url.URL
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "proxy    "); ok {
			proxy, err = url.Parse(text)
			break
		}
	}
	if proxy == nil || err != nil {
		cmd.Wait()
		t.Fatalf("the proxy did not begin: %v\n%s", err, errs.String())
	}
	killed := make(chan struct{})
	o.mu.Lock()
	o.events = 1 + rand.IntN(160)
	o.kill = func() {
		close(killed)
		cmd.Process.Kill()
	}
	o.mu.Unlock()
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() { c.run(o, proxy, killed) })
	}
	all.Wait()
	o.mu.Lock()
	if o.kill != nil { // the clients have ended for another reason
		o.kill = nil
		cmd.Process.Kill()
	}
	o.mu.Unlock()
	io.Copy(io.Discard, out)
	cmd.Wait()
	if strings.Contains(errs.String(), "panic") || strings.Contains(errs.String(), "DATA RACE") {
		t.Errorf("%s", errs.String())
	}
	if o.found() != "" {
		t.Log(errs.String())
	}
}

// checkFile has SQLite look at a file that nobody has open.
func checkFile(t *testing.T, path string) {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var said string
	if err := db.QueryRow(`PRAGMA integrity_check`).Scan(&said); err != nil || said != "ok" {
		t.Errorf("integrity_check: %q, %v", said, err)
	}
}
