package holdfast_test

import (
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/dlclark/regexp2/v2"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// signedAPI is the origin of docs/examples/script.yaml: it takes a request only
// with a signature that is right, by a key that lasts for a few requests.
type signedAPI struct {
	secret string
	uses   int // of a key

	mu         sync.Mutex
	key, id    string
	left       int
	handshakes int
	refused    []string
}

func mac(key, text string) []byte {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(text))
	return m.Sum(nil)
}

func (a *signedAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	if r.URL.Path == "/handshake" {
		var in struct{ Client, Nonce, Proof string }
		if json.Unmarshal(body, &in) != nil || in.Client != "tester" || in.Proof != hex.EncodeToString(mac(a.secret, in.Nonce)) {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		a.handshakes++
		a.left, a.id, a.key = a.uses, fmt.Sprintf("id-%d", a.handshakes), "signing"+in.Nonce
		fmt.Fprintf(w, `{"id":%q,"key":%q}`, a.id, a.key)
		return
	}
	digest := sha256.Sum256(body)
	text := strings.Join([]string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Get("X-Date"), hex.EncodeToString(digest[:])}, "\n")
	want := "v1=" + base64.StdEncoding.EncodeToString(mac(a.key, text))
	switch {
	case a.left <= 0 || r.Header.Get("X-Key-Id") != a.id:
		w.WriteHeader(http.StatusUnauthorized)
	case r.Header.Get("X-Signature") != want || r.Header.Get("X-Date") == "":
		a.refused = append(a.refused, r.Method+" "+r.URL.String())
		w.WriteHeader(http.StatusForbidden)
	default:
		a.left--
		fmt.Fprintf(w, "taken %s", body)
	}
}

// The example's origin verifies each signature; a key that is used up is one
// handshake more, and no client sees it.
func TestScriptSignsEachRequest(t *testing.T) {
	api := &signedAPI{secret: "the-secret-of-the-client", uses: 5}
	server := httptest.NewServer(api)
	defer server.Close()
	raw, err := os.ReadFile("docs/examples/script.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, testenv.Origin{}, strings.NewReplacer("https://api.example", server.URL, "${env:API_SECRET}", api.secret).Replace(string(raw)))
	for i := range 14 {
		method, body := "GET", ""
		if i%2 == 1 {
			method, body = "POST", fmt.Sprintf(`{"order":%d,"name":"Zoë"}`, i)
		}
		status, got := w.ask(method, fmt.Sprintf("%s/v1/a%%2fb/%d?q=%d&x=%%20", server.URL, i, i), body)
		if status != 200 || got != "taken "+body {
			t.Errorf("request %d: %d %q", i, status, got)
		}
	}
	if api.handshakes != 3 || len(api.refused) != 0 {
		t.Errorf("%d handshakes; refused %q", api.handshakes, api.refused)
	}
	w.traced("script rules.yaml: header:x-signature was added: ***")
	w.stop()
	for _, secret := range []string{api.secret, "signing"} {
		if strings.Contains(w.trace.String(), secret) {
			t.Errorf("%s is in the trace:\n%s", secret, w.trace.String())
		}
	}
}

// ask sends a request to any URL through the proxy.
func (w *world) ask(method, url, body string) (int, string) {
	w.t.Helper()
	var payload io.Reader
	if body != "" {
		payload = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, url, payload)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Errorf("%s: %v", url, err)
		return 0, ""
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Errorf("%s: %v", url, err)
	}
	return resp.StatusCode, string(raw)
}

