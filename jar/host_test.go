package jar_test

import (
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/jar"
)

func TestCanonicalHost(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"Shop.Example", "shop.example"},
		{"shop.example:8443", "shop.example"},
		{"shop.example.", "shop.example."},
		{"my_host.example", "my_host.example"},
		{"bücher.example", "xn--bcher-kva.example"},
		{"BÜCHER.example", "xn--bcher-kva.example"},
		{"faß.example", "xn--fa-hia.example"},
		{"例え.テスト", "xn--r8jz45g.xn--zckzah"},
		{"127.0.0.1", "127.0.0.1"},
		{"[2001:DB8::0:1]:443", "2001:db8::1"},
		{"2001:db8::1", "2001:db8::1"},
		{"[fe80::1%eth0]", "fe80::1"},
		{"", ""},
		{".", ""},
		{".example", ""},
		{"a..example", ""},
		{"a b.example", ""},
		{"a;b", ""},
		{"a\x7f", ""},
		{"a／b.example", ""}, // maps to a slash
		{"[::1", ""},
		{"a:b:c", ""},
		{strings.Repeat("a", 255), ""},
	} {
		got, ok := jar.CanonicalHost(c.in)
		if !ok {
			got = ""
		}
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func TestDomainMatch(t *testing.T) {
	for _, c := range []struct {
		host, domain string
		want         bool
	}{
		{"shop.example", "shop.example", true},
		{"www.shop.example", "shop.example", true},
		{"workshop.example", "shop.example", false},
		{"shop.example", "www.shop.example", false},
		{"1.2.3.4", "3.4", false},
		{"1.2.3.0x4", "3.0x4", false},
		{"1.2.3.4.", "4.", false},
		{"a.1password", "1password", true},
		{"", "", false},
		{"a.", "", false},
	} {
		if got := jar.DomainMatch(c.host, c.domain); got != c.want {
			t.Errorf("%q to %q: got %v, want %v", c.host, c.domain, got, c.want)
		}
	}
}

func TestPaths(t *testing.T) {
	for _, c := range []struct {
		request, cookie string
		want            bool
	}{
		{"/", "/", true}, {"/a", "/", true}, {"/a", "/a", true}, {"/a/", "/a", true}, {"/a/b", "/a", true},
		{"/ab", "/a", false}, {"/a", "/a/", false}, {"/", "/a", false}, {"/A", "/a", false},
	} {
		if got := jar.PathMatch(c.request, c.cookie); got != c.want {
			t.Errorf("%q to %q: got %v, want %v", c.request, c.cookie, got, c.want)
		}
	}
	for in, want := range map[string]string{"/": "/", "/a": "/", "/a/": "/a", "/a/b": "/a", "//": "/"} {
		if got := jar.DefaultPath(in); got != want {
			t.Errorf("default path of %q: got %q, want %q", in, got, want)
		}
	}
}

// The questions of the Public Suffix List's own test: a name, and the shortest
// domain above it (or itself) that may have cookies; "" where there is none.
// Names that are no host names (null, with a leading dot) cannot reach the jar
// and are tested as such.
func TestPublicSuffixes(t *testing.T) {
	const cases = `
COM -
example.COM example.com
WwW.example.COM example.com
example -
example.example example.example
b.example.example example.example
a.b.example.example example.example
biz -
domain.biz domain.biz
b.domain.biz domain.biz
a.b.domain.biz domain.biz
com -
example.com example.com
b.example.com example.com
a.b.example.com example.com
uk.com -
example.uk.com example.uk.com
b.example.uk.com example.uk.com
a.b.example.uk.com example.uk.com
test.ac test.ac
mm -
c.mm -
b.c.mm b.c.mm
a.b.c.mm b.c.mm
jp -
test.jp test.jp
www.test.jp test.jp
ac.jp -
test.ac.jp test.ac.jp
www.test.ac.jp test.ac.jp
kyoto.jp -
test.kyoto.jp test.kyoto.jp
ide.kyoto.jp -
b.ide.kyoto.jp b.ide.kyoto.jp
a.b.ide.kyoto.jp b.ide.kyoto.jp
c.kobe.jp -
b.c.kobe.jp b.c.kobe.jp
a.b.c.kobe.jp b.c.kobe.jp
city.kobe.jp city.kobe.jp
www.city.kobe.jp city.kobe.jp
ck -
test.ck -
b.test.ck b.test.ck
a.b.test.ck b.test.ck
www.ck www.ck
www.www.ck www.ck
us -
test.us test.us
www.test.us test.us
ak.us -
test.ak.us test.ak.us
www.test.ak.us test.ak.us
k12.ak.us -
test.k12.ak.us test.k12.ak.us
www.test.k12.ak.us test.k12.ak.us
食狮.com.cn 食狮.com.cn
食狮.公司.cn 食狮.公司.cn
www.食狮.公司.cn 食狮.公司.cn
shishi.公司.cn shishi.公司.cn
公司.cn -
食狮.中国 食狮.中国
www.食狮.中国 食狮.中国
shishi.中国 shishi.中国
中国 -
xn--85x722f.com.cn xn--85x722f.com.cn
xn--85x722f.xn--55qx5d.cn xn--85x722f.xn--55qx5d.cn
www.xn--85x722f.xn--55qx5d.cn xn--85x722f.xn--55qx5d.cn
shishi.xn--55qx5d.cn shishi.xn--55qx5d.cn
xn--55qx5d.cn -
xn--85x722f.xn--fiqs8s xn--85x722f.xn--fiqs8s
www.xn--85x722f.xn--fiqs8s xn--85x722f.xn--fiqs8s
shishi.xn--fiqs8s shishi.xn--fiqs8s
xn--fiqs8s -
`
	n := 0
	for line := range strings.Lines(strings.TrimSpace(cases)) {
		n++
		name, want, _ := strings.Cut(strings.TrimSpace(line), " ")
		want = strings.TrimPrefix(want, "-")
		if want != "" {
			want, _ = jar.CanonicalHost(want)
		}
		if got := widest(t, name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"", ".com", ".example", ".example.com", ".example.example"} {
		n++
		if _, ok := jar.CanonicalHost(name); ok {
			t.Errorf("%q: got a host, want none", name)
		}
	}
	t.Logf("%d names", n)
}

// widest finds the widest domain for which a host may set cookies, by asking
// the jar for every one.
func widest(t *testing.T, host string) (found string) {
	t.Helper()
	host, ok := jar.CanonicalHost(host)
	if !ok {
		t.Fatalf("%q is no host", host)
	}
	for domain := host; domain != ""; {
		j := jar.New(jar.Options{})
		set(t, j, "https://"+host+"/", 1, "a=1; Domain="+domain)
		for _, c := range j.All() {
			if !c.HostOnly {
				found = c.Domain
			}
		}
		_, domain, _ = strings.Cut(domain, ".")
	}
	return found
}
