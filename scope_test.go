package holdfast_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/rule"
)

// A scope that asks about the body finds what is in it, and the origin gets
// every byte of it.
func TestScopeAsksAboutBodies(t *testing.T) {
	w := newWorld(t, testenv.Origin{}, `
variables: {T: injected}
rules:
  - name: csrf
    scope: {pattern: 127.0.0.1, params: [csrf]}
    token_updates:
      - {token_name: T, target: {type: RequestHeader, name: X-Token}}
  - name: comment
    scope: {methods: POST, httpql: 'req.path.cont:"/echo" AND req.body.cont:"remark"'}
    token_updates:
      - {token_name: T, target: {type: RequestHeader, name: X-Remark}}
`)
	long := strings.Repeat("x", rule.MaxScopeBody)
	for _, c := range []struct {
		name, query, body string
		chunked           bool
		token, remark     bool
	}{
		{name: "in the form", body: "a=1&csrf=2", token: true},
		{name: "in the query", query: "?csrf", body: "a=1", token: true},
		{name: "nowhere", body: "a=csrf"},
		{name: "a condition", body: "a=Remark", remark: true},
		{name: "both", body: "csrf=remark", token: true, remark: true},
		{name: "chunked", body: "csrf=remark", chunked: true},
		{name: "too long", body: "csrf=remark&" + long},
	} {
		t.Run(c.name, func(t *testing.T) {
			var body io.Reader = strings.NewReader(c.body)
			if c.chunked {
				body = io.MultiReader(body)
			}
			req, err := http.NewRequest("POST", w.origin.URL+"/echo"+c.query, body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			resp, err := w.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			echo, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			token, remark := strings.Contains(string(echo), `"X-Token"`), strings.Contains(string(echo), `"X-Remark"`)
			if token != c.token || remark != c.remark {
				t.Errorf("params %v, condition %v; want %v, %v", token, remark, c.token, c.remark)
			}
			if sum := fmt.Sprintf("%x", sha256.Sum256([]byte(c.body))); !strings.Contains(string(echo), sum) {
				t.Errorf("the origin did not get the body: %.200s", echo)
			}
		})
	}
}
