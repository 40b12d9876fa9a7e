package jar_test

import (
	"testing"

	"github.com/holdfast-proxy/holdfast/jar"
)

func observe(t *testing.T, j *jar.Jar, address string, order uint64, line string) []jar.Change {
	t.Helper()
	return j.Observe(at(t, address), []byte(line), noon, order)
}

func TestObserve(t *testing.T) {
	const https, http = "https://shop.example/app/x", "http://shop.example/app/x"
	for _, c := range []struct {
		name string
		do   func(*jar.Jar)
		want string // at https
	}{
		{"what nobody knew is recorded", func(j *jar.Jar) { observe(t, j, https, 1, "a=1; b = 2 ;; c") }, "a=1; b=2; c"},
		{"the first of a name", func(j *jar.Jar) { observe(t, j, https, 1, "a=1; a=2") }, "a=1"},
		{"a new value", func(j *jar.Jar) {
			observe(t, j, https, 1, "a=1")
			observe(t, j, https, 2, "a=2")
		}, "a=2"},
		{"an older request", func(j *jar.Jar) {
			observe(t, j, https, 2, "a=2")
			observe(t, j, https, 1, "a=1")
		}, "a=2"},
		{"the jar knows better than the browser", func(j *jar.Jar) {
			set(t, j, https, 1, "a=fresh; Path=/")
			observe(t, j, https, 2, "a=stale")
		}, "a=fresh"},
		{"by hand is better as well", func(j *jar.Jar) {
			put(t, j, jar.Cookie{Name: "a", Value: "hand", Domain: "shop.example"})
			observe(t, j, https, 2, "a=stale")
		}, "a=hand"},
		{"a removed cookie that the browser still has", func(j *jar.Jar) {
			set(t, j, https, 1, "a=1; Path=/; Domain=shop.example")
			set(t, j, https, 2, "a=; Path=/; Domain=shop.example; Max-Age=0")
			observe(t, j, https, 3, "a=1; b=1")
		}, "b=1"},
		{"a removed cookie that a script has set again", func(j *jar.Jar) {
			set(t, j, https, 1, "a=1; Path=/")
			set(t, j, https, 2, "a=; Path=/; Max-Age=0")
			observe(t, j, https, 3, "a=3")
		}, "a=3"},
		{"an answer replaces a guess, whatever its path", func(j *jar.Jar) {
			observe(t, j, https, 1, "a=guess; b=guess")
			set(t, j, https, 2, "a=fact; Path=/app; Domain=shop.example")
		}, "a=fact; b=guess"},
		{"an answer of an earlier request as well", func(j *jar.Jar) {
			observe(t, j, https, 5, "a=guess")
			set(t, j, https, 4, "a=fact; Path=/")
		}, "a=fact"},
		{"an answer removes a guess", func(j *jar.Jar) {
			observe(t, j, https, 1, "a=guess")
			set(t, j, https, 2, "a=; Path=/app; Max-Age=0")
		}, ""},
		{"a guess of plain http does not replace one of https", func(j *jar.Jar) {
			observe(t, j, https, 1, "a=safe")
			observe(t, j, http, 2, "a=spoofed")
		}, "a=safe"},
		{"an answer over http may replace a guess", func(j *jar.Jar) {
			observe(t, j, https, 1, "a=guess")
			set(t, j, http, 2, "a=fact; Path=/")
		}, "a=fact"},
		{"control characters", func(j *jar.Jar) { observe(t, j, https, 1, "a=\x01; b=1") }, "b=1"},
		{"after IgnoreBefore", func(j *jar.Jar) {
			j.IgnoreBefore("shop.example", 5)
			observe(t, j, https, 4, "a=1")
		}, ""},
	} {
		j := jar.New(jar.Options{})
		c.do(j)
		if got := sent(t, j, https); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestObservedStaysWithItsHost(t *testing.T) {
	j := jar.New(jar.Options{})
	changes := observe(t, j, "https://shop.example/x", 3, "a=1")
	if len(changes) != 1 || changes[0].Kind != jar.Added || changes[0].Cookie.Source != jar.FromRequest {
		t.Errorf("got %#v", changes)
	}
	if again := observe(t, j, "https://shop.example/x", 4, "a=1"); again != nil {
		t.Errorf("seen again: got %v, want nothing", again)
	}
	wantSent(t, j, "https://www.shop.example/", "")
	wantSent(t, j, "http://shop.example/", "")
	wantSent(t, j, "https://shop.example/", "a=1")
}
