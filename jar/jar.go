package jar

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of a jar, where Options does not say otherwise.
const (
	DefaultPerDomain   = 180 // what browsers keep; §6.1 asks for 50 at least
	DefaultTotal       = 3000
	DefaultMaxLifetime = 400 * 24 * time.Hour // §5.5
)

// URL is what a jar needs to know of a request's address.
type URL struct {
	Secure bool   // https or wss
	Host   string // name or address; brackets and a port are tolerated
	Path   string // raw path of the request target; a query after it is ignored
}

// Options are a jar's limits. The zero value works.
type Options struct {
	PerDomain   int           // cookies of one domain; 0 is DefaultPerDomain
	Total       int           // cookies in all, and removed ones remembered; 0 is DefaultTotal
	MaxLifetime time.Duration // 0 is DefaultMaxLifetime; less than 0: as the server says

	// TrustLoopback counts plain http to localhost, to names below it and to
	// loopback addresses as secure, as browsers and curl do.
	TrustLoopback bool
}

// Jar holds the cookies of one identity. Its methods may be called from any
// goroutine. It is made with [New].
type Jar struct {
	opts Options // immutable

	mu      sync.Mutex
	domains map[string][]*Cookie // by Cookie.Domain
	count   int                  // of all cookies in domains
	graves  map[key]grave        // what later answers removed
	guesses map[string]int       // cookies FromRequest by name
	floor   uint64               // requests with a lower order are not listened to
	floors  map[string]uint64    // nor, by host, those with a lower one than these

	lastID    uint64
	lastOrder uint64
	version   uint64

	picked []*Cookie // scratch of pick
}

// grave remembers a removed cookie, so that neither a late answer nor a
// browser that did not see the removal brings it back.
type grave struct {
	order uint64
	value string
}

// New makes an empty jar.
func New(o Options) *Jar {
	if o.PerDomain <= 0 {
		o.PerDomain = DefaultPerDomain
	}
	if o.Total <= 0 {
		o.Total = DefaultTotal
	}
	if o.MaxLifetime == 0 {
		o.MaxLifetime = DefaultMaxLifetime
	}
	j := &Jar{opts: o}
	j.empty()
	return j
}

func (j *Jar) empty() {
	j.domains, j.graves, j.guesses = make(map[string][]*Cookie), make(map[key]grave), make(map[string]int)
	j.floors = make(map[string]uint64)
	j.count = 0
}

// SetFromResponse takes the Set-Cookie values of one answer, in their order;
// the slices are not kept. order is the sequence number of the request that
// the answer belongs to, see the package comment. There is one Change for each
// value, in the same order; what had to make room for it follows as Evicted.
func (j *Jar) SetFromResponse(u URL, setCookies [][]byte, now time.Time, order uint64) []Change {
	if len(setCookies) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	changes := make([]Change, 0, len(setCookies))
	for _, line := range setCookies {
		changes = j.receive(changes, u, line, clean(now), order)
	}
	return changes
}

// Set takes one Set-Cookie value, as SetFromResponse does.
func (j *Jar) Set(u URL, setCookie []byte, now time.Time, order uint64) []Change {
	return j.SetFromResponse(u, [][]byte{setCookie}, now, order)
}

// Cookies lists the cookies for a request to u in the order in which they are
// sent (§5.8.3), and notes that they were used.
func (j *Jar) Cookies(u URL, now time.Time) []Cookie {
	j.mu.Lock()
	defer j.mu.Unlock()
	picked := j.pick(u, clean(now))
	if len(picked) == 0 {
		return nil
	}
	out := make([]Cookie, len(picked))
	for i, c := range picked {
		out[i] = *c
	}
	return out
}

// Find returns the cookie of that name which a request to u carries first.
func (j *Jar) Find(u URL, name string, now time.Time) (Cookie, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range j.pick(u, clean(now)) {
		if c.Name == name {
			return *c, true
		}
	}
	return Cookie{}, false
}

// Header is the Cookie line's value for a request to u; "" means that there is
// no line.
func (j *Jar) Header(u URL, now time.Time) string { return string(j.AppendHeader(nil, u, now)) }

