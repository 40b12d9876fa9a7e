package jar_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/jar"
)

// filled is a jar with everything that a file must carry.
func filled(t testing.TB) *jar.Jar {
	j := jar.New(jar.Options{})
	set(t, j, "https://www.shop.example/app/x", 3,
		"plain=1", "wide=2; Domain=shop.example; Path=/", "all=3; Secure; HttpOnly; SameSite=Lax; Partitioned; Max-Age=90; Path=/x",
		"bytes=\xff\xfe<&>", "nameless", `quoted="a b"`, "empty=", "eq=a=b==", "tab=a\tb", "same=1; Path=/1", "same=2; Path=/2", "__Host-h=1; Secure; Path=/")
	set(t, j, "http://[2001:db8::1]/", 4, "six=1")
	set(t, j, "https://www.shop.example/", 5, "gone=1; Max-Age=0")
	j.Observe(at(t, "https://www.shop.example/"), []byte("seen=1"), noon, 6)
	j.IgnoreBefore("www.shop.example", 2)
	return j
}

// portable leaves of the cookies what does not belong to one jar.
func portable(cookies []jar.Cookie) []jar.Cookie {
	for i := range cookies {
		c := &cookies[i]
		c.ID, c.Version, c.Order, c.Updated, c.LastAccess = 0, 0, 0, time.Time{}, time.Time{}
	}
	return cookies
}

func throughJSON(t testing.TB, from *jar.Jar) *jar.Jar {
	t.Helper()
	src, err := jar.EncodeJSON(from.All())
	if err != nil {
		t.Fatal(err)
	}
	cookies, err := jar.DecodeJSON(src)
	if err != nil {
		t.Fatal(err)
	}
	return imported(t, cookies)
}

func imported(t testing.TB, cookies []jar.Cookie) *jar.Jar {
	t.Helper()
	to := jar.New(jar.Options{})
	for _, c := range to.Import(cookies, noon) {
		if c.Kind != jar.Added {
			t.Fatalf("import: %v", c)
		}
	}
	return to
}

func TestJSONIsTheIdentity(t *testing.T) {
	from := filled(t)
	to := throughJSON(t, from)
	if diff := cmp.Diff(portable(from.All()), portable(to.All())); diff != "" {
		t.Error(diff)
	}
	for _, address := range []string{"https://www.shop.example/app/y", "http://shop.example/", "https://www.shop.example/x"} {
		wantSent(t, to, address, sent(t, from, address))
	}
}

// The file's shape is a promise to whoever reads it with other programs.
func TestJSONShape(t *testing.T) {
	j := jar.New(jar.Options{})
	set(t, j, "https://shop.example/", 1, "a=\xff; Secure; SameSite=Lax; Max-Age=60")
	src, err := jar.EncodeJSON(j.All())
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"cookies":[{"created":"2026-05-04T12:00:00Z","domain":"shop.example","expires":"2026-05-04T12:01:00Z",` +
		`"host_only":true,"http_only":false,"name":"a","path":"/","raw":{"base64":"YT3/OyBTZWN1cmU7IFNhbWVTaXRlPUxheDsgTWF4LUFnZT02MA=="},` +
		`"same_site":"lax","secure":true,"source":"response","value":{"base64":"/w=="}}],"format":"holdfast-cookies","version":1}`
	var any map[string]any
	if err := json.Unmarshal(src, &any); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(any)
	if err != nil || string(got) != want {
		t.Errorf("got %s %v\nwant %s", got, err, want)
	}
}

func TestDecodeJSONRefuses(t *testing.T) {
	for name, src := range map[string]string{
		"no JSON":         "# Netscape",
		"another format":  `{"format":"x","version":1,"cookies":[]}`,
		"a later version": `{"format":"holdfast-cookies","version":2,"cookies":[]}`,
		"an unknown key":  `{"format":"holdfast-cookies","version":1,"cookies":[{"nmae":"a"}]}`,
		"a wrong type":    `{"format":"holdfast-cookies","version":1,"cookies":[{"name":1}]}`,
		"bad base64":      `{"format":"holdfast-cookies","version":1,"cookies":[{"name":{"base64":"?"}}]}`,
		"something after": `{"format":"holdfast-cookies","version":1,"cookies":[]} {}`,
	} {
		if got, err := jar.DecodeJSON([]byte(src)); err == nil {
			t.Errorf("%s: got %v, want an error", name, got)
		}
	}
}

// Whatever a server sends: what the jar holds then goes through both files and
// a snapshot unchanged.
func FuzzFiles(f *testing.F) {
	f.Add("a=1; Path=/x; Domain=example.com; Max-Age=9", "www.example.com", "/x/y", true)
	f.Add("\"\xff\\=; SameSite=None; Secure; HttpOnly", "[::1]", "/\xfe", true)
	f.Add("#HttpOnly_=1", "1.2.3.4", "", false)
	f.Fuzz(func(t *testing.T, line, host, path string, secure bool) {
		from := jar.New(jar.Options{})
		from.Set(jar.URL{Secure: secure, Host: host, Path: path}, []byte(line), noon, 1)
		if diff := cmp.Diff(portable(from.All()), portable(throughJSON(t, from).All())); diff != "" {
			t.Error("JSON:", diff)
		}
		if from.Len() == 1 && !strings.Contains(from.All()[0].Name+from.All()[0].Path, "\t") {
			if diff := cmp.Diff(plain(from.All()), plain(throughNetscape(t, from).All())); diff != "" {
				t.Error("cookies.txt:", diff)
			}
		}
		if diff := cmp.Diff(from.All(), restored(t, from).All()); diff != "" {
			t.Error("snapshot:", diff)
		}
	})
}
