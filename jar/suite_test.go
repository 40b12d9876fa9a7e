package jar_test

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/jar"
)

// The cookie tests of the author of RFC 6265 (abarth/http-state). Of the
// 222 parser cases, four are disabled by their author; they run here too and
// are counted apart. Cases 0002, comma0006 and comma0007 expect a cookie whose
// Expires lies in August 2019: they run with a clock before that.
//
// testdata/http-state.tsv has the cases where RFC 6265bis, which came later,
// wants something else than RFC 6265. Those of nameless are checked once more
// without the Set-Cookie values that have no name: then the suite's own
// expectation must hold.
type deviation struct{ want, section string }

func readDeviations(t *testing.T) map[string]deviation {
	t.Helper()
	src, err := os.ReadFile("testdata/http-state.tsv")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]deviation)
	for line := range strings.Lines(string(src)) {
		if f := strings.Split(strings.TrimRight(line, "\n"), "\t"); len(f) == 3 {
			all[f[0]] = deviation{f[1], f[2]}
		}
	}
	return all
}

const nameless = "§5.6 step 3: without an equals sign, or with nothing before it, the name is empty and the cookie is kept"

// suiteDir finds the published data; it is not part of the repository.
func suiteDir(t *testing.T) string {
	t.Helper()
	root := os.Getenv("HOLDFAST_SUITES")
	if root == "" {
		root = filepath.Join("..", "..", "shared", "suites")
	}
	dir := filepath.Join(root, "http-state")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("in CI the http-state suite must be here: %v", err)
		}
		t.Skipf("the http-state suite is not here (%v); HOLDFAST_SUITES names the directory that holds it", err)
	}
	return dir
}

func TestSuiteParser(t *testing.T) {
	tests, err := filepath.Glob(filepath.Join(suiteDir(t), "parser", "*-test"))
	if err != nil || len(tests) < 200 {
		t.Fatalf("found %d cases, want 200 at least: %v", len(tests), err)
	}
	deviations := readDeviations(t)
	var usable, clocked, disabled, deviating, met int
	for _, file := range tests {
		name := strings.TrimSuffix(filepath.Base(file), "-test")
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		switch {
		case name == "0002" || name == "comma0006" || name == "comma0007":
			now = time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC)
			clocked++
		case strings.HasPrefix(name, "disabled-"):
			disabled++
		default:
			usable++
		}
		expected, err := os.ReadFile(strings.TrimSuffix(file, "-test") + "-expected")
		if err != nil {
			t.Fatal(err)
		}
		// No Cookie line: nothing is sent.
		want, _ := strings.CutPrefix(strings.TrimRight(string(expected), "\r\n"), "Cookie: ")
		if !strings.HasPrefix(string(expected), "Cookie: ") {
			want = ""
		}
		got := runSuiteCase(t, name, file, now, false)
		if d, ok := deviations[name]; ok {
			if d.want == want {
				t.Errorf("%s: no deviation from %q; take it out of the table", name, want)
			}
			if d.section == nameless {
				if got := runSuiteCase(t, name, file, now, true); got != want {
					t.Errorf("%s without nameless cookies: got %q, want %q", name, got, want)
				}
			}
			want = d.want
			if met++; !strings.HasPrefix(name, "disabled-") {
				deviating++
			}
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	t.Logf("%d usable cases: %d as RFC 6265 has them, %d as RFC 6265bis decided since; %d more with an earlier clock, %d disabled ones",
		usable, usable-deviating, deviating, clocked, disabled)
	if met != len(deviations) {
		t.Errorf("%d deviations met, the table has %d", met, len(deviations))
	}
}

// runSuiteCase plays one case as the suite's server does: the answer comes
// from /cookie-parser, the next request goes to Location. named leaves out
// cookies without a name.
func runSuiteCase(t *testing.T, name, file string, now time.Time, named bool) string {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	base, err := url.Parse("http://home.example.org:8888/cookie-parser?" + name)
	if err != nil {
		t.Fatal(err)
	}
	next := "/cookie-parser-result?" + name
	var lines [][]byte
	for line := range strings.SplitSeq(string(src), "\n") {
		field, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(field) {
		case "set-cookie":
			pair, _, _ := strings.Cut(value, ";")
			name, _, ok := strings.Cut(pair, "=")
			if !named || ok && strings.TrimSpace(name) != "" {
				lines = append(lines, []byte(strings.Trim(value, " \t")))
			}
		case "location":
			next = strings.TrimSpace(value)
		}
	}
	to, err := base.Parse(next)
	if err != nil {
		t.Fatal(err)
	}
	j := jar.New(jar.Options{})
	j.SetFromResponse(jar.URL{Host: base.Host, Path: base.EscapedPath()}, lines, now, 1)
	return j.Header(jar.URL{Host: to.Host, Path: to.EscapedPath()}, now)
}

func TestSuiteDates(t *testing.T) {
	n := 0
	for _, file := range []string{"examples.json", "bsd-examples.json"} {
		src, err := os.ReadFile(filepath.Join(suiteDir(t), "dates", file))
		if err != nil {
			t.Fatal(err)
		}
		var cases []struct {
			Test     string
			Expected *string
		}
		// One of the files begins with its licence.
		text := string(src)
		if err := json.Unmarshal([]byte(text[strings.Index(text, "[\n"):]), &cases); err != nil {
			t.Fatal(file, err)
		}
		for _, c := range cases {
			n++
			got, ok := jar.ParseDate(c.Test)
			switch {
			case c.Expected == nil && ok:
				t.Errorf("%q: got %v, want no date", c.Test, got)
			case c.Expected != nil && (!ok || got.Format("Mon, 02 Jan 2006 15:04:05 GMT") != *c.Expected):
				t.Errorf("%q: got %v %v, want %s", c.Test, got, ok, *c.Expected)
			}
		}
	}
	if n < 70 {
		t.Fatalf("found %d dates, want 70", n)
	}
	t.Logf("%d dates", n)
}
