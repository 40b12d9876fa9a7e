package script_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/script"
	"github.com/holdfast-proxy/holdfast/wire"
)

// world is what a script sees and changes.
type world struct {
	call      *script.Call
	request   *wire.Request
	response  *wire.Response
	body      []byte
	answer    []byte
	variables map[string]string
	log       []string
	fetched   []*script.Fetch
}

func newWorld(t testing.TB) *world {
	t.Helper()
	var err error
	w := &world{variables: map[string]string{"KEY": "key", "PASS": "secret-pass"}, body: []byte(`{"items":[{"price":1},{"price":2}]}`), answer: []byte(`{"a":1,"debug":true}`)}
	if w.request, err = wire.ParseRequest([]byte("POST /p%2Fq?a=1&b HTTP/1.1\r\nhost:  shop.example\r\nX-Two: 1\r\nx-two:2\r\nX-Debug: on\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if w.response, err = wire.ParseResponse([]byte("HTTP/1.1 200 Fine\r\nContent-Type: application/json\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	order := uint64(0)
	w.call = &script.Call{
		Origin:       flow.Origin{TLS: true, Host: "shop.example", Port: 443},
		Request:      w.request,
		EditRequest:  func() *wire.Request { return w.request },
		RequestBody:  &script.Body{Get: func() ([]byte, error) { return w.body, nil }, Set: func(b []byte) error { w.body = b; return nil }},
		Response:     w.response,
		EditResponse: func() *wire.Response { return w.response },
		ResponseBody: &script.Body{Get: func() ([]byte, error) { return w.answer, nil }, Set: func(b []byte) error { w.answer = b; return nil }},
		Lookup:       func(name string) (string, bool) { v, ok := w.variables[name]; return v, ok }, SetsVariables: true,
		Jar: jar.New(jar.Options{}), Now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) },
		Order: func() uint64 { order++; return order },
		Log:   func(line string) { w.log = append(w.log, line) },
		Redact: func(s string) string {
			return strings.ReplaceAll(s, "secret-pass", "***")
		},
		Fetch: func(_ context.Context, f *script.Fetch) (*script.Answer, error) {
			w.fetched = append(w.fetched, f)
			if strings.HasSuffix(f.URL, "/down") {
				return nil, errors.New("no connection")
			}
			resp, err := wire.ParseResponse([]byte("HTTP/1.1 201 Made\r\nX-A: 1\r\n\r\n"))
			return &script.Answer{URL: "https://shop.example" + f.URL, Response: resp, Body: []byte(`{"nonce":"n1"}`)}, err
		},
	}
	return w
}

func (w *world) run(t testing.TB, src string) *script.Result {
	t.Helper()
	r := script.NewRunner(script.Limits{Time: time.Minute})
	defer r.Close()
	out, err := r.Run(context.Background(), compile(t, src), w.call)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return out
}

// Each example of the page runs.
func TestPageExamples(t *testing.T) {
	page, err := os.ReadFile("../docs/scripts.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)\n```js\n(.*?)\n```\n").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 10 {
		t.Fatalf("the page has %d examples", len(blocks))
	}
	for _, b := range blocks {
		w := newWorld(t)
		w.run(t, b[1])
	}
}

