package jar_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/jar"
)

func TestDecodeTellsTheFormatByItsLook(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	j := jar.New(jar.Options{})
	j.Set(jar.URL{Secure: true, Host: "shop.example"}, []byte("sid=a=b; Secure; HttpOnly"), now, 1)
	j.Set(jar.URL{Secure: true, Host: "shop.example"}, []byte("caf\xe9=\"x y\"; Domain=shop.example; Max-Age=60"), now, 2)
	asJSON, err := jar.EncodeJSON(j.All())
	if err != nil {
		t.Fatal(err)
	}
	asText, problems := jar.EncodeNetscape(j.All())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := j.Header(jar.URL{Secure: true, Host: "shop.example", Path: "/"}, now)
	for name, src := range map[string][]byte{"JSON": asJSON, "cookies.txt": asText, "with a mark": append([]byte("\ufeff"), asJSON...), "behind blanks": append([]byte("\n "), asJSON...)} {
		cookies, problems := jar.Decode(src)
		other := jar.New(jar.Options{})
		other.Import(cookies, now)
		if got := other.Header(jar.URL{Secure: true, Host: "shop.example", Path: "/"}, now); got != want || len(problems) > 0 {
			t.Errorf("%s: got %q and %v, want %q", name, got, problems, want)
		}
	}
}

func TestDecodeNamesLines(t *testing.T) {
	const head, tail = `{"format": "holdfast-cookies", "version": 1, "cookies": [`, "\n]}\n"
	for _, c := range []struct {
		name, src string
		cookies   int
		want      string
	}{
		{"nothing", "", 0, "[]"},
		{"cookies.txt", "# a comment\n.shop.example\tTRUE\t/\tFALSE\t0\ta\t1\nthree fields only\n.com\tTRUE\t/\tFALSE\t0\tb\t2\n", 1,
			"[line 3: has 1 fields, want 7 with tabs between them line 4: cookie domain: is a public suffix, its cookies would go to strangers; make it host-only]"},
		{"cookies", head + `
  {"name": "a", "value": "1", "domain": "shop.example", "path": "/"},
  {"name": "b", "value": 2, "domain": "shop.example"},
  {"name": "c", "vlaue": "1", "domain": "shop.example"},
  {"name": "d;", "value": "1", "domain": "shop.example"}` + tail, 1,
			"[line 3: value: this cannot be a JSON number line 4: unknown field \"vlaue\" line 5: cookie name: holds a control character, a semicolon or an equals sign; leave it out]"},
		{"cut", head + "\n{\"name\": \"a\"", 0, "[line 2: is no JSON from here on]"},
		{"a list", `[{"name": "a", "value": "secret", "expirationDate": 1}]`, 0,
			"[line 1: is not the JSON of \"holdfast-cookies\": an object with format, version and cookies is wanted]"},
		{"another version", `{"format": "holdfast-cookies", "version": 2, "cookies": []}`, 0,
			"[line 1: format \"holdfast-cookies\" version 2 is unknown; want \"holdfast-cookies\" version 1]"},
		{"twice", head + `{"name": "a", "value": "1", "domain": "shop.example"}], "cookies": null}`, 1, "[]"},
		{"another format", `{"cookies": "none"}`, 0, "[line 1: cookies: this cannot be a JSON string]"},
	} {
		cookies, problems := jar.Decode([]byte(c.src))
		if diff := cmp.Diff(c.want, fmt.Sprint(problems)); diff != "" || len(cookies) != c.cookies {
			t.Errorf("%s: %d cookies, want %d (-want +got):\n%s", c.name, len(cookies), c.cookies, diff)
		}
	}
}

// Whatever the file is, what Decode returns can be imported.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"format": "holdfast-cookies", "version": 1, "cookies": [{"name": "a", "value": {"base64": "/w=="}, "domain": "o"}, 1]}`))
	f.Add([]byte("#HttpOnly_.shop.example\tTRUE\t/\tTRUE\t1\ta\t1\nx\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		cookies, problems := jar.Decode(src)
		for _, c := range jar.New(jar.Options{}).Import(cookies, time.Unix(0, 0)) {
			if c.Kind == jar.Refused {
				t.Errorf("%v is refused: %s", c.Cookie, c.Reason)
			}
		}
		for _, p := range problems {
			if p.Line < 1 {
				t.Errorf("no line: %+v", p)
			}
		}
	})
}
