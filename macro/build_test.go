package macro_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

func lookup(values map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := values[name]
		return v, ok
	}
}

// variables reads NAME=value lines.
func variables(t *testing.T, text string) map[string]string {
	t.Helper()
	values := make(map[string]string)
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			t.Fatalf("%q is no variable", line)
		}
		if strings.HasPrefix(value, `"`) {
			var err error
			if value, err = strconv.Unquote(value); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
		}
		values[name] = value
	}
	return values
}

func TestBuild(t *testing.T) {
	files, _ := filepath.Glob("testdata/build/*.txtar")
	cases := 0
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+2 < len(a.Files); i += 3 {
			cases++
			in, vars, out := a.Files[i], a.Files[i+1], a.Files[i+2]
			t.Run(filepath.Base(file)+"/"+in.Name, func(t *testing.T) {
				tmpl, err := macro.ParseRequest(string(in.Data), true)
				if err != nil {
					t.Fatalf("ParseRequest: %v", err)
				}
				b, err := tmpl.Build(lookup(variables(t, string(vars.Data))))
				if err != nil {
					t.Fatalf("Build: %v", err)
				}
				got := fmt.Sprintf("%s %s %d\n%s%s", b.Origin.Scheme(), b.Origin.Host, b.Origin.Port, b.Request.Bytes(), b.Body)
				want := strings.TrimSuffix(string(out.Data), "\n")
				want = strings.ReplaceAll(want, "\\r\n", "\r\n")
				want = strings.TrimSuffix(want, `\n`)
				if strings.HasSuffix(want, `\r`) {
					want = strings.TrimSuffix(want, `\r`) + "\r\n"
				}
				want = fixLength(want, len(b.Body))
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("what is sent (-want +got):\n%s", diff)
				}
				length, has := b.Request.Get("Content-Length")
				if has && string(length) != strconv.Itoa(len(b.Body)) {
					t.Errorf("Content-Length is %s, want %d", length, len(b.Body))
				}
			})
		}
	}
	if cases < 15 {
		t.Fatalf("%d cases in testdata/build, want them all", cases)
	}
}

var lengthLine = regexp.MustCompile(`(?i)(content-length ?: )\d+`)

// fixLength spares the counting of bytes in the golden files: the length is
// compared with the body apart from them.
func fixLength(head string, n int) string {
	return lengthLine.ReplaceAllString(head, "${1}"+strconv.Itoa(n))
}

func TestBuildRefuses(t *testing.T) {
	const post = "POST https://shop.example/x HTTP/1.1\n"
	for _, c := range []struct {
		name, src string
		values    map[string]string
		says      string
	}{
		{"a line end in a header", "GET https://shop.example/ HTTP/1.1\nX: {{V}}\n", map[string]string{"V": "a\r\nX-Evil: b"}, "line end"},
		{"a bare line feed in a header", "GET https://shop.example/ HTTP/1.1\nX: {{raw:V}}\n", map[string]string{"V": "a\nb"}, "line end"},
		{"NUL in a header", "GET https://shop.example/ HTTP/1.1\nX: {{V}}\n", map[string]string{"V": "a\x00b"}, "line end"},
		{"a colon in a header's name", "GET https://shop.example/ HTTP/1.1\n{{V}}: a\n", map[string]string{"V": "Content-Length: 3, X"}, "name of a header"},
		{"a space in the path", "GET https://shop.example/{{V}} HTTP/1.1\n", map[string]string{"V": "a HTTP/1.1"}, "space"},
		{"a line end in the path", "GET https://shop.example/{{V}} HTTP/1.1\n", map[string]string{"V": "a\r\nb"}, "space"},
		{"a raw space in the query", "GET https://shop.example/?{{raw:V}} HTTP/1.1\n", map[string]string{"V": "a b"}, "space"},
		{"a line end in the base", "GET {{V}}/ HTTP/1.1\n", map[string]string{"V": "https://shop.example/ HTTP/1.1\r\nX:"}, "space"},
		{"a space in the method", "{{V}} https://shop.example/ HTTP/1.1\n", map[string]string{"V": "GET /x"}, "space"},
		{"a base without a scheme", "GET {{V}}/ HTTP/1.1\n", map[string]string{"V": "shop.example"}, "neither with a scheme"},
		{"a path without a host", "GET /x HTTP/1.1\n", nil, "where it goes"},
		{"an empty host", "GET https:///x HTTP/1.1\n", nil, "no host"},
		{"another scheme", "GET ftp://shop.example/x HTTP/1.1\n", nil, "scheme ftp"},
		{"credentials in the URL", "GET https://a:b@shop.example/x HTTP/1.1\n", nil, "credentials"},
		{"a port that is none", "GET https://shop.example:x/ HTTP/1.1\n", nil, "port"},
		{"text outside quotes in JSON", post + "Content-Type: application/json\n\n{\"a\":{{V}}}", map[string]string{"V": `1,"admin":true`}, "outside quotes"},
		{"missing variables", post + "X: {{A}}{{V}}\n\n{{B}}{{A}}", map[string]string{"V": "1"}, "no value for A, B"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmpl, err := macro.ParseRequest(c.src, true)
			if err != nil {
				t.Fatalf("ParseRequest: %v", err)
			}
			_, err = tmpl.Build(lookup(c.values))
			var e *macro.BuildError
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.says) || e.Next == "" {
				t.Fatalf("Build gave %v, want a *BuildError with %q and a next step", err, c.says)
			}
			for _, v := range c.values {
				if len(v) > 3 && strings.Contains(err.Error(), v) {
					t.Errorf("the error tells the value %q: %v", v, err)
				}
			}
		})
	}
}

