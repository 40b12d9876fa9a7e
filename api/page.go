package api

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/control"
)

// pages are what a browser is shown. They hold nothing of anybody: what they
// show they ask for.
//
//go:embed page
var pages embed.FS

// The bounds of who comes by a browser.
const (
	linkLife = 5 * time.Minute // of a link that nobody followed
	seatLife = 12 * time.Hour  // of a browser that was let in
	maxLinks = 16              // that nobody followed yet
	maxSeats = 16              // browsers
)

const (
	openPath   = "/open"
	linkPath   = prefix + "/link"
	keyHeader  = "Holdfast-Page" // has the key of a seat
	pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
		"require-trusted-types-for 'script'; trusted-types 'none'"
)

type digest = [sha256.Size]byte

// seats are the browsers that were let in, and the links for others. Both are
// kept by digests of their secrets, in memory alone.
type seats struct {
	mu    sync.Mutex
	links map[digest]time.Time // until when
	seats map[digest]seat      // by the cookie
}

// seat is one browser. A cookie goes to every port of its host, so it is worth
// nothing without the key, which the page keeps where other ports do not see it.
type seat struct {
	key   digest
	host  string // of the Host field, with the port, for which it was let in
	until time.Time
}

// secret draws one.
func secret() (string, digest) {
	raw := make([]byte, 32)
	rand.Read(raw) // never fails, says its doc
	text := hex.EncodeToString(raw)
	return text, sha256.Sum256([]byte(text))
}

// link makes what lets one browser in, once.
func (s *seats) link(now time.Time) string {
	text, sum := secret()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.links == nil {
		s.links, s.seats = make(map[digest]time.Time), make(map[digest]seat)
	}
	room(s.links, maxLinks, now, func(until time.Time) time.Time { return until })
	s.links[sum] = now.Add(linkLife)
	return text
}

// room deletes what is over, and what ends first where there are too many.
func room[V any](all map[digest]V, most int, now time.Time, until func(V) time.Time) {
	var first digest
	var at time.Time
	for sum, v := range all {
		switch end := until(v); {
		case !now.Before(end):
			delete(all, sum)
		case at.IsZero() || end.Before(at):
			first, at = sum, end
		}
	}
	if len(all) >= most {
		delete(all, first)
	}
}

// take lets a browser in that followed a link. ok is false where there is no such
// link, or it was followed before.
func (s *seats) take(once, host string, now time.Time) (cookie, key string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := sha256.Sum256([]byte(once))
	until, ok := s.links[sum]
	delete(s.links, sum)
	if !ok || !now.Before(until) {
		return "", "", false
	}
	room(s.seats, maxSeats, now, func(v seat) time.Time { return v.until })
	cookie, cookieSum := secret()
	key, keySum := secret()
	s.seats[cookieSum] = seat{keySum, host, now.Add(seatLife)}
	return cookie, key, true
}

// has reports whether a browser was let in.
func (s *seats) has(cookie, key, host string, now time.Time) bool {
	s.mu.Lock()
	at, ok := s.seats[sha256.Sum256([]byte(cookie))]
	s.mu.Unlock()
	sum := sha256.Sum256([]byte(key))
	return ok && subtle.ConstantTimeCompare(sum[:], at.key[:]) == 1 && at.host == host && now.Before(at.until)
}

// cookieName has the port in it, since a browser has one cookie of a name for all
// ports of a host.
func cookieName(r *http.Request) string {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return "holdfast"
	}
	return "holdfast_" + strconv.Itoa(local.Port)
}

// checkSeat reports why a request is refused that has a cookie in place of a
// token. Its key can only be added by a script of our own page: a request of
// another origin with such a header needs a permission that nobody gives. What
// changes something must say besides that it is of our origin.
func (g *guard) checkSeat(r *http.Request, cookie string) *Problem {
	keys := r.Header.Values(keyHeader)
	if len(keys) != 1 || !g.seats.has(cookie, keys[0], r.Host, time.Now()) {
		return newProblem(http.StatusUnauthorized, CodeToken, "This browser is not let in, or no longer.", "Open a link that holdfast serve or holdfast open prints.")
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" || !reads && site == "" && r.Header.Get("Origin") == "" {
		return newProblem(http.StatusForbidden, CodeOrigin, "The request does not come from Holdfast's own page.", "Ask from there, or with a token.")
	}
	if r.URL.Path == linkPath {
		return newProblem(http.StatusForbidden, CodeToken, "A browser makes no links for others.", "Use holdfast open.")
	}
	return nil
}

// pageEndpoints are those that browsers begin with.
func (s *Server) pageEndpoints() []endpoint {
	file := func(name, media string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			raw, err := pages.ReadFile("page/" + name)
			if err != nil {
				newProblem(500, control.ReasonInternal, "Internal error.", "Report it.").write(w)
				return
			}
			h := w.Header()
			h.Set("Content-Type", media+"; charset=utf-8")
			h.Set("Content-Security-Policy", pagePolicy)
			h.Set("Cross-Origin-Opener-Policy", "same-origin")
			w.Write(raw)
		})
	}
	return []endpoint{
		{"GET /{$}", file("index.html", "text/html")},
		{"GET /page.js", file("page.js", "text/javascript")},
		{"GET /page.css", file("page.css", "text/css")},
		{"POST " + openPath, http.HandlerFunc(s.open)},
		{"POST " + linkPath, http.HandlerFunc(s.newLink)},
	}
}

// withoutToken reports paths that hold nothing, and the one that lets in.
func withoutToken(path string) bool {
	switch path {
	case "/", "/page.js", "/page.css", openPath:
		return true
	}
	return false
}

// Link is an address that lets one browser in, once, for some minutes. What lets
// in stands behind #, which browsers tell nobody: it is in no Referer, and in no
// log of what is between.
func (s *Server) Link() string { return s.URL() + "/#once=" + s.guard.seats.link(time.Now()) }

// newLink makes a link for who has the token.
func (s *Server) newLink(w http.ResponseWriter, _ *http.Request) {
	answer(w, struct {
		Version int    `json:"v"`
		URL     string `json:"url"`
		Seconds int    `json:"seconds"`
	}{1, s.Link(), int(linkLife.Seconds())})
}

// open lets a browser in that followed a link.
func (s *Server) open(w http.ResponseWriter, r *http.Request) {
	values := map[string]any{}
	if p := readBody(r, values); p != nil {
		p.write(w)
		return
	}
	if r.Header.Get("Origin") == "" { // every browser says where a POST comes from
		newProblem(http.StatusForbidden, CodeOrigin, "The request does not come from Holdfast's own page.", "Open the link in a browser.").write(w)
		return
	}
	once, _ := values["once"].(string)
	cookie, key, ok := s.guard.seats.take(once, r.Host, time.Now())
	if !ok {
		newProblem(http.StatusUnauthorized, CodeToken, "The link was used, or is too old.", "Get another: holdfast open.").write(w)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName(r), Value: cookie, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	answer(w, struct {
		Version int    `json:"v"`
		Key     string `json:"key"`
	}{1, key})
}

func answer(w http.ResponseWriter, v any) {
	raw, err := json.Marshal(v)
	if err != nil { // only texts and numbers: cannot fail
		raw = []byte("{}")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(raw, '\n'))
}
