package jar_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/jar"
)

func put(t *testing.T, j *jar.Jar, c jar.Cookie) jar.Change {
	t.Helper()
	changes, err := j.Put(c, noon)
	if err != nil {
		t.Fatal(err)
	}
	return changes[0]
}

func TestPutByHand(t *testing.T) {
	j := jar.New(jar.Options{})
	got := put(t, j, jar.Cookie{Name: "a", Value: "1", Domain: ".Shop.Example"})
	if got.Kind != jar.Added || got.Cookie.Source != jar.FromHand || got.Cookie.Path != "/" || got.Cookie.Domain != "shop.example" {
		t.Errorf("got %#v", got)
	}
	wantSent(t, j, "https://www.shop.example/", "a=1")

	c := got.Cookie
	c.Value = "2"
	if got := put(t, j, c); got.Kind != jar.Updated || got.Before.Value != "1" || got.Cookie.ID != c.ID {
		t.Errorf("a new value: got %#v", got)
	}
	c.Name, c.Path = "b", "/app"
	if got := put(t, j, c); got.Kind != jar.Updated || got.Cookie.ID != c.ID || !got.Cookie.Created.Equal(noon) {
		t.Errorf("a new name: got %#v", got)
	}
	wantSent(t, j, "https://www.shop.example/app", "b=2")

	other := put(t, j, jar.Cookie{Name: "c", Value: "3", Domain: "shop.example"}).Cookie
	c.Name, c.Path = "c", "/"
	put(t, j, c)
	if _, ok := j.Get(other.ID); ok || j.Len() != 1 {
		t.Errorf("moving onto another cookie: got %v, want it replaced", j.All())
	}
	c.Expires = noon.Add(-time.Second)
	if got := put(t, j, c); got.Kind != jar.Removed || j.Len() != 0 {
		t.Errorf("putting an expired cookie: got %v", got)
	}
}

func TestPutRefuses(t *testing.T) {
	long := strings.Repeat("x", 4097)
	for _, c := range []struct {
		name, field string
		cookie      jar.Cookie
	}{
		{"nothing", "name", jar.Cookie{Domain: "shop.example"}},
		{"a line end", "name", jar.Cookie{Name: "a\r\nb", Domain: "shop.example"}},
		{"an equals sign in the name", "name", jar.Cookie{Name: "a=b", Domain: "shop.example"}},
		{"a semicolon", "value", jar.Cookie{Name: "a", Value: "1; b=2", Domain: "shop.example"}},
		{"a control character", "value", jar.Cookie{Name: "a", Value: "\x00", Domain: "shop.example"}},
		{"too long", "value", jar.Cookie{Name: "a", Value: long, Domain: "shop.example"}},
		{"a path too long", "path", jar.Cookie{Name: "a", Path: "/" + long, Domain: "shop.example"}},
		{"no domain", "domain", jar.Cookie{Name: "a"}},
		{"no host name", "domain", jar.Cookie{Name: "a", Domain: "a/b"}},
		{"a public suffix", "domain", jar.Cookie{Name: "a", Domain: "co.uk"}},
	} {
		j := jar.New(jar.Options{})
		_, err := j.Put(c.cookie, noon)
		var e *jar.Error
		if !errors.As(err, &e) || e.Field != c.field || e.Hint == "" || j.Len() != 0 {
			t.Errorf("%s: got %v, want an error about %s with a hint", c.name, err, c.field)
		}
		if got := j.Import([]jar.Cookie{c.cookie}, noon); got[0].Kind != jar.Refused || got[0].Reason == "" {
			t.Errorf("%s: import: got %v, want refused", c.name, got)
		}
	}
	j := jar.New(jar.Options{})
	if got := put(t, j, jar.Cookie{Name: "__Host-a", Value: "1", Domain: "co.uk", HostOnly: true}); got.Kind != jar.Added {
		t.Errorf("a broken prefix, and a suffix itself, by hand: got %v, want added", got)
	}
}

func TestPutHasAnOrder(t *testing.T) {
	for _, c := range []struct {
		order uint64
		want  string
	}{{0, "a=answer"}, {9, "a=hand"}} {
		j := jar.New(jar.Options{})
		put(t, j, jar.Cookie{Name: "a", Value: "hand", Domain: "shop.example", HostOnly: true, Order: c.order})
		set(t, j, "https://shop.example/", 8, "a=answer")
		wantSent(t, j, "https://shop.example/", c.want)
	}
}

func TestDelete(t *testing.T) {
	j := jar.New(jar.Options{})
	set(t, j, "https://shop.example/", 1, "a=1", "b=2")
	if c, ok := j.Delete(1, 5); !ok || c.Name != "a" {
		t.Errorf("got %v %v, want a", c, ok)
	}
	if _, ok := j.Delete(1, 5); ok {
		t.Error("deleted twice")
	}
	set(t, j, "https://shop.example/", 4, "a=late")
	wantSent(t, j, "https://shop.example/", "b=2")
	set(t, j, "https://shop.example/", 5, "a=new")
	wantSent(t, j, "https://shop.example/", "b=2; a=new")
}

func TestClear(t *testing.T) {
	fill := func() *jar.Jar {
		j := jar.New(jar.Options{})
		set(t, j, "https://shop.example/", 1, "a=1; Domain=shop.example", "b=1")
		set(t, j, "https://www.shop.example/", 2, "c=1")
		set(t, j, "https://bank.example/", 3, "d=1")
		return j
	}
	for _, c := range []struct {
		domain string
		gone   int
		want   string // names that a late answer and the jar still have
	}{
		{"shop.example", 3, "d,late"},
		{".SHOP.example", 3, "d,late"},
		{"www.shop.example", 1, "a,b,d,late"},
		{"example", 4, "late"},
		{"shop", 0, "a,b,c,d,late"},
		{"not a host", 0, "a,b,c,d,late"},
		{"", 4, ""},
	} {
		j := fill()
		gone := j.Clear(c.domain, 10)
		set(t, j, "https://late.example/", 9, "late=1")
		var names []string
		for _, c := range j.All() {
			names = append(names, c.Name)
		}
		slices.Sort(names)
		if got := strings.Join(names, ","); got != c.want || len(gone) != c.gone {
			t.Errorf("%q: got %d gone, %q left, want %d, %q", c.domain, len(gone), got, c.gone, c.want)
		}
	}
}

func TestPurgeExpired(t *testing.T) {
	j := jar.New(jar.Options{})
	set(t, j, "https://shop.example/", 5, "a=1; Max-Age=60", "b=1; Max-Age=120", "c=1")
	if got := j.PurgeExpired(noon.Add(time.Minute)); len(got) != 1 || got[0].Name != "a" || j.Len() != 2 {
		t.Errorf("got %v, want a", got)
	}
	if got := set(t, j, "https://shop.example/", 4, "a=late")[0].Kind; got != jar.Stale {
		t.Errorf("a late answer after the end: got %s, want stale", got)
	}
}

func TestFind(t *testing.T) {
	j := jar.New(jar.Options{})
	set(t, j, "https://shop.example/app/", 1, "a=root; Path=/", "a=app")
	u := at(t, "https://shop.example/app/x")
	if got, ok := j.Find(u, "a", noon); !ok || got.Value != "app" {
		t.Errorf("got %v %v, want the one of /app", got, ok)
	}
	if _, ok := j.Find(u, "A", noon); ok {
		t.Error("names are compared with their case")
	}
}
