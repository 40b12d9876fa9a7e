package control

import (
	"strings"

	"github.com/holdfast-proxy/holdfast/macro"
)

// Macro is a macro, as far as it can be shown: the JSON shape of version 1.
type Macro struct {
	Version  int      `json:"v"`
	Name     string   `json:"name"`
	ID       string   `json:"id"`
	Origin   string   `json:"origin,omitempty" doc:"file; or project, where it was made or changed by hand."`
	Inputs   []string `json:"inputs" nullable:"false"`
	Needs    []string `json:"needs" nullable:"false"`    // variables from outside
	Produces []string `json:"produces" nullable:"false"` // tokens
	Steps    []Step   `json:"steps" nullable:"false"`
}

// Step is one step of a macro.
type Step struct {
	Name    string   `json:"name,omitempty"`
	Line    string   `json:"line"` // the request line, or what else it does
	Uses    []string `json:"uses" nullable:"false"`
	Takes   []string `json:"takes" nullable:"false"`
	Expects string   `json:"expects,omitempty"`
	Request string   `json:"request,omitempty"` // with --reveal
}

// ShowMacro describes a macro. Its requests are secrets: reveal shows them.
func ShowMacro(m *macro.Macro, reveal bool) Macro {
	out := Macro{Version: 1, Name: m.Name, ID: m.ID, Inputs: []string{}, Needs: append([]string{}, m.Names()...), Produces: append([]string{}, m.Produces()...), Steps: []Step{}}
	for _, in := range m.Inputs {
		out.Inputs = append(out.Inputs, in.Name)
	}
	for i := range m.Steps {
		s := &m.Steps[i]
		step := Step{Name: s.Name, Uses: []string{}, Takes: []string{}}
		switch {
		case s.Request != nil:
			text := s.Request.String()
			step.Line, _, _ = strings.Cut(strings.TrimLeft(text, "\r\n"), "\n")
			step.Line, _, _ = strings.Cut(strings.TrimSpace(step.Line), "?") // a literal token may stand there
			step.Uses = append(step.Uses, s.Request.Names()...)
			if reveal {
				step.Request = text
			}
		case s.Script != nil:
			step.Line = "runs the script of " + s.Script.Name()
			step.Uses = append(step.Uses, s.Script.Gets()...)
			for _, name := range s.Script.Sets() {
				step.Takes = append(step.Takes, name+" from the script")
			}
		case s.Exec != nil:
			step.Line = "runs a program"
		default:
			step.Line = "asks a person"
		}
		for _, x := range s.Extract {
			word := x.Token + " from " + x.Source.String()
			if x.Optional {
				word += ", optional"
			}
			step.Takes = append(step.Takes, word)
		}
		if s.Expect != nil {
			step.Expects = s.Expect.String()
		}
		out.Steps = append(out.Steps, step)
	}
	return out
}