// A script that would never end, or take all the memory, ends; its request gets
// what the policy says, and the proxy goes on serving.
func TestScriptsEndWithinTheirLimits(t *testing.T) {
	defer regexp2.StopTimeoutClock()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "served") }))
	defer server.Close()
	// Memory is little, so that a slow machine is done with it long before the time is over.
	bad := map[string]struct{ code, limits, want string }{
		"/loop":     {`while (true) {}`, "time: 100ms", "it ran for longer than 100ms"},
		"/list":     {`let a = []; while (true) a.push("x".repeat(1e6))`, "time: 30s, memory: 8MiB", "memory grew by more than 8 MiB"},
		"/doubling": {`let s = "x"; while (true) s += s`, "time: 30s, memory: 8MiB", "memory grew by more than 8 MiB"},
		"/array":    {`new Array(1e9).fill(0)`, "time: 30s", "too long"},
		"/repeat":   {`"x".repeat(2**30)`, "time: 30s", "repeat makes a text of more than"},
		"/regex":    {`/(?=a)(a+)+$/.test("a".repeat(50) + "b")`, "time: 30s", "one match of a regex took longer than"},
		"/deep":     {`function f() { f() } f()`, "time: 30s", "more than 500 calls"},
		"/fetches":  {`while (true) fetch("/good")`, "time: 30s, fetches: 3", "more than 3 fetches"},
		"/error":    {`nothing.at.all`, "time: 30s", "ReferenceError"},
	}
	var rules strings.Builder
	rules.WriteString("rules:\n")
	for path, c := range bad {
		for _, policy := range []string{"fail", "pass"} {
			fmt.Fprintf(&rules, "  - name: %s %s\n    scope: {pattern: \"%s%s/%s\"}\n    on_failure: %s\n    actions:\n      - run_script: {script: '%s', %s}\n",
				path, policy, server.URL, path, policy, policy, c.code, c.limits)
		}
	}
	w := newWorld(t, testenv.Origin{}, rules.String())
	var all sync.WaitGroup
	ended := make(chan struct{})
	all.Go(func() { // a client that no script is for
		for served := 0; ; served++ {
			if status, got := w.ask("GET", server.URL+"/good", ""); status != 200 || got != "served" {
				t.Errorf("the client beside them: %d %q", status, got)
				return
			}
			if served == 200 { // which is enough to see it, and leaves the machine to the others
				<-ended
			}
			select {
			case <-ended:
				if served == 0 {
					t.Error("the client beside them was not served")
				}
				return
			default:
			}
		}
	})
	func() {
		defer close(ended)
		for path, c := range bad {
			status, got := w.ask("GET", server.URL+path+"/fail", "")
			if status != 502 || !strings.Contains(got, `"script_failed"`) || !strings.Contains(got, c.want) || !strings.Contains(got, "rules.yaml") {
				t.Errorf("%s: %d %s", path, status, got)
			}
			if status, got = w.ask("GET", server.URL+path+"/pass", ""); status != 200 || got != "served" {
				t.Errorf("%s passes: %d %s", path, status, got)
			}
		}
	}()
	all.Wait()
}

// Everything that a script can do to a request and to an answer, seen from
// both ends.
func TestScriptsChangeBothMessages(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		seen = append(seen, fmt.Sprintf("%s %s length %d: %s %s %s", r.Method, r.URL, r.ContentLength, r.Header.Get("X-Nonce"), r.Header.Get("Cookie"), body))
		mu.Unlock()
		if r.URL.Path == "/nonce" {
			io.WriteString(w, `{"nonce":"n-1"}`)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Type", "application/json")
		z := gzip.NewWriter(w)
		io.WriteString(z, `{"token":"`+base64.StdEncoding.EncodeToString([]byte("of the answer"))+`","debug":true}`)
		z.Close()
	}))
	defer server.Close()
	w := newWorld(t, testenv.Origin{}, `
rules:
  - name: both
    scope: {pattern: "`+server.URL+`/x*"}
    token_updates:
      - token_name: TOKEN
        source: {type: Script, script: 'crypto.text(crypto.base64.decode(response.body.json().token))'}
      - token_name: HEADER
        target: {type: RequestHeader, name: X-Token, script: 'return variables.get("TOKEN")', if_absent: add}
    actions:
      - run_script: |
          request.method = "PUT";
          request.query = "q=" + encodeURIComponent("a b");
          request.headers.set("X-Nonce", fetch("/nonce").json().nonce);
          jar.set("seen", "yes");
          request.body.set("made by a script");
      - use_cookies
      - run_script:
          on: response
          script: |
            const data = response.body.json();
            delete data.debug;
            response.status = 201;
            response.headers.set("X-Cleaned", request.method);
            response.body.set(JSON.stringify(data));
`)
	for range 2 {
		resp, err := w.client.Get(server.URL + "/x")
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(raw) != `{"token":"b2YgdGhlIGFuc3dlcg=="}` || resp.StatusCode != 201 || resp.Header.Get("X-Cleaned") != "PUT" ||
			resp.Header.Get("Content-Encoding") != "" || resp.ContentLength != int64(len(raw)) {
			t.Errorf("the client got %d %v %s", resp.StatusCode, resp.Header, raw)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	want := []string{"GET /nonce length 0:   ", "PUT /x?q=a%20b length 16: n-1 seen=yes made by a script",
		"GET /nonce length 0:  seen=yes ", "PUT /x?q=a%20b length 16: n-1 seen=yes made by a script"}
	if fmt.Sprintf("%q", seen) != fmt.Sprintf("%q", want) {
		t.Errorf("the origin got\n%q, want\n%q", seen, want)
	}
	w.traced("script rules.yaml: header:x-token was added: ***")
	w.traced("run_script: rules.yaml changed method, query, header x-nonce, jar seen, body")
	w.traced("run_script: rules.yaml changed status, header x-cleaned, body")
}
