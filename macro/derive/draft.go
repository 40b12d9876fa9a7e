package derive

import (
	"fmt"
	"strings"

	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// Draft is a macro that was made of a recording. Its texts can be edited before
// Macro or YAML is called.
type Draft struct {
	Name      string
	Steps     []Step
	Variables []Variable // in the order in which they are first used
	Products  []Product  // tokens that are for requests after the macro
	Dropped   []Dropped  // in the order of the recording
	// Open are values that look as if a program had made them and that no
	// answer brought: they are sent as they were recorded.
	Open []Open
	// Notes are what else a person should know, without values.
	Notes []string
}

// Step is one request.
type Step struct {
	Entry   int    // of the recording
	Name    string // method and path, without what looks like a token in it
	Request string // a template: see package macro
	Extract []Extraction
	Expect  string // HTTPQL
	// Uses says what stands in the request's places instead of the recorded
	// values.
	Uses []Use
	// Cookies are the names of those that the recorded answer set.
	Cookies []string
	// Secret says that the request carries credentials.
	Secret bool
}

// Extraction takes a value out of a step's answer.
type Extraction struct {
	Token  string
	Source rule.Source
	Places []string // that it is for: "step 2, form:csrf"
}

// Use is a variable in a place of a request.
type Use struct {
	Place string // as traces call it: "form:csrf"
	Token string
	From  string // "step 1, FormField name csrf", or "variable"
}

// Variable is a value that does not come from an answer.
type Variable struct {
	Name   string
	Value  string
	Secret bool // belongs to an identity
	Why    string
}

// Product is a token that the login brought for later requests.
type Product struct {
	Token  string
	Step   int    // from 1
	Source string // in words
	// Place is where later requests of the recording carry it, such as
	// "header:authorization"; "" where none does.
	Place string
	// Template is what stands there, such as "Bearer {{ACCESS_TOKEN}}".
	Template string
}

// Dropped is a request that is not in the macro.
type Dropped struct {
	Entry  int
	Method string
	URL    string // without its query and what looks like a token in its path
	Reason string
}

// Open is a value that nobody knows the origin of.
type Open struct {
	Entry int
	Step  int    // from 1
	Place string // as traces call it
	Why   string
}

func (d *Draft) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for _, n := range d.Notes {
		if n == text {
			return
		}
	}
	d.Notes = append(d.Notes, text)
}

// Lookup gives the recorded values of the variables.
func (d *Draft) Lookup(name string) (string, bool) {
	for _, v := range d.Variables {
		if v.Name == name {
			return v.Value, true
		}
	}
	return "", false
}

// Macro compiles the draft. Errors name the step.
func (d *Draft) Macro() (*macro.Macro, error) {
	m := &macro.Macro{Name: d.Name}
	for i := range d.Steps {
		s := &d.Steps[i]
		t, err := macro.ParseRequest(s.Request, true)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
		step := macro.Step{Name: s.Name, Request: t}
		for _, x := range s.Extract {
			source := x.Source
			if err := source.Compile(); err != nil {
				return nil, fmt.Errorf("step %d, %s: %w", i+1, x.Token, err)
			}
			step.Extract = append(step.Extract, macro.Extraction{Token: x.Token, Source: &source})
		}
		if s.Expect != "" {
			if step.Expect, err = parseExpect(s.Expect); err != nil {
				return nil, fmt.Errorf("step %d: %w", i+1, err)
			}
		}
		m.Steps = append(m.Steps, step)
	}
	return m, nil
}

// tokenName makes a name for a variable of what an application calls a value.
func tokenName(called string) string {
	var b strings.Builder
	lower := false
	for _, c := range strings.TrimPrefix(strings.TrimPrefix(called, "X-"), "x-") {
		switch {
		case c >= 'a' && c <= 'z':
			b.WriteRune(c - 'a' + 'A')
			lower = true
			continue
		case c >= 'A' && c <= 'Z':
			if lower {
				b.WriteByte('_')
			}
			b.WriteRune(c)
		case c >= '0' && c <= '9':
			b.WriteRune(c)
		default:
			if b.Len() > 0 && !strings.HasSuffix(b.String(), "_") {
				b.WriteByte('_')
			}
		}
		lower = false
	}
	name := strings.Trim(b.String(), "_")
	if name == "" {
		return "TOKEN"
	}
	return name[:min(len(name), 40)]
}
