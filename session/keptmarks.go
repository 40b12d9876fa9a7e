package session

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// marks tell what is kept of a recovery, or of a token, from what is kept under
// the same name by another configuration.
type marks struct {
	// row is the row's name: it says where the session is, so that two
	// applications whose macros have the same names share a project, and no
	// token of one goes to the other.
	row string
	// who says whose it is: what was kept with other credentials is of somebody
	// else. It is a secret, since passwords could be tried on it.
	who   []byte
	token bool
}

func tokenMark(name string) string { return "token\x00" + name }

func (k *keeping) of(name string) marks { return k.all()[name] }

// all are the present marks. Nobody changes the map.
func (k *keeping) all() map[string]marks {
	if m := k.marks.Load(); m != nil {
		return *m
	}
	return nil
}

// whoOf says whose a row of the present configuration is to be.
func (k *keeping) whoOf(row string, token bool) (who []byte, ours bool) {
	for _, m := range k.all() {
		if m.row == row && m.token == token {
			return m.who, true
		}
	}
	return nil, false
}

// marksOf are those of all recoveries, and of all tokens that they and rules
// bring.
func (e *Engine) marksOf(n *identity) map[string]marks {
	type sum struct{ where, who []string }
	sums := make(map[string]*sum)
	at := func(name string) *sum {
		if sums[name] == nil {
			sums[name] = new(sum)
		}
		return sums[name]
	}
	for _, r := range e.Rules().Rules() {
		var own sum
		var tokens []string
		for _, name := range r.Recovery {
			m := e.macros[name]
			own.where = append(own.where, n.hosts(m)...)
			own.who = append(own.who, e.credentialsOf(n, m)...)
			// Nodes of a fleet need not have the same text at each moment: while it
			// is changed on one after the other, they would log in against each other.
			if m.Digest != "" && e.config.Fleet == nil {
				own.who = append(own.who, "macro "+m.Digest)
			}
			tokens = append(tokens, m.Produces()...)
			for _, sent := range m.Names() { // a script may bring it
				if _, is := e.tokens[sent]; is {
					tokens = append(tokens, sent)
				}
			}
		}
		scope := "scope " + r.Scope.Pattern
		if len(own.where) == 0 {
			own.where = append(own.where, scope)
		}
		s := at(e.recoveryOf(r))
		s.where, s.who = append(s.where, own.where...), append(s.who, own.who...)
		for i := range r.Updates {
			tokens = append(tokens, r.Updates[i].Token)
			if r.Updates[i].Puts() {
				s := at(tokenMark(r.Updates[i].Token))
				s.where = append(s.where, scope)
			}
		}
		for _, token := range tokens {
			s := at(tokenMark(token))
			s.where, s.who = append(s.where, own.where...), append(s.who, own.who...)
		}
	}
	all := make(map[string]marks)
	for name, s := range sums {
		token, is := strings.CutPrefix(name, "token\x00")
		if !is {
			token = name
		}
		all[name] = marks{row: rowName(token, hex.EncodeToString(digest(s.where)[:8])), who: digest(s.who)[:16], token: is}
	}
	return all
}

// remark draws the marks anew, after rules or variables were changed by hand.
// Those of rules that hold no longer stay: their sessions do too.
func (e *Engine) remark() {
	if e.config.Keeper == nil {
		return
	}
	for _, n := range e.everybody() {
		next := e.marksOf(n)
		k := &n.kept
		k.mu.Lock()
		for name, m := range k.all() {
			if _, ok := next[name]; !ok {
				next[name] = m
			}
		}
		k.marks.Store(&next)
		k.mu.Unlock()
		n.touch()
	}
}

// digest is of a set of texts.
func digest(texts []string) []byte {
	texts = slices.Compact(slices.Sorted(slices.Values(texts)))
	sum := sha256.Sum256([]byte(strings.Join(texts, "\x00")))
	return sum[:]
}

// credentialsOf are the variables that a macro sends and that are no tokens.
func (e *Engine) credentialsOf(n *identity, m *macro.Macro) (all []string) {
	for _, name := range m.Names() {
		if _, token := e.tokens[name]; token {
			continue
		}
		if v, ok := n.vars()[name]; ok {
			all = append(all, name+"="+v)
		}
	}
	return all
}

// hosts are where a macro's requests go, as far as the configuration says.
func (n *identity) hosts(m *macro.Macro) (all []string) {
	lookup := func(name string) (string, bool) {
		v, ok := n.vars()[name]
		if !ok {
			v = "x" // of another step, maybe
		}
		return v, true
	}
	for i := range m.Steps {
		if m.Steps[i].Request == nil {
			continue
		}
		if b, err := m.Steps[i].Request.Build(lookup); err == nil {
			all = append(all, b.Origin.URL(nil))
		}
	}
	return all
}

// tokenNames are the names of the values that macros and rules take.
func tokenNames(macros []*macro.Macro, rules []*rule.Rule) map[string]struct{} {
	names := make(map[string]struct{})
	for _, m := range macros {
		for _, name := range m.Produces() {
			names[name] = struct{}{}
		}
	}
	for _, r := range rules {
		for i := range r.Updates {
			names[r.Updates[i].Token] = struct{}{}
		}
	}
	return names
}
