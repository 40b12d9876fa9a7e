package rule_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

func offers(t *testing.T, head, body string) *rule.Offers {
	t.Helper()
	resp, err := wire.ParseResponse([]byte("HTTP/1.1 " + head + "\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	return rule.OffersOf("https://Shop.example:443/account/page?x=1", resp, []byte(body))
}

func TestOffers(t *testing.T) {
	const place = "https://shop.example/account/email"
	for _, c := range []struct {
		name, head, body string
		param, place     string
		tolerate         bool
		want             string // "-": none
	}{
		{"AFieldOfAForm", "200 OK", `<form action="email"><input type=hidden name=csrf value="a&amp;b">`, "csrf", place, false, "a&b"},
		{"AFormWithoutAction", "200 OK", `<form><input name=csrf value=v>`, "csrf", "https://shop.example/account/page", false, "v"},
		{"AnotherURL", "200 OK", `<form action="/other"><input name=csrf value=v>`, "csrf", place, false, "-"},
		{"AnotherURLTolerated", "200 OK", `<form action="/other"><input name=csrf value=v>`, "csrf", place, true, "v"},
		{"TheRightURLBeforeATolerated", "200 OK", `<form action="/other"><input name=csrf value=w></form><form action="/account/email"><input name=csrf value=v>`, "csrf", place, true, "v"},
		{"AnotherHost", "200 OK", `<form action="https://evil.example/account/email"><input name=csrf value=v>`, "csrf", place, false, "-"},
		{"AnotherPort", "200 OK", `<form action="https://shop.example:444/account/email"><input name=csrf value=v>`, "csrf", place, false, "-"},
		{"AnotherName", "200 OK", `<form action="email"><input name=csrf2 value=v>`, "csrf", place, true, "-"},
		{"ATextarea", "200 OK", "<form action=email><textarea name=csrf>\nv</textarea>", "csrf", place, false, "v"},
		{"ASelect", "200 OK", `<form action=email><select name=csrf><option value=a><option value=v selected></select>`, "csrf", place, false, "v"},
		{"TheFirstOption", "200 OK", `<form action=email><select name=csrf><option value=v><option value=b></select>`, "csrf", place, false, "v"},
		{"ABoxThatIsNotChecked", "200 OK", `<form action=email><input type=checkbox name=csrf value=v>`, "csrf", place, true, "-"},
		{"ABoxThatIsChecked", "200 OK", `<form action=email><input type=CHECKBOX name=csrf value=v checked>`, "csrf", place, false, "v"},
		{"AButton", "200 OK", `<form action=email><input type=submit name=csrf value=v>`, "csrf", place, true, "-"},
		{"AFieldThatNamesItsForm", "200 OK", `<form id=f action=email></form><input form=f name=csrf value=v>`, "csrf", place, false, "v"},
		{"AFieldOutsideOfForms", "200 OK", `<input name=csrf value=v>`, "csrf", place, false, "-"},
		{"AFieldOutsideOfFormsTolerated", "200 OK", `<input name=csrf value=v>`, "csrf", place, true, "v"},
		{"AMetaElementTolerated", "200 OK", `<meta name=csrf content=v>`, "csrf", place, true, "v"},
		{"AForeignFieldInAComment", "200 OK", `<form action=email><!-- <input name=csrf value=v> -->`, "csrf", place, true, "-"},
		{"ALink", "200 OK", `<a href="/account/email?csrf=a%20b&amp;x=1">`, "csrf", place, false, "a b"},
		{"ALinkBelowABase", "200 OK", `<base href="/account/"><a href="email?csrf=v">`, "csrf", place, false, "v"},
		{"ARedirect", "302 Found\r\nLocation: /account/email?csrf=v#x", "", "csrf", place, false, "v"},
		{"ALocationOfNoRedirect", "201 Created\r\nLocation: /account/email?csrf=v", "", "csrf", place, false, "-"},
		{"AJavascriptLink", "200 OK", `<a href="javascript:x?csrf=v">`, "csrf", place, true, "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := offers(t, c.head, c.body).Find(c.param, c.place, c.tolerate)
			if !ok {
				got = "-"
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A hostile answer offers no more than is kept.
func TestOffersAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, "<form><input name=n%d>", i)
	}
	if n := len(offers(t, "200 OK", b.String()).Names()); n > 1024 {
		t.Errorf("%d names", n)
	}
}
