package learn_test

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/learn"
)

// notes is an application whose writes want a CSRF token beside the session. A
// login page leads on where somebody is logged in already.
type notes struct {
	*httptest.Server

	mu       sync.Mutex
	count    int
	sessions map[string]string // the CSRF token of a live session; "" is none yet
	applied  map[string]int    // writes by their text
	logins   int
}

// startNotes has tokens for one use, but those in a cookie, which are good for
// the session and are set by a page behind the login.
func startNotes(t *testing.T) *notes {
	t.Helper()
	n := &notes{sessions: make(map[string]string), applied: make(map[string]int)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", n.page)
	mux.HandleFunc("POST /login", n.login)
	mux.HandleFunc("GET /me", n.behind(func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"user":"alice"}`)
	}))
	mux.HandleFunc("GET /token", n.behind(func(w http.ResponseWriter, _ *http.Request, sid string) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"query":{"tokens":{"edit":%q}}}`, n.renew(sid))
	}))
	mux.HandleFunc("GET /edit", n.behind(func(w http.ResponseWriter, _ *http.Request, sid string) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<form method=post enctype=multipart/form-data><input type=hidden name=editToken value="%s"></form>`, n.renew(sid))
	}))
	mux.HandleFunc("GET /{$}", n.behind(func(w http.ResponseWriter, _ *http.Request, sid string) {
		w.Header().Set("Content-Type", "text/html")
		if n.token(sid) == "" {
			http.SetCookie(w, &http.Cookie{Name: "XSRF-TOKEN", Value: url.QueryEscape(n.renew(sid)), Path: "/"})
		}
		fmt.Fprint(w, "<title>Notes</title>")
	}))
	mux.HandleFunc("POST /notes", n.behind(n.write))
	n.Server = httptest.NewServer(mux)
	t.Cleanup(n.Close)
	return n
}

func (n *notes) made(what string) string {
	n.count++
	return fmt.Sprintf("%s/%08x=", what, n.count*2654435761)
}

func (n *notes) token(sid string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sessions[sid]
}

func (n *notes) renew(sid string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sessions[sid] = n.made("token")
	return n.sessions[sid]
}

func (n *notes) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.sessions)
}

// done is how often a write was applied, and how many logins there were.
func (n *notes) done(text string) (applied, logins int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.applied[text], n.logins
}

func (n *notes) page(w http.ResponseWriter, r *http.Request) {
	if _, err := r.Cookie("sid"); err == nil { // whether it lives or not
		http.Redirect(w, r, "/", http.StatusFound)
		return
	}
	w.Header().Set("Content-Type", "text/html")
	http.SetCookie(w, &http.Cookie{Name: "seen", Value: "yes", Path: "/"})
	fmt.Fprint(w, `<form method=post><input name=username><input name=password type=password></form>`)
}

func (n *notes) login(w http.ResponseWriter, r *http.Request) {
	if _, err := r.Cookie("seen"); err != nil || r.PostFormValue("username") != "alice" || r.PostFormValue("password") != "alicepass" {
		http.Error(w, "no", http.StatusForbidden)
		return
	}
	n.mu.Lock()
	n.logins++
	sid := n.made("session")
	n.sessions[sid] = ""
	n.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: "sid", Value: sid, Path: "/"})
	http.Redirect(w, r, "/", http.StatusFound)
}

func (n *notes) behind(serve func(http.ResponseWriter, *http.Request, string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie("sid"); err == nil {
			n.mu.Lock()
			_, ok := n.sessions[c.Value]
			n.mu.Unlock()
			if ok {
				serve(w, r, c.Value)
				return
			}
		}
		http.Redirect(w, r, "/login", http.StatusFound)
	}
}

// write takes the token from where each of the clients has it. What is in a
// cookie has to be sent twice.
func (n *notes) write(w http.ResponseWriter, r *http.Request, sid string) {
	text, token := r.Header.Get("X-Text"), r.Header.Get("X-Xsrf-Token")
	if token == "" {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
		r.Body = io.NopCloser(bytes.NewReader(body))
		if _, after, ok := strings.Cut(string(body), `"csrfToken":"`); ok {
			token, _, _ = strings.Cut(after, `"`)
		} else {
			token = r.FormValue("editToken")
		}
	} else if c, err := r.Cookie("XSRF-TOKEN"); err != nil || c.Value != url.QueryEscape(token) {
		token = ""
	}
	n.mu.Lock()
	ok := token != "" && token == n.sessions[sid]
	if ok {
		n.applied[text]++
	}
	if ok && r.Header.Get("X-Xsrf-Token") == "" {
		n.sessions[sid] = ""
	}
	n.mu.Unlock()
	if !ok {
		http.Error(w, "CSRF", http.StatusForbidden)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// inParts is a form of one field, or of none for no name.
func inParts(t *testing.T, name, value string) (body, media string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, f := range [][2]string{{"text", "x"}, {name, value}} {
		if f[0] == "" {
			continue
		}
		if err := w.WriteField(f[0], f[1]); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return b.String(), w.FormDataContentType()
}

// A CSRF token is learnt from JSON, from a page for a form in parts, and from a
// cookie that is sent twice; a client that has none of them writes exactly once
// while sessions die.
func TestCSRFTokensAreLearnt(t *testing.T) {
	for name, write := range map[string]struct {
		record func(t *testing.T, n *notes, c *http.Client)
		body   func(t *testing.T) (body, media string)
		want   string // in the configuration
	}{
		"JSON": {func(t *testing.T, n *notes, c *http.Client) {
			token := between(t, send(t, c, "GET", n.URL+"/token", ""), `"edit":"([^"]+)"`)
			send(t, c, "POST", n.URL+"/notes", `{"text":"x","csrfToken":"`+token+`"}`, "Content-Type", asJSON, "X-Text", "recorded")
		}, func(*testing.T) (string, string) { return `{"text":"x"}`, asJSON }, "{type: JSON, pointer: /csrfToken}"},
		"a form in parts": {func(t *testing.T, n *notes, c *http.Client) {
			body, media := inParts(t, "editToken", between(t, send(t, c, "GET", n.URL+"/edit", ""), `value="([^"]+)"`))
			send(t, c, "POST", n.URL+"/notes", body, "Content-Type", media, "X-Text", "recorded")
		}, func(t *testing.T) (string, string) { return inParts(t, "", "") }, "{type: Multipart, name: editToken}"},
		"a cookie twice": {func(t *testing.T, n *notes, c *http.Client) {
			send(t, c, "GET", n.URL+"/", "")
			at, err := url.Parse(n.URL)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range c.Jar.Cookies(at) {
				if plain, err := url.QueryUnescape(k.Value); err == nil && k.Name == "XSRF-TOKEN" {
					send(t, c, "POST", n.URL+"/notes", "{}", "Content-Type", asJSON, "X-Text", "recorded", "X-Xsrf-Token", plain)
				}
			}
		}, func(*testing.T) (string, string) { return "{}", asJSON }, "request.headers.set("},
	} {
		t.Run(name, func(t *testing.T) {
			n := startNotes(t)
			s := &shop{t: t}
			result := s.learn(s.record(func(b *browser) {
				send(t, b.client, "GET", n.URL+"/login", "")
				send(t, b.client, "POST", n.URL+"/login", "username=alice&password=alicepass", "Content-Type", form)
				send(t, b.client, "GET", n.URL+"/me", "")
				write.record(t, n, b.client)
			}), learn.Options{})
			if applied, _ := n.done("recorded"); applied != 1 {
				t.Fatal("the recorded write was not done")
			}
			if !result.Report.Held || !strings.Contains(string(result.Config), write.want) {
				var report strings.Builder
				result.Report.Write(&report)
				t.Fatalf("not held, or without %s:\n%s\n%s", write.want, report.String(), result.Config)
			}
			client, h, stop := s.behind(holdfast.Config{File: load(t, result)})
			defer stop()
			_, before := n.done("")
			const writes = 12
			for i := range writes {
				if i%3 == 1 {
					n.kill()
				}
				body, media := write.body(t)
				text := fmt.Sprint("note ", i)
				if got := send(t, client, "POST", n.URL+"/notes", body, "Content-Type", media, "X-Text", text); !strings.HasPrefix(got, "201") {
					t.Errorf("write %d: %s", i, got)
				}
				if applied, _ := n.done(text); applied != 1 {
					t.Errorf("write %d was applied %d times", i, applied)
				}
			}
			if _, logins := n.done(""); logins-before != 1+writes/3 || h.Totals().Lost > 0 {
				t.Errorf("%d logins, %d lost; want one for each death", logins-before, h.Totals().Lost)
			}
		})
	}
}