// AppendHeader appends what Header returns to dst; it does not allocate when
// dst has room.
func (j *Jar) AppendHeader(dst []byte, u URL, now time.Time) []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, c := range j.pick(u, clean(now)) {
		if i > 0 {
			dst = append(dst, "; "...)
		}
		dst = appendPair(dst, c)
	}
	return dst
}

// appendPair is §5.8.3 step 6: a cookie without a name is its value alone.
func appendPair(dst []byte, c *Cookie) []byte {
	if c.Name != "" {
		dst = append(dst, c.Name...)
		dst = append(dst, '=')
	}
	return append(dst, c.Value...)
}

// All lists every cookie, expired ones that nobody has purged as well, the
// oldest first.
func (j *Jar) All() []Cookie {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.all()
}

func (j *Jar) all() []Cookie {
	out := make([]Cookie, 0, j.count)
	for _, list := range j.domains {
		for _, c := range list {
			out = append(out, *c)
		}
	}
	slices.SortFunc(out, func(a, b Cookie) int { return compareID(&a, &b) })
	return out
}

// Len counts the cookies.
func (j *Jar) Len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.count
}

// Version rises with every change that another process would want to know of.
// A jar that is restored goes on from its snapshot's version.
func (j *Jar) Version() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.version
}

// Changed lists, in no order, the cookies that changed after a version, and says
// how many there are in all and what the version is. Whoever knows those of
// that version and finds fewer in all than it knows now looks for the removed
// ones in All.
func (j *Jar) Changed(since uint64) (changed []Cookie, all int, version uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, list := range j.domains {
		for _, c := range list {
			if c.Version > since {
				changed = append(changed, *c)
			}
		}
	}
	return changed, j.count, j.version
}

// LastOrder is the highest order that the jar has seen. Whoever counts
// requests goes on above it after Restore; else every answer would look stale.
func (j *Jar) LastOrder() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lastOrder
}

// maxFloors bounds the hosts of IgnoreBefore; beyond, the one with the lowest
// order is forgotten.
const maxFloors = 256

// IgnoreBefore shuts out the answers of a host to requests with a lower order
// than this, for all cookies: what a new login there is followed by, since
// requests of the old session may still be under way and their answers may
// remove its cookies. Other hosts are heard as before.
func (j *Jar) IgnoreBefore(host string, order uint64) {
	host, ok := canonicalHost(host)
	if !ok {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	had, known := j.floors[host]
	if order <= had {
		return
	}
	if !known && len(j.floors) >= maxFloors {
		lowest := ""
		for h, o := range j.floors {
			if lowest == "" || o < j.floors[lowest] {
				lowest = h
			}
		}
		delete(j.floors, lowest)
	}
	j.floors[host] = order
	j.version++
	j.lastOrder = max(j.lastOrder, order)
}

// pick lists the cookies for u in sending order. The slice is valid until the
// lock is given up.
func (j *Jar) pick(u URL, now time.Time) []*Cookie {
	j.picked = j.picked[:0]
	host, ok := canonicalHost(u.Host)
	if !ok || j.count == 0 {
		return nil
	}
	path := requestPath(u.Path)
	// Only the host itself and the names above it can have a cookie for it.
	addr, secure := isAddr(host), j.secure(u, host)
	for domain := host; ; {
		for _, c := range j.domains[domain] {
			if c.covers(host, path, secure) && !c.Expired(now) {
				j.picked = append(j.picked, c)
				c.LastAccess = now
			}
		}
		dot := strings.IndexByte(domain, '.')
		if dot < 0 || addr {
			break
		}
		domain = domain[dot+1:]
	}
	slices.SortFunc(j.picked, compareSent)
	return j.picked
}

// secure tells whether the connection counts as a secure one, which §5.8.3
// leaves to the user agent.
func (j *Jar) secure(u URL, host string) bool {
	return u.Secure || j.opts.TrustLoopback && isLoopback(host)
}

// clean makes times comparable after storage: UTC, no monotonic reading.
func clean(t time.Time) time.Time { return t.Round(0).UTC() }
