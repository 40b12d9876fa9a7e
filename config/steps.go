package config

import (
	"fmt"
	"slices"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// What a step of a macro can do besides sending a request.

const tableRedirects = "redirects"

// maxRedirects is how many redirects a step can be told to follow.
const maxRedirects = 50

// maxStepWait bounds what a step waits before it begins.
const maxStepWait = 10 * time.Minute

const (
	redirectsFollow = "follow"
	redirectsNone   = "none"
)

func redirectWords() []string { return []string{redirectsFollow, redirectsNone} }

type redirectsDraft struct {
	max   int
	until word
}

// inputDraft is an input of a macro, or the value of one.
type inputDraft struct {
	name  string
	n     *yaml.Node
	value word
}

// flowFields are the keys of a step that say when and how it is sent.
func flowFields() []field[stepDraft] {
	return []field[stepDraft]{
		{"auth", "", auth(func(s *stepDraft) **authDraft { return &s.auth })},
		{"send_cookies", "", unless("send_cookies", func(s *stepDraft) *bool { return &s.bareIn })},
		{"keep_cookies", "", unless("keep_cookies", func(s *stepDraft) *bool { return &s.bareOut })},
		{"wait", "", duration("wait", time.Millisecond, maxStepWait, func(s *stepDraft) *time.Duration { return &s.wait })},
		{"repeat", "", func(d *decoder, n *yaml.Node, s *stepDraft) {
			r := repeatDraft{every: time.Second, timeout: time.Minute}
			if object(d, n, tableRepeat, repeatFields(), &r) {
				s.repeat = &r
			}
		}},
		{"redirects", "", func(d *decoder, n *yaml.Node, s *stepDraft) {
			if n.Kind == yaml.ScalarNode {
				var w word
				choice("redirects", redirectWords(), func(w *word) *word { return w })(d, n, &w)
				if w.s == redirectsFollow {
					s.redirects.max = macro.DefaultRedirects
				}
				return
			}
			s.redirects.max = macro.DefaultRedirects
			object(d, n, tableRedirects, redirectsFields(), &s.redirects)
		}},
	}
}

// unless reads true or false, of which false is the one that is noted.
func unless[T any](what string, into func(*T) *bool) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, t *T) {
		on := true
		flag(what, func(b *bool) *bool { return b })(d, n, &on)
		*into(t) = !on
	}
}

func redirectsFields() []field[redirectsDraft] {
	return []field[redirectsDraft]{
		{"max", "", number("max", 1, maxRedirects, func(r *redirectsDraft) *int { return &r.max })},
		{"until", "", single("until", func(r *redirectsDraft) *word { return &r.until })},
	}
}

// inputs reads a mapping of names to values; null is a value that is still to
// be given, where that is allowed.
func inputs(what string, open bool) func(d *decoder, n *yaml.Node) []inputDraft {
	return func(d *decoder, n *yaml.Node) []inputDraft {
		pairs, _ := d.pairs(n, what)
		var all []inputDraft
		for _, p := range pairs {
			if !isVariableName(p.key.Value) {
				d.errorAt(p.key, variableNameNext, "this cannot be the name of an input")
				continue
			}
			in := inputDraft{name: p.key.Value, n: p.key}
			if !open || !isNull(p.value) {
				w, ok := d.word(p.value, "the input "+p.key.Value)
				if !ok {
					continue
				}
				in.value = word{n: w.n, s: d.expand(w)}
			}
			all = append(all, in)
		}
		return all
	}
}

// steer compiles when and how a step is sent.
func (d *decoder) steer(step *macro.Step, macroName string, index int, s stepDraft, names *names) {
	step.Wait, step.BareRequest, step.BareAnswer = s.wait, s.bareIn, s.bareOut
	step.Repeat = d.repeat(s)
	step.Auth = d.authOf(s.auth, macroName, index, names)
	step.Redirects.Max = s.redirects.max
	if s.redirects.until.given() {
		step.Redirects.Until = d.template(s.redirects.until, macroName, index, names)
	}
}

// template compiles a text with variables of a macro's step.
func (d *decoder) template(w word, macroName string, index int, names *names) *rule.Template {
	t, err := rule.ParseTemplate(w.s)
	if err != nil {
		d.ruleError(err, w.n)
		return nil
	}
	names.useTemplate(w, macroName, index)
	return t
}

// inputsOf compiles the inputs of a macro.
func (d *decoder) inputsOf(m macroDraft, names *names) []macro.Input {
	var all []macro.Input
	for _, in := range m.inputs {
		input := macro.Input{Name: in.name}
		if in.value.given() {
			input.Value = d.template(in.value, m.name.s, 0, names)
		}
		all = append(all, input)
	}
	return all
}

// bind gives the macros of a rule the rule's values for their inputs.
func (c *ruleCompiler) bind(r *ruleDraft, out *rule.Rule) {
	values, used := make(map[string]*rule.Template), make(map[string]bool)
	for _, in := range r.inputs {
		values[in.name] = c.template(in.value, "", 0, c.names)
	}
	for _, ref := range macroRefs(out) {
		m := c.macroNamed(*ref)
		if m == nil {
			continue // reported
		}
		bound := false
		for _, in := range m.Inputs {
			_, given := values[in.Name]
			used[in.Name], bound = used[in.Name] || given, bound || given
			if !given && in.Value == nil {
				c.errorAt(r.name.n, fmt.Sprintf("add macro_inputs: {%s: …} to the rule, or give the input a value in the macro", in.Name),
					"macro %q needs the input %s, and this rule does not give it", m.Name, in.Name)
			}
		}
		if !bound {
			continue
		}
		name := m.Name + " for " + out.Name
		if c.macroNamed(name) == nil {
			with := m.With(name, nameUUID(name), values)
			with.Digest = m.Digest + " " + c.digestInputs(r.inputs)
			c.macros = append(c.macros, with)
		}
		*ref = name
	}
	for _, in := range r.inputs {
		if !used[in.name] {
			c.errorAt(in.n, "take it out, or declare it in the macro: inputs: {"+in.name+": }", "no macro of this rule has an input %s", in.name)
		}
	}
}

func (c *ruleCompiler) macroNamed(name string) *macro.Macro {
	i := slices.IndexFunc(c.macros, func(m *macro.Macro) bool { return name != "" && (m.Name == name || m.ID == name) })
	if i < 0 {
		return nil
	}
	return c.macros[i]
}

// macroRefs are the places of a rule that name a macro.
func macroRefs(r *rule.Rule) []*string {
	refs := []*string{&r.Confirm}
	for i := range r.Recovery {
		refs = append(refs, &r.Recovery[i])
	}
	if r.Probe != nil {
		refs = append(refs, &r.Probe.Macro)
	}
	for i := range r.Actions {
		a := &r.Actions[i]
		if a.CheckSession != nil {
			refs = append(refs, &a.CheckSession.Macro)
			for j := range a.CheckSession.Macros {
				refs = append(refs, &a.CheckSession.Macros[j])
			}
		}
		if a.RunMacro != nil {
			refs = append(refs, &a.RunMacro.Macro)
		}
		if a.RunPostMacro != nil {
			refs = append(refs, &a.RunPostMacro.Macro)
		}
	}
	return refs
}
