package derive

import (
	"slices"
	"strconv"
	"strings"
)

// choose marks the requests that the macro needs: those with credentials, what
// the login goes on to until the last cookie or token that it brings, and
// whatever these take a value or a cookie from.
func (d *deriver) choose() {
	first, last := d.logins()
	if first < 0 {
		d.goal()
	} else {
		d.retried()
		for _, it := range d.items {
			if it.secret {
				d.need(it, "it carries credentials")
			}
		}
		d.follow(last)
	}
	if d.options.KeepAll || d.options.until > 0 {
		for _, it := range d.items {
			if it.noise == "" && (d.options.KeepAll || it.x.Entry < d.options.until) {
				d.need(it, "all are kept")
			}
		}
	}
	// What is needed needs others, which all stand before it.
	for j := len(d.items) - 1; j >= 0; j-- {
		it := d.items[j]
		if !it.needed {
			continue
		}
		for _, e := range it.edits {
			if e.source != nil {
				d.need(d.items[e.source.item], e.slot.label+" of a later request comes from its answer")
			}
		}
		for _, c := range it.sent {
			if c.from >= 0 && d.items[c.from].noise == "" {
				d.need(d.items[c.from], "it sets the cookie "+c.name+", which a later request sends")
			}
		}
	}
}

func (d *deriver) need(it *item, why string) {
	if !it.needed && d.options.without[it.x.Entry] == "" {
		it.needed, it.reason = true, why
	}
}

// logins are the first and the last request with credentials; -1 none.
func (d *deriver) logins() (first, last int) {
	first, last = -1, -1
	for j, it := range d.items {
		if it.secret {
			if first < 0 {
				first = j
			}
			last = j
		}
	}
	return first, last
}

// retried drops a login that was tried again later: the same request with
// credentials to the same place.
func (d *deriver) retried() {
	for j, it := range d.items {
		if !it.secret || it.req.method == "GET" {
			continue
		}
		for _, later := range d.items[j+1:] {
			if later.secret && later.req.method == it.req.method && withoutQuery(later.x.URL) == withoutQuery(it.x.URL) && sameVariables(it, later) {
				it.secret, it.noise = false, "the same login was tried again later"
				break
			}
		}
	}
}

func sameVariables(a, b *item) bool {
	// PASS and PASS2 are one field with two values.
	names := func(it *item) (all []string) {
		for _, e := range it.edits {
			if e.variable != "" {
				all = append(all, e.slot.label)
			}
		}
		slices.Sort(all)
		return all
	}
	return slices.Equal(names(a), names(b))
}

// goal is what a recording without credentials is for: its last request.
func (d *deriver) goal() {
	for j := len(d.items) - 1; j >= 0; j-- {
		if d.items[j].noise == "" {
			d.need(d.items[j], "it is the last one")
			d.draft.note("no request carries credentials; the macro ends with the last one. Values of a login can be given by name")
			d.follow(j)
			return
		}
	}
}

// follow marks what a login goes on to: the requests that its redirects lead to,
// or that carry what it brought, up to the last one that brings something.
func (d *deriver) follow(last int) {
	linked := make(map[int]bool)
	for j, it := range d.items {
		if it.needed {
			linked[j] = true
		}
	}
	var chain []int
	for j := last + 1; j < len(d.items); j++ {
		it := d.items[j]
		if it.noise != "" {
			continue
		}
		switch {
		case d.redirectedFrom(j, linked) >= 0:
		case d.carries(it, linked):
		default:
			continue
		}
		linked[j] = true
		chain = append(chain, j)
	}
	end := -1
	for n, j := range chain {
		if d.brings(j) {
			end = n
		}
	}
	for n, j := range chain {
		it := d.items[j]
		switch {
		case d.brings(j):
			d.need(it, "the login goes on to it, and it brings a cookie or a token")
		case n < end && d.redirectedFrom(j, linked) >= 0 && it.x.Response.Status()/100 == 3:
			d.need(it, "a redirect of the login leads through it")
		}
	}
}

// redirectedFrom is the linked item whose redirect leads to the j-th; -1 none.
func (d *deriver) redirectedFrom(j int, linked map[int]bool) int {
	for i := j - 1; i >= 0; i-- {
		if linked[i] && d.items[i].location != "" && samePlace(d.items[i].location, d.items[j].x.URL) {
			return i
		}
	}
	return -1
}

func (d *deriver) carries(it *item, linked map[int]bool) bool {
	return slices.ContainsFunc(it.edits, func(e edit) bool { return e.source != nil && linked[e.source.item] })
}

// brings reports whether a request of a login brings what later ones may need: a
// cookie with a value that looks made, or a token by its name.
func (d *deriver) brings(j int) bool {
	it := d.items[j]
	if it.answer == nil {
		return false
	}
	for i := range it.answer.offers {
		o := &it.answer.offers[i]
		switch {
		case o.source.Type == "Cookie" && slices.Contains(it.sets, o.name) && (looksMade(o.value) || d.sentLater(j, o.name)):
			if !d.known(j, o.value) {
				return true
			}
		case isTokenName(o.name) && looksMade(o.value) && (o.rank == rankJSON || o.rank == rankNamed && it.location != ""):
			if !d.known(j, o.value) {
				return true
			}
		}
	}
	return false
}

// known reports whether a value was sent or answered before: it is handed on,
// not brought.
func (d *deriver) known(j int, value string) bool {
	for _, it := range d.items[:j] {
		if it.answer != nil && len(it.answer.byText[value]) > 0 {
			return true
		}
	}
	return false
}

func (d *deriver) sentLater(j int, cookie string) bool {
	for _, it := range d.items[j+1:] {
		for _, c := range it.sent {
			if c.name == cookie && c.from == j {
				return true
			}
		}
	}
	return false
}

// isTokenName reports a name that applications give to what a client is to send
// later.
func isTokenName(name string) bool {
	plain := plainName(name)
	switch plain {
	case "token", "accesstoken", "refreshtoken", "idtoken", "jwt", "sessiontoken", "authtoken", "sessionid", "sid", "bearer", "bearertoken", "csrf", "xsrf", "apitoken",
		"authorization", "access", "refresh", "ticket":
		return true
	}
	return strings.HasSuffix(plain, "token") && len(plain) < 24
}

// dropReason says why a request is not in the macro.
func (d *deriver) dropReason(it *item) string {
	if why := d.options.without[it.x.Entry]; why != "" {
		return why
	}
	if it.noise != "" {
		if len(it.sets) > 0 {
			return it.noise + " (it sets the cookie " + strings.Join(slices.Compact(slices.Sorted(slices.Values(it.sets))), ", ") + ")"
		}
		return it.noise
	}
	return "nothing that the login needs comes from its answer"
}

// stepOf words a step for people.
func stepOf(n int) string { return "step " + strconv.Itoa(n) }
