package holdfast

import (
	"errors"
	"slices"

	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/session"
)

// importCookies gives the cookies of cookie_jar.import to the identity that
// speaks where nobody is named.
func importCookies(identities []session.Identity, identity string, cookies []jar.Cookie) ([]session.Identity, error) {
	if len(cookies) == 0 {
		return identities, nil
	}
	if identity == session.Anonymous {
		return nil, errors.New("cookie_jar.import has cookies for the identity that speaks where nobody is named, and --as anonymous has no jar; name another, or take import out")
	}
	if len(identities) == 0 {
		return []session.Identity{{Cookies: cookies}}, nil
	}
	// Without a name the first one speaks, see session.New.
	i := max(0, slices.IndexFunc(identities, func(i session.Identity) bool { return i.Name == identity }))
	identities[i].Cookies = slices.Concat(identities[i].Cookies, cookies)
	return identities, nil
}

// Cookies lists the cookies that the identity's jar holds, the oldest first;
// "" is the one that speaks where nobody is named. ok says whether there is
// such an identity. They are secrets.
func (h *Holdfast) Cookies(identity string) (cookies []jar.Cookie, ok bool) {
	if identity == "" {
		identity = h.Identity()
	}
	return h.Engine().Cookies(identity)
}
