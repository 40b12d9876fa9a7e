package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// MaxProblems bounds how many errors, and how many warnings, one file can
// bring. What comes later is counted in one last problem.
const MaxProblems = 100

// A Problem is one mistake in a configuration file: where it stands, what is
// wrong and what to do about it. No text in it holds the value of a variable.
type Problem struct {
	File   string `json:"file"`
	Line   int    `json:"line"`           // from 1; 0 when the whole file is meant
	Column int    `json:"column"`         // from 1, in characters (not bytes); 0 when the whole file is meant
	What   string `json:"what"`           // one sentence without a full stop
	Next   string `json:"next,omitempty"` // what a person can do about it
	// Excerpt is the line of the file, shortened around the place, and Caret
	// the column in it (from 1). Values of variables, and what stands in the
	// headers and bodies of macro requests, are replaced by ***.
	Excerpt string `json:"excerpt,omitempty"`
	Caret   int    `json:"caret,omitempty"`
}

// String is the problem in one line: file:line:column: what — next step.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": " + p.What)
	if p.Next != "" {
		b.WriteString(" — " + p.Next)
	}
	return b.String()
}

// format prints the problem as String does, then the line with a caret below.
func (p Problem) format(w io.Writer, prefix string) error {
	s := prefix + p.String() + "\n"
	if p.Caret > 0 {
		s += "    " + p.Excerpt + "\n    " + strings.Repeat(" ", p.Caret-1) + "^\n"
	}
	_, err := io.WriteString(w, s)
	return err
}

// Errors are the mistakes for which a file is refused, in the order of the
// file. Load and Parse return it as the error, for [errors.As].
type Errors []Problem

// Error is every problem on a line of its own.
func (e Errors) Error() string { return join(e) }

// Format prints every problem with its line of the file and a caret below it.
func (e Errors) Format(w io.Writer) error { return formatAll(w, "", e) }

// Warnings are things that a file is not refused for, in the order of the file.
type Warnings []Problem

// String is every problem on a line of its own.
func (w Warnings) String() string { return join(w) }

// Format prints every warning with its line of the file and a caret below it.
func (w Warnings) Format(to io.Writer) error { return formatAll(to, "warning: ", w) }

// MarshalJSON is a list, an empty one when there are no errors.
func (e Errors) MarshalJSON() ([]byte, error) { return marshal(e) }

// MarshalJSON is a list, an empty one when there are no warnings.
func (w Warnings) MarshalJSON() ([]byte, error) { return marshal(w) }

func marshal(problems []Problem) ([]byte, error) {
	if problems == nil {
		problems = []Problem{}
	}
	return json.Marshal(problems)
}

func join(problems []Problem) string {
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

func formatAll(w io.Writer, prefix string, problems []Problem) error {
	for _, p := range problems {
		if err := p.format(w, prefix); err != nil {
			return err
		}
	}
	return nil
}

// sorted orders problems by place, keeps one of each, and at most MaxProblems.
func sorted(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	problems = slices.CompactFunc(problems, func(a, b Problem) bool { return a == b })
	if n := len(problems) - MaxProblems; n > 0 {
		last := problems[MaxProblems]
		problems = append(problems[:MaxProblems:MaxProblems], Problem{
			File: last.File, Line: last.Line, Column: last.Column,
			What: fmt.Sprintf("and %d more from here on", n),
			Next: "mend the ones above first; many of the rest may follow from them",
		})
	}
	return problems
}
