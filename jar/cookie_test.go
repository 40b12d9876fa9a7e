package jar_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/jar"
)

func TestSendingOrder(t *testing.T) {
	j := jar.New(jar.Options{})
	set(t, j, "https://shop.example/app/x", 1, "a=root; Path=/", "a=app; Path=/app", "a=wide; Path=/app; Domain=shop.example", "b=2; Path=/")
	wantSent(t, j, "https://shop.example/app/y", "a=app; a=wide; a=root; b=2")
	// A cookie that is set again keeps its place (§5.7 step 23).
	set(t, j, "https://shop.example/app/x", 2, "a=again; Path=/")
	wantSent(t, j, "https://shop.example/app/y", "a=app; a=wide; a=again; b=2")
	// One that ended in between does not.
	set(t, j, "https://shop.example/app/x", 3, "a=; Path=/; Max-Age=0", "a=new; Path=/")
	wantSent(t, j, "https://shop.example/app/y", "a=app; a=wide; b=2; a=new")
}

func TestVersionsRise(t *testing.T) {
	j := jar.New(jar.Options{})
	for _, c := range []struct {
		name, line string
		kind       jar.Kind
		rises      bool
	}{
		{"added", "a=1", jar.Added, true},
		{"set to the same", "a=1", jar.Unchanged, false},
		{"set to another", "a=2", jar.Updated, true},
		{"another attribute", "a=2; HttpOnly", jar.Updated, true},
		{"refused", "a=\x00", jar.Refused, false},
		{"removed", "a=; Max-Age=0", jar.Removed, true},
	} {
		before := j.Version()
		got := set(t, j, "https://shop.example/", 1, c.line)[0]
		if got.Kind != c.kind || (j.Version() > before) != c.rises {
			t.Errorf("%s: got %v, version %d to %d", c.name, got, before, j.Version())
		}
		if c.kind == jar.Updated && (got.Before == nil || got.Cookie.Version != j.Version()) {
			t.Errorf("%s: got %#v, want what was before and the jar's version", c.name, got)
		}
	}
}

func TestStringsKeepValuesBack(t *testing.T) {
	j := jar.New(jar.Options{})
	changes := set(t, j, "https://shop.example/", 1, "a=hush", "__Host-b=hush")
	_, edits := jar.Merge("a=hush2", j.Cookies(at(t, "https://shop.example/"), noon), jar.Policy{})
	for _, got := range []string{fmt.Sprint(changes), fmt.Sprint(j.All()), fmt.Sprintf("%+v", edits)} {
		if strings.Contains(got, "hush") || !strings.Contains(got, "a") {
			t.Errorf("got %q, want no value in it", got)
		}
	}
}
