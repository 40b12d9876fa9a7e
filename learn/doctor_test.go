package learn_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/learn"
)

const api = `
identities: {alice: {variables: {PASS: PASSWORD}}}
macros:
  - name: refresh
    steps:
      - request: "POST ORIGIN/api/refresh HTTP/1.1\nContent-Type: application/json\n\n{\"refresh_token\":\"{{REFRESH}}\"}"
        extract: &tokens
          - {token_name: ACCESS, source: {type: JSON, path: access_token}}
          - {token_name: REFRESH, source: {type: JSON, path: refresh_token}}
  - name: login
    steps:
      - request: "POST ORIGIN/api/login HTTP/1.1\nContent-Type: application/json\n\n{\"username\":\"alice\",\"password\":\"{{PASS}}\"}"
        extract: *tokens
  - name: whoami
    steps:
      - request: "GET ORIGIN/api/items HTTP/1.1\nAuthorization: Bearer {{ACCESS}}"
        expect: 'resp.code.eq:200'
rules:
  - name: shop
    scope: {pattern: "ORIGIN/", target: url}
    validation: VALIDATION
    reauth_macro: [refresh, login]
    token_updates: [{token_name: ACCESS, target: {type: RequestHeader, name: Authorization}}]
`

func (s *shop) examine(validation, password, path string) *learn.Report {
	s.t.Helper()
	text := strings.NewReplacer("ORIGIN", s.origin.URL, "VALIDATION", validation, "PASSWORD", password).Replace(api)
	file, _, err := config.Parse("shop.yaml", []byte(text), config.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	if path != "" {
		path = s.origin.URL + path
	}
	report, err := learn.Examine(context.Background(), learn.Examination{Rate: 100_000, URL: path, Proxy: holdfast.Config{Home: s.t.TempDir(), Roots: s.roots, File: file}})
	if err != nil {
		s.t.Fatal(err)
	}
	return report
}

// A configuration that holds its session shows it, and one that does not is told
// what to change.
func TestExamine(t *testing.T) {
	const statusOnly = "{check_type: {type: StatusCode, value: 401}}"
	tests := map[string]struct {
		validation, password, path string
		held                       bool
		says                       string
	}{
		"held":                {statusOnly, "alicepass", "/api/items", true, "4 requests at once cost one login"},
		"by its confirmation": {"{check_type: {type: StatusCode, value: 401}, confirm: {macro: whoami}}", "alicepass", "", true, "GET /api/items with the session"},
		"wrong password":      {statusOnly, "wrong", "/api/items", false, "correct the login macro or its credentials"},
		"blind":               {"{check_type: {type: StatusCode, value: 403}}", "alicepass", "/api/items", false, "add to validation: check_type: {type: StatusCode, value: [401]}"},
		"silent":              {statusOnly, "alicepass", "/as/list", false, `with confirm: {macro: …}`},
		"public":              {statusOnly, "alicepass", "/status?code=200", false, "the answers are alike: give a URL that needs the session"},
		"a probe":             {"{probe: {macro: whoami, every: 1}}", "alicepass", "/as/list", true, "session whose tokens no origin knows is recovered"},
		"forbidden":           {statusOnly, "alicepass", "/forbidden", false, "give a URL that the identity may read"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, shapes()["bearer"].origin)
			report := s.examine(test.validation, test.password, test.path)
			var text strings.Builder
			report.Write(&text)
			if report.Held != test.held || !strings.Contains(text.String(), test.says) {
				t.Errorf("held %v; want %v and %q:\n%s", report.Held, test.held, test.says, text.String())
			}
			if test.held && (report.Timing.Login <= 0 || report.Requests < 8) {
				t.Errorf("%+v, %d requests", report.Timing, report.Requests)
			}
		})
	}
}

func TestExamineNeedsAURL(t *testing.T) {
	file, _, err := config.Parse("shop.yaml", []byte(`
macros: [{name: login, steps: [{request: "GET https://shop.example/login HTTP/1.1"}]}]
rules: [{name: shop, scope: {pattern: shop.example}, validation: {check_type: {type: StatusCode, value: 401}}, reauth_macro: login}]
`), config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	x := learn.Examination{Proxy: holdfast.Config{Home: t.TempDir(), File: file}}
	if _, err := learn.Examine(context.Background(), x); !errors.Is(err, learn.ErrQuestion) {
		t.Errorf("%v", err)
	}
	x.Rule = "nosuch"
	if _, err := learn.Examine(context.Background(), x); err == nil || !strings.Contains(err.Error(), "the configuration has: shop") {
		t.Errorf("%v", err)
	}
}

// Where nothing that was recorded tells live from dead, that is said.
func TestNothingTells(t *testing.T) {
	s := newShop(t, shapes()["bearer"].origin)
	result := s.learn(s.record(func(b *browser) {
		token := between(b.t, b.do("POST", "/api/login", typedIn, "Content-Type", asJSON), `"access_token":"([^"]+)"`)
		b.do("GET", "/as/list", "", "Authorization", "Bearer "+token)
	}), learn.Options{InlineSecrets: true})
	var text strings.Builder
	result.Report.Write(&text)
	if result.Report.Held || !strings.Contains(text.String(), "record a request that says 401") {
		t.Error(text.String())
	}
	if !strings.Contains(string(result.Config), "PASS: alicepass") || len(result.Env) != 0 {
		t.Errorf("%s", result.Config)
	}
}

// What may be sent is bounded, and what looks like a logout or a write is not
// sent at all.
func TestBoundsOfLearning(t *testing.T) {
	s := newShop(t, shapes()["form"].origin)
	recorded := s.record(func(b *browser) {
		shapes()["form"].login(b)
		b.do("GET", "/logout", "")
	})
	before := s.origin.Stats()
	result := s.learn(recorded, learn.Options{})
	if after := s.origin.Stats(); after.Logouts != before.Logouts || after.Writes != before.Writes {
		t.Errorf("%d logouts and %d writes were sent", after.Logouts-before.Logouts, after.Writes-before.Writes)
	}
	if !strings.Contains(string(result.Config), "protect: [logout, signout]") {
		t.Errorf("%s", result.Config)
	}
	_, err := learn.Run(context.Background(), recorded, learn.Options{MaxRequests: 3, Rate: 100_000, Proxy: holdfast.Config{Home: t.TempDir(), Roots: s.roots}})
	if err == nil {
		t.Error("three requests are enough to learn")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := learn.Run(ctx, recorded, learn.Options{Proxy: holdfast.Config{Home: t.TempDir(), Roots: s.roots}}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