func TestParseRequestMistakes(t *testing.T) {
	for _, c := range []struct{ name, src, says string }{
		{"nothing", " \n\n", "empty"},
		{"a method alone", "GET\n", "line 1 of the request: \"GET\" is no request line"},
		{"no colon", "\nGET https://shop.example/ HTTP/1.1\nX-A: 1\noops\n", "line 4 of the request: this is no header"},
		{"a colon only inside a variable", "GET https://shop.example/ HTTP/1.1\n{{json:A}}\n", "line 2"},
		{"a body right after the head", "POST https://shop.example/ HTTP/1.1\n{\"a\":1}\n", "line 2 of the request: this looks like the body"},
		{"an unknown encoding in the target", "GET {{jsn:A}} HTTP/1.1\n", "{{jsn:A}}"},
		{"an unknown encoding in a header", "GET {{A}} HTTP/1.1\nX: {{jsn:A}}\n", "{{jsn:A}}"},
		{"an unknown encoding in the body", "POST {{A}} HTTP/1.1\n\n{{jsn:A}}\n", "{{jsn:A}}"},
	} {
		_, err := macro.ParseRequest(c.src, true)
		var e *rule.Error
		if !errors.As(err, &e) || !strings.Contains(e.Problem, c.says) || e.Next == "" {
			t.Errorf("%s: got %v, want %q and a next step", c.name, err, c.says)
		}
	}
}

func TestRequestNames(t *testing.T) {
	tmpl, err := macro.ParseRequest("GET {{BASE}}/{{ A }} HTTP/1.1\nX: {{B}}{{BASE}}\n\n{{url:C}}{{A}}\n", false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"BASE", "A", "B", "C"}, tmpl.Names()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

func TestBuildWithoutTLS(t *testing.T) {
	tmpl, err := macro.ParseRequest("GET /x HTTP/1.1\nhost: shop.example:8080\n", false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := tmpl.Build(lookup(nil))
	if err != nil {
		t.Fatal(err)
	}
	if b.Origin.TLS || b.Origin.Host != "shop.example" || b.Origin.Port != 8080 {
		t.Errorf("origin %+v, want http shop.example 8080", b.Origin)
	}
}

// A value never makes a line of the head, whatever it is and wherever it
// stands.
func FuzzBuild(f *testing.F) {
	f.Add("a\r\nb", uint8(0))
	f.Add(" HTTP/1.1\n", uint8(1))
	f.Add("?x=1#\x7f", uint8(2))
	templates := []string{
		"GET https://shop.example/{{V}}?q={{V}} HTTP/1.1\nX: {{V}}\nY: z\n",
		"GET https://shop.example/?q={{raw:V}} HTTP/1.1\nX: a{{raw:V}}\nY: z\n",
		"POST https://shop.example/?q={{json:V}} HTTP/1.1\nContent-Type: application/json\nX: {{base64:V}}\n\n{\"v\":\"{{V}}\"}\n",
		"POST https://shop.example/ HTTP/1.1\nContent-Type: application/x-www-form-urlencoded\nX: {{url:V}}\n\nv={{V}}&w=x\n",
	}
	f.Fuzz(func(t *testing.T, value string, n uint8) {
		tmpl, err := macro.ParseRequest(templates[int(n)%len(templates)], true)
		if err != nil {
			t.Fatal(err)
		}
		harmless, err := tmpl.Build(lookup(map[string]string{"V": "v"}))
		if err != nil {
			t.Fatal(err)
		}
		b, err := tmpl.Build(lookup(map[string]string{"V": value}))
		if err != nil {
			return
		}
		got, want := string(b.Request.Bytes()), string(harmless.Request.Bytes())
		if strings.Count(got, "\n") != strings.Count(want, "\n") || strings.Count(got, "\r") != strings.Count(want, "\r") {
			t.Errorf("the head has other lines: %q", got)
		}
		if strings.Count(strings.SplitN(got, "\r\n", 2)[0], " ") != 2 {
			t.Errorf("the request line has other words: %q", got)
		}
		if b.Origin != harmless.Origin {
			t.Errorf("the request goes elsewhere: %+v", b.Origin)
		}
		if int(n)%len(templates) == 3 && strings.Count(string(b.Body), "&") != 1 {
			t.Errorf("the form has other fields: %q", b.Body)
		}
	})
}
