package testenv_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// balanced checks what must be true of the counters at every moment.
func balanced(t testing.TB, s testenv.Stats) {
	t.Helper()
	sum := testenv.Counts{}
	check := func(name string, c testenv.Counts) {
		if c.Logins+c.Refreshes != c.Died+c.Replaced+c.Current {
			t.Errorf("%s: %d logins + %d refreshes != %d died + %d replaced + %d current", name, c.Logins, c.Refreshes, c.Died, c.Replaced, c.Current)
		}
	}
	check("all", s.Counts)
	for name, c := range s.Identities {
		check(name, c)
		sum.Requests += c.Requests
		sum.Served += c.Served
		sum.DeadAnswers += c.DeadAnswers
		sum.Logins += c.Logins
		sum.Died += c.Died
	}
	if sum.Requests != s.Requests || sum.Served != s.Served || sum.DeadAnswers != s.DeadAnswers || sum.Logins != s.Logins || sum.Died != s.Died {
		t.Errorf("identities add up to %+v, the total is %+v", sum, s.Counts)
	}
}

func TestDummyJSONAnswers(t *testing.T) {
	w := start(t, testenv.Origin{})
	login := w.do("POST", "/auth/login", `{"username":"EmilyS","password":"emilyspass","expiresInMins":3}`)
	login.wantStatus(t, 200)
	access, refresh := login.field(t, "accessToken"), login.field(t, "refreshToken")
	keys := regexp.MustCompile(`"(\w+)":`).FindAllStringSubmatch(login.body, -1)
	var order []string
	for _, key := range keys {
		order = append(order, key[1])
	}
	if diff := cmp.Diff([]string{"accessToken", "refreshToken", "id", "username", "email", "firstName", "lastName", "gender", "image"}, order); diff != "" {
		t.Errorf("keys of the login (-want +got):\n%s", diff)
	}
	for _, line := range login.Header["Set-Cookie"] {
		if !regexp.MustCompile(`^\w+=[\w.-]+; Max-Age=180; Path=/; Expires=\w+, \d+ \w+ \d+ [\d:]+ GMT; HttpOnly; Secure$`).MatchString(line) {
			t.Errorf("cookie %s", line)
		}
	}
	other := access[:len(access)-8] + "AAAAAAAA"
	const gone = `accessToken=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT|refreshToken=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT`
	tests := []struct {
		name, method, target, body string
		headers                    []string
		status                     int
		want, cookies              string
	}{
		{"no token", "GET", "/auth/me", "", nil, 401, `{"message":"Access Token is required"}`, gone},
		{"malformed token", "GET", "/auth/me", "", auth("abc"), 401, `{"message":"Invalid/Expired Token!"}`, gone},
		{"broken signature", "GET", "/auth/me", "", auth(other), 500, `{"message":"invalid signature"}`, gone},
		{"no name", "POST", "/auth/login", `{"password":"x"}`, nil, 400, `{"message":"Username and password required"}`, ""},
		{"no JSON", "POST", "/auth/login", `x`, nil, 400, `{"message":"Username and password required"}`, ""},
		{"name is a number", "POST", "/auth/login", `{"username":1,"password":"x"}`, nil, 400, `{"message":"Username is not valid"}`, ""},
		{"wrong password", "POST", "/auth/login", `{"username":"emilys","password":"x"}`, nil, 400, `{"message":"Invalid credentials"}`, ""},
		{"less than a minute", "POST", "/auth/login", `{"username":"emilys","password":"emilyspass","expiresInMins":0.05}`, nil, 500,
			`{"message":"Maximum access token expire time can be 43200 minutes"}`, ""},
		{"refresh without token", "POST", "/auth/refresh", `{}`, nil, 401, `{"message":"Refresh token required"}`, ""},
		{"refresh with a foreign token", "POST", "/auth/refresh", `{"refreshToken":"x"}`, nil, 403, `{"message":"Invalid refresh token"}`, ""},
		{"refresh for no time", "POST", "/auth/refresh", `{"refreshToken":"x","expiresInMins":0}`, nil, 500,
			`{"message":"Maximum access token expire time can be 43200 minutes"}`, ""},
		{"logout", "POST", "/auth/logout", "", auth(access), 200, `{"message":"Logged out successfully"}`,
			strings.ReplaceAll(gone, "GMT", "GMT; HttpOnly; Secure")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := w.do(tt.method, tt.target, tt.body, tt.headers...)
			a.want(t, tt.status, tt.want)
			if got := strings.Join(a.Header["Set-Cookie"], "|"); got != tt.cookies {
				t.Errorf("cookies %q, want %q", got, tt.cookies)
			}
		})
	}
	for name, headers := range map[string][]string{
		"the access token":              auth(access),
		"the access token, no scheme":   {"Authorization", access},
		"the refresh token":             auth(refresh),
		"the access token by cookie":    {"Cookie", "accessToken=" + access},
		"a header goes before a cookie": {"Authorization", "Bearer " + access, "Cookie", "accessToken=x"},
	} {
		if a := w.get("/auth/me", headers...); a.StatusCode != 200 || !strings.HasPrefix(a.body, `{"id":1,"firstName":"Emily"`) {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	w.KillAll()
	dead := w.get("/auth/me", auth(access)...)
	dead.want(t, 401, `{"message":"Token Expired!"}`)
	if dead.ContentLength != 28 {
		t.Errorf("the dead answer has %d bytes, want 28", dead.ContentLength)
	}
	balanced(t, w.Stats())
}

func TestTokensDieWithTheClock(t *testing.T) {
	clock := newClock()
	w := start(t, testenv.Origin{Clock: clock.Now, AccessTTL: 1500 * time.Millisecond, RefreshTTL: time.Minute})
	a := w.do("POST", "/auth/login", `{"username":"alice","password":"alicepass","expiresInMins":30}`)
	access, refresh := a.field(t, "accessToken"), a.field(t, "refreshToken")
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(access, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct{ Iat, Exp float64 }
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	if want := float64(clock.Now().UnixMilli()+1500) / 1000; claims.Exp != want {
		t.Errorf("exp is %f, want %f", claims.Exp, want)
	}
	api, _ := w.apiLogin("alice")

	clock.Add(1499 * time.Millisecond)
	w.get("/auth/me", auth(access)...).wantStatus(t, 200)
	w.get("/api/items", auth(api)...).wantStatus(t, 200)
	clock.Add(time.Millisecond)
	w.get("/auth/me", auth(access)...).want(t, 401, `{"message":"Token Expired!"}`)
	w.get("/auth/me", auth(access)...).want(t, 401, `{"message":"Token Expired!"}`)
	w.get("/api/items", auth(api)...).want(t, 401, `{"error":"unauthorized"}`)
	w.get("/auth/me", auth(refresh)...).wantStatus(t, 200) // it lives longer
	if s := w.Stats(); s.Died != 2 || s.DeadAnswers != 3 {
		t.Errorf("%d died with %d dead answers, want 2 with 3", s.Died, s.DeadAnswers)
	}
	w.do("POST", "/auth/refresh", `{"refreshToken":"`+refresh+`"}`).wantStatus(t, 200)
	clock.Add(time.Minute)
	w.do("POST", "/auth/refresh", `{"refreshToken":"`+refresh+`"}`).want(t, 403, `{"message":"Invalid refresh token"}`)
	balanced(t, w.Stats())
}

func TestRefreshTokens(t *testing.T) {
	tests := []struct {
		name    string
		origin  testenv.Origin
		rotates bool // in /auth; /api and /oauth rotate too unless RotateNone
		others  bool
	}{
		{"as the originals do", testenv.Origin{}, false, true},
		{"all rotate", testenv.Origin{Rotation: testenv.RotateAll}, true, true},
		{"none rotate", testenv.Origin{Rotation: testenv.RotateNone}, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := start(t, tt.origin)
			_, api := w.apiLogin("bob")
			dummy := w.do("POST", "/auth/login", `{"username":"bob","password":"bobpass"}`).field(t, "refreshToken")
			oauth := w.do("POST", "/oauth/token", "grant_type=password&username=bob&password=bobpass", "Content-Type", form).field(t, "refresh_token")
			reuse := func(shape string, again bool, refresh func() answer) {
				t.Helper()
				refresh().wantStatus(t, 200)
				if ok := refresh().StatusCode == 200; ok != again {
					t.Errorf("%s: a second use of the refresh token succeeded: %v, want %v", shape, ok, again)
				}
			}
			reuse("auth", !tt.rotates, func() answer { return w.do("POST", "/auth/refresh", `{"refreshToken":"`+dummy+`"}`) })
			reuse("api", !tt.others, func() answer { return w.do("POST", "/api/refresh", `{"refresh_token":"`+api+`"}`) })
			reuse("oauth", !tt.others, func() answer {
				return w.do("POST", "/oauth/token", "grant_type=refresh_token&refresh_token="+oauth, "Content-Type", form)
			})
			s := w.Stats()
			balanced(t, s)
			burnt := 0
			for _, rotated := range []bool{tt.rotates, tt.others, tt.others} {
				if rotated {
					burnt++
				}
			}
			if s.BurntRefreshes != burnt || s.FailedRefreshes != burnt {
				t.Errorf("%d of %d failed refreshes were with a burnt token, want %d", s.BurntRefreshes, s.FailedRefreshes, burnt)
			}
		})
	}
}

func TestReuseOfABurntTokenRevokesTheGrant(t *testing.T) {
	w := start(t, testenv.Origin{ReuseRevokes: true})
	_, first := w.apiLogin("alice")
	renewed := w.do("POST", "/api/refresh", `{"refresh_token":"`+first+`"}`)
	access, second := renewed.field(t, "access_token"), renewed.field(t, "refresh_token")
	bystander, foreign := w.apiLogin("bob")
	w.do("POST", "/oauth/token", "grant_type=refresh_token&refresh_token="+foreign, "Content-Type", form).wantStatus(t, 400)
	w.do("POST", "/auth/refresh", `{"refreshToken":"`+foreign+`"}`).wantStatus(t, 403)
	w.get("/api/items", auth(access)...).wantStatus(t, 200)

	w.do("POST", "/api/refresh", `{"refresh_token":"`+first+`"}`).wantStatus(t, 401)
	w.get("/api/items", auth(access)...).wantStatus(t, 401)
	w.do("POST", "/api/refresh", `{"refresh_token":"`+second+`"}`).wantStatus(t, 401)
	w.get("/api/items", auth(bystander)...).wantStatus(t, 200)
	s := w.Stats()
	balanced(t, s)
	if c := s.Identities["alice"]; c.RevokedGrants != 1 || c.BurntRefreshes != 1 || c.Died != 1 || c.FailedRefreshes != 2 {
		t.Errorf("counts %+v", c)
	}
}

func TestOAuth(t *testing.T) {
	w := start(t, testenv.Origin{AccessTTL: 90 * time.Second})
	token := func(body string, headers ...string) answer {
		return w.do("POST", "/oauth/token", body, append(headers, "Content-Type", form)...)
	}
	a := token("grant_type=password&username=alice&password=alicepass")
	a.wantStatus(t, 200)
	if !strings.Contains(a.body, `"token_type":"Bearer","expires_in":90}`) || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("answer %v %s", a.Header, a.body)
	}
	w.get("/oauth/userinfo", auth(a.field(t, "access_token"))...).want(t, 200, `{"sub":"alice","name":"Alice","email":"alice.archer@shop.example"}`)
	robot := token("grant_type=client_credentials", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(testenv.ClientID+":"+testenv.ClientSecret)))
	robot.wantStatus(t, 200)
	if robot.field(t, "refresh_token") != "" {
		t.Error("client credentials brought a refresh token")
	}
	token("grant_type=client_credentials&client_id=robot&client_secret=robotpass").wantStatus(t, 200)
	token("grant_type=client_credentials&client_id=robot&client_secret=x").wantStatus(t, 401)
	token("grant_type=password&username=alice&password=x").want(t, 400, `{"error":"invalid_grant","error_description":"wrong name or password"}`)
	token("grant_type=magic").wantStatus(t, 400)
	token("").wantStatus(t, 400)

	w.Kill("alice")
	if got := w.get("/oauth/userinfo").Header.Get("WWW-Authenticate"); got != `Bearer realm="shop"` {
		t.Errorf("without a token: WWW-Authenticate %s", got)
	}
	dead := w.get("/oauth/userinfo", auth(a.field(t, "access_token"))...)
	dead.wantStatus(t, 401)
	if got := dead.Header.Get("WWW-Authenticate"); !strings.Contains(got, `error="invalid_token"`) {
		t.Errorf("with a dead one: WWW-Authenticate %s", got)
	}
	balanced(t, w.Stats())
}

