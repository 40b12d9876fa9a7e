package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/macro"
)

// names is what the file defines, extracts, uses and injects: variables and
// tokens share one name space.
type names struct {
	global     []variable
	identities []identityDraft
	extracted  []extracted
	uses       []use
	used       []string // tokens that are used by {{step_N.X}} or compared
	macros     []*macro.Macro
}

// extracted is one place that a token can come from.
type extracted struct {
	name  string
	n     *yaml.Node
	macro string // "" for a rule's token_updates
	step  int    // from 0, of a macro
}

// use is one place that needs a value.
type use struct {
	name     string
	n        *yaml.Node
	offset   int    // in the scalar
	macro    string // "" for a rule
	step     int    // from 0, of a macro
	injected bool   // by token_name, not by {{…}}
	script   bool   // by a script, which may ask whether there is one
}

func newNames(f *fileDraft) *names {
	return &names{global: f.variables, identities: f.identities}
}

// valueFor is the value of a name for an identity: what the file says, or what
// stands for a token. There is none for a variable with a mistake.
func (n *names) valueFor(i identityDraft, name string) (string, bool) {
	for _, v := range slices.Concat(i.variables, n.global) {
		if v.name == name {
			return v.value, !v.broken
		}
	}
	return placeholder, true
}

func (n *names) use(u use) { n.uses = append(n.uses, u) }

func (n *names) extract(e extracted) { n.extracted = append(n.extracted, e) }

// isVariable reports whether the file gives the name a value, globally or for
// one identity.
func (n *names) isVariable(name string) bool {
	return n.isGlobal(name) || slices.ContainsFunc(n.identities, func(i identityDraft) bool { return i.has(name) })
}

func (n *names) isGlobal(name string) bool { return has(n.global, name) }

func (n *names) isExtracted(name string) bool {
	return slices.ContainsFunc(n.extracted, func(e extracted) bool { return e.name == name })
}

func (i identityDraft) has(name string) bool { return has(i.variables, name) }

func has(all []variable, name string) bool {
	return slices.ContainsFunc(all, func(v variable) bool { return v.name == name })
}

// all lists every name that has or can get a value, sorted.
func (n *names) all() []string {
	set := make(map[string]bool)
	for _, v := range n.global {
		set[v.name] = true
	}
	for _, i := range n.identities {
		for _, v := range i.variables {
			set[v.name] = true
		}
	}
	for _, e := range n.extracted {
		set[e.name] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// check finds names that nothing gives a value, and values that nothing uses.
func (n *names) check(d *decoder) {
	known := n.all()
	for i, u := range n.uses {
		if n.special(d, &u) {
			continue
		}
		n.uses[i] = u
		switch {
		case n.isVariable(u.name):
			n.checkIdentities(d, u)
		case !n.isExtracted(u.name) && u.script:
			n.unknownInScript(d, u, known)
		case !n.isExtracted(u.name):
			n.undefined(d, u, known)
		case u.macro != "" && !u.script:
			n.checkFirst(d, u)
		}
	}
	if len(d.problems) > 0 {
		return // what would use it may be the mistake
	}
	used := make(map[string]bool)
	for _, name := range n.used {
		used[name] = true
	}
	for _, u := range n.uses {
		used[u.name] = true
	}
	for _, e := range n.extracted {
		if !used[e.name] {
			used[e.name] = true // once is enough
			d.warnAt(e.n, fmt.Sprintf("put it into requests with a token update that has a target, or use {{%s}}", e.name), "the token %s is extracted and used nowhere", e.name)
		}
	}
}

// special reports whether a name means something in a macro by itself, and tells
// what is wrong with it. {{env.X}} becomes a use of X, {{step_N.X}} of what that
// step extracts.
func (n *names) special(d *decoder, u *use) bool {
	if u.macro == "" || n.isVariable(u.name) || n.isExtracted(u.name) {
		return false
	}
	i := slices.IndexFunc(n.macros, func(m *macro.Macro) bool { return m.Name == u.macro })
	if i < 0 {
		return false
	}
	known, needs, problem := n.macros[i].Special(u.name, u.step)
	switch {
	case !known:
		return false
	case problem != "":
		d.errorIn(u.n, u.offset, "correct the name; docs/configuration.md lists those with a meaning of their own", "{{%s}} has no value in macro %q: %s", u.name, u.macro, problem)
	case needs != "":
		u.name = needs
		return false
	}
	if u.name == macro.NameTOTP {
		n.usesCode(d, u)
	}
	if _, token, ok := strings.Cut(u.name, "."); ok && strings.HasPrefix(u.name, "step_") {
		n.used = append(n.used, token)
	}
	return true
}

func (n *names) undefined(d *decoder, u use, known []string) {
	next := fmt.Sprintf("define it under variables:, or extract it: extract: [{token_name: %s, source: …}]", u.name)
	if len(known) > 0 {
		const most = 12
		list := strings.Join(known[:min(most, len(known))], ", ")
		if len(known) > most {
			list += fmt.Sprintf(" and %d more", len(known)-most)
		}
		next += "; there is " + list
	}
	if s := suggest(u.name, known); s != "" {
		next = fmt.Sprintf("did you mean %s? ", s) + next
	}
	if u.injected {
		d.errorAt(u.n, next, "the token %s is put into requests, but nothing extracts it", u.name)
		return
	}
	d.errorIn(u.n, u.offset, next, "nothing defines {{%s}}", u.name)
}

// checkIdentities warns when a name is a variable of some identities only, and
// nothing gives it to the others.
func (n *names) checkIdentities(d *decoder, u use) {
	if n.isGlobal(u.name) || n.isExtracted(u.name) {
		return
	}
	var without []string
	for _, i := range n.identities {
		if !i.has(u.name) {
			without = append(without, i.name)
		}
	}
	if len(without) == 0 {
		return
	}
	at, _ := d.text.inside(u.n, u.offset)
	d.warnings = append(d.warnings, d.text.problem(at,
		fmt.Sprintf("%s has no value for identity %s", u.name, strings.Join(without, ", ")),
		"add it to the identity's variables, or give it a value for all under variables:"))
}

// checkFirst finds a macro that uses what only a later step of it extracts: it
// could never run for the first time.
func (n *names) checkFirst(d *decoder, u use) {
	step := -1
	for _, e := range n.extracted {
		if e.name != u.name {
			continue
		}
		if e.macro != u.macro || e.step < u.step {
			return
		}
		if step < 0 || e.step < step {
			step = e.step
		}
	}
	d.errorIn(u.n, u.offset, fmt.Sprintf("extract it in an earlier step or in another macro, or give it a first value under variables:"),
		"{{%s}} is used in step %d of macro %q, and only step %d of the same macro extracts it", u.name, u.step+1, u.macro, step+1)
}
