package rule_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/rule"
)

func lookup(values map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := values[name]
		return v, ok
	}
}

func TestTemplate(t *testing.T) {
	values := lookup(map[string]string{"A": `x"y\z`, "B": "a b&c/d+é", "C": "{{A}}", "D": "line\r\n\x01\t", "step_1.id": "7"})
	for _, c := range []struct{ name, src, want, names string }{
		{"no variable", "plain", "plain", ""},
		{"nothing", "", "", ""},
		{"a name", "[{{A}}]", `[x"y\z]`, "A"},
		{"spaces inside", "{{ A }}{{\tA}}", `x"y\zx"y\z`, "A"},
		{"raw", "{{raw:A}}", `x"y\z`, "A"},
		{"json", `"{{json:A}}{{json: D}}"`, `"x\"y\\zline\r\n\u0001\t"`, "A D"},
		{"url", "{{url:B}}", "a%20b%26c%2Fd%2B%C3%A9", "B"},
		{"base64", "{{base64:B}}", "YSBiJmMvZCvDqQ==", "B"},
		{"values are not expanded again", "{{C}}", "{{A}}", "C"},
		{"dots in names", "{{step_1.id}}", "7", "step_1.id"},
		{"no value", "<{{NONE}}>{{NONE}}", "<{{NONE}}>{{NONE}}", "NONE"},
		{"names have a case", "{{a}}", "{{a}}", "a"},
		{"a brace before", "{{{A}}}", `{x"y\z}`, "A"},
		{"arithmetic is text", "{{7*7}} {{ }} {{}} {{'a'}}", "{{7*7}} {{ }} {{}} {{'a'}}", ""},
		{"never closed", "{{A", "{{A", ""},
		{"half closed", "{{A}", "{{A}", ""},
		{"an object of objects", `{"a":{"b":{{step_1.id}}}}`, `{"a":{"b":7}}`, "step_1.id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmpl, err := rule.ParseTemplate(c.src)
			if err != nil {
				t.Fatalf("ParseTemplate: %v", err)
			}
			got, missing := tmpl.Expand(values)
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if strings.Join(tmpl.Names(), " ") != c.names {
				t.Errorf("names %v, want %s", tmpl.Names(), c.names)
			}
			if tmpl.String() != c.src {
				t.Errorf("String gives %q, want %q", tmpl.String(), c.src)
			}
			var wantMissing []string
			if c.want == c.src && c.names != "" {
				wantMissing = []string{c.names}
			}
			if !slices.Equal(missing, wantMissing) {
				t.Errorf("missing %v, want %v", missing, wantMissing)
			}
		})
	}
}

func TestTemplateMistakes(t *testing.T) {
	for _, src := range []string{"{{jsn:A}}", "{{a b}}", "x{{json:}}", "{{:A}}", "{{json:url:A}}"} {
		if _, err := rule.ParseTemplate(src); err == nil {
			t.Errorf("%s is read as a template, want an error", src)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("a{{B}}c{{url:B}}", "x")
	f.Add("{{{{B}}", "{{B}}")
	f.Fuzz(func(t *testing.T, src, value string) {
		tmpl, err := rule.ParseTemplate(src)
		if err != nil {
			return
		}
		if got, _ := tmpl.Expand(func(string) (string, bool) { return "", false }); got != src {
			t.Errorf("without values %q became %q", src, got)
		}
		var text strings.Builder
		for _, p := range tmpl.Parts() {
			text.WriteString(p.Text)
		}
		if text.String() != src {
			t.Errorf("the parts of %q are %q", src, text.String())
		}
		got, missing := tmpl.Expand(func(string) (string, bool) { return value, true })
		if missing != nil || len(tmpl.Names()) == 0 && got != src {
			t.Errorf("%q expands to %q, missing %v", src, got, missing)
		}
	})
}
