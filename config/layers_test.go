package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/config"
)

const layered = `# the shop
variables: {BASE: "https://shop.example"} # where it is
macros:
  # how to log in
  - name: login
    steps: [{request: "GET {{BASE}}/login HTTP/1.1", extract: [{token_name: A, source: {type: Cookie, name: a}}]}]
rules:
  - name: shop # the only one
    scope: {pattern: shop.example, target: host}
    validation: {check_type: {type: StatusCode, value: [401]}}
    reauth_macro: login
    token_updates: [{token_name: A, target: {type: Cookie, name: a}}]
`

func parse(t *testing.T, text string) *config.File {
	t.Helper()
	file, _, err := config.Parse("shop.yaml", []byte(text), config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// entry is what a person makes of a file.
func entry(f *config.File, kind, name, text string) config.Entry {
	return config.Entry{Kind: kind, Name: name, Text: text, Over: f.Over(kind, name)}
}

const extra = "name: extra\nscope: {pattern: other.example, target: host}\nactions: [set_header: {name: X-Extra, value: \"1\", if_absent: add}]\n"

func TestEntriesLieOverAFile(t *testing.T) {
	file := parse(t, layered)
	off, err := file.Switched("shop", false)
	if err != nil {
		t.Fatal(err)
	}
	entries := []config.Entry{entry(file, "rule", "extra", extra), entry(file, "rule", "shop", off.Text)}
	with, dropped, err := file.With(entries, nil)
	if err != nil || len(dropped) > 0 {
		t.Fatal(err, dropped)
	}
	if len(with.Rules) != 2 || with.Rules[0].Enabled || with.By("rule", "extra") != "project" || with.By("macro", "login") != "file" {
		t.Errorf("with entries: %v", with.Rules)
	}
	text, err := with.Text()
	if err != nil {
		t.Fatal(err)
	}
	for _, comment := range []string{"# the shop", "# where it is", "# how to log in"} {
		if !strings.Contains(string(text), comment) {
			t.Errorf("the comment %q is gone:\n%s", comment, text)
		}
	}
	same(t, with, parse(t, string(text)))

	other := parse(t, strings.Replace(layered, "value: [401]", "value: [403]", 1))
	with, dropped, err = other.With(entries, nil)
	if err != nil || len(dropped) != 1 || dropped[0].Name != "shop" || !with.Rules[0].Enabled || len(with.Rules) != 2 {
		t.Errorf("where the file has changed: %v, %v", dropped, err)
	}
}

func TestMistakesInEntriesHaveTheirPlace(t *testing.T) {
	file := parse(t, layered)
	_, _, err := file.With([]config.Entry{entry(file, "rule", "extra", strings.Replace(extra, "target: host", "target: hots", 1))}, nil)
	var mistakes config.Errors
	if !errors.As(err, &mistakes) || len(mistakes) != 1 || mistakes[0].File != "rule extra" || mistakes[0].Line != 2 || mistakes[0].Column != 41 {
		t.Errorf("the mistakes are %v", err)
	}
	_, _, err = file.With([]config.Entry{entry(file, "macro", "login", "")}, nil)
	if !errors.As(err, &mistakes) || !strings.Contains(err.Error(), `login`) {
		t.Errorf("without the macro: %v", err)
	}
	if needs := file.Needs("login"); len(needs) != 1 || needs[0] != "shop" {
		t.Errorf("the macro is needed by %v", needs)
	}
}

// What is exported, imported again, is the same configuration: for each example
// that there is, and with something over it.
func TestExportedIsTheSame(t *testing.T) {
	var paths []string
	for _, pattern := range []string{"testdata/*.yaml", "../docs/examples/*.yaml", "../docs/examples/*/*.yaml", "../cmd/holdfast/testdata/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	tried := 0
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		o := config.Options{Env: func(string) (string, bool) { return "JBSWY3DPEHPK3PXP", true }}
		file, _, err := config.Parse(path, raw, o)
		if err != nil {
			continue // it is an example of a mistake
		}
		tried++
		with, _, err := file.With([]config.Entry{entry(file, "rule", "extra", extra)}, nil)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		for _, f := range []*config.File{file, with} {
			text, err := f.Text()
			if err != nil {
				t.Fatal(err)
			}
			again, _, err := config.Parse(path, text, o)
			if err != nil {
				t.Errorf("%s: what was exported does not load: %v\n%s", path, err, text)
				continue
			}
			same(t, f, again)
		}
	}
	if tried < 5 {
		t.Errorf("only %d of %d examples load", tried, len(paths))
	}
}

// same compares what two files say.
func same(t *testing.T, a, b *config.File) {
	t.Helper()
	if len(a.Rules) != len(b.Rules) || len(a.Macros) != len(b.Macros) || len(a.Order) != len(b.Order) {
		t.Errorf("%v, and then %v", a, b)
		return
	}
	for i := range a.Rules {
		if a.Rules[i].Digest != b.Rules[i].Digest || a.Rules[i].Name != b.Rules[i].Name {
			t.Errorf("%s: the rule %q is another", a.Name, a.Rules[i].Name)
		}
	}
	for i := range a.Macros {
		if a.Macros[i].Digest != b.Macros[i].Digest || a.Macros[i].Name != b.Macros[i].Name {
			t.Errorf("%s: the macro %q is another", a.Name, a.Macros[i].Name)
		}
	}
	for name, value := range a.Variables {
		if b.Variables[name] != value {
			t.Errorf("%s: the variable %q is another", a.Name, name)
		}
	}
	if a.Digest() != b.Digest() {
		t.Errorf("%s: something is other than it was", a.Name)
	}
}
