package jar_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/holdfast-proxy/holdfast/jar"
)

// On what is well formed, the jar and net/http/cookiejar agree. Left out is
// where the latter is of RFC 6265: Secure over plain http, prefixes, SameSite,
// and a host-only cookie beside one of the same name and domain.
func TestAgreesWithCookiejar(t *testing.T) {
	hosts := []string{"shop.example", "www.shop.example", "a.www.shop.example", "shop.co.uk", "www.shop.co.uk", "co.uk", "192.0.2.7", "github.io", "me.github.io", "localhost"}
	paths := []string{"/", "/app", "/app/", "/app/x", "/app/x/y", "/application"}
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(list []string) string { return list[random.IntN(len(list))] }
	requests := 0
	for range 300 {
		theirs, err := cookiejar.New(&cookiejar.Options{PublicSuffixList: publicsuffix.List})
		if err != nil {
			t.Fatal(err)
		}
		ours := jar.New(jar.Options{})
		now := time.Now() // theirs asks the clock itself
		var script []string
		for order := range uint64(40) {
			u := &url.URL{Scheme: pick([]string{"http", "https"}), Host: pick(hosts), Path: pick(paths)}
			line := fmt.Sprintf("n%d=v%d", random.IntN(3), order)
			// Theirs trusts http://localhost of its own accord.
			if u.Scheme == "https" && u.Host != "localhost" && random.IntN(3) == 0 {
				line = "s" + line + "; Secure"
			}
			if random.IntN(2) == 0 && u.Host != "192.0.2.7" {
				line = "d" + line + "; Domain=" + pick([]string{"", "."}) + pick(hosts)
			}
			if random.IntN(2) == 0 {
				line += "; Path=" + pick(paths)
			}
			line += pick([]string{"", "", "", "; Max-Age=0", "; Max-Age=-1", "; Max-Age=1000", "; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "; HttpOnly", "; Expires=Fri, 31 Dec 2100 23:59:59 GMT"})
			script = append(script, u.String()+" "+line)
			header := http.Header{"Set-Cookie": {line}}
			theirs.SetCookies(u, (&http.Response{Header: header}).Cookies())
			ours.Set(at(t, u.String()), []byte(line), now, order+1)

			to := &url.URL{Scheme: pick([]string{"http", "https"}), Host: pick(hosts), Path: pick(paths)}
			var want []string
			for _, c := range theirs.Cookies(to) {
				want = append(want, c.Name+"="+c.Value)
			}
			requests++
			if got := ours.Header(at(t, to.String()), now); got != strings.Join(want, "; ") {
				t.Fatalf("%s\nto %s: got %q, want %q", strings.Join(script, "\n"), to, got, strings.Join(want, "; "))
			}
		}
	}
	t.Logf("%d requests agree", requests)
}

// A cookie never goes to a host that does not domain-match the one that set
// it, to a path beside its own, or in the clear when it is Secure. The check
// is written down anew, from the RFC's words.
func FuzzSend(f *testing.F) {
	f.Add("a=1; Domain=example.com; Path=/x; Secure", "www.example.com", "/x/y", true, "cdn.example.com", "/x/z", false)
	f.Add("a=1; Domain=com", "example.com", "/", false, "other.com", "/", false)
	f.Add("a=1; Domain=2.7", "192.0.2.7", "/", false, "1.0.2.7", "/", false)
	f.Add("a=1; Domain=.", "a..com", "//", false, ".com", "/", true)
	f.Add("a=1; Domain=[::1]", "[::1]", "//", false, "::1", "?", true)
	f.Fuzz(func(t *testing.T, line, host, path string, secure bool, toHost, toPath string, toSecure bool) {
		j := jar.New(jar.Options{})
		j.Set(jar.URL{Secure: secure, Host: host, Path: path}, []byte(line), noon, 1)
		to := jar.URL{Secure: toSecure, Host: toHost, Path: toPath}
		for _, c := range j.Cookies(to, noon) {
			from, ok1 := jar.CanonicalHost(host)
			is, ok2 := jar.CanonicalHost(toHost)
			if !ok1 || !ok2 {
				t.Fatalf("%v went from %q to %q, which are not both hosts", c, host, toHost)
			}
			if c.HostOnly && is != from {
				t.Fatalf("%v is host-only of %q and went to %q", c, from, is)
			}
			if is != c.Domain && !strings.HasSuffix(is, "."+c.Domain) || from != c.Domain && !strings.HasSuffix(from, "."+c.Domain) {
				t.Fatalf("%v went from %q to %q", c, from, is)
			}
			if !c.HostOnly && !strings.Contains(strings.TrimSuffix(c.Domain, "."), ".") {
				t.Fatalf("%v went to all of a top-level domain", c)
			}
			if c.Secure && !(secure && toSecure) {
				t.Fatalf("Secure %v went in the clear", c)
			}
			if request, _, _ := strings.Cut(toPath, "?"); c.Path != "/" && !strings.HasPrefix(request, c.Path) {
				t.Fatalf("%v went to %q", c, toPath)
			}
		}
		if header := j.Header(to, noon); strings.ContainsAny(header, "\r\n\x00") {
			t.Fatalf("%q would make lines of its own", header)
		}
	})
}

func TestAppendHeaderKeepsWhatIsThere(t *testing.T) {
	j := jar.New(jar.Options{})
	set(t, j, "https://shop.example/", 1, "a=1", "b")
	u := at(t, "https://shop.example/?x=/")
	if got := string(j.AppendHeader([]byte("Cookie: "), u, noon)); got != "Cookie: a=1; b" {
		t.Errorf("got %q", got)
	}
	if got := j.Cookies(jar.URL{Host: "other.example", Path: "/"}, noon); got != nil {
		t.Errorf("for a stranger: got %v, want nil", got)
	}
}

// Run with -race: every method at once.
func TestManyGoroutines(t *testing.T) {
	j := jar.New(jar.Options{PerDomain: 20, Total: 30})
	u := at(t, "https://shop.example/")
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range 100 {
				order := uint64(i*4 + worker)
				j.Set(u, fmt.Appendf(nil, "a%d=%d", i%30, i), noon, order)
				j.Observe(u, []byte("seen=1"), noon, order)
				j.Header(u, noon)
				for _, c := range j.Cookies(u, noon) {
					j.Put(c, noon)
					j.Delete(c.ID, order)
				}
				j.All()
				j.PurgeExpired(noon)
				data, _, _ := j.Snapshot()
				if i%50 == 49 {
					j.Restore(data)
					j.Clear("shop.example", order)
				}
			}
		})
	}
	all.Wait()
	if j.Len() > 30 {
		t.Errorf("got %d cookies, want 30 at most", j.Len())
	}
}

