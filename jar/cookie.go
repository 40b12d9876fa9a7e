package jar

import (
	"fmt"
	"strings"
	"time"
)

// SameSite is the value of that attribute, kept and not acted upon.
type SameSite string

// Values of SameSite. Default stands for an absent or unknown value (§5.6.7).
const (
	SameSiteDefault SameSite = ""
	SameSiteStrict  SameSite = "strict"
	SameSiteLax     SameSite = "lax"
	SameSiteNone    SameSite = "none"
)

// Source says where a cookie is from.
type Source string

// Sources of cookies.
const (
	FromResponse Source = "response" // a Set-Cookie value
	FromRequest  Source = "request"  // seen in a browser's request; its attributes are guesses
	FromHand     Source = "hand"     // put or changed by a person
	FromFile     Source = "file"     // imported
)

// Cookie is one cookie with everything that the jar knows of it. It is a
// value: changing it changes nothing in the jar.
type Cookie struct {
	ID uint64 // of this jar, never used twice; lower is older

	Name  string // raw bytes; may be empty (§5.6 step 3)
	Value string // raw bytes, quotes included

	Domain   string // canonical, without a leading dot
	HostOnly bool   // only for Domain itself, not for the hosts below it
	Path     string // begins with a slash

	Secure      bool
	HTTPOnly    bool
	Partitioned bool
	SameSite    SameSite

	Expires    time.Time // UTC; zero: no end
	Created    time.Time // UTC; kept when an answer sets the cookie again (§5.7 step 23)
	Updated    time.Time // UTC; the latest change of anything but LastAccess
	LastAccess time.Time // UTC; last set or sent

	Order   uint64 // of the request whose answer brought it; 0: any answer may change it
	Version uint64 // the jar's version when the cookie was last changed
	Source  Source
	Raw     string // the Set-Cookie value as received, its first 8 KiB
}

// Expired tells whether the cookie's end has come.
func (c *Cookie) Expired(now time.Time) bool {
	return !c.Expires.IsZero() && !now.Before(c.Expires)
}

// String names the cookie and keeps its value back.
func (c Cookie) String() string {
	scope := c.Domain
	if !c.HostOnly {
		scope = "." + scope
	}
	return fmt.Sprintf("%s=[%d bytes] for %s%s", c.Name, len(c.Value), scope, c.Path)
}

// covers tells whether the cookie goes with a request to host and path
// (§5.8.3 step 3).
func (c *Cookie) covers(host, path string, secure bool) bool {
	if c.Secure && !secure || !pathMatch(path, c.Path) {
		return false
	}
	if c.HostOnly {
		return host == c.Domain
	}
	return domainMatch(host, c.Domain)
}

// same tells whether two cookies look the same to everyone outside the jar.
func (c *Cookie) same(d *Cookie) bool {
	return c.Value == d.Value && c.Secure == d.Secure && c.HTTPOnly == d.HTTPOnly &&
		c.Partitioned == d.Partitioned && c.SameSite == d.SameSite &&
		c.Expires.Equal(d.Expires) && c.Source == d.Source
}

// key is what makes two cookies one (§5.7 step 23).
type key struct {
	domain, path, name string
	hostOnly           bool
}

func (c *Cookie) key() key { return key{c.Domain, c.Path, c.Name, c.HostOnly} }

// compareSent is the order of a Cookie line (§5.8.3 step 4): longer paths
// first, then older cookies. IDs decide between cookies of one instant.
func compareSent(a, b *Cookie) int {
	if n := len(b.Path) - len(a.Path); n != 0 {
		return n
	}
	if n := a.Created.Compare(b.Created); n != 0 {
		return n
	}
	return compareID(a, b)
}

func compareID(a, b *Cookie) int {
	if a.ID < b.ID {
		return -1
	}
	return 1
}

// Kind says what became of a cookie.
type Kind string

// Kinds of changes.
const (
	Added     Kind = "added"
	Updated   Kind = "updated"
	Unchanged Kind = "unchanged" // was there already, or a removal found nothing to remove
	Removed   Kind = "removed"   // by its end in the past, by hand
	Evicted   Kind = "evicted"   // there was no room (§5.7)
	Stale     Kind = "stale"     // a later request's answer has already spoken
	Refused   Kind = "refused"   // against the rules; Reason says which
)

// Change says what one cookie did to the jar.
type Change struct {
	Kind   Kind
	Cookie Cookie  // as it stands in the jar now; if it does not: as it came or as it was
	Before *Cookie // what Updated replaced
	Reason string  // of Refused and Stale, for people, without the value
}

// String is for a trace: it keeps values back.
func (c Change) String() string {
	s := string(c.Kind) + " " + c.Cookie.String()
	if c.Reason != "" {
		s += ": " + c.Reason
	}
	return s
}

// An Error says what is wrong with a cookie given by hand.
type Error struct {
	Field  string // name, value, domain, path
	Reason string
	Hint   string // the next step
}

func (e *Error) Error() string { return "cookie " + e.Field + ": " + e.Reason + "; " + e.Hint }

// hasControl finds what no cookie may contain: controls other than the tab
// (§5.6 step 1).
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f })
}

const space = " \t" // WSP
