package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/api"
)

// open follows a link as its page does.
func (w *world) open(once string, fields ...string) *answer {
	fields = append([]string{"Authorization", "", "Origin", w.server.URL(), "Sec-Fetch-Site", "same-origin"}, fields...)
	return w.ask("POST", "/open", `{"once":"`+once+`"}`, fields...)
}

func onceOf(t *testing.T, link string) string {
	t.Helper()
	u, err := url.Parse(link)
	once, ok := strings.CutPrefix(u.Fragment, "once=")
	if err != nil || !ok || len(once) < 64 || u.RawQuery != "" || u.Path != "/" {
		t.Fatalf("the link is %s, %v", link, err)
	}
	return once
}

// let is a browser that was let in: its cookie and its key.
func (w *world) let() (cookie *http.Cookie, key string) {
	w.t.Helper()
	a := w.open(onceOf(w.t, w.server.Link()))
	cookies := (&http.Response{Header: a.header}).Cookies()
	if a.status != 200 || len(cookies) != 1 {
		w.t.Fatalf("%d %s %v", a.status, a.body, a.header)
	}
	_, key, _ = strings.Cut(a.body, `"key":"`)
	return cookies[0], strings.TrimSuffix(key, "\"}\n")
}

// TestALinkIsGoodOnce is a browser that follows a link, and what others can do
// with it afterwards.
func TestALinkIsGoodOnce(t *testing.T) {
	w := newWorld(t, settings{})
	link, seconds, err := w.client.Link(t.Context())
	if err != nil || seconds != 300 || !strings.HasPrefix(link, w.server.URL()+"/#") {
		t.Fatalf("%s %d %v", link, seconds, err)
	}
	once := onceOf(t, link)
	for name, c := range map[string][]string{
		"a page of another origin": {"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"},
		"a page of another port":   {"Origin", "http://127.0.0.1:1", "Sec-Fetch-Site", "same-site"},
		"no page":                  {"Origin", "", "Sec-Fetch-Site", ""},
		"another name":             {"Host", "evil.example"},
	} {
		if a := w.open(once, c...); a.status != 403 && a.status != 421 || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s is answered %d %s", name, a.status, a.body)
		}
	}
	other := "0" + once[1:]
	if once[0] == '0' {
		other = "1" + once[1:]
	}
	if a := w.open(other); a.status != 401 {
		t.Errorf("another link is answered %d", a.status)
	}
	a := w.open(once)
	set := a.header.Get("Set-Cookie")
	if a.status != 200 || !strings.Contains(set, "; HttpOnly; SameSite=Strict") || strings.Contains(set, "Domain") || strings.Contains(a.body, token) || strings.Contains(set, token) {
		t.Fatalf("%d %s %s", a.status, a.body, set)
	}
	if a := w.open(once); a.status != 401 || a.header.Get("Set-Cookie") != "" {
		t.Errorf("the second time it is answered %d", a.status)
	}
	if a := w.ask("POST", "/api/v1/link", "", "Authorization", ""); a.status != 401 {
		t.Errorf("without the token a link is made: %d", a.status)
	}
}

// TestLinksAreForgotten makes more than there may be.
func TestLinksAreForgotten(t *testing.T) {
	w := newWorld(t, settings{})
	first := onceOf(t, w.server.Link())
	last := ""
	for range 16 {
		last = onceOf(t, w.server.Link())
	}
	if a := w.open(first); a.status != 401 {
		t.Errorf("the first of 17 links is answered %d", a.status)
	}
	if a := w.open(last); a.status != 200 {
		t.Errorf("the last of 17 links is answered %d", a.status)
	}
}

// TestACookieAloneIsNothing: every port of this machine gets the cookie of a
// browser, and every page can have it sent.
func TestACookieAloneIsNothing(t *testing.T) {
	w := newWorld(t, settings{})
	cookie, key := w.let()
	host := strings.TrimPrefix(w.server.URL(), "http://")
	_, port, _ := strings.Cut(host, ":")
	other, _ := w.let()
	for _, c := range []struct {
		name   string
		fields []string
		get    int
		post   int
	}{
		{"the page", []string{"Holdfast-Page", key, "Sec-Fetch-Site", "same-origin", "Origin", "http://" + host}, 200, 200},
		{"the page, in an old browser", []string{"Holdfast-Page", key, "Origin", "http://" + host}, 200, 200},
		{"the cookie alone", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://" + host}, 401, 401},
		{"a wrong key", []string{"Holdfast-Page", key + "0", "Sec-Fetch-Site", "same-origin"}, 401, 401},
		{"typed by a person", []string{"Holdfast-Page", key, "Sec-Fetch-Site", "none"}, 403, 403},
		{"no word of an origin", []string{"Holdfast-Page", key}, 200, 403},
		{"another port's page", []string{"Holdfast-Page", key, "Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:1"}, 403, 403},
		{"another name of here", []string{"Holdfast-Page", key, "Sec-Fetch-Site", "same-origin", "Host", "localhost:" + port}, 401, 401},
		{"another browser's cookie", []string{"Holdfast-Page", key, "Sec-Fetch-Site", "same-origin", "Cookie", other.String()}, 401, 401},
	} {
		fields := append([]string{"Authorization", "", "Cookie", cookie.Name + "=" + cookie.Value}, c.fields...)
		if a := w.ask("GET", "/api/v1/status", "", fields...); a.status != c.get {
			t.Errorf("%s reads: %d %s", c.name, a.status, a.body)
		}
		if a := w.ask("POST", "/api/v1/rules/shop/enable", "{}", fields...); a.status != c.post {
			t.Errorf("%s changes: %d %s", c.name, a.status, a.body)
		}
	}
	fields := []string{"Authorization", "", "Cookie", cookie.Name + "=" + cookie.Value, "Holdfast-Page", key, "Sec-Fetch-Site", "same-origin"}
	if a := w.ask("POST", "/api/v1/link", "", fields...); a.status != 403 {
		t.Errorf("a browser makes links for others: %d", a.status)
	}
	for _, path := range []string{"/", "/page.js", "/page.css"} {
		a := w.ask("GET", path, "", "Authorization", "")
		policy := a.header.Get("Content-Security-Policy")
		if a.status != 200 || strings.Contains(a.body, "emily") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "script-src 'self'") || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("%s: %d %s", path, a.status, policy)
		}
		if a := w.ask("GET", path, "", "Authorization", "", "Sec-Fetch-Site", "cross-site"); a.status != 403 || a.code() != api.CodeOrigin {
			t.Errorf("%s for a page of somebody else: %d", path, a.status)
		}
	}
}