var hidden = regexp.MustCompile(`name="_csrf" value="([^"]+)"`)

func (a answer) csrf(t testing.TB) string {
	t.Helper()
	m := hidden.FindStringSubmatch(a.body)
	if m == nil {
		t.Fatalf("no CSRF token in %s", a.body)
	}
	return m[1]
}

// formLogin goes through the HTML form; the client must have a jar.
func (w *world) formLogin(name, password string) answer {
	w.t.Helper()
	values := url.Values{"_csrf": {w.get("/login").csrf(w.t)}, "username": {name}, "password": {password}}
	return w.do("POST", "/login", values.Encode(), "Content-Type", form)
}

func (w *world) email(csrf string, headers ...string) answer {
	w.t.Helper()
	return w.do("POST", "/account/email", url.Values{"_csrf": {csrf}, "email": {"a@b.example"}}.Encode(), append(headers, "Content-Type", form)...)
}

func browser(t testing.TB, o testenv.Origin) *world {
	t.Helper()
	w := start(t, o)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.client.Jar = jar
	return w
}

func TestFormLogin(t *testing.T) {
	w := browser(t, testenv.Origin{TLS: true})
	before := w.get("/account")
	before.wantStatus(t, 302)
	if before.Header.Get("Location") != "/login" {
		t.Errorf("sent to %s, want /login", before.Header.Get("Location"))
	}
	wrong := w.formLogin("alice", "x")
	wrong.wantStatus(t, 200)
	if !strings.Contains(wrong.body, "Wrong name or password") || wrong.csrf(t) == "" {
		t.Errorf("a wrong password brings %s", wrong.body)
	}
	w.do("POST", "/login", "username=alice&password=alicepass", "Content-Type", form).wantStatus(t, 403)
	right := w.formLogin("alice", "alicepass")
	right.wantStatus(t, 302)
	if right.Header.Get("Location") != "/account" || !strings.Contains(right.Header["Set-Cookie"][0], "sid=") {
		t.Errorf("after the login: %v", right.Header)
	}
	page := w.get("/account")
	page.wantStatus(t, 200)
	csrf := page.csrf(t)
	w.email("wrong").wantStatus(t, 403)
	w.email(csrf).wantStatus(t, 200)
	w.email(csrf).wantStatus(t, 403)
	w.email("", "X-CSRF-Token", w.get("/account").csrf(t)).wantStatus(t, 200)

	fresh := w.get("/account").csrf(t)
	w.Kill("alice")
	dead := w.email(fresh)
	dead.wantStatus(t, 302)
	if got := dead.Header.Get("Set-Cookie"); got != "sid=; Path=/; Max-Age=0" {
		t.Errorf("a dead session's cookie is set to %q, want it deleted", got)
	}
	w.formLogin("alice", "alicepass").wantStatus(t, 302)
	w.email(fresh).wantStatus(t, 403) // it died with the session
	s := w.Stats()
	balanced(t, s)
	if s.Writes != 2 || s.CSRFRefused != 4 || s.CSRFReused != 1 || s.Logins != 2 || s.FailedLogins != 1 || s.Died != 1 {
		t.Errorf("counts %+v", s.Counts)
	}
	w.get("/logout").wantStatus(t, 302)
	if s := w.Stats(); s.Logouts != 1 || s.Died != 2 {
		t.Errorf("after the logout: %+v", s.Counts)
	}
}

