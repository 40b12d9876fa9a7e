package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/config"
)

func TestProblemsComeInTheOrderOfTheFile(t *testing.T) {
	_, _, err := config.Parse("f.yaml", []byte("zzz: 1\nrules: 2\naaa: 3\n"), everything())
	var errs config.Errors
	if !errors.As(err, &errs) || len(errs) != 3 {
		t.Fatalf("got %v", err)
	}
	for i, p := range errs {
		if p.Line != i+1 || p.File != "f.yaml" {
			t.Errorf("problem %d is at %s:%d", i, p.File, p.Line)
		}
		if !strings.HasPrefix(p.String(), fmt.Sprintf("f.yaml:%d:%d: ", p.Line, p.Column)) || !strings.Contains(p.String(), " — ") {
			t.Errorf("%q is not file:line:column: what — next step", p)
		}
	}
	if got := strings.Count(err.Error(), "\n"); got != 2 {
		t.Errorf("Error has %d line ends for 3 problems", got)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	var src strings.Builder
	for i := range config.MaxProblems + 20 {
		fmt.Fprintf(&src, "key%d: 1\n", i)
	}
	_, _, err := config.Parse("f.yaml", []byte(src.String()), everything())
	errs := err.(config.Errors)
	if len(errs) != config.MaxProblems+1 {
		t.Fatalf("got %d problems", len(errs))
	}
	if last := errs[config.MaxProblems]; last.What != "and 20 more from here on" {
		t.Errorf("the last problem says %q", last.What)
	}
}

func TestProblemsAsJSON(t *testing.T) {
	_, warnings, err := config.Parse("a.yaml", []byte("rulez: []\n"), everything())
	got, err := json.MarshalIndent([]any{err, warnings, config.Errors(nil)}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want := `[
 [
  {
   "file": "a.yaml",
   "line": 1,
   "column": 1,
   "what": "the file has no key \"rulez\"",
   "next": "did you mean \"rules\"? the keys of this version are variables, identities, macros, rules, scope, protect, anonymous, auto_extract, auto_inject, framing, cookie_jar, lockout, limits, listen, proxy_password, pass_through, auto_pass_through, history, browsers, browser, upstream, direct, resolve, origins, timeouts, throttle",
   "excerpt": "rulez: []",
   "caret": 1
  }
 ],
 [],
 []
]`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A JSON document in one line would come back whole with each of its mistakes.
func TestLongLinesAreCut(t *testing.T) {
	pad := strings.Repeat(" ", 5000)
	for _, src := range []string{
		`{"rules": [], ` + pad + `"nope": 1` + pad + `}`,
		`{"nope": 1, ` + pad + `"rules": []}`,
		`{"rules": [], ` + pad + `"nope": 1}`,
	} {
		_, _, err := config.Parse("f.json", []byte(src), everything())
		errs, ok := err.(config.Errors)
		if !ok || len(errs) != 1 {
			t.Fatalf("got %v", err)
		}
		p := errs[0]
		line := []rune(p.Excerpt)
		if len(line) > 102 || string(line[p.Caret-1:p.Caret+5]) != `"nope"` {
			t.Errorf("caret %d in %q", p.Caret, p.Excerpt)
		}
	}
}

func TestFormatPutsTheCaretUnderTheColumn(t *testing.T) {
	_, _, err := config.Parse("f.yaml", []byte("rules:\n  - {name: ä, scope: {pattern: a.example}, nope: 1}\n"), everything())
	var b strings.Builder
	if err := err.(config.Errors).Format(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	for i, line := range lines {
		if !strings.HasSuffix(line, "^") {
			continue
		}
		above := []rune(lines[i-1])
		if caret := len([]rune(line)) - 1; strings.HasPrefix(string(above[caret:]), "nope") {
			return
		}
	}
	t.Errorf("no caret under nope:\n%s", b.String())
}
