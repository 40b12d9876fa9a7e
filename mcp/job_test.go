package mcp_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// job is the work that a model does, with tools alone, as a transcript.
type job struct {
	*model
	b bytes.Buffer
}

func (j *job) step(tool string, arguments map[string]any) *answer {
	j.t.Helper()
	a := j.done(nil, tool, arguments)
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
		{`token ACCESS: (exp of its JWT|the lifetime of its cookie)`, "token ACCESS: END"}, // they are the same, but for parts of a second
		{`"id":"?[0-9]+"?([,}])`, `"id":N$1`},
		{`("(?:ms|[a-z_]*_ms|[a-z_]+_s|took_[a-z]+|ttfb[a-z_]*)":)[0-9.e-]+`, "${1}0"},
		{`("(?:bytes|length|body_bytes|sequence|number)":|bytes=|Content-Length: )[0-9]+`, "${1}N"},
		{`\b[0-9.]+ ?(ms|µs|s)\b`, "DURATION"},
	} {
		text = regexp.MustCompile(c.pattern).ReplaceAllString(text, c.with)
	}
	return text
}

// TestJob has a client of the SDK do the work with tools alone: it sees what
// runs, tries the login, sees the flows, finds the request that was sent again,
// and learns from the trace why. No secret passes either way.
func TestJob(t *testing.T) {
	w := newWorld(t, settings{})
	if w.me() != 200 {
		t.Fatal("not logged in")
	}
	w.origin.KillAll()
	if w.me() != 200 {
		t.Fatal("not logged in again")
	}
	j := &job{model: w.connect(nil, false)}
	resent := j.flows(`trace.action.eq:"resend"`, 1)
	j.flows(`req.path.cont:"/auth"`, 4)
	j.step("session", map[string]any{"action": "status"})
	j.step("session", map[string]any{"action": "tokens"})
	j.step("macros", map[string]any{"action": "get_macro", "name": "login"})
	j.step("macros", map[string]any{"action": "test_macro", "name": "login"})
	j.step("rules", map[string]any{"action": "get", "name": "shop"})
	j.step("flows", map[string]any{"action": "list", "query": `trace.action.eq:"resend"`})
	j.step("flows", map[string]any{"action": "get", "id": fmt.Sprint(resent[0].ID), "body": 300})
	why := j.step("trace", map[string]any{"action": "flow", "id": fmt.Sprint(resent[0].ID)})
	if !strings.Contains(why.text, "401") || !strings.Contains(why.text, "rule shop") {
		t.Errorf("the trace does not say why: %s", why.text)
	}
	j.step("explain", map[string]any{"request": "GET " + w.origin.URL + "/auth/me"})
	j.step("rules", map[string]any{"action": "enable", "name": "spare"})
	j.step("session", map[string]any{"action": "refresh"})
	j.step("session", map[string]any{"action": "status", "state": "alive"})

	passed := j.tape.text()
	tokens, failure := w.h.Engine().Tokens("emily")
	if failure != nil || len(tokens) == 0 {
		t.Fatal("no token to look for")
	}
	for _, secret := range []string{password, tokens[0].Value} {
		if strings.Contains(passed, secret) {
			t.Errorf("the secret %q passed", secret)
		}
	}
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