func TestLastingCSRFTokens(t *testing.T) {
	w := browser(t, testenv.Origin{LastingCSRF: true})
	w.formLogin("bob", "bobpass").wantStatus(t, 302)
	csrf := w.get("/account").csrf(t)
	w.email(csrf).wantStatus(t, 200)
	w.email(csrf).wantStatus(t, 200)
}

func TestRolledCookies(t *testing.T) {
	w := browser(t, testenv.Origin{RollCookie: true})
	w.formLogin("bob", "bobpass").wantStatus(t, 302)
	sid := func() string {
		u, _ := url.Parse(w.URL)
		for _, c := range w.client.Jar.Cookies(u) {
			if c.Name == "sid" {
				return "sid=" + c.Value
			}
		}
		return ""
	}
	first := sid()
	w.get("/account").wantStatus(t, 200)
	second := sid()
	if first == second {
		t.Fatal("the cookie stayed the same")
	}
	w.client.Jar = nil
	w.get("/account", "Cookie", first).wantStatus(t, 200)  // the newer one has not been used
	w.get("/account", "Cookie", second).wantStatus(t, 200) // now it has
	w.get("/account", "Cookie", first).wantStatus(t, 302)
	w.get("/account", "Cookie", second).wantStatus(t, 200)
	if s := w.Stats(); s.Stale != 1 || s.Died != 0 {
		t.Errorf("%d stale, %d died, want 1 and 0", s.Stale, s.Died)
	}
}

