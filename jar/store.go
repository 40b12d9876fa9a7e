package jar

import (
	"slices"
	"strings"
	"time"
)

// receive is the storage model (§5.7) for one Set-Cookie value.
func (j *Jar) receive(changes []Change, u URL, line []byte, now time.Time, order uint64) []Change {
	c, reason := j.judge(u, line, now, order)
	if reason != "" {
		return append(changes, Change{Kind: Refused, Cookie: *c, Reason: reason})
	}
	j.lastOrder = max(j.lastOrder, order)
	// What a browser was seen to send is a guess about path and domain; the
	// server knows, whichever was first.
	old := j.lookup(c.key())
	if old != nil && old.Source == FromRequest {
		old = nil
	}
	if order < max(j.floorOf(u), j.latest(c.key(), old)) {
		return append(changes, Change{Kind: Stale, Cookie: *c, Reason: "the answer of a later request has set or removed it already"})
	}
	j.dropGuesses(c)
	if old != nil && old.Expired(now) {
		j.drop(old)
		old = nil
	}
	if c.Expired(now) {
		return append(changes, j.bury(c, old, order))
	}
	return j.put(changes, c, old, now)
}

// latest is the order of the last answer that spoke about a cookie.
func (j *Jar) latest(k key, old *Cookie) uint64 {
	order := max(j.floor, j.graves[k].order)
	if old != nil {
		order = max(order, old.Order)
	}
	return order
}

// floorOf is the order below which answers of a host are not listened to.
func (j *Jar) floorOf(u URL) uint64 {
	if len(j.floors) == 0 {
		return j.floor
	}
	host, _ := canonicalHost(u.Host)
	return max(j.floor, j.floors[host])
}

// judge makes a cookie of a Set-Cookie value, or says why not. The cookie is
// never nil.
func (j *Jar) judge(u URL, line []byte, now time.Time, order uint64) (c *Cookie, reason string) {
	raw := string(line)
	r, reason := parseSetCookie(raw)
	c = &Cookie{
		Name: r.name, Value: r.value, Secure: r.secure, HTTPOnly: r.httpOnly,
		Partitioned: r.partitioned, SameSite: r.sameSite, Path: r.path, Raw: raw,
		Expires: r.end(now, j.opts.MaxLifetime), Order: order, Source: FromResponse,
	}
	if len(raw) > maxRaw {
		// The short strings must not keep the long one alive.
		c.Name, c.Value, c.Path = strings.Clone(c.Name), strings.Clone(c.Value), strings.Clone(c.Path)
		c.Raw = strings.Clone(raw[:maxRaw])
	}
	if reason != "" {
		return c, reason
	}
	host, ok := canonicalHost(u.Host)
	if !ok {
		return c, "came from something that is not a host name (§5.7 step 9)"
	}
	if reason = c.setDomain(host, r.domain); reason != "" {
		return c, reason
	}
	if c.Path == "" {
		path := defaultPath(requestPath(u.Path))
		if len(path) > maxPath || hasControl(path) {
			return c, "came from a path that is longer than 4096 bytes or holds a control character"
		}
		c.Path = strings.Clone(path)
	}
	switch secure := j.secure(u, host); {
	case c.Secure && !secure:
		return c, "is Secure and came over plain http (§5.7 step 13)"
	case !c.Secure && !secure && j.overlays(c, now):
		return c, "came over plain http and would stand in for a Secure one (§5.7 step 16)"
	case c.SameSite == SameSiteNone && !c.Secure:
		return c, "is SameSite=None and not Secure (§5.7 step 19)"
	}
	return c, r.brokenPromise(c.HostOnly)
}

// setDomain is §5.7 steps 7 to 10.
func (c *Cookie) setDomain(host, attribute string) (reason string) {
	if !isASCII(attribute) {
		return "its Domain holds bytes beyond ASCII (§5.7 step 8)"
	}
	if attribute != "" && isPublicSuffix(attribute) {
		if attribute != host {
			return "its Domain is a public suffix (§5.7 step 9)"
		}
		attribute = ""
	}
	if attribute != "" && !domainMatch(host, attribute) {
		return "its Domain is not the host's or above it (§5.7 step 10)"
	}
	// Under a rule such as *.kobe.jp, kobe.jp is no public suffix and yet above
	// those of its hosts; browsers refuse it like one.
	if attribute != "" && attribute != host && len(strings.TrimSuffix(attribute, ".")) <= len(publicSuffix(host)) {
		return "its Domain is above the host's public suffix (§5.7 step 9)"
	}
	c.HostOnly = attribute == "" || isAddr(host)
	if c.Domain = attribute; c.HostOnly {
		c.Domain = host
	}
	return ""
}

// overlays tells whether an insecure cookie would hide a Secure one ("leave
// secure cookies alone", §5.7 step 16). The domains are compared both ways, so
// all are visited; only plain http comes here.
func (j *Jar) overlays(c *Cookie, now time.Time) bool {
	for domain, list := range j.domains {
		if !domainMatch(domain, c.Domain) && !domainMatch(c.Domain, domain) {
			continue
		}
		for _, old := range list {
			if old.Secure && old.Name == c.Name && old.Source != FromRequest &&
				!old.Expired(now) && pathMatch(c.Path, old.Path) {
				return true
			}
		}
	}
	return false
}

