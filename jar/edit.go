package jar

import (
	"strings"
	"time"
)

// Get returns a cookie by its ID.
func (j *Jar) Get(id uint64) (Cookie, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if c := j.find(id); c != nil {
		return *c, true
	}
	return Cookie{}, false
}

func (j *Jar) find(id uint64) *Cookie {
	for _, list := range j.domains {
		for _, c := range list {
			if c.ID == id {
				return c
			}
		}
	}
	return nil
}

// Put stores a cookie by hand. With an ID of this jar it edits that cookie,
// also its name, domain and path; without one it replaces the cookie of the
// same name, domain and path, or adds one. Created, Updated, LastAccess and
// Version are the jar's business. Order is the caller's: 0 lets any answer
// replace the cookie, the current sequence number keeps late ones out.
//
// Put demands what can be sent, no more: a prefix may be used against its
// rules, and an expired cookie is removed. The first change is the cookie's
// own; what had to make room follows as Evicted. The error is an [*Error].
func (j *Jar) Put(c Cookie, now time.Time) ([]Change, error) {
	if err := normalize(&c); err != nil {
		return nil, err
	}
	now = clean(now)
	c.Source, c.Created, c.Raw = FromHand, time.Time{}, ""
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lastOrder = max(j.lastOrder, c.Order)
	old, edited := j.lookup(c.key()), j.find(c.ID)
	c.ID = 0
	if edited != nil && edited != old {
		if old != nil {
			j.drop(old)
		}
		return j.move(&c, edited, now), nil
	}
	if c.Expired(now) {
		return []Change{j.bury(&c, old, max(c.Order, j.latest(c.key(), old)))}, nil
	}
	return j.put(nil, &c, old, now), nil
}

// move gives an edited cookie another name, domain or path.
func (j *Jar) move(c, old *Cookie, now time.Time) []Change {
	before := *old
	removed := j.bury(old, old, max(c.Order, old.Order))
	if c.Expired(now) {
		return []Change{removed}
	}
	c.ID, c.Created = before.ID, before.Created
	changes := j.put(nil, c, nil, now)
	changes[0].Kind, changes[0].Before = Updated, &before
	return changes
}

// Import puts cookies of a file into the jar, in their order. Creation
// times are kept; IDs, versions and order numbers are not: those belong to the
// jar that they came from. A cookie that is in the jar already is replaced. There
// is a Change for each, Refused where Put would return an error; what had to
// make room follows as Evicted.
func (j *Jar) Import(cookies []Cookie, now time.Time) []Change {
	now = clean(now)
	j.mu.Lock()
	defer j.mu.Unlock()
	var changes []Change
	for _, c := range cookies {
		if err := normalize(&c); err != nil {
			changes = append(changes, Change{Kind: Refused, Cookie: c, Reason: err.Error()})
			continue
		}
		if c.Source == "" {
			c.Source = FromFile
		}
		c.ID, c.Order, c.Created = 0, 0, clean(c.Created)
		old := j.lookup(c.key())
		if c.Expired(now) {
			changes = append(changes, j.bury(&c, old, j.latest(c.key(), old)))
			continue
		}
		changes = j.put(changes, &c, old, now)
	}
	return changes
}

// normalize checks a cookie that no server sent, and brings domain, path and
// times into the jar's form.
func normalize(c *Cookie) error {
	const inName, inValue = ";=", ";"
	switch {
	case c.Name == "" && c.Value == "":
		return &Error{"name", "neither name nor value is given", "give one of them"}
	case hasControl(c.Name) || strings.ContainsAny(c.Name, inName):
		return &Error{"name", "holds a control character, a semicolon or an equals sign", "leave it out"}
	case hasControl(c.Value) || strings.ContainsAny(c.Value, inValue):
		return &Error{"value", "holds a control character or a semicolon", "encode it as the application does, mostly as %3B"}
	case len(c.Name)+len(c.Value) > maxPair:
		return &Error{"value", "name and value are longer than 4096 bytes", "shorten them"}
	case hasControl(c.Path), len(c.Path) > maxPath:
		return &Error{"path", "holds a control character or is longer than 4096 bytes", "give a path such as /app"}
	}
	host, ok := canonicalHost(strings.TrimPrefix(c.Domain, "."))
	if !ok {
		return &Error{"domain", "is not a host name or an address", "give one such as shop.example"}
	}
	c.Domain = host
	if isAddr(host) {
		c.HostOnly = true
	}
	if !c.HostOnly && isPublicSuffix(host) {
		return &Error{"domain", "is a public suffix, its cookies would go to strangers", "make it host-only"}
	}
	if !strings.HasPrefix(c.Path, "/") {
		c.Path = "/"
	}
	c.SameSite = parseSameSite(string(c.SameSite))
	if !c.Expires.IsZero() {
		c.Expires = clean(c.Expires)
		// A year of five digits does not fit our files.
		if last := time.Unix(maxSeconds, 0).UTC(); c.Expires.After(last) {
			c.Expires = last
		}
	}
	return nil
}

// Delete removes a cookie by its ID. order is the current sequence number:
// answers of requests before it do not bring the cookie back.
func (j *Jar) Delete(id, order uint64) (Cookie, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.find(id)
	if c == nil {
		return Cookie{}, false
	}
	j.lastOrder = max(j.lastOrder, order)
	return j.bury(c, c, max(order, c.Order)).Cookie, true
}

// Clear removes the cookies of a domain and of the hosts below it, or all of
// them for "". order is the current sequence number, as for Delete; when all
// are removed, answers of requests before it bring nothing at all.
func (j *Jar) Clear(domain string, order uint64) []Cookie {
	j.mu.Lock()
	defer j.mu.Unlock()
	if domain == "" {
		if order > j.floor {
			j.floor = order
			j.version++
		}
	} else {
		var ok bool
		if domain, ok = canonicalHost(strings.TrimPrefix(domain, ".")); !ok {
			return nil
		}
	}
	j.lastOrder = max(j.lastOrder, order)
	var gone []Cookie
	for _, c := range j.all() {
		if domain == "" || domainMatch(c.Domain, domain) {
			old := j.lookup(c.key())
			gone = append(gone, j.bury(old, old, max(order, c.Order)).Cookie)
		}
	}
	return gone
}

// PurgeExpired removes the cookies whose end has come and returns them. The
// jar never sends them anyway.
func (j *Jar) PurgeExpired(now time.Time) []Cookie {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.purge(clean(now))
}