func TestSessionsDieAfterACountOfRequests(t *testing.T) {
	w := start(t, testenv.Origin{DieAfter: 3})
	for range 4 {
		access, _ := w.apiLogin("alice")
		for range 3 {
			w.get("/api/items", auth(access)...).wantStatus(t, 200)
		}
		w.get("/api/items", auth(access)...).wantStatus(t, 401)
		w.get("/api/items", auth(access)...).wantStatus(t, 401)
	}
	s := w.Stats()
	balanced(t, s)
	if s.Logins != 4 || s.Died != 4 || s.Served != 12 || s.DeadAnswers != 8 || s.Replaced != 0 {
		t.Errorf("counts %+v", s.Counts)
	}
}

func TestADeathIsNoticedByTheNextLogin(t *testing.T) {
	w := start(t, testenv.Origin{DieAfter: 1})
	for range 3 {
		access, _ := w.apiLogin("alice")
		w.get("/api/items", auth(access)...).wantStatus(t, 200)
	}
	if s := w.Stats(); s.Died != 2 || s.Current != 1 || s.Replaced != 0 || s.DeadAnswers != 0 {
		t.Errorf("counts %+v", s.Counts)
	}
}

func TestANeedlessLoginCountsAsReplaced(t *testing.T) {
	for _, single := range []bool{false, true} {
		w := start(t, testenv.Origin{SingleSession: single})
		first, _ := w.apiLogin("alice")
		w.apiLogin("alice")
		status := map[bool]int{false: 200, true: 401}[single]
		w.get("/api/items", auth(first)...).wantStatus(t, status)
		s := w.Stats()
		balanced(t, s)
		if s.Replaced != 1 || s.Died != 0 {
			t.Errorf("single session %v: %d replaced, %d died, want 1 and 0", single, s.Replaced, s.Died)
		}
		if single && s.Stale != 1 {
			t.Errorf("%d stale, want 1", s.Stale)
		}
	}
}