// What scripts do to the head changes those bytes and no other.
func TestHeads(t *testing.T) {
	for _, c := range []struct{ src, head, edits string }{
		{`request.headers.set("HOST", "other.example")`, "POST /p%2Fq?a=1&b HTTP/1.1\r\nhost:  other.example\r\nX-Two: 1\r\nx-two:2\r\nX-Debug: on\r\n\r\n", "[header host]"},
		{`request.headers.add("X-TWO", "3"); request.headers.remove("x-debug")`, "POST /p%2Fq?a=1&b HTTP/1.1\r\nhost:  shop.example\r\nX-Two: 1\r\nx-two:2\r\nX-TWO: 3\r\n\r\n", "[header x-two header x-debug]"},
		{`request.method = "PUT"; request.path = "/new"`, "PUT /new?a=1&b HTTP/1.1\r\nhost:  shop.example\r\nX-Two: 1\r\nx-two:2\r\nX-Debug: on\r\n\r\n", "[method path]"},
		{`request.query = ""`, "POST /p%2Fq HTTP/1.1\r\nhost:  shop.example\r\nX-Two: 1\r\nx-two:2\r\nX-Debug: on\r\n\r\n", "[query]"},
		{`request.headers.set("X-Debug", "on"); request.path = request.path; request.query = request.query; request.method = "POST"`,
			"POST /p%2Fq?a=1&b HTTP/1.1\r\nhost:  shop.example\r\nX-Two: 1\r\nx-two:2\r\nX-Debug: on\r\n\r\n", "[]"},
		{`response.status = 404; response.headers.remove("content-type")`, "HTTP/1.1 404 Fine\r\n\r\n", "[status header content-type]"},
	} {
		w := newWorld(t)
		out := w.run(t, c.src)
		got := string(w.request.Bytes())
		if strings.HasPrefix(c.head, "HTTP/") {
			got = string(w.response.Bytes())
		}
		if got != c.head || fmt.Sprint(out.Edits) != c.edits {
			t.Errorf("%s: %q, edits %v", c.src, got, out.Edits)
		}
	}
}

func TestValues(t *testing.T) {
	for src, want := range map[string]string{
		`request.method + " " + request.url + " " + request.path + "|" + request.query + "|" + request.host + "|" + request.version`:                                        "POST https://shop.example/p%2Fq?a=1&b /p%2Fq|a=1&b|shop.example|HTTP/1.1",
		`JSON.stringify([request.headers.get("x-TWO"), request.headers.getAll("x-two"), request.headers.has("none"), request.headers.get("none"), request.headers.list()])`: `["1",["1","2"],false,null,[["host","shop.example"],["X-Two","1"],["x-two","2"],["X-Debug","on"]]]`,
		`request.body.json().items.length + " " + request.body.length + " " + request.body.bytes()[0]`:                                                                      "2 35 123",
		`response.status + response.reason + response.body.text()`:                                                                                                          `200Fine{"a":1,"debug":true}`,
		`return crypto.md5("abc")`:                   "900150983cd24fb0d6963f7d28e17f72",
		`crypto.sha1("abc")`:                         "a9993e364706816aba3e25717850c26c9cd0d89d",
		`crypto.sha256("abc", "base64")`:             "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
		`crypto.hash("SHA-512", "abc").slice(0, 16)`: "ddaf35a193617aba",
		`crypto.hmac("sha1", "key", "The quick brown fox jumps over the lazy dog")`:                                                                                         "de7c9b85b8b78aa6bc8a7a36f70a90701c9db4d9",
		`crypto.hmac("sha256", "key", "The quick brown fox jumps over the lazy dog")`:                                                                                       "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8",
		`crypto.hmac("sha512", "key", "The quick brown fox jumps over the lazy dog", "base64url").slice(0, 10)`:                                                             "tCrwkFe6we",
		`crypto.hmac("sha256", crypto.hex.decode("00ff"), crypto.bytes("ж"), "bytes").length`:                                                                               "32",
		`crypto.base64.encode("ж") + crypto.base64url.encode(crypto.hex.decode("fbff")) + crypto.text(crypto.base64.decode("0LY"))`:                                         "0LY=-_8ж",
		`btoa("\u00ff") + atob("_w").charCodeAt(0)`:                                                                                                                         "/w==255",
		`crypto.uuid().replace(/[0-9a-f]/g, "x")`:                                                                                                                           "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
		`crypto.randomBytes(5).length + crypto.randomBytes(5, "bytes").length`:                                                                                              "15",
		`crypto.jwt.sign('{"sub":"1234567890","name":"John Doe","iat":1516239022}', "your-256-bit-secret", {header: {alg: "x"}})`:                                           "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
		`let j = crypto.jwt.decode("Bearer " + crypto.jwt.sign({a: [1]}, "k", {alg: "HS512"})); j.header.alg + j.claims.a[0]`:                                               "HS5121",
		`variables.set("N", "1"); variables.get("N") + variables.get("KEY") + variables.has("none")`:                                                                        "1keyfalse",
		`jar.set("a", "1"); jar.set("b", "2", {path: "/p%2Fq", domain: "shop.example", maxAge: 5}); let n = jar.delete("a"); JSON.stringify([n, jar.get("a"), jar.list()])`: `[1,null,[["b","2"]]]`,
		`let f = fetch("/n", {body: "x", headers: {A: 1}}); [f.status, f.ok, f.url, f.headers.get("x-a"), f.json().nonce, f.truncated].join()`:                              "201,true,https://shop.example/n,1,n1,false",
		`try { fetch("/down") } catch (e) { e.message }`:                                                                                                                    "fetch: no connection",
		`try { request.headers.set("A", "b\r\nC: d") } catch (e) { "refused" }`:                                                                                             "refused",
		`try { request.headers.set("Content-Length", "1") } catch (e) { e.message }`:                                                                                        "Content-Length follows the body; set the body",
		`try { request.path = "/a b" } catch (e) { "refused" }`:                                                                                                             "refused",
		`(async () => "promised")()`:                                                                                  "promised",
		`crypto.hex.decode("ff41")`:                                                                                   "\xffA",
		`if (request.method === "POST") { return 7 } return 8`:                                                        "7",
		`"a-b-c".split("-").reverse().join("+")`:                                                                      "c+b+a",
		`[..."aж"].map(c => c.toUpperCase()).concat(["x"], [["y"]]).flat().join("")`:                                  "AЖxy",
		`"aXbX".replaceAll("X", "$&$&").replace(/(a)(X)/, "$2$1")`:                                                    "XaXbXX",
		`JSON.stringify({a: [1, {b: undefined, c: new Date(0)}]}, null, 1)`:                                           "{\n \"a\": [\n  1,\n  {\n   \"c\": \"1970-01-01T00:00:00.000Z\"\n  }\n ]\n}",
		`JSON.stringify({a: 1, b: {a: 2, c: 3}}, ["a", "b"]) + JSON.stringify([1, 2], (k, v) => v === 2 ? "two" : v)`: `{"a":1,"b":{"a":2}}[1,"two"]`,
		`/(\d+)-(?<w>\w+)/.exec("x 12-ab").groups.w + "a1b22".match(/\d+/g).join()`:                                   "ab1,22",
		`String([1, [2, [3]], null, undefined]) + new Array(3).length + Array.from("ab").length + Array.isArray([])`:  "1,2,3,,32true",
		`new Uint8Array([1, 2, 300]).join() + [3, 1, 2].sort().indexOf(2) + (new Array(2) instanceof Array)`:          "1,2,441true",
	} {
		if out := newWorld(t).run(t, src); out.Value != want {
			t.Errorf("%s: %q, want %q", src, out.Value, want)
		}
	}
}

