package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// guard says who may ask.
type guard struct {
	token  [sha256.Size]byte
	hosts  []string // names that Host may have, besides addresses and localhost
	open   func(path string) bool
	wrongs wrongs
	seats  seats
}

// check reports why a request is refused; nil: it is not.
func (g *guard) check(r *http.Request) *Problem {
	if !g.hostOK(r) {
		return newProblem(http.StatusMisdirectedRequest, CodeHost, "The request is for another host than this.", "Ask for the address that holdfast serve prints, or name the host with --ui-host.")
	}
	if !originOK(r) {
		return newProblem(http.StatusForbidden, CodeOrigin, "The request comes from a page of another origin.", "Ask from a program, or from Holdfast's own pages.")
	}
	if g.open(r.URL.Path) {
		return nil
	}
	return g.checkToken(r)
}

// hostOK reports whether the Host field is where the client has connected to: a
// page under a name that resolves to here has that name in it.
func (g *guard) hostOK(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return false
	}
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil { // without a port
		host, port = strings.Trim(r.Host, "[]"), "80"
	}
	host = strings.ToLower(host)
	if slices.Contains(g.hosts, host) {
		return true // behind something that has a port of its own
	}
	if port != strconv.Itoa(local.Port) {
		return false
	}
	if host == "localhost" {
		return local.IP.IsLoopback()
	}
	ip, err := netip.ParseAddr(host)
	at, known := netip.AddrFromSlice(local.IP)
	return err == nil && known && ip.Unmap().WithZone("") == at.Unmap()
}

// originOK reports whether a browser, if it is one, says that nobody else's page
// asks.
func originOK(r *http.Request) bool {
	switch site := r.Header.Values("Sec-Fetch-Site"); {
	case len(site) > 1:
		return false
	case len(site) == 1 && site[0] != "same-origin" && site[0] != "none":
		return false
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	return len(origins) == 1 && (strings.EqualFold(origins[0], "http://"+r.Host) || strings.EqualFold(origins[0], "https://"+r.Host))
}

func (g *guard) checkToken(r *http.Request) *Problem {
	refused := func(detail string) *Problem {
		return newProblem(http.StatusUnauthorized, CodeToken, detail, "Send Authorization: Bearer with what stands in the file api-token of Holdfast's home directory.")
	}
	lines := r.Header.Values("Authorization")
	if len(lines) == 0 {
		if cookie, err := r.Cookie(cookieName(r)); err == nil {
			return g.checkSeat(r, cookie.Value)
		}
		return refused("The request has no token.")
	}
	scheme, token, _ := strings.Cut(lines[0], " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	right := subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1
	if len(lines) == 1 && strings.EqualFold(scheme, "Bearer") && right {
		return nil // whatever others at the same address have tried: they cannot shut the owner out
	}
	if wait := g.wrongs.add(addressOf(r), time.Now()); wait > 0 {
		p := newProblem(http.StatusTooManyRequests, CodeTooMany, "Too many wrong tokens came from this address.", "Send the right one.")
		p.retryAfter = wait
		return p
	}
	return refused("The token is not the right one.")
}

// addressOf is who asks: of IPv6 the network of 64 bits, which one has whole.
func addressOf(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if net, err := ip.Prefix(64); err == nil {
			return net.Addr()
		}
	}
	return ip
}

// The bounds of wrong tokens.
const (
	maxWrong     = 10          // of an address, within wrongWindow
	wrongWindow  = time.Minute // after which they are forgotten
	maxAddresses = 1024        // that are remembered
)

// wrongs counts wrong tokens by address, so that who tries them is told to stop.
// That is all it can do: the right one always passes, else whoever shares an
// address with the owner could shut the owner out. What keeps guessers out is the
// length of the token.
type wrongs struct {
	mu sync.Mutex
	by map[netip.Addr]wrong
}

type wrong struct {
	count int
	since time.Time
}

// add counts one of the address. It is how long wrong ones from there are many
// still; 0: they are not.
func (w *wrongs) add(from netip.Addr, now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	had, known := w.by[from]
	if w.by == nil || !known && len(w.by) >= maxAddresses {
		w.by = make(map[netip.Addr]wrong)
	}
	if now.Sub(had.since) >= wrongWindow {
		had = wrong{since: now}
	}
	if had.count >= maxWrong {
		return wrongWindow - now.Sub(had.since)
	}
	had.count++
	w.by[from] = had
	return 0
}