func TestKillHitsOneIdentityAndRevokeItsRefreshTokens(t *testing.T) {
	w := start(t, testenv.Origin{})
	alice, aliceRefresh := w.apiLogin("alice")
	bob, bobRefresh := w.apiLogin("bob")
	w.Kill("alice")
	w.Kill("alice")
	w.get("/api/items", auth(alice)...).wantStatus(t, 401)
	w.get("/api/items", auth(bob)...).wantStatus(t, 200)
	w.do("POST", "/api/refresh", `{"refresh_token":"`+aliceRefresh+`"}`).wantStatus(t, 200)
	w.RevokeAll()
	w.get("/api/items", auth(bob)...).wantStatus(t, 401)
	w.do("POST", "/api/refresh", `{"refresh_token":"`+bobRefresh+`"}`).wantStatus(t, 401)
	s := w.Stats()
	balanced(t, s)
	if s.Identities["alice"].Died != 2 || s.Identities["bob"].Died != 1 {
		t.Errorf("deaths of alice and bob: %d and %d, want 2 and 1", s.Identities["alice"].Died, s.Identities["bob"].Died)
	}
	if name, live := w.Owner(bob); name != "bob" || live {
		t.Errorf("the token is %s's, live %v", name, live)
	}
}

func TestDeadAnswersOfAllKinds(t *testing.T) {
	w := start(t, testenv.Origin{})
	access, _ := w.apiLogin("alice")
	for _, path := range []string{"/as/401", "/as/403", "/as/422", "/as/302", "/as/form", "/as/list"} {
		if a := w.get(path, auth(access)...); a.StatusCode != 200 || !strings.Contains(a.body, "alice") {
			t.Errorf("live %s: %d %s", path, a.StatusCode, a.body)
		}
	}
	w.get("/whoami", auth(access)...).want(t, 200, `{"identity":"alice","by":"bearer","live":true}`)
	w.get("/forbidden", auth(access)...).want(t, 403, `{"error":"forbidden"}`)
	w.KillAll()
	w.get("/as/401", auth(access)...).want(t, 401, `{"error":"unauthorized"}`)
	w.get("/as/403", auth(access)...).want(t, 403, "")
	w.get("/as/422", auth(access)...).want(t, 422, `{"error":"session"}`)
	w.get("/as/list", auth(access)...).want(t, 200, "[]")
	w.get("/as/302", auth(access)...).wantStatus(t, 302)
	w.get("/as/form", auth(access)...).csrf(t)
	w.get("/whoami", auth(access)...).want(t, 200, `{"identity":"anonymous","by":"bearer","live":false}`)
	w.get("/whoami").want(t, 200, `{"identity":"anonymous","live":false}`)
	s := w.Stats()
	balanced(t, s)
	if s.Served != 6 || s.DeadAnswers != 6 || s.Died != 1 || s.Forbidden != 1 {
		t.Errorf("counts %+v", s.Counts)
	}
}