func TestJWTsOfKeyPairs(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(alg string, key any) (signed string, signature []byte) {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t)
		w.variables["KEY"] = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		token := w.run(t, `crypto.jwt.sign({sub: "a"}, variables.get("KEY"), {alg: "`+alg+`"})`).Value
		at := strings.LastIndexByte(token, '.')
		if signature, err = base64.RawURLEncoding.DecodeString(token[at+1:]); err != nil {
			t.Fatal(err)
		}
		return token[:at], signature
	}
	signed, signature := sign("RS256", rs)
	digest := sha256.Sum256([]byte(signed))
	if err := rsa.VerifyPKCS1v15(&rs.PublicKey, crypto.SHA256, digest[:], signature); err != nil {
		t.Error(err)
	}
	signed, signature = sign("ES256", ec)
	digest = sha256.Sum256([]byte(signed))
	if len(signature) != 64 || !ecdsa.Verify(&ec.PublicKey, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		t.Error("the signature of ES256 is wrong")
	}
}

// Nothing is left for the next run, of the same program or another.
func TestRunsShareNothing(t *testing.T) {
	r := script.NewRunner(script.Limits{Time: time.Minute})
	defer r.Close()
	spoil := compile(t, `
		left = 1; Array.prototype.map = () => "spoiled"; Object.prototype.spoiled = 1; String.prototype.toUpperCase = () => "spoiled";
		JSON.stringify = () => "spoiled"; crypto.sha1 = () => "spoiled"; request.headers.get = () => "spoiled"; variables.set("KEY", "spoiled");`)
	look := compile(t, `[typeof left, [1].map(x => x + 1), {}.spoiled, "a".toUpperCase(), JSON.stringify({}), crypto.sha1("abc").slice(0, 4), request.headers.get("x-two"), variables.get("KEY")].join()`)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				w := newWorld(t)
				if _, err := r.Run(context.Background(), spoil, w.call); err != nil {
					t.Error(err)
				}
				out, err := r.Run(context.Background(), look, w.call)
				if err != nil || out.Value != "undefined,2,,A,{},a999,1,key" {
					t.Errorf("%+v %v", out, err)
				}
			}
		})
	}
	all.Wait()
}

