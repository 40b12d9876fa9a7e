package jar_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/jar"
)

// What a cookie set at one address brings at another.
func TestSetThenSend(t *testing.T) {
	long := strings.Repeat("x", 4095)
	for _, c := range []struct {
		name, from, line, to, want string
	}{
		{"host-only by default", "https://shop.example", "a=1", "https://shop.example/x", "a=1"},
		{"host-only does not go below", "https://shop.example", "a=1", "https://www.shop.example/", ""},
		{"Domain goes below", "https://shop.example", "a=1; Domain=shop.example", "https://www.shop.example/", "a=1"},
		{"Domain above the host", "https://www.shop.example", "a=1; Domain=.shop.example", "https://cdn.shop.example/", "a=1"},
		{"Domain beside the host", "https://www.shop.example", "a=1; Domain=cdn.shop.example", "https://cdn.shop.example/", ""},
		{"Domain that is a suffix but not of labels", "https://workshop.example", "a=1; Domain=shop.example", "https://shop.example/", ""},
		{"case of hosts", "https://SHOP.example", "a=1; Domain=Shop.EXAMPLE", "https://www.sHop.example/", "a=1"},
		{"port plays no part", "https://shop.example:8443", "a=1", "https://shop.example/", "a=1"},
		{"a trailing dot is another host", "https://shop.example.", "a=1", "https://shop.example/", ""},
		{"empty Domain is host-only", "https://shop.example", "a=1; Domain=", "https://www.shop.example/", ""},
		{"Domain beyond ASCII", "https://xn--bcher-kva.example", "a=1; Domain=bücher.example", "https://xn--bcher-kva.example/", ""},

		{"IPv4 host", "http://192.0.2.7", "a=1", "http://192.0.2.7/", "a=1"},
		{"IPv4 Domain is host-only", "http://192.0.2.7", "a=1; Domain=192.0.2.7", "http://192.0.2.7/", "a=1"},
		{"IPv4 has nothing below it", "http://9.192.0.2.7", "a=1; Domain=192.0.2.7", "http://192.0.2.7/", ""},
		{"IPv4 tail as Domain", "http://192.0.2.7", "a=1; Domain=2.7", "http://192.0.2.7/", ""},
		{"IPv6 in two spellings", "http://[2001:db8:0::1]:80", "a=1", "http://[2001:DB8::1]/", "a=1"},

		{"public suffix", "https://shop.co.uk", "a=1; Domain=co.uk", "https://other.co.uk/", ""},
		{"private public suffix", "https://me.github.io", "a=1; Domain=github.io", "https://you.github.io/", ""},
		{"public suffix of a host with a dot at the end", "https://evil.com.", "a=1; Domain=com.", "https://shop.com./", ""},
		{"the public suffix itself", "https://github.io", "a=1; Domain=github.io", "https://github.io/", "a=1"},
		{"the public suffix itself is host-only", "https://github.io", "a=1; Domain=github.io", "https://me.github.io/", ""},
		{"localhost", "http://localhost", "a=1; Domain=localhost", "http://localhost/", "a=1"},

		{"default path", "https://shop.example/app/login", "a=1", "https://shop.example/app/x", "a=1"},
		{"default path ends at its slash", "https://shop.example/app/login", "a=1", "https://shop.example/application", ""},
		{"default path of the first level", "https://shop.example/login", "a=1", "https://shop.example/", "a=1"},
		{"Path", "https://shop.example/", "a=1; Path=/app", "https://shop.example/app", "a=1"},
		{"Path with a slash at the end", "https://shop.example/", "a=1; Path=/app/", "https://shop.example/app", ""},
		{"Path that is no path", "https://shop.example/app/login", "a=1; Path=app", "https://shop.example/app/", "a=1"},
		{"Path compares bytes", "https://shop.example/", "a=1; Path=/app", "https://shop.example/%61pp", ""},
		{"the last Path wins", "https://shop.example/", "a=1; Path=/app; Path=/", "https://shop.example/", "a=1"},
		{"a session id in the path", "https://shop.example/app;jsessionid=1/x", "a=1", "https://shop.example/app;jsessionid=1/y", "a=1"},

		{"Secure over https", "https://shop.example", "a=1; Secure", "https://shop.example/", "a=1"},
		{"Secure is not sent over http", "https://shop.example", "a=1; Secure", "http://shop.example/", ""},
		{"Secure is not taken over http", "http://shop.example", "a=1; Secure", "https://shop.example/", ""},
		{"SameSite=None needs Secure", "https://shop.example", "a=1; SameSite=None", "https://shop.example/", ""},
		{"SameSite=None with Secure", "https://shop.example", "a=1; SameSite=None; Secure", "https://shop.example/", "a=1"},

		{"__Secure- without", "https://shop.example", "__secure-a=1", "https://shop.example/", ""},
		{"__Secure- with", "https://shop.example", "__SECURE-a=1; Secure", "https://shop.example/", "__SECURE-a=1"},
		{"__Host- with a domain", "https://shop.example", "__HOST-a=1; Secure; Path=/; Domain=shop.example", "https://shop.example/", ""},
		{"__Host- without a path", "https://shop.example", "__Host-a=1; Secure", "https://shop.example/", ""},
		{"__Host- with another path", "https://shop.example", "__Host-a=1; Secure; Path=/x", "https://shop.example/x", ""},
		{"__Host- as it should be", "https://shop.example", "__Host-a=1; Secure; Path=/", "https://shop.example/", "__Host-a=1"},
		{"__Http- without HttpOnly", "https://shop.example", "__Http-a=1; Secure", "https://shop.example/", ""},
		{"__Http- as it should be", "https://shop.example", "__http-a=1; Secure; HttpOnly", "https://shop.example/", "__http-a=1"},
		{"__Host-Http- without HttpOnly", "https://shop.example", "__Host-Http-a=1; Secure; Path=/", "https://shop.example/", ""},
		{"__Host-Http- as it should be", "https://shop.example", "__Host-Http-a=1; Secure; Path=/; HttpOnly", "https://shop.example/", "__Host-Http-a=1"},
		{"a prefix hidden in a value", "https://shop.example", "=__Host-a=1", "https://shop.example/", ""},
		{"an Http prefix hidden in a value", "https://shop.example", "__hTTp-a", "https://shop.example/", ""},

		{"no name", "https://shop.example", "token", "https://shop.example/", "token"},
		{"no value", "https://shop.example", "a=", "https://shop.example/", "a="},
		{"neither", "https://shop.example", " = ; Path=/", "https://shop.example/", ""},
		{"equals signs in the value", "https://shop.example", "a=b=c==", "https://shop.example/", "a=b=c=="},
		{"quotes are part of the value", "https://shop.example", `a="1 2"`, "https://shop.example/", `a="1 2"`},
		{"a semicolon ends the value, quotes or not", "https://shop.example", `a="1;2"`, "https://shop.example/", `a="1`},
		{"bytes beyond ASCII, not UTF-8", "https://shop.example", "a=\xff\xfe", "https://shop.example/", "a=\xff\xfe"},
		{"space around, and within", "https://shop.example", " a\t= 1  2 ;", "https://shop.example/", "a=1  2"},
		{"a control character anywhere", "https://shop.example", "a=1; x=\x01", "https://shop.example/", ""},
		{"a tab within", "https://shop.example", "a=1\t2", "https://shop.example/", "a=1\t2"},
		{"4096 bytes", "https://shop.example", "a=" + long, "https://shop.example/", "a=" + long},
		{"4097 bytes", "https://shop.example", "ab=" + long, "https://shop.example/", ""},
		{"an attribute of 1025 bytes is not there", "https://shop.example", "a=1; Path=/" + long[:1024], "https://shop.example/", "a=1"},

		{"Max-Age of none", "https://shop.example", "a=1; Max-Age=0", "https://shop.example/", ""},
		{"Max-Age before Expires", "https://shop.example", "a=1; Max-Age=9; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "https://shop.example/", "a=1"},
		{"Max-Age that is no number", "https://shop.example", "a=1; Max-Age=1x", "https://shop.example/", "a=1"},
		{"the last valid Max-Age", "https://shop.example", "a=1; Max-Age=0; Max-Age=5; Max-Age=+0", "https://shop.example/", "a=1"},
		{"Max-Age beyond every integer", "https://shop.example", "a=1; Max-Age=" + strings.Repeat("9", 99), "https://shop.example/", "a=1"},
		{"Expires in the past", "https://shop.example", "a=1; Expires=Mon, 04 May 2026 11:59:59 GMT", "https://shop.example/", ""},
		{"Expires that is no date", "https://shop.example", "a=1; Expires=tomorrow", "https://shop.example/", "a=1"},
		{"no host", "https:///x", "a=1", "https:///x", ""},
	} {
		j := jar.New(jar.Options{})
		changes := set(t, j, c.from, 1, c.line)
		if got := sent(t, j, c.to); got != c.want {
			t.Errorf("%s: %q from %s, to %s: got %q, want %q (%v)", c.name, c.line, c.from, c.to, got, c.want, changes)
		}
		if changes[0].Kind == jar.Refused && changes[0].Reason == "" {
			t.Errorf("%s: refused without a reason", c.name)
		}
	}
}

func TestTrustLoopback(t *testing.T) {
	for _, c := range []struct {
		host  string
		trust bool
		want  string
	}{
		{"localhost:3000", true, "a=1"}, {"app.localhost", true, "a=1"}, {"127.1.2.3", true, "a=1"}, {"[::1]:80", true, "a=1"},
		{"localhost", false, ""}, {"localhost.example", true, ""}, {"10.0.0.1", true, ""},
	} {
		j := jar.New(jar.Options{TrustLoopback: c.trust})
		set(t, j, "http://"+c.host+"/", 1, "a=1; Secure")
		if got := sent(t, j, "http://"+c.host+"/"); got != c.want {
			t.Errorf("%s, trusted %v: got %q, want %q", c.host, c.trust, got, c.want)
		}
	}
}

func TestCookieEnds(t *testing.T) {
	j := jar.New(jar.Options{})
	u := at(t, "https://shop.example/")
	set(t, j, "https://shop.example/", 1, "a=1; Max-Age=60", "b=2")
	for _, c := range []struct {
		after time.Duration
		want  string
	}{{0, "a=1; b=2"}, {59 * time.Second, "a=1; b=2"}, {60 * time.Second, "b=2"}} {
		if got := j.Header(u, noon.Add(c.after)); got != c.want {
			t.Errorf("after %v: got %q, want %q", c.after, got, c.want)
		}
	}
}

// §5.7 step 16, the note's examples among them.
func TestLeaveSecureCookiesAlone(t *testing.T) {
	for _, c := range []struct {
		name, line string
		want       jar.Kind
	}{
		{"the same cookie", "a=2; Path=/login", jar.Refused},
		{"below its path", "a=2; Path=/login/en", jar.Refused},
		{"above its path", "a=2; Path=/", jar.Added},
		{"beside its path", "a=2; Path=/foo", jar.Added},
		{"wider domain", "a=2; Path=/login; Domain=shop.example", jar.Refused},
		{"another name", "b=2; Path=/login", jar.Added},
		{"removing it", "a=; Path=/login; Max-Age=0", jar.Refused},
	} {
		j := jar.New(jar.Options{})
		set(t, j, "https://www.shop.example/", 1, "a=1; Secure; Path=/login")
		got := set(t, j, "http://www.shop.example/", 2, c.line)
		if got[0].Kind != c.want {
			t.Errorf("%s: got %v, want %s", c.name, got, c.want)
		}
		if over := set(t, j, "https://www.shop.example/", 3, c.line); over[0].Kind == jar.Refused {
			t.Errorf("%s over https: %v", c.name, over)
		}
	}
	j := jar.New(jar.Options{})
	set(t, j, "https://shop.example/", 1, "a=1; Secure; Domain=shop.example")
	if got := set(t, j, "http://www.shop.example/", 2, "a=2"); got[0].Kind != jar.Refused {
		t.Errorf("below its domain: got %v, want refused", got)
	}
}

// Answers come back in another order than their requests went out.
func TestLateAnswers(t *testing.T) {
	for _, c := range []struct {
		name  string
		calls []any // order, value
		want  string
		last  jar.Kind
	}{
		{"a late answer does not overwrite", []any{2, "a=new", 1, "a=old"}, "a=new", jar.Stale},
		{"a late answer does not remove", []any{2, "a=new", 1, "a=; Max-Age=0"}, "a=new", jar.Stale},
		{"a late answer does not revive", []any{1, "a=1", 3, "a=; Max-Age=0", 2, "a=2"}, "", jar.Stale},
		{"a removal that found nothing is remembered", []any{3, "a=; Max-Age=0", 2, "a=2"}, "", jar.Stale},
		{"a removal before other changes is remembered", []any{3, "a=1; Max-Age=0", 4, "b=1", 2, "a=2"}, "b=1", jar.Stale},
		{"one answer may set twice", []any{2, "a=1", 2, "a=2"}, "a=2", jar.Updated},
		{"a later answer revives", []any{2, "a=; Max-Age=0", 3, "a=3"}, "a=3", jar.Added},
		{"another path is another cookie", []any{2, "a=new", 1, "a=old; Path=/x"}, "a=old; a=new", jar.Added},
	} {
		j := jar.New(jar.Options{})
		var changes []jar.Change
		for i := 0; i < len(c.calls); i += 2 {
			changes = set(t, j, "https://shop.example/", uint64(c.calls[i].(int)), c.calls[i+1].(string))
		}
		if got := sent(t, j, "https://shop.example/x"); got != c.want || changes[0].Kind != c.last {
			t.Errorf("%s: got %q and %v, want %q and %s", c.name, got, changes, c.want, c.last)
		}
	}
}

// A dead session's answers delete its cookies; those requests may have started
// after the login did, but before it was done.
func TestIgnoreBefore(t *testing.T) {
	j := jar.New(jar.Options{})
	set(t, j, "https://shop.example/", 10, "sid=new")
	j.IgnoreBefore("Shop.example", 13)
	if got := set(t, j, "https://other.example/", 12, "a=1"); !slices.Equal(kinds(got), []jar.Kind{jar.Added}) {
		t.Errorf("another host: got %v", got)
	}
	if got := set(t, j, "https://www.shop.example/", 12, "b=1; Domain=shop.example"); !slices.Equal(kinds(got), []jar.Kind{jar.Added}) {
		t.Errorf("a host below: got %v", got)
	}
	if got := set(t, j, "https://shop.example/", 12, "sid=; Max-Age=0", "other=1"); !slices.Equal(kinds(got), []jar.Kind{jar.Stale, jar.Stale}) {
		t.Errorf("got %v, want all stale", got)
	}
	set(t, j, "https://shop.example/", 13, "sid=newer")
	wantSent(t, j, "https://shop.example/", "sid=newer; b=1")
	if got := j.LastOrder(); got != 13 {
		t.Errorf("last order: got %d, want 13", got)
	}
}

func TestEviction(t *testing.T) {
	j := jar.New(jar.Options{PerDomain: 3, Total: 5})
	u := at(t, "https://shop.example/")
	put := func(minute int, u jar.URL, line string) []jar.Change {
		return j.Set(u, []byte(line), noon.Add(time.Duration(minute)*time.Minute), 1)
	}
	put(0, u, "short=1; Max-Age=30")
	put(1, u, "safe=1; Secure")
	put(2, u, "a=1")
	if got := put(3, u, "b=1"); len(got) != 1 {
		t.Errorf("the expired one makes room: got %v", got)
	}
	put(4, u, "a=1") // used
	if got := put(5, u, "c=1"); len(got) != 2 || got[1].Kind != jar.Evicted || got[1].Cookie.Name != "b" {
		t.Errorf("the longest unused one that is not Secure: got %v", got)
	}
	put(6, jar.URL{Host: "one.example"}, "x=1")
	put(7, jar.URL{Host: "two.example"}, "y=1")
	if got := put(8, jar.URL{Host: "three.example"}, "z=1"); len(got) != 2 || got[1].Cookie.Name != "safe" {
		t.Errorf("of all the longest unused: got %v", got)
	}
	if got := j.Len(); got != 5 {
		t.Errorf("got %d cookies, want 5", got)
	}
}

// Removed cookies are remembered up to a limit, the latest ones.
func TestGravesAreLimited(t *testing.T) {
	j := jar.New(jar.Options{Total: 10})
	for i := range uint64(50) {
		set(t, j, "https://shop.example/", i+2, fmt.Sprintf("a%d=; Max-Age=0", i))
	}
	if got := set(t, j, "https://shop.example/", 1, "a49=1")[0].Kind; got != jar.Stale {
		t.Errorf("the latest removal: got %s, want stale", got)
	}
	if got := set(t, j, "https://shop.example/", 1, "a0=1")[0].Kind; got != jar.Added {
		t.Errorf("the first of fifty: got %s, want added", got)
	}
}