func TestWritesAreCountedByTheirID(t *testing.T) {
	w := start(t, testenv.Origin{})
	access, _ := w.apiLogin("alice")
	const sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	post := func(target string, headers ...string) answer {
		return w.do("POST", target, "hello", append(headers, auth(access)...)...)
	}
	post("/api/items").want(t, 200, `{"count":5,"sha256":"`+sum+`","identity":"alice"}`)
	post("/api/items", "Idempotency-Key", "k").want(t, 200, `{"count":5,"sha256":"`+sum+`","id":"k","applied":1,"identity":"alice"}`)
	post("/api/items?id=k").want(t, 200, `{"count":5,"sha256":"`+sum+`","id":"k","applied":2,"identity":"alice"}`)
	w.KillAll()
	post("/api/items?id=k").wantStatus(t, 401)
	if s := w.Stats(); w.Applied("k") != 2 || s.Writes != 3 || s.Duplicates != 1 {
		t.Errorf("applied %d times, counts %+v", w.Applied("k"), s.Counts)
	}
}

func TestFailLoginsInEveryShape(t *testing.T) {
	w := browser(t, testenv.Origin{})
	w.FailLogins(4)
	w.do("POST", "/auth/login", `{"username":"alice","password":"alicepass"}`).wantStatus(t, 400)
	w.do("POST", "/api/login", `{"username":"alice","password":"alicepass"}`).wantStatus(t, 401)
	w.do("POST", "/oauth/token", "grant_type=password&username=alice&password=alicepass", "Content-Type", form).wantStatus(t, 400)
	w.formLogin("alice", "alicepass").wantStatus(t, 200)
	w.formLogin("alice", "alicepass").wantStatus(t, 302)
	if s := w.Stats(); s.Logins != 1 || s.FailedLogins != 4 || s.Identities["alice"].FailedLogins != 4 {
		t.Errorf("counts %+v", s.Counts)
	}
}