// What a script logs is bounded, and redacted before it is cut.
func TestLog(t *testing.T) {
	w := newWorld(t)
	r := script.NewRunner(script.Limits{Time: time.Minute, Log: 50})
	defer r.Close()
	if _, err := r.Run(context.Background(), compile(t, `
		console.warn("a", 1, {b: [variables.get("PASS")]}, crypto.bytes("xy"), undefined, null);
		for (let i = 0; i < 1000; i++) log("secret-pass".repeat(3));`), w.call); err != nil {
		t.Fatal(err)
	}
	want := []string{`a 1 {"b":["***"]} (2 bytes) undefined null`, "the log is full: more than 50 bytes (limits.script.log)", "********"}
	if fmt.Sprintf("%q", w.log) != fmt.Sprintf("%q", want) {
		t.Errorf("%q, want %q", w.log, want)
	}
}

// An error has the line of the file, also deep inside of functions.
func TestErrorsHaveTheirLine(t *testing.T) {
	p, err := script.Compile(script.Source{Name: "shop.yaml", Before: 30, Text: "function f(x) {\n  return x.y.z;\n}\nf({});\nreturn 1"})
	if err != nil {
		t.Fatal(err)
	}
	r := script.NewRunner(script.Limits{Time: time.Minute})
	defer r.Close()
	_, err = r.Run(context.Background(), p, newWorld(t).call)
	if err == nil || !strings.HasPrefix(err.Error(), "shop.yaml:32: TypeError: Cannot read property 'z' of undefined") {
		t.Errorf("%v", err)
	}
	for src, want := range map[string]string{
		"let a = 1;\nlet b = = 2;": "line 2, column 9: Unexpected token =",
		"return 1;\nlet = ;":       "line 2",
		"let a;\n  let a;":         "line 2",
		"1 +\n 5n":                 "line 2, column 2: there is no BigInt in scripts",
		"return (":                 "line 1",
	} {
		_, err := script.Compile(script.Source{Name: "x.js", Text: src})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", src, err, want)
		}
	}
}

// A script ends with its request, and with the runner.
func TestRunsEndWithTheirContext(t *testing.T) {
	r := script.NewRunner(script.Limits{Time: time.Minute})
	ctx, cancel := context.WithCancel(context.Background())
	w := newWorld(t)
	w.call.Log = func(string) { cancel() }
	if _, err := r.Run(ctx, compile(t, "log('now'); while (true) {}"), w.call); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	w.call.Log = func(string) { go r.Close() }
	if _, err := r.Run(context.Background(), compile(t, "log('now'); while (true) {}"), w.call); err == nil || !strings.Contains(err.Error(), "being stopped") {
		t.Errorf("%v", err)
	}
	if _, err := r.Run(context.Background(), compile(t, "1"), w.call); err == nil {
		t.Error("a closed runner runs")
	}
}

// A benchmark of what a request costs: a signature of method, path and body.
func BenchmarkSign(b *testing.B) {
	w := newWorld(b)
	r := script.NewRunner(script.Limits{})
	defer r.Close()
	p := compile(b, `request.headers.set("X-Signature", crypto.hmac("sha256", variables.get("KEY"), request.method + request.path + request.body.text(), "base64"))`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Run(context.Background(), p, w.call); err != nil {
			b.Fatal(err)
		}
	}
}
