package jar

import (
	"strings"
	"time"
)

// Limits of one cookie, in bytes.
const (
	maxPair      = 4096 // name and value together (§5.6 step 5)
	maxAttribute = 1024 // an attribute's value (§5.6)
	maxPath      = 4096 // a path that is the request's own, not an attribute's
	maxRaw       = 8192 // of the line that is kept for people
)

// received is a Set-Cookie value after parsing (§5.6), before the storage
// model (§5.7) has judged it.
type received struct {
	name, value string
	attributes
}

type attributes struct {
	domain      string // lower case, without one leading dot
	path        string // "" when absent or not a path
	maxAge      string // the last valid one: digits, or - and digits
	expires     time.Time
	hasExpires  bool
	sameSite    SameSite
	secure      bool
	httpOnly    bool
	partitioned bool
}

// parseSetCookie reads a Set-Cookie value. reason says why there is nothing to
// read.
func parseSetCookie(line string) (r received, reason string) {
	if hasControl(line) {
		return r, "holds a control character (§5.6 step 1)"
	}
	pair, rest, more := strings.Cut(line, ";")
	r.name, r.value = splitPair(pair)
	for more {
		var av string
		av, rest, more = strings.Cut(rest, ";")
		r.attribute(av)
	}
	if len(r.name)+len(r.value) > maxPair {
		return r, "name and value are longer than 4096 bytes (§5.6 step 5)"
	}
	if r.name == "" && r.value == "" {
		return r, "has neither a name nor a value (§5.7 step 2)"
	}
	return r, ""
}

// splitPair is §5.6 steps 3 and 4: without an equals sign all is value.
func splitPair(s string) (name, value string) {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		name, value = "", s
	}
	return strings.Trim(name, space), strings.Trim(value, space)
}

// attribute takes one cookie-av. The last one of a kind wins, except that an
// unreadable date or age is as if it were not there.
func (a *attributes) attribute(av string) {
	name, value, _ := strings.Cut(av, "=")
	name, value = strings.Trim(name, space), strings.Trim(value, space)
	var lower [len("partitioned")]byte
	if len(value) > maxAttribute || len(name) > len(lower) {
		return
	}
	for i := range len(name) {
		lower[i] = name[i]
		if c := name[i]; c >= 'A' && c <= 'Z' {
			lower[i] += 'a' - 'A'
		}
	}
	switch string(lower[:len(name)]) {
	case "expires":
		if t, ok := parseDate(value); ok {
			a.expires, a.hasExpires = t, true
		}
	case "max-age":
		digits := strings.TrimPrefix(value, "-")
		if digits != "" && strings.Trim(digits, "0123456789") == "" {
			a.maxAge = value
		}
	case "domain":
		a.domain = strings.ToLower(strings.TrimPrefix(value, "."))
	case "path":
		a.path = ""
		if strings.HasPrefix(value, "/") {
			a.path = value
		}
	case "secure":
		a.secure = true
	case "httponly":
		a.httpOnly = true
	case "partitioned":
		a.partitioned = true
	case "samesite":
		a.sameSite = parseSameSite(value)
	}
}

func parseSameSite(s string) SameSite {
	switch v := SameSite(strings.ToLower(s)); v {
	case SameSiteStrict, SameSiteLax, SameSiteNone:
		return v
	}
	return SameSiteDefault
}

// end is the cookie's expiry-time (§5.6.1, §5.6.2): Max-Age before Expires,
// cut at limit. The zero time is no end; the earliest end is the epoch, since
// all that matters of it is that it has passed.
func (a *attributes) end(now time.Time, limit time.Duration) time.Time {
	var t time.Time
	switch {
	case a.maxAge != "":
		t = now.Add(parseAge(a.maxAge))
		if !t.After(now) {
			return time.Unix(0, 0).UTC()
		}
	case a.hasExpires:
		t = a.expires
	default:
		return t
	}
	if limit > 0 && t.After(now.Add(limit)) {
		t = now.Add(limit)
	}
	return t
}

// maxAge is where Max-Age saturates, in seconds: 200 years, below what
// time.Duration holds.
const maxAge = 200 * 365 * 24 * 3600

func parseAge(s string) time.Duration {
	if s[0] == '-' {
		return 0
	}
	var n time.Duration
	for i := 0; i < len(s) && n < maxAge; i++ {
		n = n*10 + time.Duration(s[i]-'0')
	}
	return min(n, maxAge) * time.Second
}

// brokenPromise judges the names that promise something (§5.4, and
// draft-ietf-httpbis-layered-cookies for the two with Http), in lower case.
// __Host-Http- is a __Host- as well, so that only what it adds is said here.
func (r *received) brokenPromise(hostOnly bool) string {
	name := strings.ToLower(r.name)
	host := strings.HasPrefix(name, "__host-")
	http := strings.HasPrefix(name, "__http-") || strings.HasPrefix(name, "__host-http-")
	switch {
	case r.name == "" && promises(strings.ToLower(r.value)):
		return "has no name, and a value that looks like a prefixed one (§5.7 step 22)"
	case (host || http || strings.HasPrefix(name, "__secure-")) && !r.secure:
		return "its name's prefix promises Secure (§5.7 steps 20, 21)"
	case host && (!hostOnly || r.path != "/"):
		return "the prefix __Host- promises Path=/ and no Domain (§5.7 step 21)"
	case http && !r.httpOnly:
		return "its name's prefix promises HttpOnly (layered-cookies, store a cookie)"
	}
	return ""
}

func promises(s string) bool {
	return strings.HasPrefix(s, "__secure-") || strings.HasPrefix(s, "__host-") || strings.HasPrefix(s, "__http-")
}