func TestFailNext(t *testing.T) {
	w := start(t, testenv.Origin{})
	w.FailNext("/api/login", 503, 2)
	for range 2 {
		a := w.do("POST", "/api/login", `{}`)
		a.want(t, 503, `{"message":"trouble"}`)
		if a.Header.Get("Retry-After") != "1" {
			t.Error("no Retry-After")
		}
	}
	w.apiLogin("alice")
	w.FailNext("/whoami", 0, 1)
	r, err := http.NewRequest("POST", w.URL+"/whoami", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	if response, err := w.client.Do(r); err == nil {
		response.Body.Close()
		t.Error("the connection was not cut")
	}
}

func TestPlainPlaces(t *testing.T) {
	for _, o := range []testenv.Origin{{}, {TLS: true}, {TLS: true, HTTP2: true}} {
		w := start(t, o)
		proto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[o.HTTP2]
		a := w.get("/echo?a=%zz", "X-Test", "1", "X-Test", "2")
		if a.Proto != proto || !strings.Contains(a.body, `"target":"/echo?a=%zz"`) || !strings.Contains(a.body, `"X-Test":["1","2"]`) {
			t.Errorf("%s echo: %s", a.Proto, a.body)
		}
		w.get("/status?code=418").want(t, 418, `{"code":418}`)
		w.get("/status?code=304").want(t, 304, "")
		w.get("/status?code=7").wantStatus(t, 400)
		if a := w.get("/big?size=100000"); len(a.body) != 100000 || a.ContentLength != 100000 || a.body[99999] != 'a'+99999%26 {
			t.Errorf("%d bytes, Content-Length %d", len(a.body), a.ContentLength)
		}
		if a := w.get("/big?size=100000&chunked=1"); len(a.body) != 100000 || a.ContentLength != -1 {
			t.Errorf("chunked: %d bytes, Content-Length %d", len(a.body), a.ContentLength)
		}
		w.do("POST", "/sink", "hello").want(t, 200, `{"count":5,"sha256":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}`)
		if a := w.get("/stream?events=2"); a.body != "id: 1\ndata: event 1\n\nid: 2\ndata: event 2\n\n" {
			t.Errorf("stream: %q", a.body)
		}
		w.get("/nowhere").want(t, 404, `{"error":"not_found"}`)
		w.do("DELETE", "/login", "").wantStatus(t, 405)
		if s := w.Stats(); s.Requests != 10 || s.Connections != 1 {
			t.Errorf("%d requests on %d connections, want 10 on 1", s.Requests, s.Connections)
		}
	}
}

// TestCountersAreExact has clients that each keep one identity logged in
// while sessions are killed under them. Each login is due to a death.
func TestCountersAreExact(t *testing.T) {
	const clients, requests = 8, 60
	var extra []testenv.Identity
	for i := range clients {
		name := string(rune('k' + i))
		extra = append(extra, testenv.Identity{Name: name, Password: name + "pass"})
	}
	w := start(t, testenv.Origin{DieAfter: 7, Identities: extra})
	var done sync.WaitGroup
	for _, who := range extra {
		done.Go(func() {
			access, _ := w.apiLogin(who.Name)
			for i := range requests {
				if i%10 == 9 {
					w.Kill(who.Name)
				}
				for w.get("/api/items", auth(access)...).StatusCode != 200 {
					access, _ = w.apiLogin(who.Name)
				}
			}
		})
	}
	done.Wait()
	s := w.Stats()
	balanced(t, s)
	if s.Served != clients*requests || s.Replaced != 0 || s.Current != clients || s.DeadAnswers != s.Died || s.Logins != s.Died+clients {
		t.Errorf("counts %+v", s.Counts)
	}
	if s.Requests != s.Served+s.DeadAnswers+s.Logins {
		t.Errorf("%d requests, want %d", s.Requests, s.Served+s.DeadAnswers+s.Logins)
	}
	for _, who := range extra {
		if c := s.Identities[who.Name]; c.Served != requests || c.Logins != c.Died+1 {
			t.Errorf("%s: %+v", who.Name, c)
		}
	}
}

func BenchmarkServedRequest(b *testing.B) {
	w := start(b, testenv.Origin{TLS: true})
	access, _ := w.apiLogin("alice")
	b.ReportAllocs()
	for b.Loop() {
		w.get("/api/items", auth(access)...).wantStatus(b, 200)
	}
}
