package holdfast_test

import (
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

func readAllOf(r io.Reader) (string, error) {
	raw, err := io.ReadAll(r)
	return string(raw), err
}

// oddCookies are values that careless code changes.
func oddCookies() map[string]string {
	return map[string]string{
		"equals":  "a=b==c",
		"padded":  "bG9nZ2VkIGlu==",
		"quoted":  `"a b, c"`,
		"empty":   "",
		"utf8":    "grün ✓",
		"bytes":   "caf\xe9\xff",
		"percent": "%zz%00+%3B",
		"tab":     "a\tb",
		"large":   strings.Repeat("0123456789abcdef", 255),
	}
}

// Every value goes from the jar to the origin, back from there under another
// name, and is in the jar again, byte for byte.
func TestOddCookiesSurviveTheWayThroughTheProxy(t *testing.T) {
	for _, c := range []struct {
		name           string
		origin, client bool // speak HTTP/2
	}{{"HTTP1", false, false}, {"HTTP2", true, true}, {"HTTP1ToHTTP2", false, true}} {
		t.Run(c.name, func(t *testing.T) {
			odd := oddCookies()
			var mu sync.Mutex
			var seen []string // what came as Cookie, and by which protocol
			origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/set" {
					for name, value := range odd {
						w.Header()["Set-Cookie"] = append(w.Header()["Set-Cookie"], name+"="+value+"; Path=/")
					}
					return
				}
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, r.Proto)
				for pair := range strings.SplitSeq(strings.Join(r.Header["Cookie"], "; "), "; ") {
					w.Header()["Set-Cookie"] = append(w.Header()["Set-Cookie"], "_"+pair+"; Path=/other")
				}
			}))
			origin.Config.MaxHeaderBytes = 1 << 20
			origin.EnableHTTP2 = c.origin
			origin.StartTLS()
			defer origin.Close()

			w := newWorld(t, testenv.Origin{}, jarRule)
			w.stop()
			w.more = func(c *holdfast.Config) { c.Roots = []*x509.Certificate{origin.Certificate()} }
			w.start(jarRule)
			if c.client {
				w.useHTTP2()
			}
			for _, path := range []string{"/set", "/echo"} {
				resp, err := w.client.Get(origin.URL + path)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if want := 1 + map[bool]int{true: 1}[c.client]; resp.ProtoMajor > want || resp.StatusCode != 200 {
					t.Fatalf("%s: %d by %s", path, resp.StatusCode, resp.Proto)
				}
			}
			w.stop() // so that the connections are done with the map
			if want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[c.origin]; fmt.Sprint(seen) != "["+want+"]" {
				t.Errorf("the origin was asked by %v, want %s", seen, want)
			}
			cookies, _ := w.h.Cookies("")
			got, want := make(map[string]string), make(map[string]string)
			for _, cookie := range cookies {
				got[cookie.Name] = cookie.Value
			}
			for name, value := range odd {
				want[name], want["_"+name] = value, value
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the jar (-want +got):\n%s", diff)
			}
		})
	}
}
