package holdfast_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

func TestCookiesOfAFileAreThoseOfTheIdentityThatSpeaks(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cookies.txt")
	if err := os.WriteFile(path, []byte("shop.example\tFALSE\t/\tTRUE\t0\tsid\tone\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const two = "identities: {zoe: , amy: }\n"
	for _, c := range []struct{ rules, as, whose, refused string }{
		{"", "", "", ""},
		{two, "", "zoe", ""},
		{two, "amy", "amy", ""},
		{two, "anonymous", "", "anonymous has no jar"},
	} {
		rules := "cookie_jar: {import: cookies.txt}\n" + c.rules
		file, _, err := config.Parse(filepath.Join(dir, "rules.yaml"), []byte(rules), config.Options{})
		if err != nil {
			t.Fatal(err)
		}
		h, err := holdfast.New(holdfast.Config{File: file, Home: t.TempDir(), Identity: c.as, Listen: []holdfast.Listen{{Address: "127.0.0.1:0"}}})
		if err != nil {
			if c.refused == "" || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%q as %q: %v", c.rules, c.as, err)
			}
			continue
		}
		for _, name := range []string{"", "zoe", "amy"} {
			cookies, _ := h.Cookies(name)
			if want := name == "" || name == c.whose; (len(cookies) == 1) != want {
				t.Errorf("%q as %q: %q has %v", c.rules, c.as, name, cookies)
			}
		}
		h.Close()
	}
}

func TestAnswersFeedTheJarOfTheIdentity(t *testing.T) {
	w := newWorld(t, testenv.Origin{TLS: true}, "cookie_jar: {}\nidentities: {zoe: , amy: }\n")
	if resp, err := w.newClient("amy").Get(w.origin.URL + "/login"); err != nil {
		t.Fatal(err)
	} else {
		resp.Body.Close()
	}
	for name, want := range map[string]int{"": 0, "zoe": 0, "amy": 1} {
		if cookies, ok := w.h.Cookies(name); len(cookies) != want || !ok {
			t.Errorf("%q has %v, want %d", name, cookies, want)
		}
	}
	w.traced("added")
}
