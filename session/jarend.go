package session

import (
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/rule"
)

// endsWithCookies tells the sessions of a request when cookies of the jar end
// that are put into it.
func (x *exchange) endsWithCookies(pick *rule.Pick) {
	if pick.None || x.next == nil { // nothing is sent
		return
	}
	var cookies []jar.Cookie
	for _, s := range x.sessions {
		if s.ahead.policy().Off {
			continue
		}
		if cookies == nil {
			cookies = x.identity.jar.Cookies(address(x.flow), x.engine.now())
		}
		s.endsWith(cookies, pick)
	}
}

// jarEnd is the key of ahead.ends for cookies of the jar; no token has that
// name.
const jarEnd = "cookie:"

// endsWith notes the end of a session that lives by cookies of the jar: the
// earliest of those that an answer has set since the login and that are put in,
// by name or because no script can read them. What the login did not set again
// would be no reason for another one.
func (s *session) endsWith(cookies []jar.Cookie, pick *rule.Pick) {
	a := &s.ahead
	var first *jar.Cookie
	born := a.since.Load()
	for i := range cookies {
		c := &cookies[i]
		switch {
		case c.Expires.IsZero() || c.Source != jar.FromResponse || c.Updated.UnixNano() < born || c.Expires.Sub(c.Updated) < minLife:
		case !pick.Has(c.Name) || len(pick.Only) == 0 && !c.HTTPOnly:
		case first == nil || c.Expires.Before(first.Expires):
			first = c
		}
	}
	if first == nil || a.jarEnd.Swap(first.Expires.UnixNano()) == first.Expires.UnixNano() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ends[jarEnd] = ending{at: first.Expires, given: first.Updated, why: "cookie " + shown(first.Name) + ": its lifetime in the jar"}
	a.given, a.retries = false, 0
	s.plan()
}
