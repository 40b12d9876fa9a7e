package httpql_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/httpql/httpqltest"
)

// suite returns the published vectors of one kind. They are not part of this
// repository; HOLDFAST_SUITES names the directory that holds them.
func suite(t *testing.T, kind string) []string {
	t.Helper()
	dir := os.Getenv("HOLDFAST_SUITES")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "suites")
	}
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("in CI the published vectors must be here: %v", err)
		}
		t.Skipf("the published vectors are not here: set HOLDFAST_SUITES to the directory that has httpql/%s", kind)
	}
	cases, err := filepath.Glob(filepath.Join(dir, "httpql", kind, "*"))
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases in %s/httpql/%s (%v)", dir, kind, err)
	}
	return cases
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPublishedTrees(t *testing.T) {
	for _, dir := range suite(t, "ast") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			src := strings.TrimSpace(read(t, dir, "input.httpql"))
			q, err := httpql.Parse(src)
			if err != nil {
				t.Fatalf("Parse(%q): %v", src, err)
			}
			if got, want := published(q.Root()), strings.TrimSpace(read(t, dir, "output.ast")); got != want {
				t.Errorf("tree of %q:\n got %s\nwant %s", src, got, want)
			}
			again, err := httpql.Parse(q.String())
			if err != nil {
				t.Fatalf("Parse(%q), the canonical form: %v", q, err)
			}
			if got, want := published(again.Root()), published(q.Root()); got != want {
				t.Errorf("tree of the canonical form %q:\n got %s\nwant %s", q, got, want)
			}
		})
	}
}

// published prints a tree as the vectors have it: every AND and OR with two
// operands and in parentheses.
func published(n *httpql.Node) string {
	switch n.Kind {
	case httpql.KindAnd, httpql.KindOr:
		word := map[httpql.Kind]string{httpql.KindAnd: " and ", httpql.KindOr: " or "}[n.Kind]
		s := published(n.Nodes[0])
		for _, m := range n.Nodes[1:] {
			s = "(" + s + word + published(m) + ")"
		}
		return s
	case httpql.KindNot:
		return "not " + published(n.Nodes[0])
	case httpql.KindPreset:
		if n.Literal {
			return "preset:" + n.Name
		}
		return "preset:" + strconv.Quote(n.Name)
	case httpql.KindAll:
		return "()"
	}
	field := n.Field.String()
	if n.Name != "" {
		field += "[" + strconv.Quote(n.Name) + "]"
	}
	switch {
	case n.Field == httpql.Source:
		return field + ":" + strconv.Quote(n.Text)
	case n.Literal:
		return field + "." + n.Op.String() + ":/" + n.Text + "/"
	case n.Text != "":
		return field + "." + n.Op.String() + ":" + strconv.Quote(n.Text)
	case n.Field == httpql.ReqTLS:
		return field + "." + n.Op.String() + ":" + strconv.FormatBool(n.Number == 1)
	}
	return field + "." + n.Op.String() + ":" + strconv.FormatInt(n.Number, 10)
}

func TestPublishedErrors(t *testing.T) {
	for _, dir := range suite(t, "error") {
		src := read(t, dir, "input.httpql")
		if q, err := httpql.Parse(src); err == nil {
			t.Errorf("%s: Parse(%q) = %s, want an error", filepath.Base(dir), src, q)
		}
	}
}

func TestPublishedMatches(t *testing.T) {
	for _, dir := range append(suite(t, "regex"), suite(t, "string")...) {
		t.Run(filepath.Base(filepath.Dir(dir))+filepath.Base(dir), func(t *testing.T) {
			var c struct {
				Expect string
				Input  string
				Result bool
			}
			if err := json.Unmarshal([]byte(read(t, dir, "test.json")), &c); err != nil {
				t.Fatal(err)
			}
			src := strings.TrimSpace(read(t, dir, "input.httpql"))
			q, err := httpql.Parse(src)
			if (err != nil) != (c.Expect == "err") {
				t.Fatalf("Parse(%q): error %v, want %s", src, err, c.Expect)
			}
			if err != nil {
				return
			}
			if got := q.Match(&httpqltest.Exchange{Request: []byte(c.Input)}); (got == httpql.True) != c.Result {
				t.Errorf("%s of %q is %v, want %v", q, c.Input, got, c.Result)
			}
		})
	}
}
