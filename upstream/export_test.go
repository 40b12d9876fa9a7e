package upstream

import (
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// KeyOf finds the connections that may carry the flow, as Send does.
func (p *Pool) KeyOf(f *flow.Flow) { p.keyOf(f) }

// Shelves is of how many keys the pool has connections.
func (p *Pool) Shelves() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.shelves)
}

// DigestAnswer is the answer to a challenge with a given cnonce.
func DigestAnswer(field, username, password, method, target, cnonce string) (string, error) {
	r, err := wire.ParseRequest([]byte(method + " " + target + " HTTP/1.1\r\n\r\n"))
	if err != nil {
		return "", err
	}
	for _, text := range digests(field) {
		if c, ok := parseChallenge(text); ok {
			return c.credentials(&flow.Auth{Username: username, Password: password}, r, 1, cnonce, new(keptRequest))
		}
	}
	return "", errTwice
}
