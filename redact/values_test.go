package redact_test

import (
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/redact"
)

func TestName(t *testing.T) {
	for _, name := range strings.Fields(`password Password passwd user_password j_password pass userPass txtPwd pwd passphrase secret client_secret clientSecret
		token access_token accessToken refreshToken X-CSRF-Token csrf _csrf xsrf-token csrfmiddlewaretoken authenticity_token api_key apikey X-Api-Key apiKey
		access-key private_key credentials session session_id sessionid PHPSESSID JSESSIONID ASP.NET_SessionId connect.sid sid SID otp totp pin jwt
		auth X-Auth Authorization Proxy-Authorization oauth_verifier code_verifier client_assertion SAMLResponse user[password] user%5Bpassword%5D login.pass`) {
		if !redact.Name([]byte(name)) {
			t.Errorf("%s is none", name)
		}
	}
	for _, name := range strings.Fields(`user username name email author authors inside side consider residence president president_id bypass compass passenger spinner spin pinned
		option host page token_type tokenUrl token_endpoint redirect_uri Content-Type Content-Length Host User-Agent WWW-Authenticate code state id x
		` + strings.Repeat("a", 70) + "token") {
		if redact.Name([]byte(name)) {
			t.Errorf("%s is one", name)
		}
	}
}

// TestValues has texts in which what is a credential stands between ‹ and ›.
func TestValues(t *testing.T) {
	for _, text := range []string{
		"a=1&password=‹correct%2Fhorse›&page=2",
		"?csrf_token=‹a,b›#token=‹x›",
		"user[password]=‹x›&user%5Bpassword%5D=‹y›",
		`{"user":"alice","password":"‹hunter2 \"x\" y›","n":1}`,
		`{"pin": ‹1234›, "otp" : ‹99›}`,
		`{"token":null,"secret":true,"auth":{"user":"x","pass":"‹y›"}}`,
		`{"tokens":["‹a›", "‹b›"],"x":["c"]}`,
		`{"pins":[1]}`, // the plural of a short one is none
		`{"tokens":[{"id":1,"token":"‹x›"}]}`,
		`{"inner":"{\"password\":\"‹x y›\",\"a\":\"b\"}"}`,
		`{"inner":"{\"inner\":\"{\\\"token\\\":\\\"‹deep›\\\",\\\"a\\\":1}\"}"}`,
		"password: ‹hunter2›\nname: x",
		`session='‹a b›'; other='c'`,
		`token = "‹x›";`,
		"GET / HTTP/1.1\r\nAuthorization: Bearer ‹x›\r\nX-Api-Key: ‹y›\r\nProxy-Authorization:‹z›\r\nAuthorization: ‹only›\r\n",
		"if (token == 1) token => 2",
		"the token=",
		"http://bob:‹secret›@shop.example/ https://shop.example:443/@ ws://a:‹b›@c",
		`<input type="hidden" name="csrf" value="‹x›"><input name=page value=1>`,
		`<input value='‹x y›' name='password' id=1>`,
		`<meta name="csrf-token" content="‹x›"/>`,
		`<input name=token value=‹x› />`,
		"--b\r\nContent-Disposition: form-data; name=\"password\"\r\nContent-Type: text/plain\r\n\r\n‹hunter2›\r\n--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\ny\r\n",
		`"token":"‹it does not end`,
		"",
	} {
		plain := strings.NewReplacer("‹", "", "›", "").Replace(text)
		var out strings.Builder
		at := 0
		redact.Values([]byte(plain), func(from, to int) {
			if from < at || to > len(plain) {
				t.Fatalf("%s: from %d to %d behind %d", plain, from, to, at)
			}
			out.WriteString(plain[at:from] + "‹" + plain[from:to] + "›")
			at = to
		})
		out.WriteString(plain[at:])
		if got := out.String(); got != text && got != text+"›" {
			t.Errorf("got  %s\nwant %s", got, text)
		}
	}
}

// FuzzValues checks what is promised of any text: within it, and no more work
// than its length.
func FuzzValues(f *testing.F) {
	f.Add([]byte(`{"token":["a",{"b":'c'}]}&pass=x`))
	f.Add([]byte("<input name=pwd value=x>; name=\"otp\"\r\n\r\nx\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n := 0
		redact.Values(text, func(from, to int) {
			if from < 0 || from >= to || to > len(text) {
				t.Fatalf("from %d to %d of %d", from, to, len(text))
			}
			n++
		})
		if n > len(text) {
			t.Fatalf("%d values in %d bytes", n, len(text))
		}
	})
}

// BenchmarkValues is on texts that are made to take long, and on one that is not.
func BenchmarkValues(b *testing.B) {
	for name, part := range map[string]string{"json": `{"id":17,"name":"a product","price":12.5,"tags":["a","b"]},`, "tags": "<input name=pwd =", "names": "name=pwd\r\n", "quotes": `token="\"`,
		"apostrophes": "token='\n", "escapes": `\\\\\\\\":`, "urls": "://a:", "blanks": "        ="} {
		text := []byte(strings.Repeat(part, 1<<20/len(part)))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				redact.Values(text, func(int, int) {})
			}
		})
	}
}