func BenchmarkAppendHeader(b *testing.B) {
	j, u := busy(b)
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = j.AppendHeader(buf[:0], u, noon)
	}
	if bytes.Count(buf, []byte("; ")) != 9 {
		b.Fatalf("got %q, want ten cookies", buf)
	}
}

// A request to a host of which the jar knows nothing.
func BenchmarkAppendHeaderStranger(b *testing.B) {
	j, _ := busy(b)
	u := jar.URL{Secure: true, Host: "www.stranger.example", Path: "/"}
	b.ReportAllocs()
	for b.Loop() {
		if got := j.AppendHeader(nil, u, noon); got != nil {
			b.Fatal(got)
		}
	}
}

func BenchmarkSetFromResponse(b *testing.B) {
	j, u := busy(b)
	lines := [][]byte{[]byte("sid=0123456789abcdef0123456789abcdef; Path=/; Domain=shop.example; Secure; HttpOnly; SameSite=Lax; Expires=Wed, 06 May 2026 10:00:00 GMT")}
	b.ReportAllocs()
	order := uint64(100)
	for b.Loop() {
		order++
		j.SetFromResponse(u, lines, noon, order)
	}
}

func BenchmarkObserveKnown(b *testing.B) {
	j, u := busy(b)
	line := j.AppendHeader(nil, u, noon)
	b.ReportAllocs()
	for b.Loop() {
		if got := j.Observe(u, line, noon, 1000); got != nil {
			b.Fatal(got)
		}
	}
}

func BenchmarkMergeUntouched(b *testing.B) {
	j, u := busy(b)
	line, cookies := j.Header(u, noon), j.Cookies(u, noon)
	b.ReportAllocs()
	for b.Loop() {
		if _, edits := jar.Merge(line, cookies, jar.Policy{}); edits != nil {
			b.Fatal(edits)
		}
	}
}

// busy is a jar with 1000 hosts, and ten cookies for one of them.
func busy(b *testing.B) (*jar.Jar, jar.URL) {
	j := jar.New(jar.Options{})
	for i := range 1000 {
		j.Set(jar.URL{Secure: true, Host: fmt.Sprintf("h%d.example", i)}, []byte("a=1"), noon, 1)
	}
	u := jar.URL{Secure: true, Host: "www.shop.example", Path: "/app/x"}
	for i := range 10 {
		j.Set(u, fmt.Appendf(nil, "name%d=0123456789abcdef; Path=%s", i, []string{"/", "/app"}[i%2]), noon, 1)
	}
	return j, u
}
