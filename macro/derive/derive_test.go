package derive_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/macro/derive"
	"github.com/holdfast-proxy/holdfast/wire"
)

// recorded makes exchanges of pairs of raw requests and answers, with LF.
func recorded(t *testing.T, messages ...string) (all []convert.Exchange) {
	t.Helper()
	for i := 0; i+1 < len(messages); i += 2 {
		r, err := convert.ParseRaw([]byte(messages[i]), true)
		if err != nil {
			t.Fatalf("%q: %v", messages[i], err)
		}
		x := r.Exchanges[0]
		x.Entry = len(all) + 1
		if messages[i+1] != "" {
			head, body, _ := strings.Cut(messages[i+1], "\n\n")
			x.Response, err = wire.ParseResponse([]byte("HTTP/1.1 " + strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n"))
			if err != nil {
				t.Fatalf("%q: %v", messages[i+1], err)
			}
			x.ResponseBody = []byte(body)
		}
		all = append(all, x)
	}
	return all
}

const (
	token = "8f3kQ9zLw2PbX7"
	login = "user=alice&password=wonderland"
	ok    = "200 OK\nSet-Cookie: sid=9d8f7a6b5c4d; Path=/"
)

// shape is one in which an answer brings a value and a request carries it: the
// source and the text of the request that must come of it.
type shape struct{ answer, fields, body, source, request string }

func shapes() map[string]shape {
	b64 := base64.StdEncoding.EncodeToString
	return map[string]shape{
		"a hidden field": {`200 OK

<form><input type=hidden value=` + token + ` name=_csrf></form>`, "", "_csrf=" + token + "&" + login,
			"FormField name _csrf", "_csrf={{CSRF}}&user={{USER}}&password={{PASS}}"},
		"a short hidden field, by its name": {`200 OK

<input name=lt value=e1s1>`, "", "lt=e1s1&" + login, "FormField name lt", "lt={{LT}}&user="},
		"a field with references, percent-encoded in the request": {`200 OK

<input name=t value="a&amp;b/` + token + `=">`, "", "t=a%26b%2F" + token + "%3D&" + login, "FormField name t", "t={{T}}&user="},
		"the second field of the name": {`200 OK

<input name=t value=other1234567><input name=t value=` + token + `>`, "", "t=" + token + "&" + login, "FormField name t match 2", "t={{T}}&"},
		"a meta element for a field of the head": {`200 OK

<meta name="csrf-token" content="` + token + `">`, "X-CSRF-Token: " + token, login, "FormField name csrf-token", "X-CSRF-Token: {{CSRF_TOKEN}}\n"},
		"an attribute": {`200 OK

<div id=app data-nonce="` + token + `"></div>`, "", "n=" + token + "&" + login, "CSS selector div#app attribute data-nonce", "n={{NONCE}}&"},
		"a variable of a script": {`200 OK

<script>var nonce='` + token + `';</script>`, "", "n=" + token + "&" + login, `ResponseBody regex \bnonce["']?\s*[:=]\s*["']([^"']+)["']`, "n={{NONCE}}&"},
		"a string of a script with escapes": {`200 OK

<script>x={"nonce":"a\/` + token + `\u0026b"}</script>`, "", "n=a%2F" + token + "%26b&" + login,
			`ResponseBody regex \bnonce["']?\s*[:=]\s*["']([^"']+)["'] decode json`, "n={{NONCE}}&"},
		"JSON": {`200 OK
Content-Type: application/json

{"a":[{"b.c":{"nonce":"` + token + `"}}]}`, "", "n=" + token + "&" + login, "JSON path $.a[0]['b.c'].nonce", "n={{NONCE}}&"},
		"a number in JSON": {`200 OK
Content-Type: application/json

{"flow":12345678}`, "", "flow=12345678&" + login, "JSON path $.flow", "flow={{FLOW}}&"},
		"base64 in JSON": {`200 OK
Content-Type: application/json

{"flow":"` + b64([]byte("state:"+token)) + `"}`, "", "flow=state%3A" + token + "&" + login, "JSON path $.flow decode base64", "flow={{FLOW}}&"},
		"sent in base64": {`200 OK
Content-Type: application/json

{"flow":"` + token + `"}`, "", "x=" + strings.ReplaceAll(b64([]byte(token)), "=", "%3D") + "&" + login, "JSON path $.flow", "x={{base64:FLOW}}&"},
		"a field of the head": {"200 OK\nX-Request-Token: " + token, "X-Request-Token: " + token, login, "ResponseHeader name X-Request-Token", "X-Request-Token: {{REQUEST_TOKEN}}"},
		"a scheme before it": {`200 OK
Content-Type: application/json

{"access_token":"` + token + `"}`, "Authorization: Bearer " + token, login, "JSON path $.access_token", "Authorization: Bearer {{ACCESS_TOKEN}}"},
		"a scheme before base64": {`200 OK
Content-Type: application/json

{"access_token":"` + token + "/x7/" + token + `="}`, "Authorization: Bearer " + token + "/x7/" + token + "=", login, "JSON path $.access_token", "Authorization: Bearer {{ACCESS_TOKEN}}"},
		"a number before a token": {`200 OK
Content-Type: application/json

{"token":"12|` + token + `"}`, "Authorization: Bearer 12|" + token, login, "JSON path $.token", "Authorization: Bearer {{TOKEN}}"},
		"a parameter of a challenge": {`401 Unauthorized
WWW-Authenticate: Custom realm="x", nonce="` + token + `"`, "", "n=" + token + "&" + login, `ResponseHeader name WWW-Authenticate regex nonce="([^"]+)"`, "n={{NONCE}}&"},
		"a cookie that is repeated, decoded": {"200 OK\nSet-Cookie: XSRF-TOKEN=a%2Fb" + token + "; Path=/", "X-XSRF-TOKEN: a/b" + token, login,
			"Cookie name XSRF-TOKEN decode url", "X-XSRF-TOKEN: {{XSRF_TOKEN}}"},
		"a redirect's parameter": {"302 Found\nLocation: /login?flow=" + token, "", "flow=" + token + "&" + login, "RedirectURL param flow", "flow={{FLOW}}&"},
		"a redirect's fragment":  {"302 Found\nLocation: /#/login?flow=" + token, "", "x=" + token + "&" + login, "RedirectURL param /login?flow", "x={{LOGIN_FLOW}}&"},
		"a redirect's path":      {"302 Found\nLocation: /flows/" + token + "/start", "", "x=" + token + "&" + login, "RedirectURL regex flows/([^/?#]+)", "x={{X}}&"},
		"a link of a page": {`200 OK

<a href="/go?a=1&amp;ticket=` + token + `">go</a>`, "", "ticket=" + token + "&" + login, `ResponseBody regex <a\s[^>]*href=["'][^"'>]*[?&;]ticket=([^"'&#]+)`, "ticket={{TICKET}}&"},
		"the text of an element": {`200 OK

<p>Your code is <b>` + token + `</b></p>`, "", "code2=" + token + "&" + login, "Between start b> end <", "code2={{CODE2}}&"},
		"beside another value of the kind": {`200 OK

<li>7h2kLmQ9xZ, ` + token + `;</li>`, "", "code2=" + token + "&" + login, "Between start ,  end ;", "code2={{CODE2}}&"},
		"a redirect's path behind another": {"302 Found\nLocation: /flows/0a1b2c3d4e5f/" + token, "", "x=" + token + "&" + login, "RedirectURL regex flows/[^/?#]+/([^/?#]+)", "x={{X}}&"},
		"parts of a body in parts": {`200 OK

<input name=t value=` + token + `>`, "Content-Type: multipart/form-data; boundary=B",
			"--B\r\nContent-Disposition: form-data; name=\"t\"\r\n\r\n" + token + "\r\n--B\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nalice\r\n" +
				"--B\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\nwonderland\r\n--B--\r\n",
			"FormField name t", "name=\"t\"\r\n\r\n{{T}}\r\n"},
		"JSON in the request": {`200 OK

<input name=t value="a&quot;b` + token + `">`, "Content-Type: application/json", `{"x":{"t":"a\"b` + token + `"},"user":"alice","password":"wonderland"}`,
			"FormField name t", `{"x":{"t":"{{T}}"},"user":"{{USER}}","password":"{{PASS}}"}`},
		"inside of JSON in a parameter": {`200 OK

<input name=t value=` + token + `>`, "", "json=%7B%22t%22%3A%22" + token + "%22%7D&" + login, "FormField name t", "json=%7B%22t%22%3A%22{{T}}%22%7D&"},
		"a cookie that a script set": {`200 OK

<script>document.cookie = "x"; var tk = "` + token + `"</script>`, "Cookie: tk=" + token + "; lang=en", login, `ResponseBody regex \btk["']?\s*[:=]\s*["']([^"']+)["']`, "Cookie: tk={{TK}}; lang=en\n"},
	}
}

func TestDerived(t *testing.T) {
	for name, c := range shapes() {
		t.Run(name, func(t *testing.T) {
			fields := c.fields
			if !strings.Contains(fields, "Content-Type") {
				fields = strings.TrimPrefix(fields+"\nContent-Type: application/x-www-form-urlencoded", "\n")
			}
			d, err := derive.From(recorded(t, "GET /login HTTP/1.1\nHost: shop.example\n", c.answer,
				"POST /login HTTP/1.1\nHost: shop.example\n"+fields+"\n\n"+c.body, ok), derive.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(d.Steps) != 2 {
				var b bytes.Buffer
				d.Report(&b)
				t.Fatalf("%d steps:\n%s", len(d.Steps), &b)
			}
			sources := ""
			for _, x := range d.Steps[0].Extract {
				sources += x.Source.String() + "\n"
			}
			if !strings.HasPrefix(sources, c.source) || c.request != "" && sources != c.source+"\n" {
				t.Errorf("source %q, want %q", sources, c.source)
			}
			if !strings.Contains(d.Steps[1].Request, c.request) {
				t.Errorf("request\n%s\nwant in it\n%s", d.Steps[1].Request, c.request)
			}
			if strings.Contains(d.Steps[1].Request, token) || strings.Contains(d.Steps[1].Request, "wonderland") {
				t.Errorf("the recorded value is in the request:\n%s", d.Steps[1].Request)
			}
			same(t, d)
		})
	}
}

// same writes the draft as a configuration and reads it again.
func same(t *testing.T, d *derive.Draft) {
	t.Helper()
	if _, err := d.Macro(); err != nil {
		t.Error(err)
	}
	raw, err := d.YAML()
	if err != nil {
		t.Fatal(err)
	}
	file, _, err := config.Parse("derived.yaml", raw, config.Options{})
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	for i, s := range file.Macros[0].Steps {
		if s.Request.String() != d.Steps[i].Request {
			t.Errorf("step %d is\n%q\nand was\n%q", i+1, s.Request, d.Steps[i].Request)
		}
		for n, x := range s.Extract {
			if got, want := x.Source.String(), d.Steps[i].Extract[n].Source.String(); got != want {
				t.Errorf("step %d takes from %q, was %q", i+1, got, want)
			}
		}
	}
}

// A parameter of a segment of the path is derived, and the segment is not.
func TestPathParameters(t *testing.T) {
	d, err := derive.From(recorded(t,
		get("/app/"), "200 OK\nContent-Type: text/html\nSet-Cookie: JSESSIONID=42CB5D8D8AE8E273E735; Path=/app\n\n<form action='j_security_check;jsessionid=42CB5D8D8AE8E273E735' >",
		post("/app/j_security_check;jsessionid=42CB5D8D8AE8E273E735", "j_username=alice&j_password=wonderland"), "303 See Other\nLocation: /app/"), derive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "POST {{BASE}}/app/j_security_check;jsessionid={{JSESSIONID}} HTTP/1.1\n"; !strings.HasPrefix(d.Steps[1].Request, want) {
		t.Errorf("%s", d.Steps[1].Request)
	}
	if want := "POST /app/…"; d.Steps[1].Name != want {
		t.Errorf("the step is called %q, want %q", d.Steps[1].Name, want)
	}
	same(t, d)
}

func get(path string) string { return "GET " + path + " HTTP/1.1\nHost: shop.example\n" }

func post(path, body string) string {
	return "POST " + path + " HTTP/1.1\nHost: shop.example\nContent-Type: application/x-www-form-urlencoded\n\n" + body
}

const page = "200 OK\nContent-Type: text/html\nSet-Cookie: visit=a1b2c3d4e5; Path=/\n\n<input name=t value=" + token + "><input name=who><input type=password name=word>"

func TestWhatIsDropped(t *testing.T) {
	d, err := derive.From(recorded(t,
		"OPTIONS /login HTTP/1.1\nHost: shop.example\n", "204 No Content",
		get("/"), "200 OK\nContent-Type: text/html\n\n<h1>Shop</h1>",
		get("/style.css"), "200 OK\nContent-Type: text/css\n\nx",
		"GET https://www.google-analytics.com/collect?v=1 HTTP/1.1\n", "200 OK\n\nx",
		get("/login"), page,
		post("/login", "t="+token+"&who=alice&word=wrong"), "403 Forbidden\n\nno",
		get("/login"), page,
		get("/blocked"), "",
		post("/login", "t="+token+"&who=alice&word=wonderland"), "302 Found\nLocation: /welcome\n"+strings.TrimPrefix(ok, "200 OK\n"),
		get("/welcome"), "302 Found\nLocation: /home\nSet-Cookie: prefs=0123456789abc; Path=/",
		get("/home"), "200 OK\nContent-Type: text/html\n\n<h1>Welcome</h1>",
		get("/api/news"), "200 OK\nContent-Type: application/json\n\n[]"), derive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, s := range d.Steps {
		fmt.Fprintf(&b, "%d %s: %s\n", s.Entry, s.Name, s.Expect)
	}
	for _, x := range d.Dropped {
		fmt.Fprintf(&b, "- %d %s\n", x.Entry, x.Reason)
	}
	want := `7 GET /login: resp.code.eq:200
9 POST /login: resp.code.eq:302 AND resp.redirect.cont:"/welcome"
10 GET /welcome: resp.code.eq:302 AND resp.redirect.cont:"/home"
- 1 a preflight of a browser
- 2 nothing that the login needs comes from its answer
- 3 a static file
- 4 analytics or advertising
- 5 nothing that the login needs comes from its answer
- 6 the same login was tried again later
- 8 it was not answered
- 11 nothing that the login needs comes from its answer
- 12 nothing that the login needs comes from its answer
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if user, _ := d.Lookup("USER"); user != "alice" {
		t.Errorf("USER is %q", user)
	}
	if d, err = derive.From(recorded(t, get("/a"), page, post("/login", login), ok), derive.Options{KeepAll: true}); err != nil || len(d.Steps) != 2 {
		t.Errorf("%v; KeepAll keeps %d steps", err, len(d.Steps))
	}
	if _, err = derive.From(nil, derive.Options{}); !errors.Is(err, derive.ErrNothing) {
		t.Errorf("nothing recorded: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	for name, c := range map[string]struct {
		messages []string
		values   map[string]string
		want     string // variables
		request  string // of the last step
	}{
		"the form says which": {[]string{get("/login"), page, post("/login", "t="+token+"&who=al&word=x1")}, nil, "BASE PASS=x1 USER=al", "who={{USER}}&word={{PASS}}"},
		"a name first, the password later": {[]string{post("/name", "email=al%40x.example"), "200 OK\nSet-Cookie: flow=0123456789ab\n\n", post("/login", "email=al%40x.example&pwd=x1")}, nil,
			"BASE PASS=x1 USER=al@x.example", "email={{USER}}&pwd={{PASS}}"},
		"values that the caller gives": {[]string{post("/login", "q=hello+alice&z=wonderland")}, map[string]string{"PASS": "wonderland", "USER": "alice"},
			"BASE PASS=wonderland USER=alice", "q=hello+{{USER}}&z={{PASS}}"},
		"Basic": {[]string{"GET /login HTTP/1.1\nHost: shop.example\nAuthorization: Basic " + base64.StdEncoding.EncodeToString([]byte("al:x1")) + "\n"}, nil,
			"BASE BASIC=al:x1", "Authorization: Basic {{base64:BASIC}}"},
		"OAuth": {[]string{post("/token", "grant_type=refresh_token&client_id=shop&client_secret=s3cr3t&refresh_token="+token)}, nil,
			"BASE CLIENT_SECRET=s3cr3t REFRESH_TOKEN=" + token, "client_secret={{CLIENT_SECRET}}&refresh_token={{REFRESH_TOKEN}}"},
		"a one-time code":      {[]string{post("/login", login), ok, post("/otp", "otp=123456")}, nil, "BASE OTP=123456 PASS=wonderland USER=alice", "otp={{OTP}}"},
		"two passwords":        {[]string{post("/login", "user=al&password=x1&new_password=x2&confirm_password=x2")}, nil, "BASE PASS2=x2 PASS=x1 USER=al", "password={{PASS}}&new_password={{PASS2}}&confirm_password={{PASS2}}"},
		"braces that are text": {[]string{post("/login", "x={{y}}&"+login)}, nil, "BASE BRACES={{ PASS=wonderland USER=alice", "x={{raw:BRACES}}y}}&user="},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := derive.From(recorded(t, append(c.messages, ok)...), derive.Options{Values: c.values})
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, v := range d.Variables {
				if v.Name == "BASE" {
					all = append(all, v.Name)
					continue
				}
				all = append(all, v.Name+"="+v.Value)
			}
			if got := strings.Join(sorted(all), " "); got != c.want {
				t.Errorf("variables %s, want %s", got, c.want)
			}
			if got := d.Steps[len(d.Steps)-1].Request; !strings.Contains(got, c.request) {
				t.Errorf("request\n%s\nwant in it %s", got, c.request)
			}
			same(t, d)
		})
	}
}

func sorted(all []string) []string {
	for i := range all {
		for j := i; j > 0 && all[j] < all[j-1]; j-- {
			all[j], all[j-1] = all[j-1], all[j]
		}
	}
	return all
}

// What a client makes up for OAuth is made up anew by the macro.
func TestMadeUp(t *testing.T) {
	verifier := "Jk8sd7fKJHsdf87sdfkjhSDF87sdf6876sdfKJHGsdf"
	h := sha256.Sum256([]byte(verifier))
	challenge := base64.RawURLEncoding.EncodeToString(h[:])
	state := "st4te8f7a6b5c4d3"
	d, err := derive.From(recorded(t,
		get("/authorize?client_id=spa&response_type=code&state="+state+"&code_challenge_method=S256&code_challenge="+challenge), page,
		post("/login", "t="+token+"&who=alice&word=wonderland"), "302 Found\nLocation: https://shop.example/cb?code=c0de123456789&state="+state,
		get("/cb?code=c0de123456789&state="+state), "200 OK\nContent-Type: text/html\n\n<p>",
		post("/token", "grant_type=authorization_code&code=c0de123456789&code_verifier="+verifier), "200 OK\nContent-Type: application/json\n\n{\"access_token\":\"acc3ss0123456789\"}",
		"GET /api HTTP/1.1\nHost: shop.example\nAuthorization: Bearer acc3ss0123456789\n", "200 OK\n\n[]"), derive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	first, last := d.Steps[0].Request, d.Steps[len(d.Steps)-1].Request
	for _, want := range []string{"state={{oauth.state}}&", "code_challenge={{pkce.challenge}}"} {
		if !strings.Contains(first, want) {
			t.Errorf("%s is not in\n%s", want, first)
		}
	}
	if want := "grant_type=authorization_code&code={{CODE}}&code_verifier={{pkce.verifier}}"; !strings.Contains(last, want) {
		t.Errorf("%s is not in\n%s", want, last)
	}
	want := derive.Product{Token: "ACCESS_TOKEN", Step: len(d.Steps), Source: "JSON path $.access_token", Place: "header:authorization", Template: "Bearer {{ACCESS_TOKEN}}"}
	if len(d.Products) != 1 || d.Products[0] != want {
		t.Errorf("products %+v", d.Products)
	}
	if len(d.Open) != 0 {
		t.Errorf("open %+v", d.Open)
	}
	same(t, d)
}

func TestOriginsBecomeVariables(t *testing.T) {
	d, err := derive.From(recorded(t,
		get("/start"), "302 Found\nLocation: https://id.example/login?back=https%3A%2F%2Fshop.example%2Fcb\nSet-Cookie: a=0123456789ab",
		"GET https://id.example/login?back=https%3A%2F%2Fshop.example%2Fcb HTTP/1.1\n", page,
		"POST https://id.example/login HTTP/1.1\nOrigin: https://id.example\nReferer: https://id.example/login\nContent-Type: application/x-www-form-urlencoded\n\nt="+token+"&who=alice&word=wonderland",
		"302 Found\nLocation: https://shop.example/cb?code=c0de123456789",
		get("/cb?code=c0de123456789"), ok), derive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, s := range d.Steps {
		all.WriteString(s.Request)
	}
	for _, want := range []string{"GET {{BASE}}/start HTTP/1.1\n", "GET {{BASE2}}/login?back={{BASE}}%2Fcb HTTP/1.1\n", "Origin: {{BASE2}}\nReferer: {{BASE2}}/login\n", "GET {{BASE}}/cb?code={{CODE}} HTTP/1.1\n"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("%q is not in\n%s", want, all.String())
		}
	}
	same(t, d)
}

// Whatever was recorded, a draft is a macro and a file.
func FuzzFrom(f *testing.F) {
	f.Add("x={{y}}&t="+token+"&"+login, page, "a: b")
	f.Add(`{"a":{"b":"`+token+`"},"password":"x"}`, `{"t":"`+token+`"}`, "Content-Type: application/json")
	f.Fuzz(func(t *testing.T, body, answer, field string) {
		r, err := convert.ParseRaw([]byte("POST /login HTTP/1.1\nHost: x\n"+field+"\n\n"+body), true)
		if err != nil {
			return
		}
		all := recorded(t, get("/"), ok)
		all[0].ResponseBody = []byte(answer)
		x := r.Exchanges[0]
		x.Entry, x.Response = 2, all[0].Response
		d, err := derive.From(append(all, x), derive.Options{})
		if err != nil {
			return
		}
		if _, err := d.Macro(); err != nil {
			t.Fatal(err)
		}
		if _, err := d.YAML(); err != nil {
			t.Fatal(err)
		}
	})
}

// A short value that stands in a large script a thousand times is not looked at
// in each of its places, for each request anew: this ended after minutes.
func TestAShortValueInALargeScript(t *testing.T) {
	script := "200 OK\nContent-Type: text/html\n\n<script>" + strings.Repeat(`{name:"name",field:"name",fields:"name",x:"`+strings.Repeat("y", 300)+`"},`, 400) + "</script>"
	messages := []string{get("/app"), script, post("/login", login), ok}
	for i := range 40 {
		messages = append(messages, get(fmt.Sprintf("/list/%d?fields=name", i)), "200 OK\nContent-Type: application/json\n\n[]")
	}
	d, err := derive.From(recorded(t, messages...), derive.Options{})
	if err != nil || len(d.Steps) != 1 {
		t.Fatalf("%v; %d steps, want 1", err, len(d.Steps))
	}
}

// What an application wrote reads no file and nothing of the environment, where it
// stands in a configuration.
func TestDerivedTextIsNoReference(t *testing.T) {
	d := &derive.Draft{Name: "m", Variables: []derive.Variable{{Name: "A", Value: "${file:/etc/passwd}"}, {Name: "USER", Value: "${env:HOME}", Secret: true}, {Name: "PASS", Value: "${env:PATH}", Secret: true}}}
	text, env, err := d.HiddenYAML()
	if err != nil || strings.Contains(string(text), "${file:") || strings.Contains(string(text), "${env:HOME") || !strings.Contains(string(text), "${env:RECORDED_PASS}") || env["RECORDED_PASS"] != "${env:PATH}" {
		t.Errorf("got %s %v %v", text, env, err)
	}
}
