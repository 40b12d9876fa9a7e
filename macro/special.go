package macro

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-proxy/holdfast/rule"
)

// Names with a meaning of their own in a macro. A variable of that very name
// goes before it.
const (
	prefixEnv   = "env."         // {{env.NAME}}: the variable NAME
	prefixInput = "macro.input." // {{macro.input.NAME}}: an input of the macro
	prefixStep  = "step_"        // {{step_2.NAME}}: what step 2 extracted

	// Made up anew for each run.
	NameVerifier  = "pkce.verifier"  // RFC 7636 §4.1
	NameChallenge = "pkce.challenge" // RFC 7636 §4.2, S256
	NameState     = "oauth.state"    // RFC 6749 §10.12
	NameNonce     = "oauth.nonce"    // OpenID Connect Core §3.1.2.1
)

// MadeUp are the names of values that are made up for each run.
func MadeUp() []string { return []string{NameVerifier, NameChallenge, NameState, NameNonce} }

// Special says what a name means in a step of a macro, steps counted from 0,
// where no variable has it: known is false where it means nothing. For
// {{env.X}} needs is X. problem says why it can have no value.
func (m *Macro) Special(name string, step int) (known bool, needs, problem string) {
	if x, ok := strings.CutPrefix(name, prefixEnv); ok && x != "" {
		return true, x, ""
	}
	if x, ok := strings.CutPrefix(name, prefixInput); ok {
		if m.input(x) == nil {
			return true, "", "the macro has no input " + x
		}
		return true, "", ""
	}
	if n, x, ok := stepName(name); ok {
		switch {
		case n < 1 || n > len(m.Steps):
			return true, "", fmt.Sprintf("the macro has %d steps", len(m.Steps))
		case n > step:
			return true, "", fmt.Sprintf("step %d comes before it", step+1)
		case !m.Steps[n-1].produces(x):
			return true, "", fmt.Sprintf("step %d extracts no %s", n, x)
		}
		return true, "", ""
	}
	return name == NameTOTP || slices.Contains(MadeUp(), name), "", ""
}

func (s *Step) produces(token string) bool {
	return slices.Contains(s.tokens(), token)
}

func (m *Macro) input(name string) *Input {
	for i := range m.Inputs {
		if m.Inputs[i].Name == name {
			return &m.Inputs[i]
		}
	}
	return nil
}

// With is the macro under another name, with values for its inputs.
func (m *Macro) With(name, id string, values map[string]*rule.Template) *Macro {
	other := *m
	other.Name, other.ID, other.Inputs = name, id, slices.Clone(m.Inputs)
	for i := range other.Inputs {
		if v := values[other.Inputs[i].Name]; v != nil {
			other.Inputs[i].Value = v
		}
	}
	return &other
}

// stepName reads step_N.NAME.
func stepName(name string) (n int, token string, ok bool) {
	rest, ok := strings.CutPrefix(name, prefixStep)
	if !ok {
		return 0, "", false
	}
	number, token, ok := strings.Cut(rest, ".")
	n, err := strconv.Atoi(number)
	return n, token, ok && err == nil && token != ""
}

// outside is the variable that a name stands for.
func outside(name string) string {
	if x, ok := strings.CutPrefix(name, prefixEnv); ok && x != "" {
		return x
	}
	return name
}

// Names are the variables that the macro needs from outside: those that its
// requests and inputs use before a step of its own has extracted them.
func (m *Macro) Names() []string {
	var names, produced []string
	var add func(all []string)
	add = func(all []string) {
		for _, name := range all {
			if x, ok := strings.CutPrefix(name, prefixInput); ok {
				if in := m.input(x); in != nil && in.Value != nil {
					add(slices.DeleteFunc(slices.Clone(in.Value.Names()), func(n string) bool { return strings.HasPrefix(n, prefixInput) }))
				}
				continue
			}
			_, _, ofStep := stepName(name)
			if name = outside(name); !ofStep && name != NameTOTP && !slices.Contains(MadeUp(), name) && !slices.Contains(names, name) && !slices.Contains(produced, name) {
				names = append(names, name)
			}
		}
	}
	if m.Browser != nil {
		add(m.Browser.Names())
	}
	for i := range m.Steps {
		add(m.Steps[i].names())
		produced = append(produced, m.Steps[i].tokens()...)
	}
	return names
}

// names are the variables that the step sends.
func (s *Step) names() []string {
	var names []string
	var more []*rule.Template
	switch {
	case s.Exec != nil:
		more = s.Exec.Command
	case s.Prompt != nil:
		more = []*rule.Template{s.Prompt.Text}
	case s.Script != nil:
		names = append(names, s.Script.Gets()...) // those that it names in its text
	default:
		names, more = s.Request.Names(), []*rule.Template{s.Redirects.Until}
		if s.Auth != nil {
			names = append(names, s.Auth.Names()...)
		}
	}
	for _, t := range more {
		if t != nil {
			names = append(names, t.Names()...)
		}
	}
	return names
}

// tokens are the variables that the step brings.
func (s *Step) tokens() []string {
	var tokens []string
	switch {
	case s.Exec != nil:
		tokens = append(tokens, s.Exec.Token)
	case s.Prompt != nil && s.Prompt.Token != "":
		tokens = append(tokens, s.Prompt.Token)
	case s.Script != nil:
		tokens = append(tokens, s.Script.Sets()...)
	}
	for _, x := range s.Extract {
		tokens = append(tokens, x.Token)
	}
	return tokens
}

// lookup is the value of a name for the run's requests: of what steps have
// extracted first, then of the variables, then by its special meaning.
func (r *run) lookup(name string) (string, bool) {
	if v, ok := r.variable(name); ok {
		return v, true
	}
	return r.special(name)
}

func (r *run) variable(name string) (string, bool) {
	if v, ok := r.values[name]; ok {
		return v, true
	}
	if r.env.Lookup == nil {
		return "", false
	}
	return r.env.Lookup(name)
}

func (r *run) special(name string) (string, bool) {
	if x, ok := strings.CutPrefix(name, prefixEnv); ok && x != "" {
		return r.lookup(x)
	}
	if x, ok := strings.CutPrefix(name, prefixInput); ok {
		in := r.macro.input(x)
		if in == nil || in.Value == nil {
			return "", false
		}
		v, missing := in.Value.Expand(func(name string) (string, bool) {
			if strings.HasPrefix(name, prefixInput) { // inputs of inputs could go round
				return "", false
			}
			return r.lookup(name)
		})
		return v, len(missing) == 0
	}
	if n, token, ok := stepName(name); ok {
		if n < 1 || n > len(r.macro.Steps) {
			return "", false
		}
		v, ok := r.own[&r.macro.Steps[n-1]][token]
		return v, ok
	}
	if slices.Contains(MadeUp(), name) {
		return r.madeUp(name), true
	}
	return r.totp, name == NameTOTP && r.totp != ""
}

// madeUp is a value of this run alone: 256 random bits.
func (r *run) madeUp(name string) string {
	if v, ok := r.drawn[name]; ok {
		return v
	}
	if r.drawn == nil {
		r.drawn = make(map[string]string)
	}
	var v string
	if name == NameChallenge {
		sum := sha256.Sum256([]byte(r.madeUp(NameVerifier)))
		v = base64.RawURLEncoding.EncodeToString(sum[:])
	} else {
		var random [32]byte
		rand.Read(random[:]) // never fails, says its doc
		v = base64.RawURLEncoding.EncodeToString(random[:])
	}
	r.drawn[name] = v
	return v
}