// dropGuesses removes what was learned from requests about a cookie that its
// server has now spoken of: else both would be sent.
func (j *Jar) dropGuesses(c *Cookie) {
	if j.guesses[c.Name] == 0 {
		return
	}
	if c.HostOnly {
		j.dropGuessesOf(c.Domain, c.Name)
		return
	}
	for domain := range j.domains {
		if domainMatch(domain, c.Domain) {
			j.dropGuessesOf(domain, c.Name)
		}
	}
}

func (j *Jar) dropGuessesOf(domain, name string) {
	for _, old := range slices.Backward(j.domains[domain]) {
		if old.Source == FromRequest && old.Name == name {
			j.drop(old)
		}
	}
}

// put stores c in place of old, which may be nil. The change of c comes before
// those of what it drove out.
func (j *Jar) put(changes []Change, c, old *Cookie, now time.Time) []Change {
	if c.Source != FromRequest {
		delete(j.graves, c.key())
	}
	c.LastAccess = now
	if old == nil {
		if c.ID == 0 {
			j.lastID++
			c.ID = j.lastID
		}
		j.version++
		c.Version, c.Updated = j.version, now
		if c.Created.IsZero() {
			c.Created = now
		}
		j.insert(c)
		return j.makeRoom(append(changes, Change{Kind: Added, Cookie: *c}), c.Domain, now)
	}
	c.ID, c.Created, c.Version, c.Updated = old.ID, old.Created, old.Version, old.Updated
	if c.same(old) {
		*old = *c
		return append(changes, Change{Kind: Unchanged, Cookie: *c})
	}
	before := *old
	j.drop(old)
	c.Version, c.Updated = j.version, now
	j.insert(c)
	return append(changes, Change{Kind: Updated, Cookie: *c, Before: &before})
}

// bury removes old, if there is one, and remembers that c is not wanted.
func (j *Jar) bury(c, old *Cookie, order uint64) Change {
	g := grave{order: order, value: c.Value}
	change := Change{Kind: Unchanged, Cookie: *c}
	if old != nil {
		g.value = old.Value
		change = Change{Kind: Removed, Cookie: *old}
		j.drop(old)
	}
	j.dig(c.key(), g)
	return change
}

// dig remembers a grave, and forgets the one of the lowest order when there
// are too many.
func (j *Jar) dig(k key, g grave) {
	if _, ok := j.graves[k]; !ok && len(j.graves) >= j.opts.Total {
		var oldest key
		first := true
		for k, g := range j.graves {
			if first || g.order < j.graves[oldest].order {
				oldest, first = k, false
			}
		}
		delete(j.graves, oldest)
	}
	g.order = max(g.order, j.graves[k].order)
	j.graves[k] = g
	j.version++
}

// insert puts a cookie in, which must not be there already.
func (j *Jar) insert(c *Cookie) {
	j.domains[c.Domain] = append(j.domains[c.Domain], c)
	j.count++
	if c.Source == FromRequest {
		j.guesses[c.Name]++
	}
}

// drop takes a cookie out and leaves no trace of it.
func (j *Jar) drop(c *Cookie) {
	list := j.domains[c.Domain]
	i := slices.Index(list, c)
	if i < 0 {
		return
	}
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(j.domains, c.Domain)
	} else {
		j.domains[c.Domain] = list
	}
	j.count--
	j.version++
	if c.Source == FromRequest {
		if j.guesses[c.Name]--; j.guesses[c.Name] == 0 {
			delete(j.guesses, c.Name)
		}
	}
}

func (j *Jar) lookup(k key) *Cookie {
	for _, c := range j.domains[k.domain] {
		if c.key() == k {
			return c
		}
	}
	return nil
}

// makeRoom is the order of eviction (§5.7): expired cookies, then of a domain
// with too many those that are not Secure, then its others, then all; the
// longest unused first.
func (j *Jar) makeRoom(changes []Change, domain string, now time.Time) []Change {
	if len(j.domains[domain]) <= j.opts.PerDomain && j.count <= j.opts.Total {
		return changes
	}
	j.purge(now)
	for len(j.domains[domain]) > j.opts.PerDomain {
		list := j.domains[domain]
		worst := slices.MinFunc(list, func(a, b *Cookie) int {
			if a.Secure != b.Secure {
				if b.Secure {
					return -1
				}
				return 1
			}
			return compareUse(a, b)
		})
		changes = append(changes, j.evict(worst))
	}
	for j.count > j.opts.Total {
		var worst *Cookie
		for _, list := range j.domains {
			for _, c := range list {
				if worst == nil || compareUse(c, worst) < 0 {
					worst = c
				}
			}
		}
		changes = append(changes, j.evict(worst))
	}
	return changes
}

func (j *Jar) evict(c *Cookie) Change {
	j.drop(c)
	return Change{Kind: Evicted, Cookie: *c, Reason: "the jar or its domain is full"}
}

func compareUse(a, b *Cookie) int {
	if n := a.LastAccess.Compare(b.LastAccess); n != 0 {
		return n
	}
	return compareID(a, b)
}

// purge removes what has expired. A grave stays where the order matters, so
// that a late answer does not bring back what came before.
func (j *Jar) purge(now time.Time) (gone []Cookie) {
	for _, list := range j.domains {
		for _, c := range slices.Backward(list) {
			if !c.Expired(now) {
				continue
			}
			gone = append(gone, *c)
			j.drop(c)
			if c.Order > 0 {
				j.dig(c.key(), grave{order: c.Order, value: c.Value})
			}
		}
	}
	slices.SortFunc(gone, func(a, b Cookie) int { return compareID(&a, &b) })
	return gone
}
