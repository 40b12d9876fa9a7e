package jar

import (
	"bytes"
	"strings"
	"time"
)

// Observe learns from the Cookie line of a browser's request, as Burp does:
// cookies that a script set, or that the browser had before Holdfast was
// there. A line does not tell domain, path and end, so such a cookie is
// recorded as one of this host alone, for every path, without an end, and as
// Secure when it came over TLS.
//
// What the jar knows better is left alone: cookies that an answer, a person or
// a file brought, and removed ones that the browser still sends with the old
// value, since it does not see the answers to Holdfast's own requests. An
// answer that sets or removes a cookie of the name replaces what was observed.
// Of several cookies with one name the first is taken, as most servers do.
//
// order is the request's sequence number; an older request does not change
// what a later one showed. The result lists what was Added or Updated, and
// what was Evicted for it.
func (j *Jar) Observe(u URL, line []byte, now time.Time, order uint64) []Change {
	host, ok := canonicalHost(u.Host)
	if !ok {
		return nil
	}
	u.Secure = j.secure(u, host)
	now = clean(now)
	j.mu.Lock()
	defer j.mu.Unlock()
	if order < max(j.floor, j.floors[host]) {
		return nil
	}
	var changes []Change
	for rest, more := line, true; more; {
		var pair []byte
		pair, rest, more = bytes.Cut(rest, []byte(";"))
		if pair = bytes.Trim(pair, space); len(pair) > 0 {
			changes = j.observe(changes, u, host, pair, now, order)
		}
	}
	return changes
}

func (j *Jar) observe(changes []Change, u URL, host string, pair []byte, now time.Time, order uint64) []Change {
	name, value, ok := bytes.Cut(pair, []byte("="))
	if !ok {
		name, value = nil, pair
	}
	name, value = bytes.TrimRight(name, space), bytes.TrimLeft(value, space)
	path := requestPath(u.Path)
	old := j.known(host, path, name, now)
	if old != nil {
		known := old.Source != FromRequest || old.Secure && !u.Secure || order <= old.Order
		if known || old.Value == string(value) {
			return changes
		}
	}
	c := Cookie{
		Name: string(name), Value: string(value), Domain: host, HostOnly: true, Path: "/",
		Secure: u.Secure, Order: order, Source: FromRequest,
	}
	if normalize(&c) != nil || old == nil && j.buried(&c, host, path) {
		return changes
	}
	j.lastOrder = max(j.lastOrder, order)
	if old == nil {
		old = j.lookup(c.key()) // expired
	}
	for _, change := range j.put(nil, &c, old, now) {
		if change.Kind != Unchanged {
			changes = append(changes, change)
		}
	}
	return changes
}

// known finds the cookie of a name that the jar itself would send, whether
// over TLS or not; facts come before guesses.
func (j *Jar) known(host, path string, name []byte, now time.Time) (found *Cookie) {
	for domain := host; ; {
		for _, c := range j.domains[domain] {
			if c.Name != string(name) || c.Expired(now) || !c.covers(host, path, true) {
				continue
			}
			if found = c; c.Source != FromRequest {
				return c
			}
		}
		_, parent, ok := strings.Cut(domain, ".")
		if !ok {
			return found
		}
		domain = parent
	}
}

// buried tells whether a cookie of that name and value was removed.
func (j *Jar) buried(c *Cookie, host, path string) bool {
	for k, g := range j.graves {
		if k.name == c.Name && g.value == c.Value && pathMatch(path, k.path) &&
			(host == k.domain || !k.hostOnly && domainMatch(host, k.domain)) {
			return true
		}
	}
	return false
}
