package config_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/holdfast-proxy/holdfast/config"
)

// A mistake inside of a text is reported where it stands in the file, however
// the text is written. {{NOPE}} is the mistake.
func TestPlacesInsideTexts(t *testing.T) {
	const head = "macros:\n  - name: login\n    steps:\n      - request: "
	cases := []struct {
		name, text string
		exact      bool // else the place is where the text begins
	}{
		{"plain", `GET https://a.example/{{NOPE}}`, true},
		{"plain, not ASCII", `GET https://ä.example/ü/{{NOPE}}`, true},
		{"single quotes", `'GET https://a.example/{{NOPE}}'`, true},
		{"single quotes with an escape", `'GET https://a.example/''é''/{{NOPE}}'`, true},
		{"double quotes", `"GET https://a.example/{{NOPE}} HTTP/1.1"`, true},
		{"double quotes with escapes", `"GET https://a.example/\x41\u00e9\U0001F600\/\N\_\L\P\t{{NOPE}}"`, true},
		{"double quotes with lines", `"GET https://a.example/ HTTP/1.1\r\nX: \"y\"\r\n\r\n{{NOPE}}"`, true},
		{"block", "|\n          GET https://a.example/ HTTP/1.1\n          X: ä\n\n            x {{NOPE}}\n", true},
		{"block without its last line end", "|-\n          GET https://a.example/ HTTP/1.1\n          X-A: {{NOPE}}", true},
		{"block with a stated indentation", "|1\n         GET https://a.example/ HTTP/1.1\n         X: {{NOPE}}\n", true},
		{"folded", ">\n          GET https://a.example/\n          HTTP/1.1\n\n          X: {{NOPE}}\n", false},
		{"double quotes over lines", "\"GET\n          https://a.example/{{NOPE}}\"", false},
		{"single quotes over lines", "'GET\n          https://a.example/{{NOPE}}'", false},
		{"plain over lines", "GET\n          https://a.example/{{NOPE}}", false},
		{"anchor", "&a GET https://a.example/{{NOPE}}", false},
		{"tag", "!!str GET https://a.example/{{NOPE}}", false},
	}
	for _, c := range cases {
		src := head + c.text + "\n"
		at := strings.Index(src, "{{NOPE}}")
		if !c.exact {
			at = len(head)
		}
		line := 1 + strings.Count(src[:at], "\n")
		column := 1 + utf8.RuneCountInString(src[strings.LastIndexByte(src[:at], '\n')+1:at])

		_, _, err := config.Parse("f.yaml", []byte(src), everything())
		errs, ok := err.(config.Errors)
		if !ok || len(errs) != 1 || !strings.Contains(errs[0].What, "NOPE") {
			t.Errorf("%s: got %v\n%s", c.name, err, src)
			continue
		}
		if errs[0].Line != line || errs[0].Column != column {
			t.Errorf("%s: the place is %d:%d, want %d:%d\n%s", c.name, errs[0].Line, errs[0].Column, line, column, src)
		}
	}
}

func TestSecretsInExcerpts(t *testing.T) {
	cases := []struct{ name, src, want string }{
		{"variables", "variables: {A: hunter2, A: hunter2}\n", "variables: {A: ***, A: ***"},
		{"misspelt section", "variablez: {A: hunter2}\n", "variablez: {A: ***"},
		{"anchor", "rules: [{name: &x hunter2, nope: *x}]\n", "rules: [{name: ***, nope: ***"},
		{"key and value in one", "variables: {PASS hunter2}\n", "variables: {***"},
		{"credentials in a URL", "macros: [{nope: 1, name: x, steps: [{request: \"GET https://u:hunter2@a.example/\"}]}]\n", "macros: [{nope: ***, name: x, steps: [{request: \"GET https***"},
		{"comment", "nope: 1 # hunter2\n", "nope: ***"},
	}
	for _, c := range cases {
		_, _, err := config.Parse("f.yaml", []byte(c.src), everything())
		errs, ok := err.(config.Errors)
		if !ok || len(errs) == 0 {
			t.Errorf("%s: got %v", c.name, err)
			continue
		}
		if errs[0].Excerpt != c.want {
			t.Errorf("%s: the excerpt is %q, want %q", c.name, errs[0].Excerpt, c.want)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the secret is in %v", c.name, err)
		}
	}
}
