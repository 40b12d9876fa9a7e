package jar_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/jar"
)

func TestAttributesAreKept(t *testing.T) {
	j := jar.New(jar.Options{})
	line := "a=1; Path=/x; Domain=shop.example; Secure; HttpOnly; SameSite=sTRICT; Partitioned; Priority=High; Max-Age=60"
	set(t, j, "https://www.shop.example/", 7, line)
	got := one(t, j)
	want := jar.Cookie{
		ID: 1, Name: "a", Value: "1", Domain: "shop.example", Path: "/x", Secure: true, HTTPOnly: true, Partitioned: true,
		SameSite: jar.SameSiteStrict, Expires: noon.Add(time.Minute), Created: noon, Updated: noon, LastAccess: noon,
		Order: 7, Version: 1, Source: jar.FromResponse, Raw: line,
	}
	if got != want {
		t.Errorf("got %#v, want %#v", got, want)
	}
}

func TestLifetimeIsCut(t *testing.T) {
	for _, c := range []struct {
		name string
		opts jar.Options
		line string
		want time.Time
	}{
		{"400 days", jar.Options{}, "a=1; Max-Age=99999999", noon.Add(400 * 24 * time.Hour)},
		{"400 days of Expires", jar.Options{}, "a=1; Expires=Fri, 31 Dec 9999 23:59:59 GMT", noon.Add(400 * 24 * time.Hour)},
		{"another limit", jar.Options{MaxLifetime: time.Hour}, "a=1; Max-Age=99999999", noon.Add(time.Hour)},
		{"no limit", jar.Options{MaxLifetime: -1}, "a=1; Expires=Fri, 31 Dec 9999 23:59:59 GMT", time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
		{"no end", jar.Options{}, "a=1", time.Time{}},
	} {
		j := jar.New(c.opts)
		set(t, j, "https://shop.example/", 1, c.line)
		if got := one(t, j).Expires; !got.Equal(c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestRawIsLimited(t *testing.T) {
	j := jar.New(jar.Options{})
	set(t, j, "https://shop.example/", 1, "a=1; "+strings.Repeat("x; ", 10000))
	if got := len(one(t, j).Raw); got != 8192 {
		t.Errorf("got %d bytes, want 8192", got)
	}
}
