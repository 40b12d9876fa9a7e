package session

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// minSpoilt is how long a value must be to be one that a session depends on:
// what is shorter is a language or a flag.
const minSpoilt = 8

// Spoil makes the sessions of an identity such as no origin knows: tokens and
// cookies get other values, by [Spoilt]. What the next request does with that is
// the proof that the death is seen and the session recovered; see package learn.
// Without all, the tokens that no rule puts into requests, such as a refresh
// token, are left whole. It returns how many values were spoilt.
func (e *Engine) Spoil(identity string, all bool) (int, error) {
	p := e.identities[identity]
	if p == nil {
		return 0, fmt.Errorf("there is no identity %q", identity)
	}
	var injected []string
	for _, r := range e.Rules().Rules() {
		injected = append(injected, targeted(r)...)
	}
	n := 0
	for _, member := range p.members {
		member.mu.Lock()
		next := maps.Clone(*member.tokens.Load())
		for name, t := range next {
			if t.gone || len(t.value) < minSpoilt || !all && !slices.Contains(injected, name) {
				continue
			}
			t.value = Spoilt(t.value)
			next[name] = t
			n++
		}
		member.tokens.Store(&next)
		member.mu.Unlock()
		for _, c := range member.jar.All() {
			if len(c.Value) < minSpoilt {
				continue
			}
			c.Value = Spoilt(c.Value)
			if _, err := member.jar.Put(c, e.now()); err == nil {
				n++
			}
		}
	}
	return n, nil
}

// Spoilt is another value of the same length and look: each digit becomes
// another digit, each letter another letter of its kind, and of a JSON Web Token
// only those of the signature.
func Spoilt(value string) string {
	from := 0
	if strings.Count(value, ".") == 2 && strings.HasPrefix(value, "ey") {
		from = strings.LastIndexByte(value, '.') + 1
	}
	b := []byte(value)
	for i := from; i < len(b); i++ {
		// Letters of hexadecimal numbers stay such.
		for _, kind := range []string{"0123456789", "abcdef", "ghijklmnopqrstuvwxyz", "ABCDEF", "GHIJKLMNOPQRSTUVWXYZ"} {
			if at := strings.IndexByte(kind, b[i]); at >= 0 {
				b[i] = kind[(at+1)%len(kind)]
				break
			}
		}
	}
	return string(b)
}
