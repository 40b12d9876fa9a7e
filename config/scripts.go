package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/script"
)

const (
	tableCode         = "a script"
	tableScript       = rule.ActionRunScript
	tableScriptLimits = "limits.script"
)

// scriptDraft is a script before it is compiled.
type scriptDraft struct {
	n        *yaml.Node // of all of it
	code     *yaml.Node
	file     word
	on       string
	limits   script.Limits
	compiled *script.Program
}

const needScript = "write it below script: | or name its file: script: {file: sign.js}"

func codeFields() []field[scriptDraft] {
	fields := []field[scriptDraft]{
		{"script", "", func(d *decoder, n *yaml.Node, s *scriptDraft) {
			if w, ok := d.word(n, "a script"); ok {
				s.code = w.n
			}
		}},
		{"file", "", single("a script's file", func(s *scriptDraft) *word { return &s.file })},
	}
	for _, f := range scriptLimitFields() {
		fields = append(fields, field[scriptDraft]{f.name, "", func(d *decoder, n *yaml.Node, s *scriptDraft) { f.read(d, n, &s.limits) }})
	}
	return fields
}

func scriptFields() []field[scriptDraft] {
	return append(codeFields(), field[scriptDraft]{"on", "", oneText("on", scriptOnWords(), func(s *scriptDraft) *string { return &s.on })})
}

func scriptOnWords() []string { return []string{"request", "response"} }

func scriptLimitFields() []field[script.Limits] {
	return []field[script.Limits]{
		{"time", "", duration("time", 10*time.Millisecond, 30*time.Second, func(l *script.Limits) *time.Duration { return &l.Time })},
		{"memory", "", size("memory", 8<<20, 256<<20, func(l *script.Limits) *int64 { return &l.Memory })},
		{"log", "", func(d *decoder, n *yaml.Node, l *script.Limits) {
			var bytes int64
			size("log", 1, 1<<20, func(b *int64) *int64 { return b })(d, n, &bytes)
			l.Log = int(bytes)
		}},
		{"fetches", "", number("fetches", 1, 100, func(l *script.Limits) *int { return &l.Fetches })},
		{"depth", "", number("depth", 10, 2000, func(l *script.Limits) *int { return &l.Depth })},
	}
}

// program reads a script: its text, or a mapping of scriptDraft's keys. nil: it
// has a mistake.
func (d *decoder) program(n *yaml.Node) *script.Program {
	return d.programOf(n, tableCode, codeFields()).compiled
}

func (d *decoder) programOf(n *yaml.Node, what string, fields []field[scriptDraft]) (s scriptDraft) {
	n = resolve(n)
	s.n = n
	if n.Kind == yaml.MappingNode {
		if !object(d, n, what, fields, &s) {
			return s
		}
	} else if w, ok := d.word(n, what); ok {
		s.code = w.n
	} else {
		return s
	}
	switch {
	case s.code != nil && s.file.given():
		d.errorAt(s.file.n, "keep one of them", "the script is given twice: by script and by file")
	case s.file.given():
		s.compiled = d.programFile(&s)
	case s.code == nil:
		if !hasKey(n, "script") && !hasKey(n, "file") { // else it was reported
			d.errorAt(n, needScript, "%s has no text", what)
		}
	case strings.HasSuffix(s.code.Value, ".js") && !strings.Contains(s.code.Value, "\n"):
		d.errorAt(s.code, "write {file: "+s.code.Value+"}", "this is the name of a file, and stands where the script's text does")
	default:
		s.compiled = d.programText(&s)
	}
	return s
}

// programText compiles a script that stands in the configuration.
func (d *decoder) programText(s *scriptDraft) *script.Program {
	n := s.code
	if strings.TrimSpace(n.Value) == "" {
		d.errorAt(n, needScript, "the script is empty")
		return nil
	}
	before := n.Line - 1
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		before = n.Line
	}
	p, err := script.Compile(script.Source{Name: filepath.Base(d.text.name), Before: before, Text: n.Value, Limits: s.limits})
	if err == nil {
		return p
	}
	var e *script.Error
	if !errors.As(err, &e) || e.Line == 0 {
		d.errorAt(n, "docs/scripts.md describes scripts", "%v", err)
		return nil
	}
	d.errorIn(n, offsetOf(n.Value, e.Line, e.Column), "docs/scripts.md describes scripts", "line %d of the script: %s", e.Line, e.Problem)
	return nil
}

// programFile compiles a script that has a file of its own.
func (d *decoder) programFile(s *scriptDraft) *script.Program {
	path := s.file.s
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(d.text.name), path)
	}
	if !d.may(s.file.n, 0, useScript, path) {
		return nil
	}
	src, err := d.read(s.file.n, path)
	if err != nil {
		d.errorAt(s.file.n, "write its path, relative to the configuration file", "the script %s cannot be read: %s", shorten(s.file.s), cause(err))
		return nil
	}
	p, err := script.Compile(script.Source{Name: s.file.s, Text: string(src), Limits: s.limits})
	if err == nil {
		return p
	}
	var e *script.Error
	if !errors.As(err, &e) || e.Line == 0 {
		d.errorAt(s.file.n, "docs/scripts.md describes scripts", "%s: %v", shorten(s.file.s), err)
		return nil
	}
	d.errorAt(s.file.n, "mend it there; docs/scripts.md describes scripts", "%s:%d:%d: %s", shorten(s.file.s), e.Line, e.Column, e.Problem)
	return nil
}

// offsetOf is the byte at a line and column, both from 1.
func offsetOf(text string, line, column int) int {
	at := 0
	for range line - 1 {
		end := strings.IndexByte(text[at:], '\n')
		if end < 0 {
			break
		}
		at += end + 1
	}
	for i := range text[at:] {
		if column--; column <= 0 {
			return at + i
		}
	}
	return len(text)
}

// runScript reads the action.
func (d *decoder) runScript(n *yaml.Node, a *actionDraft) bool {
	s := d.programOf(n, tableScript, scriptFields())
	a.action.RunScript = &rule.RunScript{Script: s.compiled, Response: s.on == "response"}
	return s.compiled != nil
}

// programInPlaces reads the script of a source or a target.
func programInPlaces(d *decoder, n *yaml.Node, p *places) {
	(*p)["script"] = word{n: n, s: "script"}
	if d.programs == nil {
		d.programs = make(map[*yaml.Node]*script.Program)
	}
	d.programs[n] = d.program(n)
}

// scriptOf is the script of a source or target; false when it has a mistake,
// which was reported.
func (d *decoder) scriptOf(p places) (*script.Program, bool) {
	w, given := p["script"]
	if !given {
		return nil, true
	}
	return d.programs[w.n], d.programs[w.n] != nil
}

// useScript learns the variables that a script names.
func (n *names) useScript(p *script.Program, at *yaml.Node, macroName string, step int) {
	if p == nil {
		return
	}
	for _, name := range p.Gets() {
		n.use(use{name: name, n: at, macro: macroName, step: step, script: true})
	}
	for _, name := range p.Sets() {
		n.extract(extracted{name: name, n: at, macro: macroName, step: step})
	}
}

// unknownInScript warns of a variable that only a script asks for.
func (n *names) unknownInScript(d *decoder, u use, known []string) {
	next := "define it under variables:, or extract it"
	if s := suggest(u.name, known); s != "" {
		next = fmt.Sprintf("did you mean %s? ", s) + next
	}
	d.warnAt(u.n, next, "the script asks for the variable %s, which nothing defines", u.name)
}
