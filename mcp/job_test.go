package mcp_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/control"
)

// job is the work that a model does, with tools alone, as a transcript.
type job struct {
	*model
	b bytes.Buffer
}

func (j *job) step(result any, tool string, arguments map[string]any) *answer {
	j.t.Helper()
	a := j.done(result, tool, arguments)
	raw, err := json.Marshal(arguments)
	if err != nil {
		j.t.Fatal(err)
	}
	fmt.Fprintf(&j.b, "> %s %s\n%s\n", tool, raw, a.text)
	return a
}

// normal is a transcript without what is new each time.
func (w *world) normal(text string) string {
	for _, c := range []struct{ pattern, with string }{
		{regexp.QuoteMeta(w.origin.URL), "http://ORIGIN"},
		{regexp.QuoteMeta(strings.TrimPrefix(w.origin.URL, "http://")), "ORIGIN"},
		{regexp.QuoteMeta(w.h.Addr()), "PROXY"},
		{`untrusted-[a-z2-7]{26}`, "untrusted-WORD"},
		{`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`, "UUID"},
		{`[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]{5})`, "TIME"},
		{`Date: [^\n]*`, "Date: TIME"},
		{`Expires=[^;\n]*`, "Expires=TIME"},
		{`token ACCESS_TOKEN: (exp of its JWT|the lifetime of its cookie)`, "token ACCESS_TOKEN: END"}, // they are the same, but for parts of a second
		{`"id":"?[0-9]+"?([,}])`, `"id":N$1`},
		{`"(flow_ids|flows)":\[[0-9,]+\]`, `"$1":[N]`},
		{`("(?:ms|[a-z_]*_ms|[a-z_]+_s|took_[a-z]+|ttfb[a-z_]*)":)[0-9.e-]+`, "${1}0"},
		{`("(?:bytes|length|body_bytes|sequence|number)":|bytes=|Content-Length: )[0-9]+`, "${1}N"},
		{`\b[0-9.]+ ?(ms|µs|s)\b`, "DURATION"},
	} {
		text = regexp.MustCompile(c.pattern).ReplaceAllString(text, c.with)
	}
	return text
}

// bare is a proxy that knows who speaks, and neither how one logs in nor what a
// dead session is.
const bare = `
identities:
  emily: {}
`

// login logs in through the proxy as a browser does, and looks at who one is. It
// returns the token that it got.
func (w *world) login() string {
	w.t.Helper()
	resp, err := w.through.Post(w.origin.URL+"/auth/login", "application/json", strings.NewReader(`{"username":"emilys","password":"`+password+`"}`))
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct{ AccessToken string }
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.AccessToken == "" {
		w.t.Fatalf("no login: %v", err)
	}
	req, err := http.NewRequest("GET", w.origin.URL+"/auth/me", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+got.AccessToken)
	me, err := w.through.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	io.Copy(io.Discard, me.Body)
	me.Body.Close()
	if me.StatusCode != 200 {
		w.t.Fatalf("the token is not taken: %d", me.StatusCode)
	}
	return got.AccessToken
}

const jobRule = `name: shop
scope: {pattern: "127.0.0.1", target: host}
validation: {check_type: {type: StatusCode, value: [401]}}
reauth_macro: [shop-login]
token_updates:
  - {token_name: ACCESS_TOKEN, target: {type: RequestHeader, name: Authorization}}
`

// TestJob has a client of the SDK do the whole work with tools alone: of a login
// that passed it makes a macro, and a rule with it; it runs the macro, sees the
// session alive, and after the session has died and was recovered, it finds in
// the trace why a request was sent again. No secret passes either way.
func TestJob(t *testing.T) {
	w := newWorld(t, settings{rules: bare})
	secrets := []string{password, w.login()}
	j := &job{model: w.connect(nil, false)}
	passed := j.flows(`req.path.cont:"/auth/"`, 2)
	var list control.FlowPage
	j.step(&list, "flows", map[string]any{"action": "list", "query": `req.path.cont:"/auth/"`})
	if len(passed) != 2 || len(list.Items) != 2 {
		t.Fatalf("the login has %d flows", len(passed))
	}
	ids := []int64{min(list.Items[0].ID, list.Items[1].ID), max(list.Items[0].ID, list.Items[1].ID)}
	var made control.Created
	j.step(&made, "macros", map[string]any{"action": "create_macro", "flow_ids": ids, "name": "shop-login"})
	if made.Derived == nil || len(made.Macros.Added) != 1 {
		t.Fatalf("create_macro: %+v", made)
	}
	j.step(nil, "macros", map[string]any{"action": "get_macro", "name": "shop-login"})
	j.step(nil, "macros", map[string]any{"action": "create_rule", "text": jobRule})
	var run control.Run
	j.step(&run, "session", map[string]any{"action": "execute_macro", "name": "shop-login"})
	if run.State != control.RunDone || run.Report == nil || !run.Report.OK {
		t.Fatalf("execute_macro: %+v", run)
	}
	if status := w.me(); status != 200 {
		t.Fatalf("a request without a token: %d", status)
	}
	var sessions control.Page[control.Session]
	j.step(&sessions, "session", map[string]any{"action": "status"})
	if len(sessions.Items) != 1 || sessions.Items[0].State != "alive" {
		t.Errorf("status: %+v", sessions)
	}
	secrets = append(secrets, w.tokens()...)

	w.origin.KillAll()
	if status := w.me(); status != 200 {
		t.Fatalf("not logged in again: %d", status)
	}
	secrets = append(secrets, w.tokens()...)
	resent := j.flows(`trace.action.eq:"resend"`, 1)
	j.step(nil, "session", map[string]any{"action": "status", "state": "alive"})
	j.step(nil, "session", map[string]any{"action": "tokens"})
	j.step(nil, "flows", map[string]any{"action": "list", "query": `trace.action.eq:"resend"`})
	j.step(nil, "flows", map[string]any{"action": "get", "id": fmt.Sprint(resent[0].ID), "body": 300})
	why := j.step(nil, "trace", map[string]any{"action": "flow", "id": fmt.Sprint(resent[0].ID)})
	for _, word := range []string{"401", "rule shop", `"recover"`, "sent again, time 1"} {
		if !strings.Contains(why.text, word) {
			t.Errorf("the trace does not say why (%s): %s", word, why.text)
		}
	}
	j.step(nil, "explain", map[string]any{"request": "GET " + w.origin.URL + "/auth/me"})
	j.clean(secrets)

	const golden = "testdata/job.txt"
	got := w.normal(j.b.String())
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || string(want) != got {
		t.Errorf("the transcript is not that of %s (%v); if that is meant, run the test with -update:\n%s", golden, err, got)
	}
}

// tokens are the values of emily's tokens.
func (w *world) tokens() (values []string) {
	w.t.Helper()
	tokens, failure := w.h.Engine().Tokens("emily")
	if failure != nil || len(tokens) == 0 {
		w.t.Fatalf("no tokens (%v)", failure)
	}
	for _, t := range tokens {
		values = append(values, t.Value)
	}
	return values
}

// clean looks for secrets in all that passed, either way.
func (m *model) clean(secrets []string) {
	m.t.Helper()
	passed := m.tape.text()
	for _, secret := range secrets {
		if strings.Contains(passed, secret) {
			m.t.Errorf("the secret %q passed", secret)
		}
	}
	if strings.Contains(passed, "eyJ") {
		m.t.Error("a JWT passed")
	}
}
