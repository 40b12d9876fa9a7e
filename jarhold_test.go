package holdfast_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// roller is an application whose cookie is another one after each answer, and
// whose session ends after ten: then it takes the cookie away and asks for a
// login. The last two cookies are good.
type roller struct {
	mu                sync.Mutex
	good              []string
	made, logins, oks int
	dead              int
}

func (r *roller) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	roll := func() {
		r.made++
		v := fmt.Sprintf("s%d==", r.made)
		r.good = append(r.good, v)
		r.good = r.good[max(0, len(r.good)-2):]
		w.Header().Set("Set-Cookie", "sid="+v+"; Path=/; HttpOnly")
	}
	if q.URL.Path == "/login" {
		r.logins++
		r.good = nil
		roll()
		return
	}
	sid, err := q.Cookie("sid")
	if err != nil || !strings.Contains(strings.Join(r.good, " ")+" ", sid.Value+" ") {
		r.dead++
		w.Header().Set("Set-Cookie", "sid=; Path=/; Max-Age=0")
		http.Redirect(w, q, "/login", http.StatusFound)
		return
	}
	if r.oks++; r.oks%10 == 0 {
		r.good = nil
		return
	}
	roll()
}

func TestTheJarHoldsASessionWhoseCookieChangesWithEachAnswer(t *testing.T) {
	app := new(roller)
	origin := httptest.NewServer(app)
	defer origin.Close()
	w := newWorld(t, testenv.Origin{}, strings.ReplaceAll(`
macros:
  - name: login
    steps: [{request: "POST {{APP}}/login HTTP/1.1\n\n"}]
rules:
  - name: app
    scope: {pattern: "{{APP}}/", target: url}
    validation: {check_type: {type: StatusCode, value: [302]}}
    reauth_macro: login
    actions: [{use_cookies: {}}]
`, "{{APP}}", origin.URL))
	for i := range 45 {
		resp, err := w.client.Get(origin.URL + "/page")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatalf("request %d: %d", i, resp.StatusCode)
		}
	}
	w.stop()
	if app.logins != 5 || app.dead != 4 || app.oks != 45 {
		t.Errorf("%d logins, %d dead and %d live answers; want one login, and one for each of the four deaths", app.logins, app.dead, app.oks)
	}
	cookies, _ := w.h.Cookies("")
	if len(cookies) != 1 || cookies[0].Value != app.good[1] {
		t.Errorf("the jar has %v", cookies)
	}
}
