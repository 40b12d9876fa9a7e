package upstream

import (
	"bytes"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// NTLM ([MS-NTHT]) and Negotiate (RFC 4559) authenticate a connection and not
// a request: whoever sends on it next is taken for the one who logged in. A
// connection that has seen either is pinned: to the identity and to the
// client's connection that it was seen with. It is never given to another.

// pinnedTo is the key of connections pinned to whom the flow is from.
func (k key) pinnedTo(f *flow.Flow) key {
	k.identity, k.client, k.pinned = f.Identity, f.Client, true
	return k
}

// pin is the flow's doing when it has the connection.
func (c *conn) pin(f *flow.Flow, answer *wire.Response) {
	if c.then != nil && answer.Status() != 401 {
		c.pool.rekey(c, *c.then)
	}
	c.then = nil
	if c.key.pinned || answer.Status() != 401 || !asksForConnectionLogin(answer) {
		return
	}
	c.pool.pins.Store(true)
	c.pool.rekey(c, c.key.pinnedTo(f))
	c.pool.tell(f, "the origin asks for authentication of the connection: it is kept for this client's connection alone")
}

// rekey has a connection that a flow has rest elsewhere from now on.
func (p *Pool) rekey(c *conn, k key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.open[c]; !known {
		return // closed meanwhile: it never rests
	}
	p.unshelve(c)
	c.key = k
	p.shelve(c)
}

// logsInConnection tells whether a request carries a step of such a login.
func logsInConnection(r *wire.Request) bool {
	value, ok := r.Get("Authorization")
	return ok && ofConnection(value)
}

func asksForConnectionLogin(r *wire.Response) bool {
	for i := range r.NumFields() {
		name, value := r.Field(i)
		if bytes.EqualFold(name, []byte("WWW-Authenticate")) && ofConnection(value) {
			return true
		}
	}
	return false
}

// ofConnection tells whether one of the schemes in the field is of that kind.
// A list is looked through roughly: a false find costs a connection that could
// have been shared, a miss could cost somebody's session.
func ofConnection(value []byte) bool {
	for more := true; more; {
		var part []byte
		part, value, more = bytes.Cut(value, []byte(","))
		scheme, _, _ := bytes.Cut(bytes.TrimSpace(part), []byte(" "))
		if scheme = bytes.TrimSpace(scheme); bytes.EqualFold(scheme, []byte("NTLM")) || bytes.EqualFold(scheme, []byte("Negotiate")) {
			return true
		}
	}
	return false
}
