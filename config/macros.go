package config

import (
	"crypto/sha1"
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// maxSteps bounds a macro: every step is a request that others wait for.
const maxSteps = 50

// compileMacros makes the macros, and learns what they use and extract.
func (d *decoder) compileMacros(drafts []macroDraft, names *names) []*macro.Macro {
	unique := uniqueNames{d: d, what: "macro", seen: make(map[string]*yaml.Node)}
	var all []*macro.Macro
	for _, m := range drafts {
		if !m.said {
			d.errorAt(m.n, "add steps: with the requests to send, in order", "a macro needs the key %q", "steps")
		}
		d.grantSteps(&m)
		if !m.name.given() {
			continue // reported
		}
		unique.add(m.name)
		unique.add(m.id)
		id := m.id.s
		if id == "" {
			id = nameUUID(m.name.s)
		}
		if len(m.steps) > maxSteps {
			d.errorAt(m.name.n, fmt.Sprintf("at most %d are sent", maxSteps), "macro %q has too many steps", m.name.s)
		}
		compiled := &macro.Macro{ID: id, Name: m.name.s, Once: m.once, Digest: d.digest(m.n)}
		for i, s := range m.steps {
			compiled.Steps = append(compiled.Steps, d.compileStep(m.name.s, i, s, names))
		}
		compiled.Inputs = d.inputsOf(m, names)
		d.sends(m)
		all = append(all, compiled)
	}
	names.macros = all
	return all
}

func (d *decoder) compileStep(macroName string, index int, s stepDraft, names *names) macro.Step {
	step := macro.Step{Name: s.name.s}
	d.does(&step, macroName, index, s, names)
	d.steer(&step, macroName, index, s, names)
	if s.script != nil {
		step.Script = s.script.compiled
		names.useScript(step.Script, s.script.n, macroName, index)
		return step
	}
	if s.request.given() {
		step.Request = d.request(s)
		if step.Request != nil {
			d.tryBuild(s, step.Request, names)
			names.useTemplate(s.request, macroName, index)
		}
	}
	seen := make(map[string]bool)
	for _, e := range s.extract {
		if !e.token.given() || !d.tokenName(e.token) {
			continue
		}
		if seen[e.token.s] {
			d.errorAt(e.token.n, "take one out, or give it another token_name", "this step extracts %s twice", e.token.s)
		}
		seen[e.token.s] = true
		names.extract(extracted{name: e.token.s, n: e.token.n, macro: macroName, step: index})
		if source := d.sourceOf(e.source); source != nil {
			names.useScript(source.Script, e.token.n, macroName, index)
			x := macro.Extraction{Token: e.token.s, Source: source, Optional: e.optional}
			if e.equals.given() {
				x.Equals = d.template(e.equals, macroName, index, names)
				names.used = append(names.used, e.token.s)
			}
			step.Extract = append(step.Extract, x)
		}
	}
	if s.expect.given() {
		step.Expect = d.httpql(s.expect, "expect")
		if step.Expect != nil && reach(step.Expect) == never {
			d.errorAt(s.expect.n, "look at what the parts of it say together", "no answer can be as expect wants it: this step would always fail")
		}
	}
	return step
}

func (d *decoder) tokenName(w word) bool {
	if isVariableName(w.s) {
		return true
	}
	d.errorAt(w.n, variableNameNext, "%q cannot be the name of a token", shorten(w.s))
	return false
}

// useTemplate records the variables of a template that compiled, each where it
// first stands.
func (n *names) useTemplate(w word, macroName string, step int) {
	t, err := rule.ParseTemplate(w.s)
	if err != nil {
		return // reported by whoever compiled it
	}
	offset := 0
	seen := make(map[string]bool)
	for _, p := range t.Parts() {
		if p.Name != "" && !seen[p.Name] {
			seen[p.Name] = true
			n.use(use{name: p.Name, n: w.n, offset: offset, macro: macroName, step: step})
		}
		offset += len(p.Text)
	}
}

// uniqueNames finds names and ids that two things share.
type uniqueNames struct {
	d    *decoder
	what string
	seen map[string]*yaml.Node
}

func (u uniqueNames) add(w word) {
	if !w.given() {
		return
	}
	if first := u.seen[w.s]; first != nil {
		u.d.errorAt(w.n, "give one of them another name or id", "there is a %s %q in line %d already", u.what, shorten(w.s), first.Line)
		return
	}
	u.seen[w.s] = w.n
}

// nameUUID is the id of something that was given none: a UUID made from its
// name (RFC 9562 §5.5), so that it is the same after every start.
func nameUUID(name string) string {
	space := []byte{0x6c, 0x1f, 0x9d, 0x52, 0x0b, 0x3e, 0x4a, 0x77, 0x9b, 0x85, 0x2d, 0xe4, 0x60, 0xa1, 0x7f, 0x13}
	h := sha1.Sum(append(space, name...))
	h[6] = h[6]&0x0f | 0x50
	h[8] = h[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
