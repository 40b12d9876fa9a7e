package learn

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/convert"
)

// exchanges reads curl command lines and gives each the same answer.
func exchanges(t *testing.T, lines ...string) []convert.Exchange {
	t.Helper()
	var all []convert.Exchange
	for _, line := range lines {
		r, err := convert.Read(strings.NewReader(line), convert.Options{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r.Exchanges...)
	}
	return all
}

// What may end a session is neither asked nor a part of a login.
func TestWhatIsLeftOut(t *testing.T) {
	all := exchanges(t,
		"curl https://shop.example/account",
		"curl https://shop.example/Logout.php",
		"curl 'https://shop.example/index.php?id=1&do=logout'",
		"curl https://shop.example/session -d action=sign-out",
		"curl https://shop.example/oauth/token -d grant_type=refresh_token",
		"curl -X POST https://shop.example/api/auth-refresh",
		"curl https://shop.example/blogs/outlook",
	)
	r := newRecording(all, "")
	if got := r.entries(); !slices.Equal(got, []int{1, 7}) {
		t.Errorf("entries %v", got)
	}
	all[0].ResponseBody = []byte(`<a href="/app/LogOff?x=1">out</a> <a href="?id=1&amp;do=logout">x</a> {"next":"/user/sign_out"} <a href="https://other.example/logout">`)
	r = newRecording(all, "https://shop.example")
	if got := r.protects(); !slices.Equal(got, []string{"/Logout.php", "/app/LogOff", "/user/sign_out", "?do=logout"}) {
		t.Errorf("protects %q", got)
	}
}

func TestShownURL(t *testing.T) {
	if got := shownURL("https://shop.example/a?id=1&token=0123456789abcdef"); got != "/a?id=1&token=…" {
		t.Error(got)
	}
}

// A page that shows what differs from session to session is alive all the same.
func TestLike(t *testing.T) {
	e := newExpressions()
	page := func(text string) *answer { return &answer{status: 200, body: []byte(text), html: true} }
	with := []*answer{page("<p>Hello alice again</p><p>session 0123456789</p>"), page("<p>Hello alice again</p><p>session 0123456789</p>")}
	dead := []*answer{page(`<form action="/login"><input type="password" name="word"></form>`)}
	if !e.like(page("<p>Hello alice again</p><p>session 9876543210</p>"), with, dead) {
		t.Error("another session is taken for none")
	}
	if e.like(dead[0], with, dead) || e.like(page("<p>something else</p>"), with, dead) {
		t.Error("none is taken for a session")
	}
}
