package session

import (
	"fmt"
	"strings"

	"github.com/holdfast-proxy/holdfast/rule"
)

// ruling is the rules that hold, with what is looked up for each request. It
// never changes; another configuration has its own engine, see Engine.Next.
type ruling struct {
	set        *rule.Set
	recoveries map[*rule.Rule]string // the names of each rule's macros
}

// Rules are the rules that hold now.
func (e *Engine) Rules() *rule.Set { return e.ruling.Load().set }

// recoveryOf names the macros by which the rule's session is recovered. Rules
// that hold no longer have one too: requests that began under them go on.
func (e *Engine) recoveryOf(r *rule.Rule) string {
	if name, ok := e.ruling.Load().recoveries[r]; ok {
		return name
	}
	name, _ := e.nameRecovery(r) // it was without a mistake when it held
	return name
}

// rulingOf checks the rules against the macros that there are.
func (e *Engine) rulingOf(set *rule.Set) (*ruling, error) {
	out := &ruling{set: set, recoveries: make(map[*rule.Rule]string)}
	for _, r := range set.Rules() {
		name, err := e.nameRecovery(r)
		if err != nil {
			return nil, err
		}
		out.recoveries[r] = name
		if err := e.checkActions(r); err != nil {
			return nil, err
		}
		if err := e.checkInquiries(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// nameRecovery joins the names of a rule's macros, which a rule may name by
// their IDs.
func (e *Engine) nameRecovery(r *rule.Rule) (string, error) {
	var names []string
	for _, name := range r.Recovery {
		m := e.macros[name]
		if m == nil {
			return "", fmt.Errorf("rule %q: there is no macro %q; add it under macros, or correct reauth_macro", r.Name, name)
		}
		names = append(names, m.Name)
		if m.Browser != nil && e.config.Browser == nil {
			return "", fmt.Errorf("rule %q: reauth_macro: %q is a login in a browser, which this Holdfast does not have; take it out", r.Name, name)
		}
	}
	if r.ByPerson() {
		names = append(names, byBrowser)
	}
	return strings.Join(names, ","), nil
}

// byBrowser stands among the names of macros, and is none's.
const byBrowser = "\x00browser"

// checkInquiries checks the macros that a rule asks.
func (e *Engine) checkInquiries(r *rule.Rule) error {
	asking := []string{r.Confirm}
	if r.Probe != nil {
		asking = append(asking, r.Probe.Macro)
	}
	for _, name := range asking {
		if m := e.macros[name]; m != nil && m.Browser != nil {
			return fmt.Errorf("rule %q: %q is a login in a browser and asks nothing; name a macro with steps", r.Name, name)
		}
	}
	if r.Confirm != "" && e.macros[r.Confirm] == nil {
		return fmt.Errorf("rule %q: there is no macro %q; add it under macros, or correct validation.confirm", r.Name, r.Confirm)
	}
	if r.Probe != nil && e.macros[r.Probe.Macro] == nil {
		return fmt.Errorf("rule %q: there is no macro %q; add it under macros, or correct validation.probe", r.Name, r.Probe.Macro)
	}
	return nil
}
