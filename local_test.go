package holdfast_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/macro"
)

const localConfig = `
macros:
  - name: login
    steps:
      - STEP
      - request: |
          POST {{ORIGIN}}/api/login HTTP/1.1
          Content-Type: application/json

          {"username":"alice","password":"{{PASS}}"}
        extract: [{token_name: ACCESS, source: {type: JSON, path: access_token}}]
rules:
  - name: shop
    scope: {pattern: "127.0.0.1"}
    validation: {check_type: {type: StatusCode, value: [401]}}
    reauth_macro: login
    token_updates: [{token_name: ACCESS, target: {type: RequestHeader, name: Authorization}}]
`

// A program beside the configuration gives the password.
func TestALoginWithAProgram(t *testing.T) {
	for _, c := range []struct {
		name, script string
		ok           bool
		says         string
	}{
		{"good", "#!/bin/sh\necho \" $1pass \"\n", true, ""},
		{"bad", "#!/bin/sh\necho secret >&2\nexit 3\n", false, "macro login, step 1: no value: wanted a value from the command, got a failure: exit status 3"},
		{"loud", "#!/bin/sh\nexec cat /dev/zero\n", false, "got more than 64 KiB"},
		{"slow", "#!/bin/sh\nexec tail -f /dev/null\n", false, "got none within 500ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "otp.sh"), []byte(c.script), 0o700); err != nil {
				t.Fatal(err)
			}
			timeout := "1m"
			if c.name == "slow" {
				timeout = "500ms"
			}
			step := "exec: {command: [" + filepath.Join(dir, "otp.sh") + ", alice], timeout: " + timeout + ", token_name: PASS}"
			w := newWorld(t, testenv.Origin{}, strings.ReplaceAll(localConfig, "STEP", step))
			status, body := w.get("/api/items")
			if (status == 200) != c.ok || !strings.Contains(body, c.says) || strings.Contains(body, "secret") {
				t.Errorf("answered %d %s", status, body)
			}
		})
	}
}

func TestALoginWithAPerson(t *testing.T) {
	rules := strings.ReplaceAll(localConfig, "STEP", `prompt: {text: "the password", token_name: PASS}`)
	origin, err := testenv.Origin{}.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(origin.Close)
	w := &world{t: t, origin: origin, home: t.TempDir()}
	w.more = func(c *holdfast.Config) {
		if _, err := holdfast.New(*c); !errors.Is(err, macro.ErrNobody) || !strings.Contains(err.Error(), `macro "login", step 1: there is nobody to ask`) {
			t.Errorf("without a person New gives %v", err)
		}
		c.Ask = func(_ context.Context, q holdfast.Question) (string, error) {
			if q.Text != "the password" || q.Macro != "login" || q.Step != 1 {
				t.Errorf("asked %+v", q)
			}
			return "alicepass", nil
		}
	}
	w.start(rules)
	if status, body := w.get("/api/items"); status != 200 {
		t.Errorf("answered %d %s", status, body)
	}
}
