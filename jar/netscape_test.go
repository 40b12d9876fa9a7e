package jar_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/jar"
)

// plain leaves of the cookies what a cookies.txt holds.
func plain(cookies []jar.Cookie) []jar.Cookie {
	for i := range portable(cookies) {
		c := &cookies[i]
		c.Created, c.SameSite, c.Partitioned, c.Source, c.Raw = time.Time{}, "", false, "", ""
		if !c.Expires.IsZero() {
			c.Expires = time.Unix(c.Expires.Unix(), 0).UTC()
		}
	}
	return cookies
}

func throughNetscape(t testing.TB, from *jar.Jar) *jar.Jar {
	t.Helper()
	src, problems := jar.EncodeNetscape(from.All())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	cookies, problems := jar.DecodeNetscape(src)
	if len(problems) > 0 {
		t.Fatalf("%v in %q", problems, src)
	}
	return imported(t, cookies)
}

func TestNetscapeIsTheIdentity(t *testing.T) {
	from := filled(t)
	to := throughNetscape(t, from)
	want, got := plain(from.All()), plain(to.All())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNetscapeLines(t *testing.T) {
	const file = "# Netscape HTTP Cookie File\n" +
		"# a remark\r\n\n" +
		"shop.example\tFALSE\t/\tTRUE\t0\ta\t1\r\n" +
		"#HttpOnly_.shop.example\tTRUE\t/app\tFALSE\t1893456000.5\tb\t\n" +
		"shop.example\ttrue\t/\tfalse\t-1\tc\n" +
		"shop.example\tFALSE\t/\tTRUE\tsoon\td\t1\n" +
		"shop.example\tFALSE\t/\tperhaps\t0\te\t1\n" +
		"shop.example FALSE / TRUE 0 f 1"
	got, problems := jar.DecodeNetscape([]byte(file))
	want := []jar.Cookie{
		{Name: "a", Value: "1", Domain: "shop.example", HostOnly: true, Path: "/", Secure: true},
		{Name: "b", Domain: "shop.example", Path: "/app", HTTPOnly: true, Expires: time.Unix(1893456000, 0).UTC()},
		{Name: "c", Domain: "shop.example", Path: "/"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var lines []int
	for _, p := range problems {
		lines = append(lines, p.Line)
		if !strings.HasPrefix(p.String(), "line ") {
			t.Errorf("got %q, want the line first", p)
		}
	}
	if !reflect.DeepEqual(lines, []int{7, 8, 9}) {
		t.Errorf("got problems %v, want lines 7, 8 and 9", problems)
	}
}

func TestNetscapeReportsWhatDoesNotFit(t *testing.T) {
	j := jar.New(jar.Options{})
	set(t, j, "https://shop.example/", 1, "a\tb=1", "c=1")
	src, problems := jar.EncodeNetscape(j.All())
	if len(problems) != 1 || problems[0].Name != "a\tb" || !strings.Contains(problems[0].String(), "JSON") {
		t.Errorf("got %v, want one about the tab with a way out", problems)
	}
	if want := "# Netscape HTTP Cookie File\nshop.example\tFALSE\t/\tFALSE\t0\tc\t1\n"; string(src) != want {
		t.Errorf("got %q, want %q", src, want)
	}
}
