package rule

import (
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/wire"
)

// setCookie is what matters of one Set-Cookie field, read as a browser reads
// it (RFC 6265 §5.2): no quoting, the last attribute of a name counts.
type setCookie struct {
	name, value  string
	domain, path string
	maxAge       string
	expires      string
}

func parseSetCookie(field string) (c setCookie) {
	pair, rest, _ := strings.Cut(field, ";")
	name, value, ok := strings.Cut(pair, "=")
	if !ok {
		return c
	}
	c.name, c.value = strings.Trim(name, " \t"), strings.Trim(value, " \t")
	for rest != "" {
		var attribute string
		attribute, rest, _ = strings.Cut(rest, ";")
		key, v, _ := strings.Cut(attribute, "=")
		v = strings.Trim(v, " \t")
		switch strings.ToLower(strings.Trim(key, " \t")) {
		case "domain":
			c.domain = strings.ToLower(strings.TrimPrefix(v, "."))
		case "path":
			c.path = v
		case "max-age":
			c.maxAge = v
		case "expires":
			c.expires = v
		}
	}
	return c
}

// deletes reports whether the field removes the cookie. Max-Age wins over
// Expires (RFC 6265 §5.3). There is no clock here: an expiry date is compared
// with the response's own Date, which the same clock wrote, and where there is
// none with a day that is long past.
func (c *setCookie) deletes(resp *wire.Response) bool {
	if c.value == "" {
		return true
	}
	if n, err := strconv.ParseInt(c.maxAge, 10, 64); err == nil {
		return n <= 0
	}
	if strings.HasPrefix(c.maxAge, "-") {
		return true // too far below zero for an int64
	}
	expires, ok := cookieDate(c.expires)
	if !ok {
		return false
	}
	now := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	if date, ok := resp.Get("Date"); ok {
		if t, ok := cookieDate(string(date)); ok {
			now = t
		}
	}
	return !expires.After(now)
}

// cookieDate reads the forms of RFC 9110 §5.6.7 and those with dashes that
// servers write into cookies.
func cookieDate(s string) (time.Time, bool) {
	for _, layout := range []string{
		time.RFC1123, "Mon, 02-Jan-2006 15:04:05 MST", "Monday, 02-Jan-06 15:04:05 MST",
		"Mon, 02-Jan-06 15:04:05 MST", "Mon, 02 Jan 06 15:04:05 MST", time.ANSIC, time.RFC1123Z,
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// compileSetCookie takes what a browser would hold for the name after the
// response: the last value set, unless the same cookie is deleted after it. A
// deletion of its namesake under another path or domain does not count.
func compileSetCookie(s *Source) (extractor, error) {
	if !isToken(s.Name) {
		return nil, &Error{Key: "name", Problem: "this is no name of a cookie", Next: "write what stands before the = in Set-Cookie"}
	}
	name := s.Name
	return func(in *exchange, yield func(string) bool) {
		resp := in.resp
		var held setCookie
		for i := range resp.NumFields() {
			n, v := resp.Field(i)
			if !equalFold(n, "Set-Cookie") {
				continue
			}
			c := parseSetCookie(string(v))
			switch {
			case c.name != name:
			case !c.deletes(resp):
				held = c
			case c.domain == held.domain && c.path == held.path:
				held = setCookie{}
			}
		}
		yield(held.value)
	}, nil
}
